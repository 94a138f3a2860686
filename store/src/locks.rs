//! Lock files under `locks/`.
//!
//! `gc`, `index` and `ids` stay for ever. The lock of one blob or layer is made when needed and unlinked by its holder:
//! whoever waited for it then holds the lock of a file that has no name any more, notices that by comparing
//! inodes, and begins again.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

pub(crate) use rbox_sys::flock::Mode;
use rbox_sys::flock::{lock, try_lock, unlock};

use crate::{
    Store,
    error::{IoContext, Result},
};

/// Proof that `locks/gc` is held.
#[derive(Debug)]
pub(crate) struct GcLock {
    _file: File,
}

/// Proof that `locks/index` is held: the right to write `index.json`.
#[derive(Debug)]
pub(crate) struct IndexLock {
    _file: File,
}

/// Proof that `locks/ids` is held: the right to give a container ids that no other has, from the look at what the others
/// have to the moment when it [is there](Store::create_container).
#[derive(Debug)]
pub struct IdsLock {
    file: File,
}

/// The lock of one blob or layer; unlinked when dropped.
#[derive(Debug)]
pub(crate) struct KeyedLock {
    path: PathBuf,
    _file: File,
}

impl Store {
    pub(crate) fn gc_lock(&self, mode: Mode) -> Result<GcLock> {
        Ok(GcLock { _file: self.permanent_lock("locks/gc", mode)? })
    }

    pub(crate) fn index_lock(&self) -> Result<IndexLock> {
        Ok(IndexLock { _file: self.permanent_lock("locks/index", Mode::Exclusive)? })
    }

    /// Waits until nobody else gives ids.
    pub fn ids_lock(&self) -> Result<IdsLock> {
        Ok(IdsLock { file: self.permanent_lock("locks/ids", Mode::Exclusive)? })
    }

    fn permanent_lock(&self, name: &str, mode: Mode) -> Result<File> {
        let path = self.path(name);
        let file = open(&path).at("open", &path)?;
        lock(&file, mode).at("lock", &path)?;
        Ok(file)
    }

    /// Waits for the lock called `locks/<key>`.
    pub(crate) fn keyed_lock(&self, key: &str) -> Result<KeyedLock> {
        let path = self.path("locks").join(key);
        loop {
            let file = open(&path).at("open", &path)?;
            lock(&file, Mode::Exclusive).at("lock", &path)?;
            if names_this(&path, &file)? {
                return Ok(KeyedLock { path, _file: file });
            }
        }
    }

    /// Unlinks `locks/<key>` unless somebody holds it.
    pub(crate) fn remove_stale_lock(&self, key: &str) -> Result<()> {
        let path = self.path("locks").join(key);
        let file = match OpenOptions::new().read(true).write(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            file => file.at("open", &path)?,
        };
        if try_lock(&file, Mode::Exclusive).at("lock", &path)? && names_this(&path, &file)? {
            drop(KeyedLock { path, _file: file });
        }
        Ok(())
    }
}

impl Drop for IdsLock {
    fn drop(&mut self) {
        // Children that were made meanwhile have copies of it, and some of them live as long as the container.
        let _ = unlock(&self.file);
    }
}

impl Drop for KeyedLock {
    fn drop(&mut self) {
        // Still locked: nobody can have put another file under this name. One left behind does no harm.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// For writing, since NFS wants that for an exclusive lock (flock(2)).
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}

/// Whether `path` still leads to `file`.
pub(crate) fn names_this(path: &Path, file: &File) -> Result<bool> {
    let ours = file.metadata().at("look at", path)?;
    match std::fs::symlink_metadata(path) {
        Ok(there) => Ok((there.dev(), there.ino()) == (ours.dev(), ours.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).at("look at", path),
    }
}
