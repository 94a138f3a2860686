//! `--add-host`, `--dns`, `--dns-search`, `--dns-option`: hosts(5) and resolv.conf(5).

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How names are resolved in the container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resolver {
    /// In /etc/hosts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<ExtraHost>,
    /// Name servers; or [`Dns::None`] alone, which leaves the image's /etc/resolv.conf.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<Dns>,
    /// Domains; a `.` alone stands for none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
    /// `ndots:2`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

/// `--add-host NAME[;NAME…]:ADDRESS`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtraHost {
    /// At least one.
    pub names: Vec<String>,
    /// Of all of them.
    pub address: HostAddress,
}

/// The address of an added host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostAddress {
    /// The host, as the container's network reaches it.
    #[serde(rename = "host-gateway")]
    Gateway,
    /// This one.
    #[serde(untagged)]
    Is(IpAddr),
}

/// `--dns`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dns {
    /// The image's resolv.conf stays.
    None,
    /// A name server.
    #[serde(untagged)]
    Server(IpAddr),
}

impl FromStr for ExtraHost {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // Docker takes either sign, and brackets around an address of IPv6.
        let split = text.split_once('=').or_else(|| text.split_once(':'));
        let (names, address) = split.ok_or("expected NAME:ADDRESS")?;
        let bare = address.strip_prefix('[').and_then(|address| address.strip_suffix(']')).unwrap_or(address);
        let address = match bare {
            "host-gateway" => HostAddress::Gateway,
            _ => HostAddress::Is(bare.parse().map_err(|_| format!("{address:?} is no address of IPv4 or IPv6"))?),
        };
        let names: Vec<String> = names.split(';').map(str::to_owned).collect();
        if let Some(wrong) = names.iter().find(|name| !is_one_word(name)) {
            return Err(format!("{wrong:?} is no host name"));
        }
        Ok(Self { names, address })
    }
}

impl FromStr for Dns {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::None),
            _ => text.parse().map(Self::Server).map_err(|_| format!("{text:?} is neither an address nor none")),
        }
    }
}

/// Whether it can stand in a line of the two files as one word, and end neither the line nor what counts of it.
fn is_one_word(text: &str) -> bool {
    !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '#' | ';'))
}

impl fmt::Display for HostAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gateway => f.write_str("host-gateway"),
            Self::Is(address) => address.fmt(f),
        }
    }
}

impl Resolver {
    /// What contradicts itself, or cannot be written down.
    pub fn check(&self) -> Result<(), String> {
        let given = self.servers.len() + self.search.len() + self.options.len();
        if self.servers.contains(&Dns::None) && given > 1 {
            return Err(
                "--dns none leaves the image's resolv.conf, and so goes with no other of --dns, --dns-search and \
                        --dns-option"
                    .into(),
            );
        }
        match self.search.iter().chain(&self.options).find(|word| !is_one_word(word)) {
            Some(word) => Err(format!("{word:?} is not one word of a resolv.conf")),
            None => Ok(()),
        }
    }

    /// Whether the container's resolv.conf is the image's.
    pub(crate) fn leaves_the_images(&self) -> bool {
        self.servers.contains(&Dns::None)
    }

    /// Whether any of the added hosts is the host itself.
    pub(crate) fn names_the_gateway(&self) -> bool {
        self.hosts.iter().any(|host| host.address == HostAddress::Gateway)
    }

    /// Whether anything is said of how names are resolved.
    pub(crate) fn says_anything(&self) -> bool {
        *self != Self::default()
    }

    /// The lines of hosts(5), with the host at `gateway`. They come first: whoever asks for a name gets the first that fits.
    pub(crate) fn hosts_lines(&self, gateway: Option<IpAddr>) -> String {
        let line = |host: &ExtraHost| {
            let address = match host.address {
                HostAddress::Gateway => gateway?,
                HostAddress::Is(address) => address,
            };
            Some(format!("{address}\t{}\n", host.names.join(" ")))
        };
        self.hosts.iter().filter_map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extra_hosts() {
        let of = |text: &str| text.parse::<ExtraHost>();
        for text in ["db:10.0.0.1", "db=10.0.0.1"] {
            let host = of(text).expect(text);
            assert_eq!((host.names, host.address.to_string()), (vec!["db".to_owned()], "10.0.0.1".to_owned()));
        }
        assert_eq!(of("a;b:::1").expect("valid").names, ["a", "b"]);
        assert_eq!(of("a:[2001:db8::1]").expect("valid").address.to_string(), "2001:db8::1");
        for wrong in
            ["", "db", "db:", ":1.2.3.4", "db:1.2.3", "d b:1.2.3.4", "a;:1.2.3.4", "a\nb:1.2.3.4", "#a:1.2.3.4"]
        {
            of(wrong).expect_err(wrong);
        }
        assert_eq!(of("host:host-gateway").expect("valid").address, HostAddress::Gateway);
    }

    #[test]
    fn what_contradicts_itself() {
        let none = Resolver { servers: vec![Dns::None], ..Resolver::default() };
        none.check().expect("alone");
        Resolver { search: vec!["a.org".into()], ..none.clone() }.check().expect_err("none, and a domain");
        let two = Resolver { servers: vec![Dns::None, "1.1.1.1".parse().expect("valid")], ..Resolver::default() };
        two.check().expect_err("none, and a server");
        let line = Resolver { options: vec!["ndots:1\nnameserver 6.6.6.6".into()], ..Resolver::default() };
        line.check().expect_err("two lines");
    }

    #[test]
    fn records() {
        let hosts = ["a:host-gateway", "b:::1"].map(|host| host.parse::<ExtraHost>().expect("valid").address);
        let text = serde_json::to_string(&hosts).expect("serialized");
        assert_eq!(text, r#"["host-gateway","::1"]"#);
        assert_eq!(serde_json::from_str::<[HostAddress; 2]>(&text).expect("read"), hosts);
        let servers = vec![Dns::None, Dns::Server([1, 1, 1, 1].into())];
        let text = serde_json::to_string(&servers).expect("serialized");
        assert_eq!(text, r#"["none","1.1.1.1"]"#);
        assert_eq!(serde_json::from_str::<Vec<Dns>>(&text).expect("read"), servers);
    }
}
