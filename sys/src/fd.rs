//! File descriptors as such.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Lets `fd` live on over the coming execve(2).
pub fn keep_over_exec(fd: impl AsFd) -> io::Result<()> {
    Ok(rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty())?)
}

/// Takes over a descriptor that this program inherited and that its arguments name by number; it is closed by the
/// next execve(2). A number that is no open descriptor, or one of the standard three, is refused.
pub fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    if number < 3 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: fcntl(2) on a number that is not open fails with EBADF and does nothing else.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open, and nothing of this program, which has just begun, owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Whether the descriptor of this number was open when this program began: what the program itself opens is closed by
/// execve(2), and what it was handed is not.
pub fn was_handed(number: RawFd) -> bool {
    // SAFETY: fcntl(2) on a number that is not open fails with EBADF and does nothing else.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    flags >= 0 && flags & libc::FD_CLOEXEC == 0
}

/// A second descriptor of the same open file, closed by execve(2).
pub fn duplicate(fd: impl AsFd) -> io::Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(fd, 3)?)
}

/// Opens a file to write at its end, and makes it if there is none, for this user alone. Nobody is waited for: a fifo that
/// nobody reads is an error (open(2), ENXIO).
pub fn open_to_append(path: &Path) -> io::Result<File> {
    File::options().append(true).create(true).mode(0o600).custom_flags(libc::O_NONBLOCK).open(path)
}

/// What cannot be read or written at once is then an error ("would block") and not waited for.
pub fn set_nonblocking(fd: impl AsFd) -> io::Result<()> {
    Ok(rustix::io::ioctl_fionbio(fd, true)?)
}
