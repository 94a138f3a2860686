use std::net::UdpSocket;

use super::*;
use crate::config::Published;
use crate::testing::{Bytes, World, address};

const GUEST: &str = "10.0.2.100:5000";
const GUEST_V6: &str = "[fd00::100]:5000";

fn reaching_the_host() -> (World, Udp) {
    let mut world = World::new();
    world.config.allow_host_loopback = true;
    (world, Udp::new())
}

fn listen(text: &str) -> UdpSocket {
    let socket = UdpSocket::bind(text).expect("bind");
    socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a time-out");
    socket
}

fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = vec![0; 1 << 16];
    let (length, from) = socket.recv_from(&mut buffer).expect("a datagram");
    buffer.truncate(length);
    (buffer, from)
}

fn port(socket: &UdpSocket) -> u16 {
    socket.local_addr().expect("an address").port()
}

/// The gateway's address with a socket's port.
fn by_gateway(socket: &UdpSocket) -> String {
    let address = socket.local_addr().expect("an address");
    format!("{}:{}", if address.is_ipv6() { "[fd00::2]" } else { "10.0.2.2" }, address.port())
}

fn send(udp: &mut Udp, world: &mut World, from: &str, to: &str, payload: &[u8]) {
    udp.on_packet(&Bytes::udp(from, to, payload).packet(), &mut world.cx());
}

/// Hands on what is ready until something is sent to the guest.
fn turn(udp: &mut Udp, world: &mut World) {
    while world.link.packets.is_empty() {
        let ready = world.ready();
        assert!(!ready.is_empty(), "nothing came");
        for (token, ready) in ready {
            udp.on_ready(token, ready, &mut world.cx());
        }
    }
}

/// The source, the destination and the data of the only datagram that was sent to the guest.
fn sent(world: &mut World) -> (String, String, Vec<u8>) {
    let sent = world.only();
    assert_eq!(sent.header.protocol, IpProtocol::Udp);
    let port = |at: usize| u16::from_be_bytes([sent.bytes[at], sent.bytes[at + 1]]);
    assert_eq!(usize::from(port(4)), sent.bytes.len());
    let text = |address, port| SocketAddr::new(address, port).to_string();
    (text(sent.header.source, port(0)), text(sent.header.destination, port(2)), sent.bytes[8..].to_vec())
}

fn there_and_back(loopback: &str, guest: &str) {
    let (mut world, mut udp) = reaching_the_host();
    let (one, other) = (listen(loopback), listen(loopback));
    for payload in [&b"hello"[..], b"", &[7; 65507]] {
        send(&mut udp, &mut world, guest, &by_gateway(&one), payload);
        let (data, from) = receive(&one);
        assert_eq!(data, payload);
        one.send_to(payload, from).expect("send");
        turn(&mut udp, &mut world);
        assert_eq!(sent(&mut world), (by_gateway(&one), guest.to_owned(), payload.to_vec()));
    }
    // To all it is the same, and from all ports of who was spoken to can it be reached.
    send(&mut udp, &mut world, guest, &by_gateway(&one), b"1");
    send(&mut udp, &mut world, guest, &by_gateway(&other), b"2");
    let (from, same) = (receive(&one).1, receive(&other).1);
    assert_eq!(from, same);
    listen(loopback).send_to(b"third", from).expect("send");
    turn(&mut udp, &mut world);
    assert_eq!(sent(&mut world).2, b"third");
    assert_eq!((udp.places.len(), udp.flows.len()), (1, 1));
}

#[test]
fn both_families() {
    there_and_back("127.0.0.1:0", GUEST);
    there_and_back("[::1]:0", GUEST_V6);
}

#[test]
fn strangers_are_not_heard() {
    let (mut world, mut udp) = reaching_the_host();
    let friend = listen("127.0.0.1:0");
    send(&mut udp, &mut world, GUEST, &by_gateway(&friend), b"x");
    let (_, from) = receive(&friend);
    // As one of the host's other addresses would be.
    world.config.v4.as_mut().expect("IPv4").gateway = [10, 0, 2, 9].into();
    friend.send_to(b"stranger", from).expect("send");
    for (token, ready) in world.ready() {
        udp.on_ready(token, ready, &mut world.cx());
    }
    assert!(world.is_quiet() && world.link.packets.is_empty());
}

#[test]
fn where_the_guest_has_no_business() {
    let (mut world, mut udp) = (World::new(), Udp::new());
    let host = listen("127.0.0.1:0");
    for refused in [by_gateway(&host), format!("127.0.0.1:{}", port(&host)), "10.0.2.3:1".to_owned()] {
        send(&mut udp, &mut world, GUEST, &refused, b"x");
        let error = world.only();
        assert_eq!((error.header.source, &error.bytes[..2]), (address("10.0.2.2"), &[3, 13][..]), "{refused}");
    }
    send(&mut udp, &mut world, GUEST_V6, "[::ffff:127.0.0.1]:9", b"x");
    assert_eq!(world.only().bytes[..2], [1, 1]);
    for many in ["224.0.0.251:5353", "255.255.255.255:67", "10.0.2.255:137"] {
        send(&mut udp, &mut world, GUEST, many, b"x");
    }
    send(&mut udp, &mut world, GUEST_V6, "[ff02::fb]:5353", b"x");
    send(&mut udp, &mut world, "192.0.2.7:1", "192.0.2.1:9", b"x");
    assert_eq!((world.link.packets.len(), udp.places.len()), (0, 0));
}

fn nobody_listens(loopback: &str, guest: &str, kind: [u8; 2], ip: usize) {
    let (mut world, mut udp) = reaching_the_host();
    let closed = by_gateway(&listen(loopback));
    let question = Bytes::udp(guest, &closed, b"anybody?");
    udp.on_packet(&question.packet(), &mut world.cx());
    turn(&mut udp, &mut world);
    let error = world.only();
    assert_eq!(error.bytes[..2], kind);
    assert_eq!(error.header.source, closed.parse::<SocketAddr>().expect("an address").ip());
    // All but the checksums.
    assert_eq!(error.bytes[8 + ip..8 + ip + 6], question.0[ip..ip + 6]);
    assert_eq!(error.bytes[8 + ip + 8..], question.0[ip + 8..]);
    assert!(world.is_quiet(), "the error is gone");
    // And nothing of it is left for the next one.
    let open = listen(loopback);
    send(&mut udp, &mut world, guest, &by_gateway(&open), b"well?");
    assert_eq!(receive(&open).0, b"well?");
}

#[test]
fn port_unreachable() {
    nobody_listens("127.0.0.1:0", GUEST, [3, 3], 20);
    nobody_listens("[::1]:0", GUEST_V6, [1, 4], 40);
}

#[test]
fn an_error_does_not_stop_what_comes_after_it() {
    let (mut world, mut udp) = reaching_the_host();
    let (closed, open) = (by_gateway(&listen("127.0.0.1:0")), listen("127.0.0.1:0"));
    send(&mut udp, &mut world, GUEST, &closed, b"lost");
    send(&mut udp, &mut world, GUEST, &by_gateway(&open), b"heard");
    assert_eq!(receive(&open).0, b"heard");
    assert_eq!(world.only().bytes[..2], [3, 3]);
}

#[test]
fn hops() {
    let (mut world, mut udp) = reaching_the_host();
    let open = listen("127.0.0.1:0");
    for hops in [0, 1] {
        udp.on_packet(&Bytes::udp(GUEST, &by_gateway(&open), b"x").with_hops(hops).packet(), &mut world.cx());
        let error = world.only();
        assert_eq!((error.header.source, &error.bytes[..2]), (address("10.0.2.2"), &[11, 0][..]));
    }
    udp.on_packet(&Bytes::udp(GUEST, &by_gateway(&open), b"x").with_hops(9).packet(), &mut world.cx());
    receive(&open);
    let Some((_, Place::Port(port))) = udp.places.iter(Owner::Udp).next() else { panic!("a port") };
    assert_eq!(port.socket.ttl().expect("a time to live"), 8);
}

#[test]
fn what_is_not_used_is_forgotten() {
    let (mut world, mut udp) = reaching_the_host();
    let open = listen("127.0.0.1:0");
    let begin = world.now;
    send(&mut udp, &mut world, GUEST, "10.0.2.2:53", b"x");
    send(&mut udp, &mut world, "10.0.2.100:6000", &by_gateway(&open), b"x");
    let (_, from) = receive(&open);
    assert_eq!(udp.next_deadline(), Some(begin + Duration::from_secs(30)));
    world.now = begin + Duration::from_secs(120);
    udp.on_time(&mut world.cx());
    assert_eq!((udp.places.len(), udp.ports.len()), (1, 1));
    // What comes in counts.
    open.send_to(b"y", from).expect("send");
    turn(&mut udp, &mut world);
    world.now = begin + Duration::from_secs(419);
    udp.on_time(&mut world.cx());
    assert_eq!(udp.places.len(), 1);
    world.now = begin + Duration::from_secs(420);
    udp.on_time(&mut world.cx());
    assert_eq!((udp.places.len(), udp.ports.len(), udp.flows.len(), udp.next_deadline()), (0, 0, 0, None));
}

/// Lets time go on until then; gives how often anybody was woken for that.
fn sleep(udp: &mut Udp, world: &mut World, until: Instant) -> usize {
    let mut woken = 0;
    while let Some(at) = udp.next_deadline().filter(|at| *at <= until) {
        world.now = at;
        udp.on_time(&mut world.cx());
        assert!(udp.next_deadline().is_none_or(|next| next > at), "nobody would ever sleep");
        woken += 1;
    }
    world.now = until;
    woken
}

/// Who speaks every four minutes and who only listens are kept for all of it (RFC 4787, REQ-6), by the same port; who
/// has spoken once, five minutes.
#[test]
fn a_day_of_flows() {
    const MINUTE: Duration = Duration::from_secs(60);
    let (mut world, mut udp) = reaching_the_host();
    let (begin, open) = (world.now, listen("127.0.0.1:0"));
    let (speaks, listens, once) = (GUEST, "10.0.2.100:6000", "10.0.2.100:7000");
    let ports = [speaks, listens].map(|guest| {
        send(&mut udp, &mut world, guest, &by_gateway(&open), b"x");
        receive(&open).1
    });
    let mut woken = 0;
    for minute in 0..24 * 60 {
        woken += sleep(&mut udp, &mut world, begin + minute * MINUTE);
        if minute % 4 == 0 {
            send(&mut udp, &mut world, speaks, &by_gateway(&open), b"x");
            assert_eq!(receive(&open).1, ports[0]);
            open.send_to(b"y", ports[1]).expect("send");
            turn(&mut udp, &mut world);
            assert_eq!(sent(&mut world).1, listens);
        }
        match minute % 60 {
            0 => {
                send(&mut udp, &mut world, once, &by_gateway(&open), b"x");
                receive(&open);
            }
            1..5 => assert_eq!((udp.places.len(), udp.flows.len()), (3, 3)),
            5 => {}
            _ => assert_eq!((udp.places.len(), udp.flows.len(), udp.ports.len()), (2, 2, 2)),
        }
    }
    assert!(woken < 24 * 60, "woken {woken} times");
    let end = world.now + KEEP + MINUTE;
    sleep(&mut udp, &mut world, end);
    assert_eq!((udp.places.len(), udp.ports.len(), udp.flows.len(), udp.next_deadline()), (0, 0, 0, None));
}

#[test]
fn no_more_than_so_many() {
    let (mut world, mut udp) = reaching_the_host();
    udp.flows = Idle::new(64);
    let open = listen("127.0.0.1:0");
    for port in 1000..1300 {
        world.now += Duration::from_millis(1);
        send(&mut udp, &mut world, &format!("10.0.2.100:{port}"), &by_gateway(&open), b"x");
        assert_eq!(receive(&open).0, b"x");
        assert!(udp.places.len() <= 64 && udp.ports.len() == udp.places.len());
    }
    let guest = "10.0.2.100:1".parse().expect("an address");
    for last in 1..255 {
        world.now += Duration::from_millis(1);
        let flow = Flow { guest, outside: [192, 0, 2, last].into() };
        udp.begin(flow, KEEP, &mut world.cx()).expect("a port");
    }
    assert_eq!((udp.places.len(), udp.ports.len()), (1, 1));
    assert!(udp.flows.len() <= 64);
}

fn published(bound: &str) -> (World, Udp, u16) {
    let (mut world, mut udp) = (World::new(), Udp::new());
    let socket = UdpSocket::bind(bound).expect("bind");
    socket.set_nonblocking(true).expect("nonblocking");
    let outer = port(&socket);
    world.config.published.push(Published { socket: PublishedSocket::Udp(socket), guest_port: 5000 });
    udp.start(&mut world.cx()).expect("start");
    (world, udp, outer)
}

fn clients(bound: &str, loopbacks: [&str; 2], guest: &str) {
    let (mut world, mut udp, outer) = published(bound);
    let clients = loopbacks.map(|loopback| (listen(&format!("{loopback}:0")), format!("{loopback}:{outer}")));
    let mut seen = Vec::new();
    for (client, to) in &clients {
        client.send_to(b"question", to).expect("send");
        turn(&mut udp, &mut world);
        let (from, to, data) = sent(&mut world);
        assert_eq!((from.clone(), to, data), (by_gateway(client), guest.to_owned(), b"question".to_vec()));
        seen.push(from);
    }
    for ((client, to), seen) in clients.iter().zip(&seen) {
        send(&mut udp, &mut world, guest, seen, seen.as_bytes());
        let (data, from) = receive(client);
        assert_eq!((data, from.to_string()), (seen.as_bytes().to_vec(), to.clone()));
    }
    assert!(world.link.packets.is_empty());
}

#[test]
fn clients_are_told_apart_and_answered_from_where_they_asked() {
    clients("0.0.0.0:0", ["127.0.0.1", "127.0.0.1"], GUEST);
    clients("0.0.0.0:0", ["127.0.0.1", "127.0.0.9"], GUEST);
    clients("127.0.0.1:0", ["127.0.0.1", "127.0.0.1"], GUEST);
    clients("[::]:0", ["[::1]", "[::1]"], GUEST_V6);
    clients("[::]:0", ["127.0.0.1", "127.0.0.7"], GUEST);
}

#[test]
fn clients_with_the_same_port() {
    let (mut world, mut udp, outer) = published("0.0.0.0:0");
    // Other tests have sockets on ports of all addresses.
    let two = || {
        let one = listen("127.0.0.1:0");
        UdpSocket::bind(("127.0.0.2", port(&one))).ok().map(|other| (one, other))
    };
    let (one, other) = std::iter::repeat_with(two).flatten().next().expect("a port");
    let mut seen = Vec::new();
    for (client, to) in [(&one, "127.0.0.1"), (&other, "127.0.0.2"), (&one, "127.0.0.1")] {
        client.send_to(b"x", (to, outer)).expect("send");
        turn(&mut udp, &mut world);
        seen.push(sent(&mut world).0);
    }
    assert_eq!(seen[0], by_gateway(&one));
    assert_eq!(seen[0], seen[2]);
    assert_ne!(seen[0], seen[1]);
    send(&mut udp, &mut world, GUEST, &seen[1], b"other");
    send(&mut udp, &mut world, GUEST, &seen[0], b"one");
    assert_eq!((receive(&one).0, receive(&other).0), (b"one".to_vec(), b"other".to_vec()));
}

#[test]
fn answers_are_not_for_ever() {
    let (mut world, mut udp, outer) = published("127.0.0.1:0");
    let client = listen("127.0.0.1:0");
    client.send_to(b"x", ("127.0.0.1", outer)).expect("send");
    turn(&mut udp, &mut world);
    let (seen, ..) = sent(&mut world);
    world.now += KEEP;
    udp.on_time(&mut world.cx());
    send(&mut udp, &mut world, GUEST, &seen, b"late");
    assert_eq!(world.only().bytes[..2], [3, 13]);
}
