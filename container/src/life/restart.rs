//! `--restart`: whether a workload that has ended is started again, and when.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use rbox_types::Exit;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// When a container's monitor starts the workload again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// Never.
    #[default]
    No,
    /// When it has failed, at most so many times in a row; without end if that is not said.
    OnFailure(Option<u32>),
    /// Whenever it has ended, unless somebody has stopped it; after a boot all the same.
    Always,
    /// Whenever it has ended, unless somebody has stopped it; after a boot only if nobody had.
    UnlessStopped,
}

impl RestartPolicy {
    /// Whether a workload that has ended like this, `restarts` starts after the first one, is started again.
    pub fn restarts(self, exit: Exit, restarts: u32) -> bool {
        match self {
            Self::No => false,
            Self::OnFailure(limit) => exit != Exit::Code(0) && limit.is_none_or(|limit| restarts < limit),
            Self::Always | Self::UnlessStopped => true,
        }
    }

    /// Whether a container is started after a boot; `stopped`: somebody had stopped it.
    pub(crate) fn starts_on_boot(self, stopped: bool) -> bool {
        match self {
            Self::No | Self::OnFailure(_) => false,
            Self::Always => true,
            Self::UnlessStopped => !stopped,
        }
    }

    /// The one of this word.
    pub(crate) fn of_word(word: &str) -> Option<Self> {
        let all = [Self::No, Self::OnFailure(None), Self::Always, Self::UnlessStopped];
        all.into_iter().find(|policy| policy.word() == word)
    }

    /// Its word, without a limit.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::OnFailure(_) => "on-failure",
            Self::Always => "always",
            Self::UnlessStopped => "unless-stopped",
        }
    }

    /// As Docker's and Podman's `inspect` show it.
    pub(crate) fn document(self) -> Value {
        let limit = match self {
            Self::OnFailure(limit) => limit.unwrap_or(0),
            _ => 0,
        };
        json!({ "Name": self.word(), "MaximumRetryCount": limit })
    }
}

/// Docker's and Podman's words.
impl FromStr for RestartPolicy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(policy) = Self::of_word(text) {
            return Ok(policy);
        }
        match text.split_once(':') {
            Some(("on-failure", limit)) => match limit.parse() {
                // Docker's: 0 is no limit.
                Ok(0) => Ok(Self::OnFailure(None)),
                Ok(limit) => Ok(Self::OnFailure(Some(limit))),
                Err(_) => Err(format!("{limit:?} is not a number of restarts")),
            },
            _ => Err("expected no, on-failure[:MAX], always or unless-stopped".into()),
        }
    }
}

/// As it is typed.
impl fmt::Display for RestartPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OnFailure(Some(limit)) => write!(f, "on-failure:{limit}"),
            other => f.write_str(other.word()),
        }
    }
}

/// How long to wait before the next start: Docker's 100 ms, twice as long each time up to a minute, and from the beginning
/// once a workload has lived for ten seconds.
#[derive(Debug, Default)]
pub(crate) struct BackOff {
    in_a_row: u32,
}

impl BackOff {
    const FIRST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(60);
    const GOOD_LIFE: Duration = Duration::from_secs(10);

    /// After a life of this length.
    pub(crate) fn after(&mut self, life: Duration) -> Duration {
        if life >= Self::GOOD_LIFE {
            self.in_a_row = 0;
        }
        let delay = Self::FIRST.saturating_mul(1 << self.in_a_row.min(16)).min(Self::LONGEST);
        self.in_a_row += 1;
        delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        for text in ["no", "on-failure", "on-failure:3", "always", "unless-stopped"] {
            assert_eq!(text.parse::<RestartPolicy>().expect("valid").to_string(), text);
        }
        for bad in ["", "yes", "on-failure:", "on-failure:-1", "always:3"] {
            assert!(bad.parse::<RestartPolicy>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn what_is_started_again() {
        let of =
            |policy: &str, exit, restarts| policy.parse::<RestartPolicy>().expect("valid").restarts(exit, restarts);
        assert!(!of("no", Exit::Code(1), 0));
        assert!(of("on-failure", Exit::Code(1), 1000) && !of("on-failure", Exit::Code(0), 0));
        assert!(of("on-failure:2", Exit::Signal(9), 1) && !of("on-failure:2", Exit::Signal(9), 2));
        assert!(of("always", Exit::Code(0), 7) && of("unless-stopped", Exit::Code(0), 7));
    }

    #[test]
    fn what_is_started_after_a_boot() {
        let of = |policy: &str, stopped| policy.parse::<RestartPolicy>().expect("valid").starts_on_boot(stopped);
        assert!(of("always", false) && of("always", true) && of("unless-stopped", false));
        assert!(!of("unless-stopped", true) && !of("no", false) && !of("on-failure", false));
    }

    #[test]
    fn each_wait_is_longer_until_a_life_was_good() {
        let mut back_off = BackOff::default();
        let short = Duration::from_secs(1);
        let waits: Vec<u128> = (0..12).map(|_| back_off.after(short).as_millis()).collect();
        assert_eq!(waits[..4], [100, 200, 400, 800]);
        assert_eq!(waits[11], 60_000);
        assert_eq!(back_off.after(BackOff::GOOD_LIFE).as_millis(), 100);
    }
}
