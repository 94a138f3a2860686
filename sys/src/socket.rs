//! Sockets between processes of one family: messages that keep their borders, with descriptors in them (unix(7),
//! SOCK_SEQPACKET, SCM_RIGHTS).

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};

/// One end of a pair. A message of no bytes cannot be told from the other end's being closed, so none is sent.
#[derive(Debug)]
pub struct Channel(OwnedFd);

/// The most descriptors that one message may carry here.
pub const MAX_FDS: usize = 4;

impl Channel {
    /// Two connected ends, both closed by execve(2).
    pub fn pair() -> io::Result<(Self, Self)> {
        let (a, b) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self(a), Self(b)))
    }

    /// The same end once more.
    pub fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// A socket at `name` in `dir` that others can [`connect`](Self::connect) to, closed by execve(2).
    pub fn listen(dir: BorrowedFd<'_>, name: &str) -> io::Result<OwnedFd> {
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        rustix::net::bind(&socket, &address(dir, name)?)?;
        rustix::net::listen(&socket, 1)?;
        Ok(socket)
    }

    /// Connects to the socket at `name` in `dir`.
    pub fn connect(dir: BorrowedFd<'_>, name: &str) -> io::Result<Self> {
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        rustix::net::connect(&socket, &address(dir, name)?)?;
        Ok(Self(socket))
    }

    /// Waits until somebody connects to a socket that [`listen`](Self::listen) made.
    pub fn accept(listening: impl AsFd) -> io::Result<Self> {
        loop {
            match rustix::net::accept_with(&listening, SocketFlags::CLOEXEC) {
                Err(Errno::INTR) => {}
                result => return Ok(Self(result?)),
            }
        }
    }

    /// Sends one message. Where the other end is closed, this fails with EPIPE (and no signal).
    pub fn send(&self, message: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        if message.is_empty() || fds.len() > MAX_FDS {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(fds));
        }
        loop {
            match rustix::net::sendmsg(&self.0, &[io::IoSlice::new(message)], &mut control, SendFlags::NOSIGNAL) {
                Err(Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Receives one message into `buffer`; 0 bytes mean that the other end is closed. A message longer than the
    /// buffer is an error.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            let mut slices = [io::IoSliceMut::new(buffer)];
            match rustix::net::recvmsg(&self.0, &mut slices, &mut control, RecvFlags::CMSG_CLOEXEC) {
                // A peer that ended with messages of ours unread has the kernel say so, once, before it hands out
                // what that peer had sent.
                Err(Errno::INTR | Errno::CONNRESET) => {}
                other => break other?,
            }
        };
        if received.flags.contains(rustix::net::ReturnFlags::TRUNC) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the message is longer than its buffer"));
        }
        let mut fds = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                fds.extend(received);
            }
        }
        Ok((received.bytes, fds))
    }
}

/// Sends a message with a descriptor to whoever listens on the stream socket at `path`.
pub fn send_to_stream(path: &Path, message: &[u8], fd: BorrowedFd<'_>) -> io::Result<()> {
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Channel(socket).send(message, &[fd])
}

/// By way of the directory's descriptor: an address has 108 bytes (unix(7)), and paths may be longer.
fn address(dir: BorrowedFd<'_>, name: &str) -> io::Result<SocketAddrUnix> {
    Ok(SocketAddrUnix::new(format!("/proc/self/fd/{}/{name}", dir.as_raw_fd()))?)
}

impl From<OwnedFd> for Channel {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl From<Channel> for OwnedFd {
    fn from(channel: Channel) -> Self {
        channel.0
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek, Write};

    #[test]
    fn messages_and_descriptors() {
        let (a, b) = Channel::pair().expect("socketpair");
        let mut file = tempfile::tempfile().expect("a temporary file");
        file.write_all(b"hello").expect("write");
        a.send(b"one", &[file.as_fd()]).expect("send");
        a.send(b"two", &[]).expect("send");
        drop(a);
        let mut buffer = [0; 16];
        let (length, fds) = b.receive(&mut buffer).expect("receive");
        assert_eq!((&buffer[..length], fds.len()), (&b"one"[..], 1));
        let mut same = std::fs::File::from(fds.into_iter().next().expect("one"));
        same.rewind().expect("seek");
        let mut text = String::new();
        same.read_to_string(&mut text).expect("read");
        assert_eq!(text, "hello");
        assert_eq!(b.receive(&mut buffer).expect("receive").0, 3);
        assert_eq!(b.receive(&mut buffer).expect("receive").0, 0);
        assert_eq!(b.send(b"x", &[]).expect_err("closed").kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn last_words_of_a_peer_that_did_not_listen() {
        let (a, b) = Channel::pair().expect("socketpair");
        b.send(b"unread", &[]).expect("send");
        a.send(b"last words", &[]).expect("send");
        drop(a);
        let mut buffer = [0; 16];
        let (length, _) = b.receive(&mut buffer).expect("receive");
        assert_eq!(&buffer[..length], b"last words");
        assert_eq!(b.receive(&mut buffer).expect("receive").0, 0);
    }
}
