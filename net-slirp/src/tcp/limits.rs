//! What is kept for guests that take all they can get, and for how long for those that say nothing.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rbox_sys::epoll::Ready;
use smoltcp::wire::{IpProtocol, TcpPacket};

use super::flow::Socket;
use super::{Host, LEFT_BEGINNING, MOST_BEGINNING, Tcp};
use crate::testing::{Bytes, Recorder};
use crate::token::{Owner, Token};

/// One that is connected as soon as it is asked, takes everything, and gives so many pieces of so many bytes.
#[derive(Debug)]
struct Quiet {
    left: usize,
    piece: usize,
    ends: bool,
}

impl Socket for Quiet {
    fn outcome(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn send(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(pieces.iter().map(|piece| piece.len()).sum())
    }

    fn receive(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        if self.left == 0 {
            return if self.ends { Ok(0) } else { Err(io::ErrorKind::WouldBlock.into()) };
        }
        let mut length = 0;
        for buffer in buffers.iter_mut().take(self.left) {
            self.left -= 1;
            let piece = self.piece.min(buffer.len());
            buffer[..piece].fill(7);
            length += piece;
            if piece < buffer.len() {
                break;
            }
        }
        Ok(length)
    }

    fn end(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn reset(&mut self) {}
}

/// Whom it is told when there is something to read.
#[derive(Default)]
struct QuietHost {
    last: Option<Token>,
    has: usize,
    piece: usize,
    /// And then it has the other side's end.
    ends: bool,
}

impl Host for QuietHost {
    type Socket = Quiet;

    fn connect(&mut self, _: SocketAddr) -> io::Result<Quiet> {
        Ok(Quiet { left: self.has, piece: self.piece, ends: self.ends })
    }

    fn watch(&mut self, _: &Quiet, token: Token) -> io::Result<()> {
        self.last = Some(token);
        Ok(())
    }
}

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

struct World {
    tcp: Tcp<QuietHost>,
    host: QuietHost,
    link: Recorder,
    now: Instant,
    /// What follows the last that the guest was sent.
    next: u32,
}

impl World {
    fn new(most: usize) -> Self {
        let now = Instant::now();
        let tcp = Tcp::new(65520, most, now);
        Self { tcp, host: QuietHost { piece: 1, ..QuietHost::default() }, link: Recorder::default(), now, next: 0 }
    }

    /// The guest sends a segment from this port; all that it was sent it has.
    fn send(&mut self, port: u16, flags: u8, seq: u32, data: &[u8]) {
        let ack = if flags & ACK != 0 { self.next } else { 0 };
        // A window that is shifted by seven.
        let options: &[u8] = if flags & SYN != 0 { &[2, 4, 5, 180, 3, 3, 7, 0] } else { &[] };
        let mut segment = [port.to_be_bytes(), 80_u16.to_be_bytes()].concat();
        segment.extend([seq.to_be_bytes(), ack.to_be_bytes()].concat());
        segment.extend([5 * 16 + options.len() as u8 * 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
        segment.extend([options, data].concat());
        let bytes = Bytes::new("10.0.2.100", "192.0.2.1", IpProtocol::Tcp, &segment);
        let failed = self.tcp.on_one(&bytes.packet(), self.now, &mut self.link, &mut self.host);
        assert!(failed.is_none());
        self.go_on();
    }

    fn go_on(&mut self) {
        let turns = (0..10_000).find(|_| !self.tcp.all_go_on(self.now, &mut self.link));
        assert!(turns.is_some(), "there is always more to do");
        for sent in self.link.packets.drain(..) {
            let segment = TcpPacket::new_checked(&sent.bytes[..]).expect("a segment");
            self.next = segment.seq_number().0 as u32 + segment.segment_len() as u32;
        }
    }

    fn ready(&mut self) {
        let token = self.host.last.expect("a connection").encode();
        let ready = Ready { token, readable: true, writable: true, ended: false };
        assert!(self.tcp.on_ready(Token::decode(token), ready, self.now, &mut self.link).is_none());
        self.go_on();
    }

    /// A connection that is open: the guest's next byte is the first one.
    fn open(&mut self, port: u16) {
        self.send(port, SYN, 0, b"");
        self.ready();
        self.send(port, ACK, 1, b"");
    }

    /// For how long nothing must happen until the connection is forgotten.
    fn lives(&mut self) -> Duration {
        let begun = self.now;
        while self.tcp.len() > 0 {
            let next = self.tcp.next_deadline().expect("somebody looks at it again");
            self.now = self.now.max(next);
            self.tcp.on_time(self.now, &mut self.link);
            self.go_on();
        }
        self.now - begun
    }
}

#[test]
fn beginnings_leave_nothing_behind() {
    let mut world = World::new(64);
    for number in 0..30_000_u32 {
        world.send(number as u16, SYN, number, b"");
    }
    assert_eq!(world.tcp.len(), 64);
    assert_eq!(world.tcp.timers.len(), 64, "times are looked at");
}

#[test]
fn connections_that_are_over_leave_nothing_behind() {
    let mut world = World::new(64);
    for number in 0..10_000_u32 {
        world.open(1 + number as u16);
        world.send(1 + number as u16, RST | ACK, 1, b"");
    }
    assert_eq!(world.tcp.len(), 0);
    assert_eq!(world.tcp.timers.len(), 0, "times are looked at");
}

#[test]
fn beginnings_that_the_guest_does_not_go_on_with_have_a_limit() {
    let mut world = World::new(1 << 16);
    for port in 1..=20_000 {
        world.send(port, SYN, 0, b"");
        world.ready();
        assert!(world.tcp.len() <= MOST_BEGINNING);
    }
    assert!(world.tcp.len() >= LEFT_BEGINNING);
}

#[test]
fn a_host_that_takes_its_time_is_not_taken_for_one_of_too_many() {
    let mut world = World::new(64);
    world.send(1, SYN, 0, b"");
    let slow = world.host.last;
    for number in 0..10_000_u32 {
        world.open(2 + number as u16);
        world.send(2 + number as u16, RST | ACK, 1, b"");
    }
    world.host.last = slow;
    world.ready();
    assert_eq!(world.tcp.flows.iter(Owner::Tcp).map(|(_, flow)| flow.ends.guest.port()).collect::<Vec<_>>(), [1]);
}

#[test]
fn a_beginning_is_kept_only_if_it_is_short() {
    let mut world = World::new(64);
    world.send(1, SYN, 0, b"data");
    world.send(2, SYN, 0, &[7; 60_000]);
    let kept: Vec<usize> = world.tcp.flows.iter(Owner::Tcp).map(|(_, flow)| flow.began_with().len()).collect();
    assert_eq!(kept, [20 + 28 + 4, 0]);
}

const MINUTE: Duration = Duration::from_secs(60);

/// RFC 5382, REQ-5: not less than that.
#[test]
fn an_open_connection_may_say_nothing_for_two_hours_and_four_minutes() {
    let mut world = World::new(64);
    world.open(1);
    assert_eq!(world.lives(), 124 * MINUTE);
    // It is heard, and the time begins anew.
    world.open(1);
    world.now += 120 * MINUTE;
    world.send(1, ACK, 1, b"x");
    assert_eq!(world.lives(), 124 * MINUTE);
    // One that is closed one way is as good as open, which is more than it need be.
    world.open(1);
    world.send(1, ACK | FIN, 1, b"");
    assert_eq!(world.lives(), 124 * MINUTE);
}

/// RFC 5382, REQ-5: not less than that.
#[test]
fn what_begins_or_ends_may_take_four_minutes() {
    let mut world = World::new(64);
    world.send(1, SYN, 0, b"");
    assert_eq!(world.lives(), 4 * MINUTE, "the host has not answered");
    world.send(1, SYN, 0, b"");
    world.ready();
    assert_eq!(world.lives(), 4 * MINUTE, "the guest has not answered");
    let (ends, link) = (Quiet { left: 0, piece: 0, ends: false }, &mut world.link);
    let [outside, guest] = ["192.0.2.1:80", "10.0.2.100:80"].map(|ends| ends.parse().expect("an address"));
    world.tcp.on_incoming(ends, outside, guest, world.now, link, &mut world.host);
    assert_eq!(world.lives(), 4 * MINUTE, "the guest has not answered who comes in");
    world.host.ends = true;
    world.open(1);
    world.send(1, ACK | FIN, 1, b"");
    assert_eq!(world.tcp.len(), 0, "it had the other side's end, and all is acknowledged");
    world.open(1);
    world.next -= 1;
    world.send(1, ACK | FIN, 1, b"");
    assert_eq!(world.lives(), 4 * MINUTE, "the guest has not acknowledged the other side's end");
}

/// What comes too early is all guests' together, and what it costs to keep it counts.
#[test]
fn what_comes_too_early_has_a_limit() {
    let mut world = World::new(4096);
    for port in 1..=300 {
        world.open(port);
        for number in 0..8 {
            world.send(port, ACK, 2 + 50_000 * number, &[7; 40_000]);
        }
    }
    let held = world.tcp.buffers.in_use();
    assert!((60 << 20..=64 << 20).contains(&held), "{held} bytes");
    // Of many small ones there are fewer.
    let mut world = World::new(4096);
    world.open(1);
    for number in 0..20_000 {
        world.send(1, ACK, 2 + 2 * number, b"x");
    }
    let held = world.tcp.buffers.in_use();
    assert!((200 << 10..=256 << 10).contains(&held), "{held} bytes");
    assert!(world.tcp.describe().len() < 1000);
    world.send(1, ACK, 1, b"x");
    world.send(1, RST | ACK, 3, b"");
    assert_eq!((world.tcp.len(), world.tcp.buffers.in_use()), (0, 0));
}

/// Each piece costs more than its bytes.
#[test]
fn what_the_guest_does_not_acknowledge_has_a_limit() {
    let mut world = World::new(64);
    world.host.has = 30_000;
    world.open(1);
    for _ in 0..30_000 {
        world.ready();
    }
    let pieces: usize = world.tcp.flows.iter(Owner::Tcp).map(|(_, flow)| 30_000 - flow.socket.left).sum();
    assert!(pieces > 10_000 && world.tcp.buffers.in_use() > 100 * pieces, "{pieces} pieces");
}

/// Where there is no more room, somebody must do something first.
#[test]
fn nobody_spins_where_there_is_no_room() {
    let mut world = World::new(64);
    (world.host.has, world.host.piece) = (1000, 1 << 16);
    for port in 1..=20 {
        world.open(port);
    }
    let held = world.tcp.buffers.in_use();
    assert!((64 << 20..65 << 20).contains(&held), "{held} bytes");
    // As soon as there is, all goes on.
    world.send(1, RST | ACK, 1, b"");
    let after = world.tcp.buffers.in_use();
    assert!((64 << 20..65 << 20).contains(&after), "{after} bytes");
    assert_eq!(world.tcp.len(), 19);
}
