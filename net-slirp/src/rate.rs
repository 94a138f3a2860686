//! Limits of bandwidth: a token bucket for each way.
//!
//! What the guest sends waits in the tap, which is not read while its bucket is empty; so its own stack slows down, as before
//! a slow line. What others send the guest by TCP waits in the host's sockets, whose windows close; datagrams have nobody to
//! wait for them, and are dropped. All that goes through the tap counts: data, headers and acknowledgements.

use std::time::{Duration, Instant};

/// A bucket holds what comes in so long: less, and pauses would be felt; more, and bursts.
const DEPTH: Duration = Duration::from_millis(50);
/// It holds a packet or two all the same.
const LEAST: u64 = 128 << 10;

/// Bytes a second for each way; none: no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rate {
    /// To the guest.
    pub inward: Option<u64>,
    /// From the guest.
    pub outward: Option<u64>,
}

/// What may be moved by now. What is moved is known afterwards only, and a packet is not divided: there can be a debt.
#[derive(Debug)]
pub(crate) struct Bucket {
    rate: u64,
    depth: u64,
    /// In bytes; the debt is below zero.
    balance: i64,
    at: Instant,
}

impl Bucket {
    pub(crate) fn new(rate: u64, now: Instant) -> Self {
        let rate = rate.max(1);
        // A slow line begins with what it moves in a second, and not with many of them.
        let depth = (rate / (Duration::from_secs(1).as_millis() / DEPTH.as_millis()) as u64).max(LEAST.min(rate));
        Self { rate, depth, balance: depth as i64, at: now }
    }

    /// How many bytes may be moved now.
    pub(crate) fn left(&mut self, now: Instant) -> u64 {
        let passed = now.saturating_duration_since(self.at);
        let more = passed.as_nanos().saturating_mul(self.rate.into()) / 1_000_000_000;
        // What is less than a byte is not lost: its time has not passed yet.
        if more > 0 {
            let more = i64::try_from(more).unwrap_or(i64::MAX);
            self.balance = self.balance.saturating_add(more).min(self.depth as i64);
            self.at = now;
        }
        self.balance.max(0) as u64
    }

    /// So many were moved.
    pub(crate) fn take(&mut self, bytes: u64) {
        self.balance = self.balance.saturating_sub(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// When something may be moved again; none where it may now.
    pub(crate) fn next(&self) -> Option<Instant> {
        let missing = u64::try_from(1 - self.balance).ok().filter(|missing| *missing > 0)?;
        // Not for single bytes.
        let missing = missing.saturating_add(self.depth / 8);
        let nanos = u128::from(missing) * 1_000_000_000 / u128::from(self.rate);
        Some(self.at + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX).min(3_600_000_000_000)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn no_more_than_the_rate_however_it_is_asked() {
        for (rate, step) in [(1_000_000, 1), (1_000_000, 300), (5_000, 7), (1 << 40, 10)] {
            let begun = Instant::now();
            let mut bucket = Bucket::new(rate, begun);
            let depth = bucket.depth;
            let mut moved: u128 = 0;
            for at in (0..10_000).step_by(step) {
                let left = bucket.left(begun + Duration::from_millis(at));
                bucket.take(left);
                moved += u128::from(left);
            }
            let most = u128::from(rate) * 10 + u128::from(depth);
            assert!(moved <= most, "{rate}: {moved} of {most}");
            // Where the bucket is not full meanwhile, nothing is lost either.
            if step < 50 {
                assert!(moved * 100 >= (most - u128::from(depth)) * 98, "{rate}: {moved} of {most}");
            }
        }
    }

    #[test]
    fn a_debt_is_waited_for() {
        let begun = Instant::now();
        let mut bucket = Bucket::new(1_000_000, begun);
        assert_eq!(bucket.next(), None);
        let left = bucket.left(begun);
        bucket.take(left + 500_000);
        assert_eq!(bucket.left(begun), 0);
        let next = bucket.next().expect("a debt");
        assert!(next > begun + SECOND / 2 && next < begun + SECOND, "{:?}", next - begun);
        assert!(bucket.left(next) > 0);
        assert_eq!(bucket.next(), None);
        // Whoever has nothing to move saves no more than what the bucket holds.
        assert_eq!(bucket.left(begun + 100 * SECOND), bucket.depth);
    }
}
