use std::time::Duration;

use super::client_hello::tests::hello;
use super::dns::tests::{A, AAAA, CNAME, answer, query, record, wire};
use super::*;
use crate::config::Config;

const SELF: &[u8] = &[0xc0, 12];

/// Rules, and a clock.
struct Bench {
    egress: Egress,
    now: Instant,
}

impl Bench {
    fn new(options: &[&str]) -> Self {
        let mut policy = Policy::default();
        options.iter().for_each(|option| policy.add(option).expect("rules"));
        Self { egress: Egress::new(policy, &Config::default()), now: Instant::now() }
    }

    fn later(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    fn ask(&mut self, name: &str) -> Asked {
        self.egress.query(&query(name, A))
    }

    /// The guest asks, and is answered.
    fn resolve(&mut self, name: &str, address: &str, ttl: u32) -> Answered {
        assert_eq!(self.ask(name), Asked::Forward, "{name}");
        let (kind, data) = match address.parse().expect("an address") {
            IpAddr::V4(address) => (A, address.octets().to_vec()),
            IpAddr::V6(address) => (AAAA, address.octets().to_vec()),
        };
        self.answer(name, kind, &[record(SELF, kind, ttl, &data)])
    }

    fn answer(&mut self, name: &str, kind: u16, records: &[Vec<u8>]) -> Answered {
        self.egress.answer(&query(name, kind), &answer(name, kind, records), self.now)
    }

    fn connect(&mut self, protocol: Protocol, to: &str) -> Verdict {
        self.egress.may_connect(protocol, to.parse().expect("an address"), self.now)
    }

    fn tcp(&mut self, to: &str) -> Verdict {
        self.connect(Protocol::Tcp, to)
    }

    fn begin(&mut self, to: &str, bytes: &[u8]) -> Verdict {
        assert_eq!(self.tcp(to), Verdict::NeedsName, "{to}");
        self.egress.hello(to.parse().expect("an address"), &look(bytes), self.now)
    }

    fn refused(&self) -> Vec<(Reason, u64)> {
        self.egress.refusals().iter().filter(|(_, count)| *count > 0).collect()
    }
}

fn refused(reason: Reason) -> Verdict {
    Verdict::Refused(reason)
}

#[test]
fn without_rules_everything_is_let_through() {
    let mut bench = Bench::new(&[]);
    assert_eq!(bench.egress.dns_by_tcp(), Verdict::Allowed);
    assert_eq!(bench.egress.query(b"anything"), Asked::Forward);
    assert_eq!(bench.egress.answer(b"anything", b"anything", bench.now), Answered::Pass);
    assert_eq!(bench.resolve("a.example", "127.0.0.1", 60), Answered::Pass);
    assert_eq!(bench.tcp("192.0.2.1:443"), Verdict::Allowed);
}

#[test]
fn none_lets_nothing_through() {
    let mut bench = Bench::new(&["none"]);
    assert_eq!(bench.ask("a.example"), Asked::Refused(Reason::None));
    assert_eq!(bench.egress.dns_by_tcp(), refused(Reason::None));
    for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Echo] {
        assert_eq!(bench.connect(protocol, "192.0.2.1:443"), refused(Reason::None));
        assert_eq!(bench.connect(protocol, "[2001:db8::1]:443"), refused(Reason::None));
    }
    assert_eq!(bench.refused(), [(Reason::None, 8)]);
}

#[test]
fn addresses_need_no_name_and_give_none() {
    let mut bench = Bench::new(&["allow=192.0.2.0/24:443,198.51.100.1,2001:db8::/32:53"]);
    assert_eq!(bench.tcp("192.0.2.9:443"), Verdict::Allowed);
    assert_eq!(bench.connect(Protocol::Udp, "192.0.2.9:443"), Verdict::Allowed);
    assert_eq!(bench.tcp("192.0.2.9:80"), refused(Reason::Address));
    assert_eq!(bench.connect(Protocol::Echo, "192.0.2.9:0"), refused(Reason::Address));
    assert_eq!(bench.connect(Protocol::Echo, "198.51.100.1:0"), Verdict::Allowed);
    assert_eq!(bench.connect(Protocol::Udp, "[2001:db8::5]:53"), Verdict::Allowed);
    assert_eq!(bench.tcp("[2001:db9::5]:53"), refused(Reason::Address));
    assert_eq!(bench.ask("a.example"), Asked::Refused(Reason::Name));
    assert_eq!(bench.refused(), [(Reason::Address, 3), (Reason::Name, 1)]);
}

#[test]
fn only_what_was_answered_for_an_allowed_name_is_reached() {
    let mut bench = Bench::new(&["allow=a.example:443,*.b.example:80-81"]);
    assert_eq!(bench.tcp("192.0.2.1:443"), refused(Reason::Address));
    assert_eq!(bench.ask("other.example"), Asked::Refused(Reason::Name));
    assert_eq!(bench.ask("b.example"), Asked::Refused(Reason::Name));
    assert_eq!(bench.resolve("A.example", "192.0.2.1", 60), Answered::Pass);
    assert_eq!(bench.resolve("x.y.b.example", "2001:db8::1", 60), Answered::Pass);
    assert_eq!(bench.tcp("192.0.2.1:443"), Verdict::NeedsName);
    assert_eq!(bench.tcp("[2001:db8::1]:81"), Verdict::NeedsName);
    // Of another name's port, of another address, without a port.
    assert_eq!(bench.tcp("192.0.2.1:80"), refused(Reason::Address));
    assert_eq!(bench.tcp("[2001:db8::1]:443"), refused(Reason::Address));
    assert_eq!(bench.tcp("192.0.2.2:443"), refused(Reason::Address));
    assert_eq!(bench.connect(Protocol::Echo, "192.0.2.1:443"), refused(Reason::Address));
    // The time comes when nobody may have the answer in a cache.
    bench.later(89);
    assert_eq!(bench.tcp("192.0.2.1:443"), Verdict::NeedsName);
    bench.later(1);
    assert_eq!(bench.tcp("192.0.2.1:443"), refused(Reason::Address));
}

#[test]
fn a_name_that_changes_its_address_is_followed() {
    let mut bench = Bench::new(&["allow=a.example"]);
    bench.resolve("a.example", "192.0.2.1", 0);
    bench.later(20);
    bench.resolve("a.example", "192.0.2.2", 0);
    assert_eq!(bench.tcp("192.0.2.1:443"), Verdict::NeedsName);
    assert_eq!(bench.tcp("192.0.2.2:443"), Verdict::NeedsName);
    bench.later(20);
    assert_eq!(bench.tcp("192.0.2.1:443"), refused(Reason::Address));
    assert_eq!(bench.tcp("192.0.2.2:443"), Verdict::NeedsName);
}

#[test]
fn tls_asks_for_a_name_that_the_address_was_answered_for() {
    let mut bench = Bench::new(&["allow=a.example:443,b.example:443,c.example:8443"]);
    bench.resolve("a.example", "192.0.2.1", 60);
    bench.resolve("c.example", "192.0.2.1", 60);
    bench.resolve("b.example", "192.0.2.2", 60);
    let to = "192.0.2.1:443";
    assert_eq!(bench.begin(to, &hello("a.example")), Verdict::Allowed);
    assert_eq!(bench.begin(to, &hello("A.EXAMPLE.")), Verdict::Allowed);
    // Another server of the same address; one that is allowed elsewhere; one of another port; none at all.
    for other in ["evil.example", "b.example", "c.example", "x.a.example", "192.0.2.1", "*.example"] {
        assert_eq!(bench.begin(to, &hello(other)), refused(Reason::ServerName), "{other}");
    }
    assert_eq!(bench.begin(to, &hello("")), refused(Reason::NoServerName));
    assert_eq!(bench.begin(to, &hello("a.example")[..50]), Verdict::NeedsName);
    assert_eq!(bench.begin(to, b"GET / HTTP/1.1\r\n"), Verdict::Allowed);
    assert_eq!(bench.begin("192.0.2.1:8443", &hello("c.example")), Verdict::Allowed);
}

#[test]
fn where_an_address_is_allowed_any_name_is() {
    let mut bench = Bench::new(&["allow=a.example,192.0.2.1:443"]);
    bench.resolve("a.example", "192.0.2.1", 60);
    assert_eq!(bench.tcp("192.0.2.1:443"), Verdict::Allowed);
    assert_eq!(bench.tcp("192.0.2.1:80"), Verdict::NeedsName);
}

#[test]
fn quic_does_not_go_by_name() {
    let mut bench = Bench::new(&["allow=a.example,198.51.100.0/24"]);
    bench.resolve("a.example", "192.0.2.1", 60);
    assert_eq!(bench.connect(Protocol::Udp, "192.0.2.1:443"), Verdict::NeedsName);
    assert_eq!(bench.connect(Protocol::Udp, "198.51.100.1:443"), Verdict::Allowed);
    let mut initial = vec![0; 1200];
    initial[..6].copy_from_slice(&[0xc0, 0, 0, 0, 1, 8]);
    assert_eq!(bench.egress.datagram(&initial), refused(Reason::Quic));
    assert_eq!(bench.egress.datagram(b"time?"), Verdict::Allowed);
}

#[test]
fn names_do_not_lead_here() {
    let mut bench = Bench::new(&["allow=*.example,169.254.169.254:80"]);
    for address in ["127.0.0.1", "0.0.0.0", "::1", "169.254.1.1", "fe80::1", "10.0.2.2", "10.0.2.3", "fd00::2"] {
        assert_eq!(bench.resolve("a.example", address, 60), Answered::Refused(Reason::Rebinding), "{address}");
        let to = SocketAddr::new(address.parse().expect("an address"), 80);
        assert_eq!(bench.tcp(&to.to_string()), refused(Reason::Address));
    }
    // One bad address among good ones, and by an alias.
    let records = [
        record(SELF, CNAME, 60, &wire("b.example")),
        record(&wire("b.example"), A, 60, &[192, 0, 2, 1]),
        record(&wire("b.example"), A, 60, &[127, 0, 0, 1]),
    ];
    assert_eq!(bench.answer("a.example", A, &records), Answered::Refused(Reason::Rebinding));
    assert_eq!(bench.tcp("192.0.2.1:80"), refused(Reason::Address));
    // One that a rule names itself.
    assert_eq!(bench.resolve("a.example", "169.254.169.254", 60), Answered::Pass);
    assert_eq!(bench.tcp("169.254.169.254:80"), Verdict::Allowed);
}

#[test]
fn names_that_are_answered_here_lead_to_the_gateway() {
    let mut bench = Bench::new(&["allow=host.containers.internal:5432"]);
    let name = "host.containers.internal".parse().expect("a name");
    bench.egress.add_ours(name, "10.0.2.2".parse().expect("an address"));
    assert_eq!(bench.ask("host.containers.internal"), Asked::Forward);
    assert_eq!(bench.tcp("10.0.2.2:5432"), Verdict::NeedsName);
    assert_eq!(bench.tcp("10.0.2.2:22"), refused(Reason::Address));
    bench.later(1_000_000);
    assert_eq!(bench.begin("10.0.2.2:5432", b"\0\0\0\x08\x04\xd2\x16\x2f"), Verdict::Allowed);
}

#[test]
fn only_allowed_names_are_asked_for() {
    let mut bench = Bench::new(&["allow=a.example,*.b.example"]);
    for tunnel in ["c2VjcmV0.evil.example", "secret.a.example", "a.example.evil.net", "1.2.0.192.in-addr.arpa", "."] {
        for kind in [A, AAAA, 16, 10, 255] {
            assert_eq!(bench.egress.query(&query(tunnel, kind)), Asked::Refused(Reason::Name), "{tunnel} {kind}");
        }
    }
    for kind in [A, AAAA, CNAME, 15, 16, 33] {
        assert_eq!(bench.egress.query(&query("a.example", kind)), Asked::Forward, "{kind}");
    }
    for kind in [64, 65] {
        assert_eq!(bench.egress.query(&query("a.example", kind)), Asked::Nothing, "{kind}");
    }
    // NULL, AXFR, ANY, and what nobody has heard of.
    for kind in [10, 252, 255, 65280] {
        assert_eq!(bench.egress.query(&query("a.example", kind)), Asked::Refused(Reason::Kind), "{kind}");
    }
    let more = [query("a.example", A), wire("secret")].concat();
    assert_eq!(bench.egress.query(&more), Asked::Refused(Reason::Malformed));
}

#[test]
fn an_answer_to_another_question_teaches_nothing() {
    let mut bench = Bench::new(&["allow=a.example"]);
    let asked = query("a.example", A);
    let forged = answer("b.example", A, &[record(SELF, A, 60, &[192, 0, 2, 1])]);
    assert_eq!(bench.egress.answer(&asked, &forged, bench.now), Answered::Refused(Reason::Malformed));
    let beside = [record(SELF, A, 60, &[192, 0, 2, 2]), record(&wire("x.example"), A, 60, &[192, 0, 2, 1])];
    assert_eq!(bench.answer("a.example", A, &beside), Answered::Pass);
    assert_eq!(bench.tcp("192.0.2.1:443"), refused(Reason::Address));
    assert_eq!(bench.tcp("192.0.2.2:443"), Verdict::NeedsName);
}

#[test]
fn a_denied_name_is_not_answered_by_any_way() {
    let mut bench = Bench::new(&["deny=evil.example,*.evil.example,198.51.100.0/24"]);
    assert_eq!(bench.ask("EVIL.example"), Asked::Refused(Reason::Name));
    assert_eq!(bench.ask("a.evil.example"), Asked::Refused(Reason::Name));
    assert_eq!(bench.resolve("good.example", "192.0.2.9", 60), Answered::Pass);
    assert_eq!(bench.tcp("198.51.100.1:443"), refused(Reason::Denied));
    // Known by an alias of it.
    let records =
        [record(SELF, CNAME, 60, &wire("evil.example")), record(&wire("evil.example"), A, 60, &[192, 0, 2, 1])];
    assert_eq!(bench.answer("alias.example", A, &records), Answered::Refused(Reason::Name));
    assert_eq!(bench.tcp("192.0.2.1:443"), refused(Reason::Denied));
    // By an address from elsewhere, TLS gives it away.
    assert_eq!(bench.begin("192.0.2.2:443", &hello("evil.example")), refused(Reason::Denied));
    assert_eq!(bench.begin("192.0.2.2:443", &hello("good.example")), Verdict::Allowed);
    assert_eq!(bench.begin("192.0.2.2:443", &hello("")), Verdict::Allowed);
    assert_eq!(bench.begin("192.0.2.2:443", b"SSH-2.0-x"), Verdict::Allowed);
    assert_eq!(bench.connect(Protocol::Echo, "192.0.2.2:0"), Verdict::Allowed);
    bench.later(90);
    assert_eq!(bench.tcp("192.0.2.1:443"), Verdict::NeedsName);
}

#[test]
fn ports_of_a_name_are_denied_where_it_is() {
    let mut bench = Bench::new(&["deny=mail.example:25"]);
    assert_eq!(bench.resolve("mail.example", "192.0.2.1", 60), Answered::Pass);
    assert_eq!(bench.tcp("192.0.2.1:25"), refused(Reason::Denied));
    assert_eq!(bench.tcp("192.0.2.1:443"), Verdict::Allowed);
    assert_eq!(bench.tcp("192.0.2.2:443"), Verdict::Allowed);
    assert_eq!(bench.begin("192.0.2.2:25", &hello("mail.example")), refused(Reason::Denied));
    // By an alias as well.
    let records =
        [record(SELF, CNAME, 60, &wire("mail.example")), record(&wire("mail.example"), A, 60, &[192, 0, 2, 3])];
    assert_eq!(bench.answer("alias.example", A, &records), Answered::Pass);
    assert_eq!(bench.tcp("192.0.2.3:25"), refused(Reason::Denied));
    assert_eq!(bench.tcp("192.0.2.3:443"), Verdict::Allowed);
    // What would hide a name from the look at TLS is not told; all else may be asked.
    assert_eq!(bench.egress.query(&query("other.example", 65)), Asked::Nothing);
    assert_eq!(bench.egress.query(&query("other.example", 65280)), Asked::Forward);
}

#[test]
fn denied_addresses_alone_leave_names_alone() {
    let mut bench = Bench::new(&["deny=10.0.0.0/8"]);
    assert_eq!(bench.egress.query(b"whatever it is"), Asked::Forward);
    assert_eq!(bench.egress.query(&query("a.example", 65)), Asked::Forward);
    assert_eq!(bench.resolve("a.example", "10.1.1.1", 60), Answered::Pass);
    assert_eq!(bench.tcp("10.1.1.1:443"), refused(Reason::Denied));
    assert_eq!(bench.tcp("192.0.2.1:443"), Verdict::Allowed);
}

#[test]
fn what_is_denied_is_not_allowed_by_a_name() {
    let mut bench = Bench::new(&["allow=*.example", "deny=bad.example,10.0.0.0/8"]);
    assert_eq!(bench.ask("bad.example"), Asked::Refused(Reason::Name));
    bench.resolve("a.example", "10.1.1.1", 60);
    assert_eq!(bench.tcp("10.1.1.1:443"), refused(Reason::Denied));
    bench.resolve("a.example", "192.0.2.1", 60);
    assert_eq!(bench.begin("192.0.2.1:443", &hello("bad.example")), refused(Reason::Denied));
}

/// Under rules about names only, whatever is answered and whoever connects: nobody is reached who was not answered for.
#[test]
fn nobody_else_is_ever_reached() {
    let mut random = rbox_fuzz::Random::new(7);
    let names = ["a.example", "b.example", "x.c.example", "evil.example", "c.example"];
    for _ in 0..200 {
        let mut bench = Bench::new(&["allow=a.example:443,b.example,*.c.example:80"]);
        let mut until = std::collections::HashMap::new();
        for _ in 0..100 {
            let (name, number) = (*random.of(&names), random.below(4) as u8);
            let port = *random.of(&[80u16, 443]);
            bench.later(random.below(40) as u64);
            if random.one_in(2) {
                let ttl = random.below(60) as u32;
                if bench.ask(name) == Asked::Forward {
                    bench.answer(name, A, &[record(SELF, A, ttl, &[192, 0, 2, number])]);
                    let holds = bench.now + Duration::from_secs(ttl.into()) + names::GRACE;
                    let known = until.entry((name, number)).or_insert(holds);
                    *known = holds.max(*known);
                }
                continue;
            }
            let holds = |name: &str| until.get(&(name, number)).is_some_and(|until| bench.now < *until);
            let right = match (name, port) {
                ("a.example", 443) | ("b.example", _) | ("x.c.example", 80) => holds(name),
                _ => false,
            };
            let any = (port == 443 && holds("a.example")) || holds("b.example") || (port == 80 && holds("x.c.example"));
            let to = SocketAddr::from(([192, 0, 2, number], port));
            let verdict = bench.egress.may_connect(Protocol::Tcp, to, bench.now);
            assert_eq!(verdict == Verdict::NeedsName, any, "{to} {verdict:?}");
            let verdict = bench.egress.hello(to, &look(&hello(name)), bench.now);
            assert_eq!(verdict == Verdict::Allowed, right, "{name} at {to}: {verdict:?}");
        }
    }
}
