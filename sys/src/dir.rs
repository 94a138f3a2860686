//! Where relative paths begin, and directories of this process's own choice.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

/// The current directory, for calls that take a directory's descriptor (AT_FDCWD).
pub fn cwd() -> BorrowedFd<'static> {
    rustix::fs::CWD
}

/// An O_PATH descriptor of the directory at `path`. For paths that are ours: links are followed wherever they lead.
pub fn open(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}
