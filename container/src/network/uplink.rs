//! How the host itself reaches the world, as far as a container is told.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use rbox_sys::rtnetlink::{self, Destination};

use crate::settings::NetworkMode;

pub(super) const RESOLV_CONF: &str = "/etc/resolv.conf";
const HOSTS: &str = "/etc/hosts";

/// Addresses that are nobody's and everywhere: to connect a datagram socket sends nothing, and only asks the host's routes
/// which address of its own it would send from.
const FAR_V4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const FAR_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

/// It, where the network is such that it matters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Uplink {
    /// The host's main address.
    pub(crate) address: Option<Ipv4Addr>,
    /// Its resolv.conf(5).
    pub(crate) resolv_conf: String,
    /// Its hosts(5).
    pub(crate) hosts: String,
}

impl Uplink {
    /// Looks for what a container with this network is told.
    pub(crate) fn of(network: &NetworkMode) -> Self {
        // What cannot be read is as good as empty, as resolvers have it.
        let read = |path| fs::read(path).map(|text| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default();
        match network {
            NetworkMode::Slirp(_) => Self { address: source_v4(), resolv_conf: read(RESOLV_CONF), ..Self::default() },
            NetworkMode::Host => Self { address: source_v4(), resolv_conf: read(RESOLV_CONF), hosts: read(HOSTS) },
            NetworkMode::Unsaid | NetworkMode::None | NetworkMode::Container(_) => Self::default(),
        }
    }
}

/// The address that the host sends from to the world.
pub(super) fn source_v4() -> Option<Ipv4Addr> {
    match source(Ipv4Addr::UNSPECIFIED.into(), FAR_V4.into())? {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

/// The same of IPv6, unless that is an address that reaches no further than a network or two.
pub(super) fn source_v6() -> Option<Ipv6Addr> {
    match source(Ipv6Addr::UNSPECIFIED.into(), FAR_V6.into())? {
        IpAddr::V6(address) => Some(address),
        IpAddr::V4(_) => None,
    }
}

/// Where the host has ways to besides the one that leads everywhere. One that does not say has none.
pub(super) fn destinations(v6: bool) -> Vec<Destination> {
    rtnetlink::destinations(v6).unwrap_or_default()
}

fn source(from: IpAddr, to: IpAddr) -> Option<IpAddr> {
    const DISCARD: u16 = 9;
    let socket = UdpSocket::bind(SocketAddr::new(from, 0)).ok()?;
    socket.connect(SocketAddr::new(to, DISCARD)).ok()?;
    let source = socket.local_addr().ok()?.ip();
    Some(source).filter(|source| !source.is_loopback() && !source.is_unspecified())
}
