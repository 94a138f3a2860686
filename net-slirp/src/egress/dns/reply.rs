//! Answers of our own, which say no.

use super::{Header, OPCODE, OPT, Query, RESPONSE};

const RECURSION_DESIRED: u16 = 0x0100;
const RECURSION_AVAILABLE: u16 = 0x0080;
const CHECKING_DISABLED: u16 = 0x0010;
const FORMAT_ERROR: u16 = 1;
const REFUSED: u16 = 5;
/// Of an answer over UDP, in bytes, that is never in parts: what DNS flag day 2020 agreed on.
const SIZE: u16 = 1232;
/// EDNS's DO: DNSSEC is understood.
const DNSSEC_OK: u16 = 0x8000;
/// An option of EDNS: an extended error (RFC 8914).
const EXTENDED_ERROR: u16 = 15;
const PROHIBITED: u16 = 18;
/// Shown by dig(1).
const WHY: &[u8] = b"egress rules";

/// Says that this is not answered here; none where it is no query at all.
pub fn refusal(query: &[u8]) -> Option<Vec<u8>> {
    let mut option = [EXTENDED_ERROR, 2 + WHY.len() as u16, PROHIBITED].map(u16::to_be_bytes).concat();
    option.extend_from_slice(WHY);
    reply(query, REFUSED, &option)
}

/// Says that there are no such records of a name.
pub fn nothing(query: &[u8]) -> Option<Vec<u8>> {
    reply(query, 0, &[])
}

fn reply(message: &[u8], rcode: u16, option: &[u8]) -> Option<Vec<u8>> {
    let header = Header::parse(message).filter(|header| header.flags & RESPONSE == 0)?;
    let flags = header.flags & (OPCODE | RECURSION_DESIRED | CHECKING_DISABLED) | RESPONSE | RECURSION_AVAILABLE;
    let id = &message[..2];
    let Some(query) = Query::parse(message) else {
        return Some([id, &(flags | FORMAT_ERROR).to_be_bytes(), &[0; 8]].concat());
    };
    let mut reply = [id, &(flags | rcode).to_be_bytes()].concat();
    reply.extend([1, 0, 0, query.edns.is_some().into()].map(u16::to_be_bytes).concat());
    reply.extend_from_slice(&message[Header::LENGTH..query.end]);
    if let Some(flags) = query.edns {
        reply.push(0);
        reply.extend([OPT, SIZE, 0, flags & DNSSEC_OK, option.len() as u16].map(u16::to_be_bytes).concat());
        reply.extend_from_slice(option);
    }
    Some(reply)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{A, query, query_with_edns};
    use super::*;
    use crate::egress::dns::answer::Answer;

    #[test]
    fn a_refusal_repeats_the_question() {
        let query = query("a.example", A);
        let refusal = refusal(&query).expect("a reply");
        assert_eq!(refusal[..12], [0x12, 0x34, 0x81, 0x85, 0, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(refusal[12..], query[12..]);
        assert_eq!(nothing(&query).expect("a reply")[3], 0x80);
    }

    #[test]
    fn whoever_understands_is_told_more() {
        let query = query_with_edns("a.example", A);
        let refusal = refusal(&query).expect("a reply");
        assert_eq!(refusal[..12], [0x12, 0x34, 0x81, 0x85, 0, 1, 0, 0, 0, 0, 0, 1]);
        let opt = &refusal[query.len() - 11..];
        assert_eq!(opt[..11], [0, 0, 41, 4, 208, 0, 0, 0x80, 0, 0, 18]);
        assert_eq!(opt[11..], *b"\0\x0f\0\x0e\0\x12egress rules");
        assert_eq!(nothing(&query).expect("a reply")[query.len() - 2..], [0, 0]);
    }

    #[test]
    fn replies_are_answers_without_addresses() {
        for message in [query("a.example", A), query_with_edns("a.example", A)] {
            let asked = Query::parse(&message).expect("a query").question;
            for reply in [refusal(&message), nothing(&message)] {
                let answer = Answer::parse(&reply.expect("a reply"), &asked).expect("an answer");
                assert_eq!(answer.addresses, []);
            }
        }
    }

    #[test]
    fn what_is_no_question_is_a_format_error_and_what_is_no_query_is_nothing() {
        let mut two = query("a.example", A);
        two[5] = 2;
        assert_eq!(refusal(&two).expect("a reply"), [0x12, 0x34, 0x81, 0x81, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(refusal(&two[..11]), None);
        two[2] |= 0x80;
        assert_eq!(refusal(&two), None);
    }
}
