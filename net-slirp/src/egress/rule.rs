//! One rule: `name[:port]`, `*.name[:port]` or `address[/prefix][:port]`, where a port may be a range `first-last`.
//!
//! Without a port, a rule is about all of them, and about echo (ping), which has none. An IPv6 address with a port is
//! in brackets, `[2001:db8::1]:443`; a network in either way, `[2001:db8::/32]:443` or `[2001:db8::]/32:443`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::name::Name;

/// A rule, without what is to happen where it matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    whom: Whom,
    ports: Ports,
}

/// Why a text is no rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid egress rule {rule:?}: {why}")]
pub struct InvalidRule {
    rule: String,
    why: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Whom {
    Name(Name),
    /// Names below this one.
    Below(Name),
    Network(Network),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    prefix: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ports {
    first: u16,
    last: u16,
}

impl Rule {
    /// Whether it is about names.
    pub fn is_of_names(&self) -> bool {
        !matches!(self.whom, Whom::Network(_))
    }

    /// Whether it is about whatever port, and about what has no port.
    pub fn is_for_all_ports(&self) -> bool {
        self.ports == Ports::ALL
    }

    /// Whether it is about this port; none is that of echo.
    pub fn has_port(&self, port: Option<u16>) -> bool {
        self.is_for_all_ports() || port.is_some_and(|port| (self.ports.first..=self.ports.last).contains(&port))
    }

    /// Whether it is about this name.
    pub fn has_name(&self, name: &Name) -> bool {
        match &self.whom {
            Whom::Name(own) => own == name,
            Whom::Below(own) => name.is_below(own),
            Whom::Network(_) => false,
        }
    }

    /// Whether it is about this address, by its number.
    pub fn has_address(&self, address: IpAddr) -> bool {
        matches!(self.whom, Whom::Network(network) if network.contains(address))
    }
}

impl FromStr for Rule {
    type Err = InvalidRule;

    fn from_str(text: &str) -> Result<Self, InvalidRule> {
        parse(text).map_err(|why| InvalidRule { rule: text.to_owned(), why })
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.whom {
            Whom::Name(name) => write!(f, "{name}")?,
            Whom::Below(name) => write!(f, "*.{name}")?,
            Whom::Network(network) if network.address.is_ipv6() && !self.is_for_all_ports() => {
                write!(f, "[{network}]")?
            }
            Whom::Network(network) => write!(f, "{network}")?,
        }
        match self.ports {
            Ports::ALL => Ok(()),
            Ports { first, last } if first == last => write!(f, ":{first}"),
            Ports { first, last } => write!(f, ":{first}-{last}"),
        }
    }
}

/// A rule's text, taken apart.
struct Parts<'a> {
    host: &'a str,
    prefix: Option<&'a str>,
    ports: Option<&'a str>,
}

fn parse(text: &str) -> Result<Rule, String> {
    let parts = split(text)?;
    let ports = parts.ports.map_or(Ok(Ports::ALL), Ports::parse)?;
    Ok(Rule { whom: whom(&parts)?, ports })
}

fn split(text: &str) -> Result<Parts<'_>, String> {
    if text.is_empty() {
        return Err("it is empty".to_owned());
    }
    if text.contains("://") {
        return Err("a rule names a host and maybe a port, not a URL".to_owned());
    }
    if let Some(rest) = text.strip_prefix('[') {
        let (inner, rest) = rest.split_once(']').ok_or("the bracket is not closed")?;
        let (host, prefix) = cut(inner, '/');
        let (prefix_after, ports) = match rest.strip_prefix('/') {
            Some(rest) => Some(cut(rest, ':')).map(|(prefix, ports)| (Some(prefix), ports)),
            None if rest.is_empty() => Some((None, None)),
            None => rest.strip_prefix(':').map(|ports| (None, Some(ports))),
        }
        .ok_or("after the bracket there is ':' and a port")?;
        if prefix.is_some() && prefix_after.is_some() {
            return Err("it has two prefixes".to_owned());
        }
        if !host.contains(':') {
            return Err("what is in brackets is an IPv6 address".to_owned());
        }
        return Ok(Parts { host, prefix: prefix.or(prefix_after), ports });
    }
    if let Some((host, rest)) = text.split_once('/') {
        let (prefix, ports) = cut(rest, ':');
        return Ok(Parts { host, prefix: Some(prefix), ports });
    }
    if text.matches(':').count() > 1 {
        return Ok(Parts { host: text, prefix: None, ports: None });
    }
    let (host, ports) = cut(text, ':');
    Ok(Parts { host, prefix: None, ports })
}

fn whom(parts: &Parts<'_>) -> Result<Whom, String> {
    let host = parts.host;
    if let Ok(address) = host.parse::<IpAddr>() {
        return Network::new(address, parts.prefix).map(Whom::Network);
    }
    if host.contains(':') {
        return Err(format!("{host:?} is no IPv6 address; one with a port is written [ADDRESS]:PORT"));
    }
    if parts.prefix.is_some() {
        return Err(format!("{host:?} is no address, and only an address has a prefix"));
    }
    if host == "*" {
        return Err("'*' is followed by '.' and a name; all addresses are 0.0.0.0/0 and ::/0".to_owned());
    }
    let (name, below) = host.strip_prefix("*.").map_or((host, false), |name| (name, true));
    let name = name.parse::<Name>().map_err(|why| why.to_string())?;
    Ok(if below { Whom::Below(name) } else { Whom::Name(name) })
}

fn cut(text: &str, at: char) -> (&str, Option<&str>) {
    text.split_once(at).map_or((text, None), |(before, after)| (before, Some(after)))
}

impl Network {
    fn new(address: IpAddr, prefix: Option<&str>) -> Result<Self, String> {
        if address.to_canonical() != address {
            return Err(format!("it is written as IPv4: {}", address.to_canonical()));
        }
        let longest = width(address);
        let Some(text) = prefix else { return Ok(Self { address, prefix: longest }) };
        let prefix = number(text).and_then(|number| u8::try_from(number).ok()).filter(|prefix| *prefix <= longest);
        let prefix = prefix.ok_or_else(|| format!("the prefix {text:?} is not a number from 0 to {longest}"))?;
        let network = Self { address: first(address, prefix), prefix };
        if network.address != address {
            return Err(format!("{address}/{prefix} is an address within a network, which is {network}"));
        }
        Ok(network)
    }

    fn contains(self, address: IpAddr) -> bool {
        address.is_ipv4() == self.address.is_ipv4() && first(address, self.prefix) == self.address
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)?;
        if self.prefix == width(self.address) { Ok(()) } else { write!(f, "/{}", self.prefix) }
    }
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The first address of the network that this one is in.
pub(super) fn first(address: IpAddr, prefix: u8) -> IpAddr {
    let left = u32::from(width(address).saturating_sub(prefix));
    match address {
        IpAddr::V4(address) => IpAddr::V4((address.to_bits() & u32::MAX.checked_shl(left).unwrap_or(0)).into()),
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & u128::MAX.checked_shl(left).unwrap_or(0)).into()),
    }
}

impl Ports {
    const ALL: Self = Self { first: 0, last: u16::MAX };

    fn parse(text: &str) -> Result<Self, String> {
        let (first, last) = cut(text, '-');
        let one = |text| {
            let port = number(text).filter(|port| *port != 0);
            port.ok_or_else(|| format!("{text:?} is no port: a number from 1 to 65535, or none for all of them"))
        };
        let (first, last) = (one(first)?, one(last.unwrap_or(first))?);
        if last < first {
            return Err(format!("the range {text} ends before it begins"));
        }
        Ok(Self { first, last })
    }
}

/// Digits only: no sign.
fn number(text: &str) -> Option<u16> {
    text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> Rule {
        text.parse().expect(text)
    }

    fn has(rule: &Rule, who: &str, port: u16) -> bool {
        let whom = match who.parse::<IpAddr>() {
            Ok(address) => rule.has_address(address),
            Err(_) => rule.has_name(&who.parse().expect("a name")),
        };
        whom && rule.has_port(Some(port))
    }

    #[test]
    fn who_and_which_ports() {
        for (text, matching, others) in [
            (
                "example.com",
                &[("example.com", 1), ("EXAMPLE.com.", 65535)][..],
                &[("a.example.com", 1), ("com", 1)][..],
            ),
            ("Example.com.:443", &[("example.com", 443)], &[("example.com", 444)]),
            (
                "*.example.com",
                &[("a.example.com", 1), ("a.b.example.com", 9)],
                &[("example.com", 1), ("xexample.com", 1)],
            ),
            ("*.example.com:80-82", &[("a.example.com", 80), ("a.example.com", 82)], &[("a.example.com", 83)]),
            ("10.0.0.0/8", &[("10.255.0.1", 5)], &[("11.0.0.0", 5), ("::a00:1", 5)]),
            ("10.0.0.0/8:22", &[("10.0.0.1", 22)], &[("10.0.0.1", 23)]),
            ("192.0.2.7", &[("192.0.2.7", 5)], &[("192.0.2.6", 5)]),
            ("192.0.2.7:8000-9000", &[("192.0.2.7", 8500)], &[("192.0.2.7", 7999), ("192.0.2.7", 9001)]),
            ("0.0.0.0/0", &[("192.0.2.7", 1)], &[("2001:db8::1", 1)]),
            ("::/0:443", &[("2001:db8::1", 443)], &[("192.0.2.7", 443)]),
            ("2001:db8::1", &[("2001:db8::1", 5)], &[("2001:db8::2", 5)]),
            ("[2001:db8::1]", &[("2001:db8::1", 5)], &[("2001:db8::2", 5)]),
            ("[2001:db8::1]:443", &[("2001:db8::1", 443)], &[("2001:db8::1", 80)]),
            ("2001:db8::/32", &[("2001:db8:9::1", 5)], &[("2001:db9::", 5)]),
            ("[2001:db8::/32]:1-2", &[("2001:db8:9::1", 2)], &[("2001:db8:9::1", 3)]),
            ("[2001:db8::]/32:443", &[("2001:db8:9::1", 443)], &[("2001:db8:9::1", 3)]),
        ] {
            let read = rule(text);
            assert_eq!(rule(&read.to_string()), read, "{text} is written {read}");
            for (who, port) in matching {
                assert!(has(&read, who, *port), "{text}: {who} {port}");
            }
            for (who, port) in others {
                assert!(!has(&read, who, *port), "{text}: {who} {port}");
            }
        }
    }

    #[test]
    fn echo_has_no_port() {
        assert!(rule("example.com").has_port(None));
        assert!(!rule("example.com:1-65535").has_port(None));
        assert!(!rule("10.0.0.0/8:80").has_port(None));
    }

    #[test]
    fn errors_say_what_is_wrong() {
        for (text, why) in [
            ("", "it is empty"),
            ("https://example.com", "not a URL"),
            ("example.com:", r#""" is no port"#),
            ("example.com:0", r#""0" is no port"#),
            ("example.com:https", r#""https" is no port"#),
            ("example.com:+80", r#""+80" is no port"#),
            ("example.com:65536", r#""65536" is no port"#),
            ("example.com:90-80", "the range 90-80 ends before it begins"),
            ("example.com:80-", r#""" is no port"#),
            ("example.com/24", "only an address has a prefix"),
            ("*", "all addresses are 0.0.0.0/0 and ::/0"),
            ("*example.com", "'*.' before it"),
            ("a.*.com", "'*.' before it"),
            ("bücher.example", "A-label"),
            ("10.0.0.0/33", r#"the prefix "33" is not a number from 0 to 32"#),
            ("10.0.0.0/", r#"the prefix "" is not a number"#),
            ("10.0.0.1/8", "which is 10.0.0.0/8"),
            ("1.2.3", "like an address"),
            ("1.2.3.4.5:80", "like an address"),
            ("2001:db8::1:443:x", "[ADDRESS]:PORT"),
            ("[2001:db8::1", "not closed"),
            ("[2001:db8::1]443", "after the bracket"),
            ("[2001:db8::/32]/32", "two prefixes"),
            ("[example.com]:443", "an IPv6 address"),
            ("[2001:db8::1%eth0]", "no IPv6 address"),
            ("::ffff:192.0.2.1", "as IPv4: 192.0.2.1"),
            ("a b", "letters, digits"),
        ] {
            let error = text.parse::<Rule>().expect_err(text).to_string();
            assert!(error.contains(why), "{error}");
            assert!(error.starts_with(&format!("invalid egress rule {text:?}: ")), "{error}");
        }
    }
}
