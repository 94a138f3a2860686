//! Which process is meant, from one command of rbox to the next.

use std::io;
use std::os::fd::OwnedFd;

use rbox_sys::clone::open_pidfd;
use rbox_sys::process;
use serde::{Deserialize, Serialize};

/// A process that cannot be taken for a later one with the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// Its number, as the host has it.
    pub pid: u32,
    /// When it began, in clock ticks since boot (proc_pid_stat(5), field 22).
    pub started: u64,
}

impl ProcessId {
    /// A child of this process that is not reaped. It may have ended: why, it has told, and who asks here has not heard yet.
    pub fn of_child(pid: u32) -> io::Result<Self> {
        let started = process::child_began(pid)?.ok_or(io::ErrorKind::NotFound)?;
        Ok(Self { pid, started })
    }

    /// This process, by the number that /proc has for it.
    pub fn of_self() -> io::Result<Self> {
        let pid = process::number_in_proc()?;
        let started = process::began(pid)?.ok_or(io::ErrorKind::NotFound)?;
        Ok(Self { pid, started })
    }

    /// Whether it has not ended.
    pub fn lives(self) -> bool {
        process::began(self.pid).ok().flatten() == Some(self.started)
    }

    /// A descriptor of it, if it lives.
    pub fn open(self) -> io::Result<Option<OwnedFd>> {
        let pidfd = match open_pidfd(self.pid) {
            Err(error) if error.raw_os_error() == Some(rbox_sys::Errno::SRCH.raw_os_error()) => return Ok(None),
            pidfd => pidfd?,
        };
        // Asked after it was opened: from here on the number is his.
        Ok(self.lives().then_some(pidfd))
    }
}
