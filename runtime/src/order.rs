//! What the launcher tells init, in this order.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rbox_sys::memfd;
use rbox_sys::socket::Channel;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// One message to init.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Order {
    /// Begin: this one is for the entry. A forked process starts on the core of the one that forked it, and would have
    /// it wait; one that is woken goes to a core that is idle.
    Begin = b'b',
    /// What is to be run: the plan comes with it.
    Plan = b'p',
    /// What the root filesystem is made of is there: the words for the [`OpenRoot`](crate::OpenRoot) come with it.
    Root = b'r',
    /// The next bind source that init cannot open by itself comes with it, as a detached mount.
    Source = b's',
    /// The ids are there.
    Mapped = b'm',
    /// The filter on the workload's system calls comes with this.
    Filter = b'f',
    /// The workload is to wait for somebody who connects to the socket that comes with this, and says [`Go`](Self::Go).
    Hold = b'h',
    /// The hooks outside have run.
    Hooked = b'k',
    /// Nothing is left to be done before the workload runs.
    Go = b'g',
}

impl Order {
    pub(crate) fn send(self, channel: &Channel, fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
        channel.send(&[self as u8], fd.as_slice())
    }

    /// Waits for the next message, which must be this one; gives the descriptor that came with it.
    pub(crate) fn expect(self, channel: &Channel) -> io::Result<Option<OwnedFd>> {
        let mut message = [0; 1];
        match channel.receive(&mut message)? {
            (1, fds) if message[0] == self as u8 => Ok(fds.into_iter().next()),
            // The launcher has died, or found an error of its own.
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// As [`expect`](Self::expect), for a message that comes with a descriptor.
    pub(crate) fn expect_with_fd(self, channel: &Channel) -> io::Result<OwnedFd> {
        self.expect(channel)?.ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Sends something with it: in the message, or, where that would be too long, as a file.
    pub(crate) fn send_with(self, what: &impl Serialize, channel: &Channel) -> io::Result<()> {
        let message = postcard::to_extend(what, vec![self as u8]).map_err(io::Error::other)?;
        if message.len() <= LONGEST {
            let _ = channel.send(&message, &[]);
        } else {
            let _ = self.send(channel, Some(memfd::of("rbox", &message[1..])?.as_fd()));
        }
        Ok(())
    }

    /// As [`expect`](Self::expect); gives what came with it.
    pub(crate) fn receive_with<T: DeserializeOwned>(self, channel: &Channel) -> io::Result<T> {
        let mut message = [0; LONGEST];
        let (length, fds) = channel.receive(&mut message)?;
        if length == 0 || message[0] != self as u8 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut text = Vec::new();
        let text = match fds.into_iter().next() {
            Some(file) => {
                File::from(file).read_to_end(&mut text)?;
                &text
            }
            None => &message[1..length],
        };
        postcard::from_bytes(text).map_err(io::Error::other)
    }
}

/// Almost all plans are shorter. A page, since init has to make it zeros first.
const LONGEST: usize = 4096;
