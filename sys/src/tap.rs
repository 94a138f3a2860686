//! A network device whose other end is a descriptor of this process: tap (Documentation/networking/tuntap.rst of Linux).
#![allow(unsafe_code)]

use std::ffi::{c_char, c_short};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{Mode, OFlags};

use crate::errno;

/// Makes a tap in the network namespace of the calling thread, which has CAP_NET_ADMIN over it. The device goes with the
/// namespace, which the descriptor keeps in being; when that is closed, there is no carrier any more. Were the device to go
/// then, whoever closes would wait for that, some ten milliseconds of RCU's.
///
/// Each read gives one frame and each write takes one, behind a `virtio_net_hdr` of 10 bytes (IFF_VNET_HDR). Checksums may
/// be missing both ways, and TCP packets may be larger than the device's MTU. Nonblocking, and closed by execve(2).
pub fn open(name: &str) -> io::Result<OwnedFd> {
    let tap = open_device()?;
    let mut request = named(name)?;
    request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as c_short;
    // SAFETY: TUNSETIFF reads and writes an ifreq, which lives until the call returns.
    errno::check(unsafe { libc::ioctl(tap.as_raw_fd(), libc::TUNSETIFF, &raw mut request) })?;
    // SAFETY: TUNSETPERSIST takes a number.
    errno::check(unsafe { libc::ioctl(tap.as_raw_fd(), libc::TUNSETPERSIST, 1 as libc::c_ulong) })?;
    let offloads = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6;
    // SAFETY: TUNSETOFFLOAD takes a number.
    errno::check(unsafe { libc::ioctl(tap.as_raw_fd(), libc::TUNSETOFFLOAD, libc::c_ulong::from(offloads)) })?;
    Ok(tap)
}

/// Whether this process can open what makes taps. It makes none for somebody without power over the namespace, so there is
/// nothing else to try.
pub fn can_be_had() -> bool {
    open_device().is_ok()
}

/// For the network namespace of whoever opens (tun_chr_open() in drivers/net/tun.c).
fn open_device() -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(rustix::fs::open(c"/dev/net/tun", flags, Mode::empty())?)
}

/// A request about the device of this name (netdevice(7)).
fn named(name: &str) -> io::Result<libc::ifreq> {
    // SAFETY: an ifreq of zeros is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as c_char;
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};
    use std::net::{IpAddr, Ipv6Addr, UdpSocket};
    use std::os::fd::AsFd;
    use std::time::Duration;

    use super::*;
    use crate::poll::{self, Interest};
    use crate::rtnetlink::{self, Changes, Link, tests::in_network_namespace};

    const MAC: [u8; 6] = [0x52, 0x55, 0x0a, 0, 2, 0x64];
    const GATEWAY_MAC: [u8; 6] = [0x52, 0x55, 0x0a, 0, 2, 2];
    const ARP: [u8; 2] = [8, 6];
    const VNET_HEADER: usize = 10;

    #[test]
    fn frames_of_a_device_that_is_set_up() -> io::Result<()> {
        if !in_network_namespace("tap::tests::frames_of_a_device_that_is_set_up") {
            return Ok(());
        }
        let mut tap = File::from(open("tap0")?);
        let gateways: [IpAddr; 2] = [[10, 0, 2, 2].into(), "fd00::2".parse::<Ipv6Addr>().expect("an address").into()];
        let mut changes = Changes::new()?;
        let index = changes.index_of("tap0")?;
        changes.no_link_local(index);
        changes.link(index, Link { mtu: Some(65520), mac: Some(MAC) });
        changes.address(index, [10, 0, 2, 100].into(), 24);
        changes.address(index, "fd00::100".parse::<Ipv6Addr>().expect("an address").into(), 64);
        for gateway in gateways {
            changes.default_route(index, gateway);
        }
        let refused = changes.make()?;
        assert!(refused.is_empty(), "{refused:?}");

        // The longest datagram that fits goes out whole, and by way of the gateway.
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect("192.0.2.1:53")?;
        assert_eq!(socket.local_addr()?.ip(), IpAddr::from([10, 0, 2, 100]));
        let payload = vec![7; 65520 - 28];
        socket.send(&payload)?;
        let asks = frame(&mut tap, |frame| frame[12..14] == ARP && frame[38..42] == [10, 0, 2, 2])?;
        assert_eq!((&asks[6..12], &asks[22..28]), (&MAC[..], &MAC[..]));
        tap.write_all(&answer(&asks))?;
        let sent = frame(&mut tap, |frame| frame[12..14] == [8, 0])?;
        assert_eq!((&sent[..6], sent.len()), (&GATEWAY_MAC[..], 14 + 65520));
        assert!(sent.ends_with(&payload));

        // No address waits to be found unique, and none was made up.
        let addresses = std::fs::read_to_string("/proc/thread-self/net/if_inet6")?;
        let of_tap: Vec<_> = addresses.lines().filter(|line| line.ends_with("tap0")).collect();
        // IFA_F_PERMANENT and IFA_F_NODAD, and not IFA_F_TENTATIVE.
        assert!(matches!(of_tap[..], [line] if line.contains(" 40 00 82 ")), "{addresses}");
        let socket = UdpSocket::bind("[::]:0")?;
        socket.connect("[2001:db8::1]:53")?;
        assert_eq!(socket.local_addr()?.ip().to_string(), "fd00::100");

        drop(tap);
        assert_eq!(Changes::new()?.index_of("tap0")?, index);
        Ok(())
    }

    #[test]
    fn where_ipv6_is_off_the_rest_is_there() -> io::Result<()> {
        if !in_network_namespace("tap::tests::where_ipv6_is_off_the_rest_is_there") {
            return Ok(());
        }
        std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1")?;
        let _tap = open("tap0")?;
        let mut changes = Changes::new()?;
        let index = changes.index_of("tap0")?;
        changes.no_link_local(index);
        changes.link(index, Link { mtu: Some(1500), mac: None });
        changes.address(index, [10, 0, 2, 100].into(), 24);
        let v6 = changes.address(index, "fd00::100".parse::<Ipv6Addr>().expect("an address").into(), 64);
        changes.default_route(index, [10, 0, 2, 2].into());
        let refused = changes.make()?;
        assert!(matches!(&refused[..], [(step, error)] if *step == v6 && rtnetlink::lacks_ipv6(error)), "{refused:?}");
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect("192.0.2.1:53")?;
        Ok(())
    }

    /// The next frame of this kind, less its virtio header.
    fn frame(tap: &mut File, is_it: impl Fn(&[u8]) -> bool) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0; 70000];
        loop {
            let [ready] = poll::wait([(tap.as_fd(), Interest::Read)], Some(Duration::from_secs(5)))?;
            assert!(ready, "no such frame came");
            let length = tap.read(&mut buffer)?;
            let frame = &buffer[VNET_HEADER..length];
            if is_it(frame) {
                return Ok(frame.to_vec());
            }
        }
    }

    /// The gateway's answer to who asks for it.
    fn answer(asks: &[u8]) -> Vec<u8> {
        let who = &asks[22..32];
        let head = [&[0; VNET_HEADER][..], &asks[6..12], &GATEWAY_MAC, &ARP, &[0, 1, 8, 0, 6, 4, 0, 2]].concat();
        [&head[..], &GATEWAY_MAC, &[10, 0, 2, 2], who].concat()
    }
}
