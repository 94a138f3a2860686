//! Messages of the domain name system (RFC 1035), as far as one need look into them to pass them on.

use crate::config::HostAddresses;

/// Identifier, flags, and how many questions, answers, authorities and others there are.
const HEADER: usize = 12;

const RESPONSE: u8 = 0x80;
const OPCODE: u8 = 0x78;
const AUTHORITATIVE: u8 = 0x04;
const RECURSION_DESIRED: u8 = 0x01;
const RECURSION_AVAILABLE: u8 = 0x80;
const RCODE: u8 = 0x0f;

const NO_ERROR: u8 = 0;
pub(super) const SERVER_FAILURE: u8 = 2;
const NO_SUCH_NAME: u8 = 3;
const NOT_IMPLEMENTED: u8 = 4;
const REFUSED: u8 = 5;

const A: u16 = 1;
const AAAA: u16 = 28;
const INTERNET: u16 = 1;

/// The host's names, as Podman and Docker have them.
pub const HOST_NAMES: [&str; 2] = ["host.containers.internal", "host.docker.internal"];
/// For how long what they stand for may be remembered, in seconds.
const REMEMBER: u32 = 60;

/// The one question of a message.
struct Question<'a> {
    /// In lower case, with dots between the labels.
    name: Vec<u8>,
    kind: u16,
    class: u16,
    /// As it is written.
    bytes: &'a [u8],
}

/// The identifier of a query; none where this is none.
pub(super) fn query_id(message: &[u8]) -> Option<u16> {
    let header = message.first_chunk::<HEADER>()?;
    (header[2] & RESPONSE == 0).then_some(u16::from_be_bytes([header[0], header[1]]))
}

/// Puts another identifier in; `message` is a query or an answer.
pub(super) fn set_id(message: &mut [u8], id: u16) {
    if let Some(place) = message.first_chunk_mut::<2>() {
        *place = id.to_be_bytes();
    }
}

/// Whether a message answers a query: it has its identifier, and its question where it has one at all (RFC 5452, 9.1).
pub(super) fn is_answer(message: &[u8], query: &[u8]) -> bool {
    let Some(header) = message.first_chunk::<HEADER>() else { return false };
    let same = match (Question::parse(message), Question::parse(query)) {
        (Some(one), Some(other)) => (one.name, one.kind, one.class) == (other.name, other.kind, other.class),
        // That it could not read the question is the only thing that a server says without one.
        (None, Some(_)) => header[4..6] == [0, 0] && header[3] & RCODE != NO_ERROR,
        (_, None) => true,
    };
    header[2] & RESPONSE != 0 && Some(&header[..2]) == query.get(..2) && same
}

/// Whether an answer says no more than that this server is of no use for it: another one may be (resolv.conf(5) says
/// nothing of it, but that is what the C libraries do).
pub(super) fn is_useless(answer: &[u8]) -> bool {
    answer.get(3).is_some_and(|flags| matches!(flags & RCODE, SERVER_FAILURE | NOT_IMPLEMENTED | REFUSED))
}

/// The answer to a query that got none.
pub(super) fn failure(query: &[u8], rcode: u8) -> Vec<u8> {
    response(query, rcode, &[])
}

/// The answer to a query for one of the host's names; none to others.
pub(super) fn about_host(query: &[u8], host: HostAddresses) -> Option<Vec<u8>> {
    let question = Question::parse(query)?;
    if !HOST_NAMES.iter().any(|name| name.as_bytes() == question.name) || question.class != INTERNET {
        return None;
    }
    let address = match question.kind {
        A => host.v4.map(|address| address.octets().to_vec()),
        AAAA => host.v6.map(|address| address.octets().to_vec()),
        _ => None,
    };
    let is_known = host.v4.is_some() || host.v6.is_some();
    let rcode = if is_known { NO_ERROR } else { NO_SUCH_NAME };
    let record = address.map(|address| {
        // The name that the question begins with, 12 bytes after the beginning (RFC 1035, 4.1.4).
        let mut record = vec![0xc0, HEADER as u8];
        record.extend(question.kind.to_be_bytes());
        record.extend(INTERNET.to_be_bytes());
        record.extend(REMEMBER.to_be_bytes());
        record.extend((address.len() as u16).to_be_bytes());
        record.extend(address);
        record
    });
    let mut message = response(query, rcode, record.as_slice());
    message[2] |= AUTHORITATIVE;
    Some(message)
}

fn response(query: &[u8], rcode: u8, answers: &[Vec<u8>]) -> Vec<u8> {
    let mut message = vec![0; HEADER];
    if let Some(header) = query.first_chunk::<HEADER>() {
        message[..2].copy_from_slice(&header[..2]);
        message[2] = RESPONSE | header[2] & (OPCODE | RECURSION_DESIRED);
    }
    message[3] = RECURSION_AVAILABLE | rcode;
    if let Some(question) = Question::parse(query) {
        message[5] = 1;
        message.extend(question.bytes);
    }
    message[7] = answers.len() as u8;
    message.extend(answers.iter().flatten());
    message
}

impl<'a> Question<'a> {
    fn parse(message: &'a [u8]) -> Option<Self> {
        let (header, rest) = message.split_first_chunk::<HEADER>()?;
        if header[4..6] != [0, 1] {
            return None;
        }
        let (mut name, mut at) = (Vec::new(), 0);
        loop {
            let length = usize::from(*rest.get(at)?);
            at += 1;
            if length == 0 {
                break;
            }
            // There is nothing yet that a compressed name could point to (RFC 1035, 4.1.4).
            let label = rest.get(at..at + length).filter(|_| length < 64 && at + length < 255)?;
            if !name.is_empty() {
                name.push(b'.');
            }
            name.extend(label.iter().map(u8::to_ascii_lowercase));
            at += length;
        }
        let fields = rest.get(at..)?.first_chunk::<4>()?;
        let field = |at: usize| u16::from_be_bytes([fields[at], fields[at + 1]]);
        Some(Self { name, kind: field(0), class: field(2), bytes: &rest[..at + 4] })
    }
}

/// A query for a name, with RD and an empty OPT record (RFC 6891).
#[cfg(test)]
pub(super) fn query(id: u16, name: &str, kind: u16) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    message.extend([RECURSION_DESIRED, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
    for label in name.split('.') {
        message.push(label.len() as u8);
        message.extend(label.as_bytes());
    }
    message.push(0);
    message.extend(kind.to_be_bytes());
    message.extend(INTERNET.to_be_bytes());
    message.extend([0, 0, 41, 0x10, 0, 0, 0, 0, 0, 0, 0]);
    message
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const HOST: HostAddresses = HostAddresses { v4: Some(Ipv4Addr::new(192, 0, 2, 7)), v6: None };

    #[test]
    fn the_hosts_names() {
        for name in ["host.containers.internal", "HOST.Docker.internal"] {
            let asked = query(0x1234, name, A);
            let answer = about_host(&asked, HOST).expect("an answer");
            assert!(is_answer(&answer, &asked));
            assert_eq!(answer[..12], [0x12, 0x34, 0x85, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
            let question = asked.len() - 11;
            assert_eq!(answer[12..question], asked[12..question]);
            assert_eq!(answer[question..], [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 7]);
            let nothing = about_host(&query(1, name, AAAA), HOST).expect("an answer");
            assert_eq!((nothing[3] & RCODE, nothing[7]), (NO_ERROR, 0));
            let unknown = about_host(&query(1, name, A), HostAddresses::default()).expect("an answer");
            assert_eq!((unknown[3] & RCODE, unknown[7]), (NO_SUCH_NAME, 0));
        }
        for other in ["host.containers.internal.example", "containers.internal", "x.host.docker.internal"] {
            assert_eq!(about_host(&query(1, other, A), HOST), None);
        }
    }

    #[test]
    fn what_is_an_answer() {
        let asked = query(7, "example.org", A);
        let good = failure(&asked, NO_ERROR);
        assert!(is_answer(&good, &asked) && is_answer(&failure(&query(7, "EXAMPLE.org", A), REFUSED), &asked));
        let mut bad = vec![
            failure(&query(8, "example.org", A), NO_ERROR),
            failure(&query(7, "example.com", A), NO_ERROR),
            failure(&query(7, "example.org", AAAA), NO_ERROR),
            asked.clone(),
            good[..11].to_vec(),
            // No question, and no error.
            good[..12].iter().enumerate().map(|(at, byte)| if at == 5 { 0 } else { *byte }).collect(),
        ];
        for bad in &bad {
            assert!(!is_answer(bad, &asked), "{bad:?}");
        }
        let format_error = bad.last_mut().expect("one");
        format_error[3] |= 1;
        assert!(is_answer(format_error, &asked));
        assert!(is_useless(&failure(&asked, REFUSED)) && !is_useless(&failure(&asked, NO_SUCH_NAME)));
    }

    #[test]
    fn whatever_bytes() {
        let asked = query(7, "host.docker.internal", A);
        for length in 0..asked.len() {
            for byte in [0, 1, 0x3f, 0x40, 0x80, 0xc0, 0xff] {
                let mut bytes = asked[..length].to_vec();
                if let Some(last) = bytes.last_mut() {
                    *last = byte;
                }
                bytes.extend(&asked[length..]);
                for bytes in [&bytes[..], &bytes[..length]] {
                    about_host(bytes, HOST);
                    is_answer(bytes, &asked);
                    is_answer(&asked, bytes);
                    assert!(failure(bytes, SERVER_FAILURE).len() >= HEADER);
                }
            }
        }
        // A name that is too long, of labels that are not.
        let long = query(7, &["a"; 200].join("."), A);
        assert!(Question::parse(&long).is_none());
        assert!(Question::parse(&query(7, &["a"; 126].join("."), A)).is_some());
    }
}
