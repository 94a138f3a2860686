//! Paths resolved as if a directory were `/` (openat2(2) with RESOLVE_IN_ROOT, Linux 5.6).
//!
//! For names that a container or an image controls, where symbolic links are to be followed but must end up inside:
//! a link to `/etc` means the root's `/etc`, and `..` stops at the root. Magic links (/proc/self/fd/N) are refused.
//! Each function resolves once and hands out a descriptor, so that a link swapped later has no effect.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// An O_PATH descriptor of whatever `path` is; the last component is followed too.
pub fn open_path(root: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    openat2(root, path, OFlags::PATH)
}

/// The file at `path`, for reading. A fifo or device would block or act, so only a regular file is opened.
pub fn open_file(root: BorrowedFd<'_>, path: &Path) -> io::Result<std::fs::File> {
    let file = std::fs::File::from(openat2(root, path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?);
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
    }
}

/// An O_PATH descriptor of the directory at `path`, made with its parents where it is missing.
pub fn create_dir_all(root: BorrowedFd<'_>, path: &Path, mode: u32) -> io::Result<OwnedFd> {
    match openat2(root, path, OFlags::PATH | OFlags::DIRECTORY) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        found => return found,
    }
    let (parent, name) = split(path)?;
    let parent = create_dir_all(root, parent, mode)?;
    match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(mode)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    openat2(parent.as_fd(), Path::new(name), OFlags::PATH | OFlags::DIRECTORY)
}

/// An O_PATH descriptor of the file at `path`, made empty, with its parent directories, where it is missing.
pub fn create_file(root: BorrowedFd<'_>, path: &Path, mode: u32) -> io::Result<OwnedFd> {
    match open_path(root, path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        found => return found,
    }
    let (parent, name) = split(path)?;
    let parent = create_dir_all(root, parent, 0o755)?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(mode)) {
        Ok(_) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    openat2(parent.as_fd(), Path::new(name), OFlags::PATH)
}

fn split(path: &Path) -> io::Result<(&Path, &OsStr)> {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => Ok((parent, name)),
        _ => Err(io::Error::new(io::ErrorKind::NotFound, "the path ends in '..' or '/' of something that is missing")),
    }
}

fn openat2(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    loop {
        match rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            // Something below was renamed meanwhile (openat2(2), "EAGAIN"): the kernel asks to try again.
            Err(Errno::AGAIN) => {}
            other => return Ok(other?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_stay_inside() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        symlink("/etc", dir.path().join("out")).expect("symlink");
        symlink("../../../..", dir.path().join("up")).expect("symlink");
        let root = std::fs::File::open(dir.path()).expect("open");
        assert_eq!(
            open_file(root.as_fd(), Path::new("out/passwd")).expect_err("no such file inside").kind(),
            io::ErrorKind::NotFound
        );
        create_dir_all(root.as_fd(), Path::new("/up/a/b"), 0o755).expect("made inside");
        assert!(dir.path().join("a/b").is_dir());
        create_file(root.as_fd(), Path::new("/up/a/file"), 0o644).expect("made inside");
        assert!(dir.path().join("a/file").is_file());
    }

    #[test]
    fn a_dangling_link_is_not_written_through() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        symlink("/nowhere/x", dir.path().join("dangling")).expect("symlink");
        let root = std::fs::File::open(dir.path()).expect("open");
        assert!(create_file(root.as_fd(), Path::new("dangling"), 0o644).is_err());
        assert!(!dir.path().join("nowhere").exists());
    }
}
