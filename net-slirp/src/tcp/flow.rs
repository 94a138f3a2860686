//! One connection: the guest's half and the host's, and what each event makes of them. Free of the kernel: sockets are
//! handed in, and so is the time.
//!
//! ```text
//! guest opens:  Connecting ── the host's socket is connected ──▶ SynReceived ── guest's word ──▶ Open
//! host opens:   SynSent ───── the guest takes it ─────────────────────────────────────────────▶ Open
//! ```
//!
//! The guest's SYN is answered only when the host's connect has succeeded, so what the guest sees of a connection's
//! beginning is what the host saw. From there on each direction ends for itself: an end of the guest's is shutdown(2) of
//! the host's socket, the socket's end is our FIN, and an error of either is a reset of the other.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rbox_sys::epoll::Ready;
use smoltcp::wire::IpProtocol;

use super::buffers::{Buffers, CHUNK};
use super::receiver::{Receiver, SCALE};
use super::segment::{Flags, Segment};
use super::sender::{Chunk, Expired, Sender};
use super::seq::Seq;
use crate::link::{IpHeader, Link};

/// RFC 5382, REQ-5: two hours and four minutes for what is open, four minutes for what begins or ends.
const IDLE: Duration = Duration::from_secs(2 * 3600 + 240);
const IDLE_AT_THE_ENDS: Duration = Duration::from_secs(240);
/// A longer packet is not kept for an error to quote: it has data in it, as no beginning need have.
const LONGEST_BEGINNING: usize = 1280;

/// So many packets one read is for, where there is much to read: each read costs an acknowledgement to the other end, which
/// goes on sending because of it.
const PACKETS: usize = 8;

/// The host's half.
pub(crate) trait Socket {
    /// How connecting has come out, once it has.
    fn outcome(&mut self) -> io::Result<()>;
    /// Sends what there is room for; `WouldBlock` where that is nothing.
    fn send(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize>;
    /// Reads what is there; 0 at the end, `WouldBlock` where there is nothing yet.
    fn receive(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize>;
    /// Nothing more will be sent.
    fn end(&mut self) -> io::Result<()>;
    /// Has the other end see a reset when this is dropped.
    fn reset(&mut self);
}

/// What a flow needs to do anything.
pub(crate) struct Wire<'a> {
    pub(crate) now: Instant,
    pub(crate) link: &'a mut dyn Link,
    pub(crate) buffers: &'a mut Buffers,
}

/// What becomes of a flow.
#[derive(Debug)]
#[must_use]
pub(crate) enum Fate {
    Lives,
    /// It is over: drop the socket.
    Over,
    /// The host could not connect, for this reason, and the guest has not heard of it.
    Refused(io::Error),
}

/// Who talks to whom, as the guest sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Ends {
    pub(crate) guest: SocketAddr,
    pub(crate) remote: SocketAddr,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Connecting,
    SynReceived,
    SynSent,
    Open,
}

#[derive(Debug)]
pub(crate) struct Flow<S> {
    pub(crate) ends: Ends,
    pub(crate) socket: S,
    state: State,
    receiver: Receiver,
    sender: Sender,
    /// The most data that the guest may put into a segment.
    own_mss: usize,
    /// The packet that the guest began with, for an error about it to quote, unless that is a long one.
    began_with: Box<[u8]>,
    /// The host's socket may have something to read; and, whatever it has, its end.
    readable: bool,
    has_end: bool,
    /// The last read gave all that it had room for.
    has_much: bool,
    /// The guest is to hear what has arrived.
    owes_ack: bool,
    pub(crate) begun: Instant,
    heard: Instant,
    /// So many bytes the guest has sent, and has been sent.
    pub(crate) moved: [u64; 2],
    /// The earliest time at which somebody looks at this flow's times.
    pub(crate) scheduled: Option<Instant>,
    /// It is among those that have something to do.
    pub(crate) is_due: bool,
}

impl<S: Socket> Flow<S> {
    /// The guest connects, by this segment of this packet; `socket` does so too. `first` is the number that our stream
    /// begins with, and `mss` the most data that goes into a segment here.
    pub(crate) fn outgoing(
        ends: Ends,
        socket: S,
        segment: &Segment<'_>,
        packet: &[u8],
        first: Seq,
        mss: usize,
        now: Instant,
    ) -> Self {
        let mut flow = Self::new(ends, socket, State::Connecting, first, mss, now);
        if packet.len() <= LONGEST_BEGINNING {
            flow.began_with = packet.into();
        }
        flow.take_beginning(segment);
        flow
    }

    /// Somebody has connected from outside; the guest is asked whether it takes that.
    pub(crate) fn incoming(ends: Ends, socket: S, first: Seq, mss: usize, wire: &mut Wire<'_>) -> Self {
        let mut flow = Self::new(ends, socket, State::SynSent, first, mss, wire.now);
        flow.receiver.scaled = true;
        flow.push(true, false, Vec::new(), 0, wire);
        flow
    }

    fn new(ends: Ends, socket: S, state: State, first: Seq, mss: usize, now: Instant) -> Self {
        Self {
            ends,
            socket,
            state,
            receiver: Receiver::default(),
            sender: Sender::new(first, mss),
            own_mss: mss,
            began_with: Box::default(),
            readable: false,
            has_end: false,
            has_much: false,
            owes_ack: false,
            begun: now,
            heard: now,
            moved: [0; 2],
            scheduled: None,
            is_due: false,
        }
    }

    /// Nothing that the guest sends reaches the host before that is [let go](Self::let_go).
    pub(crate) fn hold_back(&mut self) {
        self.receiver.held_back = true;
    }

    /// What is held back, if anything was sent, and whether that is all there will be.
    pub(crate) fn held_back(&mut self) -> Option<(&[u8], bool)> {
        let ended = self.receiver.ended;
        self.receiver.held_back().filter(|bytes| ended || !bytes.is_empty()).map(|bytes| (bytes, ended))
    }

    /// Gives the host what was held back, and all that follows.
    pub(crate) fn let_go(&mut self, wire: &mut Wire<'_>) -> Fate {
        self.receiver.held_back = false;
        match self.receiver.flush(&mut self.socket, wire.buffers) {
            Ok(()) => Fate::Lives,
            Err(_) => self.reset(wire),
        }
    }

    fn take_beginning(&mut self, segment: &Segment<'_>) {
        self.receiver.expected = segment.seq + 1;
        self.receiver.told_until = self.receiver.expected;
        self.receiver.scaled = segment.window_scale.is_some();
        self.sender.begin_with(segment);
    }

    /// Whether the guest has begun it, and not both sides have answered.
    pub(crate) fn is_beginning(&self) -> bool {
        matches!(self.state, State::Connecting | State::SynReceived)
    }

    /// Tells the guest that the host was refused.
    pub(crate) fn refuse(&self, link: &mut dyn Link) {
        let flags = Flags { rst: true, ..Flags::default() };
        let answer = Segment { ack: Some(self.receiver.expected), flags, ..Segment::default() };
        emit(self.ends, &answer, None, link);
    }

    /// What an error about its beginning quotes.
    pub(crate) fn began_with(&self) -> &[u8] {
        &self.began_with
    }

    /// A segment from the guest.
    pub(crate) fn on_segment(&mut self, segment: &Segment<'_>, wire: &mut Wire<'_>) -> Fate {
        self.heard = wire.now;
        match self.state {
            // It has sent its beginning once more, or has given up.
            State::Connecting if segment.flags.rst => self.abort(),
            State::Connecting => Fate::Lives,
            State::SynSent => self.on_answer(segment, wire),
            State::SynReceived | State::Open => self.on_more(segment, wire),
        }
    }

    /// The guest answers our beginning.
    fn on_answer(&mut self, segment: &Segment<'_>, wire: &mut Wire<'_>) -> Fate {
        let answers = segment.ack == Some(self.sender.next);
        match segment.flags {
            Flags { rst: true, .. } if answers => return self.abort(),
            Flags { syn: true, rst: false, .. } if answers => {}
            Flags { rst: false, .. } if segment.ack.is_some() => {
                // Of a connection that it had before (RFC 9293, 3.10.7.3).
                refuse(self.ends, segment, wire.link);
                return Fate::Lives;
            }
            _ => return Fate::Lives,
        }
        self.take_beginning(segment);
        self.sender.acknowledge(wire.now, self.sender.next, wire.buffers);
        self.open();
        self.owes_ack = true;
        Fate::Lives
    }

    fn open(&mut self) {
        self.state = State::Open;
        self.began_with = Box::default();
        // Whatever was told of the socket before nobody has looked at.
        self.readable = true;
    }

    /// The guest goes on with what has begun.
    fn on_more(&mut self, segment: &Segment<'_>, wire: &mut Wire<'_>) -> Fate {
        let distance = segment.seq.since(self.receiver.expected);
        let window = self.receiver.told_until.since(self.receiver.expected).max(0) as usize;
        if segment.flags.rst {
            if self.receiver.ended && self.sender.has_given_all() {
                // The guest has all and has sent all, and has forgotten it; what is held for the host still goes there.
                self.sender.release(wire.buffers);
                return self.fate();
            }
            if distance == 0 {
                return self.abort();
            }
            // Perhaps somebody guesses (RFC 5961, 3.2).
            self.owes_ack |= distance > 0 && (distance as usize) < window;
            return Fate::Lives;
        }
        if segment.flags.syn {
            // The same once more, or a guess (RFC 5961, 4.2).
            if self.state == State::SynReceived {
                self.send_again(wire);
            } else {
                self.owes_ack = true;
            }
            return Fate::Lives;
        }
        let Some(ack) = segment.ack else { return Fate::Lives };
        if ack.is_after(self.sender.next) {
            self.owes_ack = true;
            return Fate::Lives;
        }
        if self.state == State::SynReceived {
            if ack != self.sender.next {
                refuse(self.ends, segment, wire.link);
                return Fate::Lives;
            }
            self.open();
        }
        if self.sender.hear(wire.now, segment, wire.buffers) {
            self.send_again(wire);
        }
        if self.hear(segment, distance, window, wire).is_err() {
            return self.reset(wire);
        }
        self.fate()
    }

    /// Takes what a segment brings of the stream.
    fn hear(&mut self, segment: &Segment<'_>, distance: i32, window: usize, wire: &mut Wire<'_>) -> io::Result<()> {
        if segment.length() == 0 {
            // Asks whether we are still there (RFC 9293, 3.8.4), or says something of long ago.
            self.owes_ack |= distance != 0;
            return Ok(());
        }
        if self.receiver.ended {
            self.owes_ack = true;
            return Ok(());
        }
        self.owes_ack = true;
        let mut bytes = segment.payload;
        if distance > 0 {
            let distance = distance as usize;
            if distance < window {
                bytes = &bytes[..bytes.len().min(window - distance)];
                self.receiver.keep_early(distance as u32, bytes, wire.buffers);
            }
            return Ok(());
        }
        let known = distance.unsigned_abs() as usize;
        if known > 0 && known >= segment.length() {
            return Ok(());
        }
        bytes = &bytes[known.min(bytes.len())..];
        let whole = bytes.len() <= window;
        bytes = &bytes[..bytes.len().min(window)];
        let taken = self.take(&mut [IoSlice::new(bytes)], wire)?;
        let mut came = taken;
        while let Some(next) = self.receiver.advance(came, wire.buffers) {
            came = self.take(&mut [IoSlice::new(&next)], wire)?;
            if came < next.len() {
                self.receiver.keep_early(0, &next[came..], wire.buffers);
                break;
            }
        }
        if segment.flags.fin && whole && taken == bytes.len() && self.receiver.early.is_empty() {
            self.receiver.expected += 1;
            self.receiver.ended = true;
            self.receiver.flush(&mut self.socket, wire.buffers)?;
        }
        Ok(())
    }

    fn take(&mut self, pieces: &mut [IoSlice<'_>], wire: &mut Wire<'_>) -> io::Result<usize> {
        let taken = self.receiver.take(pieces, &mut self.socket, wire.buffers)?;
        self.moved[0] += taken as u64;
        Ok(taken)
    }

    /// Whether a segment brings what follows these bytes of a run, all of which is for the host's socket, and nothing else.
    pub(crate) fn goes_on_with(&self, segment: &Segment<'_>, length: usize) -> bool {
        let Flags { syn, fin, rst, psh: _ } = segment.flags;
        let following = self.receiver.expected + length;
        let room = self.receiver.told_until.since(following).max(0) as usize;
        self.state == State::Open
            && !(syn || fin || rst)
            && segment.ack.is_some_and(|ack| !ack.is_after(self.sender.next))
            && segment.seq == following
            && (1..=room).contains(&segment.payload.len())
            && self.receiver.passes_on()
    }

    /// All that such a segment says, but not what it brings.
    pub(crate) fn on_segment_of_run(&mut self, segment: &Segment<'_>, wire: &mut Wire<'_>) -> Fate {
        (self.heard, self.owes_ack) = (wire.now, true);
        if self.sender.hear(wire.now, segment, wire.buffers) {
            self.send_again(wire);
        }
        Fate::Lives
    }

    /// What all of them bring.
    pub(crate) fn on_run(&mut self, pieces: &mut [IoSlice<'_>], wire: &mut Wire<'_>) -> Fate {
        match self.take(pieces, wire) {
            Ok(_) => self.fate(),
            Err(_) => self.reset(wire),
        }
    }

    /// The host's socket.
    pub(crate) fn on_ready(&mut self, ready: Ready, wire: &mut Wire<'_>) -> Fate {
        self.readable |= ready.readable;
        self.has_end |= ready.ended;
        match self.state {
            State::Connecting if ready.writable => match self.socket.outcome() {
                Ok(()) => {
                    self.state = State::SynReceived;
                    self.push(true, false, Vec::new(), 0, wire);
                    Fate::Lives
                }
                Err(error) => Fate::Refused(error),
            },
            State::Open if ready.writable && self.receiver.flush(&mut self.socket, wire.buffers).is_err() => {
                self.reset(wire)
            }
            _ => self.fate(),
        }
    }

    /// Does what is due: sends what the host has for the guest, and what the guest is to hear. Says besides whether there is
    /// more to do. Of the former, it is `most` bytes at most.
    pub(crate) fn go_on(&mut self, wire: &mut Wire<'_>, most: usize) -> (Fate, bool) {
        self.is_due = false;
        let mut more = false;
        if self.state == State::Open {
            match self.pull(wire, most) {
                Ok(left) => more = left,
                Err(_) => return (self.reset(wire), false),
            }
            if self.owes_ack || (!self.receiver.ended && self.receiver.has_much_more_room()) {
                self.send_ack(wire);
            }
        }
        (self.fate(), more)
    }

    /// Sends what the host's socket has, as far as the guest has room and as one read gives. Says whether that was not all.
    fn pull(&mut self, wire: &mut Wire<'_>, most: usize) -> io::Result<bool> {
        if !self.readable || self.sender.ended {
            return Ok(false);
        }
        let room = self.sender.room();
        if room == 0 {
            if self.sender.is_shut() {
                self.sender.wait_for_room(wire.now);
            }
            return Ok(false);
        }
        self.sender.has_room();
        if most == 0 {
            return Ok(true);
        }
        let (largest, packets) = (self.largest(), if self.has_much { PACKETS } else { 1 });
        let mut most = room.min(packets * largest).min(most);
        let mut buffers: Vec<Vec<u8>> = (0..most.div_ceil(largest)).map_while(|_| wire.buffers.take()).collect();
        if buffers.is_empty() {
            return Ok(true);
        }
        most = most.min(buffers.len() * largest);
        let sizes = (0..most).step_by(largest).map(|from| largest.min(most - from));
        let slices = buffers.iter_mut().zip(sizes).map(|(buffer, size)| IoSliceMut::new(&mut buffer[..size]));
        let received = self.socket.receive(&mut slices.collect::<Vec<_>>());
        let length = *received.as_ref().unwrap_or(&0);
        let sizes = (0..length).step_by(largest).map(|from| largest.min(length - from));
        // Of a stream, less than was asked for is all there was (epoll(7), question 9).
        self.has_much = length == most;
        self.readable = self.has_much || self.has_end;
        self.moved[1] += length as u64;
        let unused = buffers.split_off(sizes.len());
        for (buffer, size) in buffers.into_iter().zip(sizes) {
            let kept = wire.buffers.keep(buffer, size);
            self.push(false, false, kept, size, wire);
        }
        unused.into_iter().for_each(|buffer| wire.buffers.put_back(buffer));
        match received {
            Ok(0) => self.push(false, true, Vec::new(), 0, wire),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.readable = false,
            Err(error) => return Err(error),
        }
        Ok(self.readable && !self.sender.ended && self.sender.room() > 0)
    }

    /// As many whole segments as go into one packet.
    fn largest(&self) -> usize {
        let mss = self.sender.mss;
        let most = CHUNK - 1 - 40 - 20 - 40;
        (most / mss * mss).max(mss.min(most))
    }

    fn push(&mut self, syn: bool, fin: bool, buffer: Vec<u8>, length: usize, wire: &mut Wire<'_>) {
        let header = if syn { self.beginning() } else { self.header() };
        let mss = self.sender.mss;
        let chunk = self.sender.push(wire.now, syn, fin, buffer, length);
        send(self.ends, header, chunk, mss, wire.link);
        // What came too early is told of in segments without data, which has no room beside it.
        self.owes_ack &= !self.receiver.early.is_empty();
    }

    fn send_again(&mut self, wire: &mut Wire<'_>) {
        let header = if self.state == State::Open { self.header() } else { self.beginning() };
        let Some(chunk) = self.sender.first_missing() else { return };
        send(self.ends, header, chunk, self.sender.mss, wire.link);
    }

    fn send_ack(&mut self, wire: &mut Wire<'_>) {
        self.owes_ack = false;
        let ranges = self.receiver.early.ranges(self.receiver.expected);
        emit(self.ends, &Segment { seq: self.sender.number(), ranges, ..self.header() }, None, wire.link);
    }

    /// What every segment to the guest says.
    fn header(&mut self) -> Segment<'static> {
        let window = self.receiver.tell_window();
        Segment { ack: Some(self.receiver.expected), window, ..Segment::default() }
    }

    /// What the first one says: its window is not scaled, and scaling is offered, or taken where the guest has offered it.
    fn beginning(&mut self) -> Segment<'static> {
        let expected = self.receiver.expected;
        self.receiver.told_until = expected + usize::from(u16::MAX);
        Segment {
            ack: (self.state != State::SynSent).then_some(expected),
            window: u16::MAX,
            mss: Some(self.own_mss as u16),
            window_scale: self.receiver.scaled.then_some(SCALE),
            may_report: true,
            ..Segment::default()
        }
    }

    /// When somebody is to look at this again, at the latest.
    pub(crate) fn deadline(&self) -> Instant {
        let ends = self.state != State::Open || (self.sender.ended && self.receiver.ended);
        let idle = self.heard + if ends { IDLE_AT_THE_ENDS } else { IDLE };
        self.sender.expires.map_or(idle, |expires| expires.min(idle))
    }

    /// It is that late.
    pub(crate) fn on_time(&mut self, wire: &mut Wire<'_>) -> Fate {
        if self.sender.expires.is_some_and(|expires| expires <= wire.now) {
            match self.sender.expire(wire.now) {
                Expired::Again => self.send_again(wire),
                Expired::Probe => {
                    // A byte that it has makes it answer (RFC 9293, 3.8.6.1 asks with a new one; Linux as we do).
                    let segment = Segment { seq: self.sender.number() + u32::MAX as usize, ..self.header() };
                    emit(self.ends, &segment, None, wire.link);
                }
                Expired::Gone => return self.reset(wire),
            }
        }
        if self.deadline() <= wire.now {
            return self.reset(wire);
        }
        Fate::Lives
    }

    #[cfg(test)]
    pub(crate) fn describe(&self) -> String {
        let (sender, receiver) = (&self.sender, &self.receiver);
        format!(
            "{:?}: sends {:?} of {:?} (room {}, {} chunks, ended {}, expires in {:?}); expects {:?} (window {}, early {:?}, \
             ended {} done {})",
            self.state,
            sender.unacknowledged,
            sender.next,
            sender.room(),
            sender.count(),
            sender.ended,
            sender.expires.map(|at| at.saturating_duration_since(self.heard)),
            receiver.expected,
            receiver.window(),
            receiver.early.ranges(receiver.expected),
            receiver.ended,
            receiver.is_done(),
        )
    }

    fn fate(&self) -> Fate {
        if self.sender.is_done() && self.receiver.is_done() && !self.owes_ack { Fate::Over } else { Fate::Lives }
    }

    /// The guest has given it up.
    fn abort(&mut self) -> Fate {
        self.socket.reset();
        Fate::Over
    }

    /// Gives it up on both sides.
    pub(crate) fn reset(&mut self, wire: &mut Wire<'_>) -> Fate {
        if self.state != State::Connecting {
            let ack = (self.state != State::SynSent).then_some(self.receiver.expected);
            let flags = Flags { rst: true, ..Flags::default() };
            emit(self.ends, &Segment { seq: self.sender.number(), ack, flags, ..Segment::default() }, None, wire.link);
        }
        self.abort()
    }

    /// Gives back all memory.
    pub(crate) fn release(&mut self, buffers: &mut Buffers) {
        self.sender.release(buffers);
        self.receiver.release(buffers);
    }
}

/// Answers a segment that belongs to no connection (RFC 9293, 3.10.7.1).
pub(crate) fn refuse(ends: Ends, segment: &Segment<'_>, link: &mut dyn Link) {
    if segment.flags.rst {
        return;
    }
    let flags = Flags { rst: true, ..Flags::default() };
    let answer = match segment.ack {
        Some(ack) => Segment { seq: ack, flags, ..Segment::default() },
        None => Segment { ack: Some(segment.seq + segment.length()), flags, ..Segment::default() },
    };
    emit(ends, &answer, None, link);
}

fn send(ends: Ends, header: Segment<'_>, chunk: &Chunk, mss: usize, link: &mut dyn Link) {
    let data = chunk.data();
    let flags = Flags { syn: chunk.syn, fin: chunk.fin, psh: !data.is_empty(), rst: false };
    emit(ends, &Segment { seq: chunk.seq, flags, payload: data, ..header }, Some(mss), link);
}

fn emit(ends: Ends, segment: &Segment<'_>, mss: Option<usize>, link: &mut dyn Link) {
    let mut header = [0; 60];
    let ports = Segment { source: ends.remote.port(), destination: ends.guest.port(), ..*segment };
    let length = ports.emit(&mut header);
    let ip = IpHeader { source: ends.remote.ip(), destination: ends.guest.ip(), protocol: IpProtocol::Tcp };
    link.send(ip, &header[..length], segment.payload, mss);
}
