//! A container whose workload runs, found by its record so that it can be joined.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rbox_runtime::ProcessId;
use rbox_store::{ContainerEntry, Store};

use crate::Error;
use crate::life::beside::Container;
use crate::patience::Patience;
use crate::record::{Filter, Finished, Made, Record};

/// How long a workload may take from its first sign of life to the mark that it can be joined.
const LIMIT: Duration = Duration::from_secs(2);

/// The container, its first process by number and pidfd, and what its record says.
pub(crate) struct Begun {
    pub(crate) entry: ContainerEntry,
    pub(crate) made: Made,
    pub(crate) filter: Filter,
    pub(crate) first: ProcessId,
    pub(crate) pidfd: OwnedFd,
}

impl Begun {
    /// That of a name or the beginning of an id. From here on the process that is meant is the one that the record tells of,
    /// whoever gets its number later. One that is just about to begin is waited for, but not for long.
    pub(crate) fn find(store: &Store, name_or_id: &str) -> Result<Self, Error> {
        let entry = store.find_container(name_or_id)?;
        let not_running = || Error::NotRunning(entry.name.clone());
        if !entry.running {
            return Err(not_running());
        }
        let made = wait_for_beginning(store, &entry)?;
        let (Some(first), Some(joining)) = (made.first_process(), &made.joining) else { return Err(not_running()) };
        let pidfd = first.open().map_err(Error::io("find the first process of", entry.name.as_str()))?;
        let pidfd = pidfd.ok_or_else(not_running)?;
        let filter = joining.filter.clone();
        Ok(Self { entry, made, filter, first, pidfd })
    }

    /// As whoever comes into it knows it.
    pub(crate) fn container(&self) -> Container<'_> {
        let Self { entry, made, filter, first, .. } = self;
        Container { id: &entry.id, name: &entry.name, made, filter, first: first.pid }
    }
}

/// The record of a workload that runs. What a workload prints can be seen before its supervisor has locked its record.
fn wait_for_beginning(store: &Store, entry: &ContainerEntry) -> Result<Made, Error> {
    let failed = || Error::io("read the records in", entry.path.display());
    let mut patience = Patience::of(LIMIT);
    loop {
        if let Some((made, true)) = Made::read_begun(&entry.path).map_err(failed())? {
            return Ok(made);
        }
        if !store.has_owner(entry)? {
            return Err(Error::NotRunning(entry.name.clone()));
        }
        // One that has ended, and waits for its next start, may do so for long.
        if Finished::read(&entry.path).map_err(failed())?.is_some() || !patience.wait() {
            return Err(Error::Starting(entry.name.clone()));
        }
    }
}
