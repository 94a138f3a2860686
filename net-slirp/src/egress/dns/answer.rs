//! The addresses in an answer.

use std::collections::HashMap;
use std::net::IpAddr;

use super::{Header, INTERNET, OPCODE, Question, RESPONSE, TRUNCATED, name, question};
use crate::egress::name::Name;
use crate::egress::reader::Reader;

const A: u16 = 1;
const CNAME: u16 = 5;
const AAAA: u16 = 28;
/// So many aliases are followed; resolvers stop at about as many.
const MOST_ALIASES: usize = 16;

/// What was answered about the question's name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// That name, and those that it is an alias of.
    pub(crate) names: Vec<Name>,
    /// Addresses of the last of these, each with how many seconds it holds, aliases included.
    pub(crate) addresses: Vec<(IpAddr, u32)>,
}

impl Answer {
    /// None where it is no answer to this question, or cannot be read. What an answer says of other names than the one
    /// asked for and its aliases is anybody's word, and left alone.
    pub(crate) fn parse(message: &[u8], asked: &Question) -> Option<Self> {
        let header = Header::parse(message)?;
        if header.flags & (RESPONSE | OPCODE) != RESPONSE {
            return None;
        }
        // Servers that understood nothing do not repeat the question.
        if header.questions == 0 && header.answers == 0 {
            return Some(Self { names: vec![asked.name.clone()], addresses: Vec::new() });
        }
        let (answered, end) = question(message, &header)?;
        if answered != *asked {
            return None;
        }
        let is_cut = header.flags & TRUNCATED != 0;
        Records::parse(message, end, header.answers, is_cut).map(|records| records.of(&asked.name))
    }
}

#[derive(Default)]
struct Records {
    aliases: HashMap<Name, (Name, u32)>,
    addresses: HashMap<Name, Vec<(IpAddr, u32)>>,
}

impl Records {
    fn parse(message: &[u8], mut at: usize, count: u16, is_cut: bool) -> Option<Self> {
        let mut records = Self::default();
        for _ in 0..count {
            match records.add(message, at) {
                Some(next) => at = next,
                None if is_cut => break,
                None => return None,
            }
        }
        Some(records)
    }

    /// Adds the record that begins there; says where the next one begins.
    fn add(&mut self, message: &[u8], at: usize) -> Option<usize> {
        let (owner, after) = name(message, at)?;
        let mut rest = Reader(message.get(after..)?);
        let (kind, class, ttl, data) = (rest.u16()?, rest.u16()?, rest.u32()?, rest.long()?.0);
        let next = message.len() - rest.0.len();
        if class != INTERNET {
            return Some(next);
        }
        let address = match kind {
            CNAME => {
                let (of, end) = name(message, next - data.len())?;
                if end != next {
                    return None;
                }
                // There is one of an owner at most (RFC 1034, 3.6.2).
                self.aliases.entry(owner).or_insert((of, ttl));
                return Some(next);
            }
            A => IpAddr::from(<[u8; 4]>::try_from(data).ok()?),
            AAAA => IpAddr::from(<[u8; 16]>::try_from(data).ok()?),
            _ => return Some(next),
        };
        self.addresses.entry(owner).or_default().push((address, ttl));
        Some(next)
    }

    fn of(mut self, asked: &Name) -> Answer {
        let (mut names, mut holds) = (vec![asked.clone()], u32::MAX);
        let mut last = asked.clone();
        while let Some((of, ttl)) = self.aliases.remove(&last) {
            holds = holds.min(seconds(ttl));
            names.push(of.clone());
            last = of;
            if names.len() > MOST_ALIASES {
                break;
            }
        }
        let addresses = self.addresses.remove(&last).unwrap_or_default();
        let addresses = addresses.into_iter().map(|(address, ttl)| (address, seconds(ttl).min(holds))).collect();
        Answer { names, addresses }
    }
}

/// A TTL with the first bit set is none (RFC 2181, 8).
fn seconds(ttl: u32) -> u32 {
    if ttl > i32::MAX as u32 { 0 } else { ttl }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{answer, query, record, wire};
    use super::*;
    use crate::egress::dns::Query;

    type Addresses = Vec<(String, u32)>;

    fn read(name: &str, kind: u16, records: &[Vec<u8>]) -> Option<(Vec<String>, Addresses)> {
        let asked = Query::parse(&query(name, kind)).expect("a query").question;
        let answer = Answer::parse(&answer(name, kind, records), &asked)?;
        let addresses = answer.addresses.iter().map(|(address, ttl)| (address.to_string(), *ttl)).collect();
        Some((answer.names.iter().map(Name::to_string).collect(), addresses))
    }

    fn addresses(name: &str, kind: u16, records: &[Vec<u8>]) -> Addresses {
        read(name, kind, records).expect("an answer").1
    }

    fn pair(address: &str, ttl: u32) -> (String, u32) {
        (address.to_owned(), ttl)
    }

    const SELF: &[u8] = &[0xc0, 12];

    #[test]
    fn addresses_of_the_name_and_of_its_aliases() {
        let two = [record(SELF, A, 300, &[192, 0, 2, 1]), record(SELF, A, 10, &[192, 0, 2, 2])];
        assert_eq!(addresses("a.example", A, &two), [pair("192.0.2.1", 300), pair("192.0.2.2", 10)]);
        let mut address = [0; 16];
        (address[0], address[1], address[15]) = (0x20, 0x01, 9);
        assert_eq!(addresses("a.example", AAAA, &[record(SELF, AAAA, 5, &address)]), [pair("2001::9", 5)]);
        // In whatever order; the shortest time along the way counts.
        let chain = [
            record(&wire("edge.cdn.net"), A, 300, &[192, 0, 2, 1]),
            record(&wire("B.example"), CNAME, 20, &wire("edge.CDN.net")),
            record(SELF, CNAME, 100, &wire("b.example")),
        ];
        let (names, found) = read("a.example", A, &chain).expect("an answer");
        assert_eq!(names, ["a.example", "b.example", "edge.cdn.net"]);
        assert_eq!(found, [pair("192.0.2.1", 20)]);
        // The first bit set.
        assert_eq!(addresses("a.example", A, &[record(SELF, A, 1 << 31, &[192, 0, 2, 1])]), [pair("192.0.2.1", 0)]);
    }

    #[test]
    fn what_is_said_of_others_is_left_alone() {
        let records = [
            record(SELF, A, 300, &[192, 0, 2, 1]),
            record(&wire("b.example"), A, 300, &[192, 0, 2, 2]),
            record(&wire("b.example"), CNAME, 300, &wire("a.example")),
            record(SELF, 16, 300, b"\x03txt"),
        ];
        assert_eq!(addresses("a.example", A, &records), [pair("192.0.2.1", 300)]);
        // An alias has no addresses of its own.
        let both = [record(SELF, CNAME, 9, &wire("b.example")), record(SELF, A, 300, &[192, 0, 2, 1])];
        assert_eq!(addresses("a.example", A, &both), []);
        let circle = [
            record(SELF, CNAME, 9, &wire("b.example")),
            record(&wire("b.example"), CNAME, 9, &wire("a.example")),
            record(&wire("b.example"), A, 9, &[192, 0, 2, 1]),
        ];
        assert_eq!(addresses("a.example", A, &circle), []);
    }

    #[test]
    fn an_answer_is_to_the_question() {
        let asked = |name, kind| Query::parse(&query(name, kind)).expect("a query").question;
        let good = answer("a.example", A, &[record(SELF, A, 300, &[192, 0, 2, 1])]);
        assert!(Answer::parse(&good, &asked("A.Example", A)).is_some());
        assert_eq!(Answer::parse(&good, &asked("b.example", A)), None);
        assert_eq!(Answer::parse(&good, &asked("a.example", AAAA)), None);
        assert_eq!(Answer::parse(&query("a.example", A), &asked("a.example", A)), None);
        for length in 0..good.len() {
            assert_eq!(Answer::parse(&good[..length], &asked("a.example", A)), None, "{length}");
        }
        // A server that did not understand: a header alone.
        let header = [0x12, 0x34, 0x81, 0x01, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(Answer::parse(&header, &asked("a.example", A)).expect("an answer").addresses, []);
    }

    #[test]
    fn what_cannot_be_read_is_none_unless_it_says_that_it_was_cut() {
        for record in [
            record(SELF, A, 1, &[1, 2, 3]),
            record(SELF, AAAA, 1, &[1, 2, 3, 4]),
            record(SELF, CNAME, 1, &[1, b'a']),
            record(SELF, CNAME, 1, &[1, b'a', 0, 0]),
            record(&[0xc0, 200], A, 1, &[1, 2, 3, 4]),
        ] {
            assert_eq!(read("a.example", A, std::slice::from_ref(&record)), None, "{record:x?}");
        }
        let asked = Query::parse(&query("a.example", A)).expect("a query").question;
        let mut cut = answer("a.example", A, &[record(SELF, A, 1, &[1, 2, 3, 4]), record(SELF, A, 1, &[1, 2, 3, 4])]);
        cut.truncate(cut.len() - 3);
        assert_eq!(Answer::parse(&cut, &asked), None);
        cut[2] |= 0x02;
        assert_eq!(Answer::parse(&cut, &asked).expect("an answer").addresses.len(), 1);
    }

    #[test]
    fn long_ways_end() {
        let alias = |number: usize| wire(&if number == 0 { "a.example".into() } else { format!("n{number}.example") });
        let way = |length: usize| {
            let mut records: Vec<_> =
                (0..length).map(|number| record(&alias(number), CNAME, 9, &alias(number + 1))).collect();
            records.push(record(&alias(length), A, 9, &[192, 0, 2, 1]));
            read("a.example", A, &records).expect("an answer")
        };
        assert_eq!(way(15).1.len(), 1);
        assert_eq!(way(500).0.len(), MOST_ALIASES + 1);
        assert_eq!(way(500).1, []);
    }
}
