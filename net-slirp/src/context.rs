//! What every part has at hand when something happens.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Instant;

use rbox_sys::epoll::{Epoll, Watch};

use crate::budget::Budget;
use crate::config::Config;
use crate::egress::{Egress, Protocol, Verdict};
use crate::flow_log::{Flow, FlowLog};
use crate::link::Link;
use crate::token::Token;

/// The moment, the network, and the two ways out of here.
pub(crate) struct Context<'a> {
    /// When it happens.
    pub(crate) now: Instant,
    pub(crate) config: &'a Config,
    /// To the guest.
    pub(crate) link: &'a mut dyn Link,
    /// Where descriptors are watched.
    pub(crate) epoll: &'a Epoll,
    /// Where the guest may go.
    pub(crate) egress: &'a mut Egress,
    /// Where it went.
    pub(crate) log: &'a mut FlowLog,
    /// What is left of the ICMP errors that may be sent by now.
    pub(crate) errors: &'a mut Budget,
    /// Room for the largest datagram there is; nobody's between two events.
    pub(crate) buffer: &'a mut [u8],
}

impl Context<'_> {
    /// Whether the rules let the guest send this datagram, or this echo request.
    pub(crate) fn may_send(&mut self, protocol: Protocol, guest: SocketAddr, to: SocketAddr, payload: &[u8]) -> bool {
        let Self { now, egress, log, .. } = self;
        let verdict = match egress.may_connect(protocol, to, *now) {
            Verdict::NeedsName => egress.datagram(payload),
            verdict => verdict,
        };
        let flow = Flow { protocol, guest, outside: to };
        let name = || egress.name(to.ip(), *now);
        match verdict {
            Verdict::Refused(reason) => log.refused(&flow, name, reason, payload.len(), *now),
            Verdict::Allowed | Verdict::NeedsName => log.sent(flow, payload.len(), *now, name),
        }
        verdict == Verdict::Allowed
    }

    /// The guest gets an answer to such.
    pub(crate) fn note_received(&mut self, protocol: Protocol, guest: SocketAddr, from: SocketAddr, bytes: usize) {
        let Self { now, egress, log, .. } = self;
        log.received(Flow { protocol, guest, outside: from }, bytes, *now, || egress.name(from.ip(), *now));
    }

    /// Has it told by this token when a socket has something to read, until that is closed.
    pub(crate) fn watch(&self, socket: impl AsFd, token: Token) -> io::Result<()> {
        self.epoll.add(socket, token.encode(), Watch::Readable)
    }
}
