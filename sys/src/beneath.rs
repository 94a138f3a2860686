//! Paths that must stay beneath a directory and go through no symbolic link: openat2(2), Linux 5.6.
//!
//! For names out of an archive: unlike [`in_root`](crate::in_root), nothing is reinterpreted, what would leave the
//! directory fails. EXDEV: the path has `..` that leads out, or is absolute. ELOOP: a component is a symbolic link.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// The directory at `path` as a place only (O_PATH); the empty path is `root` itself.
pub fn open_dir_path(root: BorrowedFd<'_>, path: &[u8]) -> io::Result<OwnedFd> {
    open(root, path, OFlags::PATH | OFlags::DIRECTORY, ResolveFlags::empty())
}

/// The directory at `path` for reading; the empty path is `root` itself.
pub fn open_dir(root: BorrowedFd<'_>, path: &[u8]) -> io::Result<OwnedFd> {
    open(root, path, OFlags::RDONLY | OFlags::DIRECTORY, ResolveFlags::empty())
}

/// The directory called `name`, for reading, unless something is mounted there (EXDEV), be it of the same file system.
pub fn open_dir_here(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
    open(dir, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW, ResolveFlags::NO_XDEV)
}

/// Whether something is mounted on `name`, in the mount namespace that `dir` was opened in. That may be another one than the
/// caller's, and there unlink(2) and rename(2) do not fail for that: they take the mount away.
pub fn is_mount_point(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<bool> {
    match open(dir, name, OFlags::PATH | OFlags::NOFOLLOW, ResolveFlags::NO_XDEV) {
        Err(error) if error.raw_os_error() == Some(Errno::XDEV.raw_os_error()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        // O_PATH and O_NOFOLLOW open a link itself, but RESOLVE_NO_SYMLINKS forbids even that.
        Err(error) if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => Ok(false),
        found => found.map(|_| false),
    }
}

fn open(root: BorrowedFd<'_>, path: &[u8], flags: OFlags, more: ResolveFlags) -> io::Result<OwnedFd> {
    let path = if path.is_empty() { b"." } else { path };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | more;
    loop {
        match rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            // Something was renamed meanwhile (openat2(2), "EAGAIN"): the kernel asks to try again.
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn nothing_leads_out() {
        let temporary = tempfile::tempdir().expect("a temporary directory");
        std::fs::create_dir_all(temporary.path().join("a/b")).expect("mkdir");
        std::os::unix::fs::symlink("a", temporary.path().join("l")).expect("symlink");
        let root = std::fs::File::open(temporary.path()).expect("open");
        let errno = |path: &[u8]| open_dir_path(root.as_fd(), path).expect_err("refused").raw_os_error();
        open_dir_path(root.as_fd(), b"").expect("the root");
        open_dir(root.as_fd(), b"a/b").expect("a directory in it");
        assert_eq!(errno(b"../x"), Some(Errno::XDEV.raw_os_error()));
        assert_eq!(errno(b"/"), Some(Errno::XDEV.raw_os_error()));
        assert_eq!(errno(b"l/b"), Some(Errno::LOOP.raw_os_error()));
        assert_eq!(errno(b"a/c"), Some(Errno::NOENT.raw_os_error()));
    }
}
