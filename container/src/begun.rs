//! A container whose workload runs, found by its record so that it can be joined.

use std::os::fd::OwnedFd;

use rbox_runtime::ProcessId;
use rbox_store::{ContainerEntry, Store};

use crate::Error;
use crate::beside::Container;
use crate::record::{Filter, Made};

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
    /// whoever gets its number later.
    pub(crate) fn find(store: &Store, name_or_id: &str) -> Result<Self, Error> {
        let entry = store.find_container(name_or_id)?;
        let not_running = || Error::NotRunning(entry.name.clone());
        if !entry.running {
            return Err(not_running());
        }
        let record = Made::read_begun(&entry.path).map_err(Error::io("read the records in", entry.path.display()))?;
        let Some((made, true)) = record else { return Err(Error::Starting(entry.name.clone())) };
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
