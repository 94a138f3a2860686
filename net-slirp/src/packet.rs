//! Packets from the guest: bytes that anybody may have made up, as far as the transport protocol's.

use std::net::IpAddr;

use smoltcp::wire::{
    EthernetFrame, EthernetProtocol, IpProtocol, Ipv4Packet, Ipv6ExtHeader, Ipv6FragmentHeader, Ipv6Packet,
};

use crate::vnet::{self, VnetHeader};

/// What a frame carries.
#[derive(Debug)]
pub enum Frame<'a> {
    /// The body of an ARP frame.
    Arp(&'a [u8]),
    /// A whole IP packet.
    Packet(Packet<'a>),
    /// A part of one.
    Fragment(Fragment<'a>),
}

/// An IP packet, less its headers.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'a> {
    /// From whom it says it is.
    pub source: IpAddr,
    /// To whom.
    pub destination: IpAddr,
    /// What the payload is.
    pub protocol: IpProtocol,
    /// IPv4's time to live, IPv6's hop limit.
    pub hops: u8,
    /// Whether its checksum need not be looked at.
    pub trusted: bool,
    /// The transport protocol's header and what follows.
    pub payload: &'a [u8],
    /// From the IP header on: errors quote it (RFC 792, RFC 4443).
    pub whole: &'a [u8],
}

/// A part of a packet (RFC 791, RFC 8200 4.5).
#[derive(Debug, Clone, Copy)]
pub struct Fragment<'a> {
    /// As of the packet; the payload is this part of it.
    pub part: Packet<'a>,
    /// What the parts of one packet have in common, besides addresses and protocol.
    pub identification: u32,
    /// Where in the packet's payload this part belongs, in bytes.
    pub offset: usize,
    /// Whether more of it follows this part.
    pub more: bool,
}

impl<'a> Frame<'a> {
    /// What was read from the tap: a [`VnetHeader`], an Ethernet header, and the rest. None where that is nothing we
    /// understand: it is dropped, as on any network.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (header, frame) = bytes.split_first_chunk::<{ vnet::LENGTH }>()?;
        let trusted = VnetHeader::decode(*header).vouches_for_checksum();
        let frame = EthernetFrame::new_checked(frame).ok()?;
        match frame.ethertype() {
            EthernetProtocol::Arp => Some(Self::Arp(frame.payload())),
            EthernetProtocol::Ipv4 => Self::parse_v4(frame.payload(), trusted),
            EthernetProtocol::Ipv6 => Self::parse_v6(frame.payload(), trusted),
            EthernetProtocol::Unknown(_) => None,
        }
    }

    /// An IP packet, from its header on.
    pub(crate) fn parse_ip(bytes: &'a [u8], trusted: bool) -> Option<Self> {
        match bytes.first()? >> 4 {
            4 => Self::parse_v4(bytes, trusted),
            6 => Self::parse_v6(bytes, trusted),
            _ => None,
        }
    }

    fn parse_v4(bytes: &'a [u8], trusted: bool) -> Option<Self> {
        let packet = Ipv4Packet::new_checked(bytes).ok()?;
        // A length of zero would be that of a packet of more than 64 KiB (BIG TCP), which no tap has.
        if packet.version() != 4 || packet.header_len() < 20 || packet.total_len() < packet.header_len().into() {
            return None;
        }
        let part = Packet {
            source: packet.src_addr().into(),
            destination: packet.dst_addr().into(),
            protocol: packet.next_header(),
            hops: packet.hop_limit(),
            trusted,
            payload: packet.payload(),
            whole: &bytes[..packet.total_len().into()],
        };
        if !packet.more_frags() && packet.frag_offset() == 0 {
            return Some(Self::Packet(part));
        }
        Some(Self::Fragment(Fragment {
            part,
            identification: packet.ident().into(),
            offset: packet.frag_offset().into(),
            more: packet.more_frags(),
        }))
    }

    fn parse_v6(bytes: &'a [u8], trusted: bool) -> Option<Self> {
        let packet = Ipv6Packet::new_checked(bytes).ok()?;
        if packet.version() != 6 {
            return None;
        }
        let whole = &bytes[..packet.total_len()];
        let mut part = Packet {
            source: packet.src_addr().into(),
            destination: packet.dst_addr().into(),
            protocol: packet.next_header(),
            hops: packet.hop_limit(),
            trusted,
            payload: packet.payload(),
            whole,
        };
        // Each takes eight bytes at least, so this ends.
        loop {
            match part.protocol {
                IpProtocol::HopByHop | IpProtocol::Ipv6Opts => {
                    let header = Ipv6ExtHeader::new_checked(part.payload).ok()?;
                    let length = usize::from(header.header_len()) * 8 + 8;
                    (part.protocol, part.payload) = (header.next_header(), part.payload.get(length..)?);
                }
                IpProtocol::Ipv6Frag => {
                    let (common, rest) = part.payload.split_first_chunk::<8>()?;
                    let header = Ipv6FragmentHeader::new_checked(&common[2..]).ok()?;
                    (part.protocol, part.payload) = (IpProtocol::from(common[0]), rest);
                    let offset = usize::from(header.frag_offset()) * 8;
                    if offset == 0 && !header.more_frags() {
                        // An atomic fragment is a whole packet (RFC 6946).
                        continue;
                    }
                    let (identification, more) = (header.ident(), header.more_frags());
                    return Some(Self::Fragment(Fragment { part, identification, offset, more }));
                }
                _ => return Some(Self::Packet(part)),
            }
        }
    }
}
