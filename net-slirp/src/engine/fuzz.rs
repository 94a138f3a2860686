//! Whatever frames a guest sends, one after the other, through all of the engine and sockets of the kernel's.
//!
//! That is in a network namespace of its own, where there are a loopback device with a network of addresses and servers
//! that answer: nothing leaves it. The guest is one that hears: an acknowledgement in an input counts from what it was
//! sent, so that connections open, and what goes to whoever has come in from outside goes to the port that he has.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rbox_fuzz::{Length, Shape, join, split};
use rbox_sys::rlimit::{self, Limit, Resource};
use rbox_sys::rtnetlink::{Changes, LOOPBACK};
use smoltcp::wire::{EthernetFrame, IpProtocol, TcpPacket, UdpPacket};

use super::Engine;
use crate::config::{Config, GUEST_MAC, OUR_MAC, Published, PublishedSocket};
use crate::egress::Policy;
use crate::egress::client_hello::tests::hello;
use crate::egress::testing::{A, answer, query, query_with_edns, record};
use crate::frames::LONGEST;
use crate::packet::{Frame, Packet};
use crate::testing::{Bytes, address};
use crate::vnet::{self, VnetHeader};

#[test]
fn bounded() {
    run("engine::fuzz::bounded", Length::Bounded);
}

#[test]
#[ignore = "long: ten minutes"]
fn long() {
    run("engine::fuzz::long", Length::Long(10));
}

/// So few that a guest comes to their end.
const DESCRIPTORS: u64 = 128;
/// Of all of this process. All that is held for guests would be less.
const MOST_MEMORY: u64 = 100 << 20;

fn run(test: &str, length: Length) {
    if !in_network_namespace(test) {
        return;
    }
    set_limit(DESCRIPTORS);
    let dir = tempfile::tempdir().expect("a directory");
    let resolv_conf = dir.path().join("resolv.conf");
    fs::write(&resolv_conf, "nameserver 192.0.2.1\nnameserver 192.0.2.9\noptions timeout:1\n").expect("written");
    let servers = Servers::start();
    let open = open_descriptors();
    // One that has seen everything before, and one that an input finds as it will be found again.
    let old = RefCell::new(World::new(&resolv_conf, ""));
    rbox_fuzz::run("frames", Shape::Messages, &seeds(), length, |input| {
        set_limit(DESCRIPTORS);
        old.borrow_mut().hear(input, &servers);
        set_limit(2 * DESCRIPTORS);
        let others = open_descriptors();
        let rules = ["", "allow=a.example,*.example:443,192.0.2.0/24", "deny=a.example,192.0.2.1:7", "none"];
        let mut young = World::new(&resolv_conf, rules[input.len() % rules.len()]);
        young.hear(input, &servers);
        young.is_left_alone(&servers);
        drop(young);
        assert_eq!(open_descriptors(), others, "descriptors are left open");
        assert!(resident() < MOST_MEMORY, "{} bytes are resident", resident());
    });
    let mut old = old.into_inner();
    assert!(old.heard > 100, "it has heard {} frames", old.heard);
    old.is_left_alone(&servers);
    drop(old);
    assert_eq!(open_descriptors(), open, "descriptors are left open");
}

/// Runs the calling test once more, as root of a user namespace with a network namespace, and answers `true` there;
/// outside it waits for the test to pass and answers `false`.
fn in_network_namespace(test: &str) -> bool {
    const INSIDE: &str = "RBOX_TEST_INSIDE";
    if std::env::var_os(INSIDE).is_none() {
        let me = std::env::current_exe().expect("this binary");
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--net", "--"]).arg(me).env(INSIDE, "1");
        let output = command.args(["--exact", test, "--include-ignored"]).output().expect("unshare(1) starts");
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        assert!(output.status.success() && text.contains("1 passed"), "in the namespace:\n{text}");
        return false;
    }
    let mut changes = Changes::new().expect("rtnetlink");
    changes.link(LOOPBACK, rbox_sys::rtnetlink::Link::default());
    // All of an IPv4 network is the loopback device's.
    changes.address(LOOPBACK, [192, 0, 2, 1].into(), 24);
    changes.address(LOOPBACK, Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(), 64);
    let refused = changes.make().expect("rtnetlink");
    assert!(refused.is_empty(), "{refused:?}");
    fs::write("/proc/sys/net/ipv4/ping_group_range", "0 0").expect("this namespace's own");
    true
}

fn set_limit(soft: u64) {
    let limit = rlimit::get(None, Resource::NOFILE).expect("a limit");
    rlimit::set(None, Resource::NOFILE, Limit { soft, ..limit }).expect("it is below the ceiling");
}

fn open_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").expect("/proc is mounted").count()
}

fn resident() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").expect("/proc is mounted");
    let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number");
    pages * 4096
}

/// Where TCP is echoed, and where it is greeted and ended.
const ECHO: u16 = 7;
const GREETING: u16 = 13;
/// Where datagrams are echoed; and names.
const DATAGRAMS: u16 = 9;
const NAMES: u16 = 53;
/// The guest's, which is published.
const INSIDE: u16 = 80;

/// Whoever is outside.
struct Servers {
    listeners: [TcpListener; 2],
    datagrams: [UdpSocket; 2],
    streams: RefCell<Vec<TcpStream>>,
}

impl Servers {
    fn start() -> Self {
        // Of both families.
        let listen = |port| {
            let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).expect("bind");
            listener.set_nonblocking(true).expect("nonblocking");
            listener
        };
        let receive = |port| {
            let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)).expect("bind");
            socket.set_nonblocking(true).expect("nonblocking");
            socket
        };
        Self {
            listeners: [ECHO, GREETING].map(listen),
            datagrams: [DATAGRAMS, NAMES].map(receive),
            streams: RefCell::default(),
        }
    }

    /// Does what they have been asked. Says whether that was anything.
    fn serve(&self) -> bool {
        let (mut busy, mut buffer) = (false, [0; 4096]);
        let mut streams = self.streams.borrow_mut();
        // There may be no descriptor left.
        while let Ok((stream, _)) = self.listeners[0].accept() {
            busy = true;
            if stream.set_nonblocking(true).is_ok() {
                streams.push(stream);
            }
        }
        while let Ok((mut stream, _)) = self.listeners[1].accept() {
            busy = true;
            let _ = stream.write_all(&[b'!'; 3000]);
        }
        streams.retain_mut(|stream| match stream.read(&mut buffer) {
            Ok(0) => false,
            Ok(length) => {
                busy = true;
                // What it has no room for is lost.
                let _ = stream.write(&buffer[..length]);
                true
            }
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        });
        for (server, socket) in self.datagrams.iter().enumerate() {
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                busy = true;
                let said = &buffer[..length];
                let asked = asked(said).filter(|_| server == 1);
                let answer = asked.map_or_else(|| said.to_vec(), |kind| answered(said, kind));
                let _ = socket.send_to(&answer, from);
            }
        }
        busy
    }

    fn hang_up(&self) {
        self.streams.borrow_mut().clear();
    }
}

/// What is asked, if that is one question and nothing else: its type.
fn asked(query: &[u8]) -> Option<u16> {
    let is_plain = query.get(4..12) == Some(&[0, 1, 0, 0, 0, 0, 0, 0]);
    let (_, end) = query.get(12..).filter(|_| is_plain)?.split_last_chunk::<4>()?;
    Some(u16::from_be_bytes([end[0], end[1]]))
}

/// The query with an answer: an address of ours.
fn answered(query: &[u8], kind: u16) -> Vec<u8> {
    let mut message = query.to_vec();
    message[2] |= 0x80;
    message[7] = 1;
    let address = if kind == A { address("192.0.2.1") } else { address("2001:db8::1") };
    message.extend(match address {
        IpAddr::V4(address) => record(&[0xc0, 12], kind, 60, &address.octets()),
        IpAddr::V6(address) => record(&[0xc0, 12], kind, 60, &address.octets()),
    });
    message
}

/// A guest, the engine that serves it, and what is between them in a tap's place.
struct World {
    engine: Engine,
    tap: File,
    guest: UnixDatagram,
    now: Instant,
    published: [SocketAddr; 2],
    /// What follows the last that the guest was sent, by the ends of each connection.
    next: HashMap<[SocketAddr; 2], u32>,
    /// The port of who has come in from outside last, by TCP and by UDP.
    came: [Option<u16>; 2],
    heard: usize,
    /// How many descriptors are open while nothing happens.
    open: usize,
}

impl World {
    fn new(resolv_conf: &Path, rules: &str) -> Self {
        let (ours, guest) = UnixDatagram::pair().expect("a pair");
        guest.set_nonblocking(true).expect("nonblocking");
        ours.set_nonblocking(true).expect("nonblocking");
        let tap = File::from(OwnedFd::from(ours));
        let mut egress = Policy::default();
        if !rules.is_empty() {
            egress.add(rules).expect("rules");
        }
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        listener.set_nonblocking(true).expect("nonblocking");
        let socket = UdpSocket::bind("127.0.0.1:0").expect("bind");
        socket.set_nonblocking(true).expect("nonblocking");
        let published = [listener.local_addr(), socket.local_addr()].map(|address| address.expect("an address"));
        let sockets = [PublishedSocket::Tcp(listener), PublishedSocket::Udp(socket)];
        let config = Config {
            resolv_conf: resolv_conf.to_owned(),
            allow_host_loopback: rules.is_empty(),
            published: sockets.map(|socket| Published { socket, guest_port: INSIDE }).into(),
            egress,
            ..Config::default()
        };
        let engine = Engine::new(config, &tap).expect("an engine");
        Self {
            engine,
            tap,
            guest,
            now: Instant::now(),
            published,
            next: HashMap::new(),
            came: [None; 2],
            heard: 0,
            open: open_descriptors(),
        }
    }

    /// The guest sends all of an input; what is no frame, being too short, is a time that passes.
    fn hear(&mut self, input: &[u8], servers: &Servers) {
        // There may be no descriptor left for them.
        let client = TcpStream::connect(self.published[0]);
        let asking = UdpSocket::bind("127.0.0.1:0");
        if let (Ok(mut client), Ok(asking)) = (client.as_ref(), asking) {
            let _ = (client.write_all(b"hello"), asking.send_to(b"hello", self.published[1]));
        }
        self.go_on(servers);
        for mut message in split(input) {
            if message.len() < vnet::LENGTH {
                let seconds = message.first().map_or(0, |number| u64::from(*number));
                self.now += Duration::from_secs(seconds * seconds);
            } else {
                self.fill_in(&mut message);
                // What there is no room for is lost.
                let _ = self.guest.send(&message);
            }
            self.go_on(servers);
        }
        drop(client);
        servers.hang_up();
        self.go_on(servers);
    }

    /// Whatever has begun ends, when nobody says anything more.
    fn is_left_alone(&mut self, servers: &Servers) {
        while let Some(next) = self.engine.next_deadline() {
            self.now = self.now.max(next);
            self.go_on(servers);
        }
        servers.hang_up();
        assert_eq!((self.engine.tcp.len(), open_descriptors()), (0, self.open), "connections and descriptors");
    }

    /// Until nothing happens.
    fn go_on(&mut self, servers: &Servers) {
        // A guest and servers that answer each other need never end.
        for _ in 0..50 {
            let mut told = std::mem::take(&mut self.engine.ready);
            told.extend(self.engine.epoll.wait(Some(Duration::ZERO)).expect("epoll_wait"));
            let quiet = told.is_empty();
            assert!(self.engine.deal_with(told, self.now, &self.tap), "the guest is there");
            let heard = self.guest_hears();
            if quiet && !heard && !servers.serve() && !self.engine.busy {
                break;
            }
        }
        assert!(self.engine.tcp.len() <= DESCRIPTORS as usize);
    }

    /// Says whether there was anything.
    fn guest_hears(&mut self) -> bool {
        let mut buffer = vec![0; LONGEST];
        let mut any = false;
        while let Ok(length) = self.guest.recv(&mut buffer) {
            any = true;
            self.heard += 1;
            let bytes = &buffer[..length];
            let ethernet = EthernetFrame::new_checked(&bytes[vnet::LENGTH..]).expect("a frame");
            assert_eq!((ethernet.dst_addr().0, ethernet.src_addr().0), (GUEST_MAC, OUR_MAC));
            match Frame::parse(bytes).expect("a frame that is understood") {
                Frame::Arp(_) => {}
                Frame::Packet(packet) => self.note(&packet),
                Frame::Fragment(fragment) => panic!("a part of a packet: {fragment:?}"),
            }
        }
        any
    }

    fn note(&mut self, packet: &Packet<'_>) {
        // Neighbours may be asked for by another of the guest's addresses.
        let to_guest = packet.protocol == IpProtocol::Icmpv6 || self.engine.config.is_guest(packet.destination);
        assert!(to_guest, "{packet:?}");
        match packet.protocol {
            IpProtocol::Tcp => {
                let segment = TcpPacket::new_checked(packet.payload).expect("a segment");
                let from = SocketAddr::new(packet.source, segment.src_port());
                let to = SocketAddr::new(packet.destination, segment.dst_port());
                if segment.syn() && to.port() == INSIDE {
                    self.came[0] = Some(from.port());
                }
                self.next.insert([to, from], segment.seq_number().0 as u32 + segment.segment_len() as u32);
            }
            IpProtocol::Udp => {
                let datagram = UdpPacket::new_checked(packet.payload).expect("a datagram");
                if datagram.dst_port() == INSIDE {
                    self.came[1] = Some(datagram.src_port());
                }
            }
            _ => {}
        }
    }

    /// Puts in what the guest knows only once it has heard it.
    fn fill_in(&self, frame: &mut [u8]) {
        let Some(Frame::Packet(packet)) = Frame::parse(frame) else { return };
        let (source, destination, protocol) = (packet.source, packet.destination, packet.protocol);
        let place = packet.payload.as_ptr().addr() - frame.as_ptr().addr();
        let least = if protocol == IpProtocol::Tcp { 20 } else { 8 };
        let Some(header) = frame.get_mut(place..).filter(|header| header.len() >= least) else { return };
        let port = |header: &[u8], at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let kind = match protocol {
            IpProtocol::Tcp => 0,
            IpProtocol::Udp => 1,
            _ => return,
        };
        if let Some(came) = self.came[kind].filter(|_| port(header, 0) == INSIDE) {
            header[2..4].copy_from_slice(&came.to_be_bytes());
        }
        if protocol == IpProtocol::Tcp {
            let ends = [SocketAddr::new(source, port(header, 0)), SocketAddr::new(destination, port(header, 2))];
            let next = self.next.get(&ends).copied().unwrap_or(0);
            let ack = u32::from_be_bytes([header[8], header[9], header[10], header[11]]).wrapping_add(next);
            header[8..12].copy_from_slice(&ack.to_be_bytes());
        }
    }
}

/// Good frames, in an order that makes sense.
fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![join(&[arp(), nothing()])];
    for family in [V4, V6] {
        seeds.extend(family.conversations().map(|frames| join(&frames)));
        seeds.extend(family.others().map(|frames| join(&frames)));
    }
    seeds
}

/// A short time, in which others have their turn.
fn nothing() -> Vec<u8> {
    vec![1]
}

struct Family {
    guest: &'static str,
    gateway: &'static str,
    dns: &'static str,
    server: &'static str,
    nobody: &'static str,
}

const V4: Family =
    Family { guest: "10.0.2.100", gateway: "10.0.2.2", dns: "10.0.2.3", server: "192.0.2.1", nobody: "203.0.113.1" };

const V6: Family = Family {
    guest: "fd00::100",
    gateway: "fd00::2",
    dns: "fd00::3",
    server: "2001:db8::1",
    nobody: "2001:db8:dead::1",
};

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

impl Family {
    /// Connections, from and to the guest. The guest's stream begins with 1000.
    fn conversations(&self) -> [Vec<Vec<u8>>; 10] {
        let said = |to: &'static str, port: u16| {
            move |flags: u8, seq: u32, data: &[u8]| self.segment((40000, to, port), flags, seq, u16::MAX, data)
        };
        let echo = said(self.server, ECHO);
        let greeting = said(self.server, GREETING);
        let names = said(self.dns, NAMES);
        let closed = said(self.server, 1);
        let nowhere = said(self.nobody, 443);
        let inside =
            |flags: u8, seq: u32, data: &[u8]| self.segment((INSIDE, self.gateway, 1), flags, seq, u16::MAX, data);
        let waits = |window: u16| self.segment((40000, self.server, GREETING), ACK, 1001, window, b"");
        let question = query("a.example", A);
        let question = [&(question.len() as u16).to_be_bytes()[..], &question].concat();
        let hello = hello("a.example");
        let end = 1001 + hello.len() as u32;
        [
            vec![
                echo(SYN, 1000, b""),
                echo(ACK, 1001, b""),
                echo(ACK, 1001, b"hello"),
                echo(ACK, 1006, b""),
                echo(ACK | FIN, 1006, b""),
                echo(ACK, 1007, b""),
            ],
            vec![
                echo(SYN, 1000, b""),
                echo(ACK, 1001, b"in "),
                echo(ACK, 1010, b"order"),
                echo(ACK | FIN, 1015, b""),
                echo(ACK, 1004, b"which "),
                echo(ACK, 1016, b""),
            ],
            vec![
                echo(SYN, 1000, b""),
                echo(ACK, 1001, b"hello"),
                echo(ACK, 999, b"of long ago"),
                echo(ACK, 3_000_000, b"beyond the window"),
                echo(ACK | FIN, 1 << 31, b"half way round"),
            ],
            vec![echo(SYN, 1000, b""), echo(ACK, 1001, &[7; 1400]), nothing(), echo(RST | ACK, 2401, b"")],
            vec![greeting(SYN, 1000, b""), waits(0), nothing(), waits(0), nothing(), waits(100), waits(u16::MAX)],
            vec![greeting(SYN, 1000, b""), greeting(ACK | FIN, 1001, b""), greeting(ACK, 1002, b"")],
            vec![closed(SYN, 1000, b""), nowhere(SYN, 1000, b""), echo(ACK, 1, b"of nothing"), nothing()],
            vec![names(SYN, 1000, b""), names(ACK, 1001, &question), nothing(), names(ACK | FIN, 1040, b"")],
            vec![
                self.datagram(5000, self.dns, NAMES, &query("a.example", A)),
                echo(SYN, 1000, b""),
                echo(ACK, 1001, &hello[..20]),
                echo(ACK, 1021, &hello[20..]),
                echo(ACK | FIN, end, b""),
            ],
            vec![
                inside(SYN | ACK, 1000, b""),
                inside(ACK, 1001, b"hello"),
                inside(ACK | FIN, 1006, b""),
                inside(ACK, 1007, b""),
            ],
        ]
    }

    /// What is no connection.
    fn others(&self) -> [Vec<Vec<u8>>; 6] {
        let protocol = if self.is_v4() { IpProtocol::Icmp } else { IpProtocol::Icmpv6 };
        let solicitation = |kind: u8, target: &str| {
            let target = address(target);
            let target = if let IpAddr::V6(target) = target { target.octets() } else { [0; 16] };
            let body = [&[kind, 0, 0, 0, 0, 0, 0, 0], &target[..], &[1, 1], &GUEST_MAC].concat();
            frame(&Bytes::new(self.guest, self.gateway, protocol, &body), true)
        };
        let whole = Bytes::udp(&self.end(self.guest, 5001), &self.end(self.server, DATAGRAMS), &[9; 100]);
        let quoting = [&[3, 3, 0, 0, 0, 0, 0, 0], &whole.0[..]].concat();
        [
            vec![
                self.datagram(5000, self.server, DATAGRAMS, b"hello"),
                self.datagram(5000, self.gateway, DATAGRAMS, b"hello"),
                self.datagram(5000, self.server, 1, b"nobody listens"),
                self.datagram(5000, self.nobody, 1, b"no way leads there"),
                vec![20],
                self.datagram(INSIDE, self.gateway, 1, b"an answer"),
            ],
            vec![
                self.datagram(5000, self.dns, NAMES, &query("a.example", A)),
                self.datagram(5000, self.dns, NAMES, &query_with_edns("b.example", A)),
                self.datagram(5001, self.dns, NAMES, &query("host.containers.internal", A)),
                self.datagram(5001, self.dns, NAMES, &answer("a.example", A, &[])),
                vec![3],
            ],
            [self.server, self.gateway, self.nobody]
                .map(|to| frame(&Bytes::echo(self.guest, to, 7, b"hello"), false))
                .into(),
            vec![
                solicitation(135, self.gateway),
                solicitation(133, self.gateway),
                frame(&Bytes::new(self.guest, self.server, protocol, &quoting), false),
                frame(&Bytes::udp(&self.end(self.guest, 1), &self.end(self.server, 2), b"x").with_hops(1), true),
                frame(&Bytes::new(self.guest, self.server, IpProtocol::Unknown(132), b"SCTP"), false),
            ],
            self.fragments(&whole, 48),
            self.fragments(&whole, 8),
        ]
    }

    fn is_v4(&self) -> bool {
        address(self.guest).is_ipv4()
    }

    fn end(&self, of: &str, port: u16) -> String {
        SocketAddr::new(address(of), port).to_string()
    }

    fn datagram(&self, from: u16, to: &str, port: u16, payload: &[u8]) -> Vec<u8> {
        frame(&Bytes::udp(&self.end(self.guest, from), &self.end(to, port), payload), true)
    }

    /// From one of its ports to somebody's. What it acknowledges is filled in when it is sent.
    fn segment(&self, ends: (u16, &str, u16), flags: u8, seq: u32, window: u16, data: &[u8]) -> Vec<u8> {
        let (from, to, port) = ends;
        // The largest segment, selective acknowledgements, and a window that is shifted by 7.
        let options: &[u8] = if flags & SYN != 0 { &[2, 4, 5, 180, 4, 2, 3, 3, 7, 0, 0, 0] } else { &[] };
        let mut segment = [from.to_be_bytes(), port.to_be_bytes()].concat();
        segment.extend(seq.to_be_bytes());
        segment.extend([0; 4]);
        segment.extend([((20 + options.len() as u8) / 4) << 4, flags]);
        segment.extend(window.to_be_bytes());
        segment.extend([0; 4]);
        frame(&Bytes::new(self.guest, to, IpProtocol::Tcp, &[&segment, options, data].concat()), true)
    }

    /// The packet in parts that have this many bytes.
    fn fragments(&self, whole: &Bytes, size: usize) -> Vec<Vec<u8>> {
        let payload = &whole.0[if self.is_v4() { 20 } else { 40 }..];
        let count = payload.len().div_ceil(size);
        let part = |(number, part): (usize, &[u8])| {
            let (offset, more) = ((number * size) as u16, number + 1 < count);
            let bytes = if self.is_v4() {
                let mut bytes = Bytes::new(self.guest, self.server, IpProtocol::Unknown(17), part);
                bytes.0[6..8].copy_from_slice(&((offset / 8) | if more { 0x2000 } else { 0 }).to_be_bytes());
                bytes
            } else {
                let [high, low] = (offset | u16::from(more)).to_be_bytes();
                let header = [17, 0, high, low, 0, 0, 0, 7];
                Bytes::new(self.guest, self.server, IpProtocol::Ipv6Frag, &[&header, part].concat())
            };
            frame(&bytes, false)
        };
        payload.chunks(size).enumerate().map(part).collect()
    }
}

/// As a tap gives it. Nobody looks at the checksum of one that never was on a wire.
fn frame(packet: &Bytes, trusted: bool) -> Vec<u8> {
    let header = if trusted { VnetHeader::with_checksum(34, 16) } else { VnetHeader::NONE };
    let kind: [u8; 2] = if packet.0[0] >> 4 == 4 { [0x08, 0x00] } else { [0x86, 0xdd] };
    [&header.encode()[..], &OUR_MAC, &GUEST_MAC, &kind, &packet.0].concat()
}

/// Who has the gateway's address?
fn arp() -> Vec<u8> {
    let body = [&[0, 1, 8, 0, 6, 4, 0, 1], &GUEST_MAC[..], &[10, 0, 2, 100], &[0; 6], &[10, 0, 2, 2]].concat();
    [&VnetHeader::NONE.encode()[..], &[0xff; 6], &GUEST_MAC, &[0x08, 0x06], &body].concat()
}
