//! The Internet checksum (RFC 1071), and what of it is left to the kernel.

use std::net::IpAddr;

use smoltcp::wire::IpProtocol;

/// Where in a transport protocol's header the checksum is.
pub(crate) fn place(protocol: IpProtocol) -> Option<usize> {
    match protocol {
        IpProtocol::Tcp => Some(16),
        IpProtocol::Udp => Some(6),
        IpProtocol::Icmp | IpProtocol::Icmpv6 => Some(2),
        _ => None,
    }
}

/// The sum, not yet complemented, of what a transport protocol's checksum covers besides header and data: with this in the
/// checksum's place, the kernel adds the rest. ICMP's covers nothing else.
pub(crate) fn pseudo(source: IpAddr, destination: IpAddr, protocol: IpProtocol, length: usize) -> u16 {
    if protocol == IpProtocol::Icmp {
        return 0;
    }
    let addresses = match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => sum(&source.octets()) + sum(&destination.octets()),
        (IpAddr::V6(source), IpAddr::V6(destination)) => sum(&source.octets()) + sum(&destination.octets()),
        _ => unreachable!("a packet is of one family"),
    };
    fold(addresses + u64::from(u8::from(protocol)) + length as u64)
}

/// Whether the checksum of a transport protocol's header and data is right.
pub(crate) fn is_right(source: IpAddr, destination: IpAddr, protocol: IpProtocol, bytes: &[u8]) -> bool {
    let all = u64::from(pseudo(source, destination, protocol, bytes.len())) + sum(bytes);
    fold(all) == u16::MAX
}

/// Fills it in.
#[cfg(test)]
pub(crate) fn fill(source: IpAddr, destination: IpAddr, protocol: IpProtocol, bytes: &mut [u8]) {
    let Some(place) = place(protocol) else { return };
    bytes[place..place + 2].fill(0);
    let all = u64::from(pseudo(source, destination, protocol, bytes.len())) + sum(bytes);
    bytes[place..place + 2].copy_from_slice(&(!fold(all)).to_be_bytes());
}

/// Words in network order, the last one filled up with a zero.
fn sum(bytes: &[u8]) -> u64 {
    let words = bytes.chunks_exact(2);
    let last = words.remainder().first().map_or(0, |byte| u64::from(*byte) << 8);
    words.map(|word| u64::from(u16::from_be_bytes([word[0], word[1]]))).sum::<u64>() + last
}

fn fold(mut sum: u64) -> u16 {
    while sum > u64::from(u16::MAX) {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_as_it_was_on_a_wire() {
        let (source, destination) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        // Ports 1 and 2, length 11, checksum, "abc".
        let mut datagram = [0, 1, 0, 2, 0, 11, 0, 0, b'a', b'b', b'c'];
        let all = u64::from(pseudo(source, destination, IpProtocol::Udp, 11)) + sum(&datagram);
        let checksum = !fold(all);
        // 0x0a00+1 + 0x0a00+2 + 17 + 11 + 1 + 2 + 11 + 0x6162 + 0x6300 = 0xd88f
        assert_eq!(checksum, !0xd88f);
        datagram[6..8].copy_from_slice(&checksum.to_be_bytes());
        assert!(is_right(source, destination, IpProtocol::Udp, &datagram));
        datagram[9] ^= 1;
        assert!(!is_right(source, destination, IpProtocol::Udp, &datagram));
    }
}
