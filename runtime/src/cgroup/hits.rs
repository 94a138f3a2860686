//! Limits that a container has run into.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::{AsFd, BorrowedFd};

use rbox_sys::at;
use serde::{Deserialize, Serialize};

use super::Cgroup;
use super::statistics::{single, value};

/// What the kernel has refused for the limits' sake.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hits {
    /// How many processes it has killed for want of memory.
    pub oom_kills: u64,
    /// The limit of memory at that time, in bytes; 0: none.
    pub memory_limit: u64,
    /// The most memory that was used until then, in bytes (Linux 5.19); 0: not known.
    pub memory_peak: u64,
    /// How often a process or thread more was refused.
    pub pids_refused: u64,
    /// How many there may be; 0: any number.
    pub pids_limit: u64,
}

/// A look at a container's cgroup from time to time.
///
/// When all is over it may be too late to look: systemd removes a scope as soon as that is empty.
#[derive(Debug)]
pub struct Watch {
    cgroup: Cgroup,
    /// Of memory and of processes.
    events: [Option<File>; 2],
    hits: Hits,
}

impl Cgroup {
    /// Begins to watch.
    pub fn watch(self) -> Watch {
        let open = |file: &str| at::open_file(self.dir.as_fd(), file.as_bytes()).ok();
        let events = ["memory.events", "pids.events"].map(open);
        let mut watch = Watch { cgroup: self, events, hits: Hits::default() };
        // What is polled for is a change since the last look.
        watch.look();
        watch
    }
}

impl Watch {
    /// What tells of a change ([`Interest::Change`](rbox_sys::poll::Interest)) of memory and of processes; none without the
    /// controller.
    pub fn as_fds(&self) -> [Option<BorrowedFd<'_>>; 2] {
        self.events.each_ref().map(|events| events.as_ref().map(AsFd::as_fd))
    }

    /// Looks; gives how many processes were killed for want of memory since the last look.
    pub fn look(&mut self) -> u64 {
        let dir = self.cgroup.dir.as_fd();
        let number = |file: &str| single(dir, file).filter(|number| *number != u64::MAX);
        let [kills, refused] = [(0, "oom_kill"), (1, "max")].map(|(place, key)| read(&mut self.events[place], key));
        let new = kills.unwrap_or(0).saturating_sub(self.hits.oom_kills);
        if new > 0 {
            self.hits.oom_kills += new;
            self.hits.memory_limit = number("memory.max").unwrap_or(self.hits.memory_limit);
            self.hits.memory_peak = number("memory.peak").unwrap_or(self.hits.memory_peak);
        }
        if let Some(refused) = refused.filter(|refused| *refused > self.hits.pids_refused) {
            self.hits.pids_refused = refused;
            self.hits.pids_limit = number("pids.max").unwrap_or(self.hits.pids_limit);
        }
        new
    }

    /// What there was at the last look.
    pub fn hits(&self) -> Hits {
        self.hits
    }
}

/// The number that `key` has; where the file is gone, with its cgroup, nothing more can happen there.
fn read(events: &mut Option<File>, key: &str) -> Option<u64> {
    let mut text = String::new();
    let file = events.as_mut()?;
    if file.rewind().and_then(|()| file.read_to_string(&mut text)).is_err() {
        *events = None;
    }
    value(&text, key)
}
