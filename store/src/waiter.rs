//! Waiting for a change in a directory.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::thread;
use std::time::Duration;

use rbox_sys::inotify::Watch;
use rbox_sys::poll::{self, Interest};

const SHORTEST: Duration = Duration::from_millis(10);
/// However long nothing is reported: network filesystems do not report everything, and whether a lock is held never is.
const LONGEST: Duration = Duration::from_secs(1);
/// Where nothing is reported at all.
const LONGEST_UNTOLD: Duration = Duration::from_millis(200);

/// Waits until something may have changed: at once where the kernel tells (inotify(7)), after a while where it does not.
#[derive(Debug)]
pub struct Waiter {
    watch: Option<Watch>,
    pause: Duration,
}

impl Waiter {
    /// For changes from now on.
    pub fn of_directory(path: &Path) -> Self {
        Self { watch: Watch::of_directory(path).ok(), pause: SHORTEST }
    }

    /// Waits for a change, or for a moment; for a longer one each time when nothing changes.
    pub fn wait(&mut self) -> io::Result<()> {
        let changed = match &self.watch {
            Some(watch) => {
                let [changed] = poll::wait([(watch.as_fd(), Interest::Read)], Some(self.pause))?;
                if changed {
                    watch.clear()?;
                }
                changed
            }
            None => {
                thread::sleep(self.pause);
                false
            }
        };
        let longest = if self.watch.is_some() { LONGEST } else { LONGEST_UNTOLD };
        // Shortly after a change there are often more, the end of a lock among them, which is not reported.
        self.pause = if changed { SHORTEST } else { longest.min(self.pause * 2) };
        Ok(())
    }
}
