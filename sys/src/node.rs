//! Special files: mknod(2).

use std::io;
use std::os::fd::BorrowedFd;

use rustix::fs::{FileType, Mode};

/// Makes a named pipe. The umask applies.
pub fn make_fifo(dir: BorrowedFd<'_>, name: &[u8], mode: u32) -> io::Result<()> {
    Ok(rustix::fs::mknodat(dir, name, FileType::Fifo, Mode::from_raw_mode(mode), 0)?)
}

/// Makes what overlayfs takes for "removed": a character device 0:0. The one device that needs no privilege, since
/// Linux 5.8.
pub fn make_whiteout(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    Ok(rustix::fs::mknodat(dir, name, FileType::CharacterDevice, Mode::empty(), 0)?)
}
