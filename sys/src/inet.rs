//! Sockets of IP: ip(7), ipv6(7).

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, Protocol, SocketFlags, SocketType, sockopt};

/// A socket of this family, nonblocking, and closed by execve(2).
pub(crate) fn socket(is_v6: bool, kind: SocketType, protocol: Option<Protocol>) -> io::Result<OwnedFd> {
    let family = if is_v6 { AddressFamily::INET6 } else { AddressFamily::INET };
    Ok(rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, protocol)?)
}

/// One to be bound there; at IPv6's own addresses alone where it is one of IPv6.
pub(crate) fn socket_for(at: SocketAddr, kind: SocketType) -> io::Result<OwnedFd> {
    let socket = socket(at.is_ipv6(), kind, None)?;
    if at.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    Ok(socket)
}
