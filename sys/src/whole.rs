//! Files that get their name when they are whole: open(2) with O_TMPFILE, and linkat(2).
//!
//! Whoever opens the name finds what was there before, or all of the new bytes. Where the filesystem has no files without a
//! name, a hidden one beside the place stands in, which a process that is killed leaves behind.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::{at, fd, random, stored};

/// A file on its way; dropped, nothing is left of it.
#[derive(Debug)]
pub struct NewFile {
    file: File,
    dir: OwnedFd,
    /// The name that it has meanwhile, where it has one.
    hidden: Option<Vec<u8>>,
}

impl NewFile {
    /// Makes it for a name in `dir`, which may be a place only (O_PATH). The umask applies.
    pub fn create(dir: BorrowedFd<'_>, mode: u32) -> io::Result<Self> {
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        let kept = fd::duplicate(dir)?;
        match rustix::fs::openat(dir, c".", flags, Mode::from_raw_mode(mode)) {
            Ok(file) => Ok(Self { file: file.into(), dir: kept, hidden: None }),
            // EISDIR: a kernel or a filesystem that takes the flag for O_DIRECTORY (open(2), "BUGS").
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT | Errno::INVAL) => {
                let hidden = hidden_name()?;
                let file = at::create_file(dir, &hidden, mode)?;
                Ok(Self { file, dir: kept, hidden: Some(hidden) })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Where it is written.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Gives it its name, in place of whatever has it but a directory (EISDIR).
    pub fn publish(mut self, name: &[u8]) -> io::Result<()> {
        if self.hidden.is_none() {
            match self.link(name) {
                Err(Errno::EXIST) => {}
                result => return Ok(result?),
            }
            let hidden = hidden_name()?;
            self.link(&hidden)?;
            self.hidden = Some(hidden);
        }
        let Some(hidden) = &self.hidden else { return Ok(()) };
        stored::rename(self.dir.as_fd(), hidden, self.dir.as_fd(), name, stored::Rename::Replace)?;
        self.hidden = None;
        Ok(())
    }

    fn link(&self, name: &[u8]) -> Result<(), Errno> {
        // By way of /proc: with AT_EMPTY_PATH it would take a capability before Linux 6.10.
        let path = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        rustix::fs::linkat(rustix::fs::CWD, path, &self.dir, name, AtFlags::SYMLINK_FOLLOW)
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Some(hidden) = &self.hidden {
            let _ = at::unlink(self.dir.as_fd(), hidden);
        }
    }
}

fn hidden_name() -> io::Result<Vec<u8>> {
    Ok(format!(".rbox-{:016x}", u64::from_ne_bytes(random::bytes()?)).into_bytes())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn the_name_comes_last_and_nothing_else_stays() -> io::Result<()> {
        let temporary = tempfile::tempdir()?;
        let dir = at::open_dir_path(rustix::fs::CWD, temporary.path().as_os_str().as_encoded_bytes())?;
        let names = || -> io::Result<Vec<_>> {
            std::fs::read_dir(temporary.path())?.map(|entry| Ok(entry?.file_name())).collect()
        };
        let new = |text: &str| -> io::Result<NewFile> {
            let new = NewFile::create(dir.as_fd(), 0o600)?;
            new.file().write_all(text.as_bytes())?;
            Ok(new)
        };
        drop(new("given up")?);
        assert!(names()?.is_empty());
        new("one")?.publish(b"name")?;
        assert_eq!(std::fs::read_to_string(temporary.path().join("name"))?, "one");
        new("two")?.publish(b"name")?;
        assert_eq!(std::fs::read_to_string(temporary.path().join("name"))?, "two");
        assert_eq!(names()?, ["name"]);
        std::fs::create_dir(temporary.path().join("dir"))?;
        assert!(new("three")?.publish(b"dir").is_err());
        assert_eq!(names()?.len(), 2);
        Ok(())
    }
}
