//! `pause`, `resume`, `update`, `events`, `ps`: what a container's cgroup is asked.

use std::time::Duration;

use oci_spec::runtime::LinuxResources;

use super::{Container, Error};
use crate::Status;
use crate::cgroup::Event;
use crate::systemd::Manager;

/// How long processes may take to be stopped.
const PATIENCE: Duration = Duration::from_secs(10);

impl Container {
    /// Stops all processes for a while.
    pub fn pause(&self) -> Result<(), Error> {
        self.lock()?;
        self.expect("pause", &[Status::Created, Status::Running])?;
        Ok(self.needed_cgroup("pause")?.freeze(PATIENCE)?)
    }

    /// Lets them go on.
    pub fn resume(&self) -> Result<(), Error> {
        self.lock()?;
        self.expect("resume", &[Status::Paused])?;
        Ok(self.needed_cgroup("resume")?.thaw()?)
    }

    /// Changes limits; what `resources` does not name stays as it is.
    pub fn update(&self, resources: &LinuxResources) -> Result<(), Error> {
        self.lock()?;
        self.expect("update", &[Status::Created, Status::Running, Status::Paused])?;
        let cgroup = self.needed_cgroup("update")?;
        if let Some(scope) = &self.record.scope {
            Manager::connect(scope)?.set(resources)?;
        }
        Ok(cgroup.apply(resources)?)
    }

    /// What its processes have used, as runc tells it.
    pub fn statistics(&self) -> Result<Event<'_>, Error> {
        let statistics = self.needed_cgroup("ask for the statistics of")?.statistics()?;
        Ok(Event { kind: "stats", id: self.id(), data: Some(statistics) })
    }

    /// Its processes, as the host numbers them.
    pub fn processes(&self) -> Result<Vec<u32>, Error> {
        match self.cgroup()? {
            Some(cgroup) => Ok(cgroup.processes()?),
            None => Ok(self.pid().into_iter().collect()),
        }
    }

    fn expect(&self, operation: &'static str, wanted: &[Status]) -> Result<(), Error> {
        let status = self.status();
        match wanted.contains(&status) {
            true => Ok(()),
            false => Err(Error::Status { operation, id: self.id().to_owned(), status }),
        }
    }
}
