//! What a service manager is told that has had a container started (sd_notify(3), systemd.service(5), `Type=notify`): that the
//! workload runs, and that it is the monitor whose end is the container's.

use std::ffi::OsString;
use std::io;
use std::time::Duration;

use rbox_sys::notify::{self, SOCKET};

/// How long a manager may take to act on what it is told.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whether there is a manager to tell.
pub(crate) fn is_wanted() -> bool {
    socket().is_some()
}

/// Tells it that the container of this monitor runs, if it is there, and waits until it knows: before that the monitor must
/// not end, or nobody would see how.
pub(crate) fn ready(monitor: u32) -> io::Result<()> {
    let Some(socket) = socket() else { return Ok(()) };
    notify::send(&socket, &format!("MAINPID={monitor}\nREADY=1"))?;
    notify::barrier(&socket, PATIENCE).map(drop)
}

fn socket() -> Option<OsString> {
    std::env::var_os(SOCKET).filter(|socket| !socket.is_empty())
}
