//! Special files: mknod(2).

use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::fs::{Access, FileType, Mode};

/// Makes a named pipe. The umask applies.
pub fn make_fifo(dir: BorrowedFd<'_>, name: &[u8], mode: u32) -> io::Result<()> {
    Ok(rustix::fs::mknodat(dir, name, FileType::Fifo, Mode::from_raw_mode(mode), 0)?)
}

/// Makes an empty regular file. The umask applies.
pub fn make_file(dir: BorrowedFd<'_>, name: &[u8], mode: u32) -> io::Result<()> {
    Ok(rustix::fs::mknodat(dir, name, FileType::RegularFile, Mode::from_raw_mode(mode), 0)?)
}

/// Which kind of device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    /// Unbuffered.
    Character,
    /// Buffered.
    Block,
}

/// Makes a node of the device with these numbers, major and minor, for its owner alone. Needs CAP_MKNOD in the initial
/// user namespace.
pub fn make_device(dir: BorrowedFd<'_>, name: &[u8], node: Node, (major, minor): (u32, u32)) -> io::Result<()> {
    let kind = match node {
        Node::Character => FileType::CharacterDevice,
        Node::Block => FileType::BlockDevice,
    };
    Ok(rustix::fs::mknodat(dir, name, kind, Mode::from_raw_mode(0o600), rustix::fs::makedev(major, minor))?)
}

/// The number of a device as stat(2) has it (st_rdev).
pub fn number(major: u32, minor: u32) -> u64 {
    rustix::fs::makedev(major, minor)
}

/// Major and minor of such a number.
pub fn numbers(number: u64) -> (u32, u32) {
    (rustix::fs::major(number), rustix::fs::minor(number))
}

/// Makes what overlayfs takes for "removed": a character device 0:0. The one device that needs no privilege, since
/// Linux 5.8.
pub fn make_whiteout(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    Ok(rustix::fs::mknodat(dir, name, FileType::CharacterDevice, Mode::empty(), 0)?)
}

/// Whether this process may open it, for reading or for writing: access(2), by the real ids.
pub fn may_open(path: &Path) -> bool {
    may_read(path) || may_write(path)
}

/// Whether this process may open it for reading, by the real ids.
pub fn may_read(path: &Path) -> bool {
    rustix::fs::access(path, Access::READ_OK).is_ok()
}

/// Whether this process may open it for writing, by the real ids.
pub fn may_write(path: &Path) -> bool {
    rustix::fs::access(path, Access::WRITE_OK).is_ok()
}
