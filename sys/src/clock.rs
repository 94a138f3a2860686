//! Time that only goes forward: clock_gettime(2), CLOCK_MONOTONIC.

use std::time::Duration;

/// Time since some moment that is the same for all processes of this boot.
pub fn monotonic() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec as u32)
}
