//! Waiting for a process: its signals and its terminal pass through here.

use rbox_container::{Terminal, supervise};
use rbox_runtime::Running;
use rbox_sys::signal::SignalFd;

use crate::failure::Failure;

/// From before the process is there, so that no signal is lost between the two.
pub(super) struct Foreground(SignalFd);

impl Foreground {
    pub(super) fn begin() -> Result<Self, Failure> {
        let signals = SignalFd::of_forwarded();
        signals.map(Self).map_err(|error| Failure::new(format!("cannot block signals: {error}")))
    }

    /// Waits for the process's end; gives its exit status.
    pub(super) fn wait(&self, running: Running) -> Result<u8, Failure> {
        Ok(supervise(running, &self.0, Some(Terminal::of_caller()?), true, &mut || {})?.status())
    }
}
