//! UDP's header (RFC 768; RFC 8200 8.1 for IPv6).

use std::net::{IpAddr, SocketAddr};

use smoltcp::wire::IpProtocol;

use crate::checksum;
use crate::link::{IpHeader, Link};
use crate::packet::Packet;

/// How long it is.
pub(crate) const HEADER: usize = 8;

/// A datagram of the guest's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Datagram<'a> {
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    pub(crate) payload: &'a [u8],
}

impl<'a> Datagram<'a> {
    /// What a packet carries; none where that is no UDP, or no longer what was sent.
    pub(crate) fn parse(packet: &Packet<'a>) -> Option<Self> {
        let (header, rest) = packet.payload.split_first_chunk::<HEADER>()?;
        let field = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let (source, destination, length, sum) = (field(0), field(2), usize::from(field(4)), field(6));
        let payload = rest.get(..length.checked_sub(HEADER)?)?;
        let is_right = packet.trusted
            || match packet.source {
                IpAddr::V4(_) if sum == 0 => true,
                IpAddr::V6(_) if sum == 0 => false,
                _ => checksum::is_right(packet.source, packet.destination, IpProtocol::Udp, &packet.payload[..length]),
            };
        (packet.protocol == IpProtocol::Udp && is_right && destination != 0).then_some(Self {
            source: SocketAddr::new(packet.source, source),
            destination: SocketAddr::new(packet.destination, destination),
            payload,
        })
    }
}

/// Sends one to the guest, as one packet however long it is. Both addresses are of one family.
pub(crate) fn send(link: &mut dyn Link, from: SocketAddr, to: SocketAddr, payload: &[u8]) {
    let header = IpHeader { source: from.ip(), destination: to.ip(), protocol: IpProtocol::Udp };
    link.send(header, &self::header(from.port(), to.port(), payload.len()), payload, None);
}

/// Without a checksum.
pub(crate) fn header(from: u16, to: u16, length: usize) -> [u8; HEADER] {
    let (from, to, length) = (from.to_be_bytes(), to.to_be_bytes(), ((HEADER + length) as u16).to_be_bytes());
    [from[0], from[1], to[0], to[1], length[0], length[1], 0, 0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Bytes;

    #[test]
    fn what_is_no_datagram() {
        let good = Bytes::udp("10.0.2.100:1000", "192.0.2.1:2000", b"hello");
        let datagram = Datagram::parse(&good.packet()).expect("a datagram");
        assert_eq!(
            (datagram.source.port(), datagram.destination.port(), datagram.payload),
            (1000, 2000, &b"hello"[..])
        );
        let with = |at: usize, byte: u8, bytes: &Bytes| {
            let mut bytes = Bytes(bytes.0.clone());
            bytes.0[at] = byte;
            Datagram::parse(&bytes.packet()).is_some()
        };
        assert!(!with(30, 9, &good), "other data");
        assert!(!with(25, 7, &good) && !with(25, 14, &good), "too short, too long");
        assert!(!with(9, 6, &good), "TCP");
        for length in 20..33 {
            let mut bytes = Bytes(good.0[..length].to_vec());
            bytes.0[3] = length as u8;
            assert_eq!(Datagram::parse(&bytes.packet()), None);
        }
        let no_port = Bytes::udp("10.0.2.100:1000", "192.0.2.1:0", b"hello");
        assert_eq!(Datagram::parse(&no_port.packet()), None);
    }

    #[test]
    fn no_checksum() {
        for (bytes, header, may) in [
            (Bytes::udp("10.0.2.100:1000", "192.0.2.1:2000", b"hello"), 20, true),
            (Bytes::udp("[fd00::100]:1000", "[2001:db8::1]:2000", b"hello"), 40, false),
        ] {
            let mut bytes = bytes;
            assert!(Datagram::parse(&bytes.packet()).is_some());
            bytes.0[header + 6..header + 8].fill(0);
            assert_eq!(Datagram::parse(&bytes.packet()).is_some(), may);
            assert!(Datagram::parse(&Packet { trusted: true, ..bytes.packet() }).is_some());
        }
    }
}
