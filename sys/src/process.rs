//! Attributes of this process: prctl(2), setsid(2), umask(2); and when a process began.
#![allow(unsafe_code)]

use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::errno;
use crate::signal::Signal;

/// Begins a session of its own.
pub fn new_session() -> io::Result<()> {
    rustix::process::setsid()?;
    Ok(())
}

/// Begins a process group of its own.
pub fn new_group() -> io::Result<()> {
    Ok(rustix::process::setpgid(None, None)?)
}

/// Asks for this signal when the parent's thread ends (PR_SET_PDEATHSIG). A change of credentials clears it.
pub fn signal_at_parent_death(signal: Signal) -> io::Result<()> {
    // SAFETY: plain integers.
    errno::check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal.number(), 0, 0, 0) })
}

/// Takes back [`set_undumpable`], also where it was the parent's.
pub fn set_dumpable() -> io::Result<()> {
    Ok(rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::Dumpable)?)
}

/// Hides /proc/self from processes of the same user (PR_SET_DUMPABLE), until the next execve(2).
pub fn set_undumpable() -> io::Result<()> {
    Ok(rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?)
}

/// The mask for the modes of files to be made; gives the one before.
pub fn set_umask(mask: u32) -> u32 {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(mask)).bits()
}

/// The host name of this UTS namespace.
pub fn set_hostname(name: &str) -> io::Result<()> {
    Ok(rustix::system::sethostname(name.as_bytes())?)
}

/// The host name of this UTS namespace, as it is.
pub fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The NIS domain name of this UTS namespace.
pub fn set_domainname(name: &str) -> io::Result<()> {
    Ok(rustix::system::setdomainname(name.as_bytes())?)
}

/// Changes the current directory. A path by way of a magic link, such as /proc/self/fd/7, is refused (ELOOP): it leads to
/// whatever this process has open, and that may lie outside its root (CVE-2024-21626).
pub fn change_directory(path: &Path) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = loop {
        match rustix::fs::openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS) {
            // Something was renamed meanwhile (openat2(2), "EAGAIN"): the kernel asks to try again.
            Err(Errno::AGAIN | Errno::INTR) => {}
            dir => break dir?,
        }
    };
    Ok(rustix::process::fchdir(dir)?)
}

/// Makes the current directory the root of this process (chroot(2)).
pub fn change_root_to_current_directory() -> io::Result<()> {
    rustix::process::chroot(".")?;
    Ok(rustix::process::chdir("/")?)
}

/// Changes the current directory to one that is open.
pub fn change_directory_to(dir: std::os::fd::BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::process::fchdir(dir)?)
}

/// Marks every descriptor from `first` on to be closed by the next execve(2) (close_range(2); the flag is of Linux
/// 5.11).
pub fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: only sets a flag; no descriptor is closed under its owner.
    errno::check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) })
}

/// Closes every descriptor but these, also those of the standard streams, and goes on without them for the rest of this
/// process's life. Returns only to say that they could not be closed.
pub fn keep_only<const N: usize>(kept: [BorrowedFd<'_>; N], life: impl FnOnce() -> Infallible) -> io::Error {
    keep_only_those_of(kept, |kept| kept.to_vec(), |_| life())
}

/// The same for a life that owns what is kept: `fds` says which those are.
pub fn keep_only_those_of<T>(
    owner: T,
    fds: impl FnOnce(&T) -> Vec<BorrowedFd<'_>>,
    life: impl FnOnce(T) -> Infallible,
) -> io::Error {
    let mut kept: Vec<u32> = fds(&owner).iter().map(|fd| fd.as_raw_fd().unsigned_abs()).collect();
    kept.sort_unstable();
    let Err(error) = close_around(&kept).map(|()| life(owner));
    error
}

fn close_around(kept: &[u32]) -> io::Result<()> {
    let mut first = 0;
    for next in kept.iter().copied().map(Some).chain([None]) {
        let last = next.map_or(u32::MAX, |next| next.wrapping_sub(1));
        // Between two that are neighbours there is nothing.
        if next != Some(first) {
            // SAFETY: owners of descriptors keep numbers that are nobody's, but `life`, which does not come back, is handed
            // those alone that stay, and the rest of this process never uses or drops the others.
            errno::check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) })?;
        }
        first = last.wrapping_add(2);
    }
    Ok(())
}

/// Ends this process at once: nothing is flushed, and nothing registered for the end is called.
pub fn exit_at_once(status: u8) -> ! {
    // SAFETY: there is nothing to keep.
    unsafe { libc::_exit(status.into()) }
}

/// This process by the number that /proc has for it, which may be of an outer pid namespace.
pub fn number_in_proc() -> io::Result<u32> {
    let number = std::fs::read_link("/proc/self")?.to_str().and_then(|number| number.parse().ok());
    number.ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// Whether /proc is of another pid namespace than this process's, and has other numbers than the kernel takes from it.
pub fn proc_numbers_otherwise() -> bool {
    number_in_proc().ok() != Some(std::process::id())
}

/// Sends a signal to the process of this number, which must be a child that this process has not reaped: only so does
/// the number stay that process's.
pub fn signal_child(pid: u32, signal: Signal) -> io::Result<()> {
    // SAFETY: plain integers.
    errno::check(unsafe { libc::kill(pid as libc::pid_t, signal.number()) })
}

/// Whether this process's parent is in another pid namespace, in which case it has no number here (pid_namespaces(7)).
pub fn parent_is_outside() -> bool {
    rustix::process::getppid().is_none()
}

/// Names this process in lists of them: 15 bytes at most.
pub fn set_name(name: &std::ffi::CStr) -> io::Result<()> {
    Ok(rustix::thread::set_name(name)?)
}

/// Whether the process `pid` has ended or is ending: what it has had open may be closed before it can be waited for. Those
/// that are gone have.
pub(crate) fn is_ending(pid: u32) -> io::Result<bool> {
    /// In field 9 of proc_pid_stat(5), as include/linux/sched.h has it since Linux 2.6.
    const PF_EXITING: u64 = 4;
    let flags = stat(pid)?.map(|fields| fields.get(6).and_then(|flags| flags.parse().ok()).unwrap_or(0));
    Ok(flags.is_none_or(|flags: u64| flags & PF_EXITING != 0))
}

/// When the process `pid` began, in clock ticks since boot (proc_pid_stat(5), field 22); none if it is gone or only waits
/// to be reaped.
pub fn began(pid: u32) -> io::Result<Option<u64>> {
    Ok(state_and_beginning(pid)?.filter(|(ended, _)| !ended).map(|(_, began)| began))
}

/// As [`began`], of a child of this process that may have ended and is not reaped.
pub fn child_began(pid: u32) -> io::Result<Option<u64>> {
    Ok(state_and_beginning(pid)?.map(|(_, began)| began))
}

/// Whether it has ended, and when it began.
fn state_and_beginning(pid: u32) -> io::Result<Option<(bool, u64)>> {
    let Some(fields) = stat(pid)? else { return Ok(None) };
    let (Some(state), Some(began)) = (fields.first(), fields.get(19)) else { return Ok(None) };
    Ok(began.parse().ok().map(|began| (matches!(state.as_str(), "Z" | "X"), began)))
}

/// The fields of /proc/PID/stat from the third one on; none if the process is gone.
fn stat(pid: u32) -> io::Result<Option<Vec<String>>> {
    // One read gives all that there is.
    let mut buffer = [0; 4096];
    let read = File::open(format!("/proc/{pid}/stat")).and_then(|mut stat| stat.read(&mut buffer));
    let length = match read {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(None),
        length => length?,
    };
    let stat = String::from_utf8_lossy(&buffer[..length]);
    // The second field is the program's name in parentheses, and may hold anything.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    Ok(Some(fields.map(str::to_owned).collect()))
}

/// The kernel's release, as uname(2) tells it: "6.1.0-18-amd64".
pub fn kernel_release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Now, as [`began`] counts.
    fn ticks_since_boot() -> u64 {
        // What USER_HZ is for all programs; sysconf(3) says the same.
        const TICK_MS: u128 = 10;
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        (std::time::Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec as u32).as_millis() / TICK_MS) as u64
    }

    #[test]
    fn this_process_has_begun() {
        let began = began(std::process::id()).expect("read").expect("it lives");
        let now = ticks_since_boot();
        // Within the day: what it is counted in is the same.
        assert!(began <= now && now - began < 24 * 60 * 60 * 100, "{began} {now}");
        // No process has the largest number there can be.
        assert_eq!(super::began(i32::MAX as u32).expect("read"), None);
    }
}
