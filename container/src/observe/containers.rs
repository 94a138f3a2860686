//! Containers as others see them.

use jiff::Timestamp;
use rbox_runtime::cgroup::Hits;
use rbox_store::ContainerEntry;
use rbox_types::{ContainerId, ContainerName, Exit};

use crate::life::health::Health;
use crate::life::{limited, pause};
use crate::observe::list::ContainerQuery;
use crate::record::{Finished, Made, Record};
use crate::settings::Resources;
use crate::{Engine, Error};

/// What a container is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerStatus {
    /// It has not been started, or its workload has not begun yet.
    Created,
    /// The workload runs.
    Running {
        /// Since when.
        since: Timestamp,
        /// Its process id.
        pid: u32,
    },
    /// The workload's processes stand still.
    Paused {
        /// Since when it runs.
        since: Timestamp,
        /// Its process id.
        pid: u32,
    },
    /// It has ended, and its monitor is going to start it again.
    Restarting {
        /// When it ended.
        at: Timestamp,
        /// How.
        exit: Exit,
    },
    /// It has ended.
    Exited {
        /// When.
        at: Timestamp,
        /// How.
        exit: Exit,
    },
    /// Its supervisor was killed, and took the workload with it; nobody saw how it ended.
    Dead,
}

/// A container in a list.
#[derive(Debug, Clone)]
pub struct ContainerSummary {
    /// Its id.
    pub id: ContainerId,
    /// Its name.
    pub name: ContainerName,
    /// How it was made; none when the power failed right then.
    pub made: Option<Made>,
    /// What it is doing.
    pub status: ContainerStatus,
    /// How its workload was when it was checked last; none where nothing is checked.
    pub health: Option<Health>,
    /// The limits that its last life has run into, where that is over.
    pub hits: Hits,
    /// The limits that hold for it now.
    pub(crate) resources: Resources,
}

impl ContainerStatus {
    /// Docker's word for it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running { .. } => "running",
            Self::Paused { .. } => "paused",
            Self::Restarting { .. } => "restarting",
            Self::Exited { .. } => "exited",
            Self::Dead => "dead",
        }
    }

    /// Whether there is a workload, running or paused.
    pub fn is_alive(&self) -> bool {
        matches!(self, Self::Running { .. } | Self::Paused { .. })
    }

    /// The workload's process id; 0 where none runs.
    pub fn pid(&self) -> u32 {
        match self {
            Self::Running { pid, .. } | Self::Paused { pid, .. } => *pid,
            Self::Created | Self::Restarting { .. } | Self::Exited { .. } | Self::Dead => 0,
        }
    }

    /// How it ended, as a shell shows it; 0 where it has not, or nobody saw it.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Restarting { exit, .. } | Self::Exited { exit, .. } => exit.status(),
            Self::Created | Self::Running { .. } | Self::Paused { .. } | Self::Dead => 0,
        }
    }

    /// Since when it runs, where it does.
    pub fn started_at(&self) -> Option<Timestamp> {
        match self {
            Self::Running { since, .. } | Self::Paused { since, .. } => Some(*since),
            Self::Created | Self::Restarting { .. } | Self::Exited { .. } | Self::Dead => None,
        }
    }

    /// When it ended, where that is known.
    pub fn finished_at(&self) -> Option<Timestamp> {
        match self {
            Self::Restarting { at, .. } | Self::Exited { at, .. } => Some(*at),
            Self::Created | Self::Running { .. } | Self::Paused { .. } | Self::Dead => None,
        }
    }
}

impl ContainerSummary {
    /// Docker's word for how it is; none where nothing is checked.
    pub fn health_word(&self) -> Option<&'static str> {
        self.health.as_ref().map(|health| health.status.word())
    }
}

impl Engine {
    /// All containers, the newest first.
    pub fn containers(&self) -> Result<Vec<ContainerSummary>, Error> {
        self.list_containers(&ContainerQuery { all: true, ..ContainerQuery::default() })
    }

    /// One container by its name or the beginning of its id.
    pub fn find_container(&self, name_or_id: &str) -> Result<ContainerSummary, Error> {
        self.summary(&self.store.find_container(name_or_id)?)
    }

    pub(crate) fn summary(&self, entry: &ContainerEntry) -> Result<ContainerSummary, Error> {
        let read_error = || Error::io("read the records in", entry.path.display());
        let made = Made::read(&entry.path).map_err(read_error())?;
        // One that runs has none, but where its monitor is about to start it again.
        let may_be_over = !entry.running || made.as_ref().is_some_and(Made::may_begin_again);
        let finished = if may_be_over { Finished::read(&entry.path).map_err(read_error())? } else { None };
        let hits = finished.as_ref().map(|finished| finished.hits).unwrap_or_default();
        let resources = made.as_ref().map(|made| limited::current(&entry.path, &made.settings)).transpose();
        let resources = resources.map_err(read_error())?.unwrap_or_default();
        let status = match (entry.running, &made, finished) {
            (true, Some(made), Some(finished)) if made.may_begin_again() => {
                ContainerStatus::Restarting { at: finished.at, exit: finished.exit }
            }
            (true, Some(made), None) if made.pid != 0 => {
                let (since, pid) = (made.since(), made.pid);
                match pause::is_paused(&entry.path, made).map_err(read_error())? {
                    true => ContainerStatus::Paused { since, pid },
                    false => ContainerStatus::Running { since, pid },
                }
            }
            (_, _, Some(finished)) => ContainerStatus::Exited { at: finished.at, exit: finished.exit },
            (true, _, None) => ContainerStatus::Created,
            (false, Some(made), None) if made.pid == 0 => ContainerStatus::Created,
            (false, _, None) => ContainerStatus::Dead,
        };
        let health = if made.as_ref().is_some_and(|made| made.settings.health.is_some()) {
            Some(Health::read(&entry.path).map_err(read_error())?.unwrap_or_default())
        } else {
            None
        };
        Ok(ContainerSummary { id: entry.id.clone(), name: entry.name.clone(), made, status, health, hits, resources })
    }
}
