//! When to try again, and how long to wait first.
//!
//! Waits double from [`Retry::base`] and are jittered, so that machines that failed together do not return together.
//! A Retry-After (RFC 9110 §10.2.3) replaces the wait; one longer than [`Retry::patience`] ends the trying at once,
//! since Docker Hub may ask for hours.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    time::Duration,
};

use crate::Error;

/// How patient a [`Client`](crate::Client) is with a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Tries in all, without progress between them; at least 1.
    pub tries: u32,
    /// The mean of the first wait.
    pub base: Duration,
    /// The longest wait, and the longest Retry-After that is honoured.
    pub patience: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { tries: 5, base: Duration::from_millis(300), patience: Duration::from_secs(60) }
    }
}

/// The tries of one request.
pub(crate) struct Attempts {
    retry: Retry,
    failed: u32,
}

impl Attempts {
    pub(crate) fn new(retry: Retry) -> Self {
        Self { retry, failed: 0 }
    }

    /// Something arrived since the last failure: the count begins anew.
    pub(crate) fn progressed(&mut self) {
        self.failed = 0;
    }

    /// Sleeps if it is worth trying again after `error`, else gives the error back.
    pub(crate) fn wait(&mut self, error: Error) -> Result<(), Error> {
        self.failed += 1;
        match self.delay(&error, jitter()) {
            Some(delay) => {
                std::thread::sleep(delay);
                Ok(())
            }
            None => Err(error),
        }
    }

    /// `jitter` is from 0 to 1.
    fn delay(&self, error: &Error, jitter: f64) -> Option<Duration> {
        if !error.is_transient() || self.failed >= self.retry.tries {
            return None;
        }
        let wait = match error.retry_after() {
            // A little late, never early.
            Some(asked) if asked > self.retry.patience => return None,
            Some(asked) => asked + self.retry.base.mul_f64(jitter),
            None => self.retry.base.saturating_mul(1 << (self.failed - 1).min(16)).mul_f64(0.5 + jitter),
        };
        Some(wait.min(self.retry.patience + self.retry.base))
    }
}

/// A random number from 0 to 1; `RandomState` is seeded by the kernel.
fn jitter() -> f64 {
    f64::from(RandomState::new().build_hasher().finish() as u32) / f64::from(u32::MAX)
}

/// Retry-After in seconds. Its other form, a date, is rare and is answered by the ordinary wait.
pub(crate) fn parse_retry_after(value: &str) -> Option<Duration> {
    value.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limited(retry_after: Option<u64>) -> Error {
        Error::RateLimited { host: "r".into(), retry_after: retry_after.map(Duration::from_secs) }
    }

    fn delay(failed: u32, error: &Error, jitter: f64) -> Option<Duration> {
        Attempts { retry: Retry::default(), failed }.delay(error, jitter)
    }

    #[test]
    fn waits_double_within_bounds() {
        let ms = Duration::from_millis;
        assert_eq!(delay(1, &limited(None), 0.5), Some(ms(300)));
        assert_eq!(delay(2, &limited(None), 0.0), Some(ms(300)));
        assert_eq!(delay(3, &limited(None), 1.0), Some(ms(1800)));
        assert_eq!(delay(5, &limited(None), 0.5), None);
    }

    #[test]
    fn retry_after_is_never_undercut() {
        assert_eq!(delay(1, &limited(Some(7)), 0.0), Some(Duration::from_secs(7)));
        assert!(delay(1, &limited(Some(60)), 1.0) >= Some(Duration::from_secs(60)));
        assert_eq!(delay(1, &limited(Some(61)), 0.0), None);
        assert_eq!(parse_retry_after(" 12 "), Some(Duration::from_secs(12)));
        assert_eq!(parse_retry_after("Wed, 21 Oct 2015 07:28:00 GMT"), None);
    }

    #[test]
    fn what_is_wrong_for_good_is_not_tried_again() {
        let error = Error::UnknownHost { host: "r".into() };
        assert_eq!(delay(1, &error, 0.5), None);
    }
}
