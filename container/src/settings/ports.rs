//! `--publish`: which ports of the host lead to which of the container's.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A port of the container's that can be reached from outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortMapping {
    /// The container's.
    pub container: u16,
    /// Of what.
    pub protocol: PortProtocol,
    /// The host's address; none: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<IpAddr>,
    /// The host's port: the first one of these that is free; none: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<RangeInclusive<u16>>,
}

/// What a port is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PortProtocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl PortMapping {
    /// The host's port, once it is settled.
    pub fn host_port(&self) -> Option<u16> {
        self.host.as_ref().map(|range| *range.start())
    }

    /// The host's side, as Docker and Podman write it: `0.0.0.0:8080`.
    pub fn host_side(&self) -> String {
        let ip = self.ip.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
        SocketAddr::new(ip, self.host_port().unwrap_or_default()).to_string()
    }

    /// Both: `0.0.0.0:8080->80/tcp`.
    pub fn both_sides(&self) -> String {
        format!("{}->{self}", self.host_side())
    }
}

/// What one `--publish` asks for: several, where ranges are given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish(pub Vec<PortMapping>);

/// `[ip:][host port[-last]:]container port[-last][/tcp|/udp]`.
impl FromStr for Publish {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (ports, protocol) = match text.rsplit_once('/') {
            Some((ports, protocol)) => (ports, protocol.parse()?),
            None => (text, PortProtocol::Tcp),
        };
        let (rest, container) = match ports.rsplit_once(':') {
            Some((rest, container)) => (Some(rest), container),
            None => (None, ports),
        };
        let container = range(container)?.ok_or("the container's port is missing")?;
        let (ip, host) = match rest.map(split_host).transpose()? {
            Some((ip, host)) => (ip, range(host)?),
            None => (None, None),
        };
        let (count, host_count) = (container.len(), host.as_ref().map(ExactSizeIterator::len));
        if host_count.is_some_and(|host_count| count > 1 && host_count != count) {
            return Err("the ranges have different lengths".into());
        }
        let mappings = container.clone().map(|port| {
            let nth = port - container.start();
            let host = host.clone().map(|host| match count {
                1 => host,
                _ => host.start() + nth..=host.start() + nth,
            });
            PortMapping { container: port, protocol, ip, host }
        });
        Ok(Self(mappings.collect()))
    }
}

/// An address, which may be that of IPv6 in brackets, and a port; either may be missing.
fn split_host(text: &str) -> Result<(Option<IpAddr>, &str), String> {
    let (ip, host) = match text.strip_prefix('[') {
        Some(rest) => {
            let (ip, rest) = rest.split_once(']').ok_or("a ] is missing")?;
            (Some(ip), rest.strip_prefix(':').unwrap_or(rest))
        }
        None => match text.rsplit_once(':') {
            Some((ip, host)) => (Some(ip), host),
            // An address alone, as in 127.0.0.1::80 without its second colon, is none.
            None => (None, text),
        },
    };
    let is_v6 = text.starts_with('[');
    let ip = ip.filter(|ip| !ip.is_empty()).map(|ip| {
        let address = ip.parse().ok().filter(|address: &IpAddr| address.is_ipv6() == is_v6);
        address.ok_or_else(|| format!("{ip:?} is no address; one of IPv6 is written in brackets"))
    });
    Ok((ip.transpose()?, host))
}

/// A port, or the first and the last of several; none where nothing is said.
fn range(text: &str) -> Result<Option<RangeInclusive<u16>>, String> {
    let port = |text: &str| match text.parse::<u16>() {
        Ok(port @ 1..) => Ok(port),
        _ => Err(format!("{text:?} is no port, which is a number from 1 to 65535")),
    };
    match text.split_once('-') {
        // Docker's word for any.
        _ if text.is_empty() || text == "0" => Ok(None),
        None => port(text).map(|port| Some(port..=port)),
        Some((first, last)) => match (port(first)?, port(last)?) {
            (first, last) if first <= last => Ok(Some(first..=last)),
            _ => Err(format!("{text:?} ends before it begins")),
        },
    }
}

impl FromStr for PortProtocol {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "tcp" | "TCP" => Ok(Self::Tcp),
            "udp" | "UDP" => Ok(Self::Udp),
            "sctp" => Err("SCTP cannot be published: this network has tcp and udp".into()),
            _ => Err(format!("{text:?} is no protocol; there are tcp and udp")),
        }
    }
}

impl fmt::Display for PortProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// The container's side: `80/tcp`.
impl fmt::Display for PortMapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.container, self.protocol)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Vec<String> {
        let Publish(mappings) = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        let shown = |mapping: PortMapping| {
            let ip = mapping.ip.map_or("*".into(), |ip| ip.to_string());
            let host = mapping.host.as_ref().map_or("?".into(), |host| format!("{}-{}", host.start(), host.end()));
            format!("{ip} {host} {mapping}")
        };
        mappings.into_iter().map(shown).collect()
    }

    #[test]
    fn forms() {
        assert_eq!(parsed("80"), ["* ? 80/tcp"]);
        assert_eq!(parsed("8080:80"), ["* 8080-8080 80/tcp"]);
        assert_eq!(parsed("0:80"), ["* ? 80/tcp"]);
        assert_eq!(parsed("53:53/udp"), ["* 53-53 53/udp"]);
        assert_eq!(parsed("127.0.0.1:8080:80"), ["127.0.0.1 8080-8080 80/tcp"]);
        assert_eq!(parsed("127.0.0.1::80"), ["127.0.0.1 ? 80/tcp"]);
        assert_eq!(parsed("[::1]:8080:80"), ["::1 8080-8080 80/tcp"]);
        assert_eq!(parsed("[::1]::80"), ["::1 ? 80/tcp"]);
        assert_eq!(parsed("8000-8001:80-81"), ["* 8000-8000 80/tcp", "* 8001-8001 81/tcp"]);
        assert_eq!(parsed("8000-8010:80"), ["* 8000-8010 80/tcp"]);
        assert_eq!(parsed("80-81/udp"), ["* ? 80/udp", "* ? 81/udp"]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let error = |text: &str| text.parse::<Publish>().expect_err("invalid");
        assert!(error("").contains("container's port is missing"));
        assert!(error("8080:").contains("container's port is missing"));
        assert!(error("8080:0").contains("container's port is missing"));
        assert!(error("8080:80/sctp").contains("SCTP"));
        assert!(error("8080:80/x").contains("no protocol"));
        assert!(error("70000:80").contains("70000"));
        assert!(error("::1:8080:80").contains("brackets"));
        assert!(error("localhost:8080:80").contains("localhost"));
        assert!(error("8000-8002:80-81").contains("different lengths"));
        assert!(error("81-80:80").contains("ends before"));
    }
}
