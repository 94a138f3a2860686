//! Egress rules, by what gets out and what does not. Each line also shows that the same goes where a rule lets it.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rbox_tests::dns::{self, Server};
use rbox_tests::lines;
use rbox_tests::slirp::{Backend, Family, Lab, Options, Published};
use rbox_tests::traffic::{is_reset, patient, within};

// The family is that by which names are asked for, and that of addresses in rules.
lines! {
    an_allowed_name_opens_its_address: rbox;
    other_names_are_never_asked_for: rbox;
    an_address_is_open_for_its_names_ports: rbox;
    a_name_may_change_its_address: rbox;
    the_name_in_tls_is_one_that_is_allowed: rbox;
    names_do_not_lead_back: rbox;
    there_is_no_way_around_the_name_server: rbox;
    without_rules_all_that_goes: rbox;
    networks_and_ports: rbox;
    nothing_but_answers: rbox;
    what_is_denied: rbox;
    datagrams: rbox;
}

/// What two names have in the lines below.
const GOOD: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 77);
const OTHER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

/// A guest under rules, and two servers at both of far's addresses.
struct Bench {
    lab: Lab,
    names: Server,
    family: Family,
    one: TcpListener,
    two: TcpListener,
}

impl Bench {
    /// The rules know the ports of both servers.
    fn new(
        family: Family,
        rules: impl FnOnce(u16, u16) -> Vec<String>,
        answer: impl Fn(&str) -> Ipv4Addr + Clone + Send + 'static,
    ) -> Result<Self> {
        let mut lab = Lab::bare()?;
        // By both families: what names lead to is IPv4 always.
        let any = IpAddr::from([0_u16; 8]);
        let (one, two) = (lab.far.listen(any)?, lab.far.listen(any)?);
        let egress = rules(one.local_addr()?.port(), two.local_addr()?.port());
        lab.serve(Backend::Rbox, &Options { egress, ..Options::default() })?;
        lab.resolve_by(&[family.far()])?;
        let names = Server::answering(&lab.far, family.far(), answer)?;
        Ok(Self { lab, names, family, one, two })
    }

    fn ask(&self, name: &str) -> Result<Vec<Ipv4Addr>> {
        dns::ask(&self.lab.guest, self.family.dns(), name, 7)
    }

    /// That a name is refused, and at once.
    fn is_refused(&self, name: &str) -> Result<()> {
        let asked = Instant::now();
        let error = self.ask(name).err().with_context(|| format!("{name} was answered"))?;
        ensure!(error.to_string().contains("refused"), "{name}: {error:#}");
        ensure!(asked.elapsed() < Duration::from_secs(2), "{name} was refused after {:?}", asked.elapsed());
        Ok(())
    }

    /// Both ends of a connection of the guest's to one of the servers.
    fn connect(&self, address: impl Into<IpAddr>, server: &TcpListener) -> Result<(TcpStream, TcpStream)> {
        let near = self.lab.guest.connect(SocketAddr::new(address.into(), server.local_addr()?.port()))?;
        let (far, _) = server.accept()?;
        Ok((near, patient(far)?))
    }

    /// That the guest gets through to it.
    fn is_open(&self, address: impl Into<IpAddr>, server: &TcpListener) -> Result<()> {
        let (mut near, mut far) = self.connect(address, server)?;
        near.write_all(b"there")?;
        let mut heard = [0; 5];
        far.read_exact(&mut heard)?;
        far.write_all(b"back!")?;
        near.read_exact(&mut heard)?;
        ensure!(&heard == b"back!");
        Ok(())
    }

    /// That it is refused, and at once.
    fn is_shut(&self, address: impl Into<IpAddr>, server: &TcpListener) -> Result<()> {
        let address = SocketAddr::new(address.into(), server.local_addr()?.port());
        let asked = Instant::now();
        let error = self.lab.guest.connect(address).err().with_context(|| format!("{address} is open"))?;
        ensure!(error.kind() == ErrorKind::ConnectionRefused, "{address}: {error}");
        ensure!(asked.elapsed() < Duration::from_secs(2), "{address} was refused after {:?}", asked.elapsed());
        Ok(())
    }
}

fn good(_: &str) -> Ipv4Addr {
    GOOD
}

fn each(name: &str) -> Ipv4Addr {
    if name.starts_with("other") { OTHER } else { GOOD }
}

fn an_allowed_name_opens_its_address(_: Backend, family: Family) -> Result<()> {
    let bench = Bench::new(family, |one, _| vec![format!("allow=good.test:{one}")], good)?;
    bench.is_shut(GOOD, &bench.one)?;
    ensure!(bench.ask("good.test")? == [GOOD]);
    bench.is_shut(GOOD, &bench.two)?;
    bench.is_shut(OTHER, &bench.one)?;
    bench.is_open(GOOD, &bench.one)
}

fn other_names_are_never_asked_for(_: Backend, family: Family) -> Result<()> {
    let bench = Bench::new(family, |_, _| vec!["allow=good.test,*.below.test".into()], good)?;
    for name in ["evil.test", "c2VjcmV0.evil.test", "x.good.test", "below.test", "good.test.evil.test"] {
        bench.is_refused(name)?;
    }
    ensure!(bench.ask("good.test")? == [GOOD] && bench.ask("a.b.below.test")? == [GOOD]);
    ensure!(bench.names.names() == ["good.test", "a.b.below.test"], "{:?}", bench.names.names());
    Ok(())
}

fn an_address_is_open_for_its_names_ports(_: Backend, family: Family) -> Result<()> {
    let rules = |one, two| vec![format!("allow=good.test:{one}"), format!("allow=other.test:{two}")];
    let bench = Bench::new(family, rules, each)?;
    ensure!(bench.ask("good.test")? == [GOOD] && bench.ask("other.test")? == [OTHER]);
    bench.is_shut(OTHER, &bench.one)?;
    bench.is_shut(GOOD, &bench.two)?;
    bench.is_open(OTHER, &bench.two)?;
    bench.is_open(GOOD, &bench.one)
}

fn a_name_may_change_its_address(_: Backend, family: Family) -> Result<()> {
    let times = Arc::new(AtomicUsize::new(0));
    let answer = move |_: &str| if times.fetch_add(1, Ordering::SeqCst) == 0 { GOOD } else { OTHER };
    let bench = Bench::new(family, |one, _| vec![format!("allow=good.test:{one}")], answer)?;
    ensure!(bench.ask("good.test")? == [GOOD]);
    bench.is_shut(OTHER, &bench.one)?;
    ensure!(bench.ask("good.test")? == [OTHER]);
    bench.is_open(OTHER, &bench.one)?;
    // For as long as the first answer may be cached, which is a minute.
    bench.is_open(GOOD, &bench.one)
}

/// The beginning of a TLS connection (RFC 8446, 4.1.2), with a server's name (RFC 6066, 3).
fn client_hello(name: Option<&str>) -> Vec<u8> {
    let long = |bytes: &[u8]| [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat();
    let name = name.map(|name| {
        let entry = [&[0][..], &long(name.as_bytes())].concat();
        [&[0, 0][..], &long(&long(&entry))].concat()
    });
    // Of something else, so that there is always one.
    let extensions = [name.unwrap_or_default(), vec![0, 23, 0, 0]].concat();
    let body = [&[3, 3][..], &[7; 32], &[0, 0, 2, 0x13, 1, 1, 0], &long(&extensions)].concat();
    let message = [&[1, 0][..], &long(&body)].concat();
    [&[22, 3, 1][..], &long(&message)].concat()
}

fn the_name_in_tls_is_one_that_is_allowed(_: Backend, family: Family) -> Result<()> {
    let rules = |one, _| vec![format!("allow=good.test:{one},also.test:{one}")];
    let bench = Bench::new(family, rules, each)?;
    ensure!(bench.ask("good.test")? == [GOOD]);
    // Allowed, but never answered for this address.
    for name in [Some("evil.test"), Some("also.test"), None] {
        let (mut near, mut far) = bench.connect(GOOD, &bench.one)?;
        near.write_all(&client_hello(name))?;
        let read = near.read(&mut [0]);
        ensure!(is_reset(&read), "{name:?}: {read:?}");
        let read = far.read(&mut [0]);
        ensure!(!matches!(read, Ok(1..)), "{name:?} has reached the server");
    }
    for pieces in [1, 7] {
        let (mut near, mut far) = bench.connect(GOOD, &bench.one)?;
        near.set_nodelay(true)?;
        let hello = client_hello(Some("Good.Test"));
        for piece in hello.chunks(hello.len().div_ceil(pieces)) {
            near.write_all(piece)?;
            std::thread::sleep(Duration::from_millis(5));
        }
        let mut heard = vec![0; hello.len()];
        far.read_exact(&mut heard)?;
        ensure!(heard == hello);
        near.write_all(b"more")?;
        far.read_exact(&mut heard[..4])?;
    }
    bench.is_open(GOOD, &bench.one)
}

/// Names whose addresses are not outside.
const BACK: [(&str, Ipv4Addr); 4] = [
    ("loopback.test", Ipv4Addr::LOCALHOST),
    ("gateway.test", Ipv4Addr::new(10, 0, 2, 2)),
    ("link.test", Ipv4Addr::new(169, 254, 169, 254)),
    ("none.test", Ipv4Addr::UNSPECIFIED),
];

fn back(name: &str) -> Ipv4Addr {
    BACK.iter().find(|(known, _)| *known == name).map_or(GOOD, |(_, address)| *address)
}

fn names_do_not_lead_back(_: Backend, family: Family) -> Result<()> {
    let bench = Bench::new(family, |_, _| vec!["allow=*.test".into()], back)?;
    for (name, _) in BACK {
        bench.is_refused(name)?;
    }
    ensure!(bench.ask("good.test")? == [GOOD]);
    Ok(())
}

/// What other lines refuse.
fn without_rules_all_that_goes(_: Backend, family: Family) -> Result<()> {
    let bench = Bench::new(family, |_, _| Vec::new(), back)?;
    for (name, address) in BACK {
        ensure!(bench.ask(name)? == [address]);
    }
    ensure!(dns::ask(&bench.lab.guest, family.far(), "evil.test", 9)? == [GOOD]);
    bench.lab.guest.connect((family.dns(), 53).into())?;
    bench.is_open(OTHER, &bench.one)?;
    let (mut near, mut far) = bench.connect(GOOD, &bench.one)?;
    near.write_all(&client_hello(Some("evil.test")))?;
    far.read_exact(&mut [0; 8])?;
    Ok(())
}

fn there_is_no_way_around_the_name_server(_: Backend, family: Family) -> Result<()> {
    let bench = Bench::new(family, |_, _| vec!["allow=good.test:443".into()], good)?;
    ensure!(dns::ask(&bench.lab.guest, family.far(), "evil.test", 9).is_err(), "another one was asked");
    for server in [family.far(), family.dns()] {
        let connected = bench.lab.guest.connect((server, 53).into());
        ensure!(connected.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused), "{server} by TCP");
    }
    ensure!(bench.ask("good.test")? == [GOOD]);
    Ok(())
}

/// As it stands in a rule.
fn rule(address: IpAddr, port: u16) -> String {
    SocketAddr::new(address, port).to_string()
}

fn networks_and_ports(_: Backend, family: Family) -> Result<()> {
    let network = if family == Family::V4 { "192.0.2.0/24" } else { "2001:db8::/64" };
    let rules = |one, _| {
        vec![match family {
            Family::V4 => format!("allow={network}:{one}"),
            Family::V6 => format!("allow=[{network}]:{one}"),
        }]
    };
    let bench = Bench::new(family, rules, good)?;
    bench.is_open(family.far(), &bench.one)?;
    bench.is_shut(family.far(), &bench.two)?;
    bench.is_shut(family.farther(), &bench.one)?;
    bench.is_refused("good.test")?;
    // Without a look at what it is.
    let (mut near, mut far) = bench.connect(family.far(), &bench.one)?;
    near.write_all(&client_hello(None))?;
    far.read_exact(&mut [0; 8])?;
    Ok(())
}

fn nothing_but_answers(_: Backend, family: Family) -> Result<()> {
    const OUTSIDE: u16 = 8080;
    let mut lab = Lab::bare()?;
    let far = lab.far.listen(family.far())?;
    let near = lab.guest.listen(family.any())?;
    let published =
        vec![Published { host: (family.host(), OUTSIDE).into(), guest_port: near.local_addr()?.port(), udp: false }];
    lab.serve(Backend::Rbox, &Options { published, egress: vec!["none".into()], ..Options::default() })?;
    lab.resolve_by(&[family.far()])?;
    let names = Server::start(&lab.far, family.far(), GOOD)?;
    let connected = lab.guest.connect(far.local_addr()?);
    ensure!(connected.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused));
    ensure!(dns::ask(&lab.guest, family.dns(), "good.test", 3).is_err() && names.names().is_empty());
    let mut outside = lab.far.connect((family.host(), OUTSIDE).into())?;
    let (mut inside, _) = near.accept()?;
    inside.write_all(b"answer")?;
    outside.read_exact(&mut [0; 6])?;
    Ok(())
}

fn what_is_denied(_: Backend, family: Family) -> Result<()> {
    let rules = |one, _| vec![format!("deny=evil.test,{}", rule(family.farther(), one))];
    let bench = Bench::new(family, rules, good)?;
    bench.is_refused("evil.test")?;
    ensure!(bench.names.names().is_empty());
    ensure!(bench.ask("good.test")? == [GOOD]);
    bench.is_shut(family.farther(), &bench.one)?;
    bench.is_open(family.farther(), &bench.two)?;
    bench.is_open(family.far(), &bench.one)
}

fn datagrams(_: Backend, family: Family) -> Result<()> {
    let mut lab = Lab::bare()?;
    let far = lab.far.datagrams(GOOD.into(), 0)?;
    let port = far.local_addr()?.port();
    let egress = vec![format!("allow=good.test:{port}")];
    lab.serve(Backend::Rbox, &Options { egress, ..Options::default() })?;
    lab.resolve_by(&[family.far()])?;
    let _names = Server::start(&lab.far, family.far(), GOOD)?;
    let near = lab.guest.datagrams(Ipv4Addr::UNSPECIFIED.into(), 0)?;
    let arrives = |bytes: &[u8]| {
        let _ = near.send_to(bytes, (GOOD, port));
        within(&far, Duration::from_millis(300), |far| far.recv(&mut [0; 2000])).is_some()
    };
    ensure!(!arrives(b"before it was asked for"));
    ensure!(dns::ask(&lab.guest, family.dns(), "good.test", 5)? == [GOOD]);
    ensure!(arrives(b"a datagram"));
    // The beginning of QUIC, version 1 (RFC 9000, 17.2.2).
    let mut quic = vec![0xc3, 0, 0, 0, 1, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0x44, 0x9e];
    quic.resize(1200, 0);
    ensure!(!arrives(&quic), "QUIC got out");
    ensure!(arrives(b"another one"));
    Ok(())
}
