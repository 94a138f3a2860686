//! UDP, between the guest's ports and sockets of the host's (RFC 4787).
//!
//! Each port of the guest's that sends anything gets one socket, which is bound to a port of the kernel's choice and
//! never connected: whomever the guest talks to sees it as the same (endpoint-independent mapping, REQ-1), as peers
//! that find each other with the help of a third need it. Back through it comes what those addresses send that the
//! guest has sent something to, from whatever port (address-dependent filtering, the stricter of the two that REQ-8
//! recommends): strangers, and the host's own loopback, reach only ports that are published.
//!
//! A pair of the guest's port and an address outside is a flow. It is forgotten when neither side has sent anything for
//! five minutes (REQ-5, REQ-6), or half a minute where it was only names that were asked for; a socket goes with its
//! last flow. There are at most 4096 flows, and so sockets; the longest unused make room, earlier where the process may
//! open no more descriptors. That and as many answers to be expected from published ports are well below 2 MiB;
//! datagrams are held by nobody but the kernel.
//!
//! Each datagram has one hop less to go than the guest said, so that a route can be traced. What the network says of
//! where it did not arrive is read from the sockets' queues of errors, and told to the guest.
//!
//! A published port is one socket for all its clients. The guest sees who each is, as far as it could answer him; who
//! is behind the gateway's address for it is told apart by his port, and two with the same port are given different
//! ones. What the guest sends to where a client is seen goes out of that socket, from the address that the client had
//! sent to.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use rbox_sys::epoll::Ready;
use rbox_sys::{datagram as os, errqueue};
use smoltcp::wire::IpProtocol;

use crate::config::PublishedSocket;
use crate::context::Context;
use crate::datagram::{self, Datagram};
use crate::egress::Protocol;
use crate::icmp::{self, Unreachable};
use crate::idle::Idle;
use crate::link::IpHeader;
use crate::packet::Packet;
use crate::reports;
use crate::token::{Owner, Places, Token};

const KEEP: Duration = Duration::from_secs(300);
const KEEP_NAMES: Duration = Duration::from_secs(30);
const NAMES: u16 = 53;
const MOST_FLOWS: usize = 4096;
/// How many datagrams one socket gives before it is others' turn.
const AT_A_TIME: usize = 32;
/// Datagrams that come closer together than this are read together.
const CLOSE: Duration = Duration::from_micros(20);
/// How many ports are tried for a client that looks like another one.
const TRIES: u16 = 16;
/// What Linux sends with unless told otherwise.
const HOPS: u8 = 64;

/// All there is of UDP.
#[derive(Debug)]
pub(crate) struct Udp {
    places: Places<Place>,
    ports: HashMap<SocketAddr, Token>,
    flows: Idle<Flow, Token>,
    answers: Idle<Answer, Client>,
}

/// What stands at a token's place.
#[derive(Debug)]
enum Place {
    Port(Port),
    /// The published port of this index.
    Published(usize),
}

/// A port of the guest's.
#[derive(Debug)]
struct Port {
    guest: SocketAddr,
    socket: UdpSocket,
    flows: usize,
    hops: u8,
    /// When something was received last.
    received: Instant,
}

/// A port of the guest's, and whom it has sent something, as the guest calls him.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Flow {
    guest: SocketAddr,
    outside: IpAddr,
}

/// A published port of the guest's, and as whom the guest sees a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Answer {
    guest: SocketAddr,
    seen: SocketAddr,
}

/// Who a client is, and where it reached us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Client {
    published: usize,
    address: SocketAddr,
    local: Option<IpAddr>,
}

impl Udp {
    pub(crate) fn new() -> Self {
        Self {
            places: Places::new(),
            ports: HashMap::new(),
            flows: Idle::new(MOST_FLOWS),
            answers: Idle::new(MOST_FLOWS),
        }
    }

    /// Lets go of memory that nobody uses.
    pub(crate) fn shrink(&mut self) {
        let Self { places, ports, flows, answers } = self;
        places.shrink();
        ports.shrink_to_fit();
        flows.shrink();
        answers.shrink();
    }

    /// Watches what is published.
    pub(crate) fn start(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        for (index, published) in cx.config.published.iter().enumerate() {
            if let PublishedSocket::Udp(socket) = &published.socket {
                if socket.local_addr()?.ip().is_unspecified() {
                    os::tell_local_address(socket)?;
                }
                let token = self.places.put(Owner::Udp, Place::Published(index));
                cx.watch(socket, token)?;
            }
        }
        Ok(())
    }

    pub(crate) fn on_packet(&mut self, packet: &Packet<'_>, cx: &mut Context<'_>) {
        let Some(datagram) = Datagram::parse(packet).filter(|_| cx.config.is_guest(packet.source)) else { return };
        let answer = Answer { guest: datagram.source, seen: datagram.destination };
        if let Some(client) = self.answers.get(&answer, KEEP, cx.now).copied() {
            return answer_client(client, packet, &datagram, cx);
        }
        let Datagram { source: guest, destination, payload } = datagram;
        let may = |cx: &mut Context<'_>| cx.may_send(Protocol::Udp, guest, destination, payload);
        let Some(address) = cx.config.reachable(packet.destination).filter(|_| may(cx)) else {
            return icmp::unreachable(Unreachable::Prohibited, packet, cx);
        };
        let Some(hops) = packet.hops.checked_sub(1).filter(|hops| *hops > 0) else {
            return icmp::time_exceeded(packet, cx);
        };
        let outside = SocketAddr::new(address, datagram.destination.port());
        let sent = self.port_for(&datagram, cx).and_then(|port| {
            port.set_hops(hops)?;
            port.send(datagram.payload, outside, cx)
        });
        if let Some(why) = sent.err().as_ref().and_then(Unreachable::of) {
            icmp::unreachable(why, packet, cx);
        }
    }

    pub(crate) fn on_ready(&mut self, token: Token, ready: Ready, cx: &mut Context<'_>) {
        if !ready.readable {
            return;
        }
        match self.places.get_mut(token) {
            Some(Place::Port(port)) => port.receive(&mut self.flows, cx),
            Some(Place::Published(index)) => {
                let index = *index;
                self.receive_published(index, cx);
            }
            None => {}
        }
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        [self.flows.next_deadline(), self.answers.next_deadline()].into_iter().flatten().min()
    }

    pub(crate) fn on_time(&mut self, cx: &mut Context<'_>) {
        self.answers.forget_unused(cx.now);
        let forgotten = self.flows.forget_unused(cx.now);
        self.end(forgotten);
    }

    /// The port from which a datagram is sent, with its flow in use.
    fn port_for(&mut self, datagram: &Datagram<'_>, cx: &mut Context<'_>) -> io::Result<&mut Port> {
        let flow = Flow { guest: datagram.source, outside: datagram.destination.ip() };
        let keep = if datagram.destination.port() == NAMES { KEEP_NAMES } else { KEEP };
        let token = match self.flows.get(&flow, keep, cx.now) {
            Some(token) => *token,
            None => self.begin(flow, keep, cx)?,
        };
        match self.places.get_mut(token) {
            Some(Place::Port(port)) => Ok(port),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn begin(&mut self, flow: Flow, keep: Duration, cx: &mut Context<'_>) -> io::Result<Token> {
        let token = match self.ports.get(&flow.guest) {
            Some(token) => *token,
            None => self.open(flow.guest, cx)?,
        };
        if let Some(Place::Port(port)) = self.places.get_mut(token) {
            port.flows += 1;
        }
        let forgotten = self.flows.put(flow, token, keep, cx.now);
        self.end(forgotten);
        Ok(token)
    }

    fn open(&mut self, guest: SocketAddr, cx: &mut Context<'_>) -> io::Result<Token> {
        let any: IpAddr = match guest {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0)).or_else(|_| {
            // EMFILE, most likely.
            let forgotten = self.flows.forget_some();
            self.end(forgotten);
            UdpSocket::bind((any, 0))
        })?;
        socket.set_nonblocking(true)?;
        errqueue::keep(&socket, guest.is_ipv6())?;
        let token =
            self.places.put(Owner::Udp, Place::Port(Port { guest, socket, flows: 0, hops: HOPS, received: cx.now }));
        let Some(Place::Port(port)) = self.places.get_mut(token) else { return Ok(token) };
        if let Err(error) = cx.watch(&port.socket, token) {
            self.places.take(token);
            return Err(error);
        }
        self.ports.insert(guest, token);
        Ok(token)
    }

    /// Closes the sockets of which these were the last flows.
    fn end(&mut self, forgotten: Vec<(Flow, Token)>) {
        for (flow, token) in forgotten {
            let Some(Place::Port(port)) = self.places.get_mut(token) else { continue };
            port.flows -= 1;
            if port.flows == 0 {
                self.places.take(token);
                self.ports.remove(&flow.guest);
            }
        }
    }

    fn receive_published(&mut self, index: usize, cx: &mut Context<'_>) {
        let Some(published) = cx.config.published.get(index) else { return };
        let PublishedSocket::Udp(socket) = &published.socket else { return };
        for _ in 0..AT_A_TIME {
            let received = match os::receive(socket, cx.buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // Of an earlier answer.
                Err(_) => continue,
            };
            let Some(seen) = cx.config.seen(received.from.ip()) else { continue };
            let Some(guest) = cx.config.guest(seen) else { continue };
            let guest = SocketAddr::new(guest, published.guest_port);
            let client = Client { published: index, address: received.from, local: received.local };
            if let Some(seen) = self.see(client, guest, seen, cx.now) {
                datagram::send(cx.link, seen, guest, &cx.buffer[..received.length]);
            }
        }
    }

    /// As whom the guest sees a client: one of his own port, unless another one is seen so already.
    fn see(&mut self, client: Client, guest: SocketAddr, seen: IpAddr, now: Instant) -> Option<SocketAddr> {
        let port = client.address.port();
        let ports = (0..TRIES).map(|more| port.wrapping_add(more)).filter(|port| *port != 0);
        let mut answers = ports.map(|port| Answer { guest, seen: SocketAddr::new(seen, port) });
        let answer = answers.find(|answer| {
            let known = self.answers.peek(answer);
            known.is_none_or(|known| (known.address, known.published) == (client.address, client.published))
        })?;
        match self.answers.get(&answer, KEEP, now) {
            Some(known) => *known = client,
            None => {
                self.answers.put(answer, client, KEEP, now);
            }
        }
        Some(answer.seen)
    }
}

impl Port {
    fn set_hops(&mut self, hops: u8) -> io::Result<()> {
        if self.hops != hops {
            os::set_hops(&self.socket, self.guest.is_ipv6(), hops)?;
            self.hops = hops;
        }
        Ok(())
    }

    fn send(&self, payload: &[u8], outside: SocketAddr, cx: &mut Context<'_>) -> io::Result<()> {
        reports::send(&self.socket, payload, outside, || self.report(cx))
    }

    fn receive(&mut self, flows: &mut Idle<Flow, Token>, cx: &mut Context<'_>) {
        // Whether there is another one, who waits is told anyway: only where they come close together it is asked here.
        let turns = if cx.now - self.received < CLOSE { AT_A_TIME } else { 1 };
        self.received = cx.now;
        for turn in 0..turns {
            let (length, from) = match self.socket.recv_from(cx.buffer) {
                Ok(received) => received,
                Err(error) => {
                    // Where nothing came although something was ready, that was an error which a call has told already.
                    if turn == 0 || error.kind() != io::ErrorKind::WouldBlock {
                        self.report(cx);
                    }
                    return;
                }
            };
            let Some(seen) = cx.config.seen(from.ip()) else { continue };
            let flow = Flow { guest: self.guest, outside: seen };
            let keep = if from.port() == NAMES { KEEP_NAMES } else { KEEP };
            if flows.get(&flow, keep, cx.now).is_some() {
                let seen = SocketAddr::new(seen, from.port());
                cx.note_received(Protocol::Udp, self.guest, seen, length);
                datagram::send(cx.link, seen, self.guest, &cx.buffer[..length]);
            }
        }
    }

    /// Tells the guest what the network has said of what it has sent.
    fn report(&self, cx: &mut Context<'_>) {
        reports::take(&self.socket, |report, quoted| {
            let seen = cx.config.seen(report.destination.ip());
            let Some(seen) = seen.filter(|seen| seen.is_ipv6() == self.guest.is_ipv6()) else { return };
            let about = IpHeader { source: self.guest.ip(), destination: seen, protocol: IpProtocol::Udp };
            let header = datagram::header(self.guest.port(), report.destination.port(), quoted.len());
            icmp::pass_on(report, about, &header, quoted, cx);
        });
    }
}

fn answer_client(client: Client, packet: &Packet<'_>, datagram: &Datagram<'_>, cx: &mut Context<'_>) {
    let published = cx.config.published.get(client.published);
    let Some(PublishedSocket::Udp(socket)) = published.map(|published| &published.socket) else { return };
    let sent = match client.local {
        Some(local) => os::send_from(socket, datagram.payload, client.address, local),
        None => socket.send_to(datagram.payload, client.address).map(drop),
    };
    if let Some(why) = sent.err().as_ref().and_then(Unreachable::of) {
        icmp::unreachable(why, packet, cx);
    }
}

#[cfg(test)]
mod tests;
