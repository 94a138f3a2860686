//! `delete`: what is left of a container goes.

use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::time::Duration;

use rbox_sys::clone::signal_pidfd;
use rbox_sys::mount;
use rbox_sys::poll::{self, Interest};
use rbox_sys::signal::Signal;

use super::{Container, Error};
use crate::Status;
use crate::cgroup::Cgroup;
use crate::hooks;
use crate::systemd::{self, Manager};

/// How long a first process is waited for that nobody has killed.
const MOMENT: Duration = Duration::from_millis(100);

/// How long a killed first process may take to be gone.
const PATIENCE: Duration = Duration::from_secs(30);

impl Container {
    /// Removes a container that has stopped, or with `force` one in any state, whose processes are killed. One that was
    /// created and never started goes as well. A `poststop` hook that fails is told when all is gone.
    pub fn delete(self, force: bool) -> Result<(), Error> {
        self.lock()?;
        if !force && self.status() == Status::Running {
            // What has done its work is gone in a moment; an engine may be quicker than that.
            self.wait_for_end(MOMENT)?;
        }
        let status = self.status();
        if matches!(status, Status::Running | Status::Paused) && !force {
            return Err(Error::Status { operation: "delete", id: self.id().to_owned(), status });
        }
        if let Some(process) = self.record.process {
            let failed = || Error::io("end", format!("the process {}", process.pid));
            if let Some(pidfd) = process.open().map_err(failed())? {
                signal_pidfd(&pidfd, Signal::KILL).map_err(failed())?;
            }
            if !self.wait_for_end(PATIENCE)? {
                return Err(failed()(std::io::ErrorKind::TimedOut.into()));
            }
        }
        self.remove_cgroup()?;
        self.unmount()?;
        let (poststop, state) = (self.hooks().poststop, self.record.subject.state(Status::Stopped, None));
        self.forget()?;
        hooks::run(&poststop, &state, &[]).map_err(|failure| crate::Error::Inside(failure).into())
    }

    /// Waits until the first process has ended, for this long at most; gives whether it has.
    fn wait_for_end(&self, limit: Duration) -> Result<bool, Error> {
        let Some(process) = self.record.process else { return Ok(true) };
        let failed = || Error::io("wait for", format!("the process {}", process.pid));
        let Some(pidfd) = process.open().map_err(failed())? else { return Ok(true) };
        let [ended] = poll::wait([(pidfd.as_fd(), Interest::Read)], Some(limit)).map_err(failed())?;
        Ok(ended)
    }

    /// Takes away what is mounted for it where others see it too.
    pub(super) fn unmount(&self) -> Result<(), Error> {
        let Some(place) = self.shared_place() else { return Ok(()) };
        // Nothing has been mounted yet, or somebody else has unmounted it.
        match mount::id_of(place) {
            Ok(there) if Some(there) == self.record.covered => Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            there => there.and_then(|_| mount::detach(place)).map_err(Error::io("unmount", place)),
        }
    }

    /// Ends whatever is left in its cgroup: without a pid namespace of its own, the end of the first process ends no
    /// other.
    pub(super) fn remove_cgroup(&self) -> Result<(), Error> {
        if let Some(record) = &self.record.cgroup {
            Cgroup::clear(record)?;
        }
        if let Some(cgroup) = self.cgroup()? {
            cgroup.kill()?;
            cgroup.delete(PATIENCE)?;
        }
        self.stop_scope()
    }

    fn stop_scope(&self) -> Result<(), Error> {
        let Some(scope) = &self.record.scope else { return Ok(()) };
        match Manager::connect(scope).and_then(|mut manager| manager.stop()) {
            // It went with the systemd that it was of, such as a user's who has logged out.
            Err(systemd::Error::Unreachable { .. }) if self.cgroup()?.is_none() => Ok(()),
            result => Ok(result?),
        }
    }
}
