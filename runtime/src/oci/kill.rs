//! `kill`: a signal to the container's first process.

use rbox_sys::clone::signal_pidfd;
use rbox_sys::signal::Signal;

use super::{Container, Error};
use crate::Status;

/// The signal that a number or a name stands for: `9`, `KILL`, `SIGKILL`, `RTMIN+1`.
pub fn parse_signal(text: &str) -> Result<Signal, Error> {
    Signal::parse(text).ok_or_else(|| Error::Usage(format!("{text:?} is not a signal")))
}

impl Container {
    /// Sends the signal to the first process.
    pub fn kill(&self, signal: Signal) -> Result<(), Error> {
        let status = self.status();
        let gone = || Error::Status { operation: "signal", id: self.id().to_owned(), status: Status::Stopped };
        if !matches!(status, Status::Created | Status::Running | Status::Paused) {
            return Err(Error::Status { operation: "signal", id: self.id().to_owned(), status });
        }
        let process = self.record.process.ok_or_else(gone)?;
        let failed = || Error::io("signal", format!("the process {}", process.pid));
        let pidfd = process.open().map_err(failed())?.ok_or_else(gone)?;
        signal_pidfd(&pidfd, signal).map_err(failed())
    }

    /// Sends the signal to every process.
    pub fn kill_all(&self, signal: Signal) -> Result<(), Error> {
        match self.cgroup()? {
            Some(cgroup) if signal == Signal::KILL => Ok(cgroup.kill()?),
            Some(cgroup) => Ok(cgroup.signal_all(signal)?),
            None => self.kill(signal),
        }
    }
}
