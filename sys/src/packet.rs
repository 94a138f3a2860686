//! Frames as they are on a device, whoever they say they are from: packet(7). For tests, who so are a guest that is not
//! honest; needs CAP_NET_RAW in the network namespace.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::errno;

/// A socket that sends what is written to it by this device of the calling thread's network namespace, each write as a
/// frame from its link-layer header on, and waits where there is no room; closed by execve(2). It receives nothing.
pub fn sender(device: &str) -> io::Result<File> {
    let socket = rustix::net::socket_with(AddressFamily::PACKET, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    let index = rustix::net::netdevice::name_to_index(&socket, device)?;
    // SAFETY: a sockaddr_ll of zeros is valid.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_ifindex = index as i32;
    // SAFETY: the address is a whole one, of this length.
    errno::check(unsafe {
        libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size_of::<libc::sockaddr_ll>() as u32)
    })?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::UdpSocket;
    use std::time::Duration;

    use super::*;
    use crate::rtnetlink::{self, tests::in_network_namespace};

    #[test]
    fn a_frame_that_nobody_sent_arrives() -> io::Result<()> {
        if !in_network_namespace("packet::tests::a_frame_that_nobody_sent_arrives") {
            return Ok(());
        }
        rtnetlink::loopback_up()?;
        let server = UdpSocket::bind("[::1]:9")?;
        server.set_read_timeout(Some(Duration::from_secs(5)))?;
        // Ethernet, IPv6 with a datagram of nine bytes in it, that datagram; its checksum is that of this.
        let loopback = [&[0; 15][..], &[1]].concat();
        let mut frame = [&[0; 12][..], &[0x86, 0xdd, 0x60, 0, 0, 0, 0, 9, 17, 64], &loopback, &loopback].concat();
        frame.extend([0, 7, 0, 9, 0, 9]);
        let sum = 1 + 1 + 9 + 17 + 7 + 9 + 9 + (u16::from(b'x') << 8);
        frame.extend((!sum).to_be_bytes());
        frame.push(b'x');
        assert_eq!(sender("lo")?.write(&frame)?, frame.len());
        let mut heard = [0; 2];
        let (length, from) = server.recv_from(&mut heard)?;
        assert_eq!((&heard[..length], from.port()), (&b"x"[..], 7));
        Ok(())
    }
}
