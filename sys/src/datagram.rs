//! Datagrams that come with more than their bytes: to which address of this host they were sent, and so from which an
//! answer is to leave (IP_PKTINFO in ip(7), IPV6_RECVPKTINFO in ipv6(7)); and what became of those that were sent (see
//! [`errqueue`](crate::errqueue)).
#![allow(unsafe_code)]

use std::io;
use std::mem::{size_of, size_of_val, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::AsRawFd;

use rustix::net::{SocketType, sockopt};

use crate::{errno, inet};

/// A datagram that was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// How many bytes of the buffer are its.
    pub length: usize,
    /// From whom.
    pub from: SocketAddr,
    /// To which address of this host, where the socket [tells](tell_local_address).
    pub local: Option<IpAddr>,
}

/// Room for the control messages of one datagram, as they have to be aligned.
#[repr(C, align(8))]
struct Control([u8; 256]);

/// One control message's level, type and data.
pub(crate) struct ControlMessage<'a> {
    pub(crate) level: libc::c_int,
    pub(crate) kind: libc::c_int,
    pub(crate) data: &'a [u8],
}

/// A bound socket, nonblocking; at IPv6's own addresses alone where it is one of IPv6.
pub fn bind(at: SocketAddr) -> io::Result<UdpSocket> {
    let socket = inet::socket_for(at, SocketType::DGRAM)?;
    rustix::net::bind(&socket, &at)?;
    Ok(socket.into())
}

/// Has a socket tell where each datagram was sent to.
pub fn tell_local_address(socket: &UdpSocket) -> io::Result<()> {
    match socket.local_addr()? {
        SocketAddr::V4(_) => set(socket.as_raw_fd(), libc::IPPROTO_IP, libc::IP_PKTINFO, 1),
        SocketAddr::V6(_) => set(socket.as_raw_fd(), libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1),
    }
}

/// Receives one; what is longer than the buffer is cut off. EAGAIN where there is none.
pub fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Received> {
    let mut local = None;
    let (length, from) = receive_message(socket.as_raw_fd(), buffer, libc::MSG_DONTWAIT, |message| {
        match (message.level, message.kind) {
            // struct in_pktinfo: the interface, the local address, and that of the header.
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => local = v4(message.data, 4).map(IpAddr::V4),
            // struct in6_pktinfo: the address, and the interface.
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => local = v6(message.data, 0).map(IpAddr::V6),
            _ => {}
        }
    })?;
    Ok(Received { length, from: from.ok_or(io::ErrorKind::InvalidData)?, local })
}

/// Sends one from an address of this host, of the same family as that of the socket. EAGAIN where there is no room.
pub fn send_from(socket: &UdpSocket, bytes: &[u8], to: SocketAddr, local: IpAddr) -> io::Result<()> {
    let mut control = Control([0; 256]);
    // SAFETY: a msghdr, a sockaddr_storage of zeros are valid.
    let (mut message, mut name): (libc::msghdr, libc::sockaddr_storage) = unsafe { (zeroed(), zeroed()) };
    let mut slice = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    message.msg_name = (&raw mut name).cast();
    message.msg_namelen = encode(to, &mut name);
    message.msg_iov = &raw mut slice;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    match local {
        IpAddr::V4(local) => {
            let info = libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: in_addr(local), ipi_addr: in_addr(local) };
            put_control(&mut message, libc::IPPROTO_IP, libc::IP_PKTINFO, info);
        }
        IpAddr::V6(local) => {
            let info = libc::in6_pktinfo { ipi6_addr: libc::in6_addr { s6_addr: local.octets() }, ipi6_ifindex: 0 };
            put_control(&mut message, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info);
        }
    }
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: all that `message` points to lives until the call returns, and the kernel only reads it.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, flags) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sets the time to live, or hop limit, of what a socket sends.
pub fn set_hops(socket: &UdpSocket, is_v6: bool, hops: u8) -> io::Result<()> {
    if is_v6 { Ok(sockopt::set_ipv6_unicast_hops(socket, Some(hops))?) } else { socket.set_ttl(hops.into()) }
}

/// The number of a network device, which is what the zone of an address of its link is called inside.
pub fn interface(name: &str) -> io::Result<u32> {
    let socket = inet::socket(false, SocketType::DGRAM, None)?;
    Ok(rustix::net::netdevice::name_to_index(socket, name)?)
}

pub(crate) fn set(fd: libc::c_int, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let size = size_of_val(&value) as libc::socklen_t;
    // SAFETY: `value` lives until the call returns, and `size` is its own.
    errno::check(unsafe { libc::setsockopt(fd, level, option, (&raw const value).cast(), size) })
}

/// Receives one message and shows what comes with it; gives its length and the address it is from, or about.
pub(crate) fn receive_message(
    fd: libc::c_int,
    buffer: &mut [u8],
    flags: libc::c_int,
    mut show: impl FnMut(ControlMessage<'_>),
) -> io::Result<(usize, Option<SocketAddr>)> {
    let mut control = Control([0; 256]);
    // SAFETY: a msghdr, a sockaddr_storage of zeros are valid.
    let (mut message, mut name): (libc::msghdr, libc::sockaddr_storage) = unsafe { (zeroed(), zeroed()) };
    let mut slice = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    message.msg_name = (&raw mut name).cast();
    message.msg_namelen = size_of_val(&name) as libc::socklen_t;
    message.msg_iov = &raw mut slice;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = control.0.len() as _;
    let length = loop {
        // SAFETY: each part of `message` points to room of the length that stands beside it, which lives on.
        match unsafe { libc::recvmsg(fd, &raw mut message, flags) } {
            -1 => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error => return Err(error),
            },
            length => break length as usize,
        }
    };
    // SAFETY: the kernel has filled in `message`, whose control messages are in `control`.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    while !next.is_null() {
        // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR give headers that are within the control messages, aligned as these.
        let header = unsafe { *next };
        // SAFETY: no memory is read for this.
        let length = (header.cmsg_len as usize).saturating_sub(unsafe { libc::CMSG_LEN(0) } as usize);
        // SAFETY: the data of a message follows its header, and the kernel has put all of it into `control`.
        let data = unsafe { std::slice::from_raw_parts(libc::CMSG_DATA(next), length) };
        show(ControlMessage { level: header.cmsg_level, kind: header.cmsg_type, data });
        // SAFETY: `next` is one of the headers of `message`.
        next = unsafe { libc::CMSG_NXTHDR(&raw const message, next) };
    }
    // SAFETY: any bytes are a sockaddr_storage's.
    let name = unsafe {
        std::slice::from_raw_parts((&raw const name).cast::<u8>(), size_of_val(&name).min(message.msg_namelen as usize))
    };
    Ok((length, decode(name)))
}

/// The address in a struct sockaddr_in or sockaddr_in6.
pub(crate) fn decode(name: &[u8]) -> Option<SocketAddr> {
    let (family, rest) = name.split_first_chunk::<2>()?;
    let port = u16::from_be_bytes(*rest.first_chunk::<2>()?);
    match libc::c_int::from(u16::from_ne_bytes(*family)) {
        libc::AF_INET => Some(SocketAddrV4::new(v4(name, 4)?, port).into()),
        libc::AF_INET6 => {
            let scope = u32::from_ne_bytes(*name.get(24..)?.first_chunk::<4>()?);
            Some(SocketAddrV6::new(v6(name, 8)?, port, 0, scope).into())
        }
        _ => None,
    }
}

fn v4(bytes: &[u8], at: usize) -> Option<Ipv4Addr> {
    Some(Ipv4Addr::from(*bytes.get(at..)?.first_chunk::<4>()?))
}

fn v6(bytes: &[u8], at: usize) -> Option<Ipv6Addr> {
    Some(Ipv6Addr::from(*bytes.get(at..)?.first_chunk::<16>()?))
}

/// Writes an address; gives its length.
fn encode(address: SocketAddr, name: &mut libc::sockaddr_storage) -> libc::socklen_t {
    match address {
        SocketAddr::V4(address) => {
            let encoded = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: address.port().to_be(),
                sin_addr: in_addr(*address.ip()),
                sin_zero: [0; 8],
            };
            // SAFETY: a sockaddr_storage has room for any address, and is aligned for it.
            unsafe { (&raw mut *name).cast::<libc::sockaddr_in>().write(encoded) };
            size_of::<libc::sockaddr_in>() as libc::socklen_t
        }
        SocketAddr::V6(address) => {
            let encoded = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: address.port().to_be(),
                sin6_flowinfo: 0,
                sin6_addr: libc::in6_addr { s6_addr: address.ip().octets() },
                sin6_scope_id: address.scope_id(),
            };
            // SAFETY: a sockaddr_storage has room for any address, and is aligned for it.
            unsafe { (&raw mut *name).cast::<libc::sockaddr_in6>().write(encoded) };
            size_of::<libc::sockaddr_in6>() as libc::socklen_t
        }
    }
}

fn in_addr(address: Ipv4Addr) -> libc::in_addr {
    libc::in_addr { s_addr: u32::from_ne_bytes(address.octets()) }
}

/// Makes this the only control message of one whose room for these is there, and all zeros.
fn put_control<T>(message: &mut libc::msghdr, level: libc::c_int, kind: libc::c_int, data: T) {
    const { assert!(size_of::<T>() <= 64) }
    let size = size_of::<T>() as libc::c_uint;
    // SAFETY: no memory is read for these.
    let (space, length) = unsafe { (libc::CMSG_SPACE(size), libc::CMSG_LEN(size)) };
    message.msg_controllen = space as _;
    // SAFETY: the room is aligned for a header, and long enough for it and for the data after it.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const *message);
        (*header).cmsg_level = level;
        (*header).cmsg_type = kind;
        (*header).cmsg_len = length as _;
        libc::CMSG_DATA(header).cast::<T>().write_unaligned(data);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_leaves_from_where_the_question_came_to() -> io::Result<()> {
        let server = UdpSocket::bind("0.0.0.0:0")?;
        tell_local_address(&server)?;
        let client = UdpSocket::bind("127.0.0.1:0")?;
        let asked: IpAddr = [127, 0, 0, 9].into();
        client.send_to(b"?", (asked, server.local_addr()?.port()))?;
        let mut buffer = [0; 16];
        let received = receive(&server, &mut buffer)?;
        assert_eq!(received, Received { length: 1, from: client.local_addr()?, local: Some(asked) });
        send_from(&server, b"!", received.from, asked)?;
        assert_eq!(client.recv_from(&mut buffer)?.1.ip(), asked);
        assert_eq!(receive(&server, &mut buffer).map_err(|error| error.kind()), Err(io::ErrorKind::WouldBlock));
        Ok(())
    }

    #[test]
    fn the_same_of_ipv6() -> io::Result<()> {
        let server = UdpSocket::bind("[::]:0")?;
        tell_local_address(&server)?;
        let client = UdpSocket::bind("[::1]:0")?;
        let asked: IpAddr = Ipv6Addr::LOCALHOST.into();
        client.send_to(b"?", (asked, server.local_addr()?.port()))?;
        let mut buffer = [0; 16];
        let received = receive(&server, &mut buffer)?;
        assert_eq!(received, Received { length: 1, from: client.local_addr()?, local: Some(asked) });
        send_from(&server, b"!", received.from, asked)?;
        assert_eq!(client.recv_from(&mut buffer)?.1.ip(), asked);
        Ok(())
    }
}
