//! What a network is to be like: addresses, and what may be reached.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use crate::egress::Policy;
use crate::rate::Rate;

/// The guest's hardware address, unless another is asked for: locally administered, the same in every network.
pub const GUEST_MAC: [u8; 6] = [0x52, 0x55, 0x0a, 0x00, 0x02, 0x64];
/// That of everything else in the network.
pub const OUR_MAC: [u8; 6] = [0x52, 0x55, 0x0a, 0x00, 0x02, 0x02];
/// The largest frame that a tap takes, less its headers, in a multiple of 16 (as slirp4netns has it).
pub const MTU: u16 = 65520;

/// A network.
#[derive(Debug)]
pub struct Config {
    /// The largest IP packet, in bytes.
    pub mtu: u16,
    /// The guest's hardware address.
    pub guest_mac: [u8; 6],
    /// IPv4.
    pub v4: Option<Subnet<Ipv4Addr>>,
    /// IPv6.
    pub v6: Option<Subnet<Ipv6Addr>>,
    /// Whether the gateway's addresses are the host's loopback ones.
    pub allow_host_loopback: bool,
    /// The host's resolv.conf(5): read anew when it changes.
    pub resolv_conf: PathBuf,
    /// The host, to who asks for it by name.
    pub host: HostAddresses,
    /// What reaches the guest from outside.
    pub published: Vec<Published>,
    /// Where the guest may go.
    pub egress: Policy,
    /// How fast.
    pub rate: Rate,
    /// Gets a line of JSON for each flow that the guest begins or is refused; opened for appending.
    pub log: Option<File>,
    /// Has how many were refused, and why, at any time ([`Refusals`](crate::egress::Refusals)).
    pub refusals: Option<File>,
    /// Readable when the network is to end.
    pub end: Option<OwnedFd>,
}

/// One with both families, from which everything outside can be reached and nothing comes in.
impl Default for Config {
    fn default() -> Self {
        Self {
            mtu: MTU,
            guest_mac: GUEST_MAC,
            v4: Some(Subnet::<Ipv4Addr>::DEFAULT),
            v6: Some(Subnet::<Ipv6Addr>::DEFAULT),
            allow_host_loopback: false,
            resolv_conf: "/etc/resolv.conf".into(),
            host: HostAddresses::default(),
            published: Vec::new(),
            egress: Policy::default(),
            rate: Rate::default(),
            log: None,
            refusals: None,
            end: None,
        }
    }
}

/// The addresses of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subnet<A> {
    /// The guest's own.
    pub guest: A,
    /// How many bits of it are the network's.
    pub prefix: u8,
    /// The way out.
    pub gateway: A,
    /// Where queries for names are answered.
    pub dns: A,
}

impl Subnet<Ipv4Addr> {
    /// 10.0.2.0/24, with the addresses that slirp has always had.
    pub const DEFAULT: Self = Self {
        guest: Ipv4Addr::new(10, 0, 2, 100),
        prefix: 24,
        gateway: Ipv4Addr::new(10, 0, 2, 2),
        dns: Ipv4Addr::new(10, 0, 2, 3),
    };
}

impl Subnet<Ipv6Addr> {
    /// fd00::/64.
    pub const DEFAULT: Self = Self {
        guest: Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x100),
        prefix: 64,
        gateway: Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2),
        dns: Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 3),
    };
}

/// What host.containers.internal and host.docker.internal stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HostAddresses {
    /// IPv4.
    pub v4: Option<Ipv4Addr>,
    /// IPv6.
    pub v6: Option<Ipv6Addr>,
}

/// A port of the host's that leads to one of the guest's.
#[derive(Debug)]
pub struct Published {
    /// Bound, and for TCP listening; nonblocking.
    pub socket: PublishedSocket,
    /// The guest's.
    pub guest_port: u16,
}

/// The host's side of it.
#[derive(Debug)]
pub enum PublishedSocket {
    /// Whoever connects is seen by the guest as who he is.
    Tcp(TcpListener),
    /// The same of datagrams.
    Udp(UdpSocket),
}

impl Config {
    /// Whether this is the guest.
    pub fn is_guest(&self, address: IpAddr) -> bool {
        self.guest(address).is_some_and(|guest| guest == address)
    }

    /// The guest's address of the same family as this one.
    pub fn guest(&self, like: IpAddr) -> Option<IpAddr> {
        match like {
            IpAddr::V4(_) => self.v4.map(|subnet| subnet.guest.into()),
            IpAddr::V6(_) => self.v6.map(|subnet| subnet.guest.into()),
        }
    }

    /// The gateway's address of the same family as this one.
    pub fn gateway(&self, like: IpAddr) -> Option<IpAddr> {
        match like {
            IpAddr::V4(_) => self.v4.map(|subnet| subnet.gateway.into()),
            IpAddr::V6(_) => self.v6.map(|subnet| subnet.gateway.into()),
        }
    }

    /// Whether queries sent here are answered.
    pub fn is_dns(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.v4.is_some_and(|subnet| subnet.dns == address),
            IpAddr::V6(address) => self.v6.is_some_and(|subnet| subnet.dns == address),
        }
    }

    /// Where the host is to be asked for what the guest calls this address; none where the guest has no business.
    ///
    /// The host's own loopback is out of reach, by whatever address: what listens there trusts whoever can reach it.
    /// A connection to no address at all (0.0.0.0, ::) is one to the loopback as well.
    pub fn reachable(&self, address: IpAddr) -> Option<IpAddr> {
        if self.gateway(address) == Some(address) {
            let loopback: IpAddr = match address {
                IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            };
            return Some(loopback).filter(|_| self.allow_host_loopback);
        }
        let plain = address.to_canonical();
        let ours = self.is_dns(address) || self.is_guest(address);
        // What looks like IPv4 inside IPv6 is not sent by honest stacks.
        let disguised = plain != address;
        let nobody = plain.is_loopback() || plain.is_unspecified() || plain.is_multicast() || is_broadcast(plain);
        Some(address).filter(|_| !ours && !disguised && !nobody && !self.is_broadcast(address))
    }

    /// Whether this is the broadcast address of the guest's network.
    pub(crate) fn is_broadcast(&self, address: IpAddr) -> bool {
        let (Some(subnet), IpAddr::V4(address)) = (self.v4, address) else { return false };
        let hosts = u32::MAX.checked_shr(subnet.prefix.into()).unwrap_or(0);
        hosts != 0 && address.to_bits() == subnet.guest.to_bits() | hosts
    }

    /// Whom the guest sees in the place of somebody outside who reaches it: the gateway for whom it could not answer, such
    /// as the host's loopback, or somebody of a family that it has not.
    pub fn seen(&self, address: IpAddr) -> Option<IpAddr> {
        let address = address.to_canonical();
        let own = self.is_guest(address) || self.is_dns(address);
        let link_local = matches!(address, IpAddr::V6(address) if address.is_unicast_link_local());
        let without = self.guest(address).is_none();
        match address.is_loopback() || own || link_local || without {
            true => {
                self.gateway(address).or(self.v4.map(|v4| v4.gateway.into())).or(self.v6.map(|v6| v6.gateway.into()))
            }
            false => Some(address),
        }
    }
}

/// 255.255.255.255, and all of 0.0.0.0/8 and 240.0.0.0/4, to which nobody connects.
fn is_broadcast(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(address) if matches!(address.octets()[0], 0 | 240..=255))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_loopback_is_out_of_reach() {
        let mut config = Config::default();
        let reach = |config: &Config, text: &str| config.reachable(text.parse().expect("an address"));
        for nobody in [
            "127.0.0.1",
            "127.255.0.9",
            "0.0.0.0",
            "0.1.2.3",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:1.2.3.4",
            "10.0.2.2",
            "fd00::2",
            "10.0.2.3",
            "10.0.2.100",
            "10.0.2.255",
            "255.255.255.255",
            "224.0.0.1",
            "ff02::1",
            "240.0.0.1",
        ] {
            assert_eq!(reach(&config, nobody), None, "{nobody}");
        }
        for somebody in ["1.2.3.4", "10.0.2.7", "192.168.1.1", "2001:db8::1", "169.254.169.254"] {
            assert_eq!(reach(&config, somebody), somebody.parse().ok(), "{somebody}");
        }
        config.allow_host_loopback = true;
        assert_eq!(reach(&config, "10.0.2.2"), "127.0.0.1".parse().ok());
        assert_eq!(reach(&config, "fd00::2"), "::1".parse().ok());
        assert_eq!(reach(&config, "127.0.0.1"), None);
    }

    #[test]
    fn who_comes_in_can_be_answered() {
        let config = Config::default();
        let seen = |text: &str| config.seen(text.parse().expect("an address")).map(|address| address.to_string());
        assert_eq!(seen("127.0.0.1").as_deref(), Some("10.0.2.2"));
        assert_eq!(seen("::1").as_deref(), Some("fd00::2"));
        assert_eq!(seen("::ffff:192.0.2.1").as_deref(), Some("192.0.2.1"));
        assert_eq!(seen("10.0.2.100").as_deref(), Some("10.0.2.2"));
        assert_eq!(seen("2001:db8::1").as_deref(), Some("2001:db8::1"));
        let without = Config { v6: None, ..config };
        assert_eq!(without.seen("2001:db8::1".parse().expect("valid")), "10.0.2.2".parse().ok());
    }
}
