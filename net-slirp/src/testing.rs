//! What the tests of the parts share: a network whose link keeps what is sent, and packets as a guest makes them.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use rbox_fuzz::Random;
use rbox_sys::epoll::{Epoll, Ready};
use smoltcp::wire::IpProtocol;

use crate::budget::Budget;
use crate::checksum;
use crate::config::Config;
use crate::context::Context;
use crate::dns::Dns;
use crate::echo::Echo;
use crate::egress::{Egress, Policy};
use crate::flow_log::FlowLog;
use crate::fragments::{self, Fragments};
use crate::icmp;
use crate::link::{self, IpHeader, Link};
use crate::neighbours;
use crate::packet::{Frame, Packet};
use crate::token::Token;
use crate::udp::Udp;

/// A network, and what is at hand in it.
pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) config: Config,
    pub(crate) link: Recorder,
    pub(crate) egress: Egress,
    pub(crate) log: FlowLog,
    pub(crate) errors: Budget,
    epoll: Epoll,
    buffer: Vec<u8>,
}

/// A link that keeps everything.
#[derive(Default)]
pub(crate) struct Recorder {
    pub(crate) packets: Vec<Sent>,
    pub(crate) arp: Vec<Vec<u8>>,
}

/// A packet that was sent to the guest.
pub(crate) struct Sent {
    pub(crate) header: IpHeader,
    /// The transport protocol's header, and what follows.
    pub(crate) bytes: Vec<u8>,
}

/// The bytes of a packet of the guest's.
pub(crate) struct Bytes(pub(crate) Vec<u8>);

impl World {
    pub(crate) fn new() -> Self {
        Self {
            now: Instant::now(),
            config: Config::default(),
            link: Recorder::default(),
            egress: Egress::new(Policy::default(), &Config::default()),
            log: FlowLog::new(None),
            errors: icmp::budget(),
            epoll: Epoll::new(64).expect("epoll_create"),
            buffer: vec![0; 1 << 16],
        }
    }

    pub(crate) fn cx(&mut self) -> Context<'_> {
        Context {
            now: self.now,
            config: &self.config,
            link: &mut self.link,
            epoll: &self.epoll,
            egress: &mut self.egress,
            log: &mut self.log,
            errors: &mut self.errors,
            buffer: &mut self.buffer,
        }
    }

    /// What is ready, once anything is; nothing after a moment.
    pub(crate) fn ready(&mut self) -> Vec<(Token, Ready)> {
        let ready = self.epoll.wait(Some(Duration::from_secs(5))).expect("epoll_wait");
        ready.map(|ready| (Token::decode(ready.token), ready)).collect()
    }

    /// Whether nothing at all is.
    pub(crate) fn is_quiet(&mut self) -> bool {
        self.epoll.wait(Some(Duration::from_millis(20))).expect("epoll_wait").count() == 0
    }

    /// The only packet that was sent since this was last asked.
    pub(crate) fn only(&mut self) -> Sent {
        let mut packets = std::mem::take(&mut self.link.packets);
        assert_eq!(packets.len(), 1, "packets");
        packets.remove(0)
    }
}

impl Link for Recorder {
    fn send(&mut self, header: IpHeader, transport: &[u8], payload: &[u8], _segment: Option<usize>) {
        self.packets.push(Sent { header, bytes: [transport, payload].concat() });
    }

    fn send_arp(&mut self, body: &[u8]) {
        self.arp.push(body.to_vec());
    }
}

impl Bytes {
    /// With these bytes behind the IP header, and the right checksum in them.
    pub(crate) fn new(source: &str, destination: &str, protocol: IpProtocol, payload: &[u8]) -> Self {
        let (source, destination) = (address(source), address(destination));
        let mut bytes = vec![0; 40];
        let header = IpHeader { source, destination, protocol };
        let length = link::emit_ip(header, payload.len(), &mut bytes);
        bytes.truncate(length);
        bytes.extend_from_slice(payload);
        checksum::fill(source, destination, protocol, &mut bytes[length..]);
        Self(bytes)
    }

    pub(crate) fn udp(source: &str, destination: &str, payload: &[u8]) -> Self {
        let (source, destination): (SocketAddr, SocketAddr) =
            (source.parse().expect("a source"), destination.parse().expect("a destination"));
        let length = (8 + payload.len()) as u16;
        let mut datagram = Vec::new();
        for field in [source.port(), destination.port(), length, 0] {
            datagram.extend_from_slice(&field.to_be_bytes());
        }
        datagram.extend_from_slice(payload);
        Self::new(&source.ip().to_string(), &destination.ip().to_string(), IpProtocol::Udp, &datagram)
    }

    /// An echo request.
    pub(crate) fn echo(source: &str, destination: &str, id: u16, payload: &[u8]) -> Self {
        let (protocol, kind) = if source.contains(':') { (IpProtocol::Icmpv6, 128) } else { (IpProtocol::Icmp, 8) };
        let [high, low] = id.to_be_bytes();
        Self::new(source, destination, protocol, &[&[kind, 0, 0, 0, high, low, 0, 1], payload].concat())
    }

    /// The same with another time to live.
    pub(crate) fn with_hops(mut self, hops: u8) -> Self {
        let place = if self.0[0] >> 4 == 4 { 8 } else { 7 };
        self.0[place] = hops;
        self
    }

    pub(crate) fn packet(&self) -> Packet<'_> {
        match Frame::parse_ip(&self.0, false) {
            Some(Frame::Packet(packet)) => packet,
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// Frames that no honest guest sends, by way of everything but TCP: nothing panics, and nothing grows without limit.
///
/// No packet gets where it could leave this machine: those that are not refused are for the host's loopback or for us.
#[test]
fn whatever_a_guest_sends() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut world = World::new();
    world.config.allow_host_loopback = true;
    let (mut udp, mut echo, mut dns) = (Udp::new(), Echo::new(), Dns::at(&dir.path().join("resolv.conf"), 1));
    let mut fragments = Fragments::new();
    let mut random = Random::new(1);
    let solicitation = [&[135, 0, 0, 0, 0, 0, 0, 0][..], &[0xfd, 0], &[0; 13], &[2, 1, 1, 2, 3, 4, 5, 6, 7]].concat();
    let honest = [
        Bytes::udp("10.0.2.100:5000", "10.0.2.2:9", &[1; 40]),
        Bytes::udp("[fd00::100]:5000", "[fd00::2]:9", &[1; 40]),
        Bytes::udp("10.0.2.100:5000", "10.0.2.3:53", &[0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, b'a', 0, 0, 1, 0, 1]),
        Bytes::echo("10.0.2.100", "10.0.2.2", 1, &[2; 40]),
        Bytes::echo("fd00::100", "fd00::3", 1, &[2; 40]),
        Bytes::new("fd00::100", "fd00::2", IpProtocol::Icmpv6, &solicitation),
        Bytes::new("fd00::100", "fd00::2", IpProtocol::Ipv6Frag, &[17, 0, 0, 1, 0, 0, 0, 5, 0, 1, 0, 2, 0, 8, 1, 1]),
        Bytes::new("fd00::100", "fd00::2", IpProtocol::HopByHop, &[60, 0, 1, 4, 0, 0, 0, 0, 17, 0, 1, 4, 0, 0, 0, 0]),
    ];
    let mut passed = 0;
    for round in 0..100_000 {
        let honest = &honest[random.below(honest.len())].0;
        let mut bytes = honest.clone();
        for _ in 0..random.below(5) {
            let place = random.below(bytes.len());
            bytes[place] = random.below(256) as u8;
        }
        if random.below(4) == 0 {
            bytes.truncate(random.below(bytes.len()));
        }
        // Where it goes stays as it is.
        let to = if honest[0] >> 4 == 4 { 16..20 } else { 24..40 };
        if let (Some(place), Some(from)) = (bytes.get_mut(to.clone()), honest.get(to)) {
            place.copy_from_slice(from);
        }
        let trusted = random.below(2) == 0;
        let mut whole = None;
        let packet = match Frame::parse_ip(&bytes, trusted) {
            Some(Frame::Packet(packet)) => Some(packet),
            Some(Frame::Fragment(fragment)) => {
                whole = fragments.on_fragment(&fragment, world.now);
                whole.as_ref().and_then(fragments::Whole::packet)
            }
            Some(Frame::Arp(_)) | None => None,
        };
        let reached = |packet: &Packet<'_>| {
            ["10.0.2.2", "10.0.2.3", "fd00::2", "fd00::3"].contains(&&*packet.destination.to_string())
        };
        if let Some(packet) = packet.filter(reached) {
            passed += 1;
            let mut cx = world.cx();
            neighbours::on_packet(&packet, &mut cx);
            udp.on_packet(&packet, &mut cx);
            echo.on_packet(&packet, &mut cx);
            dns.on_packet(&packet, &mut cx);
        }
        drop(whole);
        neighbours::on_arp(&bytes, &mut world.cx());
        if round % 64 == 0 {
            world.now += Duration::from_secs(1);
            world.link.packets.clear();
            udp.on_time(&mut world.cx());
            echo.on_time(&mut world.cx());
            dns.on_time(&mut world.cx());
            fragments.on_time(world.now);
        }
    }
    assert!(passed > 10_000, "{passed}");
}
