//! A file that grows by lines and is continued in a new one when it is full: logs, the journal of events.
//!
//! ```text
//! log      the newest, which is written to
//! log.1    what was the newest before
//! log.2    …
//! ```
//!
//! Files change their names and nothing else, and a name's number only grows: so whoever looks from the newest to the
//! oldest, and knows files by their inode, finds each that is there all the time, however often they are renamed
//! meanwhile. In which order they are is certain only if the newest one has its number still when the others are known.
//! While files are renamed, and after a crash in between, one number may be free.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The files of one name in a directory.
#[derive(Debug, Clone)]
pub struct Generations {
    directory: PathBuf,
    name: &'static str,
    most: u32,
}

/// A file by its device and inode: not to be mistaken for another as long as it is open.
pub(crate) type FileId = (u64, u64);

pub(crate) fn id_of(file: &File) -> io::Result<FileId> {
    let status = file.metadata()?;
    Ok((status.dev(), status.ino()))
}

impl Generations {
    /// At most `most` files, the newest included; 0 is taken for 1.
    pub fn new(directory: impl Into<PathBuf>, name: &'static str, most: u32) -> Self {
        Self { directory: directory.into(), name, most: most.max(1) }
    }

    /// Where they are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The newest one's path.
    pub fn newest(&self) -> PathBuf {
        self.path(0)
    }

    fn path(&self, number: u32) -> PathBuf {
        match number {
            0 => self.directory.join(self.name),
            _ => self.directory.join(format!("{}.{number}", self.name)),
        }
    }

    /// Makes every one the next older, over the oldest if there are as many as there may be. The newest one's name is free
    /// after that, except where there may be only one: whoever makes the next one renames it over that.
    ///
    /// One process at a time may do this.
    pub fn shift(&self) -> io::Result<()> {
        // Not beyond a number that a crash has left free.
        let free = (1..self.most).find(|number| fs::symlink_metadata(self.path(*number)).is_err());
        for number in (0..free.unwrap_or(self.most - 1)).rev() {
            match fs::rename(self.path(number), self.path(number + 1)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                result => result?,
            }
        }
        Ok(())
    }

    /// Opens all, the newest first.
    pub(crate) fn open(&self) -> io::Result<Vec<(File, FileId)>> {
        self.open_until(None)
    }

    /// Opens those that are newer than this one, the newest first.
    pub(crate) fn open_newer(&self, than: FileId) -> io::Result<Vec<(File, FileId)>> {
        match fs::metadata(self.path(0)) {
            // As nearly always.
            Ok(status) if (status.dev(), status.ino()) == than => Ok(Vec::new()),
            _ => self.open_until(Some(than)),
        }
    }

    fn open_until(&self, known: Option<FileId>) -> io::Result<Vec<(File, FileId)>> {
        loop {
            let mut found: Vec<(File, FileId)> = Vec::new();
            let mut first = None;
            for number in 0..self.most {
                let file = match File::open(self.path(number)) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    file => file?,
                };
                let id = id_of(&file)?;
                if Some(id) == known {
                    break;
                }
                if !found.iter().any(|(_, other)| *other == id) {
                    first.get_or_insert((number, id));
                    found.push((file, id));
                }
            }
            // Where the newest one has moved, one that is newer may have been taken for an older one.
            let moved = |(number, id): (u32, FileId)| match fs::metadata(self.path(number)) {
                Ok(status) => (status.dev(), status.ino()) != id,
                Err(_) => true,
            };
            if !first.is_some_and(moved) {
                return Ok(found);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(files: &Generations) -> Vec<String> {
        (0..5).map(|number| fs::read_to_string(files.path(number)).unwrap_or_default()).collect()
    }

    #[test]
    fn they_grow_older_up_to_the_last_one() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let files = Generations::new(directory.path(), "log", 3);
        files.shift().expect("nothing to do");
        for text in ["a", "b", "c", "d"] {
            fs::write(files.newest(), text).expect("write");
            files.shift().expect("shift");
        }
        assert_eq!(texts(&files), ["", "d", "c", "", ""]);
        // As a crash leaves them.
        fs::rename(files.path(1), files.path(0)).expect("rename");
        files.shift().expect("shift");
        assert_eq!(texts(&files), ["", "d", "c", "", ""]);
        let one = Generations::new(directory.path(), "one", 1);
        fs::write(one.newest(), "x").expect("write");
        one.shift().expect("nothing to do");
        assert_eq!(texts(&one)[0], "x");
    }

    #[test]
    fn newer_ones_are_found_by_what_they_are() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let files = Generations::new(directory.path(), "log", 4);
        fs::write(files.newest(), "a").expect("write");
        let (_held, first) = files.open().expect("open").pop().expect("one");
        assert!(files.open_newer(first).expect("open").is_empty());
        files.shift().expect("shift");
        assert!(files.open_newer(first).expect("open").is_empty(), "the new one is not there yet");
        for text in ["b", "c"] {
            fs::write(files.newest(), text).expect("write");
            files.shift().expect("shift");
        }
        fs::write(files.newest(), "d").expect("write");
        let newer = files.open_newer(first).expect("open");
        let newer: Vec<_> = newer.iter().map(|(file, _)| io::read_to_string(file).expect("read")).collect();
        assert_eq!(newer, ["d", "c", "b"]);
        assert_eq!(files.open().expect("open").len(), 4);
    }
}
