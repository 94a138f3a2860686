//! What init tells the launcher.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rbox_sys::socket::Channel;
use serde::{Deserialize, Serialize};

use crate::error::Failure;
use crate::trace::Step;

/// One message from inside.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    /// The first process has been made, in the namespaces of others; its pidfd comes with this.
    Cloned(u32),
    /// The /dev/shm of the container whose IPC namespace is joined comes with this, as a detached mount.
    Shm,
    /// The pty's master comes with this.
    Console,
    /// The other end of the container's network device comes with this.
    Tap {
        /// Whether it has its address of IPv6.
        has_v6: bool,
    },
    /// The container's user namespace comes with this, for who is to serve the root filesystem.
    UserNamespace,
    /// Where the root filesystem asks for all there is in it comes with this.
    Root,
    /// The workload is under its filter; what hears of the calls that are for others to decide comes with this. A
    /// workload that is to wait for its start now does.
    Listener,
    /// Namespaces and mounts are there, and it waits for the hooks outside.
    Built,
    /// All is ready; the workload waits for its start.
    Created,
    /// The steps so far, where they were asked for; nothing but execve(2) is left to do.
    Trace(Vec<Step>),
    /// It failed and ends.
    Failed(Failure),
}

/// Longer messages are cut where they are made: no failure needs more words.
const MAX_LENGTH: usize = 16 * 1024;

impl Report {
    pub(crate) fn send(&self, channel: &Channel, fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let message = postcard::to_stdvec(self).map_err(io::Error::other)?;
        if message.len() > MAX_LENGTH {
            return Err(io::ErrorKind::InvalidData.into());
        }
        channel.send(&message, fd.as_slice())
    }

    /// The next message; none where the other end is closed.
    pub(crate) fn receive(channel: &Channel) -> io::Result<Option<(Self, Option<OwnedFd>)>> {
        let mut buffer = [0; MAX_LENGTH];
        let (length, fds) = channel.receive(&mut buffer)?;
        if length == 0 {
            return Ok(None);
        }
        let report = postcard::from_bytes(&buffer[..length]).map_err(io::Error::other)?;
        Ok(Some((report, fds.into_iter().next())))
    }
}
