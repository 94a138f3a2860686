//! Egress rules: whom a guest reaches, by name and by address, and whom not.
//!
//! Whoever is refused under one rule is reached under another, or without any, by the same attempt.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rbox_tests::dns::{self, REFUSED, Server};
use rbox_tests::lines;
use rbox_tests::patience::until;
use rbox_tests::slirp::{Backend, Family, LARGE, Lab, Options, Published};
use rbox_tests::traffic::{Pattern, is_reset, patient};

lines! {
    a_name_opens_its_address_for_its_port: rbox;
    an_address_that_no_name_led_to_is_refused: rbox;
    other_names_are_not_passed_on: rbox;
    a_name_is_followed_where_it_moves: rbox;
    where_a_name_was_is_refused_once_its_time_is_over: long;
    an_address_of_another_name_has_that_ones_ports: rbox;
    tls_for_another_server_is_reset: rbox;
    tls_for_the_right_server_arrives_whole: rbox;
    what_is_not_tls_passes: rbox;
    names_do_not_lead_to_the_host: rbox;
    names_are_asked_for_nowhere_else: rbox;
    networks_and_ports: rbox;
    echoes_have_no_port: rbox;
    datagrams_by_name: rbox;
    nothing_at_all: rbox;
    all_but_an_address: rbox;
    all_but_a_name: rbox;
    published_ports_are_answered: rbox;
}

/// At once, however slow the machine: nobody hangs.
const AT_ONCE: Duration = Duration::from_secs(3);

/// A guest under rules, whom it may talk to, and who answers its names.
struct World {
    lab: Lab,
    family: Family,
    server: Server,
    https: TcpListener,
    other: TcpListener,
}

const HTTPS: u16 = 443;
const OTHER: u16 = 8443;

impl World {
    fn new(family: Family, rules: &[&str]) -> Result<Self> {
        let egress = rules.iter().map(|rules| (*rules).to_owned()).collect();
        Self::with(family, &Options { egress, ..Options::default() })
    }

    fn with(family: Family, options: &Options) -> Result<Self> {
        let lab = Lab::new(Backend::Rbox, options)?;
        lab.far.ip("address add 198.51.100.2/32 dev lo\n address add 2001:db8:1::2/128 dev lo nodad")?;
        lab.resolve_by(&[resolver(family)])?;
        let server = Server::empty(&lab.far, resolver(family))?;
        let listen = |port| -> io::Result<TcpListener> {
            let listener = lab.far.run(|| TcpListener::bind((family.any(), port)))?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        };
        let (https, other) = (listen(HTTPS)?, listen(OTHER)?);
        // A device may take a second until it sends anything.
        until(|| dns::ask_once(&lab.host, resolver(family), "ready.test", family == Family::V6), Result::is_ok)?;
        server.forget();
        Ok(Self { lab, family, server, https, other })
    }

    /// From now on these are the rules, and nothing has been learnt.
    fn rule(&mut self, rules: &[&str]) -> Result<()> {
        let egress = rules.iter().map(|rules| (*rules).to_owned()).collect();
        self.lab.leave()?;
        self.lab.serve(Backend::Rbox, &Options { egress, ..Options::default() })
    }

    /// What the guest is answered: a code, and addresses.
    fn ask(&self, name: &str) -> Result<(u8, Vec<IpAddr>)> {
        let began = Instant::now();
        let answer = dns::ask_once(&self.lab.guest, self.family.dns(), name, self.family == Family::V6)?;
        ensure!(began.elapsed() < AT_ONCE, "{name}: {answer:?}, but only after {:?}", began.elapsed());
        Ok(answer)
    }

    /// The name has this address, and the guest is told so.
    fn learn(&self, name: &str, address: IpAddr) -> Result<()> {
        self.server.set(name, &[address]);
        let answer = self.ask(name)?;
        ensure!(answer == (0, vec![address]), "{name}: {answer:?}");
        Ok(())
    }

    /// Whether the name is kept from whoever answers for it.
    fn is_withheld(&self, name: &str) -> Result<bool> {
        self.server.set(name, &[self.family.far()]);
        let before = self.server.asked_for().len();
        let (code, found) = self.ask(name)?;
        let asked = self.server.asked_for().split_off(before);
        match code {
            REFUSED => ensure!(asked.is_empty(), "refused, but asked for: {asked:?}"),
            _ => ensure!(code == 0 && asked == [name] && found.len() == 1, "{code} {found:?} {asked:?}"),
        }
        Ok(code == REFUSED)
    }

    /// Both ends of a connection; nothing where it is refused, at once.
    fn connect(&self, to: IpAddr, port: u16) -> Result<Option<(TcpStream, TcpStream)>> {
        let listener = if port == HTTPS { &self.https } else { &self.other };
        let began = Instant::now();
        let near = match self.lab.guest.connect((to, port).into()) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                ensure!(began.elapsed() < AT_ONCE, "{to} is refused only after {:?}", began.elapsed());
                ensure!(listener.accept().is_err(), "a connection was made of which the guest does not know");
                return Ok(None);
            }
            connected => connected.with_context(|| format!("{to} port {port}"))?,
        };
        let (far, _) = listener.accept().context("the guest is connected to somebody else")?;
        far.set_nonblocking(false)?;
        near.set_nodelay(true)?;
        Ok(Some((near, patient(far)?)))
    }

    fn connected(&self, to: IpAddr, port: u16) -> Result<(TcpStream, TcpStream)> {
        self.connect(to, port)?.with_context(|| format!("{to} port {port} is refused"))
    }

    /// Whether a server is reached there, by what is not TLS.
    fn reaches(&self, to: IpAddr, port: u16) -> Result<bool> {
        let Some((near, far)) = self.connect(to, port)? else { return Ok(false) };
        for (mut from, mut to) in [(&near, &far), (&far, &near)] {
            let mut heard = [0; 5];
            from.write_all(b"hello")?;
            to.read_exact(&mut heard)?;
            ensure!(&heard == b"hello");
        }
        Ok(true)
    }

    /// Whether a connection that begins so is let through: all of the bytes arrive, or none and it is reset.
    fn passes(&self, to: IpAddr, bytes: &[u8]) -> Result<bool> {
        let (mut near, mut far) = self.connected(to, HTTPS)?;
        near.write_all(bytes)?;
        let mut heard = vec![0; bytes.len()];
        let length = far.read(&mut heard).or_else(|error| if is_gone(&error) { Ok(0) } else { Err(error) })?;
        if length == 0 {
            let read = near.read(&mut [0]);
            ensure!(is_reset(&read), "the server has nothing, and the guest {read:?}");
            return Ok(false);
        }
        far.read_exact(&mut heard[length..])?;
        ensure!(heard == bytes, "other bytes arrive");
        far.write_all(b"answer")?;
        near.read_exact(&mut [0; 6])?;
        Ok(true)
    }

    /// Whether a datagram arrives there; where not, the guest is told so.
    fn arrives(&self, to: SocketAddr, bytes: &[u8]) -> Result<bool> {
        let server = self.lab.far.datagrams(to.ip(), to.port())?;
        let client = self.lab.guest.datagrams(self.family.any(), 0)?;
        client.connect(to)?;
        client.send(bytes)?;
        server.set_nonblocking(true)?;
        client.set_nonblocking(true)?;
        let mut heard = [0; 2048];
        let either = || (server.recv(&mut heard), client.recv(&mut [0; 8]));
        let is_one = |(arrived, told): &(io::Result<usize>, io::Result<usize>)| {
            arrived.is_ok() || !told.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
        };
        let (arrived, told) = until(either, is_one);
        let Ok(length) = arrived else {
            ensure!(told.as_ref().is_err_and(is_prohibited), "nothing arrives, and the guest hears {told:?}");
            return Ok(false);
        };
        let heard = &heard[..length];
        ensure!(heard == bytes, "other bytes arrive");
        Ok(true)
    }

    /// A question arrives there, and its answer comes from there.
    fn answers(&self, from: SocketAddr) -> Result<()> {
        let server = self.lab.far.datagrams(from.ip(), from.port())?;
        let client = self.lab.guest.datagrams(self.family.any(), 0)?;
        client.send_to(b"question", from)?;
        let (_, who) = server.recv_from(&mut [0; 8])?;
        server.send_to(b"answer", who)?;
        let mut heard = [0; 8];
        let (length, by) = client.recv_from(&mut heard)?;
        ensure!(&heard[..length] == b"answer" && by == from, "{:?} by {by}", &heard[..length]);
        Ok(())
    }
}

fn resolver(family: Family) -> IpAddr {
    family.farther()
}

/// One more of far's.
fn elsewhere(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(198, 51, 100, 2).into(),
        Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 2).into(),
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}

/// What Linux makes of "administratively prohibited": EHOSTUNREACH of ICMP's, EACCES of ICMPv6's.
fn is_prohibited(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::HostUnreachable | ErrorKind::PermissionDenied)
}

fn a_name_opens_its_address_for_its_port(_: Backend, family: Family) -> Result<()> {
    let mut world = World::new(family, &["allow=a.test:443"])?;
    ensure!(!world.reaches(family.far(), HTTPS)?, "reached without having been asked for");
    world.learn("a.test", family.far())?;
    ensure!(world.reaches(family.far(), HTTPS)?);
    ensure!(!world.reaches(family.far(), OTHER)?, "another port is reached");
    world.rule(&["allow=a.test"])?;
    world.learn("a.test", family.far())?;
    ensure!(world.reaches(family.far(), OTHER)?);
    Ok(())
}

fn an_address_that_no_name_led_to_is_refused(_: Backend, family: Family) -> Result<()> {
    let mut world = World::new(family, &["allow=a.test"])?;
    world.learn("a.test", family.far())?;
    ensure!(!world.reaches(elsewhere(family), HTTPS)?);
    world.rule(&[])?;
    ensure!(world.reaches(elsewhere(family), HTTPS)?);
    Ok(())
}

fn other_names_are_not_passed_on(_: Backend, family: Family) -> Result<()> {
    let tunnels = (0..20).map(|number| {
        let secret: String = Pattern::bytes(number, 20).iter().map(|byte| format!("{byte:02x}")).collect();
        if number % 2 == 0 { format!("{secret}.evil.test") } else { format!("{secret}.a.test") }
    });
    let mut names: Vec<String> = tunnels.collect();
    names.extend(["b.test", "test", "a.test.evil.test", "below.test"].map(str::to_owned));
    let mut world = World::new(family, &["allow=a.test:443,*.below.test"])?;
    for name in &names {
        ensure!(world.is_withheld(name)?, "{name} is asked for");
    }
    ensure!(!world.is_withheld("a.test")? && !world.is_withheld("x.y.below.test")?);
    ensure!(world.server.asked_for() == ["a.test", "x.y.below.test"], "{:?}", world.server.asked_for());
    world.rule(&[])?;
    for name in &names {
        ensure!(!world.is_withheld(name)?, "{name} is not asked for without rules");
    }
    Ok(())
}

fn a_name_is_followed_where_it_moves(_: Backend, family: Family) -> Result<()> {
    let world = World::new(family, &["allow=a.test:443"])?;
    world.learn("a.test", family.far())?;
    ensure!(!world.reaches(elsewhere(family), HTTPS)?);
    world.learn("a.test", elsewhere(family))?;
    ensure!(world.reaches(elsewhere(family), HTTPS)?);
    // Whoever was told of the earlier one has it for as long as the answer said.
    ensure!(world.reaches(family.far(), HTTPS)?);
    ensure!(world.passes(family.far(), &hello(Some("a.test")))?);
    ensure!(world.arrives((family.far(), HTTPS).into(), b"datagram")?);
    Ok(())
}

fn where_a_name_was_is_refused_once_its_time_is_over(_: Backend, family: Family) -> Result<()> {
    // docs/egress.md.
    const GRACE: Duration = Duration::from_secs(30);
    let world = World::new(family, &["allow=a.test:443"])?;
    world.server.set_time_to_live(1);
    let told = Instant::now();
    world.learn("a.test", family.far())?;
    world.server.set_time_to_live(60);
    world.learn("a.test", elsewhere(family))?;
    let quiet = world.connected(family.far(), HTTPS)?;
    let (mut near, mut far) = world.connected(family.far(), HTTPS)?;
    near.write_all(b"hello")?;
    far.read_exact(&mut [0; 5])?;
    let mut in_time = Instant::now();
    while world.reaches(family.far(), HTTPS)? {
        in_time = Instant::now();
        ensure!(told.elapsed() < 3 * GRACE, "it is still reached");
        std::thread::sleep(Duration::from_millis(200));
    }
    ensure!(told.elapsed() > GRACE, "it is refused after {:?}", told.elapsed());
    ensure!(in_time - told < GRACE + AT_ONCE, "it was reached after {:?}", in_time - told);
    ensure!(!world.arrives((family.far(), HTTPS).into(), b"datagram")?);
    ensure!(world.reaches(elsewhere(family), HTTPS)?);
    // Connections that were made in time last, whether anything was said there or not.
    for (mut near, mut far) in [(near, far), quiet] {
        near.write_all(b"again")?;
        far.read_exact(&mut [0; 5])?;
    }
    Ok(())
}

fn an_address_of_another_name_has_that_ones_ports(_: Backend, family: Family) -> Result<()> {
    let world = World::new(family, &["allow=a.test:443,b.test:8443"])?;
    world.learn("a.test", family.far())?;
    world.learn("b.test", elsewhere(family))?;
    for (address, port, is_open) in [
        (family.far(), HTTPS, true),
        (family.far(), OTHER, false),
        (elsewhere(family), HTTPS, false),
        (elsewhere(family), OTHER, true),
    ] {
        ensure!(world.reaches(address, port)? == is_open, "{address} port {port}");
    }
    Ok(())
}

/// What a client says first (RFC 8446, 4.1.2), of a server with this name (RFC 6066, 3).
fn hello(name: Option<&str>) -> Vec<u8> {
    let with_length = |bytes: &[u8]| [&(bytes.len() as u16).to_be_bytes(), bytes].concat();
    let server_name = |name: &str| {
        let entry = [&[0], &with_length(name.as_bytes())[..]].concat();
        [&[0, 0], &with_length(&with_length(&entry))[..]].concat()
    };
    // supported_versions: TLS 1.3.
    let extensions = [name.map(server_name).unwrap_or_default(), vec![0, 43, 0, 3, 2, 3, 4]].concat();
    let body = [&[3, 3], &[7; 32][..], &[0], &[0, 2, 0x13, 1], &[1, 0], &with_length(&extensions)].concat();
    let message = [&[1, 0], &with_length(&body)[..]].concat();
    [&[22, 3, 1], &with_length(&message)[..]].concat()
}

/// How many bytes of a beginning come at a time.
const PIECES: [usize; 3] = [1, 5, 40];

fn tls_for_another_server_is_reset(_: Backend, family: Family) -> Result<()> {
    let mut world = World::new(family, &["allow=a.test:443,b.test:443,c.test:8443"])?;
    world.learn("a.test", family.far())?;
    world.learn("b.test", elsewhere(family))?;
    world.learn("c.test", family.far())?;
    let others = [Some("evil.test"), Some("b.test"), Some("c.test"), Some("x.a.test"), None];
    let others = others.map(|name| (name, [hello(name), b"early".to_vec()].concat()));
    for (name, bytes) in &others {
        ensure!(!world.passes(family.far(), bytes)?, "{name:?} passes");
    }
    ensure!(world.passes(family.far(), &hello(Some("a.test")))?);
    for (name, bytes) in &others {
        for size in PIECES {
            let (mut near, mut far) = world.connected(family.far(), HTTPS)?;
            let written = bytes.chunks(size).try_for_each(|piece| {
                std::thread::sleep(Duration::from_millis(1));
                near.write_all(piece)
            });
            // Whoever writes on is told so by that.
            let told = written.and_then(|()| near.read(&mut [0]));
            ensure!(is_reset(&told), "{name:?} in pieces of {size}: {told:?}");
            let heard = far.read(&mut [0]);
            ensure!(matches!(heard, Ok(0)) || is_reset(&heard), "{name:?} in pieces of {size} arrives: {heard:?}");
        }
    }
    // It ends before a name has come.
    let (mut near, mut far) = world.connected(family.far(), HTTPS)?;
    near.write_all(&hello(Some("a.test"))[..60])?;
    near.shutdown(Shutdown::Write)?;
    ensure!(is_reset(&near.read(&mut [0])));
    let heard = far.read(&mut [0]);
    ensure!(matches!(heard, Ok(0)) || is_reset(&heard), "{heard:?}");
    world.rule(&["allow=0.0.0.0/0,::/0"])?;
    for (name, bytes) in &others {
        ensure!(world.passes(family.far(), bytes)?, "{name:?} does not pass where the address is allowed");
    }
    Ok(())
}

fn tls_for_the_right_server_arrives_whole(_: Backend, family: Family) -> Result<()> {
    let world = World::new(family, &["allow=a.test:443"])?;
    world.learn("a.test", family.far())?;
    let hello = hello(Some("A.test"));
    ensure!(world.passes(family.far(), &hello)?);
    ensure!(world.passes(family.far(), &[hello.clone(), Pattern::bytes(1, 200_000)].concat())?);
    // In pieces, of which the server has none before the name has been seen.
    for size in PIECES {
        let (mut near, mut far) = world.connected(family.far(), HTTPS)?;
        let mut pieces = hello.chunks(size).peekable();
        while let Some(piece) = pieces.next() {
            if pieces.peek().is_none() {
                std::thread::sleep(Duration::from_millis(50));
                far.set_nonblocking(true)?;
                let early = far.peek(&mut [0]);
                ensure!(early.is_err(), "pieces of {size} arrive early");
                far.set_nonblocking(false)?;
            }
            near.write_all(piece)?;
            std::thread::sleep(Duration::from_millis(1));
        }
        near.shutdown(Shutdown::Write)?;
        let mut heard = Vec::new();
        far.read_to_end(&mut heard)?;
        ensure!(heard == hello, "pieces of {size}: {} bytes of {}", heard.len(), hello.len());
        far.write_all(b"answer")?;
        near.read_exact(&mut [0; 6])?;
    }
    Ok(())
}

fn what_is_not_tls_passes(_: Backend, family: Family) -> Result<()> {
    let world = World::new(family, &["allow=a.test:443"])?;
    world.learn("a.test", family.far())?;
    for bytes in [&b"GET / HTTP/1.1\r\n"[..], b"SSH-2.0-x\r\n", b"\x00\x00\x00\x08\x04\xd2\x16\x2f", b"x"] {
        ensure!(world.passes(family.far(), bytes)?, "{bytes:?}");
    }
    // Where the server begins.
    let (mut near, mut far) = world.connected(family.far(), HTTPS)?;
    far.write_all(b"220 ready")?;
    near.read_exact(&mut [0; 9])?;
    // And the guest has nothing to say.
    near.shutdown(Shutdown::Write)?;
    ensure!(far.read(&mut [0])? == 0);
    far.write_all(b"221 bye")?;
    near.read_exact(&mut [0; 7])?;
    Ok(())
}

fn names_do_not_lead_to_the_host(_: Backend, family: Family) -> Result<()> {
    let mut addresses = vec![family.loopback(), family.gateway(), family.dns(), family.guest(), family.any()];
    addresses.push(if family == Family::V4 { "169.254.169.254".parse()? } else { "fe80::1".parse()? });
    let mut world = World::new(family, &["allow=a.test"])?;
    for address in &addresses {
        world.server.set("a.test", &[*address]);
        ensure!(world.ask("a.test")? == (REFUSED, vec![]), "{address} is answered");
        world.server.set("a.test", &[family.far(), *address]);
        ensure!(world.ask("a.test")? == (REFUSED, vec![]), "{address} is answered behind another one");
        ensure!(!world.reaches(family.far(), HTTPS)?, "the other one is learnt");
    }
    let rules: Vec<String> = addresses.iter().map(|address| format!("allow={address}")).collect();
    let rules = rules.iter().map(String::as_str).chain(["allow=a.test"]);
    world.rule(&rules.collect::<Vec<_>>())?;
    for address in addresses {
        world.learn("a.test", address)?;
    }
    Ok(())
}

fn names_are_asked_for_nowhere_else(_: Backend, family: Family) -> Result<()> {
    let mut world = World::new(family, &[])?;
    let v6 = family == Family::V6;
    for server in [family.dns(), resolver(family)] {
        world.lab.guest.connect((server, 53).into())?;
        ensure!(dns::ask_once(&world.lab.guest, server, "b.test", v6)?.0 == 0);
    }
    world.rule(&["allow=a.test"])?;
    world.server.forget();
    world.learn("a.test", family.far())?;
    for server in [family.dns(), resolver(family)] {
        let connected = world.lab.guest.connect((server, 53).into());
        let refused = connected.as_ref().is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused);
        ensure!(refused, "{server}: {connected:?}");
    }
    let began = Instant::now();
    let asked = dns::ask_once(&world.lab.guest, resolver(family), "b.test", v6).err().context("it has answered")?;
    let prohibited = asked.downcast_ref::<io::Error>().is_some_and(is_prohibited);
    ensure!(prohibited && began.elapsed() < AT_ONCE, "{asked:#} after {:?}", began.elapsed());
    ensure!(world.server.asked_for() == ["a.test"]);
    Ok(())
}

fn networks_and_ports(_: Backend, family: Family) -> Result<()> {
    let (rule, more) = match family {
        Family::V4 => ("allow=192.0.2.0/24:443", "allow=198.51.100.2:8000-8999"),
        Family::V6 => ("allow=[2001:db8::/64]:443", "allow=[2001:db8:1::2]:8000-8999"),
    };
    let world = World::new(family, &[rule, more])?;
    for (address, port, is_open) in [
        (family.far(), HTTPS, true),
        (family.far(), OTHER, false),
        (elsewhere(family), HTTPS, false),
        (elsewhere(family), OTHER, true),
        (family.farther(), OTHER, false),
    ] {
        ensure!(world.reaches(address, port)? == is_open, "{address} port {port}");
    }
    ensure!(world.arrives((family.far(), HTTPS).into(), b"datagram")?);
    ensure!(!world.arrives((family.far(), OTHER).into(), b"datagram")?);
    // Whatever it is that is said there.
    ensure!(world.passes(family.far(), &hello(Some("any.test")))?);
    ensure!(world.arrives((family.far(), HTTPS).into(), &quic())?);
    ensure!(world.is_withheld("any.test")?, "a name is asked for where none is allowed");
    Ok(())
}

fn echoes_have_no_port(_: Backend, family: Family) -> Result<()> {
    let far = if family == Family::V4 { "192.0.2.77" } else { "[2001:db8::77]" };
    let mut world = World::new(family, &[&format!("allow={far}:1-65535")])?;
    let (said, all) = world.lab.ping(family.far(), 56)?;
    let told = ["filtered", "prohibited"].iter().any(|word| said.contains(word));
    ensure!(!all && said.contains(" 0 received") && told, "{said}");
    world.rule(&[&format!("allow={}", family.far())])?;
    let (said, all) = world.lab.ping(family.far(), 56)?;
    ensure!(all, "{said}");
    world.rule(&["allow=a.test"])?;
    let (said, _) = world.lab.ping(family.far(), 56)?;
    ensure!(said.contains(" 0 received"), "{said}");
    world.learn("a.test", family.far())?;
    let (said, all) = world.lab.ping(family.far(), 56)?;
    ensure!(all, "{said}");
    // Nor has a name with a port any other: neither where that is allowed, nor where it is denied.
    for rules in ["allow=a.test:443,*.test:1-65535", "deny=a.test:443,*.test:1-65535"] {
        world.rule(&[rules])?;
        world.learn("a.test", family.far())?;
        let (said, all) = world.lab.ping(family.far(), 56)?;
        ensure!(all == rules.starts_with("deny"), "{rules}: {said}");
    }
    Ok(())
}

/// What may begin a connection of QUIC's (RFC 9000, 17.2.2): a long header, version 1, and as long as it must be.
fn quic() -> Vec<u8> {
    let mut datagram = vec![0; 1200];
    datagram[..6].copy_from_slice(&[0xc3, 0, 0, 0, 1, 8]);
    datagram
}

fn datagrams_by_name(_: Backend, family: Family) -> Result<()> {
    let (to, other) = (SocketAddr::new(family.far(), HTTPS), SocketAddr::new(family.far(), OTHER));
    let mut world = World::new(family, &["allow=a.test:443"])?;
    ensure!(!world.arrives(to, b"datagram")?, "it arrives without having been asked for");
    world.learn("a.test", family.far())?;
    ensure!(world.arrives(to, b"datagram")?);
    world.answers(to)?;
    ensure!(!world.arrives(other, b"datagram")?, "another port is reached");
    ensure!(!world.arrives(to, &quic())?, "QUIC passes");
    world.rule(&[])?;
    ensure!(world.arrives(other, b"datagram")? && world.arrives(to, &quic())?);
    Ok(())
}

fn nothing_at_all(_: Backend, family: Family) -> Result<()> {
    let mut world = World::new(family, &[])?;
    for is_open in [true, false] {
        world.rule(if is_open { &[] } else { &["none"] })?;
        ensure!(world.is_withheld("a.test")? != is_open);
        ensure!(world.reaches(family.far(), HTTPS)? == is_open);
        ensure!(world.arrives((family.far(), HTTPS).into(), b"datagram")? == is_open);
        ensure!(world.lab.ping(family.far(), 56)?.1 == is_open);
        ensure!(world.lab.guest.connect((family.dns(), 53).into()).is_ok() == is_open);
    }
    Ok(())
}

fn all_but_an_address(_: Backend, family: Family) -> Result<()> {
    let rules = if family == Family::V4 { "deny=192.0.2.0/24" } else { "deny=2001:db8::/64" };
    let mut world = World::new(family, &[rules, "allow=0.0.0.0/0,::/0"])?;
    ensure!(!world.reaches(family.far(), HTTPS)?);
    ensure!(!world.arrives((family.far(), HTTPS).into(), b"datagram")?);
    ensure!(!world.lab.ping(family.far(), 56)?.1);
    world.rule(&[rules])?;
    ensure!(!world.reaches(family.far(), HTTPS)?);
    ensure!(world.reaches(elsewhere(family), HTTPS)?);
    ensure!(world.arrives((elsewhere(family), HTTPS).into(), b"datagram")?);
    ensure!(world.lab.ping(elsewhere(family), 56)?.1);
    world.learn("a.test", family.far())?;
    ensure!(!world.reaches(family.far(), HTTPS)?, "a name leads there");
    Ok(())
}

fn all_but_a_name(_: Backend, family: Family) -> Result<()> {
    let world = World::new(family, &["deny=evil.test,*.evil.test,mail.test:8443"])?;
    ensure!(world.is_withheld("evil.test")? && world.is_withheld("x.y.evil.test")?);
    ensure!(!world.is_withheld("good.test")?);
    // By an address from elsewhere, TLS gives it away.
    ensure!(!world.passes(family.far(), &hello(Some("evil.test")))?);
    for name in [Some("good.test"), None] {
        ensure!(world.passes(family.far(), &hello(name))?, "{name:?}");
    }
    world.learn("mail.test", elsewhere(family))?;
    ensure!(world.reaches(elsewhere(family), HTTPS)?);
    ensure!(!world.reaches(elsewhere(family), OTHER)?);
    ensure!(world.reaches(family.far(), OTHER)?);
    Ok(())
}

fn published_ports_are_answered(_: Backend, family: Family) -> Result<()> {
    const OUTSIDE: u16 = 8080;
    const INSIDE: u16 = 80;
    let host = SocketAddr::new(family.any(), OUTSIDE);
    let published = [false, true].map(|udp| Published { host, guest_port: INSIDE, udp }).to_vec();
    let options = Options { mtu: LARGE, published, egress: vec!["none".into()], ..Options::default() };
    let world = World::with(family, &options)?;
    ensure!(!world.reaches(family.far(), HTTPS)?);
    let (guest, far) = (&world.lab.guest, &world.lab.far);
    let listener = guest.run(|| TcpListener::bind((family.any(), INSIDE)))?;
    let mut outside = far.connect((family.host(), OUTSIDE).into())?;
    let mut inside = patient(listener.accept()?.0)?;
    // TLS of whichever name too: the guest is not the one who began.
    let answer = hello(Some("any.test"));
    outside.write_all(b"ask")?;
    inside.read_exact(&mut [0; 3])?;
    inside.write_all(&answer)?;
    let mut heard = vec![0; answer.len()];
    outside.read_exact(&mut heard)?;
    ensure!(heard == answer);
    let (inside, outside) = (guest.datagrams(family.any(), INSIDE)?, far.datagrams(family.far(), 0)?);
    outside.send_to(b"ask", (family.host(), OUTSIDE))?;
    let (_, who) = inside.recv_from(&mut [0; 8])?;
    inside.send_to(b"answer", who)?;
    outside.recv_from(&mut [0; 8])?;
    Ok(())
}
