//! `delete`: what is left of a container goes.

use std::os::fd::AsFd;
use std::time::Duration;

use rbox_sys::clone::signal_pidfd;
use rbox_sys::poll::{self, Interest};
use rbox_sys::signal::Signal;

use super::{Container, Error};
use crate::Status;
use crate::hooks;

/// How long a killed first process may take to be gone.
const PATIENCE: Duration = Duration::from_secs(30);

impl Container {
    /// Removes a container that has stopped, or with `force` one in any state, whose processes are killed. One that was
    /// created and never started goes as well. A `poststop` hook that fails is told when all is gone.
    pub fn delete(self, force: bool) -> Result<(), Error> {
        self.lock()?;
        let status = self.status();
        if matches!(status, Status::Running | Status::Paused) && !force {
            return Err(Error::Status { operation: "delete", id: self.id().to_owned(), status });
        }
        if let Some(process) = self.record.process {
            let failed = || Error::io("end", format!("the process {}", process.pid));
            if let Some(pidfd) = process.open().map_err(failed())? {
                signal_pidfd(&pidfd, Signal::KILL).map_err(failed())?;
                let [ended] = poll::wait([(pidfd.as_fd(), Interest::Read)], Some(PATIENCE)).map_err(failed())?;
                if !ended {
                    return Err(failed()(std::io::ErrorKind::TimedOut.into()));
                }
            }
        }
        self.remove_cgroup()?;
        let (poststop, state) = (self.record.hooks.poststop.clone(), self.record.subject.state(Status::Stopped, None));
        self.forget()?;
        hooks::run(&poststop, &state, &[]).map_err(|failure| crate::Error::Inside(failure).into())
    }

    /// Ends whatever is left in its cgroup: without a pid namespace of its own, the end of the first process ends no
    /// other.
    pub(super) fn remove_cgroup(&self) -> Result<(), Error> {
        let Some(cgroup) = self.cgroup()? else { return Ok(()) };
        cgroup.kill()?;
        Ok(cgroup.delete(PATIENCE)?)
    }
}
