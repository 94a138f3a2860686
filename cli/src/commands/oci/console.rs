//! `--console-socket`: the terminal's master goes to whoever listens there (as runc's docs/terminals.md has it).

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rbox_runtime::Running;
use rbox_runtime::oci::Created;

use crate::failure::Failure;

/// Hands the terminal over, where there is one; gives the container back. What fails ends the container.
pub(super) fn hand_over(socket: Option<PathBuf>, mut created: Created) -> Result<Created, Failure> {
    let sent = match socket {
        Some(socket) => send(&socket, &mut created.running),
        None if created.running.has_console() => {
            Err(Failure::new("the bundle's process has a terminal: --console-socket is needed"))
        }
        None => Ok(()),
    };
    if let Err(failure) = sent {
        created.container.delete(true)?;
        return Err(failure);
    }
    Ok(created)
}

/// Sends the terminal, where there is one.
pub(super) fn send(socket: &Path, running: &mut Running) -> Result<(), Failure> {
    let Some(master) = running.take_console() else { return Ok(()) };
    rbox_sys::socket::send_to_stream(socket, b"/dev/ptmx", master.as_fd())
        .map_err(|error| Failure::new(format!("cannot send the terminal to {}: {error}", socket.display())))
}
