//! How much may be done by now of what somebody could ask for without end.

use std::time::{Duration, Instant};

/// So many at once, and one more each time that a while has passed.
#[derive(Debug)]
pub(crate) struct Budget {
    at_once: u32,
    one_more_after: Duration,
    left: u32,
    since: Option<Instant>,
}

impl Budget {
    pub(crate) const fn new(at_once: u32, one_more_after: Duration) -> Self {
        Self { at_once, one_more_after, left: at_once, since: None }
    }

    /// Whether one may be done now, which then counts as done.
    pub(crate) fn spend(&mut self, now: Instant) -> bool {
        let since = *self.since.get_or_insert(now);
        let more = now.saturating_duration_since(since).as_micros() / self.one_more_after.as_micros().max(1);
        if more > 0 {
            let more = u32::try_from(more).unwrap_or(self.at_once);
            self.left = self.at_once.min(self.left.saturating_add(more));
            self.since = Some(now);
        }
        let may = self.left > 0;
        self.left = self.left.saturating_sub(1);
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_at_once_and_then_one_by_one() {
        let (mut budget, now) = (Budget::new(3, Duration::from_millis(10)), Instant::now());
        let mut spend = |ms| budget.spend(now + Duration::from_millis(ms));
        assert_eq!([spend(0), spend(0), spend(0), spend(0), spend(9)], [true, true, true, false, false]);
        assert_eq!([spend(10), spend(10), spend(20)], [true, false, true]);
        assert_eq!([spend(9000), spend(9000), spend(9000), spend(9000)], [true, true, true, false]);
    }
}
