//! The host's half of a connection: a socket of the kernel's.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use rbox_sys::epoll::{Epoll, Watch};
use rbox_sys::tcp;

use super::Host;
use super::flow::Socket;
use crate::token::Token;

impl Socket for TcpStream {
    fn outcome(&mut self) -> io::Result<()> {
        match self.take_error()? {
            Some(error) => Err(error),
            None if is_its_own_other_end(self) => Err(io::ErrorKind::ConnectionRefused.into()),
            None => Ok(()),
        }
    }

    fn send(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        match pieces {
            [piece] => self.write(piece),
            pieces => self.write_vectored(pieces),
        }
    }

    fn receive(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        match buffers {
            [buffer] => self.read(buffer),
            buffers => self.read_vectored(buffers),
        }
    }

    fn end(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }

    fn reset(&mut self) {
        // One that cannot be reset ends in the ordinary way.
        let _ = tcp::reset_when_closed(self);
    }
}

/// Where nobody listens at a port of the host's own, the kernel may choose that one to connect from: both ends then begin
/// at once (RFC 9293, 3.5), and are one.
fn is_its_own_other_end(stream: &TcpStream) -> bool {
    matches!((stream.local_addr(), stream.peer_addr()), (Ok(own), Ok(other)) if own == other)
}

impl Host for Epoll {
    type Socket = TcpStream;

    fn connect(&mut self, to: SocketAddr) -> io::Result<TcpStream> {
        let stream = tcp::begin_to_connect(to)?;
        // What the guest sends it sends when it wants to; its own Nagle has had its way with it.
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    fn watch(&mut self, socket: &TcpStream, token: Token) -> io::Result<()> {
        self.add(socket, token.encode(), Watch::Changes)
    }
}
