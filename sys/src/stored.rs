//! Files that a filesystem of one's own has stored in another one: each call that reaches the one, made on a name in an open
//! directory of the other, with all that stat(2) has. A name is never followed if it is a symbolic link.
//!
//! Extended attributes of a name are reached by way of /proc/self/fd: xattr(7) has calls for paths and for files that are open
//! for reading, and what cannot be opened (symbolic links, sockets, devices) has attributes as well.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, FallocateFlags, Gid, Mode, OFlags, RenameFlags, SeekFrom, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;

use crate::at::Time;
use crate::xattr::MAX_VALUE;

/// stat(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// The file system.
    pub device: u64,
    /// The inode in it.
    pub inode: u64,
    /// Type and permission bits.
    pub mode: u32,
    /// How many names it has.
    pub links: u64,
    /// Owner, as this user namespace shows it.
    pub uid: u32,
    /// Group, likewise.
    pub gid: u32,
    /// The numbers of a device node, as st_rdev has them.
    pub rdev: u64,
    /// In bytes.
    pub size: u64,
    /// In units of 512 bytes.
    pub blocks: u64,
    /// What to read and write at a time.
    pub block_size: u64,
    /// When it was read last.
    pub accessed: Time,
    /// When the content changed last.
    pub modified: Time,
    /// When anything about it changed last.
    pub changed: Time,
}

/// The types of files, as in [`Stat::mode`] (inode(7)).
pub mod kind {
    /// All bits of the type.
    pub const MASK: u32 = 0o170_000;
    /// A socket.
    pub const SOCKET: u32 = 0o140_000;
    /// A symbolic link.
    pub const SYMLINK: u32 = 0o120_000;
    /// A regular file.
    pub const FILE: u32 = 0o100_000;
    /// A block device.
    pub const BLOCK: u32 = 0o060_000;
    /// A directory.
    pub const DIRECTORY: u32 = 0o040_000;
    /// A character device.
    pub const CHARACTER: u32 = 0o020_000;
    /// A named pipe.
    pub const FIFO: u32 = 0o010_000;
}

impl Stat {
    /// One of [`kind`].
    pub fn kind(&self) -> u32 {
        self.mode & kind::MASK
    }

    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        self.kind() == kind::DIRECTORY
    }

    /// Whether it is what overlayfs takes for "removed": a character device 0:0.
    pub fn is_whiteout(&self) -> bool {
        self.kind() == kind::CHARACTER && self.rdev == 0
    }
}

/// Looks at a name.
pub fn stat(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<Stat> {
    Ok(convert(&rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?))
}

/// Looks at what is open.
pub fn stat_of(fd: impl AsFd) -> io::Result<Stat> {
    Ok(convert(&rustix::fs::fstat(fd)?))
}

#[allow(clippy::unnecessary_cast, reason = "the fields' types differ between architectures")]
fn convert(stat: &rustix::fs::Stat) -> Stat {
    let time = |seconds, nanoseconds| Time { seconds, nanoseconds };
    Stat {
        device: stat.st_dev as u64,
        inode: stat.st_ino as u64,
        mode: stat.st_mode,
        links: stat.st_nlink as u64,
        uid: stat.st_uid,
        gid: stat.st_gid,
        rdev: stat.st_rdev as u64,
        size: stat.st_size as u64,
        blocks: stat.st_blocks as u64,
        block_size: stat.st_blksize as u64,
        accessed: time(stat.st_atime as i64, stat.st_atime_nsec as u32),
        modified: time(stat.st_mtime as i64, stat.st_mtime_nsec as u32),
        changed: time(stat.st_ctime as i64, stat.st_ctime_nsec as u32),
    }
}

/// Opens a regular file for reading, and for writing too.
pub fn open(dir: BorrowedFd<'_>, name: &[u8], writable: bool) -> io::Result<File> {
    let access = if writable { OFlags::RDWR } else { OFlags::RDONLY };
    let flags = access | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::NOATIME;
    match rustix::fs::openat(dir, name, flags, Mode::empty()) {
        // Of somebody else's (open(2), O_NOATIME).
        Err(Errno::PERM) => Ok(rustix::fs::openat(dir, name, flags - OFlags::NOATIME, Mode::empty())?.into()),
        result => Ok(result?.into()),
    }
}

/// Opens anything as a place only (O_PATH).
pub fn open_path(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(dir, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?)
}

/// Opens once more what is open as a place.
pub fn reopen(fd: BorrowedFd<'_>, writable: bool) -> io::Result<File> {
    let access = if writable { OFlags::RDWR } else { OFlags::RDONLY };
    // Not open(2), which not every architecture has: who filters calls allows one of the two.
    Ok(rustix::fs::openat(rustix::fs::CWD, path_of(fd), access | OFlags::CLOEXEC, Mode::empty())?.into())
}

/// Makes a regular file that must not exist, open for both.
pub fn create(dir: BorrowedFd<'_>, name: &[u8], mode: u32) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NOCTTY;
    Ok(rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(mode))?.into())
}

/// Makes anything but a directory or a symbolic link; its type is in `mode`.
pub fn make(dir: BorrowedFd<'_>, name: &[u8], mode: u32, rdev: u64) -> io::Result<()> {
    let kind = rustix::fs::FileType::from_raw_mode(mode);
    Ok(rustix::fs::mknodat(dir, name, kind, Mode::from_raw_mode(mode), rdev)?)
}

/// What a new name does to one that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rename {
    /// Takes its place.
    Replace,
    /// Is refused (EEXIST).
    NoReplace,
    /// Is exchanged with it.
    Exchange,
    /// Takes its place, and a whiteout takes the old name's.
    Whiteout,
}

/// Gives something another name (renameat2(2)).
pub fn rename(from: BorrowedFd<'_>, name: &[u8], to: BorrowedFd<'_>, new: &[u8], how: Rename) -> io::Result<()> {
    let flags = match how {
        Rename::Replace => RenameFlags::empty(),
        Rename::NoReplace => RenameFlags::NOREPLACE,
        Rename::Exchange => RenameFlags::EXCHANGE,
        Rename::Whiteout => RenameFlags::WHITEOUT,
    };
    Ok(rustix::fs::renameat_with(from, name, to, new, flags)?)
}

/// Sets owner, group, or both.
pub fn set_owner(dir: BorrowedFd<'_>, name: &[u8], uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
    let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
    Ok(rustix::fs::chownat(dir, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Sets them of what is open, be it as a place only.
pub fn set_owner_of(fd: impl AsFd, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
    let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
    Ok(rustix::fs::chownat(fd, c"", uid, gid, AtFlags::EMPTY_PATH)?)
}

/// What becomes of a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewTime {
    /// It stays.
    Same,
    /// It is now.
    Now,
    /// It is this.
    At(Time),
}

/// Sets the times of access and modification of a name.
pub fn set_times(dir: BorrowedFd<'_>, name: &[u8], accessed: NewTime, modified: NewTime) -> io::Result<()> {
    let times = Timestamps { last_access: timespec(accessed), last_modification: timespec(modified) };
    Ok(rustix::fs::utimensat(dir, name, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Those of what is open, be it as a place only.
pub fn set_times_of(fd: impl AsFd, accessed: NewTime, modified: NewTime) -> io::Result<()> {
    let times = Timestamps { last_access: timespec(accessed), last_modification: timespec(modified) };
    // By its place in procfs: an empty name is taken since Linux 5.8 only.
    Ok(rustix::fs::utimensat(rustix::fs::CWD, path_of(fd.as_fd()), &times, AtFlags::empty())?)
}

fn timespec(time: NewTime) -> Timespec {
    match time {
        NewTime::Same => Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
        NewTime::Now => Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW },
        NewTime::At(time) => Timespec { tv_sec: time.seconds, tv_nsec: time.nanoseconds.into() },
    }
}

/// fallocate(2), with the bits of its `mode`.
pub fn allocate(file: &File, mode: u32, offset: u64, length: u64) -> io::Result<()> {
    let flags = FallocateFlags::from_bits(mode).ok_or(Errno::OPNOTSUPP)?;
    Ok(rustix::fs::fallocate(file, flags, offset, length)?)
}

/// Where data begins at or after `offset` (lseek(2), SEEK_DATA); ENXIO where there is none.
pub fn next_data(file: &File, offset: u64) -> io::Result<u64> {
    Ok(rustix::fs::seek(file, SeekFrom::Data(offset))?)
}

/// Where a hole begins at or after `offset` (SEEK_HOLE); at the end there is always one.
pub fn next_hole(file: &File, offset: u64) -> io::Result<u64> {
    Ok(rustix::fs::seek(file, SeekFrom::Hole(offset))?)
}

/// Reads what is in memory already (preadv2(2), RWF_NOWAIT); EAGAIN where it is not, EOPNOTSUPP where the filesystem cannot say.
pub fn read_at_once(file: &File, room: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut rooms = [io::IoSliceMut::new(room)];
    Ok(rustix::io::preadv2(file, &mut rooms, offset, rustix::io::ReadWriteFlags::NOWAIT)?)
}

/// Copies a range inside the kernel (copy_file_range(2)); says how much of it.
pub fn copy_range(from: &File, mut at: u64, to: &File, mut to_at: u64, length: usize) -> io::Result<usize> {
    Ok(rustix::fs::copy_file_range(from, Some(&mut at), to, Some(&mut to_at), length)?)
}

/// Has one file share the other's blocks (ioctl_ficlone(2)); an error where the filesystem cannot.
pub fn share_blocks(from: &File, to: &File) -> io::Result<()> {
    Ok(rustix::fs::ioctl_ficlone(to, from)?)
}

/// The filesystem that something is on.
pub type Space = rustix::fs::StatVfs;

/// statvfs(3).
pub fn space(fd: impl AsFd) -> io::Result<Space> {
    Ok(rustix::fs::fstatvfs(fd)?)
}

/// Which kind of filesystem something is on, by its magic number (statfs(2), f_type).
#[allow(clippy::unnecessary_cast, reason = "the field's type differs between architectures")]
pub fn filesystem(fd: impl AsFd) -> io::Result<u64> {
    Ok(rustix::fs::fstatfs(fd)?.f_type as u64)
}

/// The value of an extended attribute; ENODATA where it is not set. The empty name is what is open itself, here and below.
pub fn get_xattr(dir: BorrowedFd<'_>, name: &[u8], attribute: &[u8]) -> io::Result<Vec<u8>> {
    let path = path(dir, name)?;
    let get = |value: &mut [u8]| match name {
        [] => rustix::fs::getxattr(&path, attribute, value),
        _ => rustix::fs::lgetxattr(&path, attribute, value),
    };
    whole(256, get)
}

/// The names of all extended attributes, each with a zero after it.
pub fn list_xattrs(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<Vec<u8>> {
    let path = path(dir, name)?;
    let list = |names: &mut [u8]| match name {
        [] => rustix::fs::listxattr(&path, names),
        _ => rustix::fs::llistxattr(&path, names),
    };
    match whole(1024, list) {
        Err(error) if error.raw_os_error() == Some(Errno::OPNOTSUPP.raw_os_error()) => Ok(Vec::new()),
        other => other,
    }
}

/// Sets one. `flags` are setxattr(2)'s.
pub fn set_xattr(dir: BorrowedFd<'_>, name: &[u8], attribute: &[u8], value: &[u8], flags: u32) -> io::Result<()> {
    let (path, flags) = (path(dir, name)?, XattrFlags::from_bits(flags).ok_or(Errno::INVAL)?);
    let set = match name {
        [] => rustix::fs::setxattr(path, attribute, value, flags),
        _ => rustix::fs::lsetxattr(path, attribute, value, flags),
    };
    Ok(set?)
}

/// Removes one.
pub fn remove_xattr(dir: BorrowedFd<'_>, name: &[u8], attribute: &[u8]) -> io::Result<()> {
    let path = path(dir, name)?;
    let removed = match name {
        [] => rustix::fs::removexattr(path, attribute),
        _ => rustix::fs::lremovexattr(path, attribute),
    };
    Ok(removed?)
}

/// What a call gives that says so (ERANGE) where it has too little room. There is no more of it than [`MAX_VALUE`].
fn whole(first: usize, get: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> io::Result<Vec<u8>> {
    let mut value = vec![0; first];
    loop {
        match get(&mut value[..]) {
            Err(Errno::RANGE) if value.len() < MAX_VALUE => value.resize((value.len() * 4).min(MAX_VALUE), 0),
            other => {
                value.truncate(other?);
                return Ok(value);
            }
        }
    }
}

/// By what path a name in an open directory is reached, or what is open itself.
fn path(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<CString> {
    let own = path_of(dir);
    let path = if name.is_empty() { own.into_bytes() } else { [own.as_bytes(), b"/", name].concat() };
    Ok(CString::new(path).map_err(|_| Errno::INVAL)?)
}

fn path_of(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// The handle of a file, by which its filesystem would find it again, and the handle's type (name_to_handle_at(2)). An error
/// where the filesystem has none.
#[allow(unsafe_code)]
pub fn handle(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<(i32, Vec<u8>)> {
    /// MAX_HANDLE_SZ.
    const MOST: usize = 128;
    #[repr(C)]
    struct Handle {
        length: u32,
        kind: i32,
        bytes: [u8; MOST],
    }
    let name = CString::new(name).map_err(|_| Errno::INVAL)?;
    let mut handle = Handle { length: MOST as u32, kind: 0, bytes: [0; MOST] };
    let mut mount: libc::c_int = 0;
    // SAFETY: the name ends with a zero, and the handle has as much room as it says; all of them outlive the call.
    crate::errno::check(unsafe {
        libc::syscall(libc::SYS_name_to_handle_at, dir.as_raw_fd(), name.as_ptr(), &raw mut handle, &raw mut mount, 0)
    } as libc::c_int)?;
    Ok((handle.kind, handle.bytes[..(handle.length as usize).min(MOST)].to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_done_to_names() -> io::Result<()> {
        let temporary = tempfile::tempdir()?;
        let dir = File::open(temporary.path())?;
        let dir = dir.as_fd();
        let file = create(dir, b"a", 0o640)?;
        allocate(&file, 0, 0, 4096)?;
        assert_eq!((stat(dir, b"a")?.size, stat_of(&file)?.mode & 0o777), (4096, 0o640));
        crate::at::make_symlink(b"/nowhere", dir, b"l")?;
        let time = Time { seconds: -3, nanoseconds: 5 };
        set_times(dir, b"l", NewTime::Same, NewTime::At(time))?;
        assert_eq!((stat(dir, b"l")?.kind(), stat(dir, b"l")?.modified), (kind::SYMLINK, time));
        rename(dir, b"l", dir, b"a", Rename::Exchange)?;
        assert_eq!(stat(dir, b"a")?.kind(), kind::SYMLINK);
        assert_eq!(rename(dir, b"l", dir, b"a", Rename::NoReplace).expect_err("it is there").raw_os_error(), Some(17));
        set_xattr(dir, b"l", b"user.name", b"value", 0)?;
        assert_eq!(get_xattr(dir, b"l", b"user.name")?, b"value");
        assert!(list_xattrs(dir, b"l")?.windows(10).any(|name| name == b"user.name\0"));
        let place = open_path(dir, b"l")?;
        assert_eq!(get_xattr(place.as_fd(), b"", b"user.name")?, b"value");
        let long = [b'x'; 1000];
        set_xattr(place.as_fd(), b"", b"user.name", &long, 0)?;
        assert_eq!(get_xattr(dir, b"l", b"user.name")?, long);
        remove_xattr(place.as_fd(), b"", b"user.name")?;
        assert!(get_xattr(dir, b"l", b"user.name").is_err());
        Ok(())
    }

    #[test]
    fn a_handle_is_the_same_by_each_name() -> io::Result<()> {
        let temporary = tempfile::tempdir()?;
        let dir = File::open(temporary.path())?;
        create(dir.as_fd(), b"a", 0o600)?;
        crate::at::link(dir.as_fd(), b"a", dir.as_fd(), b"b")?;
        match (handle(dir.as_fd(), b"a"), handle(dir.as_fd(), b"b")) {
            (Ok(one), Ok(other)) => assert_eq!(one, other),
            // tmpfs before Linux 6.8, and others.
            (one, other) => assert!(one.is_err() && other.is_err()),
        }
        Ok(())
    }
}
