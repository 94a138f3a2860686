//! ICMP echo without privileges: icmp(7), "ping sockets". The administrator says which groups may have them
//! (net.ipv4.ping_group_range, for both families).

use std::io;
use std::net::UdpSocket;

use rustix::net::{SocketType, ipproto};

use crate::inet;

/// A nonblocking socket that takes echo requests from the ICMP header on, and gives what answers them; closed by
/// execve(2). Whatever identifier a request has, the kernel puts the socket's own in its place.
///
/// EACCES: no group of this process may have one.
pub fn socket(is_v6: bool) -> io::Result<UdpSocket> {
    let protocol = if is_v6 { ipproto::ICMPV6 } else { ipproto::ICMP };
    // What std does with a socket's datagrams is the same for all protocols.
    Ok(inet::socket(is_v6, SocketType::DGRAM, Some(protocol))?.into())
}
