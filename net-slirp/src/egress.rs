//! Egress rules: where a guest may go, by address and by name.
//!
//! Pure logic: no sockets, no clock. Whoever moves the packets asks here at four places:
//!
//! 1. [`query`](Egress::query), before a query of the guest's goes to a resolver. Only names that the rules let through
//!    are asked for at all: a name asked for is a message to whoever answers for it.
//! 2. [`answer`](Egress::answer), before an answer goes to the guest. Addresses answered for a name are learnt for as
//!    long as the answer may be cached and half a minute besides; without a name nobody is reached by a rule about
//!    names.
//! 3. [`may_connect`](Egress::may_connect), when a connection, a flow of datagrams or an echo begins. What has begun
//!    goes on, however long the answer held.
//! 4. Where only a name's rule lets a connection through: its first bytes ([`look`] at them, then
//!    [`hello`](Egress::hello)), since an address may be that of many names; or each datagram
//!    ([`datagram`](Egress::datagram)).
//!
//! Addresses here are as the guest calls them, the gateway's among them.

pub mod client_hello;
mod dns;
mod name;
mod names;
mod policy;
mod quic;
mod reader;
mod reason;
mod rebinding;
mod refusals;
mod rule;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Instant;

pub use self::client_hello::{Look, look};
pub use self::dns::reply::{nothing, refusal};
pub use self::name::{InvalidName, Name};
pub use self::policy::{InvalidPolicy, Policy};
pub use self::reason::Reason;
pub use self::refusals::Refusals;
pub use self::rule::{InvalidRule, Rule};

use self::dns::Query;
use self::dns::answer::Answer;
use self::names::Names;
use crate::config::{Config, Subnet};

/// The rules, and what has been learnt that they need.
#[derive(Debug)]
pub struct Egress {
    policy: Policy,
    v4: Option<Subnet<Ipv4Addr>>,
    v6: Option<Subnet<Ipv6Addr>>,
    names: Names,
    /// Names that are answered here.
    ours: Vec<(Name, IpAddr)>,
    refusals: Refusals,
    /// Names are of use even where no rule is about any.
    is_logged: bool,
}

/// What a flow is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP and ICMPv6 echo. It has no port.
    Echo,
}

/// What is to become of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    Allowed,
    /// It goes on as far as it takes to see what it is: for TCP until its first bytes were seen, of which none gets out
    /// before; for UDP each datagram is to be looked at.
    NeedsName,
    /// It does not.
    Refused(Reason),
}

/// What is to become of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// Go on to a resolver.
    Forward,
    /// Be answered that there are no such records ([`nothing`]).
    Nothing,
    /// Be refused ([`refusal`]).
    Refused(Reason),
}

/// What is to become of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answered {
    /// Go on to the guest.
    Pass,
    /// Be put aside, and the query refused ([`refusal`]).
    Refused(Reason),
}

/// What may be asked about a name where names are allowed one by one: what programs ask for, and what fits no record of
/// is refused. HTTPS and SVCB are missing: they have addresses in them and the key for Encrypted ClientHello, which
/// would hide the name that is to be seen; everybody goes on without them (RFC 9460, 3).
const KINDS: [u16; 18] = [
    1,   // A
    2,   // NS
    5,   // CNAME
    6,   // SOA
    12,  // PTR
    15,  // MX
    16,  // TXT
    28,  // AAAA
    29,  // LOC
    33,  // SRV
    35,  // NAPTR
    39,  // DNAME
    43,  // DS
    44,  // SSHFP
    46,  // RRSIG
    48,  // DNSKEY
    52,  // TLSA
    257, // CAA
];
const SVCB: u16 = 64;
const HTTPS: u16 = 65;

impl Egress {
    /// What these rules are for a guest in this network.
    pub fn new(policy: Policy, config: &Config) -> Self {
        Self {
            policy,
            v4: config.v4,
            v6: config.v6,
            names: Names::new(),
            ours: Vec::new(),
            refusals: Refusals::default(),
            is_logged: config.log.is_some(),
        }
    }

    /// Whether the guest may ask for names by TCP.
    pub fn dns_by_tcp(&mut self) -> Verdict {
        let verdict = match &self.policy {
            policy if policy.is_open() => Verdict::Allowed,
            policy if policy.is_closed() => Verdict::Refused(Reason::None),
            _ => Verdict::Refused(Reason::DnsByTcp),
        };
        self.counted(verdict)
    }

    /// This name is answered here, and always so; with addresses of the guest's own network, for which there is no
    /// [`answer`](Self::answer).
    pub fn add_ours(&mut self, name: Name, address: IpAddr) {
        self.ours.push((name, address));
    }

    /// A query of the guest's, as a whole DNS message, before anything answers it.
    pub fn query(&mut self, query: &[u8]) -> Asked {
        let asked = self.judge_query(query);
        if let Asked::Refused(reason) = asked {
            self.refusals.add(reason);
        }
        asked
    }

    /// What a resolver has answered to a query that was forwarded.
    pub fn answer(&mut self, query: &[u8], answer: &[u8], now: Instant) -> Answered {
        match self.learn(query, answer, now) {
            Some(reason) => {
                self.refusals.add(reason);
                Answered::Refused(reason)
            }
            None => Answered::Pass,
        }
    }

    /// Whether a flow may begin. Echo's port does not matter.
    pub fn may_connect(&mut self, protocol: Protocol, to: SocketAddr, now: Instant) -> Verdict {
        let verdict = self.judge_address(protocol, to, now);
        self.counted(verdict)
    }

    /// What the first bytes of a TCP connection have shown, which needed a name. Never [`Verdict::NeedsName`], unless
    /// more bytes are needed.
    pub fn hello(&mut self, to: SocketAddr, look: &Look, now: Instant) -> Verdict {
        let verdict = self.judge_hello(to, look, now);
        self.counted(verdict)
    }

    /// Whether a datagram may go where only a name's rule lets it.
    ///
    /// QUIC may not: its server's name cannot be seen, and whatever else has the same address could be reached.
    /// Browsers and other clients go on by TCP.
    pub fn datagram(&mut self, payload: &[u8]) -> Verdict {
        let verdict = if quic::begins(payload) { Verdict::Refused(Reason::Quic) } else { Verdict::Allowed };
        self.counted(verdict)
    }

    /// The name that a query is about, if it can be read.
    pub(crate) fn name_asked(query: &[u8]) -> Option<Name> {
        Query::parse(query).map(|query| query.question.name)
    }

    /// The name that an address was answered for last.
    pub(crate) fn name(&self, address: IpAddr, now: Instant) -> Option<Name> {
        let mut ours = self.ours.iter().filter(|(_, own)| *own == address).map(|(name, _)| name);
        ours.next().or_else(|| self.names.latest_of(address, now)).cloned()
    }

    /// How many were refused, and why.
    pub fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    fn judge_query(&self, query: &[u8]) -> Asked {
        if self.policy.is_closed() {
            return Asked::Refused(Reason::None);
        }
        if !self.policy.has_names() && !self.policy.is_list_of_allowed() {
            return Asked::Forward;
        }
        let Some(Query { question, .. }) = Query::parse(query) else { return Asked::Refused(Reason::Malformed) };
        if !self.policy.may_be_asked(&question.name) {
            return Asked::Refused(Reason::Name);
        }
        match question.kind {
            SVCB | HTTPS => Asked::Nothing,
            kind if self.policy.is_list_of_allowed() && !KINDS.contains(&kind) => Asked::Refused(Reason::Kind),
            _ => Asked::Forward,
        }
    }

    /// Says why not, if so.
    fn learn(&mut self, query: &[u8], answer: &[u8], now: Instant) -> Option<Reason> {
        if self.policy.is_open() && !self.is_logged {
            return None;
        }
        let has_names = self.policy.has_names();
        let read = Query::parse(query).and_then(|query| Answer::parse(answer, &query.question));
        // Without rules about names, they are of use in the log only.
        let Some(read) = read else { return has_names.then_some(Reason::Malformed) };
        let (asked, aliases) = read.names.split_first()?;
        let is_denied = has_names && read.names.iter().any(|name| self.policy.denies_all_of(name));
        let is_rebinding = |address: &IpAddr| {
            let stays = rebinding::stays_here(*address, self.v4, self.v6);
            has_names && stays && !self.policy.names_address(*address)
        };
        if !is_denied && read.addresses.iter().any(|(address, _)| is_rebinding(address)) {
            return Some(Reason::Rebinding);
        }
        for (address, ttl) in &read.addresses {
            // What is denied stays so by whichever name it is found.
            let denied = aliases.iter().filter(|name| self.policy.denies_some_of(name));
            for name in std::iter::once(asked).chain(denied) {
                self.names.learn(name, *address, *ttl, now);
            }
        }
        is_denied.then_some(Reason::Name)
    }

    fn judge_address(&self, protocol: Protocol, to: SocketAddr, now: Instant) -> Verdict {
        if self.policy.is_open() {
            return Verdict::Allowed;
        }
        if self.policy.is_closed() {
            return Verdict::Refused(Reason::None);
        }
        let (address, port) = (to.ip(), Some(to.port()).filter(|_| protocol != Protocol::Echo));
        let mut names = self.names_of(address, now);
        if self.denies(address, port, now) {
            return Verdict::Refused(Reason::Denied);
        }
        let by_address = self.policy.allows_address(address, port);
        if !by_address && !names.any(|name| self.policy.allows_name(name, port)) {
            return Verdict::Refused(Reason::Address);
        }
        match protocol {
            Protocol::Tcp if !by_address || self.policy.denies_names_at(port) => Verdict::NeedsName,
            Protocol::Udp if !by_address => Verdict::NeedsName,
            _ => Verdict::Allowed,
        }
    }

    fn judge_hello(&self, to: SocketAddr, look: &Look, now: Instant) -> Verdict {
        let on_the_way = self.judge_address(Protocol::Tcp, to, now);
        if on_the_way != Verdict::NeedsName {
            return on_the_way;
        }
        let (address, port) = (to.ip(), Some(to.port()));
        let by_address = self.policy.allows_address(address, port);
        let name = match look {
            Look::NeedMore => return Verdict::NeedsName,
            Look::NotTls => return Verdict::Allowed,
            Look::Name(None) if by_address => return Verdict::Allowed,
            Look::Name(None) => return Verdict::Refused(Reason::NoServerName),
            Look::Name(Some(name)) => name.parse::<Name>().ok(),
        };
        if name.as_ref().is_some_and(|name| self.policy.denies_name(name, port)) {
            return Verdict::Refused(Reason::Denied);
        }
        let matches = |name: &Name| {
            self.policy.allows_name(name, port) && self.names_of(address, now).any(|answered| answered == name)
        };
        if by_address || name.is_some_and(|name| matches(&name)) {
            Verdict::Allowed
        } else {
            Verdict::Refused(Reason::ServerName)
        }
    }

    fn denies(&self, address: IpAddr, port: Option<u16>, now: Instant) -> bool {
        let mut names = self.names_of(address, now);
        self.policy.denies_address(address, port) || names.any(|name| self.policy.denies_name(name, port))
    }

    fn names_of(&self, address: IpAddr, now: Instant) -> impl Iterator<Item = &Name> {
        let ours = self.ours.iter().filter(move |(_, own)| *own == address).map(|(name, _)| name);
        ours.chain(self.names.of(address, now))
    }

    fn counted(&mut self, verdict: Verdict) -> Verdict {
        if let Verdict::Refused(reason) = verdict {
            self.refusals.add(reason);
        }
        verdict
    }
}

#[cfg(test)]
pub(crate) use self::dns::tests as testing;
#[cfg(test)]
mod tests;
