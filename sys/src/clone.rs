//! New processes in new namespaces: clone3(2), unshare(2), setns(2), pidfd_open(2).
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use rustix::process::{PidfdFlags, WaitId, WaitIdOptions, WaitIdStatus, WaitOptions};

use crate::signal::Signal;
use crate::{errno, process};

/// A set of namespace kinds (namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Namespaces(u32);

impl Namespaces {
    /// None at all.
    pub const NONE: Self = Self(0);
    /// Ids and capabilities, user_namespaces(7).
    pub const USER: Self = Self(libc::CLONE_NEWUSER as u32);
    /// Process ids, pid_namespaces(7). Made by clone3 the child is pid 1 of it.
    pub const PID: Self = Self(libc::CLONE_NEWPID as u32);
    /// Mounts, mount_namespaces(7).
    pub const MOUNT: Self = Self(libc::CLONE_NEWNS as u32);
    /// Network devices and sockets, network_namespaces(7).
    pub const NET: Self = Self(libc::CLONE_NEWNET as u32);
    /// Host and domain name, uts_namespaces(7).
    pub const UTS: Self = Self(libc::CLONE_NEWUTS as u32);
    /// System V IPC and POSIX message queues, ipc_namespaces(7).
    pub const IPC: Self = Self(libc::CLONE_NEWIPC as u32);
    /// The root of /proc/self/cgroup, cgroup_namespaces(7).
    pub const CGROUP: Self = Self(libc::CLONE_NEWCGROUP as u32);

    /// What the monotonic and the boot-time clock show, time_namespaces(7). Not for clone3: unshare(2) makes one for the
    /// caller's children.
    pub const TIME: Self = Self(libc::CLONE_NEWTIME as u32);

    /// The set with these bits of `CLONE_NEW*`.
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// The bits of `CLONE_NEW*`.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Those of either set.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those of `self` that are not in `other`.
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Those that are in both.
    pub const fn within(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether all of `other` are in `self`.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Which side of [`fork_into`] this is.
pub enum Forked {
    /// The new process, in the new namespaces, with a copy of everything its parent had.
    Child,
    /// The caller.
    Parent(Child),
}

/// A child process, known by a pidfd: the number cannot be taken by somebody else while this lives.
#[derive(Debug)]
pub struct Child {
    pid: u32,
    pidfd: OwnedFd,
}

/// Makes a child in these new namespaces.
///
/// The child goes on with the whole program, which is only sound in a process of a single thread: another thread
/// may hold the allocator's lock, and nobody would give it back. With more threads this fails with `EDEADLK`.
pub fn fork_into(namespaces: Namespaces) -> io::Result<Forked> {
    fork(namespaces, 0, libc::SIGCHLD, None)
}

/// As [`fork_into`], but the child is in this cgroup from its beginning (CLONE_INTO_CGROUP, Linux 5.7). EACCES: it may not be
/// moved there; EBUSY: that cgroup gives controllers to others below it.
pub fn fork_into_cgroup(namespaces: Namespaces, cgroup: BorrowedFd<'_>) -> io::Result<Forked> {
    fork(namespaces, 0, libc::SIGCHLD, Some(cgroup))
}

/// As [`fork_into`], but the child is one of the caller's parent, which learns of its end. In the namespaces that the
/// caller's children get (setns(2), "CLONE_NEWPID").
pub fn fork_sibling_into(namespaces: Namespaces) -> io::Result<Forked> {
    // The signal is the one that the caller's own end has (clone(2), CLONE_PARENT).
    fork(namespaces, libc::CLONE_PARENT, 0, None)
}

/// linux/sched.h.
const CLONE_INTO_CGROUP: u64 = 1 << 33;

fn fork(
    namespaces: Namespaces,
    flags: libc::c_int,
    exit_signal: libc::c_int,
    cgroup: Option<BorrowedFd<'_>>,
) -> io::Result<Forked> {
    Alone::check()?;
    let mut pidfd: libc::c_int = -1;
    // SAFETY: a clone_args of zeros is valid.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = u64::from(namespaces.0) | libc::CLONE_PIDFD as u64 | flags as u64;
    args.pidfd = &raw mut pidfd as u64;
    args.exit_signal = exit_signal as u64;
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM the child has its own copy of memory, as after fork(2), and runs on the same stack
    // addresses; there is one thread, so no lock is left held. That thread's number as glibc remembers it is the parent's
    // still, which matters for robust and recursive mutexes of pthreads; there are none. The kernel writes `pidfd` before
    // it returns.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Forked::Child),
        // SAFETY: clone3 succeeded with CLONE_PIDFD, so `pidfd` is a descriptor that nobody else owns.
        pid => Ok(Forked::Parent(Child { pid: pid as u32, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } })),
    }
}

/// That this process has one thread.
///
/// For who forks under a filter on system calls, which may forbid to ask for that, and may not know clone3(2), which
/// [`fork_into`] takes.
pub struct Alone(());

impl Alone {
    /// Fails in a process with more threads.
    pub fn check() -> io::Result<Self> {
        if has_one_thread() { Ok(Self(())) } else { Err(io::Error::from_raw_os_error(libc::EDEADLK)) }
    }

    /// fork(2). Gives the child's process id; in the child, none. The child has one thread too.
    pub fn fork(self) -> io::Result<Option<u32>> {
        // SAFETY: there is one thread, so the child finds no lock held by one that it has not.
        match unsafe { libc::fork() } {
            -1 => Err(io::Error::last_os_error()),
            0 => Ok(None),
            pid => Ok(Some(pid as u32)),
        }
    }
}

/// Moves the calling thread into new namespaces of these kinds; a user namespace only in a process of one thread.
pub fn unshare(namespaces: Namespaces) -> io::Result<()> {
    // SAFETY: no flag of `Namespaces` unshares file descriptors or memory, which is what makes this call unsafe.
    errno::check(unsafe { libc::unshare(namespaces.0 as libc::c_int) })
}

/// Moves the calling thread into the namespace that `file` refers to, which must be of this kind; or into those of these
/// kinds that the process of a pidfd has (Linux 5.8), into all of them or into none.
pub fn enter(file: impl AsFd, kind: Namespaces) -> io::Result<()> {
    // SAFETY: no kind of `Namespaces` has file descriptors or memory in it.
    errno::check(unsafe { libc::setns(file.as_fd().as_raw_fd(), kind.0 as libc::c_int) })
}

/// Whether the calling thread is the only one of this process. The kernel is asked, and not /proc, which need not be this
/// pid namespace's, or the kernel's at all.
fn has_one_thread() -> bool {
    // One that has been joined lets its joiner go on before it is quite gone; on a busy machine, long before.
    const LOOKS: u32 = 300;
    (0..LOOKS).any(|look| {
        // SAFETY: in a process of one thread this flag does nothing, and in others it is refused (unshare(2)).
        let alone = unsafe { libc::unshare(libc::CLONE_THREAD) } == 0;
        if !alone {
            std::thread::sleep(Duration::from_micros(10 * u64::from(look)));
        }
        alone
    })
}

impl Child {
    /// A child that was made in another way, or by another process on this one's behalf ([`fork_sibling_into`]).
    pub fn adopted(pid: u32, pidfd: OwnedFd) -> Self {
        Self { pid, pidfd }
    }

    /// The process id, as the caller's pid namespace numbers it.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The same child, with the number that /proc has for it. That of a caller in a pid namespace of its own may be of an
    /// outer one.
    pub fn as_proc_numbers_it(self) -> io::Result<Self> {
        Ok(Self { pid: self.number_in_proc()?, ..self })
    }

    fn number_in_proc(&self) -> io::Result<u32> {
        // As /proc numbers a process, so it does in what it says of a pidfd (proc_pid_fdinfo(5)).
        let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", self.pidfd.as_raw_fd()))?;
        let number = text.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok());
        number.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Whether it has ended or is ending, and [`wait`](Self::wait) returns at once or soon. Whoever notices that something
    /// which it has had open is closed finds that it is.
    pub fn is_ending(&self) -> io::Result<bool> {
        process::is_ending(self.number_in_proc()?)
    }

    /// Sends a signal; a child that has ended already is no error.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        signal_pidfd(&self.pidfd, signal)
    }

    /// Waits until the child has ended.
    pub fn wait(&self) -> io::Result<Ended> {
        loop {
            match rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED) {
                Ok(Some(status)) => return Ok(Ended::from_status(&status)),
                Ok(None) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// A child's end, as wait(2) reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// exit(2) with this status.
    Exited(u8),
    /// Ended by this signal.
    Signaled(i32),
}

impl Ended {
    fn from_status(status: &WaitIdStatus) -> Self {
        match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Self::Exited(code as u8),
            (None, Some(signal)) => Self::Signaled(signal),
            (None, None) => unreachable!("waitid with WEXITED reports ends only"),
        }
    }
}

/// Reaps a child of this process that has ended, whichever it is; none where all go on.
pub fn reap() -> Option<(u32, Ended)> {
    let (pid, status) = rustix::process::wait(WaitOptions::NOHANG).ok().flatten()?;
    let ended = match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Ended::Exited(code as u8),
        (None, signal) => Ended::Signaled(signal?),
    };
    Some((pid.as_raw_pid().unsigned_abs(), ended))
}

/// Readable once the child has ended.
impl AsFd for Child {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// A pidfd for some process, pidfd_open(2).
pub fn open_pidfd(pid: u32) -> io::Result<OwnedFd> {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    Ok(rustix::process::pidfd_open(pid, PidfdFlags::empty())?)
}

/// Sends a signal to the process of a pidfd (pidfd_send_signal(2)); one that has ended already is no error.
pub fn signal_pidfd(pidfd: impl AsFd, signal: Signal) -> io::Result<()> {
    let no_info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: plain integers and a null siginfo.
    let result =
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_fd().as_raw_fd(), signal.number(), no_info, 0) };
    match result {
        0 => Ok(()),
        _ => match io::Error::last_os_error() {
            gone if gone.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            error => Err(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_threads_is_not_forked() {
        // The test harness runs each test in a thread of its own.
        let Err(error) = fork_into(Namespaces::NONE) else { panic!("forked with threads") };
        assert_eq!(error.raw_os_error(), Some(libc::EDEADLK));
    }

    #[test]
    fn sets() {
        let set = Namespaces::USER.and(Namespaces::NET);
        assert!(set.has(Namespaces::NET) && !set.has(Namespaces::PID));
        assert_eq!(set.without(Namespaces::NET), Namespaces::USER);
    }
}
