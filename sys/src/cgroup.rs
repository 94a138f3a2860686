//! The cgroup2 filesystem: cgroups(7), Documentation/admin-guide/cgroup-v2.rst of the kernel.
//!
//! A directory is a cgroup, its files are the cgroup's attributes. What is opened here is checked to be on cgroup2:
//! these files move processes and signal them, so a directory of another filesystem that only looks alike must not
//! be taken for one.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Access, AtFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::time::Timespec;

/// statfs(2), CGROUP2_SUPER_MAGIC of linux/magic.h.
const CGROUP2_SUPER_MAGIC: u64 = 0x6367_7270;

/// The directory at `path`, where a cgroup2 filesystem is mounted, for reading. The path is the host's: links in it
/// are followed. EINVAL: what is there is another filesystem.
pub fn open_mount(path: &Path) -> io::Result<OwnedFd> {
    let dir = rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    if is_cgroup2(dir.as_fd())? { Ok(dir) } else { Err(Errno::INVAL.into()) }
}

/// The cgroup at `path` beneath `dir`, for reading; the empty path is `dir` itself. No link, no `..` and no other
/// mount is gone through (EXDEV, ELOOP).
pub fn open(dir: BorrowedFd<'_>, path: &str) -> io::Result<OwnedFd> {
    let path = if path.is_empty() { "." } else { path };
    let resolve =
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    loop {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::openat2(dir, path, flags, Mode::empty(), resolve) {
            // Something was renamed meanwhile (openat2(2), "EAGAIN"): the kernel asks to try again.
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}

/// The cgroup above this one. Cgroups of version 2 cannot be moved, so this is the one that was come from.
pub fn open_parent(dir: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(dir, "..", flags, Mode::empty())?)
}

/// Whether this is on a cgroup2 filesystem.
#[allow(clippy::unnecessary_cast, reason = "the field's type differs between architectures")]
pub fn is_cgroup2(fd: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(rustix::fs::fstatfs(fd)?.f_type as u64 == CGROUP2_SUPER_MAGIC)
}

/// The attribute `name`, for writing. It is never made: ENOENT says that this cgroup or this kernel has no such one.
pub fn open_attribute(dir: BorrowedFd<'_>, name: &str) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(dir, name, flags, Mode::empty())?.into())
}

/// Whether this process may write to `name` in `dir` (with `.`: make cgroups there), as faccessat(2) answers for its
/// effective ids. EACCES: permissions; EROFS: mounted for reading only.
pub fn may_write(dir: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    Ok(rustix::fs::accessat(dir, name, Access::WRITE_OK, AtFlags::EACCESS)?)
}

/// Waits until the attribute changes after it was read last (POLLPRI, as for `cgroup.events`), or `limit` has passed.
pub fn wait_for_change(attribute: &File, limit: Duration) -> io::Result<()> {
    let limit = Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: i64::from(limit.subsec_nanos()) };
    match rustix::event::poll(&mut [PollFd::from_borrowed_fd(attribute.as_fd(), PollFlags::PRI)], Some(&limit)) {
        // Woken early is no harm: the caller looks again and knows how long it has waited.
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_filesystem_is_not_taken_for_cgroups() {
        let temporary = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(temporary.path().join("cgroup.procs"), "").expect("write");
        let error = open_mount(temporary.path()).expect_err("refused");
        assert_eq!(error.raw_os_error(), Some(Errno::INVAL.raw_os_error()));
    }

    #[test]
    fn other_mounts_are_not_entered() {
        let root = File::open("/").expect("open");
        let error = open(root.as_fd(), "proc").expect_err("refused");
        assert_eq!(error.raw_os_error(), Some(Errno::XDEV.raw_os_error()));
    }
}
