//! Fuzz targets: what this crate reads that somebody else wrote.

use std::net::SocketAddr;
use std::time::Instant;

use rbox_fuzz::Shape;

use crate::config::Config;
use crate::egress::client_hello::tests::hello;
use crate::egress::testing::{A, CNAME, answer, query, query_with_edns, record, wire};
use crate::egress::{Answered, Asked, Egress, Look, Policy, Protocol, Verdict, look, nothing, refusal};

const NAME: &str = "a.example";

fn egress() -> Egress {
    let mut policy = Policy::default();
    policy.add("allow=a.example,*.b.example:443").expect("rules");
    Egress::new(policy, &Config::default())
}

// A query of a guest's. What is refused is refused in a way that is no query; what goes on has a name that is allowed.
rbox_fuzz::target!(
    ten_minutes dns_query,
    Shape::Bytes,
    [query(NAME, A), query_with_edns(NAME, A), query("x.b.example", 65), query("secret.example", 16)],
    |input: &[u8]| {
        let asked = egress().query(input);
        for reply in [refusal(input), nothing(input)].into_iter().flatten() {
            assert_eq!((&reply[..2], reply[2] & 0x80), (&input[..2], 0x80));
            assert_eq!(refusal(&reply), None);
        }
        if asked == Asked::Forward {
            let name = Egress::name_asked(input).expect("it was read");
            assert!(name.as_str() == NAME || name.as_str().ends_with(".b.example"), "{name}");
        }
    }
);

// An answer from somebody's server. Nobody is reached but whom it has an address for; nothing of this host's.
rbox_fuzz::target!(
    ten_minutes dns_answer,
    Shape::Bytes,
    [
        answer(NAME, A, &[record(&[0xc0, 12], A, 60, &[192, 0, 2, 1]), record(&wire("x"), A, 60, &[192, 0, 2, 2])]),
        answer(NAME, A, &[record(&[0xc0, 12], CNAME, 60, &wire("b.c")), record(&wire("b.c"), A, 9, &[192, 0, 2, 1])]),
    ],
    |input: &[u8]| {
        let (mut egress, now) = (egress(), Instant::now());
        let answered = egress.answer(&query(NAME, A), input, now);
        for (address, is_here) in [([192, 0, 2, 1], false), ([127, 0, 0, 1], true), ([10, 0, 2, 2], true)] {
            let verdict = egress.may_connect(Protocol::Tcp, SocketAddr::from((address, 443)), now);
            let there = input.windows(4).any(|window| window == address);
            let reached = verdict == Verdict::NeedsName;
            assert!(!reached || there && !is_here && answered == Answered::Pass, "{address:?}");
        }
    }
);

// The first bytes of a connection: what is made out stays so, however much more comes.
rbox_fuzz::target!(
    ten_minutes client_hello,
    Shape::Bytes,
    [hello(NAME), hello(""), [&[21, 3, 1, 0, 2, 1, 90][..], &hello(NAME)].concat(), b"\x80\x2e\x01\x03\x03".to_vec()],
    |input: &[u8]| {
        let mut known = Look::NeedMore;
        for length in 0..=input.len().min(2000) {
            let seen = look(&input[..length]);
            assert!(known == Look::NeedMore || seen == known, "{known:?}, {seen:?} with {length}");
            known = seen;
        }
        if let Look::Name(Some(name)) = look(input) {
            assert!(name.bytes().all(|byte| byte.is_ascii_graphic()) && !name.is_empty());
        }
    }
);
