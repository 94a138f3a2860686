//! `rbox wait`: until a container has ended, and how it did.

use std::fs::File;
use std::io::Read;
use std::thread;
use std::time::Duration;

use rbox_store::ContainerEntry;
use rbox_types::Exit;

use crate::life::health::HealthStatus;
use crate::observe::containers::{ContainerStatus, ContainerSummary};
use crate::record::{Finished, Made, Record};
use crate::{Engine, Error};

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WaitCondition {
    /// It does not run.
    #[default]
    Stopped,
    /// It has been made, and not been started.
    Created,
    /// Its workload has begun.
    Running,
    /// Its processes stand still.
    Paused,
    /// Its health check says that it is well.
    Healthy,
    /// Its health check says that it is not.
    Unhealthy,
    /// It is gone.
    Removed,
}

impl WaitCondition {
    /// Whether only a workload that runs can meet it.
    fn is_health(self) -> bool {
        matches!(self, Self::Healthy | Self::Unhealthy)
    }
}

impl Engine {
    /// Waits until a container meets one of the conditions. Gives how it ended, where that was waited for and somebody saw
    /// it.
    ///
    /// Nothing is asked again and again for the end: a container's supervisor holds a lock. For all other conditions it is
    /// looked each `interval`.
    pub fn wait_container(
        &self,
        name_or_id: &str,
        conditions: &[WaitCondition],
        interval: Duration,
    ) -> Result<Option<Exit>, Error> {
        let entry = self.store.find_container(name_or_id)?;
        match conditions {
            [WaitCondition::Stopped] => self.wait_for_end(&entry),
            [WaitCondition::Removed] => {
                let exit = self.wait_for_end(&entry)?;
                while self.look_again(&entry)?.is_some() {
                    thread::sleep(interval);
                }
                Ok(exit)
            }
            _ => self.wait_for_any(&entry, conditions, interval),
        }
    }

    fn wait_for_any(
        &self,
        entry: &ContainerEntry,
        conditions: &[WaitCondition],
        interval: Duration,
    ) -> Result<Option<Exit>, Error> {
        let of_health = conditions.iter().all(|condition| condition.is_health());
        let ends = [WaitCondition::Stopped, WaitCondition::Removed].iter().any(|end| conditions.contains(end));
        let told = if ends && entry.running { Finished::wait_in(&entry.path).ok() } else { None };
        loop {
            let Some(now) = self.look_again(entry)? else {
                // It will never be anything else.
                let gone = || rbox_store::Error::NoContainer(entry.name.to_string());
                return if ends { Ok(told_in(told)) } else { Err(gone().into()) };
            };
            if !now.running && conditions.contains(&WaitCondition::Stopped) {
                return self.wait_for_end(&now);
            }
            let summary = self.summary(&now)?;
            if summary.health.is_none() && conditions.iter().any(|condition| condition.is_health()) {
                return Err(Error::NoHealthCheck(now.name));
            }
            for condition in conditions {
                if meets(&now, &summary, *condition)? {
                    return Ok(None);
                }
            }
            if of_health && matches!(summary.status, ContainerStatus::Exited { .. } | ContainerStatus::Dead) {
                return Err(Error::EndedBefore(now.name));
            }
            thread::sleep(interval);
        }
    }

    /// The container as it is now; none where it is gone.
    fn look_again(&self, entry: &ContainerEntry) -> Result<Option<ContainerEntry>, Error> {
        match self.store.find_container(entry.id.as_str()) {
            Ok(entry) => Ok(Some(entry)),
            Err(rbox_store::Error::NoContainer(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn wait_for_end(&self, entry: &ContainerEntry) -> Result<Option<Exit>, Error> {
        let read_error = || Error::io("read the records in", entry.path.display());
        // One that goes away at its end takes its record with it, but not what is open.
        let told = if entry.running { Finished::wait_in(&entry.path).ok() } else { None };
        self.store.wait_for_owner(entry)?;
        if let Some(finished) = Finished::read(&entry.path).map_err(read_error())? {
            Finished::forget_waiters(&entry.path);
            return Ok(Some(finished.exit));
        }
        Ok(told_in(told))
    }
}

/// The end of a container that has gone away with it.
fn told_in(told: Option<File>) -> Option<Exit> {
    let mut text = Vec::new();
    told?.read_to_end(&mut text).ok()?;
    serde_json::from_slice::<Finished>(&text).ok().map(|finished| finished.exit)
}

fn meets(entry: &ContainerEntry, summary: &ContainerSummary, condition: WaitCondition) -> Result<bool, Error> {
    let status = &summary.status;
    let is = |wanted| status.is_alive() && summary.health.as_ref().is_some_and(|health| health.status == wanted);
    Ok(match condition {
        WaitCondition::Running => matches!(status, ContainerStatus::Running { .. }) && runs(entry)?,
        WaitCondition::Created => matches!(status, ContainerStatus::Created) && !entry.running,
        WaitCondition::Paused => matches!(status, ContainerStatus::Paused { .. }),
        WaitCondition::Healthy => is(HealthStatus::Healthy),
        WaitCondition::Unhealthy => is(HealthStatus::Unhealthy),
        // Seen before this is asked.
        WaitCondition::Stopped | WaitCondition::Removed => false,
    })
}

fn runs(entry: &ContainerEntry) -> Result<bool, Error> {
    let record = Made::read_begun(&entry.path).map_err(Error::io("read the records in", entry.path.display()))?;
    Ok(record.is_some_and(|(_, begun)| begun))
}
