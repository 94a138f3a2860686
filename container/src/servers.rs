//! The processes that serve a container from outside of it: its network, and its root filesystem where that asks for it.
//!
//! Each is a process of one life of the workload: forked beside init when that has what is to be served, and ended when the
//! workload has. Where one dies first, the container goes on without.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rbox_runtime::cgroup::Hits;
use rbox_sys::clone::{self, Child, Ended, Forked, Namespaces};
use rbox_sys::poll::{self, Interest};
use rbox_sys::rlimit::{self, Resource};
use rbox_sys::signal::Signal;
use rbox_sys::{process, tty};

use crate::life::limited::Limited;

/// How long one may take to its end, once there is nothing left to serve.
const PATIENCE: Duration = Duration::from_secs(5);

/// How one ends when the workload has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// There is nothing that it has to do.
    Killed,
    /// It writes down what it knows, when SIGTERM asks for that.
    Asked,
    /// By itself: the last process of the container takes along what it serves.
    Itself,
}

/// One, while it runs. Dropped, it is ended and reaped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    ending: Ending,
}

impl Server {
    /// Forks it from this process, which has one thread; what `live` gives is its exit status.
    pub(crate) fn begin(ending: Ending, live: impl FnOnce() -> u8) -> io::Result<Self> {
        match clone::fork_into(Namespaces::NONE)? {
            Forked::Parent(child) => Ok(Self { child, ending }),
            Forked::Child => process::exit_at_once(live()),
        }
    }

    /// Has it end; that is waited for when this is dropped.
    fn finish(&self) {
        let signal = match self.ending {
            Ending::Killed => Signal::KILL,
            Ending::Asked => Signal::TERM,
            Ending::Itself => return,
        };
        // One that has ended already is no failure, and another there is not.
        let _ = self.child.signal(signal);
    }
}

fn end(ended: io::Result<Ended>) -> String {
    match ended {
        Ok(Ended::Exited(status)) => format!("it has ended with status {status}"),
        Ok(Ended::Signaled(signal)) => format!("it was ended by signal {signal}"),
        Err(error) => error.to_string(),
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.finish();
        let has_ended = || poll::wait([(self.child.as_fd(), Interest::Read)], Some(PATIENCE));
        if self.ending != Ending::Killed && !matches!(has_ended(), Ok([true])) {
            let _ = self.child.signal(Signal::KILL);
        }
        // One that was waited for is no child any more.
        let _ = self.child.wait();
    }
}

/// Those of one container.
#[derive(Debug, Default)]
pub(crate) struct Servers {
    pub(crate) network: Option<Server>,
    pub(crate) root: Option<Server>,
    /// No process, but likewise of one life: the cgroup, which goes with it.
    pub(crate) limited: Option<Limited>,
    /// Limits that could not be had.
    pub(crate) missed: Vec<String>,
}

/// One that has ended while the container goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lost {
    /// The event.
    pub(crate) action: &'static str,
    what: &'static str,
    /// How it ended.
    pub(crate) end: String,
    /// Whether the container has ended as well.
    at_end: bool,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, end, .. } = self;
        match self.at_end {
            false => write!(f, "the container has no {what} any more, but goes on: what served it is gone ({end})"),
            true => write!(f, "the container has ended with no {what} any more: what served it was gone ({end})"),
        }
    }
}

impl Servers {
    /// What to wait for; `idle` is any descriptor.
    pub(crate) fn watched<'a>(&'a self, idle: BorrowedFd<'a>) -> [(BorrowedFd<'a>, Interest); 4] {
        let [network, root] = [&self.network, &self.root].map(|server| match server {
            Some(server) => (server.child.as_fd(), Interest::Read),
            None => (idle, Interest::None),
        });
        let limits = self.limited.as_ref().map(Limited::as_fds).unwrap_or_default();
        let [memory, pids] = limits.map(|events| match events {
            Some(events) => (events, Interest::Change),
            None => (idle, Interest::None),
        });
        [network, root, memory, pids]
    }

    /// Whether processes were killed for want of memory since this was asked last.
    pub(crate) fn has_killed(&mut self) -> bool {
        self.limited.as_mut().is_some_and(Limited::has_killed)
    }

    /// The limits that the container has run into.
    pub(crate) fn hits(&mut self) -> Hits {
        self.limited.as_mut().map(Limited::hits).unwrap_or_default()
    }

    /// The processes that have ended, of which this says what [was waited for](Self::watched).
    pub(crate) fn take_lost(&mut self, ready: [bool; 2]) -> impl Iterator<Item = Lost> {
        self.take(ready, false)
    }

    /// That which has served the root filesystem, if it ended before the workload: of that the workload may have died, and
    /// sooner than anybody could hear of the other end.
    pub(crate) fn take_lost_at_end(&mut self) -> impl Iterator<Item = Lost> {
        let is_gone = |server: &Server| server.child.is_ending().unwrap_or(false);
        self.take([false, self.root.as_ref().is_some_and(is_gone)], true)
    }

    fn take(&mut self, ready: [bool; 2], at_end: bool) -> impl Iterator<Item = Lost> {
        let [network, root] = ready;
        let network = self.network.take_if(|_| network).map(|server| ("network_lost", "network", server));
        let root = self.root.take_if(|_| root).map(|server| ("rootfs_lost", "root filesystem", server));
        network.into_iter().chain(root).filter_map(move |(action, what, server)| {
            // One that has come to its end by itself was not asked any more: the workload ends as well.
            let has_ended = server.ending == Ending::Itself;
            match server.child.wait() {
                Ok(Ended::Exited(0)) if has_ended => None,
                ended => Some(Lost { action, what, end: end(ended), at_end }),
            }
        })
    }

    /// Has them end, now that the workload has; that is waited for when this is dropped.
    pub(crate) fn finish(&self) {
        self.network.iter().chain(&self.root).for_each(Server::finish);
    }
}

/// What each does first: it has a name, no terminal, and as many descriptors as can be had. `quiet`: nobody reads what it
/// says of failures.
pub(crate) fn begin(name: &std::ffi::CStr, quiet: bool) -> io::Result<()> {
    process::set_name(name)?;
    // What a terminal does to its foreground is not for it.
    process::new_session()?;
    tty::replace_stdio_by_null(0..if quiet { 3 } else { 2 })?;
    rlimit::raise(Resource::NOFILE).map(drop)
}
