//! `rbox pause`: a container whose processes all stand still.
//!
//! ```text
//! pause                      worker (rbox anew)                 in the container's pid namespace
//!   paused ─ mark
//!   SIGSTOP ─ first process
//!   its pidfd ─────────────▶ setns(user, pid), fork ──────────▶ kill(-1, SIGSTOP)
//!   until none runs, again
//! ```
//!
//! A container that has a cgroup of its own is frozen there (cgroup.freeze), whoever its processes are. Most have none, since
//! nothing limits them. There the kernel sends a signal to all processes of a pid
//! namespace but the first one in a single step, during which none of them can fork unseen (kill(2), pid -1). The first
//! one takes SIGSTOP from an outer pid namespace alone (pid_namespaces(7)), and gets it by its pidfd.
//!
//! The worker is another process, since only one of a single thread can go to a user namespace. What it forks is undumpable,
//! with the memory of a program that was executed outside: nobody inside can look into it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rbox_runtime::ProcessId;
use rbox_store::ContainerEntry;
use rbox_sys::clone::{self, Child, Ended, Forked, Namespaces, signal_pidfd};
use rbox_sys::flock::{self, Mode};
use rbox_sys::poll::{self, Interest};
use rbox_sys::signal::{self, Signal};
use rbox_sys::{Errno, fd, process};
use rbox_types::{ContainerId, Exit};
use serde::{Deserialize, Serialize};

use crate::life::begun::Begun;
use crate::observe::containers::{ContainerStatus, ContainerSummary};
use crate::observe::processes;
use crate::patience::Patience;
use crate::record::{Made, Record};
use crate::settings::Whose;
use crate::{Engine, Error, events, worker};

/// How long all processes may take to stand still, and others to let go of the container.
const PATIENCE: Duration = Duration::from_secs(10);

/// That a container is paused. It holds for that life of the container alone.
#[derive(Debug, Serialize, Deserialize)]
struct Paused {
    first: ProcessId,
}

impl Record for Paused {
    const FILE: &'static str = "paused";
}

/// Whether the container that this is the record of, and which runs, is paused.
pub(crate) fn is_paused(directory: &Path, made: &Made) -> io::Result<bool> {
    Ok(Paused::read(directory)?.is_some_and(|paused| Some(paused.first) == made.first_process()))
}

/// Keeps a container from being paused while somebody comes into it, until this is dropped.
pub(crate) fn keep_going(entry: &ContainerEntry, made: &Made) -> Result<File, Error> {
    let held = hold(&entry.path, Mode::Shared).map_err(Error::io("lock", entry.path.display()))?;
    match is_paused(&entry.path, made).map_err(Error::io("read the records in", entry.path.display()))? {
        false => Ok(held),
        true => Err(Error::Paused(entry.name.clone())),
    }
}

impl Engine {
    /// Has every process of a container stand still. Gives its id.
    pub fn pause(&self, name_or_id: &str) -> Result<ContainerId, Error> {
        let begun = Begun::find(&self.store, name_or_id)?;
        let Begun { entry, made, first, .. } = &begun;
        let failed = || Error::io("pause", entry.name.as_str());
        let cgroup = made.cgroup();
        let shares = || Ok(made.settings.sharing.pid != Whose::Private || is_own_pid_namespace(*first)?);
        if cgroup.is_none() && shares().map_err(failed())? {
            return Err(Error::SharesProcesses(entry.name.clone()));
        }
        let _held = hold(&entry.path, Mode::Exclusive).map_err(failed())?;
        if is_paused(&entry.path, made).map_err(failed())? {
            return Err(Error::Paused(entry.name.clone()));
        }
        Paused { first: *first }.write(&entry.path).map_err(failed())?;
        let stood = match &cgroup {
            Some(cgroup) => cgroup.freeze(PATIENCE).map_err(io::Error::other),
            None => begun.stand_still(),
        };
        if let Err(error) = stood {
            let _ = go_on(made, begun.pidfd.as_fd());
            let _ = fs::remove_file(entry.path.join(Paused::FILE));
            return Err(failed()(error));
        }
        events::note(&self.store, &[events::of_container("pause", &entry.id, &entry.name, Some(made.known()))]);
        Ok(begun.entry.id)
    }

    /// Lets the processes of a paused container go on. Gives its id.
    pub fn unpause(&self, name_or_id: &str) -> Result<ContainerId, Error> {
        let Begun { entry, made, pidfd, .. } = Begun::find(&self.store, name_or_id)?;
        if !resume(&entry.path, &made, pidfd.as_fd()).map_err(Error::io("unpause", entry.name.as_str()))? {
            return Err(Error::NotPaused(entry.name));
        }
        events::note(&self.store, &[events::of_container("unpause", &entry.id, &entry.name, Some(made.known()))]);
        Ok(entry.id)
    }

    /// The ids of those that run and are paused, or are not.
    pub fn running_and_paused(&self, paused: bool) -> Result<Vec<String>, Error> {
        let mut containers = self.list_containers(&Default::default())?;
        containers.retain(|container| matches!(container.status, ContainerStatus::Paused { .. }) == paused);
        Ok(containers.into_iter().map(|container| container.id.to_string()).collect())
    }

    /// What there is to know of a container; fails for one that is paused, as Docker does for what makes no sense then.
    pub(crate) fn refuse_paused(&self, entry: &ContainerEntry) -> Result<ContainerSummary, Error> {
        let summary = self.summary(entry)?;
        match summary.status {
            ContainerStatus::Paused { .. } => Err(Error::Paused(entry.name.clone())),
            _ => Ok(summary),
        }
    }

    /// As [`unpause`](Self::unpause), for one that is to end, which it does in any case. `first` is its first process.
    pub(crate) fn unpause_to_end(&self, entry: &ContainerEntry, made: &Made, first: BorrowedFd<'_>) {
        if let Ok(true) = resume(&entry.path, made, first) {
            events::note(&self.store, &[events::of_container("unpause", &entry.id, &entry.name, Some(made.known()))]);
        }
    }
}

impl Begun {
    fn stand_still(&self) -> io::Result<()> {
        let mut patience = Patience::of(PATIENCE);
        loop {
            // Again each time: somebody may have come in, or have been told to go on.
            signal_pidfd(&self.pidfd, Signal::STOP)?;
            signal_others(self.pidfd.as_fd(), Signal::STOP)?;
            let all = processes::of_container(self.first.pid)?;
            if !self.first.lives() {
                return Err(Errno::SRCH.into());
            }
            // What sleeps in the kernel uninterruptibly stops before it comes back from there; so does one that waits for
            // a child of vfork(2), which stands still itself.
            if all.iter().all(|process| matches!(process.state, 'T' | 't' | 'D' | 'Z' | 'X' | 'x')) {
                return Ok(());
            }
            if !patience.wait() {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "a process goes on running"));
            }
        }
    }
}

/// Lets the processes of a container go on, where it is paused; says whether it was. `first` is its first process: a
/// monitor knows that by a descriptor alone, as /proc numbers it otherwise than the monitor's pid namespace.
pub(crate) fn resume(directory: &Path, made: &Made, first: BorrowedFd<'_>) -> io::Result<bool> {
    // Almost none is, and those need wait for nobody.
    if !is_paused(directory, made)? {
        return Ok(false);
    }
    let _held = hold(directory, Mode::Exclusive)?;
    let paused = is_paused(directory, made)?;
    if paused {
        go_on(made, first)?;
        fs::remove_file(directory.join(Paused::FILE))?;
    }
    Ok(paused)
}

/// The first process last: a shell that went on earlier would find its jobs stopped, and take its terminal back from them.
fn go_on(made: &Made, first: BorrowedFd<'_>) -> io::Result<()> {
    if let Some(cgroup) = made.cgroup() {
        return cgroup.thaw().map_err(io::Error::other);
    }
    let others = signal_others(first, Signal::CONT);
    signal_pidfd(first, Signal::CONT)?;
    others
}

/// Keeps everybody else from pausing or updating the container, or from coming into it, until this is dropped.
pub(crate) fn hold_alone(directory: &Path) -> io::Result<File> {
    hold(directory, Mode::Exclusive)
}

/// One at a time pauses a container or lets it go on; and nobody comes into it meanwhile.
fn hold(directory: &Path, mode: Mode) -> io::Result<File> {
    let directory = File::open(directory)?;
    let mut patience = Patience::of(PATIENCE);
    while !flock::try_lock(&directory, mode)? {
        if !patience.wait() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "somebody else pauses it, or is coming into it"));
        }
    }
    Ok(directory)
}

fn is_own_pid_namespace(first: ProcessId) -> io::Result<bool> {
    let [own, its] = ["self".to_owned(), first.pid.to_string()].map(|pid| fs::read_link(format!("/proc/{pid}/ns/pid")));
    Ok(own? == its?)
}

/// Sends a signal to all processes of the pid namespace with this first process, but not to that one.
fn signal_others(first: BorrowedFd<'_>, signal: Signal) -> io::Result<()> {
    let ours = fd::duplicate(first)?;
    fd::keep_over_exec(&ours)?;
    let mut command = Command::new("/proc/self/exe");
    command.arg(OsStr::new(worker::SIGNAL)).args([ours.as_raw_fd(), signal.number()].map(|number| number.to_string()));
    let output = command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).output()?;
    match output.status.success() {
        true => Ok(()),
        false => Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
    }
}

/// What `rbox VERB PIDFD SIGNAL` does.
pub(crate) fn main(mut arguments: impl Iterator<Item = String>) -> u8 {
    let first = arguments.next().and_then(|number| fd::inherited(number.parse().ok()?).ok());
    let signal = arguments.next().and_then(|number| Signal::parse(&number));
    let (Some(first), Some(signal)) = (first, signal) else {
        eprintln!("rbox: {} is for rbox itself", worker::SIGNAL);
        return Exit::RBOX_FAILED;
    };
    match signal_inside(&first, signal) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("{error}");
            Exit::RBOX_FAILED
        }
    }
}

fn signal_inside(first: &OwnedFd, signal: Signal) -> io::Result<()> {
    process::set_undumpable()?;
    let entered = clone::enter(first, Namespaces::USER.and(Namespaces::PID));
    match entered {
        // It has the user namespace that this process is in.
        Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
            clone::enter(first, Namespaces::PID)?
        }
        entered => entered?,
    }
    match clone::fork_into(Namespaces::NONE)? {
        Forked::Parent(child) => finish(&child),
        // Whatever went wrong before: never to what is outside.
        Forked::Child if !process::parent_is_outside() => process::exit_at_once(Exit::RBOX_FAILED),
        Forked::Child => process::exit_at_once(u8::from(signal::send_to_all_others(signal).is_err())),
    }
}

/// Who has power inside can stop the child, or end it.
fn finish(child: &Child) -> io::Result<()> {
    let [ended] = poll::wait([(child.as_fd(), Interest::Read)], Some(PATIENCE))?;
    if !ended {
        child.signal(Signal::KILL)?;
    }
    match child.wait()? {
        Ended::Exited(0) => Ok(()),
        _ => Err(io::Error::other("something inside keeps its processes from being signalled")),
    }
}
