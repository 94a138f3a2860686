//! Limits of a process: prlimit(2).
#![allow(unsafe_code)]

use std::io;

use crate::errno;

/// What is limited: the number of a `RLIMIT_*` (getrlimit(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Resource(u32);

/// The limit in force, and the one up to which a process may raise it. `u64::MAX` is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// In force.
    pub soft: u64,
    /// Its ceiling.
    pub hard: u64,
}

#[allow(clippy::unnecessary_cast, reason = "the constants' type differs between C libraries")]
impl Resource {
    /// Seconds of processor time.
    pub const CPU: Self = Self(libc::RLIMIT_CPU as u32);
    /// Bytes of a file that is written.
    pub const FSIZE: Self = Self(libc::RLIMIT_FSIZE as u32);
    /// Bytes of data segment.
    pub const DATA: Self = Self(libc::RLIMIT_DATA as u32);
    /// Bytes of stack.
    pub const STACK: Self = Self(libc::RLIMIT_STACK as u32);
    /// Bytes of a core file.
    pub const CORE: Self = Self(libc::RLIMIT_CORE as u32);
    /// Without effect since Linux 2.4.30.
    pub const RSS: Self = Self(libc::RLIMIT_RSS as u32);
    /// Processes of the user.
    pub const NPROC: Self = Self(libc::RLIMIT_NPROC as u32);
    /// One more than the highest descriptor.
    pub const NOFILE: Self = Self(libc::RLIMIT_NOFILE as u32);
    /// Bytes of locked memory.
    pub const MEMLOCK: Self = Self(libc::RLIMIT_MEMLOCK as u32);
    /// Bytes of address space.
    pub const AS: Self = Self(libc::RLIMIT_AS as u32);
    /// Without effect since Linux 2.4.25.
    pub const LOCKS: Self = Self(libc::RLIMIT_LOCKS as u32);
    /// Queued signals of the user.
    pub const SIGPENDING: Self = Self(libc::RLIMIT_SIGPENDING as u32);
    /// Bytes in POSIX message queues of the user.
    pub const MSGQUEUE: Self = Self(libc::RLIMIT_MSGQUEUE as u32);
    /// 20 less the lowest nice value.
    pub const NICE: Self = Self(libc::RLIMIT_NICE as u32);
    /// The highest real-time priority.
    pub const RTPRIO: Self = Self(libc::RLIMIT_RTPRIO as u32);
    /// Microseconds of processor time without a blocking call, of a real-time thread.
    pub const RTTIME: Self = Self(libc::RLIMIT_RTTIME as u32);

    /// The one with this number.
    pub const fn from_number(number: u32) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn number(self) -> u32 {
        self.0
    }
}

/// A limit of the process `pid`, or of this one.
pub fn get(pid: Option<u32>, resource: Resource) -> io::Result<Limit> {
    let mut old = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    prlimit(pid, resource, std::ptr::null(), &raw mut old)?;
    Ok(Limit { soft: old.rlim_cur, hard: old.rlim_max })
}

/// Sets a limit of the process `pid`, or of this one. EPERM: to raise the ceiling takes CAP_SYS_RESOURCE in the initial
/// user namespace.
pub fn set(pid: Option<u32>, resource: Resource, limit: Limit) -> io::Result<()> {
    let new = libc::rlimit64 { rlim_cur: limit.soft, rlim_max: limit.hard };
    prlimit(pid, resource, &raw const new, std::ptr::null_mut())
}

/// Raises a limit of this process to its ceiling; gives what it is then.
pub fn raise(resource: Resource) -> io::Result<u64> {
    let limit = get(None, resource)?;
    set(None, resource, Limit { soft: limit.hard, ..limit })?;
    Ok(limit.hard)
}

fn prlimit(
    pid: Option<u32>,
    resource: Resource,
    new: *const libc::rlimit64,
    old: *mut libc::rlimit64,
) -> io::Result<()> {
    let pid = pid.unwrap_or(0) as libc::pid_t;
    // SAFETY: each pointer is null or one to a whole rlimit64 of the caller's.
    errno::check(unsafe { libc::syscall(libc::SYS_prlimit64, pid, resource.0, new, old) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_is_what_get_gets() {
        // No other test of this program writes core files.
        let before = get(None, Resource::CORE).expect("prlimit");
        let new = Limit { soft: 0, hard: before.hard };
        set(Some(std::process::id()), Resource::CORE, new).expect("prlimit");
        assert_eq!(get(None, Resource::CORE).expect("prlimit"), new);
        set(None, Resource::CORE, before).expect("prlimit");
        let wrong = set(None, Resource::CORE, Limit { soft: 2, hard: 1 }).expect_err("above its ceiling");
        assert_eq!(wrong.kind(), io::ErrorKind::InvalidInput);
    }
}
