//! The three files in /etc that a container gets from rbox: hosts(5), hostname(5), resolv.conf(5).
//!
//! Those of a container that has another's network are that one's, as with Podman, but for its own host name.

use std::net::IpAddr;
use std::path::PathBuf;

use rbox_net_slirp::HOST_NAMES;

use crate::network::Uplink;
use crate::settings::{Dns, NetworkMode, Resolver};

/// What the files of a network are made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Etc {
    /// Those of whose network it is.
    pub(crate) hostname: String,
    pub(crate) name: String,
    pub(crate) resolver: Resolver,
    /// None that is another container's.
    pub(crate) network: NetworkMode,
}

impl Etc {
    /// The files: where they are in the container, and what is in them. Its own host name is `hostname`.
    pub(crate) fn files(&self, hostname: &str) -> Vec<(PathBuf, String)> {
        let uplink = Uplink::of(&self.network);
        let mut files =
            vec![("/etc/hosts".into(), self.hosts(&uplink)), ("/etc/hostname".into(), format!("{hostname}\n"))];
        if !self.resolver.leaves_the_images() {
            files.push(("/etc/resolv.conf".into(), self.resolv_conf(&uplink)));
        }
        files
    }

    fn hosts(&self, uplink: &Uplink) -> String {
        let host = self.host(uplink);
        let own =
            if self.hostname == self.name { self.name.clone() } else { format!("{} {}", self.hostname, self.name) };
        let mut text = self.resolver.hosts_lines(host);
        match &self.network {
            NetworkMode::Host if !uplink.hosts.is_empty() => {
                text.push_str(uplink.hosts.trim_end());
                text.push('\n');
            }
            _ => text.push_str("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"),
        }
        if let Some(host) = host {
            text.push_str(&format!("{host}\t{}\n", HOST_NAMES.join(" ")));
        }
        let address: IpAddr = match &self.network {
            NetworkMode::Slirp(slirp) => slirp.v4().guest.into(),
            _ => IpAddr::from([127, 0, 0, 1]),
        };
        text.push_str(&format!("{address}\t{own}\n"));
        text
    }

    /// The host, as it can be reached.
    fn host(&self, uplink: &Uplink) -> Option<IpAddr> {
        match &self.network {
            NetworkMode::Slirp(slirp) if slirp.allow_host_loopback => Some(slirp.v4().gateway.into()),
            NetworkMode::Slirp(_) => uplink.address.map(IpAddr::from),
            NetworkMode::Host => Some(uplink.address.map_or(IpAddr::from([127, 0, 0, 1]), IpAddr::from)),
            NetworkMode::Unsaid | NetworkMode::None | NetworkMode::Container(_) => None,
        }
    }

    fn resolv_conf(&self, uplink: &Uplink) -> String {
        let Resolver { servers, search, options, .. } = &self.resolver;
        let of_host = OfHost::parse(&uplink.resolv_conf);
        let mut servers: Vec<String> = servers
            .iter()
            .filter_map(|server| if let Dns::Server(address) = server { Some(address.to_string()) } else { None })
            .collect();
        if servers.is_empty() {
            match &self.network {
                NetworkMode::Slirp(slirp) => {
                    servers.push(slirp.v4().dns.to_string());
                    servers.extend(slirp.v6().map(|subnet| subnet.dns.to_string()));
                }
                NetworkMode::Host => servers.extend(of_host.servers.iter().map(|server| (*server).to_owned())),
                NetworkMode::Unsaid | NetworkMode::None | NetworkMode::Container(_) => {}
            }
        }
        let mut search: Vec<&str> = search.iter().map(String::as_str).collect();
        if search.is_empty() {
            search = of_host.search;
        }
        search.retain(|domain| *domain != ".");
        let mut options: Vec<&str> = options.iter().map(String::as_str).collect();
        if options.is_empty() {
            options = of_host.options;
        }
        let mut text = String::new();
        if servers.is_empty() {
            text.push_str("# no nameserver: this container has no network\n");
            if options.is_empty() {
                options.extend(OPTIONS);
            }
        }
        if !search.is_empty() {
            text.push_str(&format!("search {}\n", search.join(" ")));
        }
        text.extend(servers.iter().map(|server| format!("nameserver {server}\n")));
        if !options.is_empty() {
            text.push_str(&format!("options {}\n", options.join(" ")));
        }
        text
    }
}

/// A container without a network has no resolver. glibc then asks the container itself and is refused at once; musl does
/// not hear of the refusal, and waits for an answer twice five seconds unless it is told not to.
const OPTIONS: [&str; 2] = ["timeout:1", "attempts:1"];

/// What a resolv.conf(5) says: of domains the last line counts, and options add up.
#[derive(Debug, Default, PartialEq, Eq)]
struct OfHost<'a> {
    servers: Vec<&'a str>,
    search: Vec<&'a str>,
    options: Vec<&'a str>,
}

impl<'a> OfHost<'a> {
    fn parse(text: &'a str) -> Self {
        let mut found = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => found.servers.extend(words.next()),
                Some("search" | "domain") => found.search = words.collect(),
                Some("options") => found.options.extend(words),
                _ => {}
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OF_HOST: &str =
        "# a comment\nnameserver 127.0.0.53\nsearch old.org\nsearch a.org b.org\noptions edns0 trust-ad\n";

    fn etc(network: &str, resolver: Resolver) -> Etc {
        let network = if network.is_empty() { NetworkMode::Unsaid } else { network.parse().expect(network) };
        Etc { hostname: "box".into(), name: "name".into(), resolver, network }
    }

    fn uplink() -> Uplink {
        Uplink {
            address: Some([192, 0, 2, 7].into()),
            resolv_conf: OF_HOST.into(),
            hosts: "127.0.0.1 localhost\n192.0.2.9 other".into(),
        }
    }

    fn resolver() -> Resolver {
        Resolver {
            servers: ["1.2.3.4", "::1"].map(|server| server.parse().expect("valid")).into(),
            search: vec!["c.org".into(), "d.org".into()],
            options: vec!["ndots:2".into(), "rotate".into()],
            hosts: vec!["db:10.0.0.1".parse().expect("valid"), "host:host-gateway".parse().expect("valid")],
        }
    }

    #[test]
    fn resolvers() {
        let of = |network: &str, resolver: &Resolver| etc(network, resolver.clone()).resolv_conf(&uplink());
        let unsaid = Resolver::default();
        let none = etc("none", unsaid.clone()).resolv_conf(&Uplink::default());
        assert_eq!(none, "# no nameserver: this container has no network\noptions timeout:1 attempts:1\n");
        let of_host = "search a.org b.org\nnameserver 127.0.0.53\noptions edns0 trust-ad\n";
        assert_eq!(of("host", &unsaid), of_host);
        let own = of_host.replace("127.0.0.53", "10.0.2.3");
        assert_eq!(of("slirp:enable_ipv6=false", &unsaid), own);
        let both = own.replace("10.0.2.3\n", "10.0.2.3\nnameserver fd00::3\n");
        assert_eq!(of("slirp:enable_ipv6=true", &unsaid), both);
        assert_eq!(of("slirp:enable_ipv6=false,cidr=10.9.0.0/16", &unsaid), own.replace("10.0.2.3", "10.9.0.3"));
        let said = "search c.org d.org\nnameserver 1.2.3.4\nnameserver ::1\noptions ndots:2 rotate\n";
        for network in ["none", "host", "slirp"] {
            assert_eq!(of(network, &resolver()), said, "{network}");
        }
        let no_search = Resolver { search: vec![".".into()], ..Resolver::default() };
        assert_eq!(of("host", &no_search), "nameserver 127.0.0.53\noptions edns0 trust-ad\n");
        let images = Resolver { servers: vec!["none".parse().expect("valid")], ..Resolver::default() };
        assert_eq!(etc("none", images).files("box").len(), 2);
    }

    #[test]
    fn hosts() {
        let of = |network: &str, resolver: &Resolver| etc(network, resolver.clone()).hosts(&uplink());
        let unsaid = Resolver::default();
        let local = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n";
        assert_eq!(etc("none", unsaid.clone()).hosts(&Uplink::default()), format!("{local}127.0.0.1\tbox name\n"));
        let host = |address: &str| format!("{address}\thost.containers.internal host.docker.internal\n");
        assert_eq!(of("slirp", &unsaid), format!("{local}{}10.0.2.100\tbox name\n", host("192.0.2.7")));
        let by_gateway = of("slirp:allow_host_loopback=true,cidr=10.9.0.0/16", &unsaid);
        assert_eq!(by_gateway, format!("{local}{}10.9.0.100\tbox name\n", host("10.9.0.2")));
        let hosts = format!("127.0.0.1 localhost\n192.0.2.9 other\n{}127.0.0.1\tbox name\n", host("192.0.2.7"));
        assert_eq!(of("host", &unsaid), hosts);
        assert!(of("slirp", &resolver()).starts_with("10.0.0.1\tdb\n192.0.2.7\thost\n127.0.0.1\tlocalhost\n"));
    }
}
