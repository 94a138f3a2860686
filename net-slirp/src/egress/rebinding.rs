//! Addresses that no name from outside may have: whoever answers for an allowed name would decide by them what is
//! reached of this host and its links (DNS rebinding).
//!
//! Private networks (RFC 1918, RFC 4193) are not among them, other than the guest's own: companies' servers have names
//! too.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::rule::first;
use crate::config::Subnet;

/// Where IPv4 addresses are reached by IPv6 (RFC 6052).
const NAT64: Ipv6Addr = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0);

/// Whether an address is the host's, a link's, nobody's, or in the guest's network.
pub(super) fn stays_here(address: IpAddr, v4: Option<Subnet<Ipv4Addr>>, v6: Option<Subnet<Ipv6Addr>>) -> bool {
    match address {
        IpAddr::V4(address) => {
            let [a, b, ..] = address.octets();
            let is_in = |own: Subnet<Ipv4Addr>| within(address.into(), own.guest.into(), own.prefix);
            // This network, loopback, link-local, multicast and what is reserved above it (RFC 6890).
            matches!((a, b), (0 | 127 | 224.., _) | (169, 254)) || v4.is_some_and(is_in)
        }
        IpAddr::V6(address) => {
            let is_in = |own: Subnet<Ipv6Addr>| within(address.into(), own.guest.into(), own.prefix);
            let is = |prefix: Ipv6Addr, length| within(address.into(), prefix.into(), length);
            let bits = address.to_bits() as u32;
            let here = address.is_unicast_link_local() || address.is_multicast() || v6.is_some_and(is_in);
            // ::, ::1, IPv4 in disguise (RFC 4291, 2.5.5), and site-local as it once was (RFC 3879).
            let is_disguised = is(Ipv6Addr::UNSPECIFIED, 96) || address.to_ipv4_mapped().is_some();
            let was_local = is(Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10);
            here || is_disguised || was_local || is(NAT64, 96) && stays_here(Ipv4Addr::from(bits).into(), v4, None)
        }
    }
}

fn within(address: IpAddr, of: IpAddr, prefix: u8) -> bool {
    first(address, prefix) == first(of, prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outside_and_not() {
        let stays = |text: &str| {
            let (v4, v6) = (Subnet::<Ipv4Addr>::DEFAULT, Subnet::<Ipv6Addr>::DEFAULT);
            stays_here(text.parse().expect("an address"), Some(v4), Some(v6))
        };
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "127.0.0.1",
            "127.255.255.255",
            "169.254.169.254",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "10.0.2.2",
            "10.0.2.200",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:192.0.2.1",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
            "fd00::2",
            "64:ff9b::127.0.0.1",
            "64:ff9b::169.254.169.254",
        ] {
            assert!(stays(address), "{address}");
        }
        for address in
            ["1.2.3.4", "10.0.3.1", "192.168.1.1", "223.255.255.255", "2001:db8::1", "fd00:1::1", "64:ff9b::1.2.3.4"]
        {
            assert!(!stays(address), "{address}");
        }
    }
}
