//! The way to the guest: IP packets, written to the tap as frames.

use std::fs::File;
use std::io::{IoSlice, Write};
use std::net::IpAddr;

use smoltcp::wire::{EthernetAddress, EthernetFrame, EthernetProtocol, IpProtocol, Ipv4Packet, Ipv6Packet};

use crate::checksum;
use crate::config::OUR_MAC;
use crate::vnet::{self, VnetHeader};

/// A time to live, or hop limit, for what begins here.
pub(crate) const HOPS: u8 = 64;

const ETHERNET: usize = 14;
const LONGEST_TRANSPORT: usize = 60;
const LONGEST_HEADERS: usize = vnet::LENGTH + ETHERNET + 40 + LONGEST_TRANSPORT;

/// The header of an IP packet. Both addresses are of one family.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IpHeader {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) protocol: IpProtocol,
}

/// Where packets to the guest go.
///
/// What the guest has no room for is lost, as on any network: whoever sends does not learn of it.
pub(crate) trait Link {
    /// Sends an IP packet: a transport protocol's header, in which the checksum is still missing, and what follows.
    /// Larger ones than the network's MTU are delivered as they are; `segment` has a TCP packet look as if it had come in
    /// pieces of this many bytes.
    fn send(&mut self, header: IpHeader, transport: &[u8], payload: &[u8], segment: Option<usize>);

    /// Sends the body of an ARP frame.
    fn send_arp(&mut self, body: &[u8]);
}

/// The tap.
pub(crate) struct Tap<'a> {
    file: &'a File,
    guest: EthernetAddress,
    /// So many bytes may be sent; of what is more, datagrams are dropped.
    most: u64,
    sent: u64,
}

impl<'a> Tap<'a> {
    /// `file` is nonblocking, and at its other end is the guest with this hardware address.
    pub(crate) fn new(file: &'a File, guest: [u8; 6]) -> Self {
        Self { file, guest: EthernetAddress(guest), most: u64::MAX, sent: 0 }
    }

    /// The same, through which only so many bytes are to be sent.
    pub(crate) fn with_limit(self, most: u64) -> Self {
        Self { most, ..self }
    }

    /// How many bytes more may be sent.
    pub(crate) fn left(&self) -> u64 {
        self.most.saturating_sub(self.sent)
    }

    /// How many were.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    fn write(&mut self, head: &[u8], payload: &[u8]) {
        self.sent += (head.len() + payload.len()) as u64;
        let mut file = self.file;
        // A tap takes all of a frame or nothing; and what it does not take is lost (EAGAIN, ENOBUFS, EIO while it is down).
        let _ = file.write_vectored(&[IoSlice::new(head), IoSlice::new(payload)]);
    }

    fn ethernet(&self, head: &mut [u8], protocol: EthernetProtocol) {
        let mut frame = EthernetFrame::new_unchecked(head);
        frame.set_dst_addr(self.guest);
        frame.set_src_addr(EthernetAddress(OUR_MAC));
        frame.set_ethertype(protocol);
    }
}

impl Link for Tap<'_> {
    fn send(&mut self, header: IpHeader, transport: &[u8], payload: &[u8], segment: Option<usize>) {
        if header.protocol == IpProtocol::Udp && self.left() == 0 {
            return;
        }
        let mut head = [0; LONGEST_HEADERS];
        let (vnet, frame) = head.split_at_mut(vnet::LENGTH);
        let (ethernet, packet) = frame.split_at_mut(ETHERNET);
        let length = transport.len() + payload.len();
        let is_v6 = header.destination.is_ipv6();
        let ip = emit_ip(header, length, packet);
        self.ethernet(ethernet, if is_v6 { EthernetProtocol::Ipv6 } else { EthernetProtocol::Ipv4 });
        packet[ip..ip + transport.len()].copy_from_slice(transport);
        let headers = ETHERNET + ip + transport.len();
        let mut offload = VnetHeader::NONE;
        if let Some(offset) = checksum::place(header.protocol) {
            let sum = checksum::pseudo(header.source, header.destination, header.protocol, length);
            packet[ip + offset..ip + offset + 2].copy_from_slice(&sum.to_be_bytes());
            offload = VnetHeader::with_checksum(ETHERNET + ip, offset);
        }
        if let Some(segment) = segment.filter(|segment| payload.len() > *segment) {
            offload = offload.in_segments(is_v6, headers, segment);
        }
        vnet.copy_from_slice(&offload.encode());
        self.write(&head[..vnet::LENGTH + headers], payload);
    }

    fn send_arp(&mut self, body: &[u8]) {
        let mut head = [0; vnet::LENGTH + ETHERNET];
        self.ethernet(&mut head[vnet::LENGTH..], EthernetProtocol::Arp);
        self.write(&head, body);
    }
}

/// Writes the header of a packet with a payload of this many bytes; gives its own length.
pub(crate) fn emit_ip(header: IpHeader, length: usize, buffer: &mut [u8]) -> usize {
    match (header.source, header.destination) {
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let mut packet = Ipv6Packet::new_unchecked(&mut buffer[..40]);
            packet.set_version(6);
            packet.set_traffic_class(0);
            packet.set_flow_label(0);
            packet.set_payload_len(length as u16);
            packet.set_next_header(header.protocol);
            packet.set_hop_limit(hops(header.protocol));
            packet.set_src_addr(source);
            packet.set_dst_addr(destination);
            40
        }
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let mut packet = Ipv4Packet::new_unchecked(&mut buffer[..20]);
            packet.set_version(4);
            packet.set_header_len(20);
            packet.set_total_len((20 + length) as u16);
            packet.clear_flags();
            packet.set_hop_limit(HOPS);
            packet.set_next_header(header.protocol);
            packet.set_src_addr(source);
            packet.set_dst_addr(destination);
            packet.fill_checksum();
            20
        }
        _ => unreachable!("a packet is of one family"),
    }
}

/// Changes the time to live, or hop limit, of a packet with a header that [`emit_ip`] has written.
pub(crate) fn set_hops(packet: &mut [u8], hops: u8) {
    if packet[0] >> 4 == 4 {
        let mut packet = Ipv4Packet::new_unchecked(packet);
        packet.set_hop_limit(hops);
        packet.fill_checksum();
    } else {
        Ipv6Packet::new_unchecked(packet).set_hop_limit(hops);
    }
}

/// Neighbour discovery is from the same link, which the highest hop limit proves (RFC 4861, 11.2).
fn hops(protocol: IpProtocol) -> u8 {
    if protocol == IpProtocol::Icmpv6 { 255 } else { HOPS }
}
