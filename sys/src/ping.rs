//! ICMP echo without privileges: icmp(7), "ping sockets". The administrator says which groups may have them
//! (net.ipv4.ping_group_range, for both families).

use std::io;
use std::net::UdpSocket;

use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto};

/// A nonblocking socket that takes echo requests from the ICMP header on, and gives what answers them; closed by
/// execve(2). Whatever identifier a request has, the kernel puts the socket's own in its place.
///
/// EACCES: no group of this process may have one.
pub fn socket(is_v6: bool) -> io::Result<UdpSocket> {
    let (family, protocol) =
        if is_v6 { (AddressFamily::INET6, ipproto::ICMPV6) } else { (AddressFamily::INET, ipproto::ICMP) };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    // What std does with a socket's datagrams is the same for all protocols.
    Ok(rustix::net::socket_with(family, SocketType::DGRAM, flags, Some(protocol))?.into())
}
