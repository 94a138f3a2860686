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

/// Killed and reaped when dropped.
#[derive(Debug)]
pub(crate) struct FirstProcess(pub(crate) Child);

impl Drop for FirstProcess {
    fn drop(&mut self) {
        // One that was waited for is no child any more; both calls then fail and do nothing.
        let _ = self.0.signal(Signal::KILL);
        let _ = self.0.wait();
    }
}

impl Running {
    pub(crate) fn new(first: FirstProcess, console: Option<OwnedFd>) -> Self {
        Self { first, console }
    }

    /// The process id of the workload, as the host numbers it.
    pub fn pid(&self) -> u32 {
        self.first.0.pid()
    }

    /// The master of the workload's terminal, where it has one; given away once.
    pub fn take_console(&mut self) -> Option<OwnedFd> {
        self.console.take()
    }

    /// Sends the workload a signal.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        self.first.0.signal(signal)
    }

    /// Waits for the end of the workload, and with it of everything in the container.
    pub fn wait(self) -> io::Result<Exit> {
        Ok(match self.first.0.wait()? {
            Ended::Exited(code) => Exit::Code(code),
            Ended::Signaled(signal) => Exit::Signal(signal),
        })
    }
}

/// Readable once the workload has ended.
impl AsFd for Running {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.first.0.as_fd()
    }
}
