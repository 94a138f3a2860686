//! Being told that files of a directory change: inotify(7).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;

/// Readable as soon as something has changed in the directory that it is of.
#[derive(Debug)]
pub struct Watch(OwnedFd);

impl Watch {
    /// Begins to watch: for files of this directory that are made, renamed, removed, written to, or closed after that.
    ///
    /// EMFILE and ENOSPC: this user has as many as the system lets him (`fs.inotify.max_user_instances`, 128 as a rule).
    /// On network filesystems only what this machine does is seen.
    pub fn of_directory(path: &Path) -> io::Result<Self> {
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let changes = WatchFlags::CREATE
            | WatchFlags::MOVE
            | WatchFlags::DELETE
            | WatchFlags::MODIFY
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::DELETE_SELF
            | WatchFlags::ONLYDIR;
        inotify::add_watch(&fd, path, changes)?;
        Ok(Self(fd))
    }

    /// Takes what was reported, so that it is readable again only by what comes.
    pub fn clear(&self) -> io::Result<()> {
        let mut reports = [0; 4096];
        loop {
            match rustix::io::read(&self.0, &mut reports) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::poll::{self, Interest};
    use std::fs::{self, OpenOptions};
    use std::io::Write;
    use std::time::Duration;

    #[test]
    fn it_is_readable_after_a_change_and_not_after_it_was_cleared() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("file");
        let mut file = OpenOptions::new().append(true).create(true).open(&path).expect("open");
        let watch = Watch::of_directory(directory.path()).expect("inotify");
        let changed = || {
            let [ready] = poll::wait([(watch.as_fd(), Interest::Read)], Some(Duration::ZERO)).expect("poll");
            watch.clear().expect("clear");
            ready
        };
        assert!(!changed());
        file.write_all(b"x").expect("write");
        assert!(changed() && !changed());
        fs::rename(&path, directory.path().join("other")).expect("rename");
        assert!(changed() && !changed());
        drop(file);
        assert!(changed() && !changed());
    }
}
