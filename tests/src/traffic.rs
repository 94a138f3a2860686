//! What goes over connections that are tried: bytes that are told apart wherever they are, and ends of a connection.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::netns::Namespace;
use crate::patience::LIMIT;

/// Bytes without a period that matters, different for each seed.
#[derive(Debug, Clone)]
pub struct Pattern(u64);

impl Pattern {
    /// From the beginning.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next ones (splitmix64).
    pub fn fill(&mut self, buffer: &mut [u8]) {
        for word in buffer.chunks_mut(8) {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            word.copy_from_slice(&(mixed ^ (mixed >> 31)).to_le_bytes()[..word.len()]);
        }
    }

    /// This many of them, from the beginning.
    pub fn bytes(seed: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        Self::new(seed).fill(&mut bytes);
        bytes
    }
}

/// As much as is written and compared at once.
const PIECE: usize = 64 << 10;

/// Writes this many bytes.
pub fn write_pattern(mut to: impl Write, seed: u64, length: usize) -> io::Result<()> {
    let (mut pattern, mut piece) = (Pattern::new(seed), vec![0; PIECE]);
    for at in (0..length).step_by(PIECE) {
        let piece = &mut piece[..PIECE.min(length - at)];
        pattern.fill(piece);
        to.write_all(piece)?;
    }
    Ok(())
}

/// Reads this many bytes, and fails at the first that is not the one written.
pub fn read_pattern(mut from: impl Read, seed: u64, length: usize) -> Result<()> {
    let (mut pattern, mut expected, mut piece) = (Pattern::new(seed), vec![0; PIECE], vec![0; PIECE]);
    for at in (0..length).step_by(PIECE) {
        let (expected, piece) = (&mut expected[..PIECE.min(length - at)], &mut piece[..PIECE.min(length - at)]);
        pattern.fill(expected);
        from.read_exact(piece)?;
        let wrong = expected.iter().zip(piece.iter()).position(|(expected, seen)| expected != seen);
        ensure!(wrong.is_none(), "byte {} is not the one that was written", at + wrong.unwrap_or(0));
    }
    Ok(())
}

/// Sockets of a namespace's. Nothing waits longer than anything may take.
impl Namespace {
    /// One that listens at a port of its own choice.
    pub fn listen(&self, address: IpAddr) -> Result<TcpListener> {
        Ok(self.run(|| TcpListener::bind((address, 0)))?)
    }

    /// One that is connected.
    pub fn connect(&self, to: SocketAddr) -> io::Result<TcpStream> {
        let stream = self.run(|| TcpStream::connect_timeout(&to, LIMIT))?;
        patient(stream)
    }

    /// A datagram socket.
    pub fn datagrams(&self, address: IpAddr, port: u16) -> io::Result<UdpSocket> {
        let socket = self.run(|| UdpSocket::bind((address, port)))?;
        socket.set_read_timeout(Some(LIMIT))?;
        Ok(socket)
    }

    /// A connection from here to there, both ends.
    pub fn connection_to(&self, listener: &TcpListener) -> Result<(TcpStream, TcpStream)> {
        let near = self.connect(listener.local_addr()?)?;
        let (far, _) = listener.accept()?;
        Ok((near, patient(far)?))
    }
}

/// Whether somebody listens at this port, in the network namespace of the thread that asks.
pub fn is_listened_at(port: u16) -> bool {
    // proc_pid_net(5): the local address is the second field of a socket, its state the fourth; 0A is TCP_LISTEN.
    let of = |name| std::fs::read_to_string(format!("/proc/thread-self/net/{name}")).unwrap_or_default();
    (of("tcp") + &of("tcp6"))
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .any(|socket| matches!(socket[..], [_, local, _, "0A", ..] if local.ends_with(&format!(":{port:04X}"))))
}

/// The stream, with whose reads and writes nobody hangs.
pub fn patient(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    Ok(stream)
}

/// What comes within a time.
pub fn within<T>(socket: &UdpSocket, time: Duration, receive: impl FnOnce(&UdpSocket) -> io::Result<T>) -> Option<T> {
    socket.set_read_timeout(Some(time)).ok()?;
    let received = receive(socket);
    socket.set_read_timeout(Some(LIMIT)).ok()?;
    received.ok()
}

/// Has the connection reset (RFC 1122, 4.2.2.13): it is closed while something that came was not read.
pub fn reset(stream: TcpStream, mut other_end: &TcpStream) -> Result<()> {
    other_end.write_all(b"unread")?;
    stream.peek(&mut [0])?;
    drop(stream);
    Ok(())
}

/// Whether this is how a connection ends that was reset.
pub fn is_reset(result: &io::Result<usize>) -> bool {
    result.as_ref().is_err_and(tells_reset)
}

/// Whether this is what is told of that.
pub fn tells_reset(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}
