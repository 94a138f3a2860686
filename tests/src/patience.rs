//! Waiting for what must come, however slow the machine: tests never assume that something has happened by now.

use std::fmt::Debug;
use std::io;
use std::process::{Child, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

/// How long anything may take before it counts as hung. Where all is well nobody waits that long; a machine with more
/// to do than processors needs many times what an idle one does.
pub const LIMIT: Duration = Duration::from_secs(120);

/// How a child has ended; none where it had not by then, and was killed.
pub fn ended_within(child: &mut Child, limit: Duration) -> io::Result<Option<ExitStatus>> {
    let started = Instant::now();
    while started.elapsed() < limit {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        thread::sleep(Duration::from_millis(2));
    }
    child.kill()?;
    child.wait()?;
    Ok(None)
}

/// Looks again and again, for [`LIMIT`] at most, until what is seen is as wanted; gives that.
#[track_caller]
pub fn until<T: Debug>(mut look: impl FnMut() -> T, as_wanted: impl Fn(&T) -> bool) -> T {
    let started = Instant::now();
    loop {
        let seen = look();
        if as_wanted(&seen) {
            return seen;
        }
        assert!(started.elapsed() < LIMIT, "not as wanted after {LIMIT:?}: {seen:?}");
        thread::sleep(Duration::from_millis(10));
    }
}
