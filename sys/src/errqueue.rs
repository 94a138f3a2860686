//! What became of datagrams that were sent: the socket's queue of errors (IP_RECVERR in ip(7), IPV6_RECVERR in ipv6(7),
//! struct sock_extended_err in linux/errqueue.h).
//!
//! A socket that is not connected learns in no other way that nobody listens where it has sent something, or that no
//! way leads there. While the queue is on, each ICMP error also has one later call on the socket fail, whomever that
//! was for.
#![allow(unsafe_code)]

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use crate::datagram;

/// An ICMP or ICMPv6 error that came in for a datagram of the socket's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// Where the datagram was sent.
    pub destination: SocketAddr,
    /// Who sent the error.
    pub offender: Option<IpAddr>,
    /// The error's type and code: ICMPv6's where the destination is IPv6.
    pub kind: u8,
    /// See `kind`.
    pub code: u8,
    /// How many bytes of the buffer are what the error quotes of the datagram. A UDP header is not in it, an ICMP one
    /// is.
    pub length: usize,
}

const SO_EE_ORIGIN_ICMP: u8 = 2;
const SO_EE_ORIGIN_ICMP6: u8 = 3;

/// Has the kernel keep errors.
pub fn keep(socket: &UdpSocket, is_v6: bool) -> io::Result<()> {
    if is_v6 {
        datagram::set(socket.as_raw_fd(), libc::IPPROTO_IPV6, libc::IPV6_RECVERR, 1)
    } else {
        datagram::set(socket.as_raw_fd(), libc::IPPROTO_IP, libc::IP_RECVERR, 1)
    }
}

/// Takes the first error out of the queue. `Ok(None)` is one that did not come in from the network; EAGAIN where there
/// are no more.
pub fn take(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Option<Report>> {
    let mut error = None;
    let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
    let (length, destination) = datagram::receive_message(socket.as_raw_fd(), buffer, flags, |message| {
        if matches!(
            (message.level, message.kind),
            (libc::IPPROTO_IP, libc::IP_RECVERR) | (libc::IPPROTO_IPV6, libc::IPV6_RECVERR)
        ) {
            error = parse(message.data);
        }
    })?;
    let report = destination.zip(error);
    Ok(report.map(|(destination, (kind, code, offender))| Report { destination, offender, kind, code, length }))
}

/// errno, origin, type, code, a byte of nothing, two numbers; and the offender's address.
fn parse(data: &[u8]) -> Option<(u8, u8, Option<IpAddr>)> {
    let (error, offender) = data.split_first_chunk::<16>()?;
    let [.., origin, kind, code, _] = *error.first_chunk::<8>()?;
    let from_network = matches!(origin, SO_EE_ORIGIN_ICMP | SO_EE_ORIGIN_ICMP6);
    from_network.then(|| (kind, code, datagram::decode(offender).map(|offender| offender.ip())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nobody_listens(loopback: &str, kind: u8, code: u8) -> io::Result<()> {
        let closed = UdpSocket::bind((loopback, 0))?.local_addr()?;
        let socket = UdpSocket::bind((loopback, 0))?;
        keep(&socket, closed.is_ipv6())?;
        socket.send_to(b"hello", closed)?;
        let mut buffer = [0; 64];
        assert_eq!(
            take(&socket, &mut buffer)?,
            Some(Report { destination: closed, offender: Some(closed.ip()), kind, code, length: 5 })
        );
        assert_eq!(&buffer[..5], b"hello");
        assert_eq!(take(&socket, &mut buffer).map_err(|error| error.kind()), Err(io::ErrorKind::WouldBlock));
        Ok(())
    }

    #[test]
    fn port_unreachable() -> io::Result<()> {
        nobody_listens("127.0.0.1", 3, 3)?;
        nobody_listens("::1", 1, 4)
    }
}
