//! ICMP and ICMPv6 errors to the guest: what became of a packet of its (RFC 792, RFC 1122 3.2.2, RFC 1812 4.3.2; RFC
//! 4443).
//!
//! An error quotes as much of the packet as the whole may be long: 576 bytes, or IPv6's 1280. None is sent about
//! another error, nor about what was sent to many, so that two ends that are both wrong cannot go on for ever. Who
//! reassembles has only whole packets to complain about; a part of one is not to be handed in here.
//!
//! There may be 1000 a second, and 50 at once: Linux's own limits (net.ipv4.icmp_msgs_per_sec, icmp_msgs_burst), for
//! the guest is nobody but itself when it scans ports.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use rbox_sys::errqueue::Report;
use smoltcp::wire::IpProtocol;

use crate::budget::Budget;
use crate::config::Config;
use crate::context::Context;
use crate::link::{self, IpHeader};
use crate::packet::Packet;

/// Why a packet went nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unreachable {
    /// No way leads there.
    Network,
    /// The last router found nobody of that address.
    Host,
    /// Nobody listens there.
    Port,
    /// The guest has no business there.
    Prohibited,
}

/// An error's type and code, as they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) kind: u8,
    pub(crate) code: u8,
}

const AT_ONCE: u32 = 50;
const ONE_MORE_AFTER: Duration = Duration::from_millis(1);

const LONGEST_V4: usize = 576 - 20 - HEADER;
const LONGEST_V6: usize = 1280 - 40 - HEADER;
const HEADER: usize = 8;

/// How many there may be.
pub(crate) const fn budget() -> Budget {
    Budget::new(AT_ONCE, ONE_MORE_AFTER)
}

/// Tells the guest that a packet of its went nowhere: in the name of whom it was for where nobody listens there, else
/// of the gateway.
pub(crate) fn unreachable(why: Unreachable, about: &Packet<'_>, cx: &mut Context<'_>) {
    let source = match why {
        Unreachable::Port => Some(about.destination),
        _ => cx.config.gateway(about.destination),
    };
    send_about(why.kind(about.destination.is_ipv6()), source, about, cx);
}

/// Tells the guest that a packet of its was not to go farther than to the gateway.
pub(crate) fn time_exceeded(about: &Packet<'_>, cx: &mut Context<'_>) {
    let kind = if about.destination.is_ipv6() { Kind { kind: 3, code: 0 } } else { Kind { kind: 11, code: 0 } };
    send_about(kind, cx.config.gateway(about.destination), about, cx);
}

/// Passes an error on that a socket of ours has got: to `about.source`, the guest, in the name of whom it came from. What
/// it quotes is what the guest has sent: the header `about`, a transport protocol's header, and as much of the rest as is
/// known.
pub(crate) fn pass_on(report: &Report, about: IpHeader, transport: &[u8], rest: &[u8], cx: &mut Context<'_>) {
    let kind = Kind { kind: report.kind, code: report.code };
    let is_v6 = about.destination.is_ipv6();
    let offender = report.offender.and_then(|offender| cx.config.seen(offender));
    let source = offender.filter(|offender| offender.is_ipv6() == is_v6).or(cx.config.gateway(about.destination));
    let (true, Some(source)) = (kind.is_passed_on(is_v6), source) else { return };
    let mut quote = [0; LONGEST_V6];
    let ip = link::emit_ip(about, transport.len() + rest.len(), &mut quote);
    let mut length = ip;
    for byte in transport.iter().chain(rest).take(LONGEST_V6 - ip) {
        quote[length] = *byte;
        length += 1;
    }
    send(kind, source, about.source, &quote[..length], cx);
}

impl Unreachable {
    /// What an error of a socket says of where it was to send, if that is anything.
    pub(crate) fn of(error: &io::Error) -> Option<Self> {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Some(Self::Port),
            io::ErrorKind::HostUnreachable => Some(Self::Host),
            // The host has no address from which to send there.
            io::ErrorKind::NetworkUnreachable | io::ErrorKind::NetworkDown | io::ErrorKind::AddrNotAvailable => {
                Some(Self::Network)
            }
            // EACCES, and EPERM of a firewall.
            io::ErrorKind::PermissionDenied => Some(Self::Prohibited),
            _ => None,
        }
    }

    fn kind(self, is_v6: bool) -> Kind {
        let (kind, code) = match (self, is_v6) {
            (Self::Network, false) => (3, 0),
            (Self::Host, false) => (3, 1),
            (Self::Port, false) => (3, 3),
            (Self::Prohibited, false) => (3, 13),
            (Self::Network, true) => (1, 0),
            (Self::Prohibited, true) => (1, 1),
            (Self::Host, true) => (1, 3),
            (Self::Port, true) => (1, 4),
        };
        Kind { kind, code }
    }
}

impl Kind {
    /// That something is unreachable, or that time was exceeded. That a packet was too big is no business of the
    /// guest's: the host cuts what it sends as its way there needs it.
    fn is_passed_on(self, is_v6: bool) -> bool {
        matches!((is_v6, self.kind, self.code), (false, 3, 0..=3 | 5..) | (false, 11, _) | (true, 1 | 3, _))
    }
}

fn send_about(kind: Kind, source: Option<IpAddr>, about: &Packet<'_>, cx: &mut Context<'_>) {
    if let Some(source) = source.filter(|_| may_be_answered(about, cx.config)) {
        send(kind, source, about.source, about.whole, cx);
    }
}

/// RFC 1122 3.2.2, RFC 4443 2.4 (e).
fn may_be_answered(about: &Packet<'_>, config: &Config) -> bool {
    let to_many = about.destination.is_multicast()
        || about.destination == IpAddr::V4(Ipv4Addr::BROADCAST)
        || config.is_broadcast(about.destination);
    let is_error = match (about.protocol, about.payload.first()) {
        (IpProtocol::Icmp, kind) => !matches!(kind, Some(0 | 8 | 13..=18)),
        (IpProtocol::Icmpv6, kind) => !matches!(kind, Some(128..)),
        _ => false,
    };
    config.is_guest(about.source) && !to_many && !is_error
}

fn send(kind: Kind, source: IpAddr, destination: IpAddr, quote: &[u8], cx: &mut Context<'_>) {
    if !cx.errors.spend(cx.now) {
        return;
    }
    let (protocol, longest) = match destination {
        IpAddr::V4(_) => (IpProtocol::Icmp, LONGEST_V4),
        IpAddr::V6(_) => (IpProtocol::Icmpv6, LONGEST_V6),
    };
    let header = [kind.kind, kind.code, 0, 0, 0, 0, 0, 0];
    let quote = &quote[..quote.len().min(longest)];
    cx.link.send(IpHeader { source, destination, protocol }, &header, quote, None);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Bytes, World, address};

    const GUEST: &str = "10.0.2.100:5000";

    #[test]
    fn what_is_quoted() {
        let mut world = World::new();
        let short = Bytes::udp(GUEST, "192.0.2.1:9", b"abc");
        unreachable(Unreachable::Port, &short.packet(), &mut world.cx());
        let sent = world.only();
        assert_eq!((sent.header.source, sent.header.destination), (address("192.0.2.1"), address("10.0.2.100")));
        assert_eq!(sent.header.protocol, IpProtocol::Icmp);
        assert_eq!((&sent.bytes[..8], &sent.bytes[8..]), (&[3, 3, 0, 0, 0, 0, 0, 0][..], &short.0[..]));

        let long = Bytes::udp(GUEST, "192.0.2.1:9", &[7; 3000]);
        unreachable(Unreachable::Prohibited, &long.packet(), &mut world.cx());
        let sent = world.only();
        assert_eq!((sent.header.source, 20 + sent.bytes.len()), (address("10.0.2.2"), 576));
        assert_eq!((&sent.bytes[..2], &sent.bytes[8..]), (&[3, 13][..], &long.0[..548]));

        let long = Bytes::udp("[fd00::100]:1", "[2001:db8::1]:2", &[7; 3000]);
        time_exceeded(&long.packet(), &mut world.cx());
        let sent = world.only();
        assert_eq!((sent.header.source, 40 + sent.bytes.len()), (address("fd00::2"), 1280));
        assert_eq!((sent.header.protocol, &sent.bytes[..2]), (IpProtocol::Icmpv6, &[3, 0][..]));
    }

    #[test]
    fn none_about_errors_and_what_is_for_many() {
        let mut world = World::new();
        let quiet = [
            Bytes::udp(GUEST, "224.0.0.251:5353", b"x"),
            Bytes::udp(GUEST, "255.255.255.255:67", b"x"),
            Bytes::udp(GUEST, "10.0.2.255:137", b"x"),
            Bytes::udp("[fd00::100]:1", "[ff02::1]:2", b"x"),
            Bytes::udp("192.0.2.9:1", "192.0.2.1:2", b"x"),
            Bytes::new("10.0.2.100", "192.0.2.1", IpProtocol::Icmp, &[3, 3, 0, 0, 0, 0, 0, 0]),
            Bytes::new("fd00::100", "2001:db8::1", IpProtocol::Icmpv6, &[1, 0, 0, 0, 0, 0, 0, 0]),
        ];
        for bytes in quiet {
            unreachable(Unreachable::Host, &bytes.packet(), &mut world.cx());
            assert_eq!(world.link.packets.len(), 0, "{:?}", bytes.packet());
        }
        unreachable(Unreachable::Host, &Bytes::echo("10.0.2.100", "192.0.2.1", 1, b"").packet(), &mut world.cx());
        assert_eq!(world.only().bytes[..2], [3, 1]);
    }

    #[test]
    fn no_more_than_so_many() {
        let mut world = World::new();
        let bytes = Bytes::udp(GUEST, "192.0.2.1:9", b"x");
        let sent = |world: &mut World| {
            for _ in 0..200 {
                unreachable(Unreachable::Port, &bytes.packet(), &mut world.cx());
            }
            std::mem::take(&mut world.link.packets).len()
        };
        assert_eq!(sent(&mut world), 50);
        world.now += Duration::from_millis(20);
        assert_eq!(sent(&mut world), 20);
        world.now += Duration::from_secs(3600);
        assert_eq!(sent(&mut world), 50);
    }

    #[test]
    fn what_a_socket_says() {
        let of = |error| Unreachable::of(&io::Error::from_raw_os_error(error));
        for (errno, why) in [
            (111, Some(Unreachable::Port)),
            (113, Some(Unreachable::Host)),
            (101, Some(Unreachable::Network)),
            (13, Some(Unreachable::Prohibited)),
            (1, Some(Unreachable::Prohibited)),
            (11, None),
            (90, None),
        ] {
            assert_eq!(of(errno), why, "{errno}");
        }
    }
}
