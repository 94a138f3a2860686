//! DNS messages (RFC 1035, 4) as far as egress rules are about them: what is asked, what is answered, and how to say
//! no.
//!
//! All of it is read from bytes that may be anybody's. A query is read strictly: what goes on to a resolver has one
//! question and nothing besides but EDNS, so that nobody reads another name there than was judged here.

pub(super) mod answer;
pub(super) mod reply;

use super::name::Name;
use super::reader::Reader;

/// IN.
const INTERNET: u16 = 1;
const OPT: u16 = 41;
/// So many labels fit into a name of 255 bytes, and so many pointers are followed.
const MOST_LABELS: usize = 127;
/// A name on the wire, with the lengths of its labels and the root's.
const LONGEST_NAME: usize = 255;

const RESPONSE: u16 = 0x8000;
const OPCODE: u16 = 0x7800;
const TRUNCATED: u16 = 0x0200;

/// What is asked about a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) name: Name,
    /// The type of records asked for.
    pub(super) kind: u16,
}

/// A query.
#[derive(Debug)]
pub(super) struct Query {
    pub(super) question: Question,
    /// Where the question ends.
    end: usize,
    /// EDNS: the second half of what stands in the place of its record's TTL (RFC 6891, 6.1.3).
    edns: Option<u16>,
}

impl Query {
    /// None where it is no query, or one with more in it than a question.
    pub(super) fn parse(message: &[u8]) -> Option<Self> {
        let header = Header::parse(message)?;
        if header.flags & (RESPONSE | OPCODE) != 0 || header.answers != 0 || header.authorities != 0 {
            return None;
        }
        let (question, end) = question(message, &header)?;
        let mut rest = Reader(&message[end..]);
        let edns = match header.additional {
            0 => None,
            1 => Some(edns(&mut rest)?),
            _ => return None,
        };
        Some(Self { question, end, edns }).filter(|_| rest.is_empty())
    }
}

fn edns(rest: &mut Reader<'_>) -> Option<u16> {
    let (root, kind) = (rest.u8()?, rest.u16()?);
    let (_size, _rcode_and_version, flags) = (rest.u16()?, rest.u16()?, rest.u16()?);
    let _options = rest.long()?;
    Some(flags).filter(|_| root == 0 && kind == OPT)
}

#[derive(Debug, Clone, Copy)]
struct Header {
    flags: u16,
    questions: u16,
    answers: u16,
    authorities: u16,
    additional: u16,
}

impl Header {
    const LENGTH: usize = 12;

    fn parse(message: &[u8]) -> Option<Self> {
        let mut header = Reader(message);
        let _id = header.u16()?;
        Some(Self {
            flags: header.u16()?,
            questions: header.u16()?,
            answers: header.u16()?,
            authorities: header.u16()?,
            additional: header.u16()?,
        })
    }
}

/// The only question, and where it ends.
fn question(message: &[u8], header: &Header) -> Option<(Question, usize)> {
    let (name, end) = name(message, Header::LENGTH)?;
    let mut rest = Reader(message.get(end..)?);
    let (kind, class) = (rest.u16()?, rest.u16()?);
    Some((Question { name, kind }, end + 4)).filter(|_| header.questions == 1 && class == INTERNET)
}

/// The name that begins at `start`, and where what stands there ends.
///
/// A pointer leads to before where the part that it ends began (RFC 1035, 4.1.4: a prior occurrence), so there is no
/// loop; and there is nothing before the first one but the header.
fn name(message: &[u8], start: usize) -> Option<(Name, usize)> {
    let mut labels: Vec<&[u8]> = Vec::new();
    let (mut part, mut end, mut length) = (start, None, 1);
    let mut rest = Reader(message.get(start..)?);
    for _ in 0..=2 * MOST_LABELS {
        let first = rest.u8()?;
        match first >> 6 {
            0 if first == 0 => {
                let end = end.unwrap_or(message.len() - rest.0.len());
                return Some((Name::from_labels(labels), end));
            }
            0 => {
                length += 1 + usize::from(first);
                if length > LONGEST_NAME {
                    return None;
                }
                labels.push(rest.take(first.into())?);
            }
            3 => {
                let to = usize::from(first & 0x3f) << 8 | usize::from(rest.u8()?);
                end = end.or(Some(message.len() - rest.0.len()));
                if to >= part || to < Header::LENGTH {
                    return None;
                }
                part = to;
                rest = Reader(&message[to..]);
            }
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const A: u16 = 1;
    pub(crate) const AAAA: u16 = 28;
    pub(crate) const CNAME: u16 = 5;

    pub(crate) fn wire(name: &str) -> Vec<u8> {
        let labels = name.split('.').filter(|label| !label.is_empty());
        let mut bytes: Vec<u8> =
            labels.flat_map(|label| [&[label.len() as u8][..], label.as_bytes()].concat()).collect();
        bytes.push(0);
        bytes
    }

    fn header(flags: u16, counts: [u16; 4]) -> Vec<u8> {
        [0x1234, flags].into_iter().chain(counts).flat_map(u16::to_be_bytes).collect()
    }

    pub(crate) fn query(name: &str, kind: u16) -> Vec<u8> {
        [header(0x0100, [1, 0, 0, 0]), wire(name), kind.to_be_bytes().to_vec(), vec![0, 1]].concat()
    }

    pub(crate) fn query_with_edns(name: &str, kind: u16) -> Vec<u8> {
        let mut message = [query(name, kind), vec![0, 0, 41, 4, 208, 0, 0, 0x80, 0, 0, 0]].concat();
        message[11] = 1;
        message
    }

    pub(crate) fn record(owner: &[u8], kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
        let length = data.len() as u16;
        [owner, &kind.to_be_bytes(), &[0, 1], &ttl.to_be_bytes(), &length.to_be_bytes(), data].concat()
    }

    /// What answers a query.
    pub(crate) fn answer(name: &str, kind: u16, records: &[Vec<u8>]) -> Vec<u8> {
        let question = [wire(name), kind.to_be_bytes().to_vec(), vec![0, 1]].concat();
        [header(0x8180, [1, records.len() as u16, 0, 0]), question, records.concat()].concat()
    }

    #[test]
    fn a_question_is_read() {
        for message in [query("WWW.example.com", AAAA), query_with_edns("www.example.com", AAAA)] {
            let question = Query::parse(&message).expect("a query").question;
            assert_eq!((question.name.as_str(), question.kind), ("www.example.com", AAAA));
            for length in 0..message.len() {
                assert!(Query::parse(&message[..length]).is_none(), "{length}");
            }
        }
        assert_eq!(Query::parse(&query("", 2)).expect("a query").question.name.as_str(), "");
    }

    #[test]
    fn nothing_goes_along_with_it() {
        let good = query_with_edns("a.example", A);
        assert!(Query::parse(&good).is_some());
        assert!(Query::parse(&[&*good, b"x"].concat()).is_none());
        // A response; an update; two questions, or none; an answer; an authority; more than EDNS; no EDNS.
        for (place, byte) in [(2, 0x81), (2, 0x28), (5, 2), (5, 0), (7, 1), (9, 1), (11, 2), (11, 0)] {
            let mut other = good.clone();
            other[place] = byte;
            assert!(Query::parse(&other).is_none(), "{place}");
        }
        let mut chaos = query("a.example", A);
        *chaos.last_mut().expect("a byte") = 3;
        assert!(Query::parse(&chaos).is_none());
        // A question whose name is elsewhere: in the header, or in itself.
        for to in [0, 2, 12, 14] {
            let message = [header(0x0100, [1, 0, 0, 0]), vec![0xc0, to, 0, 1, 0, 1]].concat();
            assert!(Query::parse(&message).is_none(), "{to}");
        }
    }

    #[test]
    fn names_end() {
        let at_end =
            |start: usize, rest: &[u8]| name(&[&vec![0; start][..], rest].concat(), start).map(|(name, _)| name);
        assert_eq!(at_end(12, b"\x01a\0").expect("a name").as_str(), "a");
        // Pointers: to themselves, forwards, in a circle.
        assert_eq!(at_end(12, b"\xc0\x0c"), None);
        assert_eq!(at_end(12, b"\xc0\x0e\x01a\0"), None);
        assert_eq!(name(b"............\x01a\xc0\x0c", 12), None);
        assert_eq!(name(b"............\xc0\x0e\xc0\x0c", 14), None);
        // Other kinds of labels.
        assert_eq!(at_end(12, b"\x41a\0"), None);
        assert_eq!(at_end(12, b"\x81a\0"), None);
        // As long as may be, and one byte more.
        let longest = [&[&[63][..], &[b'a'; 63]].concat().repeat(3)[..], &[61], &[b'a'; 61], &[0]].concat();
        assert_eq!(longest.len(), LONGEST_NAME);
        assert!(at_end(12, &longest).is_some());
        let longer = [&[&[63][..], &[b'a'; 63]].concat().repeat(3)[..], &[62], &[b'a'; 62], &[0]].concat();
        assert_eq!(at_end(12, &longer), None);
        // Pointers to pointers to pointers.
        let mut chain = b"............\x01a\0\xc0\x0c".to_vec();
        for _ in 0..1000 {
            let to = chain.len() as u16 - 2;
            chain.extend((0xc000 | to).to_be_bytes());
        }
        assert!(name(&chain, 15 + 2 * 100).is_some());
        assert_eq!(name(&chain, chain.len() - 2), None);
    }

    #[test]
    fn a_name_may_lead_elsewhere_once_it_has_begun() {
        let message = b"............\x01b\x01c\0\x01a\xc0\x0cx";
        let (name, end) = name(message, 17).expect("a name");
        assert_eq!((name.as_str(), &message[end..]), ("a.b.c", &b"x"[..]));
    }
}
