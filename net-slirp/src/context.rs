//! What every part has at hand when something happens.

use std::io;
use std::os::fd::AsFd;
use std::time::Instant;

use rbox_sys::epoll::{Epoll, Watch};

use crate::config::Config;
use crate::egress::Egress;
use crate::icmp;
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
    /// What is left of the ICMP errors that may be sent by now.
    pub(crate) errors: &'a mut icmp::Budget,
    /// Room for the largest datagram there is; nobody's between two events.
    pub(crate) buffer: &'a mut [u8],
}

impl Context<'_> {
    /// Has it told by this token when a socket has something to read, until that is closed.
    pub(crate) fn watch(&self, socket: impl AsFd, token: Token) -> io::Result<()> {
        self.epoll.add(socket, token.encode(), Watch::Readable)
    }
}
