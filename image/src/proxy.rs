//! Which proxy a request goes through: HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY, as curl and Go read them.
//!
//! The lower-case names come first. HTTP_PROXY counts for plain HTTP only in lower case in curl, for the sake of CGI;
//! no request of ours runs under CGI, so both are read. Loopback hosts never go through a proxy, as in Go.

use std::net::IpAddr;

use crate::endpoint::is_loopback;

/// The proxies of an environment; empty ones count as none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    /// For https.
    pub https: Option<String>,
    /// For http.
    pub http: Option<String>,
    /// For either, where it has none of its own.
    pub all: Option<String>,
    /// Hosts that are reached directly.
    pub none_for: Option<String>,
}

impl Proxies {
    /// Those of this process's environment.
    pub fn from_env() -> Self {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        let read = |name: &str| {
            let value = variable(name).or_else(|| variable(&name.to_ascii_uppercase()));
            value.filter(|value| !value.trim().is_empty())
        };
        Self {
            https: read("https_proxy"),
            http: read("http_proxy"),
            all: read("all_proxy"),
            none_for: read("no_proxy"),
        }
    }

    /// The proxy for a request with `scheme` to `host`.
    pub(crate) fn choose(&self, scheme: &str, host: &str) -> Option<&str> {
        let own = if scheme == "https" { &self.https } else { &self.http };
        let proxy = own.as_ref().or(self.all.as_ref())?;
        let direct = is_loopback(host) || self.none_for.as_ref().is_some_and(|list| is_excepted(list, host));
        (!direct).then_some(proxy)
    }
}

/// Whether `host` is in a NO_PROXY list: `*`, names (which stand for everything below them too, with or without a
/// leading dot or `*.`), addresses, and address/prefix. A port in an entry is ignored.
fn is_excepted(list: &str, host: &str) -> bool {
    let host = bare(host).trim_end_matches('.').to_ascii_lowercase();
    let address: Option<IpAddr> = host.parse().ok();
    list.split([',', ' ']).map(str::trim).filter(|entry| !entry.is_empty()).any(|entry| {
        if entry == "*" {
            return true;
        }
        let entry = entry.to_ascii_lowercase();
        if let Some(address) = address {
            return match entry.split_once('/') {
                Some((network, prefix)) => in_network(address, network, prefix).unwrap_or(false),
                None => bare(without_port(&entry)).parse() == Ok(address),
            };
        }
        let name = without_port(&entry).trim_start_matches('*').trim_start_matches('.');
        match host.strip_suffix(name) {
            Some(rest) => !name.is_empty() && (rest.is_empty() || rest.ends_with('.')),
            None => false,
        }
    })
}

fn in_network(address: IpAddr, network: &str, prefix: &str) -> Option<bool> {
    let prefix: u32 = prefix.parse().ok()?;
    let inside = match (address, network.parse().ok()?) {
        (IpAddr::V4(a), IpAddr::V4(n)) if prefix <= 32 => {
            (a.to_bits() ^ n.to_bits()).checked_shr(32 - prefix).unwrap_or(0) == 0
        }
        (IpAddr::V6(a), IpAddr::V6(n)) if prefix <= 128 => {
            (a.to_bits() ^ n.to_bits()).checked_shr(128 - prefix).unwrap_or(0) == 0
        }
        _ => false,
    };
    Some(inside)
}

fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host)
}

fn without_port(entry: &str) -> &str {
    match entry.rsplit_once(':') {
        // More than one colon, and no bracket: an IPv6 address.
        Some((host, _)) if !host.contains(':') || host.ends_with(']') => host,
        _ => entry,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(variables: &[(&str, &str)], scheme: &str, host: &str) -> Option<String> {
        let proxies = Proxies::from_variables(|name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        });
        proxies.choose(scheme, host).map(str::to_owned)
    }

    #[test]
    fn by_scheme() {
        let variables = [("HTTPS_PROXY", "http://s:1"), ("http_proxy", "http://p:1"), ("HTTP_PROXY", "http://no:1")];
        assert_eq!(chosen(&variables, "https", "quay.io").as_deref(), Some("http://s:1"));
        assert_eq!(chosen(&variables, "http", "quay.io").as_deref(), Some("http://p:1"));
        assert_eq!(chosen(&[("all_proxy", "http://a:1")], "https", "quay.io").as_deref(), Some("http://a:1"));
        assert_eq!(chosen(&[("https_proxy", "")], "https", "quay.io"), None);
        for host in ["localhost", "127.9.9.9", "[::1]"] {
            assert_eq!(chosen(&variables, "https", host), None, "{host}");
        }
    }

    #[test]
    fn exceptions() {
        for (list, host, excepted) in [
            ("*", "quay.io", true),
            ("quay.io", "quay.io", true),
            ("a.b, quay.io:443", "QUAY.io", true),
            (".quay.io", "cdn.quay.io", true),
            ("*.quay.io", "cdn.quay.io", true),
            ("quay.io", "notquay.io", false),
            ("cdn.quay.io", "quay.io", false),
            ("10.0.0.0/8", "10.2.3.4", true),
            ("10.0.0.0/8", "11.2.3.4", false),
            ("0.0.0.0/0", "11.2.3.4", true),
            ("10.0.0.0/99", "10.2.3.4", false),
            ("fd00::/8", "[fd00::1]", true),
            ("[fd00::1]:5000", "[fd00::1]", true),
            ("fd00::1", "[fd00::1]", true),
            ("10.0.0.1", "10.0.0.11", false),
            (".", "quay.io", false),
            ("", "quay.io", false),
        ] {
            assert_eq!(is_excepted(list, host), excepted, "{list} {host}");
        }
    }
}
