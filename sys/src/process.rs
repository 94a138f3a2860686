//! Attributes of this process: prctl(2), setsid(2), umask(2).
#![allow(unsafe_code)]

use std::io;
use std::path::Path;

use crate::errno;
use crate::signal::Signal;

/// Begins a session of its own.
pub fn new_session() -> io::Result<()> {
    rustix::process::setsid()?;
    Ok(())
}

/// Asks for this signal when the parent's thread ends (PR_SET_PDEATHSIG). A change of credentials clears it.
pub fn signal_at_parent_death(signal: Signal) -> io::Result<()> {
    // SAFETY: plain integers.
    errno::check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal.number(), 0, 0, 0) })
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

/// The NIS domain name of this UTS namespace.
pub fn set_domainname(name: &str) -> io::Result<()> {
    Ok(rustix::system::setdomainname(name.as_bytes())?)
}

/// Changes the current directory.
pub fn change_directory(path: &Path) -> io::Result<()> {
    Ok(rustix::process::chdir(path)?)
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

/// The kernel's release, as uname(2) tells it: "6.1.0-18-amd64".
pub fn kernel_release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}
