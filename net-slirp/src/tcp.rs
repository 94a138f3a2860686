//! TCP: each of the guest's connections ends here, and goes on as one of the host's.
//!
//! A terminator, as passt's is, and not a proxy behind a stack: a segment's data goes from the tap into the host's socket
//! by one write, and what the host's socket has goes to the tap by another; there are no socket buffers in between. What
//! is under way to the guest is kept until the guest has acknowledged it ([`sender`]); what the host's socket does not take
//! is held for it within the window that the guest was given ([`receiver`]).
//!
//! - [`flow`]: one connection; no kernel, no clock. [`socket`]: the host's half as it is in earnest.
//! - [`segment`], [`seq`], [`assembler`]: the formats, and streams put in order.
//! - Here: which connections there are, whose turn it is, and what is too much. A guest may have as many connections as
//!   this process may have descriptors, up to 131 072; of those that one side does not answer, the oldest make room.

mod assembler;
mod buffers;
mod flow;
#[cfg(test)]
mod limits;
mod receiver;
mod run;
mod segment;
mod sender;
mod seq;
#[cfg(test)]
mod simulator;
mod socket;

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use rbox_sys::epoll::Ready;
use smoltcp::wire::IpProtocol;

use self::buffers::Buffers;
pub(crate) use self::flow::Ends;
use self::flow::{Fate, Flow, Socket, Wire, refuse};
pub(crate) use self::run::Run;
use self::segment::Segment;
use self::seq::Seq;
use crate::checksum;
use crate::egress::Verdict;
use crate::link::Link;
use crate::packet::Packet;
use crate::timers::Timers;
use crate::token::{Owner, Places, Token};

/// Of those that the guest has begun and the host, or then the guest, has not answered yet; and how many of them are left
/// where that is too many.
const MOST_BEGINNING: usize = 4096;
const LEFT_BEGINNING: usize = MOST_BEGINNING / 8 * 7;

/// Where connections go on.
pub(crate) trait Host {
    type Socket: Socket;

    /// Begins to connect.
    fn connect(&mut self, to: SocketAddr) -> io::Result<Self::Socket>;

    /// Has the socket's changes told by this token.
    fn watch(&mut self, socket: &Self::Socket, token: Token) -> io::Result<()>;
}

/// Where a connection of the guest's may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Here.
    To(SocketAddr),
    /// Here, but nothing of what the guest sends before its first bytes were judged.
    Judged(SocketAddr),
    /// Nowhere: it is refused.
    Nowhere,
}

/// What could not be connected, for a message to the guest: the packet that it began with, and why.
pub(crate) struct Failed {
    pub(crate) began_with: Box<[u8]>,
    pub(crate) error: io::Error,
}

/// What a log is told of connections that the guest has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    Began(Ends),
    /// After so many bytes that the guest has sent, and has been sent.
    Over(Ends, [u64; 2]),
}

/// All connections.
pub(crate) struct Tcp<H: Host> {
    /// Each where it takes no room once it is over.
    flows: Places<Box<Flow<H::Socket>>>,
    by_ends: HashMap<Ends, Token>,
    /// Those that have something to do before anything is waited for.
    due: VecDeque<Token>,
    /// Those that the guest has begun and one side has not answered, oldest first; and others that were among them.
    beginning: VecDeque<Token>,
    timers: Timers,
    buffers: Buffers,
    /// For the numbers that streams begin with (RFC 6528).
    secret: RandomState,
    begun: Instant,
    mtu: usize,
    most: usize,
    /// Where somebody wants to know.
    events: Option<Vec<Event>>,
}

impl<H: Host> Tcp<H> {
    /// At most this many of them, through packets of at most this many bytes.
    pub(crate) fn new(mtu: u16, most: usize, now: Instant) -> Self {
        Self {
            flows: Places::new(),
            by_ends: HashMap::new(),
            due: VecDeque::new(),
            beginning: VecDeque::new(),
            timers: Timers::default(),
            buffers: Buffers::default(),
            secret: RandomState::new(),
            begun: now,
            mtu: mtu.into(),
            most,
            events: None,
        }
    }

    /// Has [`events`](Self::events) kept from now on.
    pub(crate) fn keep_events(&mut self) {
        self.events = Some(Vec::new());
    }

    /// What has happened since this was last called.
    pub(crate) fn events(&mut self) -> Vec<Event> {
        self.events.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Gives up all connections, which the guest is not told of.
    pub(crate) fn end_all(&mut self) {
        let all: Vec<Token> = self.flows.iter(Owner::Tcp).map(|(token, _)| token).collect();
        for token in all {
            self.remove(token);
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.flows.len()
    }

    /// A packet of the guest's. `reach` says where the host is to be asked for what the guest calls that address. What it
    /// brings may be left in `run`, to be [ended](Self::end_run) before anything else is done with connections.
    pub(crate) fn on_packet<'a>(
        &mut self,
        packet: &Packet<'a>,
        run: &mut Run<'a>,
        now: Instant,
        link: &mut dyn Link,
        host: &mut H,
        reach: impl FnOnce(&Ends) -> Reach,
    ) -> Option<Failed> {
        let (source, destination) = (packet.source, packet.destination);
        if !packet.trusted && !checksum::is_right(source, destination, IpProtocol::Tcp, packet.payload) {
            return None;
        }
        let segment = Segment::parse(packet.payload)?;
        let guest = SocketAddr::new(source, segment.source);
        let ends = Ends { guest, remote: SocketAddr::new(destination, segment.destination) };
        if let Some(token) = self.by_ends.get(&ends).copied() {
            return self.on_segment(token, &segment, run, now, link);
        }
        // Nobody connects to a group, and nobody is told so (RFC 9293, 3.9.2.3).
        if destination.is_multicast() || source.is_multicast() || source.is_unspecified() {
            return None;
        }
        let is_beginning = segment.flags.syn && segment.ack.is_none() && !segment.flags.rst && !segment.flags.fin;
        let (to, judged) = match if is_beginning { reach(&ends) } else { Reach::Nowhere } {
            Reach::To(to) => (to, false),
            Reach::Judged(to) => (to, true),
            Reach::Nowhere => {
                refuse(ends, &segment, link);
                return None;
            }
        };
        self.make_room()?;
        self.note(Event::Began(ends));
        let socket = match host.connect(to) {
            Ok(socket) => socket,
            Err(error) => {
                self.note(Event::Over(ends, [0; 2]));
                return Some(Failed { began_with: packet.whole.into(), error });
            }
        };
        let (first, mss) = (self.first(&ends, now), self.mss(&ends));
        let mut flow = Flow::outgoing(ends, socket, &segment, packet.whole, first, mss, now);
        if judged {
            flow.hold_back();
        }
        let token = self.insert(flow, host)?;
        self.beginning.push_back(token);
        self.schedule(token);
        None
    }

    fn on_segment<'a>(
        &mut self,
        token: Token,
        segment: &Segment<'a>,
        run: &mut Run<'a>,
        now: Instant,
        link: &mut dyn Link,
    ) -> Option<Failed> {
        let flow = self.flows.get_mut(token)?;
        if !flow.goes_on_with(segment, run.length_of(token)) {
            self.end_run(run, now, link);
            return self.with(token, now, link, |flow, wire| flow.on_segment(segment, wire));
        }
        if run.length_of(token) == 0 {
            self.end_run(run, now, link);
        }
        run.push(token, segment.payload);
        self.with(token, now, link, |flow, wire| flow.on_segment_of_run(segment, wire))
    }

    /// Gives the host what the packets of a run have brought.
    pub(crate) fn end_run(&mut self, run: &mut Run<'_>, now: Instant, link: &mut dyn Link) {
        let Run { token, mut pieces, .. } = std::mem::take(run);
        if let Some(token) = token {
            let _ = self.with(token, now, link, |flow, wire| flow.on_run(&mut pieces, wire));
        }
    }

    /// Somebody has connected from outside, as whom the guest sees `remote`; it is for the guest's address `guest`.
    pub(crate) fn on_incoming(
        &mut self,
        socket: H::Socket,
        remote: SocketAddr,
        guest: SocketAddr,
        now: Instant,
        link: &mut dyn Link,
        host: &mut H,
    ) {
        let ends = Ends { guest, remote };
        if self.flows.len() >= self.most || self.by_ends.contains_key(&ends) {
            return;
        }
        let (first, mss) = (self.first(&ends, now), self.mss(&ends));
        let flow = Flow::incoming(ends, socket, first, mss, &mut Wire { now, link, buffers: &mut self.buffers });
        if let Some(token) = self.insert(flow, host) {
            self.schedule(token);
        }
    }

    /// Something has changed for a socket.
    pub(crate) fn on_ready(&mut self, token: Token, ready: Ready, now: Instant, link: &mut dyn Link) -> Option<Failed> {
        self.with(token, now, link, |flow, wire| flow.on_ready(ready, wire))
    }

    /// Has one connection do what is due. Says how many bytes the guest was sent by that; nothing where none has anything to
    /// do. `judge` is asked about the first bytes of one that is held back: by its ends, since when it is there, those bytes,
    /// and whether no more will come.
    ///
    /// At most `most` bytes of data are sent by that.
    pub(crate) fn go_on(
        &mut self,
        now: Instant,
        link: &mut dyn Link,
        most: u64,
        judge: impl FnOnce(&Ends, Instant, &[u8], bool) -> Verdict,
    ) -> Option<u64> {
        let token = self.due.pop_front()?;
        let Some(flow) = self.flows.get_mut(token) else { return Some(0) };
        let (ends, begun, before) = (flow.ends, flow.begun, flow.moved[1]);
        let mut wire = Wire { now, link, buffers: &mut self.buffers };
        let verdict = flow.held_back().map_or(Verdict::NeedsName, |(bytes, ended)| judge(&ends, begun, bytes, ended));
        let judged = match verdict {
            Verdict::NeedsName => Fate::Lives,
            Verdict::Allowed => flow.let_go(&mut wire),
            Verdict::Refused(_) => flow.reset(&mut wire),
        };
        let (fate, more) = match judged {
            Fate::Lives => flow.go_on(&mut wire, usize::try_from(most).unwrap_or(usize::MAX)),
            fate => (fate, false),
        };
        let sent = flow.moved[1] - before;
        if more {
            flow.is_due = true;
            self.due.push_back(token);
        }
        let _ = self.settle(token, fate, link);
        self.schedule(token);
        Some(sent)
    }

    /// Has each do what is due, where nobody is judged. Says whether there is more to do at once.
    #[cfg(test)]
    fn all_go_on(&mut self, now: Instant, link: &mut dyn Link) -> bool {
        for _ in 0..self.due() {
            let _ = self.go_on(now, link, u64::MAX, |_, _, _, _| Verdict::Allowed);
        }
        self.is_busy()
    }

    /// A packet of the guest's that comes alone.
    #[cfg(test)]
    fn on_one(&mut self, packet: &Packet<'_>, now: Instant, link: &mut dyn Link, host: &mut H) -> Option<Failed> {
        let mut run = Run::default();
        let failed = self.on_packet(packet, &mut run, now, link, host, |ends| Reach::To(ends.remote));
        self.end_run(&mut run, now, link);
        failed
    }

    /// How many have something to do.
    pub(crate) fn due(&self) -> usize {
        self.due.len()
    }

    /// Whether any of them can do it at once.
    pub(crate) fn is_busy(&self) -> bool {
        // Those that want room wait for what makes some: a word of the guest's, or a time.
        !self.due.is_empty() && self.buffers.has_room()
    }

    /// When to call [`on_time`](Self::on_time).
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Looks at whatever has waited until now.
    pub(crate) fn on_time(&mut self, now: Instant, link: &mut dyn Link) {
        while let Some(token) = self.timers.take(now) {
            let Some(flow) = self.flows.get_mut(token) else { continue };
            flow.scheduled = None;
            if flow.deadline() <= now {
                let fate = flow.on_time(&mut Wire { now, link, buffers: &mut self.buffers });
                let _ = self.settle(token, fate, link);
            }
            self.schedule(token);
        }
    }

    /// Lets go of memory that nobody uses.
    pub(crate) fn shrink(&mut self) {
        self.buffers.shrink();
        self.flows.shrink();
        self.by_ends.shrink_to_fit();
        self.due.shrink_to_fit();
        self.beginning.shrink_to_fit();
    }

    /// For who looks for a fault.
    #[cfg(test)]
    fn describe(&self) -> String {
        self.flows.iter(Owner::Tcp).map(|(_, flow)| flow.describe()).collect()
    }

    fn with(
        &mut self,
        token: Token,
        now: Instant,
        link: &mut dyn Link,
        act: impl FnOnce(&mut Flow<H::Socket>, &mut Wire<'_>) -> Fate,
    ) -> Option<Failed> {
        let flow = self.flows.get_mut(token)?;
        let fate = act(flow, &mut Wire { now, link, buffers: &mut self.buffers });
        if !std::mem::replace(&mut flow.is_due, true) {
            self.due.push_back(token);
        }
        self.settle(token, fate, link)
    }

    fn settle(&mut self, token: Token, fate: Fate, link: &mut dyn Link) -> Option<Failed> {
        let error = match fate {
            Fate::Lives => return None,
            Fate::Over => None,
            Fate::Refused(error) => Some(error),
        };
        let flow = self.remove(token)?;
        let error = error?;
        if error.kind() == io::ErrorKind::ConnectionRefused {
            flow.refuse(link);
            return None;
        }
        Some(Failed { began_with: flow.began_with().into(), error })
    }

    fn insert(&mut self, flow: Flow<H::Socket>, host: &mut H) -> Option<Token> {
        let ends = flow.ends;
        let token = self.flows.put(Owner::Tcp, Box::new(flow));
        let watched = self.flows.get_mut(token).map(|flow| host.watch(&flow.socket, token));
        if !matches!(watched, Some(Ok(()))) {
            self.flows.take(token);
            self.note(Event::Over(ends, [0; 2]));
            return None;
        }
        self.by_ends.insert(ends, token);
        Some(token)
    }

    fn remove(&mut self, token: Token) -> Option<Box<Flow<H::Socket>>> {
        let mut flow = self.flows.take(token)?;
        self.by_ends.remove(&flow.ends);
        if let Some(at) = flow.scheduled {
            self.timers.remove(at, token);
        }
        flow.release(&mut self.buffers);
        self.note(Event::Over(flow.ends, flow.moved));
        Some(flow)
    }

    fn note(&mut self, event: Event) {
        if let Some(events) = &mut self.events {
            events.push(event);
        }
    }

    /// Sees to it that somebody looks at the flow's times.
    fn schedule(&mut self, token: Token) {
        let Some(flow) = self.flows.get_mut(token) else { return };
        let deadline = flow.deadline();
        if flow.scheduled.is_none_or(|scheduled| deadline < scheduled) {
            if let Some(later) = flow.scheduled.replace(deadline) {
                self.timers.remove(later, token);
            }
            self.timers.add(deadline, token);
        }
    }

    /// None where there can be no more connections.
    fn make_room(&mut self) -> Option<()> {
        if self.beginning.len() >= MOST_BEGINNING {
            let Self { beginning, flows, .. } = self;
            beginning.retain(|token| flows.get_mut(*token).is_some_and(|flow| flow.is_beginning()));
            // Many at once, so that it costs little to look for them.
            while self.beginning.len() > LEFT_BEGINNING {
                self.give_up_oldest()?;
            }
        }
        while self.flows.len() >= self.most {
            self.give_up_oldest()?;
        }
        Some(())
    }

    /// Gives up the oldest of those that one side has not answered, if there is any.
    fn give_up_oldest(&mut self) -> Option<()> {
        let oldest = self.beginning.pop_front()?;
        if self.flows.get_mut(oldest).is_some_and(|flow| flow.is_beginning()) {
            self.remove(oldest);
        }
        Some(())
    }

    fn first(&self, ends: &Ends, now: Instant) -> Seq {
        let ticks = (now - self.begun).as_micros() / 4;
        Seq((self.secret.hash_one(ends) as u32).wrapping_add(ticks as u32))
    }

    fn mss(&self, ends: &Ends) -> usize {
        self.mtu - if ends.guest.is_ipv4() { 40 } else { 60 }
    }
}
