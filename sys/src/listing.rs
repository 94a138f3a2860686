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
                return Some(Ok(Name { name: entry.file_name().to_owned(), is_directory }));
            }
        }
    }
}
