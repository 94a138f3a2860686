//! What every part has at hand when something happens.

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
    pub(crate) watcher: &'a mut dyn Watcher,
    /// Where the guest may go.
    pub(crate) egress: &'a mut Egress,
    /// What is left of the ICMP errors that may be sent by now.
    pub(crate) errors: &'a mut icmp::Budget,
    /// Room for the largest datagram there is; nobody's between two events.
    pub(crate) buffer: &'a mut [u8],
}

/// Who watches descriptors; a simulator has none.
pub(crate) trait Watcher {
    /// Watches one until it is closed; it is told of by this token.
    fn watch(&mut self, fd: &dyn AsFdRef, token: Token, watch: Watch) -> std::io::Result<()>;
}

/// `AsFd` of which there can be trait objects.
pub(crate) trait AsFdRef {
    fn fd(&self) -> std::os::fd::BorrowedFd<'_>;
}

impl<T: AsFd> AsFdRef for T {
    fn fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.as_fd()
    }
}

impl Watcher for Epoll {
    fn watch(&mut self, fd: &dyn AsFdRef, token: Token, watch: Watch) -> std::io::Result<()> {
        self.add(fd.fd(), token.encode(), watch)
    }
}
