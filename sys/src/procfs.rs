//! Files of procfs that are sure to be of procfs: proc(5).
//!
//! A write that is meant for the kernel must not end in a file that an image, or another container by way of a shared
//! mount, put in its place (CVE-2025-52881). So the root is checked to be that of an instance of procfs, and on the way
//! from there no other mount is entered.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};

use crate::mount::{Attributes, Filesystem};

/// An instance of procfs, by its root.
#[derive(Debug)]
pub struct Procfs(OwnedFd);

/// The inode of the root (PROC_ROOT_INO).
const ROOT_INODE: u64 = 1;

impl Procfs {
    /// An instance of one's own, on which nothing is mounted; where that is refused, the one at /proc.
    pub fn open() -> io::Result<Self> {
        let own = || {
            let all = Attributes::NOSUID.and(Attributes::NODEV).and(Attributes::NOEXEC);
            Filesystem::open("proc")?.mount(all)
        };
        match own() {
            Ok(own) => Ok(Self(own)),
            Err(_) => {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                Self::checked(rustix::fs::open("/proc", flags, Mode::empty())?)
            }
        }
    }

    fn checked(root: OwnedFd) -> io::Result<Self> {
        let is_procfs = rustix::fs::fstatfs(&root)?.f_type == rustix::fs::PROC_SUPER_MAGIC;
        if is_procfs && rustix::fs::fstat(&root)?.st_ino == ROOT_INODE {
            Ok(Self(root))
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidData, "/proc is not the root of procfs"))
        }
    }

    /// Writes `value` at once to the file at `path`, which is relative: `sys/net/core/somaxconn`.
    pub fn write(&self, path: &Path, value: &[u8]) -> io::Result<()> {
        let length = self.file(path, OFlags::WRONLY)?.write(value)?;
        if length == value.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    /// The file at `path`, for what is to be written later.
    pub fn open_to_write(&self, path: &Path) -> io::Result<File> {
        self.file(path, OFlags::WRONLY)
    }

    /// What is in the file at `path`.
    pub fn read(&self, path: &Path) -> io::Result<String> {
        let mut text = String::new();
        self.file(path, OFlags::RDONLY)?.read_to_string(&mut text)?;
        Ok(text)
    }

    fn file(&self, path: &Path, flags: OFlags) -> io::Result<File> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
        let flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY;
        loop {
            match rustix::fs::openat2(&self.0, path, flags, Mode::empty(), resolve) {
                // Something was renamed meanwhile (openat2(2), "EAGAIN"): the kernel asks to try again.
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                file => return Ok(file?.into()),
            }
        }
    }
}

impl AsFd for Procfs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_this_process() {
        let procfs = Procfs::open().expect("procfs");
        let adjustment = procfs.read(Path::new("self/oom_score_adj")).expect("read");
        procfs.write(Path::new("self/oom_score_adj"), adjustment.trim().as_bytes()).expect("written");
        // A magic link, and a way out.
        assert!(procfs.read(Path::new("self/exe")).is_err());
        assert!(procfs.read(Path::new("../etc/passwd")).is_err());
    }

    #[test]
    fn another_filesystem_is_refused() {
        let open = |path: &str| OwnedFd::from(File::open(path).expect("open"));
        let temporary = tempfile::tempdir().expect("a temporary directory");
        Procfs::checked(open("/proc")).expect("procfs");
        assert!(Procfs::checked(open(temporary.path().to_str().expect("UTF-8"))).is_err());
        assert!(Procfs::checked(open("/proc/self")).is_err());
    }
}
