//! A container's first process, from outside.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rbox_sys::clone::{Child, Ended};
use rbox_sys::signal::Signal;
use rbox_types::Exit;

/// A container whose first process is the workload.
#[derive(Debug)]
pub struct Running {
    first: FirstProcess,
    console: Option<OwnedFd>,
}

/// Killed and reaped when dropped, unless it was let go.
#[derive(Debug)]
pub(crate) struct FirstProcess(Option<Child>);

impl FirstProcess {
    pub(crate) fn new(child: Child) -> Self {
        Self(Some(child))
    }

    pub(crate) fn child(&self) -> &Child {
        self.0.as_ref().expect("only `release` takes the child, and it consumes this")
    }
}

impl Drop for FirstProcess {
    fn drop(&mut self) {
        if let Some(child) = &self.0 {
            // One that was waited for is no child any more; both calls then fail and do nothing.
            let _ = child.signal(Signal::KILL);
            let _ = child.wait();
        }
    }
}

impl Running {
    pub(crate) fn new(first: FirstProcess, console: Option<OwnedFd>) -> Self {
        Self { first, console }
    }

    /// The process id of the workload, as the host numbers it.
    pub fn pid(&self) -> u32 {
        self.first.child().pid()
    }

    /// Whether the workload has a terminal whose master is still here.
    pub fn has_console(&self) -> bool {
        self.console.is_some()
    }

    /// The master of the workload's terminal, where it has one; given away once.
    pub fn take_console(&mut self) -> Option<OwnedFd> {
        self.console.take()
    }

    /// Sends the workload a signal.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        self.first.child().signal(signal)
    }

    /// Lets it go on without this process; gives its process id.
    pub fn release(mut self) -> u32 {
        let pid = self.pid();
        self.first.0 = None;
        pid
    }

    /// Waits for the end of the workload, and with it of everything in the container.
    pub fn wait(self) -> io::Result<Exit> {
        Ok(exit(self.first.child().wait()?))
    }
}

/// In the words of everybody else.
pub(crate) fn exit(ended: Ended) -> Exit {
    match ended {
        Ended::Exited(code) => Exit::Code(code),
        Ended::Signaled(signal) => Exit::Signal(signal),
    }
}

/// Readable once the workload has ended.
impl AsFd for Running {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.first.child().as_fd()
    }
}
