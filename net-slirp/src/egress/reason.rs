//! Why something was refused, in one word for logs and in a few for people.

use std::fmt;

/// Why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Nothing gets out.
    None,
    /// No rule allows this address with this port.
    Address,
    /// A rule denies it.
    Denied,
    /// No rule allows asking for this name, or one denies it.
    Name,
    /// Nobody needs records of this type.
    Kind,
    /// A message of DNS cannot be read, or has more in it than it should.
    Malformed,
    /// A name has an address that is not outside.
    Rebinding,
    /// TLS with a server of another name.
    ServerName,
    /// TLS without a server's name.
    NoServerName,
    /// QUIC, whose server's name cannot be seen.
    Quic,
    /// Asking for names by TCP, which no rule about names would see.
    DnsByTcp,
}

impl Reason {
    /// Each of them, in order.
    pub const ALL: [Self; 11] = [
        Self::None,
        Self::Address,
        Self::Denied,
        Self::Name,
        Self::Kind,
        Self::Malformed,
        Self::Rebinding,
        Self::ServerName,
        Self::NoServerName,
        Self::Quic,
        Self::DnsByTcp,
    ];

    /// In one word, which stays the same.
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Address => "address",
            Self::Denied => "denied",
            Self::Name => "name",
            Self::Kind => "type",
            Self::Malformed => "malformed",
            Self::Rebinding => "rebinding",
            Self::ServerName => "server-name",
            Self::NoServerName => "no-server-name",
            Self::Quic => "quic",
            Self::DnsByTcp => "dns-by-tcp",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "nothing may get out",
            Self::Address => "no rule allows this address and port",
            Self::Denied => "a rule denies it",
            Self::Name => "the rules do not let this name through",
            Self::Kind => "records of this type are not let through",
            Self::Malformed => "the DNS message cannot be read",
            Self::Rebinding => "the name has an address of this host or network",
            Self::ServerName => "TLS asks for a server that no rule allows at this address",
            Self::NoServerName => "TLS does not say which server it asks for",
            Self::Quic => "QUIC does not show which server it asks for",
            Self::DnsByTcp => "where there are rules, names are asked for by UDP",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_place_and_its_word() {
        for (place, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, place);
            assert!(Reason::ALL.iter().all(|other| *other == reason || other.word() != reason.word()));
        }
    }
}
