//! Where relative paths begin.

use std::os::fd::BorrowedFd;

/// The current directory, for calls that take a directory's descriptor (AT_FDCWD).
pub fn cwd() -> BorrowedFd<'static> {
    rustix::fs::CWD
}
