//! `rbox wait`: until a container has ended, and how it did.

use std::io::Read;
use std::thread;
use std::time::Duration;

use rbox_store::ContainerEntry;
use rbox_types::Exit;

use crate::record::{Finished, Made, Record};
use crate::{Engine, Error};

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WaitCondition {
    /// It does not run.
    #[default]
    Stopped,
    /// Its workload has begun.
    Running,
    /// It is gone.
    Removed,
}

impl Engine {
    /// Waits for a container. Gives how it ended, where it has and somebody saw it.
    ///
    /// Nothing is asked again and again for the end: a container's supervisor holds a lock. For the other conditions it is
    /// looked each `interval`.
    pub fn wait_container(
        &self,
        name_or_id: &str,
        condition: WaitCondition,
        interval: Duration,
    ) -> Result<Option<Exit>, Error> {
        let entry = self.store.find_container(name_or_id)?;
        match condition {
            WaitCondition::Stopped => self.wait_for_end(&entry),
            WaitCondition::Removed => {
                let exit = self.wait_for_end(&entry)?;
                loop {
                    match self.store.find_container(entry.id.as_str()) {
                        Ok(_) => thread::sleep(interval),
                        Err(rbox_store::Error::NoContainer(_)) => return Ok(exit),
                        Err(error) => return Err(error.into()),
                    }
                }
            }
            WaitCondition::Running => {
                while !runs(&entry)? {
                    match self.store.find_container(entry.id.as_str()) {
                        Ok(_) => thread::sleep(interval),
                        // Gone, and will never run.
                        Err(error) => return Err(error.into()),
                    }
                }
                Ok(None)
            }
        }
    }

    fn wait_for_end(&self, entry: &ContainerEntry) -> Result<Option<Exit>, Error> {
        let read_error = || Error::io("read the records in", entry.path.display());
        // One that goes away at its end takes its record with it, but not what is open.
        let mut told = if entry.running { Finished::wait_in(&entry.path).ok() } else { None };
        self.store.wait_for_owner(entry)?;
        if let Some(finished) = Finished::read(&entry.path).map_err(read_error())? {
            Finished::forget_waiters(&entry.path);
            return Ok(Some(finished.exit));
        }
        let mut text = Vec::new();
        if let Some(file) = &mut told {
            file.read_to_end(&mut text).map_err(read_error())?;
        }
        Ok(serde_json::from_slice::<Finished>(&text).ok().map(|finished| finished.exit))
    }
}

fn runs(entry: &ContainerEntry) -> Result<bool, Error> {
    let record = Made::read_begun(&entry.path).map_err(Error::io("read the records in", entry.path.display()))?;
    Ok(record.is_some_and(|(_, begun)| begun))
}
