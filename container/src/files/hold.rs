//! A container that does not run and is written to from outside meanwhile.
//!
//! Whoever does that has claimed it, and so it looks as if it ran. This tells the two apart: a lock of its own, which lasts
//! as long as its holder, is taken after the claim and given back before it.

use std::fs::{self, File};
use std::io;

use rbox_store::ContainerEntry;
use rbox_sys::flock::{self, Mode};

use crate::{Engine, Error};

/// In a container's directory.
const LOCK: &str = "written";

/// Says that its files are being written to, until it is dropped.
pub(super) fn hold(entry: &ContainerEntry) -> io::Result<File> {
    let lock = fs::OpenOptions::new().write(true).create(true).truncate(false).open(entry.path.join(LOCK))?;
    flock::lock(&lock, Mode::Exclusive)?;
    Ok(lock)
}

impl Engine {
    /// The container with this name or id, once nobody writes to its files from outside.
    pub(crate) fn find_settled(&self, name_or_id: &str) -> Result<ContainerEntry, Error> {
        loop {
            let entry = self.store.find_container(name_or_id)?;
            if !entry.running {
                return Ok(entry);
            }
            let path = entry.path.join(LOCK);
            let lock = match File::open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(entry),
                lock => lock.map_err(Error::io("open", path.display()))?,
            };
            let failed = || Error::io("lock", path.display());
            if flock::try_lock(&lock, Mode::Shared).map_err(failed())? {
                return Ok(entry);
            }
            flock::lock(&lock, Mode::Shared).map_err(failed())?;
            drop(lock);
            // It gives back its claim right after.
            self.store.wait_for_owner(&entry)?;
        }
    }
}
