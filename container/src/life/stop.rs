//! Ending what runs: first by the signal that it wants, then by the one that nobody can ignore.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;
use std::{fs, io};

use rbox_store::ContainerEntry;
use rbox_sys::clone::signal_pidfd;
use rbox_sys::poll::{self, Interest};
use rbox_sys::signal::Signal;
use rbox_types::ContainerId;

use crate::life::begun::Begun;
use crate::life::start::{Startable, Started};
use crate::patience::Patience;
use crate::record::{Made, Record};
use crate::{Engine, Error, events};

/// How long a supervisor may take to write down the end, and to remove what it is to remove.
const SUPERVISOR: Duration = Duration::from_secs(30);

/// The mark that the container has been stopped, and by whom: empty where somebody did, else [`BY_SHUTDOWN`].
pub(crate) const STOPPED: &str = "stopped";
/// Nobody in particular: after the next boot it is as if it had not been stopped.
pub(crate) const BY_SHUTDOWN: &str = "shutdown";

/// Whether somebody has stopped the container in this directory.
pub(crate) fn stopped_by_somebody(directory: &Path) -> io::Result<bool> {
    match fs::read_to_string(directory.join(STOPPED)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        mark => Ok(mark? != BY_SHUTDOWN),
    }
}

/// How a container is stopped.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stopping {
    /// What asks it to end, where it is not its own stop signal.
    pub signal: Option<Signal>,
    /// How long it may take to, where that is not its own time.
    pub timeout: Option<Duration>,
    /// As a shutdown does: after the next boot, its policy is not to know that it was stopped.
    pub shutdown: bool,
}

impl Engine {
    /// Has a container end, and waits for that: first the stop signal, and in the end SIGKILL. None of those that do not
    /// run. It is not started again by its policy. Gives its id.
    pub fn stop(&self, name_or_id: &str, stopping: Stopping) -> Result<ContainerId, Error> {
        let entry = self.store.find_container(name_or_id)?;
        if entry.running {
            self.end(&entry, stopping)?;
        }
        Ok(entry.id)
    }

    /// Stops a container where it runs, and starts it. One that runs in the foreground could not be started again, and is
    /// left alone.
    pub fn restart(&self, name_or_id: &str, stopping: Stopping) -> Result<Started, Error> {
        let entry = self.store.find_container(name_or_id)?;
        if !Startable::is_there(&entry) {
            return Err(Error::NotStartable(entry.name));
        }
        if entry.running {
            self.end(&entry, stopping)?;
        }
        self.start(entry.id.as_str())
    }

    /// The names of those that run.
    pub fn running(&self) -> Result<Vec<String>, Error> {
        let running = self.store.containers()?.into_iter().filter(|entry| entry.running);
        Ok(running.map(|entry| entry.id.to_string()).collect())
    }

    /// Sends a signal to the first process of a container that runs. Gives its id.
    pub fn signal_container(&self, name_or_id: &str, signal: Signal) -> Result<ContainerId, Error> {
        let Begun { entry, made, pidfd, .. } = Begun::find(&self.store, name_or_id)?;
        let ends = signal == Signal::KILL || signal == made.stop_signal();
        if ends {
            mark_stopped(&entry.path, Stopping::default())?;
        }
        let killed = events::of_container("kill", &entry.id, &entry.name, Some(made.known()));
        events::note(&self.store, &[killed.with("signal", signal.number())]);
        signal_workload(&made, &pidfd, signal).map_err(Error::io("signal the workload of", &entry.name))?;
        if ends {
            self.unpause_to_end(&entry, &made, pidfd.as_fd());
        }
        Ok(entry.id)
    }

    /// As [`stop`](Self::stop), of one that runs.
    pub(crate) fn end(&self, entry: &ContainerEntry, stopping: Stopping) -> Result<(), Error> {
        let Stopping { signal, timeout, .. } = stopping;
        let failed = || Error::io("stop", entry.name.as_str());
        // Before its end, so that its monitor sees why.
        mark_stopped(&entry.path, stopping)?;
        let made = Made::read(&entry.path).map_err(failed())?;
        let process = made.as_ref().map(Made::open_first_process).transpose().map_err(failed())?.flatten();
        if let (Some(made), Some(process)) = (&made, &process) {
            let happened = |action| events::of_container(action, &entry.id, &entry.name, Some(made.known()));
            events::note(
                &self.store,
                &[match signal {
                    Some(signal @ Signal::KILL) => happened("kill").with("signal", signal.number()),
                    _ => happened("stop"),
                }],
            );
            signal_workload(made, process, signal.unwrap_or_else(|| made.stop_signal())).map_err(failed())?;
            self.unpause_to_end(entry, made, process.as_fd());
            if !ended_within(process, timeout.unwrap_or_else(|| made.stop_timeout())).map_err(failed())? {
                signal_workload(made, process, Signal::KILL).map_err(failed())?;
            }
        }
        if let Some(monitor) = made.and_then(|made| made.monitor) {
            // It may be waiting to start the workload again.
            if let Some(monitor) = monitor.open().map_err(failed())? {
                signal_pidfd(&monitor, Signal::TERM).map_err(failed())?;
            }
        }
        self.wait_for_supervisor(entry)
    }

    /// Until the container's supervisor has written down the end.
    fn wait_for_supervisor(&self, entry: &ContainerEntry) -> Result<(), Error> {
        let mut patience = Patience::of(SUPERVISOR);
        while self.store.has_owner(entry)? {
            if !patience.wait() {
                return Err(Error::StillRunning(entry.name.clone()));
            }
        }
        Ok(())
    }
}

/// Says that the container in this directory is to end: its monitor does not start it again then.
pub(crate) fn mark_stopped(directory: &Path, stopping: Stopping) -> Result<(), Error> {
    let mark = directory.join(STOPPED);
    // Who has stopped a container has it stay so, whatever comes after.
    let marked = match stopping.shutdown {
        true if mark.exists() => Ok(()),
        true => fs::write(&mark, BY_SHUTDOWN),
        false => fs::File::create(&mark).map(drop),
    };
    match marked {
        // A full disk should not keep a container from being stopped.
        Err(error) if error.kind() == io::ErrorKind::StorageFull => Ok(()),
        result => result.map_err(Error::io("create", mark.display())),
    }
}

/// The first process is who hears of a signal; but SIGKILL is for all, who need not be in its pid namespace.
fn signal_workload(made: &Made, first: &OwnedFd, signal: Signal) -> io::Result<()> {
    if signal == Signal::KILL
        && let Some(cgroup) = made.cgroup()
    {
        // By its first process too, should there be something against the other way.
        let _ = cgroup.kill();
    }
    signal_pidfd(first, signal)
}

fn ended_within(process: &OwnedFd, timeout: Duration) -> io::Result<bool> {
    // Longer than anybody waits is for ever.
    let limit = Some(timeout).filter(|timeout| *timeout < Duration::from_secs(u32::MAX.into()));
    let [ended] = poll::wait([(process.as_fd(), Interest::Read)], limit)?;
    Ok(ended)
}
