//! Signals as readable events: signalfd(2), sigprocmask(2).
#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// A signal's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signal(i32);

impl Signal {
    /// Terminal hang-up.
    pub const HUP: Self = Self(libc::SIGHUP);
    /// Ctrl-C.
    pub const INT: Self = Self(libc::SIGINT);
    /// Cannot be caught.
    pub const KILL: Self = Self(libc::SIGKILL);
    /// Asks to end.
    pub const TERM: Self = Self(libc::SIGTERM);
    /// The terminal's size changed.
    pub const WINCH: Self = Self(libc::SIGWINCH);

    /// As kill(2) takes it.
    pub const fn number(self) -> i32 {
        self.0
    }
}

/// The signals that a supervisor hands on to its workload: all that can be caught, but for those that report a
/// fault of the supervisor itself, its children, or its own terminal's job control.
fn is_forwarded(number: i32) -> bool {
    !matches!(
        number,
        libc::SIGKILL
            | libc::SIGSTOP
            | libc::SIGSEGV
            | libc::SIGBUS
            | libc::SIGILL
            | libc::SIGFPE
            | libc::SIGABRT
            | libc::SIGTRAP
            | libc::SIGSYS
            | libc::SIGCHLD
            | libc::SIGPIPE
            | libc::SIGTSTP
            | libc::SIGTTIN
            | libc::SIGTTOU
            | libc::SIGURG
    )
}

/// The forwarded signals, blocked and readable here instead, until this is dropped.
pub struct SignalFd {
    fd: OwnedFd,
    before: libc::sigset_t,
}

impl SignalFd {
    /// Blocks the signals that a supervisor hands on, and opens a descriptor that reads them.
    pub fn of_forwarded() -> io::Result<Self> {
        let mut set = MaybeUninit::uninit();
        let mut before = MaybeUninit::uninit();
        // SAFETY: sigemptyset initialises the set that sigaddset fills; both pointers are valid.
        let (fd, before) = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            for number in (1..=libc::SIGRTMAX()).filter(|number| is_forwarded(*number)) {
                // The two numbers that glibc keeps for itself are refused; nobody sends them.
                libc::sigaddset(set.as_mut_ptr(), number);
            }
            if libc::sigprocmask(libc::SIG_BLOCK, set.as_ptr(), before.as_mut_ptr()) != 0 {
                return Err(io::Error::last_os_error());
            }
            (libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK), before.assume_init())
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: signalfd made it just now and nobody else owns it.
        Ok(Self { fd: unsafe { OwnedFd::from_raw_fd(fd) }, before })
    }

    /// The next signal that waits, if any.
    pub fn read(&self) -> io::Result<Option<Signal>> {
        let mut info = MaybeUninit::<libc::signalfd_siginfo>::uninit();
        // SAFETY: the kernel writes whole signalfd_siginfo records of this size.
        let read = unsafe { libc::read(self.fd.as_raw_fd(), info.as_mut_ptr().cast(), size_of_val(&info)) };
        if read == size_of_val(&info) as isize {
            // SAFETY: the whole record was written.
            return Ok(Some(Signal(unsafe { info.assume_init() }.ssi_signo as i32)));
        }
        match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            error => Err(error),
        }
    }
}

impl Drop for SignalFd {
    fn drop(&mut self) {
        // SAFETY: `before` is the mask that sigprocmask gave.
        unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const self.before, std::ptr::null_mut()) };
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Gives SIGPIPE its default action back: Rust's runtime ignores it, and an ignored signal stays so over execve(2).
pub fn reset_sigpipe() {
    // SAFETY: installs no handler.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}

/// Blocks no signal any more: a blocked one would stay so over execve(2).
pub fn unblock_all() {
    let mut none = MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the set that sigprocmask then reads.
    unsafe {
        libc::sigemptyset(none.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut());
    }
}
