//! User-mode networking for long, and of all kinds at once: nothing is lost, and nothing of it stays.
//!
//! Load and rest take turns. At rest all descriptors but those of flows that are remembered by time must be gone, the
//! process must sleep, and its memory must not be more than it was at the beginning.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rbox_fuzz::Random;
use rbox_sys::ping;
use rbox_tests::dns::{self, MANY};
use rbox_tests::held::Held;
use rbox_tests::netns::Namespace;
use rbox_tests::patience::{LIMIT, until};
use rbox_tests::slirp::{Backend, Family, Lab, Options, Published, judged};
use rbox_tests::talk::{Answering, End, Manner, Talk};
use rbox_tests::traffic::{Pattern, patient, tells_reset, within};

#[test]
fn mixed_flows_for_a_minute_and_a_half() {
    judged("mixed_flows_for_a_minute_and_a_half", Backend::Rbox, Family::V4, |backend, _| {
        soak(backend, Duration::from_secs(90))
    });
}

#[test]
#[ignore = "long: takes an hour"]
fn mixed_flows_for_an_hour() {
    judged("mixed_flows_for_an_hour", Backend::Rbox, Family::V4, |backend, _| soak(backend, Duration::from_secs(3600)));
}

#[test]
#[ignore = "long: proves the test"]
fn mixed_flows_by_the_kernel_alone() {
    judged("mixed_flows_by_the_kernel_alone", Backend::Routed, Family::V4, |backend, _| {
        soak(backend, Duration::from_secs(60))
    });
}

#[test]
fn five_thousand_short_connections() {
    judged("five_thousand_short_connections", Backend::Rbox, Family::V4, |backend, _| short_ones(backend, 5000));
}

#[test]
#[ignore = "long: takes minutes"]
fn two_hundred_thousand_short_connections() {
    judged("two_hundred_thousand_short_connections", Backend::Rbox, Family::V4, |backend, _| {
        short_ones(backend, 200_000)
    });
}

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// What all choices are made from.
const SEED: u64 = 20_260_000;
/// How many do something at once.
const CLIENTS: u64 = 16;
/// What they do before they rest.
const JOBS: u64 = 1000;
/// Connections of each kind and family that stay, and say something between two rests.
const LASTING: usize = 2;
/// Long enough for memory to be given back, which is after a second.
const REST: Duration = Duration::from_millis(2500);
/// How long the process may be on a processor in that time.
const ASLEEP: Duration = Duration::from_millis(500);
/// In KiB: what an allocator keeps differs by some pages.
const SLACK: usize = 256;
/// How many sockets that are remembered have a KiB at least.
const TO_A_KIB: usize = 2;

/// How long flows without an end of their own are remembered, and how much later than that they may go.
const KEEPS_DATAGRAMS: Duration = Duration::from_secs(300);
const KEEPS_ECHOES: Duration = Duration::from_secs(60);
const LATE: Duration = Duration::from_secs(20);

/// Far's, of all who answer there; and one of nobody's.
const ANSWERS: u16 = 7000;
const CLOSED: u16 = 7001;
/// Who never answers, and nobody answers for.
const SILENT: (Ipv4Addr, Ipv6Addr) =
    (Ipv4Addr::new(198, 51, 100, 99), Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x99));
/// The host's and the guest's, where somebody answers, and where nobody does.
const PUBLISHED: (u16, u16) = (8080, 80);
const DESERTED: (u16, u16) = (8081, 81);
/// Ports of the guest's for datagrams, each as late as possible a second time: none that the kernel chooses.
const OWN_PORTS: RangeInclusive<u16> = 10_000..=31_999;

/// How long to wait for a datagram that may be lost, before it is sent again, and how often that is done.
const PATIENCE: Duration = Duration::from_secs(2);
const TRIES: u32 = 10;

const NAMED: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 101);

/// What is done, and how often of a hundred times. Of datagrams and echoes, fewer than would be forgotten to make room
/// for others: 4096 in five minutes and 512 in one, however fast the machine is.
const KINDS: [(usize, Job); 10] = [
    (52, World::talks),
    (20, World::talks_from_outside),
    (5, World::is_refused),
    (4, World::has_no_way),
    (1, World::gives_up),
    (3, World::finds_nobody_inside),
    (3, World::sends_datagrams),
    (4, World::sends_datagrams_from_outside),
    (2, World::pings),
    (6, World::asks_for_names),
];

type Job = fn(&World, Family, &mut Random) -> Result<()>;

/// Everybody there is.
struct World {
    backend: Backend,
    lab: Lab,
    /// The process under test.
    slirp: Option<u32>,
    answering: Answering,
    next_port: AtomicUsize,
    remembered: Mutex<Vec<Remembered>>,
}

/// A socket of datagrams that was used, and is kept after that.
struct Remembered {
    from: Instant,
    until: Instant,
    keep: Duration,
}

fn soak(backend: Backend, time: Duration) -> Result<()> {
    println!("seed {SEED}");
    let world = World::new(backend)?;
    let lasting = world.lasting()?;
    let baseline = world.held()?;
    let mut samples = Vec::new();
    let (begin, mut cycle) = (Instant::now(), 0);
    // What is first is warming up.
    while begin.elapsed() < time || cycle < 7 {
        for (number, (talk, stream)) in lasting.iter().enumerate() {
            talk.word(stream, cycle).with_context(|| format!("lasting connection {number}, cycle {cycle}"))?;
        }
        world.load(cycle)?;
        samples.extend(world.rest(baseline, lasting.len())?);
        cycle += 1;
    }
    drop(lasting);
    let without_them = baseline.map(|held| Held { others: held.others - 4 * LASTING, ..held });
    world.rest(without_them, 0)?;
    if time > 2 * KEEPS_DATAGRAMS {
        thread::sleep(KEEPS_DATAGRAMS + LATE);
        samples.extend(world.rest(without_them, 0)?);
        ensure!(world.remembered() == (0..=0), "something is still to be remembered");
    }
    does_not_grow(&samples[1.min(samples.len())..])
}

/// In the last third nothing needs more memory than in the first, except for what is remembered.
fn does_not_grow(samples: &[Held]) -> Result<()> {
    let (third, mut remembered) = (samples.len() / 3, 0);
    let own = samples.iter().map(|held| {
        // Tables stay as large as they have ever been.
        remembered = remembered.max(held.datagrams);
        held.memory.saturating_sub(remembered / TO_A_KIB)
    });
    let own: Vec<usize> = own.collect();
    let most = |samples: &[usize]| samples.iter().max().copied().unwrap_or(0);
    let (first, last) = (most(&own[..third]), most(&own[own.len() - third..]));
    ensure!(last <= first + SLACK, "memory grows: {first} KiB at first, {last} KiB in the end");
    Ok(())
}

impl World {
    fn new(backend: Backend) -> Result<Self> {
        let published = FAMILIES.iter().flat_map(|family| {
            let at =
                |(host, guest_port): (u16, u16), udp| Published { host: (family.any(), host).into(), guest_port, udp };
            [at(PUBLISHED, false), at(PUBLISHED, true), at(DESERTED, false)]
        });
        let mut lab = Lab::new(backend, &Options { mtu: 1500, published: published.collect(), ..Options::default() })?;
        for (namespace, name, value) in [
            // What goes nowhere is told at once, however often.
            (&lab.host, "ipv4/icmp_ratelimit", "0"),
            (&lab.host, "ipv6/icmp/ratelimit", "0"),
            // Who is asked and says nothing is given up soon.
            (&lab.host, "ipv4/tcp_syn_retries", "1"),
            (&lab.far, "ipv4/ip_forward", "1"),
            (&lab.far, "ipv6/conf/all/forwarding", "1"),
        ] {
            namespace.set(name, value)?;
        }
        lab.far.ip(&format!("route add blackhole {}/32\n route add blackhole {}/128", SILENT.0, SILENT.1))?;
        let answering = Answering::default();
        let all = |port| SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        answering.at(&lab.far, all(ANSWERS))?;
        answering.at(&lab.guest, all(PUBLISHED.1))?;
        echo_datagrams(lab.guest.datagrams(all(0).ip(), PUBLISHED.1)?);
        for family in FAMILIES {
            dns::Server::start(&lab.far, family.far(), NAMED)?;
            for address in [family.far(), family.farther()] {
                echo_datagrams(lab.far.datagrams(address, ANSWERS)?);
            }
        }
        // Others have their own ways with descriptors.
        let slirp = lab.slirp().filter(|_| backend == Backend::Rbox).map(|slirp| slirp.pid());
        let (next_port, remembered) = (AtomicUsize::new(0), Mutex::default());
        Ok(Self { backend, lab, slirp, answering, next_port, remembered })
    }

    /// Where a client outside finds the guest.
    fn outer(&self, family: Family, (host, guest): (u16, u16)) -> SocketAddr {
        if self.backend == Backend::Routed {
            return (family.guest(), guest).into();
        }
        (family.host(), host).into()
    }

    /// Connections that are idle for longer than all others.
    fn lasting(&self) -> Result<Vec<(Talk, TcpStream)>> {
        let mut all = Vec::new();
        for seed in 0..LASTING as u64 {
            let talk = Talk { manner: Manner::Words(End::Asking), seed, lengths: [100, 2000] };
            for family in FAMILIES {
                let inner = self.lab.guest.connect((family.far(), ANSWERS).into())?;
                let outer = self.lab.far.connect(self.outer(family, PUBLISHED))?;
                all.extend([(talk, inner), (talk, outer)]);
            }
        }
        all.iter().try_for_each(|(talk, stream)| talk.begin(stream))?;
        Ok(all)
    }

    /// All jobs of a cycle. Which these are is the same each time, who does each of them is not.
    fn load(&self, cycle: u64) -> Result<()> {
        let (next, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let work = || -> Result<()> {
            loop {
                let number = next.fetch_add(1, Ordering::SeqCst) as u64;
                if number >= JOBS || failed.load(Ordering::SeqCst) > 0 {
                    return Ok(());
                }
                let mut random = Random::new((SEED + cycle * JOBS + number).wrapping_mul(0x9e37_79b9_7f4a_7c15));
                let (family, kind) = (*random.of(&FAMILIES), chosen(&mut random));
                if let Err(error) = KINDS[kind].1(self, family, &mut random) {
                    failed.fetch_add(1, Ordering::SeqCst);
                    return Err(error.context(format!("cycle {cycle}, job {number}: kind {kind}, {family:?}")));
                }
            }
        };
        thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(work)).collect();
            let results: Vec<_> = clients.into_iter().map(|client| client.join().expect("no panic")).collect();
            results.into_iter().for_each(|result| self.answering.note(result));
        });
        self.answering.check()
    }

    /// Nobody does anything: looks at what is held. The baseline is what there was before everything.
    fn rest(&self, baseline: Option<Held>, lasting: usize) -> Result<Option<Held>> {
        until(|| self.answering.under_way(), |under_way| *under_way == lasting);
        self.answering.check()?;
        let (Some(baseline), Some(pid)) = (baseline, self.slirp) else { return Ok(None) };
        let before = until(|| Held::by(pid), |held| held.as_ref().is_ok_and(|held| held.others == baseline.others))?;
        thread::sleep(REST);
        let (held, remembered) = (Held::by(pid)?, self.remembered());
        println!("{held:?}");
        ensure!(held.others == baseline.others, "there were {} other descriptors at first", baseline.others);
        let more = held.datagrams.saturating_sub(baseline.datagrams);
        ensure!(remembered.contains(&more), "{more} sockets of datagrams are remembered, and not {remembered:?}");
        let busy = held.cpu - before.cpu;
        ensure!(busy < ASLEEP, "it does not sleep, but runs for {busy:?}");
        Ok(Some(held))
    }

    fn held(&self) -> Result<Option<Held>> {
        self.slirp.map(Held::by).transpose()
    }

    /// So many sockets of datagrams must still be there, at least, and so many may be.
    fn remembered(&self) -> RangeInclusive<usize> {
        let now = Instant::now();
        let mut all = lock(&self.remembered);
        all.retain(|used| used.until + used.keep + LATE > now);
        all.iter().filter(|used| used.from + used.keep > now).count()..=all.len()
    }

    /// Does something by a socket that is then kept.
    fn remember<T>(&self, keep: Duration, act: impl FnOnce() -> Result<T>) -> Result<T> {
        let from = Instant::now();
        let result = act()?;
        lock(&self.remembered).push(Remembered { from, until: Instant::now(), keep });
        Ok(result)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The place of a kind, each as often as is said there.
fn chosen(random: &mut Random) -> usize {
    let mut left = random.below(KINDS.iter().map(|(often, _)| often).sum());
    KINDS
        .iter()
        .position(|(often, _)| {
            let here = left < *often;
            left = left.saturating_sub(*often);
            here
        })
        .unwrap_or(0)
}

/// What is said in most conversations is short.
fn length(random: &mut Random) -> u32 {
    let most = match random.below(10) {
        0 => 4 << 20,
        1..4 => 256 << 10,
        _ => 4 << 10,
    };
    1 + random.below(most) as u32
}

fn talk(from: &Namespace, to: SocketAddr, random: &mut Random) -> Result<()> {
    let (manner, seed) = (Talk::manner(random.below(usize::MAX)), random.number());
    let talk = Talk { manner, seed, lengths: [length(random), length(random)] };
    // Some are idle for a while now and then.
    let pause = if random.one_in(20) { random.below(1500) as u64 } else { 0 };
    let words = 1 + random.below(5) as u64;
    let stream = from.connect(to)?;
    talk.begin(&stream)
        .and_then(|()| talk.ask(stream, words, Duration::from_millis(pause)))
        .context(format!("{talk:?}"))
}

/// Sends datagrams back to where they came from, until the process ends.
fn echo_datagrams(socket: UdpSocket) {
    thread::spawn(move || -> Result<()> {
        socket.set_read_timeout(None)?;
        let mut buffer = vec![0; 1 << 16];
        loop {
            let (length, from) = socket.recv_from(&mut buffer)?;
            // Some that are told of do not get there.
            let _ = socket.send_to(&buffer[..length], from);
        }
    });
}

/// There and back, by way of who sends back what he gets.
fn round_trip(socket: &UdpSocket, to: SocketAddr, random: &mut Random) -> Result<()> {
    let any = 1 + random.below(65_507);
    let length = *random.of(&[0, 1, 100, 1472, 1473, 9000, 65_507, any]);
    let (sent, mut buffer) = (Pattern::bytes(random.number(), length), vec![0; 1 << 16]);
    for _ in 0..TRIES {
        socket.send_to(&sent, to)?;
        if let Some((length, from)) = within(socket, PATIENCE, |socket| socket.recv_from(&mut buffer)) {
            ensure!(from == to && buffer[..length] == sent, "{length} bytes came from {from}, or other ones");
            return Ok(());
        }
    }
    bail!("{length} bytes to {to} never came back")
}

/// The kinds of jobs.
impl World {
    fn talks(&self, family: Family, random: &mut Random) -> Result<()> {
        let to = *random.of(&[family.far(), family.farther()]);
        talk(&self.lab.guest, (to, ANSWERS).into(), random)
    }

    fn talks_from_outside(&self, family: Family, random: &mut Random) -> Result<()> {
        talk(&self.lab.far, self.outer(family, PUBLISHED), random)
    }

    fn is_refused(&self, family: Family, _: &mut Random) -> Result<()> {
        self.is_not_connected((family.far(), CLOSED).into(), &[ErrorKind::ConnectionRefused])
    }

    fn has_no_way(&self, family: Family, _: &mut Random) -> Result<()> {
        let to = (family.unreachable(), 80).into();
        self.is_not_connected(to, &[ErrorKind::HostUnreachable, ErrorKind::NetworkUnreachable])
    }

    fn is_not_connected(&self, to: SocketAddr, kinds: &[ErrorKind]) -> Result<()> {
        let error = self.lab.guest.connect(to).err().context("somebody is there")?;
        // One in thousands, of those whose kernel hears it while they ask, is told that it is over and not why; std has
        // then an error without a number.
        let unsaid = error.raw_os_error().is_none() && error.kind() != ErrorKind::TimedOut;
        ensure!(unsaid || kinds.contains(&error.kind()), "{error}");
        Ok(())
    }

    fn gives_up(&self, family: Family, _: &mut Random) -> Result<()> {
        let silent = if family == Family::V4 { SILENT.0.into() } else { SILENT.1.into() };
        let to = SocketAddr::new(silent, 80);
        let result = self.lab.guest.run(|| TcpStream::connect_timeout(&to, Duration::from_millis(300)));
        let error = result.err().context("somebody is there")?;
        ensure!(error.kind() == ErrorKind::TimedOut, "{error}");
        Ok(())
    }

    fn finds_nobody_inside(&self, family: Family, _: &mut Random) -> Result<()> {
        // It may be told before who connects has got to see that he is connected.
        let result = self.lab.far.connect(self.outer(family, DESERTED)).and_then(|mut stream| stream.read(&mut [0]));
        let error = result.err().context("somebody is there")?;
        ensure!(error.kind() == ErrorKind::ConnectionRefused || tells_reset(&error), "{error}");
        Ok(())
    }

    fn sends_datagrams(&self, family: Family, random: &mut Random) -> Result<()> {
        let to = *random.of(&[family.far(), family.farther()]);
        let number = self.next_port.fetch_add(1, Ordering::SeqCst) % OWN_PORTS.len();
        let socket = self.lab.guest.datagrams(family.any(), OWN_PORTS.start() + number as u16)?;
        self.remember(KEEPS_DATAGRAMS, || round_trip(&socket, (to, ANSWERS).into(), random))
    }

    fn sends_datagrams_from_outside(&self, family: Family, random: &mut Random) -> Result<()> {
        let socket = self.lab.far.datagrams(family.far(), 0)?;
        round_trip(&socket, self.outer(family, PUBLISHED), random)
    }

    fn pings(&self, family: Family, random: &mut Random) -> Result<()> {
        let outside = !random.one_in(4);
        let to = if outside { *random.of(&[family.far(), family.farther()]) } else { family.gateway() };
        if outside { self.remember(KEEPS_ECHOES, || self.ping(to, random)) } else { self.ping(to, random) }
    }

    fn ping(&self, to: IpAddr, random: &mut Random) -> Result<()> {
        let socket = self.lab.guest.run(|| ping::socket(to.is_ipv6()))?;
        socket.set_nonblocking(false)?;
        let (request, reply) = if to.is_ipv6() { (128, 129) } else { (8, 0) };
        let any = random.below(30_000);
        let data = Pattern::bytes(random.number(), *random.of(&[0, 56, 1472, any]));
        let mut buffer = vec![0; 1 << 16];
        for sequence in 1..=TRIES as u8 {
            socket.send_to(&[&[request, 0, 0, 0, 0, 0, 0, sequence], &data[..]].concat(), (to, 0))?;
            if let Some(length) = within(&socket, PATIENCE, |socket| socket.recv(&mut buffer)) {
                ensure!(buffer[0] == reply && buffer[8..length] == data, "{length} bytes came, or other ones");
                return Ok(());
            }
        }
        bail!("{to} never answers {} bytes", data.len())
    }

    fn asks_for_names(&self, family: Family, random: &mut Random) -> Result<()> {
        if self.backend == Backend::Routed {
            return Ok(());
        }
        let (number, is_large) = (random.number(), random.one_in(4));
        let (name, count) = if is_large { (dns::LARGE, MANY.into()) } else { ("name.test", 1) };
        let found = dns::ask(&self.lab.guest, family.dns(), &format!("{number:x}.{name}"), number as u16)?;
        ensure!(found.len() == count && found[0] == NAMED, "{found:?}");
        Ok(())
    }
}

/// A connection for each line and its answer.
fn short_ones(backend: Backend, count: u64) -> Result<()> {
    const BATCHES: u64 = 10;
    let world = World::new(backend)?;
    // What is left of connections that have ended (TIME-WAIT) keeps its port for a minute.
    for namespace in [&world.lab.guest, &world.lab.host] {
        namespace.set("ipv4/ip_local_port_range", "1024 65535")?;
    }
    let mut servers = Vec::new();
    for family in FAMILIES.into_iter().cycle().take(8) {
        let listener = world.lab.far.listen(family.far())?;
        servers.push(listener.local_addr()?);
        for _ in 0..4 {
            let (listener, answering) = (listener.try_clone()?, world.answering.clone());
            thread::spawn(move || {
                loop {
                    answering.note(answer_line(&listener));
                }
            });
        }
    }
    let (baseline, mut samples) = (world.held()?, Vec::new());
    for batch in 0..BATCHES {
        let (begin, next) = (Instant::now(), AtomicUsize::new(0));
        let work = || -> Result<()> {
            loop {
                let number = next.fetch_add(1, Ordering::SeqCst) as u64;
                if number >= count / BATCHES {
                    return Ok(());
                }
                let server = servers[number as usize % servers.len()];
                line(server, number).with_context(|| format!("batch {batch}, connection {number} to {server}"))?;
            }
        };
        thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(|| world.lab.guest.run(work))).collect();
            clients.into_iter().for_each(|client| world.answering.note(client.join().expect("no panic")));
        });
        println!("{} connections in {:?}", count / BATCHES, begin.elapsed());
        samples.extend(world.rest(baseline, 0)?);
    }
    does_not_grow(&samples[1.min(samples.len())..])
}

/// Whether who connects hangs up first, or who answers.
fn asker_hangs_up(number: u64) -> bool {
    (number / 8).is_multiple_of(2)
}

fn line(server: SocketAddr, number: u64) -> Result<()> {
    let mut stream = patient(TcpStream::connect_timeout(&server, LIMIT)?)?;
    stream.write_all(format!("{number}\n").as_bytes())?;
    let mut answer = String::new();
    let mut reader = BufReader::new(&stream);
    reader.read_line(&mut answer)?;
    ensure!(answer == format!("{number} it is\n"), "{answer:?}");
    ensure!(asker_hangs_up(number) || reader.read(&mut [0])? == 0, "more came than was said");
    Ok(())
}

fn answer_line(listener: &TcpListener) -> Result<()> {
    let mut stream = patient(listener.accept()?.0)?;
    let mut line = String::new();
    let mut reader = BufReader::new(stream.try_clone()?);
    reader.read_line(&mut line)?;
    let number = line.trim().parse().with_context(|| format!("{line:?}"))?;
    stream.write_all(format!("{number} it is\n").as_bytes())?;
    ensure!(!asker_hangs_up(number) || reader.read(&mut [0])? == 0, "more came than was said");
    Ok(())
}
