use std::time::Duration;

use tempfile::TempDir;

use super::message::query;
use super::*;
use crate::config::HostAddresses;
use crate::testing::{Bytes, World, address};

const A: u16 = 1;
const GUEST: &str = "10.0.2.100:5000";
const DNS: &str = "10.0.2.3:53";

/// A network, and resolvers on the host's loopback.
struct Names {
    world: World,
    dns: Dns,
    servers: Vec<UdpSocket>,
    /// 127.0.0.9, which resolv.conf does not name.
    spare: UdpSocket,
    dir: TempDir,
    port: u16,
}

impl Names {
    /// The resolvers are 127.0.0.1 and so on, as many as there are; `more` is the rest of resolv.conf.
    fn new(servers: u8, more: &str) -> Self {
        // Other tests have sockets on ports of all addresses.
        let (mut all, port) = std::iter::repeat_with(|| listen_at(servers)).flatten().next().expect("a port");
        let spare = all.pop().expect("a spare one");
        let dir = tempfile::tempdir().expect("a directory");
        let lines: String = (1..=servers).map(|last| format!("nameserver 127.0.0.{last}\n")).collect();
        let path = dir.path().join("resolv.conf");
        std::fs::write(&path, lines + more).expect("write");
        Self { world: World::new(), dns: Dns::at(&path, port), servers: all, spare, dir, port }
    }

    fn ask(&mut self, message: &[u8]) {
        self.dns.on_packet(&Bytes::udp(GUEST, DNS, message).packet(), &mut self.world.cx());
    }

    fn turn(&mut self) {
        let ready = self.world.ready();
        assert!(!ready.is_empty(), "nothing came");
        for (token, ready) in ready {
            self.dns.on_ready(token, ready, &mut self.world.cx());
        }
    }

    fn pass(&mut self, time: Duration) {
        self.world.now += time;
        self.dns.on_time(&mut self.world.cx());
    }

    /// What the guest was answered.
    fn answer(&mut self) -> Vec<u8> {
        let sent = self.world.only();
        assert_eq!((sent.header.source, sent.header.destination), (address("10.0.2.3"), address("10.0.2.100")));
        assert_eq!(sent.bytes[..4], [0, 53, 0x13, 0x88]);
        sent.bytes[8..].to_vec()
    }
}

fn listen(address: String) -> UdpSocket {
    let socket = UdpSocket::bind(address).expect("bind");
    socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a time-out");
    socket
}

/// Sockets at so many addresses and at 127.0.0.9, all on one port.
fn listen_at(servers: u8) -> Option<(Vec<UdpSocket>, u16)> {
    let first = listen("127.0.0.1:0".to_owned());
    let port = first.local_addr().expect("an address").port();
    let others = (2..=servers).chain([9]).map(|last| UdpSocket::bind((Ipv4Addr::new(127, 0, 0, last), port)).ok());
    let mut all = vec![first];
    for other in others {
        let other = other?;
        other.set_read_timeout(Some(Duration::from_secs(5))).expect("a time-out");
        all.push(other);
    }
    Some((all, port))
}

fn heard(server: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = vec![0; 1 << 16];
    let (length, from) = server.recv_from(&mut buffer).expect("a query");
    buffer.truncate(length);
    (buffer, from)
}

/// An answer with a flag that we know nothing of, and bytes behind it.
fn answer(query: &[u8], rcode: u8, length: usize) -> Vec<u8> {
    let mut message = query.to_vec();
    message[2] |= 0x80;
    message[3] = 0x20 | rcode;
    message.resize(message.len().max(length), 0xab);
    message
}

#[test]
fn queries_and_answers_are_passed_on_as_they_are() {
    let mut names = Names::new(1, "");
    for length in [0, 4096, 60_000] {
        let asked = query(0x1234, "www.example.org", A);
        names.ask(&asked);
        let (got, from) = heard(&names.servers[0]);
        assert_eq!(got[2..], asked[2..]);
        let reply = answer(&got, 0, length);
        names.servers[0].send_to(&reply, from).expect("send");
        names.turn();
        let told = names.answer();
        assert!(told[..2] == [0x12, 0x34] && told[2..] == reply[2..]);
        assert_eq!((names.dns.asked.len(), names.dns.tokens.len()), (0, 0));
    }
    names.pass(Duration::from_secs(60));
    assert_eq!(names.dns.next_deadline(), None);
}

#[test]
fn nobody_guesses_what_is_asked_with() {
    let mut names = Names::new(1, "");
    let mut seen = std::collections::HashSet::new();
    for id in 0..32 {
        names.ask(&query(id, "www.example.org", A));
        let (got, from) = heard(&names.servers[0]);
        seen.insert((u16::from_be_bytes([got[0], got[1]]), from.port()));
    }
    assert!(seen.len() == 32 && seen.iter().map(|(id, _)| id).collect::<std::collections::HashSet<_>>().len() > 24);
}

#[test]
fn forged_answers() {
    let mut names = Names::new(1, "");
    names.ask(&query(7, "www.example.org", A));
    let (got, from) = heard(&names.servers[0]);
    let good = answer(&got, 0, 0);
    // From elsewhere: the kernel does not even show it.
    listen("127.0.0.2:0".to_owned()).send_to(&good, from).expect("send");
    assert!(names.world.is_quiet());
    let mut other_id = good.clone();
    other_id[0] ^= 1;
    let mut other_name = good.clone();
    other_name[13] ^= 1;
    for bad in [&other_id[..], &other_name, &got, b"", b"x", &good[..12]] {
        names.servers[0].send_to(bad, from).expect("send");
    }
    names.turn();
    assert_eq!((names.world.link.packets.len(), names.dns.asked.len()), (0, 1));
    names.servers[0].send_to(&good, from).expect("send");
    names.turn();
    assert_eq!(names.answer()[2..], good[2..]);
}

#[test]
fn one_resolver_after_the_other() {
    let mut names = Names::new(2, "options timeout:3 attempts:2\n");
    names.ask(&query(7, "www.example.org", A));
    for server in [0, 1, 0, 1] {
        heard(&names.servers[server]);
        assert_eq!(names.dns.next_deadline(), Some(names.world.now + Duration::from_secs(3)));
        names.pass(Duration::from_secs(2));
        assert!(names.world.link.packets.is_empty());
        names.pass(Duration::from_secs(1));
    }
    let told = names.answer();
    assert_eq!((&told[..2], told[2], told[3]), (&[0, 7][..], 0x81, 0x82));
    assert_eq!((names.dns.asked.len(), names.dns.next_deadline()), (0, None));
}

#[test]
fn who_asks_again_is_impatient() {
    let mut names = Names::new(2, "");
    let asked = query(7, "www.example.org", A);
    names.ask(&asked);
    heard(&names.servers[0]);
    names.ask(&asked);
    let (got, from) = heard(&names.servers[1]);
    assert_eq!(names.dns.asked.len(), 1);
    names.servers[1].send_to(&answer(&got, 0, 0), from).expect("send");
    names.turn();
    assert_eq!(names.answer()[3], 0x20);
    let second = SocketAddr::from(([127, 0, 0, 2], names.port));
    assert_eq!(names.dns.resolver_for_tcp(names.world.now), Some(second));
    // The same number for another name is another query.
    names.ask(&asked);
    names.ask(&query(7, "www.example.com", A));
    heard(&names.servers[0]);
    assert_eq!(heard(&names.servers[0]).0[2..], query(7, "www.example.com", A)[2..]);
}

#[test]
fn who_is_of_no_use_is_passed_over() {
    let mut names = Names::new(3, "");
    names.servers.remove(0);
    names.ask(&query(7, "www.example.org", A));
    // Nobody listens at the first, the second refuses.
    names.turn();
    let (got, from) = heard(&names.servers[0]);
    names.servers[0].send_to(&answer(&got, 5, 0), from).expect("send");
    names.turn();
    let (got, from) = heard(&names.servers[1]);
    names.servers[1].send_to(&answer(&got, 2, 0), from).expect("send");
    names.turn();
    assert_eq!(names.answer()[3], 0x22, "the last one's word is passed on");
}

#[test]
fn nobody_there() {
    let mut names = Names::new(1, "");
    names.servers.clear();
    names.ask(&query(7, "www.example.org", A));
    while names.world.link.packets.is_empty() {
        names.turn();
    }
    assert_eq!(names.answer()[..4], [0, 7, 0x81, 0x82]);
    std::fs::write(names.dir.path().join("resolv.conf"), "nameserver 127.0.0.9\n").expect("write");
    names.world.now += Duration::from_secs(1);
    names.ask(&query(8, "www.example.org", A));
    heard(&names.spare);
    assert_eq!(names.dns.resolver_for_tcp(names.world.now), names.spare.local_addr().ok());
}

#[test]
fn what_is_known_here() {
    let mut names = Names::new(1, "");
    names.world.config.host = HostAddresses { v4: Some([192, 0, 2, 9].into()), v6: None };
    names.ask(&query(7, "host.docker.internal", A));
    assert!(names.answer().ends_with(&[0, 4, 192, 0, 2, 9]));
    assert_eq!(names.dns.asked.len(), 0);
}

#[test]
fn no_more_than_so_many() {
    let mut names = Names::new(1, "");
    let drain = names.servers.remove(0);
    for id in 0..600 {
        names.ask(&query(id, "www.example.org", A));
        if usize::from(id) < MOST_QUERIES {
            heard(&drain);
        }
    }
    assert_eq!((names.dns.asked.len(), names.dns.tokens.len()), (MOST_QUERIES, MOST_QUERIES));
    assert_eq!(names.world.link.packets.len(), 600 - MOST_QUERIES);
    names.world.link.packets.clear();
    names.pass(Duration::from_secs(10));
    names.pass(Duration::from_secs(10));
    assert_eq!((names.dns.asked.len(), names.dns.tokens.len()), (0, 0));
    assert_eq!(names.world.link.packets.len(), MOST_QUERIES);
    names.world.link.packets.clear();
    names.ask(&[&query(1, "www.example.org", A)[..], &[0; 4096]].concat());
    assert_eq!(names.answer()[3], 0x82);
}

#[test]
fn what_is_no_query() {
    let mut names = Names::new(1, "");
    for nothing in [&b""[..], b"hello", &answer(&query(7, "www.example.org", A), 0, 0)] {
        names.ask(nothing);
    }
    for (from, to) in [("10.0.2.99:1", DNS), (GUEST, "10.0.2.2:53"), (GUEST, "192.0.2.1:53")] {
        let message = query(7, "www.example.org", A);
        names.dns.on_packet(&Bytes::udp(from, to, &message).packet(), &mut names.world.cx());
    }
    assert_eq!((names.world.link.packets.len(), names.dns.asked.len()), (0, 0));
    names.dns.on_packet(&Bytes::udp(GUEST, "10.0.2.3:5353", b"x").packet(), &mut names.world.cx());
    let error = names.world.only();
    assert_eq!((error.header.source, &error.bytes[..2]), (address("10.0.2.3"), &[3, 3][..]));
    // Whoever asks in no way that we understand is passed on all the same.
    let odd = [0, 9, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0xff];
    names.ask(&odd);
    assert_eq!(heard(&names.servers[0]).0[2..], odd[2..]);
}
