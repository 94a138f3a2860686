//! Whose hardware address is whose: ARP (RFC 826) and neighbour discovery (RFC 4861).
//!
//! Behind our hardware address is everybody but the guest, whatever route it takes to them. There is nothing to
//! remember and nothing that we ask: the guest has one address, and all frames for it go there.
//!
//! A guest that asks whether an address is free before it takes it (RFC 5227, RFC 4862 5.4) hears only of the two that
//! are taken, the gateway's and that for names. Routers are not advertised: the guest is told its addresses by whoever
//! makes it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use smoltcp::wire::{ArpOperation, ArpPacket, ArpRepr, EthernetAddress, IpProtocol};

use crate::checksum;
use crate::config::OUR_MAC;
use crate::context::Context;
use crate::link::IpHeader;
use crate::packet::Packet;

const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// Flags of an advertisement.
const ROUTER: u8 = 0x80;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;
/// An option: the hardware address of what is advertised.
const TARGET_ADDRESS: u8 = 2;

/// The body of an ARP frame from the guest.
pub(crate) fn on_arp(body: &[u8], cx: &mut Context<'_>) {
    let repr = ArpPacket::new_checked(body).and_then(|packet| ArpRepr::parse(&packet));
    let Ok(ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Request,
        source_hardware_addr: asker,
        source_protocol_addr: asker_address,
        target_protocol_addr: target,
        ..
    }) = repr
    else {
        return;
    };
    // Who asks for his own address tells others that it is his.
    if asker_address == target || !is_somebody_elses(target.into(), asker_address == Ipv4Addr::UNSPECIFIED, cx) {
        return;
    }
    let answer = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Reply,
        source_hardware_addr: EthernetAddress(OUR_MAC),
        source_protocol_addr: target,
        target_hardware_addr: asker,
        target_protocol_addr: asker_address,
    };
    let mut bytes = [0; 28];
    answer.emit(&mut ArpPacket::new_unchecked(&mut bytes));
    cx.link.send_arp(&bytes);
}

/// A packet from the guest; nothing is done about any but neighbour solicitations.
pub(crate) fn on_packet(packet: &Packet<'_>, cx: &mut Context<'_>) {
    let (IpAddr::V6(asker), Some(target)) = (packet.source, solicited(packet)) else { return };
    let is_probe = asker.is_unspecified();
    if asker.is_multicast() || !is_somebody_elses(target.into(), is_probe, cx) {
        return;
    }
    let is_router = cx.config.gateway(target.into()) == Some(target.into());
    let mut bytes = [0; 32];
    bytes[0] = ADVERTISEMENT;
    bytes[4] = OVERRIDE | if is_probe { 0 } else { SOLICITED } | if is_router { ROUTER } else { 0 };
    bytes[8..24].copy_from_slice(&target.octets());
    bytes[24..26].copy_from_slice(&[TARGET_ADDRESS, 1]);
    bytes[26..].copy_from_slice(&OUR_MAC);
    // Who has no address yet hears what everybody does (RFC 4861, 7.2.4).
    let destination = if is_probe { Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1) } else { asker };
    let header = IpHeader { source: target.into(), destination: destination.into(), protocol: IpProtocol::Icmpv6 };
    cx.link.send(header, &bytes, &[], None);
}

/// Whom a valid neighbour solicitation asks for (RFC 4861, 7.1.1).
fn solicited(packet: &Packet<'_>) -> Option<Ipv6Addr> {
    if packet.protocol != IpProtocol::Icmpv6 || packet.hops != 255 {
        return None;
    }
    let (fields, mut options) = packet.payload.split_first_chunk::<24>()?;
    if fields[..2] != [SOLICITATION, 0] {
        return None;
    }
    while let [_, length, ..] = options {
        options = options.get(usize::from(*length) * 8..).filter(|_| *length > 0)?;
    }
    let is_right =
        packet.trusted || checksum::is_right(packet.source, packet.destination, packet.protocol, packet.payload);
    let target = Ipv6Addr::from(*fields[8..].first_chunk::<16>()?);
    Some(target).filter(|_| options.is_empty() && is_right)
}

fn is_somebody_elses(target: IpAddr, is_probe: bool, cx: &Context<'_>) -> bool {
    let nobodys = target.is_unspecified() || target.is_multicast() || target.is_loopback();
    let ours = cx.config.gateway(target) == Some(target) || cx.config.is_dns(target);
    !nobodys && !cx.config.is_guest(target) && (ours || !is_probe)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::GUEST_MAC;
    use crate::testing::{Bytes, World, address};

    fn ask(asker: &str, target: &str) -> Option<ArpRepr> {
        let request = ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Request,
            source_hardware_addr: EthernetAddress(GUEST_MAC),
            source_protocol_addr: asker.parse().expect("an address"),
            target_hardware_addr: EthernetAddress([0; 6]),
            target_protocol_addr: target.parse().expect("an address"),
        };
        let mut bytes = [0; 28];
        request.emit(&mut ArpPacket::new_unchecked(&mut bytes));
        let mut world = World::new();
        on_arp(&bytes, &mut world.cx());
        let answer = world.link.arp.pop()?;
        ArpRepr::parse(&ArpPacket::new_checked(&answer[..]).expect("ARP")).ok()
    }

    #[test]
    fn everybody_but_the_guest_is_behind_one_address() {
        for target in ["10.0.2.2", "10.0.2.3", "10.0.2.77", "192.0.2.1"] {
            let expected = ArpRepr::EthernetIpv4 {
                operation: ArpOperation::Reply,
                source_hardware_addr: EthernetAddress(OUR_MAC),
                source_protocol_addr: target.parse().expect("an address"),
                target_hardware_addr: EthernetAddress(GUEST_MAC),
                target_protocol_addr: Ipv4Addr::new(10, 0, 2, 100),
            };
            assert_eq!(ask("10.0.2.100", target), Some(expected));
        }
        for target in ["10.0.2.100", "0.0.0.0", "224.0.0.1", "127.0.0.1"] {
            assert_eq!(ask("10.0.2.100", target), None, "{target}");
        }
    }

    #[test]
    fn what_the_guest_takes_is_free() {
        assert_eq!(ask("0.0.0.0", "10.0.2.100"), None);
        assert_eq!(ask("0.0.0.0", "10.0.2.101"), None);
        assert_eq!(ask("10.0.2.101", "10.0.2.101"), None);
        assert!(ask("0.0.0.0", "10.0.2.2").is_some());
        let mut world = World::new();
        for length in 0..28 {
            on_arp(&[1; 28][..length], &mut world.cx());
        }
        assert_eq!(world.link.arp.len(), 0);
    }

    fn solicitation(asker: &str, target: &str, options: &[u8]) -> Bytes {
        let IpAddr::V6(target) = address(target) else { panic!("IPv6") };
        let payload = [&[SOLICITATION, 0, 0, 0, 0, 0, 0, 0][..], &target.octets(), options].concat();
        Bytes::new(asker, "ff02::1:ff00:2", IpProtocol::Icmpv6, &payload)
    }

    #[test]
    fn solicitations_are_answered() {
        let mut world = World::new();
        let options = [&[1, 1][..], &GUEST_MAC].concat();
        for (target, flags) in [("fd00::2", 0xe0), ("fd00::3", 0x60), ("fe80::9", 0x60), ("2001:db8::1", 0x60)] {
            on_packet(&solicitation("fd00::100", target, &options).packet(), &mut world.cx());
            let sent = world.only();
            assert_eq!((sent.header.source, sent.header.destination), (address(target), address("fd00::100")));
            assert_eq!((sent.bytes[0], sent.bytes[4], &sent.bytes[24..26]), (136, flags, &[2, 1][..]));
            assert_eq!(sent.bytes[26..], OUR_MAC);
        }
        on_packet(&solicitation("::", "fd00::2", &[]).packet(), &mut world.cx());
        let sent = world.only();
        assert_eq!((sent.header.destination, sent.bytes[4]), (address("ff02::1"), 0xa0));
    }

    #[test]
    fn others_are_not() {
        let mut world = World::new();
        let mut wrong = solicitation("fd00::100", "fd00::2", &[]);
        wrong.0[63] ^= 1;
        let router = [&[133, 0, 0, 0, 0, 0, 0, 0][..], &[0; 16]].concat();
        let quiet = [
            solicitation("fd00::100", "fd00::100", &[]),
            solicitation("::", "fd00::100", &[]),
            solicitation("::", "fe80::1", &[]),
            solicitation("fd00::100", "ff02::1", &[]),
            solicitation("fd00::100", "fd00::2", &[1, 0]),
            solicitation("fd00::100", "fd00::2", &[1, 1, 0]),
            solicitation("fd00::100", "fd00::2", &[1]),
            solicitation("fd00::100", "fd00::2", &[]).with_hops(254),
            Bytes::new("fd00::100", "ff02::2", IpProtocol::Icmpv6, &router),
            Bytes::new("fd00::100", "fd00::2", IpProtocol::Icmpv6, &[SOLICITATION, 0, 0, 0]),
            wrong,
        ];
        for bytes in quiet {
            on_packet(&bytes.packet(), &mut world.cx());
            assert_eq!(world.link.packets.len(), 0, "{:?}", bytes.packet());
        }
    }
}
