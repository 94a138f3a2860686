//! Looking again and again for what nobody announces, and not for ever.

use std::thread;
use std::time::{Duration, Instant};

/// The longest pause between two looks.
const LONGEST: Duration = Duration::from_millis(20);

/// What is left of it.
pub(crate) struct Patience {
    until: Instant,
    pause: Duration,
}

impl Patience {
    /// For so long, from now on.
    pub(crate) fn of(limit: Duration) -> Self {
        Self { until: Instant::now() + limit, pause: Duration::from_millis(1) }
    }

    /// Waits until it is time to look again, a little longer each time; false, and at once, when there is no time left.
    pub(crate) fn wait(&mut self) -> bool {
        if Instant::now() >= self.until {
            return false;
        }
        thread::sleep(self.pause);
        self.pause = (self.pause * 2).min(LONGEST);
        true
    }
}
