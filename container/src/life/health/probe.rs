//! One check that runs: a process of rbox's own that runs the command in the container, waits for it, and reaps it.
//!
//! It does what takes time, so that who wants the check done can go on with other things. It is the one that ends the
//! command where it must: were it killed itself, nobody would reap what it has in the container's pid namespace, which
//! then could not end.

use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread;
use std::time::Instant;

use jiff::Timestamp;
use rbox_runtime::Streams;
use rbox_sys::clone::{self, Child, Ended, Forked, Namespaces, signal_pidfd};
use rbox_sys::poll::{self, Interest};
use rbox_sys::signal::{Signal, SignalFd};
use rbox_sys::{fd, process, tty};

use super::Checked;
use crate::life::beside::{Beside, Container};
use crate::request::ExecRequest;
use crate::settings::HealthCheck;
use crate::{Error, with_causes};

/// As lists of processes show it.
const NAME: &std::ffi::CStr = c"rbox-health";

/// Bytes of what a check prints that are kept (Docker's).
const LONGEST: usize = 4096;

/// A check that runs. Dropped, it is ended.
pub(crate) struct Probe {
    child: Child,
    /// None when all other ends are closed.
    output: Option<File>,
    printed: Vec<u8>,
    is_cut: bool,
    start: Timestamp,
    deadline: Instant,
    /// What is said where the time is over.
    too_long: String,
    timed_out: bool,
    is_over: bool,
}

impl Probe {
    /// Begins a check of the container whose first process has this pidfd.
    pub(crate) fn begin(check: &HealthCheck, container: Container<'_>, pidfd: BorrowedFd<'_>) -> io::Result<Self> {
        let command = check.command().unwrap_or_default();
        let (ours, theirs) = io::pipe()?;
        fd::set_nonblocking(&ours)?;
        let deadline = Instant::now() + check.timeout();
        let too_long = format!("Health check exceeded timeout ({:?})", check.timeout());
        let child = match clone::fork_into(Namespaces::NONE)? {
            Forked::Child => {
                let _ = process::set_name(NAME);
                let place_theirs = |()| (1..3).try_for_each(|place| tty::replace_stdio(theirs.as_fd(), place));
                if tty::replace_stdio_by_null(0..1).and_then(place_theirs).is_err() {
                    process::exit_at_once(rbox_types::Exit::RBOX_FAILED);
                }
                let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
                // Of nothing that its parent serves: the other end would not see it closed.
                let kept = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd(), pidfd];
                let _ = process::keep_only(kept, || live(container, pidfd, command));
                process::exit_at_once(rbox_types::Exit::RBOX_FAILED)
            }
            Forked::Parent(child) => child,
        };
        Ok(Self {
            child,
            output: Some(File::from(OwnedFd::from(ours))),
            printed: Vec::new(),
            is_cut: false,
            start: Timestamp::now(),
            deadline,
            too_long,
            timed_out: false,
            is_over: false,
        })
    }

    /// What is to be waited for: its end, and what it prints.
    pub(crate) fn interests(&self) -> impl Iterator<Item = (BorrowedFd<'_>, Interest)> {
        let output = self.output.as_ref().map(|output| (output.as_fd(), Interest::Read));
        std::iter::once((self.child.as_fd(), Interest::Read)).chain(output)
    }

    /// When there is something to do, whatever happens.
    pub(crate) fn due(&self) -> Option<Instant> {
        (!self.timed_out).then_some(self.deadline)
    }

    /// Goes on with it; gives what it has found when it is over. `has_ended` is the first of
    /// [`interests`](Self::interests).
    pub(crate) fn go_on(&mut self, has_ended: bool) -> io::Result<Option<Checked>> {
        self.read();
        if !has_ended {
            if !self.timed_out && Instant::now() >= self.deadline {
                self.timed_out = true;
                self.child.signal(Signal::TERM)?;
            }
            return Ok(None);
        }
        self.is_over = true;
        let (exit_code, output) = match (self.child.wait()?, self.timed_out) {
            (_, true) if self.printed.is_empty() => (-1, self.too_long.clone()),
            (_, true) => (-1, format!("{}: {}", self.too_long, self.said())),
            (Ended::Exited(code), false) => (code.into(), self.said()),
            (Ended::Signaled(signal), false) => (128 + signal, self.said()),
        };
        Ok(Some(Checked { start: self.start, end: Timestamp::now(), exit_code, output }))
    }

    /// Reads what is there, and keeps the beginning. What the command has left running may have the other end for ever.
    fn read(&mut self) {
        let mut buffer = [0; 4 * LONGEST];
        let Some(output) = &mut self.output else { return };
        match output.read(&mut buffer) {
            Ok(length @ 1..) => {
                let kept = length.min(LONGEST - self.printed.len());
                self.printed.extend_from_slice(&buffer[..kept]);
                self.is_cut |= kept < length;
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Ok(0) | Err(_) => self.output = None,
        }
    }

    fn said(&self) -> String {
        let text = String::from_utf8_lossy(&self.printed);
        if self.is_cut { format!("{text}...") } else { text.into_owned() }
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        if !self.is_over {
            let _ = self.child.signal(Signal::TERM);
            let _ = self.child.wait();
        }
    }
}

/// What the process does; nothing of its parent is used any more.
fn live(container: Container<'_>, pidfd: BorrowedFd<'_>, command: Vec<String>) -> Infallible {
    let status = run(container, pidfd, command).unwrap_or_else(|error| {
        eprintln!("{}", with_causes(&error));
        // To Docker and Podman a check that does not run is one that fails.
        error.status()
    });
    process::exit_at_once(status)
}

fn run(container: Container<'_>, pidfd: BorrowedFd<'_>, command: Vec<String>) -> Result<u8, Error> {
    let failed = |operation| Error::io(operation, "the health check");
    let signals = SignalFd::of_forwarded().map_err(failed("wait for signals to"))?;
    let beside = Beside::begin(container, pidfd)?;
    let process = fd::duplicate(&beside).map_err(failed("begin"))?;
    // Beside the start too: a container that is frozen does not even get so far.
    thread::spawn(move || end_when_asked(&signals, &process));
    let running = beside.start(&ExecRequest::of(command), None, Streams::NoInput, false)?;
    Ok(running.wait().map_err(failed("wait for"))?.status())
}

fn end_when_asked(signals: &SignalFd, process: &OwnedFd) {
    loop {
        if poll::wait([(signals.as_fd(), Interest::Read)], None).is_err() {
            return;
        }
        while let Ok(Some(signal)) = signals.read() {
            if [Signal::TERM, Signal::INT, Signal::QUIT, Signal::HUP].contains(&signal) {
                let _ = signal_pidfd(process, Signal::KILL);
            }
        }
    }
}
