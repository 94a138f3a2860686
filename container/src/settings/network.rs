//! `--network`, `--mac-address`, `--ip`: the network of a container.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use rbox_net_slirp::config::{GUEST_MAC, MTU, Subnet};
use serde::{Deserialize, Serialize};

use super::is_default;

/// Which one a container has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkMode {
    /// Nothing was said: [`Slirp`](Self::Slirp) where the host has what that needs. In a record, of an rbox that had no
    /// networks: [`None`](Self::None).
    #[default]
    Unsaid,
    /// A loopback device alone.
    None,
    /// The host's own.
    Host,
    /// One of its own, whose other end are ordinary sockets of the host.
    Slirp(Slirp),
    /// That of the container of this name or id.
    Container(String),
}

/// How it is to be. What is not said is filled in when the container is made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Slirp {
    /// The addresses of IPv4.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cidr: Option<Cidr>,
    /// The largest packet, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
    /// Whether the gateway's addresses are the host's loopback ones.
    #[serde(skip_serializing_if = "is_default")]
    pub allow_host_loopback: bool,
    /// Whether there is IPv6; where nothing is said, if the host has a way out by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable_ipv6: Option<bool>,
    /// The container's hardware address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddress>,
    /// The container's own addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip: Option<Ipv4Addr>,
    /// The same of IPv6.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip6: Option<Ipv6Addr>,
    /// Whether the network of IPv6 that containers have is the host's, and this one has another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) clear_of_host6: Option<bool>,
}

/// A network of IPv4: `10.0.2.0/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr {
    address: Ipv4Addr,
    prefix: u8,
}

/// A hardware address of one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddress(pub [u8; 6]);

/// Below that IPv4 need not work (RFC 791), and above IFF_VNET_HDR's frames end.
const MTUS: std::ops::RangeInclusive<u16> = 576..=MTU;
/// IPv6 needs that much (RFC 8200, section 5).
const LEAST_MTU_OF_V6: u16 = 1280;

impl NetworkMode {
    /// What goes by that name in `ps`, and in Docker's `NetworkSettings.Networks`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Unsaid | Self::None => "none",
            Self::Host => "host",
            Self::Slirp(_) => "slirp",
            Self::Container(_) => "container",
        }
    }

    /// The network that is rbox's own to make.
    pub fn slirp(&self) -> Option<&Slirp> {
        if let Self::Slirp(slirp) = self { Some(slirp) } else { None }
    }

    /// With what `--mac-address`, `--ip` and `--ip6` say.
    pub fn with(self, mac: Option<MacAddress>, ip: Option<Ipv4Addr>, ip6: Option<Ipv6Addr>) -> Result<Self, String> {
        let flag = mac.map(|_| "--mac-address").or(ip.map(|_| "--ip")).or(ip6.map(|_| "--ip6"));
        let Some(flag) = flag else { return Ok(self) };
        match self {
            Self::Unsaid => Ok(Self::Slirp(Slirp { mac, ip, ip6, ..Slirp::default() })),
            Self::Slirp(slirp) => Ok(Self::Slirp(Slirp { mac, ip, ip6, ..slirp })),
            Self::None | Self::Host | Self::Container(_) => {
                Err(format!("{flag} does not go with --network={self}, which has no device of rbox's own"))
            }
        }
    }

    /// What contradicts itself.
    pub fn check(&self) -> Result<(), String> {
        self.slirp().map_or(Ok(()), Slirp::check)
    }
}

impl Slirp {
    fn check(&self) -> Result<(), String> {
        let v4 = self.v4();
        if self.cidr.is_some_and(|cidr| !cidr.contains(v4.guest)) || !Cidr::of(v4).contains(v4.guest) {
            return Err(format!("--ip {} is not in {}", v4.guest, Cidr::of(v4)));
        }
        let taken = [v4.gateway, v4.dns, Cidr::of(v4).address, Cidr::of(v4).last()];
        if taken.contains(&v4.guest) {
            return Err(format!("--ip {} is not the container's to have in {}", v4.guest, Cidr::of(v4)));
        }
        if self.enable_ipv6 == Some(true) && self.mtu() < LEAST_MTU_OF_V6 {
            return Err(format!("IPv6 needs an mtu of at least {LEAST_MTU_OF_V6}"));
        }
        let Some(ip6) = self.ip6 else { return Ok(()) };
        if self.enable_ipv6 == Some(false) {
            return Err(format!("--ip6 {ip6} contradicts enable_ipv6=false"));
        }
        let Subnet { gateway, dns, .. } = Subnet::<Ipv6Addr>::DEFAULT;
        if ip6.segments()[..4] != gateway.segments()[..4]
            || [gateway, dns].contains(&ip6)
            || ip6.octets()[8..] == [0; 8]
        {
            return Err(format!("--ip6 {ip6} is not the container's to have in fd00::/64"));
        }
        Ok(())
    }

    /// The largest packet, in bytes.
    pub(crate) fn mtu(&self) -> u16 {
        self.mtu.unwrap_or(MTU)
    }

    /// The container's hardware address.
    pub(crate) fn mac(&self) -> [u8; 6] {
        self.mac.map_or(GUEST_MAC, |mac| mac.0)
    }

    /// The addresses of IPv4, as slirp has always had them: 2 is the gateway, 3 answers for names, 100 is the guest.
    pub(crate) fn v4(&self) -> Subnet<Ipv4Addr> {
        let own = self.ip.unwrap_or_else(|| self.cidr.map_or(Subnet::<Ipv4Addr>::DEFAULT.guest, |cidr| cidr.host(100)));
        match self.cidr {
            Some(cidr) => Subnet { guest: own, prefix: cidr.prefix, gateway: cidr.host(2), dns: cidr.host(3) },
            None => Subnet { guest: own, ..Subnet::<Ipv4Addr>::DEFAULT },
        }
    }

    /// The addresses of IPv6, unless it is off.
    pub(crate) fn v6(&self) -> Option<Subnet<Ipv6Addr>> {
        if self.enable_ipv6 == Some(false) || self.mtu() < LEAST_MTU_OF_V6 {
            return None;
        }
        let Subnet { guest, prefix, gateway, dns } = Subnet::<Ipv6Addr>::DEFAULT;
        let placed = |address: Ipv6Addr| if self.clear_of_host6 == Some(true) { other6(address) } else { address };
        let guest = self.ip6.unwrap_or_else(|| placed(guest));
        Some(Subnet { guest, prefix, gateway: placed(gateway), dns: placed(dns) })
    }

    fn take(&mut self, option: &str) -> Result<(), String> {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let wrong = |expected: &str| format!("{name}={value}: expected {expected}");
        let truth = || value.parse::<bool>().map_err(|_| wrong("true or false"));
        match name {
            "cidr" => self.cidr = Some(value.parse().map_err(|why| format!("cidr={value}: {why}"))?),
            "mtu" => {
                let mtu = value.parse().ok().filter(|mtu| MTUS.contains(mtu));
                self.mtu = Some(mtu.ok_or_else(|| wrong(&format!("{} to {}", MTUS.start(), MTUS.end())))?);
            }
            "allow_host_loopback" => self.allow_host_loopback = truth()?,
            "enable_ipv6" => self.enable_ipv6 = Some(truth()?),
            _ => {
                let known = "cidr, mtu, allow_host_loopback and enable_ipv6";
                return Err(format!("slirp has no option {name:?}; it has {known}"));
            }
        }
        Ok(())
    }
}

impl FromStr for NetworkMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (mode, rest) = text.split_once(':').map_or((text, None), |(mode, rest)| (mode, Some(rest)));
        match (mode, rest) {
            ("none", None) => Ok(Self::None),
            ("host", None) => Ok(Self::Host),
            ("container", Some("") | None) => Err("expected a container's name or id after container:".into()),
            ("container", Some(name)) => Ok(Self::Container(name.into())),
            ("ns", Some(_)) => {
                Err("this version joins namespaces of containers (container:NAME), and none by a path".into())
            }
            // Podman's name for a network of this kind.
            ("slirp" | "slirp4netns", options) => {
                let mut slirp = Slirp::default();
                let options = options.unwrap_or_default().split(',').filter(|option| !option.is_empty());
                for option in options {
                    slirp.take(option)?;
                }
                slirp.check()?;
                Ok(Self::Slirp(slirp))
            }
            _ => Err(format!(
                "this version has no network {text:?}: expected slirp[:OPTION,…], none, host or container:NAME"
            )),
        }
    }
}

impl fmt::Display for NetworkMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Container(name) => write!(f, "container:{name}"),
            _ => f.write_str(self.word()),
        }
    }
}

/// The same host in fd00:0:0:102::/64.
fn other6(address: Ipv6Addr) -> Ipv6Addr {
    let mut segments = address.segments();
    segments[3] = 0x102;
    segments.into()
}

impl Cidr {
    pub(crate) const DEFAULT: Self = Self { address: Ipv4Addr::new(10, 0, 2, 0), prefix: 24 };
    /// It, and those that take its place where it is the host's, in this order: one of each of RFC 1918's.
    pub(crate) const DEFAULTS: [Self; 4] = [
        Self::DEFAULT,
        Self { address: Ipv4Addr::new(10, 0, 102, 0), prefix: 24 },
        Self { address: Ipv4Addr::new(172, 30, 102, 0), prefix: 24 },
        Self { address: Ipv4Addr::new(192, 168, 102, 0), prefix: 24 },
    ];

    fn of(subnet: Subnet<Ipv4Addr>) -> Self {
        let mask = u32::MAX << (32 - subnet.prefix);
        Self { address: Ipv4Addr::from_bits(subnet.gateway.to_bits() & mask), prefix: subnet.prefix }
    }

    /// The address of this number in it.
    fn host(self, number: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.address.to_bits() | number)
    }

    fn last(self) -> Ipv4Addr {
        self.host(u32::MAX >> self.prefix)
    }

    pub(crate) fn contains(self, address: Ipv4Addr) -> bool {
        (self.address..=self.last()).contains(&address)
    }

    /// Whether any address is in this one and in that network too.
    pub(crate) fn overlaps(self, address: Ipv4Addr, prefix: u8) -> bool {
        let unshared = 32 - self.prefix.min(prefix.max(1));
        (self.address.to_bits() ^ address.to_bits()) >> unshared == 0
    }
}

impl FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // Number 100 must be in it.
        const EXPECTED: &str = "expected a network of IPv4 with a prefix of 1 to 25, such as 10.0.2.0/24";
        let (address, prefix) = text.split_once('/').ok_or(EXPECTED)?;
        let address: Ipv4Addr = address.parse().map_err(|_| EXPECTED)?;
        let prefix: u8 = prefix.parse().ok().filter(|prefix| (1..=25).contains(prefix)).ok_or(EXPECTED)?;
        if address.to_bits() << prefix != 0 {
            return Err(format!("{address} is not the first address of a network with a prefix of {prefix}"));
        }
        let cidr = Self { address, prefix };
        let unfit = |address: Ipv4Addr| address.is_loopback() || address.is_multicast() || address.octets()[0] == 0;
        if unfit(address) || unfit(cidr.last()) { Err("no network can have these addresses".into()) } else { Ok(cidr) }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for MacAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const EXPECTED: &str = "expected six bytes, such as 52:55:0a:00:02:64";
        let mut bytes = [0; 6];
        let mut words = text.split([':', '-']);
        for byte in &mut bytes {
            let word = words.next().filter(|word| word.len() == 2 && word.bytes().all(|c| c.is_ascii_hexdigit()));
            *byte = u8::from_str_radix(word.ok_or(EXPECTED)?, 16).map_err(|_| EXPECTED)?;
        }
        match words.next() {
            Some(_) => Err(EXPECTED.into()),
            None if bytes[0] & 1 != 0 => Err(format!("{text} is the address of a group, and of no device")),
            None if bytes == [0; 6] => Err(EXPECTED.into()),
            None => Ok(Self(bytes)),
        }
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, last] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{last:02x}")
    }
}

as_words!(Cidr, MacAddress);

#[cfg(test)]
mod tests {
    use super::*;

    fn slirp(text: &str) -> Slirp {
        let mode: NetworkMode = text.parse().expect(text);
        mode.slirp().expect("slirp").clone()
    }

    #[test]
    fn modes() {
        for word in ["none", "host", "container:a", "slirp"] {
            assert_eq!(word.parse::<NetworkMode>().expect(word).to_string(), word);
        }
        let asked = slirp("slirp:cidr=192.168.7.0/25,mtu=1500,allow_host_loopback=true,enable_ipv6=false");
        let v4 = asked.v4();
        assert_eq!([v4.guest, v4.gateway, v4.dns], [100, 2, 3].map(|host| Ipv4Addr::new(192, 168, 7, host)));
        assert_eq!((v4.prefix, asked.mtu(), asked.allow_host_loopback, asked.v6()), (25, 1500, true, None));
        assert_eq!(slirp("slirp4netns"), Slirp::default());
        assert_eq!(slirp("slirp").v4(), Subnet::<Ipv4Addr>::DEFAULT);
        for (wrong, named) in [
            ("bridge", "slirp"),
            ("container:", "name or id"),
            ("host:x", "host"),
            ("slirp:port_handler=rootlesskit", "port_handler"),
            ("slirp:cidr=10.0.2.0/26", "1 to 25"),
            ("slirp:cidr=10.0.2.1/24", "first address"),
            ("slirp:cidr=127.0.0.0/8", "no network"),
            ("slirp:cidr=fd00::/64", "IPv4"),
            ("slirp:mtu=100", "576 to 65520"),
            ("slirp:mtu=65521", "576 to 65520"),
            ("slirp:enable_ipv6=yes", "true or false"),
            ("slirp:mtu=1000,enable_ipv6=true", "1280"),
        ] {
            let error = wrong.parse::<NetworkMode>().expect_err(wrong);
            assert!(error.contains(named), "{wrong}: {error}");
        }
    }

    #[test]
    fn own_addresses() {
        let with = |text: &str, ip: &str| {
            text.parse::<NetworkMode>()?.with(None, Some(ip.parse().expect("an address")), None)?.check()
        };
        with("slirp", "10.0.2.15").expect("in it");
        with("slirp:cidr=10.1.0.0/16", "10.1.9.9").expect("in it");
        for (mode, ip) in [
            ("slirp", "10.0.3.15"),
            ("slirp", "10.0.2.2"),
            ("slirp", "10.0.2.3"),
            ("slirp", "10.0.2.0"),
            ("slirp", "10.0.2.255"),
            ("slirp:cidr=10.1.0.0/16", "10.0.2.15"),
            ("none", "10.0.2.15"),
            ("host", "10.0.2.15"),
            ("container:a", "10.0.2.15"),
        ] {
            let error = with(mode, ip).expect_err(mode);
            assert!(error.contains("--ip"), "{error}");
        }
        let with6 = |ip: &str| NetworkMode::Unsaid.with(None, None, ip.parse().ok())?.check();
        with6("fd00::7").expect("in it");
        for wrong in ["fd00::2", "fd00::3", "fd00::", "fd00:1::7"] {
            with6(wrong).expect_err(wrong);
        }
    }

    #[test]
    fn hardware_addresses() {
        let mac: MacAddress = "92:D0:c6:0a:29:33".parse().expect("valid");
        assert_eq!(mac.to_string(), "92:d0:c6:0a:29:33");
        for wrong in
            ["", "92:d0:c6:0a:29", "92:d0:c6:0a:29:33:1", "93:d0:c6:0a:29:33", "0:0:0:0:0:0", "00:00:00:00:00:00"]
        {
            wrong.parse::<MacAddress>().expect_err(wrong);
        }
    }

    #[test]
    fn records() {
        let mode = slirp("slirp:cidr=10.1.0.0/16,mtu=9000");
        let mode = NetworkMode::Slirp(Slirp { mac: Some(MacAddress(GUEST_MAC)), ip6: "fd00::9".parse().ok(), ..mode });
        for mode in [mode, NetworkMode::Host, NetworkMode::Container("a".into()), NetworkMode::Unsaid] {
            let text = serde_json::to_string(&mode).expect("serialized");
            assert_eq!(serde_json::from_str::<NetworkMode>(&text).expect("read"), mode, "{text}");
        }
    }
}
