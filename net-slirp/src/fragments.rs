//! Packets that come in parts (RFC 791 3.2, RFC 8200 4.5), put together.
//!
//! Parts that overlap make the whole packet void, in both families: no honest stack sends them, and who reads one thing
//! where another reads something else can be deceived (RFC 5722; Linux does the same with IPv4's). The same part twice
//! is none of these. What is void is remembered as such, so that the parts that are still to come are not taken for a
//! packet's.
//!
//! At most 64 packets are begun, of 1 MiB together with what it costs to keep their parts; the oldest make room. A
//! packet must be complete 30 seconds after its first part came, as Linux has it for IPv4, or 60 for IPv6.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use smoltcp::wire::IpProtocol;

use crate::link::{self, IpHeader};
use crate::packet::{Fragment, Frame, Packet};

const MOST_PACKETS: usize = 64;
const MOST_BYTES: usize = 1 << 20;
/// What a part costs besides its bytes; more than it does.
const PART: usize = 96;
/// The longest payload: IPv4's total length has the header in it.
const LONGEST_V4: usize = u16::MAX as usize - 20;
const LONGEST_V6: usize = u16::MAX as usize;

/// Packets of which parts are missing.
#[derive(Debug)]
pub(crate) struct Fragments {
    begun: HashMap<Key, Begun>,
    /// What all of them cost.
    bytes: usize,
}

/// A packet as if it had never been in parts: a plain IP header and the payload.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Whole(Vec<u8>);

/// What the parts of one packet have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    source: IpAddr,
    destination: IpAddr,
    /// IPv6 tells packets apart without it.
    protocol: Option<IpProtocol>,
    identification: u32,
}

#[derive(Debug)]
struct Begun {
    since: Instant,
    parts: BTreeMap<usize, Box<[u8]>>,
    /// How many bytes the parts have.
    bytes: usize,
    /// How many the packet has, once its last part is there.
    length: Option<usize>,
    /// Of the first part.
    first: Option<(IpProtocol, u8)>,
    void: bool,
}

impl Fragments {
    pub(crate) fn new() -> Self {
        Self { begun: HashMap::new(), bytes: 0 }
    }

    /// Takes a part; gives the packet if it was the last one missing.
    pub(crate) fn on_fragment(&mut self, fragment: &Fragment<'_>, now: Instant) -> Option<Whole> {
        let part = &fragment.part;
        let longest = if part.source.is_ipv6() { LONGEST_V6 } else { LONGEST_V4 };
        let bytes = part.payload;
        let is_odd = fragment.more && !bytes.len().is_multiple_of(8);
        if bytes.is_empty() || is_odd || fragment.offset + bytes.len() > longest {
            return None;
        }
        let key = Key {
            source: part.source,
            destination: part.destination,
            protocol: Some(part.protocol).filter(|_| part.source.is_ipv4()),
            identification: fragment.identification,
        };
        self.make_room(&key, bytes.len() + PART);
        let begun = self.begun.entry(key).or_insert_with(|| Begun::new(now));
        self.bytes -= begun.cost();
        begun.add(fragment);
        let complete = begun.is_complete().then(|| self.begun.remove(&key)).flatten();
        if complete.is_none() {
            self.bytes += self.begun.get(&key).map_or(0, Begun::cost);
        }
        complete.and_then(|begun| begun.put_together(part.source, part.destination))
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.begun.iter().map(|(key, begun)| begun.end(key)).min()
    }

    /// Gives up what is too old.
    pub(crate) fn on_time(&mut self, now: Instant) {
        self.begun.retain(|key, begun| begun.end(key) > now);
        self.bytes = self.begun.values().map(Begun::cost).sum();
    }

    fn make_room(&mut self, key: &Key, cost: usize) {
        while self.bytes + cost > MOST_BYTES || self.begun.len() >= MOST_PACKETS && !self.begun.contains_key(key) {
            let oldest = self.begun.iter().min_by_key(|(_, begun)| begun.since).map(|(key, _)| *key);
            let Some(oldest) = oldest.and_then(|oldest| self.begun.remove(&oldest)) else { return };
            self.bytes -= oldest.cost();
        }
    }
}

impl Begun {
    fn new(since: Instant) -> Self {
        Self { since, parts: BTreeMap::new(), bytes: 0, length: None, first: None, void: false }
    }

    fn end(&self, key: &Key) -> Instant {
        self.since + Duration::from_secs(if key.source.is_ipv6() { 60 } else { 30 })
    }

    fn cost(&self) -> usize {
        self.bytes + self.parts.len() * PART
    }

    fn add(&mut self, fragment: &Fragment<'_>) {
        let (start, bytes) = (fragment.offset, fragment.part.payload);
        let end = start + bytes.len();
        let before = self.parts.range(..end).next_back();
        if self.void || before.is_some_and(|(at, part)| *at == start && **part == *bytes) {
            return;
        }
        let overlaps = before.is_some_and(|(at, part)| at + part.len() > start);
        let last = self.parts.last_key_value().map_or(0, |(at, part)| at + part.len());
        let has_end = match self.length {
            Some(length) => end <= length && (fragment.more || end == length),
            None => fragment.more || last <= end,
        };
        if overlaps || !has_end {
            *self = Self { void: true, ..Self::new(self.since) };
            return;
        }
        if start == 0 {
            self.first = Some((fragment.part.protocol, fragment.part.hops));
        }
        if !fragment.more {
            self.length = Some(end);
        }
        self.bytes += bytes.len();
        self.parts.insert(start, bytes.into());
    }

    /// As no two parts overlap, they are all there when they are long enough.
    fn is_complete(&self) -> bool {
        self.length == Some(self.bytes)
    }

    fn put_together(self, source: IpAddr, destination: IpAddr) -> Option<Whole> {
        let (protocol, hops) = self.first?;
        let mut whole = Vec::with_capacity(40 + self.bytes);
        whole.resize(40, 0);
        let header = IpHeader { source, destination, protocol };
        let length = link::emit_ip(header, self.bytes, &mut whole);
        whole.truncate(length);
        link::set_hops(&mut whole, hops);
        whole.extend(self.parts.into_values().flatten());
        Some(Whole(whole))
    }
}

impl Whole {
    /// The packet. None where there was something else in the parts, such as parts of parts.
    pub(crate) fn packet(&self) -> Option<Packet<'_>> {
        match Frame::parse_ip(&self.0, false)? {
            Frame::Packet(packet) => Some(packet),
            Frame::Arp(_) | Frame::Fragment(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::address;
    use rbox_fuzz::Random;

    fn part<'a>(source: &str, identification: u32, offset: usize, payload: &'a [u8], more: bool) -> Fragment<'a> {
        let source = address(source);
        let destination = address(if source.is_ipv6() { "2001:db8::1" } else { "192.0.2.1" });
        let part =
            Packet { source, destination, protocol: IpProtocol::Udp, hops: 9, trusted: true, payload, whole: payload };
        Fragment { part, identification, offset, more }
    }

    fn cut<'a>(source: &str, data: &'a [u8], random: &mut Random) -> Vec<Fragment<'a>> {
        let (mut parts, mut at) = (Vec::new(), 0);
        while at < data.len() {
            let end = (at + 8 * (1 + random.below(200))).min(data.len());
            parts.push(part(source, 7, at, &data[at..end], end < data.len()));
            at = end;
        }
        parts
    }

    #[test]
    fn in_any_order() {
        let (now, mut random) = (Instant::now(), Random::new(1));
        let data: Vec<u8> = (0..LONGEST_V4).map(|_| random.below(256) as u8).collect();
        for round in 0..200 {
            let source = if round % 2 == 0 { "10.0.2.100" } else { "fd00::100" };
            let data = &data[..2 + random.below(data.len() - 2)];
            let mut parts = cut(source, data, &mut random);
            for at in (1..parts.len()).rev() {
                parts.swap(at, random.below(at + 1));
            }
            let twice = parts[random.below(parts.len())];
            let mut fragments = Fragments::new();
            let (last, others) = parts.split_last().expect("parts");
            for part in others {
                assert_eq!(fragments.on_fragment(part, now), None);
            }
            if twice.offset != last.offset {
                assert_eq!(fragments.on_fragment(&twice, now), None);
            }
            let whole = fragments.on_fragment(last, now).expect("all parts");
            let packet = whole.packet().expect("a packet");
            assert_eq!((packet.source, packet.protocol, packet.hops), (address(source), IpProtocol::Udp, 9));
            assert!(packet.payload == data && packet.whole == whole.0 && !packet.trusted);
            assert_eq!((fragments.bytes, fragments.next_deadline()), (0, None));
        }
    }

    #[test]
    fn what_overlaps_is_void() {
        for source in ["10.0.2.100", "fd00::100"] {
            let overlapping = [
                [(0, 16, true), (8, 16, true), (24, 8, false)],
                [(8, 16, true), (0, 16, true), (24, 8, false)],
                [(8, 8, true), (0, 24, true), (24, 8, false)],
                [(0, 24, true), (8, 8, true), (24, 8, false)],
                [(0, 8, true), (16, 8, false), (16, 16, true)],
                [(16, 8, true), (0, 16, false), (16, 8, true)],
                [(8, 8, false), (8, 16, false), (0, 8, true)],
            ];
            for parts in overlapping {
                let (mut fragments, now) = (Fragments::new(), Instant::now());
                for (offset, length, more) in parts {
                    let bytes = vec![offset as u8; length];
                    assert_eq!(fragments.on_fragment(&part(source, 1, offset, &bytes, more), now), None, "{parts:?}");
                }
            }
        }
        // What comes later is void as well, until it is forgotten.
        let (mut fragments, now) = (Fragments::new(), Instant::now());
        let data = [1; 16];
        fragments.on_fragment(&part("10.0.2.100", 1, 0, &data, true), now);
        fragments.on_fragment(&part("10.0.2.100", 1, 8, &data, true), now);
        let again = |fragments: &mut Fragments, now| {
            fragments.on_fragment(&part("10.0.2.100", 1, 0, &data, true), now);
            fragments.on_fragment(&part("10.0.2.100", 1, 16, &data, false), now).is_some()
        };
        assert!(!again(&mut fragments, now));
        let later = now + Duration::from_secs(30);
        assert_eq!(fragments.next_deadline(), Some(later));
        fragments.on_time(later);
        assert!(again(&mut fragments, later));
    }

    #[test]
    fn nonsense() {
        let (mut fragments, now) = (Fragments::new(), Instant::now());
        for (offset, length, more) in [(0, 0, true), (8, 0, false), (0, 7, true), (65528, 16, false), (65520, 24, true)]
        {
            let bytes = vec![0; length];
            for source in ["10.0.2.100", "fd00::100"] {
                fragments.on_fragment(&part(source, 1, offset, &bytes, more), now);
            }
        }
        assert_eq!(fragments.begun.len(), 0);
    }

    #[test]
    fn parts_of_parts_are_no_packet() {
        let (mut fragments, now) = (Fragments::new(), Instant::now());
        // Another fragment header, of more to come.
        let inner = [17, 0, 0, 1, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0];
        let mut first = part("fd00::100", 1, 0, &inner, true);
        first.part.protocol = IpProtocol::Ipv6Frag;
        assert_eq!(fragments.on_fragment(&first, now), None);
        let whole = fragments.on_fragment(&part("fd00::100", 1, 16, &[0; 8], false), now).expect("all parts");
        assert!(whole.packet().is_none());
    }

    #[test]
    fn no_more_than_so_much() {
        let (mut fragments, now, mut random) = (Fragments::new(), Instant::now(), Random::new(77));
        let bytes = vec![0; 1480 * 8];
        for number in 0..20_000 {
            let length = 8 * (1 + random.below(1480));
            let offset = 8 * random.below(4000);
            let fragment = part("10.0.2.100", number / 5, offset, &bytes[..length], random.below(4) > 0);
            fragments.on_fragment(&fragment, now + Duration::from_micros(number.into()));
            assert!(fragments.bytes <= MOST_BYTES && fragments.begun.len() <= MOST_PACKETS);
        }
        assert_eq!(fragments.bytes, fragments.begun.values().map(Begun::cost).sum::<usize>());
        fragments.on_time(now + Duration::from_secs(31));
        assert_eq!((fragments.bytes, fragments.begun.len()), (0, 0));
    }
}
