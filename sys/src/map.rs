//! A file's content as memory: mmap(2), msync(2).
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::{self, NonNull};

use crate::errno;

/// Whose the changes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// The file's: `MAP_SHARED`.
    Shared,
    /// This mapping's alone: `MAP_PRIVATE`.
    Private,
}

/// The beginning of a file, mapped. Others may change it at any time, so it is copied from and to, and never borrowed.
/// What is beyond the file's end is not there: to touch it ends the process (SIGBUS).
#[derive(Debug)]
pub struct Map {
    start: NonNull<u8>,
    length: usize,
}

impl Map {
    /// Maps this many bytes, to be read, and to be written where `may_write`. EACCES: it is not open for that.
    pub fn new(file: impl AsFd, length: usize, sharing: Sharing, may_write: bool) -> io::Result<Self> {
        let protection = libc::PROT_READ | if may_write { libc::PROT_WRITE } else { 0 };
        let flags = match sharing {
            Sharing::Shared => libc::MAP_SHARED,
            Sharing::Private => libc::MAP_PRIVATE,
        };
        // SAFETY: the kernel picks a place where nothing is mapped, so that no memory of anybody's is replaced.
        let start = unsafe { libc::mmap(ptr::null_mut(), length, protection, flags, file.as_fd().as_raw_fd(), 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Self { start, length })
    }

    /// What is there now.
    pub fn read(&self, offset: usize, length: usize) -> Vec<u8> {
        self.check(offset, length);
        // SAFETY: each byte is within the mapping, by the check; volatile, as others may write it meanwhile.
        (offset..offset + length).map(|at| unsafe { self.start.as_ptr().add(at).read_volatile() }).collect()
    }

    /// Writes; the process ends (SIGSEGV) where it was not mapped to be written.
    pub fn write(&mut self, offset: usize, bytes: &[u8]) {
        self.check(offset, bytes.len());
        for (at, byte) in (offset..).zip(bytes) {
            // SAFETY: as in `read`; no reference into the mapping exists anywhere.
            unsafe { self.start.as_ptr().add(at).write_volatile(*byte) }
        }
    }

    /// Waits until all of it is the file's (MS_SYNC).
    pub fn sync(&self) -> io::Result<()> {
        // SAFETY: the range is the mapping's own.
        errno::check(unsafe { libc::msync(self.start.as_ptr().cast(), self.length, libc::MS_SYNC) })
    }

    fn check(&self, offset: usize, length: usize) {
        assert!(offset.checked_add(length).is_some_and(|end| end <= self.length), "beyond the mapping");
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: the range is the mapping's own, and nothing refers to it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    #[test]
    fn what_is_shared_is_the_files() {
        let file = tempfile::tempfile().expect("a temporary file");
        file.write_all_at(b"hello", 0).expect("write");
        let mut shared = Map::new(&file, 5, Sharing::Shared, true).expect("mmap");
        let mut private = Map::new(&file, 5, Sharing::Private, true).expect("mmap");
        private.write(0, b"j");
        shared.write(1, b"a");
        file.write_all_at(b"y", 4).expect("write");
        shared.sync().expect("msync");
        let mut content = [0; 5];
        file.read_exact_at(&mut content, 0).expect("read");
        assert_eq!(&content, b"hally");
        assert_eq!(shared.read(1, 4), b"ally");
        assert_eq!(private.read(0, 1), b"j");
    }
}
