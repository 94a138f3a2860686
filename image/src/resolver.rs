//! Host names to addresses, without the C library.
//!
//! getaddrinfo(3) in a static glibc loads the *host's* NSS modules, built for another libc, and may crash; so the
//! linked binary must not hold it (nor `ToSocketAddrs` on strings, which calls it). Here instead, in this order:
//!
//! 1. IP literals, and `localhost` with everything below it (RFC 6761 §6.3);
//! 2. /etc/hosts;
//! 3. DNS by the servers, search domains and options of /etc/resolv.conf; 127.0.0.1 where it names no server, as
//!    resolv.conf(5) has it.
//!
//! Only the third needs an async runtime: a private one on the caller's thread, made at the first such name. What
//! nsswitch.conf may say beyond that (mDNS, LDAP) is not honoured.
//!
//! IPv4 comes first: addresses are tried one after the other, and IPv6 that is configured but leads nowhere is much
//! more common than the opposite. Where there is no IPv4 route, connect(2) says so at once.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, OnceLock},
    time::Duration,
};

use hickory_resolver::{
    Resolver, TokioResolver,
    config::{LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts},
    net::{NetError, runtime::TokioRuntimeProvider},
    system_conf,
};
use tokio::runtime::Runtime;
use ureq::{
    config::Config,
    http::Uri,
    unversioned::{
        resolver::{ResolvedSocketAddrs, Resolver as UreqResolver},
        transport::NextTimeout,
    },
};

/// ureq keeps no more than this many addresses of a host.
const MAX_ADDRESSES: usize = 16;

/// For names that ureq's own limit does not cover, such as a proxy's.
const LONGEST_LOOKUP: Duration = Duration::from_secs(30);

/// The resolver of every connection; clones share one cache.
#[derive(Clone, Default)]
pub(crate) struct HostResolver(Arc<OnceLock<Result<Dns, String>>>);

/// Why a name has no address, carried through ureq in `ureq::Error::Other`.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{why}")]
pub(crate) struct LookupFailure {
    /// The name looked up: the registry's or the proxy's.
    pub(crate) host: String,
    pub(crate) why: String,
}

impl UreqResolver for HostResolver {
    fn resolve(&self, uri: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let host = uri.host().ok_or_else(|| ureq::Error::BadUri(uri.to_string()))?;
        let port = match (uri.port_u16(), uri.scheme_str()) {
            (Some(port), _) => port,
            (None, Some("https")) => 443,
            (None, Some("http")) => 80,
            _ => return Err(ureq::Error::BadUri(uri.to_string())),
        };
        let limit = timeout.not_zero().map_or(LONGEST_LOOKUP, |limit| (*limit).min(LONGEST_LOOKUP));
        let addresses = self.addresses(host, limit)?;
        let addresses = addresses.into_iter().map(|address| SocketAddr::new(address, port));
        let mut resolved = self.empty();
        for address in config.ip_family().keep_wanted(addresses).take(MAX_ADDRESSES) {
            resolved.push(address);
        }
        if resolved.is_empty() { Err(ureq::Error::HostNotFound) } else { Ok(resolved) }
    }
}

impl HostResolver {
    fn addresses(&self, host: &str, limit: Duration) -> Result<Vec<IpAddr>, ureq::Error> {
        if let Some(addresses) = without_lookup(host) {
            return Ok(addresses);
        }
        let listed = match std::fs::read("/etc/hosts") {
            Ok(text) => in_hosts_file(&String::from_utf8_lossy(&text), host),
            Err(_) => Vec::new(),
        };
        if !listed.is_empty() {
            return Ok(listed);
        }
        let failure = |why| ureq::Error::Other(Box::new(LookupFailure { host: host.to_owned(), why }));
        let dns = self.0.get_or_init(|| Dns::new().map_err(|error| error.to_string()));
        match dns {
            Ok(dns) => match dns.lookup(host, limit) {
                Ok(addresses) if addresses.is_empty() => Err(ureq::Error::HostNotFound),
                Ok(addresses) => Ok(addresses),
                Err(error) if error.is_nx_domain() || error.is_no_records_found() => Err(ureq::Error::HostNotFound),
                Err(NetError::Timeout) => Err(failure("the name servers do not answer".to_owned())),
                Err(error) => Err(failure(error.to_string())),
            },
            Err(error) => Err(failure(error.clone())),
        }
    }
}

impl fmt::Debug for HostResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HostResolver")
    }
}

/// Literals (IPv6 in the brackets that URLs have) and `localhost`.
fn without_lookup(host: &str) -> Option<Vec<IpAddr>> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    if let Ok(address) = bare.parse() {
        return Some(vec![address]);
    }
    is_localhost(host).then(|| vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()])
}

/// `localhost` and any name below it.
pub(crate) fn is_localhost(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    host == "localhost" || host.ends_with(".localhost")
}

/// The addresses of `host` in the text of a hosts(5) file, IPv4 first.
fn in_hosts_file(text: &str, host: &str) -> Vec<IpAddr> {
    let host = host.strip_suffix('.').unwrap_or(host);
    let mut found = Vec::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_ascii_whitespace();
        // A scoped address (fe80::1%lo) is not one that could be used here.
        let Some(Ok(address)) = words.next().map(str::parse::<IpAddr>) else { continue };
        if words.any(|name| name.eq_ignore_ascii_case(host)) && !found.contains(&address) {
            found.push(address);
        }
    }
    found.sort_by_key(IpAddr::is_ipv6);
    found
}

struct Dns {
    resolver: TokioResolver,
    runtime: Runtime,
}

impl Dns {
    fn new() -> io::Result<Self> {
        let (config, options) = system_conf::read_system_conf().unwrap_or_else(|_| {
            let local = NameServerConfig::udp_and_tcp(Ipv4Addr::LOCALHOST.into());
            (ResolverConfig::from_name_servers(vec![local]), ResolverOpts::default())
        });
        Self::with(config, options)
    }

    fn with(config: ResolverConfig, mut options: ResolverOpts) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        options.use_hosts_file = ResolveHosts::Never;
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        let mut builder = Resolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = options;
        let resolver = builder.build().map_err(io::Error::other)?;
        Ok(Self { resolver, runtime })
    }

    fn lookup(&self, host: &str, limit: Duration) -> Result<Vec<IpAddr>, NetError> {
        self.runtime.block_on(async {
            match tokio::time::timeout(limit, self.resolver.lookup_ip(host)).await {
                Ok(found) => Ok(found?.iter().collect()),
                Err(_) => Err(NetError::Timeout),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("valid")
    }

    #[test]
    fn literals_and_localhost_need_no_lookup() {
        assert_eq!(without_lookup("127.0.0.1"), Some(vec![ip("127.0.0.1")]));
        assert_eq!(without_lookup("[::1]"), Some(vec![ip("::1")]));
        for name in ["localhost", "LocalHost.", "registry.localhost"] {
            assert_eq!(without_lookup(name), Some(vec![ip("127.0.0.1"), ip("::1")]), "{name}");
        }
        for name in ["localhost.example", "mylocalhost", "1.2.3"] {
            assert_eq!(without_lookup(name), None, "{name}");
        }
    }

    #[test]
    fn hosts_file() {
        let text = "# comment\n\n::1 six six.lan\n10.0.0.1\tone.lan ONE # two\n10.0.0.2 two\nbad three\n10.0.0.9 six\n10.0.0.1 one\n";
        assert_eq!(in_hosts_file(text, "one"), [ip("10.0.0.1")]);
        assert_eq!(in_hosts_file(text, "One.LAN."), [ip("10.0.0.1")]);
        assert_eq!(in_hosts_file(text, "six"), [ip("10.0.0.9"), ip("::1")]);
        assert_eq!(in_hosts_file(text, "two"), [ip("10.0.0.2")]);
        for absent in ["three", "comment", "#", "10.0.0.1", "lan"] {
            assert!(in_hosts_file(text, absent).is_empty(), "{absent}");
        }
    }

    #[test]
    fn dns_is_not_started_for_addresses() {
        let resolver = HostResolver::default();
        assert!(resolver.addresses("127.0.0.1", LONGEST_LOOKUP).is_ok());
        assert!(resolver.addresses("localhost", LONGEST_LOOKUP).is_ok());
        assert!(resolver.0.get().is_none());
    }

    /// A name server that knows `known.test` as 192.0.2.7, answers NXDOMAIN for other names and is silent about
    /// `silent.test`.
    fn name_server() -> SocketAddr {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let address = socket.local_addr().expect("bound");
        std::thread::spawn(move || {
            let mut packet = [0; 512];
            while let Ok((length, client)) = socket.recv_from(&mut packet) {
                let query = &packet[..length];
                // RFC 1035 §4.1: 12 bytes of header, the name in labels, type and class.
                let question = 12 + query[12..].iter().position(|byte| *byte == 0).expect("a root label") + 5;
                let asks = |label: &[u8]| query[12..question].windows(label.len()).any(|window| window == label);
                if asks(b"silent") {
                    continue;
                }
                let is_a = query[question - 3] == 1;
                let answers = u8::from(asks(b"known") && is_a);
                let code = if asks(b"known") { 0 } else { 3 };
                let mut reply = query[..2].to_vec();
                reply.extend([0x81, 0x80 | code, 0, 1, 0, answers, 0, 0, 0, 0]);
                reply.extend(&query[12..question]);
                if answers == 1 {
                    reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 7]);
                }
                let _sent = socket.send_to(&reply, client);
            }
        });
        address
    }

    #[test]
    fn dns() {
        let address = name_server();
        let mut server = NameServerConfig::udp(address.ip());
        for connection in &mut server.connections {
            connection.port = address.port();
        }
        let config = ResolverConfig::from_name_servers(vec![server]);
        let resolver = HostResolver::default();
        // Left to itself it would wait for hours.
        let mut options = ResolverOpts::default();
        options.timeout = Duration::from_secs(3600);
        let dns = Dns::with(config, options).expect("a resolver");
        assert!(resolver.0.set(Ok(dns)).is_ok());
        let ask = |name| resolver.addresses(name, LONGEST_LOOKUP);
        // From two threads at once, since layers are fetched so.
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| assert_eq!(ask("known.test").expect("found"), [ip("192.0.2.7")]));
            }
        });
        let missing = ask("missing.test");
        assert!(matches!(missing, Err(ureq::Error::HostNotFound)), "{missing:?}");
        match resolver.addresses("silent.test", Duration::from_millis(500)) {
            Err(ureq::Error::Other(error)) => assert_eq!(error.to_string(), "the name servers do not answer"),
            other => panic!("{other:?}"),
        }
    }
}
