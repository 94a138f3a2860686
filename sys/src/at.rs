//! One name in an open directory: the calls that end in "at", and never follow that name if it is a symbolic link.
//!
//! Names are bytes without `/`; whoever resolves longer paths does so first, to a descriptor (see
//! [`beneath`](crate::beneath)).

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid};

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A character device that overlayfs takes for "removed": device number 0:0.
    Whiteout,
    /// A socket or device.
    Other,
}

/// Seconds since 1970 (negative before) and nanoseconds after that second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Time {
    /// Whole seconds.
    pub seconds: i64,
    /// 0 to 999 999 999.
    pub nanoseconds: u32,
}

/// The metadata of an inode: stat(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// What it is.
    pub kind: Kind,
    /// Permission bits with set-id and sticky: the low twelve.
    pub mode: u32,
    /// Owner, as this user namespace shows it.
    pub uid: u32,
    /// Group, likewise.
    pub gid: u32,
    /// Length in bytes.
    pub size: u64,
    /// When the content changed last.
    pub modified: Time,
    /// The file system.
    pub device: u64,
    /// The inode in it.
    pub inode: u64,
}

/// Looks at `name`.
pub fn status(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<Status> {
    Ok(convert(&rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?))
}

/// Looks at what is open.
pub fn status_of(fd: BorrowedFd<'_>) -> io::Result<Status> {
    Ok(convert(&rustix::fs::fstat(fd)?))
}

#[allow(clippy::unnecessary_cast, reason = "the fields' types differ between architectures")]
fn convert(stat: &rustix::fs::Stat) -> Status {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink,
        FileType::Fifo => Kind::Fifo,
        FileType::CharacterDevice if stat.st_rdev == 0 => Kind::Whiteout,
        _ => Kind::Other,
    };
    Status {
        kind,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        size: stat.st_size as u64,
        modified: Time { seconds: stat.st_mtime as i64, nanoseconds: stat.st_mtime_nsec as u32 },
        device: stat.st_dev as u64,
        inode: stat.st_ino as u64,
    }
}

/// Makes a regular file for writing; that `name` exists, even as a dangling link, is an error. The umask applies.
pub fn create_file(dir: BorrowedFd<'_>, name: &[u8], mode: u32) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NOCTTY;
    Ok(rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(mode))?.into())
}

/// Gives the file `name` these bytes, whether it is there or not: whoever reads it finds all of the old ones or all of the
/// new. `.name` is in use meanwhile, and stays if this process dies.
pub fn replace_file(dir: BorrowedFd<'_>, name: &str, mode: u32, bytes: &[u8]) -> io::Result<()> {
    let new = format!(".{name}");
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NOCTTY;
    let mut file = File::from(rustix::fs::openat(dir, &*new, flags, Mode::from_raw_mode(mode))?);
    file.write_all(bytes)?;
    Ok(rustix::fs::renameat(dir, &*new, dir, name)?)
}

/// Gives a file another name in the same directory, which nothing may have yet.
///
/// At once, if the filesystem can (RENAME_NOREPLACE, renameat2(2)); NFS and others give a symbolic link both names for a
/// moment.
pub fn rename_new(dir: BorrowedFd<'_>, from: &[u8], to: &[u8]) -> io::Result<()> {
    match rustix::fs::renameat_with(dir, from, dir, to, rustix::fs::RenameFlags::NOREPLACE) {
        Err(rustix::io::Errno::INVAL) => {
            make_symlink(&read_link(dir, from)?, dir, to)?;
            unlink(dir, from)
        }
        result => Ok(result?),
    }
}

/// Opens a file for reading. Anything but a regular file would block or act, and is refused.
pub fn open_file(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    let file = File::from(rustix::fs::openat(dir, name, flags, Mode::empty())?);
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
    }
}

/// Opens a directory for reading.
pub fn open_dir(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(dir, name, flags, Mode::empty())?)
}

/// Opens a directory as a place only (O_PATH), which needs no permission on it.
pub fn open_dir_path(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(dir, name, flags, Mode::empty())?)
}

/// Makes a directory. The umask applies.
pub fn make_dir(dir: BorrowedFd<'_>, name: &[u8], mode: u32) -> io::Result<()> {
    Ok(rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(mode))?)
}

/// Makes a symbolic link that says `target`.
pub fn make_symlink(target: &[u8], dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    Ok(rustix::fs::symlinkat(target, dir, name)?)
}

/// What a symbolic link says.
pub fn read_link(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<Vec<u8>> {
    Ok(rustix::fs::readlinkat(dir, name, Vec::new())?.into_bytes())
}

/// Gives the inode called `from` one more name; a symbolic link is linked itself.
pub fn link(from_dir: BorrowedFd<'_>, from: &[u8], dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    Ok(rustix::fs::linkat(from_dir, from, dir, name, AtFlags::empty())?)
}

/// Removes a name that is no directory.
pub fn unlink(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    Ok(rustix::fs::unlinkat(dir, name, AtFlags::empty())?)
}

/// Removes an empty directory.
pub fn remove_dir(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    Ok(rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR)?)
}

/// Sets owner and group. EINVAL: this user namespace maps no such id.
pub fn set_owner(dir: BorrowedFd<'_>, name: &[u8], uid: u32, gid: u32) -> io::Result<()> {
    let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    Ok(rustix::fs::chownat(dir, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Sets owner and group of what is open.
pub fn set_owner_of(fd: BorrowedFd<'_>, uid: u32, gid: u32) -> io::Result<()> {
    Ok(rustix::fs::fchown(fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?)
}

/// Sets the mode of what is *known* not to be a symbolic link: fchmodat(2) would follow one (the call that does not
/// is of Linux 6.6).
pub fn set_mode(dir: BorrowedFd<'_>, name: &[u8], mode: u32) -> io::Result<()> {
    Ok(rustix::fs::chmodat(dir, name, Mode::from_raw_mode(mode), AtFlags::empty())?)
}

/// Sets the mode of what is open, if only as a place (O_PATH), for which procfs is needed.
pub fn set_mode_of(fd: BorrowedFd<'_>, mode: u32) -> io::Result<()> {
    let mode = Mode::from_raw_mode(mode);
    match rustix::fs::fchmod(fd, mode) {
        Err(rustix::io::Errno::BADF) => {
            let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
            Ok(rustix::fs::chmodat(rustix::fs::CWD, path, mode, AtFlags::empty())?)
        }
        other => Ok(other?),
    }
}

/// Sets the times of access and modification.
pub fn set_times(dir: BorrowedFd<'_>, name: &[u8], time: Time) -> io::Result<()> {
    Ok(rustix::fs::utimensat(dir, name, &both(time), AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Sets the times of access and modification of what is open.
pub fn set_times_of(fd: BorrowedFd<'_>, time: Time) -> io::Result<()> {
    Ok(rustix::fs::futimens(fd, &both(time))?)
}

fn both(time: Time) -> Timestamps {
    let time = Timespec { tv_sec: time.seconds, tv_nsec: time.nanoseconds.into() };
    Timestamps { last_access: time, last_modification: time }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn links_are_not_followed() {
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let dir = File::open(temporary.path()).expect("open");
        let dir = dir.as_fd();
        make_symlink(b"/nowhere", dir, b"l").expect("symlink");
        assert_eq!(create_file(dir, b"l", 0o600).expect_err("exists").kind(), io::ErrorKind::AlreadyExists);
        assert!(open_file(dir, b"l").is_err());
        assert!(open_dir(dir, b"l").is_err());
        set_times(dir, b"l", Time { seconds: -5, nanoseconds: 7 }).expect("utimensat");
        let seen = status(dir, b"l").expect("stat");
        assert_eq!((seen.kind, seen.modified), (Kind::Symlink, Time { seconds: -5, nanoseconds: 7 }));
        assert_eq!(read_link(dir, b"l").expect("readlink"), b"/nowhere");
        make_dir(dir, b"d", 0o700).expect("mkdir");
        let place = open_dir_path(dir, b"d").expect("open");
        set_mode_of(place.as_fd(), 0o711).expect("chmod");
        assert_eq!(status(dir, b"d").expect("stat").mode, 0o711);
        link(dir, b"l", dir, b"m").expect("link");
        assert_eq!(status(dir, b"m").expect("stat").inode, seen.inode);
    }
}
