//! ICMP and ICMPv6 echo: what ping(8) sends (RFC 792, RFC 4443 4, RFC 5508).
//!
//! The host lets a process without privileges send echo requests through sockets of their own kind, whose port is the
//! identifier (icmp(7)). Each identifier of the guest's, with each address that it is used for, gets such a socket; the
//! guest's identifier is put back into what comes in. It is closed a minute after its last use (RFC 5508, REQ-1). There
//! are at most 512, and no data is held by them.
//!
//! Who has forbidden such sockets has net.ipv4.ping_group_range say so: requests are then answered as administratively
//! prohibited, and [`ping_is_allowed`] tells whoever is to explain it.
//!
//! The gateway and the address that answers for names are ours, and so we answer for them. As requests have one hop
//! less to go than the guest said, and errors are passed on, a route can be traced.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use rbox_sys::epoll::Ready;
use rbox_sys::{datagram as os, errqueue, ping};
use smoltcp::wire::IpProtocol;

use crate::checksum;
use crate::context::Context;
use crate::egress::Protocol;
use crate::icmp::{self, Unreachable};
use crate::idle::Idle;
use crate::link::IpHeader;
use crate::packet::Packet;
use crate::reports;
use crate::token::{Owner, Places, Token};

const KEEP: Duration = Duration::from_secs(60);
const MOST: usize = 512;
/// How many answers one socket gives before it is others' turn.
const AT_A_TIME: usize = 32;
/// Type, code, checksum, identifier, sequence number.
const HEADER: usize = 8;

/// All there is of it.
#[derive(Debug)]
pub(crate) struct Echo {
    places: Places<Pinging>,
    tokens: Idle<Key, Token>,
}

/// Who pings whom, as the guest calls him.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    guest: IpAddr,
    outside: IpAddr,
    id: u16,
}

#[derive(Debug)]
struct Pinging {
    key: Key,
    /// Whom the host is to ask.
    target: IpAddr,
    socket: UdpSocket,
}

/// Whether the host lets this process ping without privileges (net.ipv4.ping_group_range, for IPv6 too).
pub fn ping_is_allowed() -> bool {
    ping::socket(false).is_ok()
}

impl Echo {
    pub(crate) fn new() -> Self {
        Self { places: Places::new(), tokens: Idle::new(MOST) }
    }

    /// Lets go of memory that nobody uses.
    pub(crate) fn shrink(&mut self) {
        self.places.shrink();
        self.tokens.shrink();
    }

    /// A packet from the guest; nothing is done about any but echo requests.
    pub(crate) fn on_packet(&mut self, packet: &Packet<'_>, cx: &mut Context<'_>) {
        let Some(id) = requested(packet).filter(|_| cx.config.is_guest(packet.source)) else { return };
        let outside = packet.destination;
        if cx.config.gateway(outside) == Some(outside) || cx.config.is_dns(outside) {
            return answer(packet, cx);
        }
        let [from, to] = [packet.source, outside].map(|address| SocketAddr::new(address, 0));
        let may = |cx: &mut Context<'_>| cx.may_send(Protocol::Echo, from, to, packet.payload);
        let Some(target) = cx.config.reachable(outside).filter(|_| may(cx)) else {
            return icmp::unreachable(Unreachable::Prohibited, packet, cx);
        };
        let Some(hops) = packet.hops.checked_sub(1).filter(|hops| *hops > 0) else {
            return icmp::time_exceeded(packet, cx);
        };
        let key = Key { guest: packet.source, outside, id };
        let sent = self.pinging(key, target, cx).and_then(|pinging| pinging.send(packet.payload, hops, cx));
        if let Some(why) = sent.err().as_ref().and_then(Unreachable::of) {
            icmp::unreachable(why, packet, cx);
        }
    }

    pub(crate) fn on_ready(&mut self, token: Token, ready: Ready, cx: &mut Context<'_>) {
        let Some(pinging) = self.places.get_mut(token).filter(|_| ready.readable) else { return };
        self.tokens.get(&pinging.key, KEEP, cx.now);
        pinging.receive(cx);
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.tokens.next_deadline()
    }

    pub(crate) fn on_time(&mut self, cx: &mut Context<'_>) {
        let forgotten = self.tokens.forget_unused(cx.now);
        self.end(forgotten);
    }

    fn pinging(&mut self, key: Key, target: IpAddr, cx: &mut Context<'_>) -> io::Result<&mut Pinging> {
        let token = match self.tokens.get(&key, KEEP, cx.now) {
            Some(token) => *token,
            None => self.begin(key, target, cx)?,
        };
        self.places.get_mut(token).ok_or(io::ErrorKind::NotFound.into())
    }

    fn begin(&mut self, key: Key, target: IpAddr, cx: &mut Context<'_>) -> io::Result<Token> {
        let is_v6 = target.is_ipv6();
        let socket = match ping::socket(is_v6) {
            // Not what the host forbids, but that there are too many descriptors.
            Err(error) if error.kind() != io::ErrorKind::PermissionDenied => {
                let forgotten = self.tokens.forget_some();
                self.end(forgotten);
                ping::socket(is_v6)?
            }
            other => other?,
        };
        errqueue::keep(&socket, is_v6)?;
        let token = self.places.put(Owner::Echo, Pinging { key, target, socket });
        let Some(pinging) = self.places.get_mut(token) else { return Ok(token) };
        if let Err(error) = cx.watch(&pinging.socket, token) {
            self.places.take(token);
            return Err(error);
        }
        let forgotten = self.tokens.put(key, token, KEEP, cx.now);
        self.end(forgotten);
        Ok(token)
    }

    fn end(&mut self, forgotten: Vec<(Key, Token)>) {
        for (_, token) in forgotten {
            self.places.take(token);
        }
    }
}

impl Pinging {
    fn send(&self, request: &[u8], hops: u8, cx: &mut Context<'_>) -> io::Result<()> {
        os::set_hops(&self.socket, self.target.is_ipv6(), hops)?;
        let target = SocketAddr::new(self.target, 0);
        reports::send(&self.socket, request, target, || self.report(cx))
    }

    fn receive(&self, cx: &mut Context<'_>) {
        for turn in 0..AT_A_TIME {
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
            // The kernel gives a socket whatever has its identifier.
            let Some((header, data)) = cx.buffer[..length].split_first_chunk::<HEADER>() else { continue };
            if from.ip() == self.target {
                let mut header = *header;
                header[2..4].fill(0);
                header[4..6].copy_from_slice(&self.key.id.to_be_bytes());
                cx.link.send(self.header(self.key.outside, self.key.guest), &header, data, None);
                let [guest, outside] = [self.key.guest, self.key.outside].map(|address| SocketAddr::new(address, 0));
                cx.note_received(Protocol::Echo, guest, outside, length);
            }
        }
    }

    /// Tells the guest what the network has said of what it has sent.
    fn report(&self, cx: &mut Context<'_>) {
        reports::take(&self.socket, |report, quoted| {
            let is_ours = report.destination.ip() == self.target;
            let Some((header, data)) = quoted.split_first_chunk::<HEADER>().filter(|_| is_ours) else { return };
            let mut header = *header;
            header[4..6].copy_from_slice(&self.key.id.to_be_bytes());
            icmp::pass_on(report, self.header(self.key.guest, self.key.outside), &header, data, cx);
        });
    }

    fn header(&self, source: IpAddr, destination: IpAddr) -> IpHeader {
        let protocol = if self.target.is_ipv6() { IpProtocol::Icmpv6 } else { IpProtocol::Icmp };
        IpHeader { source, destination, protocol }
    }
}

/// The identifier of a valid echo request.
fn requested(packet: &Packet<'_>) -> Option<u16> {
    let header = packet.payload.first_chunk::<HEADER>()?;
    let is_request = match (packet.source, packet.protocol) {
        (IpAddr::V4(_), IpProtocol::Icmp) => header[..2] == [8, 0],
        (IpAddr::V6(_), IpProtocol::Icmpv6) => header[..2] == [128, 0],
        _ => false,
    };
    let is_right = is_request
        && (packet.trusted || checksum::is_right(packet.source, packet.destination, packet.protocol, packet.payload));
    is_right.then_some(u16::from_be_bytes([header[4], header[5]]))
}

/// In the name of whom the request was for.
fn answer(request: &Packet<'_>, cx: &mut Context<'_>) {
    let Some((header, data)) = request.payload.split_first_chunk::<HEADER>() else { return };
    let mut header = *header;
    header[0] = if request.source.is_ipv6() { 129 } else { 0 };
    header[2..4].fill(0);
    let ip = IpHeader { source: request.destination, destination: request.source, protocol: request.protocol };
    cx.link.send(ip, &header, data, None);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Bytes, World, address};

    const GUEST: &str = "10.0.2.100";
    const GUEST_V6: &str = "fd00::100";

    /// Pings the host's loopback, which no guest can reach by echo requests, in the place of an address outside.
    fn ping(echo: &mut Echo, world: &mut World, outside: &str, loopback: &str, id: u16, data: &[u8]) {
        let guest = if outside.contains(':') { GUEST_V6 } else { GUEST };
        let key = Key { guest: address(guest), outside: address(outside), id };
        let request = Bytes::echo(guest, outside, id, data);
        let mut cx = world.cx();
        let pinging = echo.pinging(key, address(loopback), &mut cx).expect("a ping socket");
        pinging.send(request.packet().payload, 64, &mut cx).expect("send");
    }

    /// Tells why nothing is tested where the host forbids it.
    fn is_allowed() -> bool {
        let allowed = ping_is_allowed();
        if !allowed {
            eprintln!("net.ipv4.ping_group_range has no group of this process");
        }
        allowed
    }

    #[test]
    fn where_the_host_forbids_it_the_guest_is_told_so() {
        if is_allowed() {
            return;
        }
        let (mut world, mut echo) = (World::new(), Echo::new());
        for (guest, outside, kind) in [(GUEST, "192.0.2.1", [3, 13]), (GUEST_V6, "2001:db8::1", [1, 1])] {
            echo.on_packet(&Bytes::echo(guest, outside, 1, b"").packet(), &mut world.cx());
            assert_eq!(world.only().bytes[..2], kind);
        }
        assert_eq!(echo.places.len(), 0);
    }

    fn turn(echo: &mut Echo, world: &mut World) {
        let ready = world.ready();
        assert!(!ready.is_empty(), "nothing came");
        for (token, ready) in ready {
            echo.on_ready(token, ready, &mut world.cx());
        }
    }

    #[test]
    fn there_and_back() {
        if !is_allowed() {
            return;
        }
        let (mut world, mut echo) = (World::new(), Echo::new());
        for (outside, loopback, guest, kind) in
            [("192.0.2.1", "127.0.0.1", GUEST, 0), ("2001:db8::1", "::1", GUEST_V6, 129)]
        {
            for (id, data) in [(77, &b"hello"[..]), (77, b""), (78, &[7; 60_000])] {
                ping(&mut echo, &mut world, outside, loopback, id, data);
                turn(&mut echo, &mut world);
                let reply = world.only();
                assert_eq!((reply.header.source, reply.header.destination), (address(outside), address(guest)));
                let [high, low] = u16::to_be_bytes(id);
                assert_eq!(reply.bytes[..8], [kind, 0, 0, 0, high, low, 0, 1]);
                assert!(reply.bytes[8..] == *data);
            }
        }
        // RFC 5508, REQ-1: not less than a minute.
        world.now += Duration::from_secs(59);
        echo.on_time(&mut world.cx());
        assert_eq!(echo.places.len(), 4);
        world.now += Duration::from_secs(1);
        echo.on_time(&mut world.cx());
        assert_eq!((echo.places.len(), echo.next_deadline()), (0, None));
    }

    /// Who pings every 50 seconds has the same socket all day; who has pinged once, a minute (RFC 5508, REQ-1).
    #[test]
    fn a_day() {
        if !is_allowed() {
            return;
        }
        let (mut world, mut echo) = (World::new(), Echo::new());
        let (begin, mut woken) = (world.now, 0);
        for number in 0..24 * 72 {
            let now = begin + number * Duration::from_secs(50);
            while let Some(at) = echo.next_deadline().filter(|at| *at <= now) {
                world.now = at;
                echo.on_time(&mut world.cx());
                assert!(echo.next_deadline().is_none_or(|next| next > at), "nobody would ever sleep");
                woken += 1;
            }
            world.now = now;
            ping(&mut echo, &mut world, "192.0.2.1", "127.0.0.1", 1, b"");
            turn(&mut echo, &mut world);
            world.only();
            match number % 72 {
                0 => {
                    ping(&mut echo, &mut world, "192.0.2.1", "127.0.0.1", 2, b"");
                    turn(&mut echo, &mut world);
                    world.only();
                }
                1 => assert_eq!(echo.places.len(), 2),
                _ => assert_eq!(echo.places.len(), 1),
            }
        }
        let first = Token { owner: Owner::Echo, place: 0, generation: 0 };
        assert!(echo.places.get_mut(first).is_some_and(|pinging| pinging.key.id == 1), "it is another socket");
        assert!(woken < 2 * 24 * 72, "woken {woken} times");
        world.now += KEEP;
        echo.on_time(&mut world.cx());
        assert_eq!((echo.places.len(), echo.next_deadline()), (0, None));
    }

    #[test]
    fn we_answer_for_ourselves() {
        let (mut world, mut echo) = (World::new(), Echo::new());
        for (guest, ours, kind) in
            [(GUEST, "10.0.2.2", 0), (GUEST, "10.0.2.3", 0), (GUEST_V6, "fd00::2", 129), (GUEST_V6, "fd00::3", 129)]
        {
            echo.on_packet(&Bytes::echo(guest, ours, 0x1234, b"data").packet(), &mut world.cx());
            let reply = world.only();
            assert_eq!((reply.header.source, reply.header.destination), (address(ours), address(guest)));
            assert_eq!(reply.bytes, [&[kind, 0, 0, 0, 0x12, 0x34, 0, 1][..], b"data"].concat());
        }
        assert_eq!(echo.places.len(), 0);
    }

    #[test]
    fn what_goes_nowhere() {
        let (mut world, mut echo) = (World::new(), Echo::new());
        for refused in ["127.0.0.1", "0.0.0.0"] {
            echo.on_packet(&Bytes::echo(GUEST, refused, 1, b"").packet(), &mut world.cx());
            assert_eq!(world.only().bytes[..2], [3, 13], "{refused}");
        }
        echo.on_packet(&Bytes::echo(GUEST, "192.0.2.1", 1, b"").with_hops(1).packet(), &mut world.cx());
        assert_eq!(world.only().bytes[..2], [11, 0]);
        let mut wrong = Bytes::echo(GUEST, "10.0.2.2", 1, b"data");
        wrong.0[30] ^= 1;
        let quiet = [
            Bytes::echo(GUEST, "224.0.0.1", 1, b""),
            Bytes::echo(GUEST, "10.0.2.255", 1, b""),
            Bytes::echo(GUEST_V6, "ff02::1", 1, b""),
            Bytes::echo("10.0.2.99", "10.0.2.2", 1, b""),
            Bytes::new(GUEST, "10.0.2.2", IpProtocol::Icmp, &[0; 8]),
            Bytes::new(GUEST, "10.0.2.2", IpProtocol::Icmp, &[8, 0, 0, 0]),
            Bytes::new(GUEST, "10.0.2.2", IpProtocol::Icmpv6, &[128, 0, 0, 0, 0, 0, 0, 0]),
            wrong,
        ];
        for bytes in quiet {
            echo.on_packet(&bytes.packet(), &mut world.cx());
            assert_eq!(world.link.packets.len(), 0, "{:?}", bytes.packet());
        }
        assert_eq!(echo.places.len(), 0);
    }

    #[test]
    fn no_more_than_so_many() {
        if !is_allowed() {
            return;
        }
        let (mut world, mut echo) = (World::new(), Echo::new());
        echo.tokens = Idle::new(32);
        for id in 0..100 {
            world.now += Duration::from_millis(1);
            ping(&mut echo, &mut world, "192.0.2.1", "127.0.0.1", id, b"x");
            turn(&mut echo, &mut world);
            assert_eq!(world.only().bytes[4..6], id.to_be_bytes());
            assert!(echo.places.len() <= 32 && echo.tokens.len() == echo.places.len());
        }
    }
}
