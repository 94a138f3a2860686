//! The names in an open directory: getdents64(2).

use std::ffi::CString;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{Dir, FileType};

/// Reads a directory name by name, `.` and `..` left out. Names may be removed while it goes on.
#[derive(Debug)]
pub struct Listing(Dir);

/// One name of a [`Listing`].
#[derive(Debug)]
pub struct Name {
    /// Bytes without `/`.
    pub name: CString,
    /// Whether it is a directory, where the file system says so here; `false` may mean "unknown".
    pub is_directory: bool,
    /// Its type, as stat(2) has it ([`kind`](crate::stored::kind)); 0 where the file system does not say so here.
    pub kind: u32,
    /// Its inode.
    pub inode: u64,
}

impl Listing {
    /// Takes over a descriptor of a directory that is open for reading.
    pub fn new(dir: OwnedFd) -> io::Result<Self> {
        Ok(Self(Dir::new(dir)?))
    }

    /// The directory.
    pub fn dir(&self) -> io::Result<BorrowedFd<'_>> {
        Ok(self.0.fd()?)
    }

    /// Begins again with the first name.
    pub fn rewind(&mut self) {
        self.0.rewind();
    }
}

impl Iterator for Listing {
    type Item = io::Result<Name>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let entry = match self.0.read()? {
                Ok(entry) => entry,
                Err(error) => return Some(Err(error.into())),
            };
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                let is_directory = entry.file_type() == FileType::Directory;
                let kind = match entry.file_type() {
                    FileType::Unknown => 0,
                    kind => kind.as_raw_mode(),
                };
                let name = entry.file_name().to_owned();
                return Some(Ok(Name { name, is_directory, kind, inode: entry.ino() }));
            }
        }
    }
}
