//! What std::net has not of tcp(7): connecting without waiting, and resets.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{SocketType, sockopt};

use crate::inet;

/// Begins to connect; the socket, which is nonblocking, is writable when that has succeeded or failed.
pub fn begin_to_connect(to: SocketAddr) -> io::Result<TcpStream> {
    let socket = inet::socket(to.is_ipv6(), SocketType::STREAM, None)?;
    match rustix::net::connect(&socket, &to) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket.into()),
        Err(error) => Err(error.into()),
    }
}

/// A listening socket, nonblocking; at IPv6's own addresses alone where it is one of IPv6.
pub fn listen(at: SocketAddr) -> io::Result<TcpListener> {
    let socket = inet::socket_for(at, SocketType::STREAM)?;
    // What is left of connections that have ended (TIME-WAIT) is in nobody's way.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &at)?;
    // As many as net.core.somaxconn lets wait.
    rustix::net::listen(&socket, 4096)?;
    Ok(socket.into())
}

/// Has the other end see a reset when this is closed, whatever is still to be sent.
pub fn reset_when_closed(socket: impl AsFd) -> io::Result<()> {
    Ok(sockopt::set_socket_linger(socket, Some(Duration::ZERO))?)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::poll::{self, Interest};

    #[test]
    fn connections_that_are_taken_refused_and_reset() -> io::Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let connect = |to| -> io::Result<TcpStream> {
            let stream = begin_to_connect(to)?;
            poll::wait([(stream.as_fd(), Interest::Write)], None)?;
            stream.take_error()?.map_or(Ok(stream), Err)
        };
        let address = listener.local_addr()?;
        let ours = connect(address)?;
        let (mut theirs, _) = listener.accept()?;
        reset_when_closed(&ours)?;
        drop(ours);
        let error = theirs.read(&mut [0]).expect_err("it was reset");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        drop(listener);
        let error = connect(address).expect_err("nobody listens");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        Ok(())
    }
}
