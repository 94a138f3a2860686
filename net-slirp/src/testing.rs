//! What the tests of the parts share: a network whose link keeps what is sent, and packets as a guest makes them.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use rbox_sys::epoll::{Epoll, Ready};
use smoltcp::wire::IpProtocol;

use crate::checksum;
use crate::config::{self, Config};
use crate::context::Context;
use crate::icmp::Budget;
use crate::link::{self, IpHeader, Link};
use crate::packet::{Frame, Packet};
use crate::token::Token;

/// A network, and what is at hand in it.
pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) config: Config,
    pub(crate) link: Recorder,
    pub(crate) errors: Budget,
    watcher: Epoll,
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
            config: config::tests::config(),
            link: Recorder::default(),
            errors: Budget::new(),
            watcher: Epoll::new(64).expect("epoll_create"),
            buffer: vec![0; 1 << 16],
        }
    }

    pub(crate) fn cx(&mut self) -> Context<'_> {
        Context {
            now: self.now,
            config: &self.config,
            link: &mut self.link,
            watcher: &mut self.watcher,
            errors: &mut self.errors,
            buffer: &mut self.buffer,
        }
    }

    /// What is ready, once anything is; nothing after a moment.
    pub(crate) fn ready(&mut self) -> Vec<(Token, Ready)> {
        let ready = self.watcher.wait(Some(Duration::from_secs(5))).expect("epoll_wait");
        ready.map(|ready| (Token::decode(ready.token), ready)).collect()
    }

    /// Whether nothing at all is.
    pub(crate) fn is_quiet(&mut self) -> bool {
        self.watcher.wait(Some(Duration::from_millis(20))).expect("epoll_wait").count() == 0
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
