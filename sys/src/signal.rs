//! Signals as readable events: signalfd(2), sigwaitinfo(2), sigprocmask(2).
#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// A signal's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signal(i32);

impl Signal {
    /// Lets a stopped process go on.
    pub const CONT: Self = Self(libc::SIGCONT);
    /// Stops a process, and cannot be caught.
    pub const STOP: Self = Self(libc::SIGSTOP);
    /// Terminal hang-up.
    pub const HUP: Self = Self(libc::SIGHUP);
    /// A child has ended or stopped.
    pub const CHLD: Self = Self(libc::SIGCHLD);
    /// Ctrl-C.
    pub const INT: Self = Self(libc::SIGINT);
    /// Cannot be caught.
    pub const KILL: Self = Self(libc::SIGKILL);
    /// Asks to end.
    pub const TERM: Self = Self(libc::SIGTERM);
    /// Ctrl-\.
    pub const QUIT: Self = Self(libc::SIGQUIT);
    /// The terminal's size changed.
    pub const WINCH: Self = Self(libc::SIGWINCH);

    /// The signal of this number or name: `9`, `KILL`, `SIGKILL`, `RTMIN+1`.
    pub fn parse(text: &str) -> Option<Self> {
        if let Ok(number) = text.parse() {
            return (1..=libc::SIGRTMAX()).contains(&number).then_some(Self(number));
        }
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        if let Some((_, number)) = NAMES.iter().find(|(known, _)| *known == name) {
            return Some(Self(*number));
        }
        let real_time = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
            (Some(""), _) => libc::SIGRTMIN(),
            (Some(plus), _) => libc::SIGRTMIN() + plus.strip_prefix('+')?.parse::<i32>().ok()?,
            (_, Some("")) => libc::SIGRTMAX(),
            (_, Some(minus)) => libc::SIGRTMAX() - minus.strip_prefix('-')?.parse::<i32>().ok()?,
            _ => return None,
        };
        (libc::SIGRTMIN()..=libc::SIGRTMAX()).contains(&real_time).then_some(Self(real_time))
    }

    /// Its name with the prefix: `SIGTERM`, `SIGRTMIN+1`. [`parse`](Self::parse) reads it.
    pub fn name(self) -> String {
        match NAMES.iter().find(|(_, number)| *number == self.0) {
            Some((name, _)) => format!("SIG{name}"),
            None if self.0 >= libc::SIGRTMIN() => format!("SIGRTMIN+{}", self.0 - libc::SIGRTMIN()),
            None => self.0.to_string(),
        }
    }

    /// As kill(2) takes it.
    pub const fn number(self) -> i32 {
        self.0
    }
}

/// Sends a signal to every process of this pid namespace that this one may signal, but the first one and itself; in one
/// step, in which none of them can fork unseen (kill(2)). That there is none is no error.
pub fn send_to_all_others(signal: Signal) -> io::Result<()> {
    // SAFETY: plain integers.
    match unsafe { libc::kill(-1, signal.number()) } {
        0 => Ok(()),
        _ => match io::Error::last_os_error() {
            none if none.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            error => Err(error),
        },
    }
}

/// signal(7), without the prefix.
const NAMES: [(&str, i32); 32] = [
    ("HUP", libc::SIGHUP),
    ("INT", libc::SIGINT),
    ("QUIT", libc::SIGQUIT),
    ("ILL", libc::SIGILL),
    ("TRAP", libc::SIGTRAP),
    ("ABRT", libc::SIGABRT),
    ("IOT", libc::SIGABRT),
    ("BUS", libc::SIGBUS),
    ("FPE", libc::SIGFPE),
    ("KILL", libc::SIGKILL),
    ("USR1", libc::SIGUSR1),
    ("SEGV", libc::SIGSEGV),
    ("USR2", libc::SIGUSR2),
    ("PIPE", libc::SIGPIPE),
    ("ALRM", libc::SIGALRM),
    ("TERM", libc::SIGTERM),
    ("STKFLT", libc::SIGSTKFLT),
    ("CHLD", libc::SIGCHLD),
    ("CONT", libc::SIGCONT),
    ("STOP", libc::SIGSTOP),
    ("TSTP", libc::SIGTSTP),
    ("TTIN", libc::SIGTTIN),
    ("TTOU", libc::SIGTTOU),
    ("URG", libc::SIGURG),
    ("XCPU", libc::SIGXCPU),
    ("XFSZ", libc::SIGXFSZ),
    ("VTALRM", libc::SIGVTALRM),
    ("PROF", libc::SIGPROF),
    ("WINCH", libc::SIGWINCH),
    ("IO", libc::SIGIO),
    ("PWR", libc::SIGPWR),
    ("SYS", libc::SIGSYS),
];

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

/// Whether this process was started with the signal ignored, as nohup(1) does it with SIGHUP. Nobody does it with a
/// real-time signal, of which there are more than of all others.
fn is_ignored(number: i32) -> bool {
    if number >= libc::SIGRTMIN() {
        return false;
    }
    let mut now = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: without a new action sigaction only writes the present one; where it fails, nothing is read.
    unsafe {
        libc::sigaction(number, std::ptr::null(), now.as_mut_ptr()) == 0
            && now.assume_init_ref().sa_sigaction == libc::SIG_IGN
    }
}

/// The forwarded signals, blocked and readable here instead, until this is dropped.
pub struct SignalFd {
    fd: OwnedFd,
    before: libc::sigset_t,
}

impl SignalFd {
    /// Blocks the signals that a supervisor hands on, and opens a descriptor that reads them.
    pub fn of_forwarded() -> io::Result<Self> {
        let (fd, before) = blocked(|number| is_forwarded(number) && !is_ignored(number))?;
        Ok(Self { fd, before })
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

/// Blocks one signal for good, and gives a descriptor that is readable once it was sent.
pub fn take(signal: Signal) -> io::Result<OwnedFd> {
    Ok(blocked(|number| number == signal.0)?.0)
}

/// Blocks signals; gives a descriptor that reads them, and what was blocked before.
fn blocked(is_one: impl Fn(i32) -> bool) -> io::Result<(OwnedFd, libc::sigset_t)> {
    let mut set = MaybeUninit::uninit();
    let mut before = MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the set that sigaddset fills; both pointers are valid.
    let (fd, before) = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for number in (1..=libc::SIGRTMAX()).filter(|number| is_one(*number)) {
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
    Ok((unsafe { OwnedFd::from_raw_fd(fd) }, before))
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

/// Gives all signals but SIGPIPE their default action back: those that the caller ignores, as SIGHUP after nohup(1), would
/// stay so over execve(2).
pub fn reset_inherited() {
    for number in (1..=libc::SIGRTMAX()).filter(|number| *number != libc::SIGPIPE) {
        // SAFETY: installs no handler. SIGKILL, SIGSTOP and glibc's own two are refused, and have their default.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }
}

/// Gives SIGPIPE, which this program ignores, its default action back.
pub fn reset_pipe() {
    // SAFETY: installs no handler.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}

/// Has a write that goes beyond the largest size for files (RLIMIT_FSIZE) fail with EFBIG, instead of SIGXFSZ ending this
/// process.
pub fn ignore_file_size_limit() {
    // SAFETY: installs no handler.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// Blocks every signal, for [`wait`]. Faults of this process itself end it all the same.
pub fn block_all() {
    mask(&full());
}

/// Blocks no signal any more: a blocked one would stay so over execve(2).
pub fn unblock_all() {
    let mut none = MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the set.
    mask(&unsafe {
        libc::sigemptyset(none.as_mut_ptr());
        none.assume_init()
    });
}

/// Waits for the next signal of those that are blocked ([`block_all`]), and takes it.
pub fn wait() -> Signal {
    let all = full();
    loop {
        // EINTR, where there is no number: it was stopped and continued.
        // SAFETY: reads a whole set, and tells nothing but the number.
        if let number @ 1.. = unsafe { libc::sigwaitinfo(&raw const all, std::ptr::null_mut()) } {
            return Signal(number);
        }
    }
}

fn full() -> libc::sigset_t {
    let mut all = MaybeUninit::uninit();
    // SAFETY: sigfillset initialises the set.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        all.assume_init()
    }
}

fn mask(blocked: &libc::sigset_t) {
    // SAFETY: reads a whole set.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, blocked, std::ptr::null_mut()) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_number_and_by_name() {
        for (text, number) in [("9", 9), ("KILL", 9), ("SIGKILL", 9), ("sigterm", 15), ("WINCH", libc::SIGWINCH)] {
            assert_eq!(Signal::parse(text).map(Signal::number), Some(number), "{text}");
        }
        assert_eq!(Signal::parse("SIGRTMIN+2").map(Signal::number), Some(libc::SIGRTMIN() + 2));
        for text in ["", "0", "65", "-1", "SIG", "NOPE", "RTMIN+99", "RTMIN-1", "KILL "] {
            assert_eq!(Signal::parse(text), None, "{text:?}");
        }
    }
}
