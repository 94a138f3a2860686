//! A guest that is not honest: more than any program asks for, and frames that no kernel makes.
//!
//! Who serves it stays within bounds meanwhile and is as small as before once it is over, and its other connections are
//! served as if nothing were.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rbox_sys::packet;
use rbox_tests::patience::until;
use rbox_tests::slirp::{Backend, DEVICE, Family, Lab, Options};
use rbox_tests::traffic::Pattern;
use rbox_tests::{held, lines};

// slirp4netns takes as many connections as come, at 10 KiB each and more, and connects the host to itself at ports that
// it connects from.
lines! {
    beginnings_that_nobody_answers: rbox;
    beginnings_that_are_answered: rbox;
    beginnings_with_much_data: rbox;
    connections_that_the_guest_never_takes: long;
    every_port_of_the_host: rbox routed;
    datagrams_from_every_port: rbox slirp4netns;
    frames_of_no_form: rbox slirp4netns;
}

/// In MiB: what is held for a guest at most, and what may be left of it.
const MOST: u64 = 32;
const LEFT: u64 = 8;
/// For connections that nobody has answered, or as many ports of UDP; for names that are asked for; and for the rest.
const MOST_DESCRIPTORS: usize = 4096 + 512 + 64;

/// Far more than fit.
const MANY: u16 = 60_000;
/// Long enough for a busy machine; far less than a connection takes whose beginning was lost for good.
const SOON: Duration = Duration::from_secs(20);

/// A guest, and who serves it.
struct World {
    lab: Lab,
    guest: IpAddr,
    listener: TcpListener,
    /// By it the guest sends what its kernel would not.
    raw: File,
    before: Use,
}

/// What a process has.
#[derive(Debug, Clone, Copy)]
struct Use {
    /// Its own memory, in MiB.
    memory: u64,
    descriptors: usize,
}

impl World {
    fn new(backend: Backend, family: Family) -> Result<Self> {
        let lab = Lab::new(backend, &Options::default())?;
        // Nobody is waited for longer than some seconds.
        lab.host.set("ipv4/tcp_syn_retries", "1")?;
        let silent = silent(family);
        lab.far.ip(&format!("route add blackhole {silent}"))?;
        lab.far.set("ipv4/ip_forward", "1")?;
        lab.far.set("ipv6/conf/all/forwarding", "1")?;
        let listener = lab.far.listen(family.far())?;
        let raw = lab.guest.run(|| packet::sender(DEVICE))?;
        let nothing = Use { memory: 0, descriptors: 0 };
        let guest = lab.guest_address(family)?;
        let mut world = Self { lab, guest, listener, raw, before: nothing };
        world.serves()?;
        world.before = world.used()?;
        Ok(world)
    }

    /// What is used by who serves the guest; nothing where that is the kernel.
    fn used(&mut self) -> Result<Use> {
        let Some(slirp) = self.lab.slirp() else { return Ok(self.before) };
        slirp.check()?;
        let memory = held::memory(slirp.pid(), "Pss")? as u64 >> 10;
        Ok(Use { memory, descriptors: fs::read_dir(format!("/proc/{}/fd", slirp.pid()))?.count() })
    }

    /// That it is within bounds.
    fn is_bounded(&mut self) -> Result<()> {
        let (used, before) = (self.used()?, self.before);
        ensure!(used.memory <= before.memory + MOST, "{used:?}, and before {before:?}");
        ensure!(used.descriptors <= before.descriptors + MOST_DESCRIPTORS, "{used:?}, and before {before:?}");
        Ok(())
    }

    /// That it comes to be as small as before.
    fn is_over(&mut self) -> Result<()> {
        let before = self.before;
        let small = |used: &Use| used.memory <= before.memory + LEFT && used.descriptors <= before.descriptors + 8;
        until(|| self.used(), |used| used.as_ref().map_or(true, small))?;
        self.serves()
    }

    /// That an ordinary connection is served, soon.
    fn serves(&self) -> Result<()> {
        let began = Instant::now();
        let mut near = self.lab.guest.connect(self.listener.local_addr()?)?;
        let own = near.local_addr()?.port();
        near.write_all(&own.to_be_bytes())?;
        // There may be others.
        let mut far = loop {
            let (mut far, _) = self.listener.accept()?;
            far.set_read_timeout(Some(SOON))?;
            let mut said = [0; 2];
            if far.read_exact(&mut said).is_ok() && u16::from_be_bytes(said) == own {
                break far;
            }
        };
        far.write_all(b"answer")?;
        near.read_exact(&mut [0; 6])?;
        ensure!(began.elapsed() < SOON, "only after {:?}", began.elapsed());
        Ok(())
    }

    fn send(&self, protocol: u8, to: IpAddr, payload: &[u8]) -> Result<()> {
        let frame = frame(self.guest, to, protocol, payload);
        Ok((&self.raw).write_all(&frame).or_else(full)?)
    }

    /// [Begins](Self::begin) so many at a time; it stays within bounds, and serves others.
    fn flood(&mut self, ports: Range<u16>, at_a_time: u16, to: SocketAddr, data: &[u8]) -> Result<()> {
        for first in ports.clone().step_by(at_a_time.into()) {
            self.begin(first..first + at_a_time.min(ports.end - first), to, data)?;
            self.is_bounded()?;
            self.serves()?;
        }
        Ok(())
    }

    /// Sends a beginning from each of these ports, with this in it.
    fn begin(&self, ports: Range<u16>, to: SocketAddr, data: &[u8]) -> Result<()> {
        for port in ports {
            let frame = frame(self.guest, to.ip(), TCP, &beginning(port, to.port(), data));
            (&self.raw).write_all(&frame).or_else(full)?;
        }
        Ok(())
    }
}

/// There is no room in the device's queue: that one is lost, as others are.
fn full(error: std::io::Error) -> std::io::Result<()> {
    const ENOBUFS: i32 = 105;
    if error.raw_os_error() == Some(ENOBUFS) { Ok(()) } else { Err(error) }
}

/// Somebody who never answers.
fn silent(family: Family) -> IpAddr {
    match family {
        Family::V4 => [198, 51, 100, 99].into(),
        Family::V6 => [0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x99].into(),
    }
}

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// An IP packet of the guest's in a frame, with right checksums where they belong.
fn frame(from: IpAddr, to: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut payload = payload.to_vec();
    let (from, to): (Vec<u8>, Vec<u8>) = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => (from.octets().into(), to.octets().into()),
        (IpAddr::V6(from), IpAddr::V6(to)) => (from.octets().into(), to.octets().into()),
        _ => unreachable!("a packet is of one family"),
    };
    let place = match protocol {
        TCP => Some(16),
        UDP => Some(6),
        ICMP | ICMPV6 => Some(2),
        _ => None,
    };
    if let Some(place) = place {
        let length = (payload.len() as u32).to_be_bytes();
        let pseudo = [&from[..], &to, &length, &[0, 0, 0, protocol]].concat();
        let pseudo = if protocol == ICMP { &[] } else { &pseudo[..] };
        payload[place..place + 2].fill(0);
        let sum = checksum(&[pseudo, &payload].concat());
        payload[place..place + 2].copy_from_slice(&sum);
    }
    let mut frame = vec![0x52, 0x55, 0x0a, 0, 2, 2, 0x52, 0x55, 0x0a, 0, 2, 0x64];
    if from.len() == 4 {
        let length = ((20 + payload.len()) as u16).to_be_bytes();
        let mut header = vec![0x45, 0, length[0], length[1], 0, 0, 0x40, 0, 64, protocol, 0, 0];
        header.extend([from, to].concat());
        let sum = checksum(&header);
        header[10..12].copy_from_slice(&sum);
        frame.extend([8, 0]);
        frame.extend(header);
    } else {
        let length = (payload.len() as u16).to_be_bytes();
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, length[0], length[1], protocol, 64]);
        frame.extend([from, to].concat());
    }
    frame.extend(payload);
    frame
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> [u8; 2] {
    let words = bytes.chunks(2).map(|word| u64::from(word[0]) << 8 | word.get(1).copied().map_or(0, u64::from));
    let mut sum: u64 = words.sum();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    (!(sum as u16)).to_be_bytes()
}

/// A SYN with a maximum segment size.
fn beginning(from: u16, to: u16, data: &[u8]) -> Vec<u8> {
    let mut segment = [from.to_be_bytes(), to.to_be_bytes()].concat();
    segment.extend([0, 0, 3, 232, 0, 0, 0, 0, 0x60, 2, 0xff, 0xff, 0, 0, 0, 0, 2, 4, 5, 0xb4]);
    segment.extend(data);
    segment
}

fn datagram(from: u16, to: u16, data: &[u8]) -> Vec<u8> {
    let fields = [from, to, (8 + data.len()) as u16, 0];
    [&fields.map(u16::to_be_bytes).concat(), data].concat()
}

fn beginnings_that_nobody_answers(backend: Backend, family: Family) -> Result<()> {
    let mut world = World::new(backend, family)?;
    world.flood(1024..MANY, 10_000, (silent(family), 80).into(), b"")?;
    world.is_over()
}

fn beginnings_that_are_answered(backend: Backend, family: Family) -> Result<()> {
    let mut world = World::new(backend, family)?;
    let open = world.lab.far.listen(family.far())?;
    let to = open.local_addr()?;
    // The guest's kernel knows nothing of them, and resets each that is answered.
    thread::spawn(move || open.incoming().for_each(drop));
    world.flood(1024..MANY, 10_000, to, b"")?;
    world.is_over()
}

/// As many as are begun at most, with all that a packet takes in each.
fn beginnings_with_much_data(backend: Backend, family: Family) -> Result<()> {
    let mut world = World::new(backend, family)?;
    world.flood(1024..7024, 1000, (silent(family), 80).into(), &[7; 65_000])?;
    world.is_over()
}

/// The other end takes them, and the guest says nothing more, not even that it knows nothing of them.
fn connections_that_the_guest_never_takes(backend: Backend, family: Family) -> Result<()> {
    let mut world = World::new(backend, family)?;
    let open = world.lab.far.listen(family.farther())?;
    let to = open.local_addr()?;
    thread::spawn(move || open.incoming().flatten().collect::<Vec<_>>());
    world.lab.guest.ip(&format!("route add blackhole {}", to.ip()))?;
    for first in (1024..MANY).step_by(10_000) {
        world.begin(first..first + 10_000.min(MANY - first), to, b"")?;
        world.serves()?;
    }
    let (used, before) = (world.used()?, world.before);
    ensure!(used.memory <= before.memory + 2 * MOST, "{used:?}, and before {before:?}");
    // RFC 5382, REQ-5: none is given up earlier.
    thread::sleep(Duration::from_secs(230));
    ensure!(world.used()?.descriptors + 64 >= used.descriptors, "{:?}, and before {used:?}", world.used()?);
    world.is_over()
}

fn every_port_of_the_host(backend: Backend, family: Family) -> Result<()> {
    let mut world = World::new(backend, family)?;
    let open = world.lab.host.listen(family.host())?;
    let scan = |ports: std::ops::RangeInclusive<u16>| -> Result<Vec<u16>> {
        let mut found = Vec::new();
        for port in ports {
            match TcpStream::connect((family.host(), port)) {
                Ok(_) => found.push(port),
                Err(error) => ensure!(error.kind() == ErrorKind::ConnectionRefused, "port {port}: {error}"),
            }
        }
        Ok(found)
    };
    let found = thread::scope(|scope| -> Result<Vec<u16>> {
        let scans = [1..=32767, 32768..=65535].map(|ports| scope.spawn(|| world.lab.guest.run(|| scan(ports))));
        while !scans.iter().all(thread::ScopedJoinHandle::is_finished) {
            world.serves()?;
            thread::sleep(Duration::from_millis(100));
        }
        let found = scans.into_iter().map(|scan| scan.join().expect("no panic"));
        Ok(found.collect::<Result<Vec<_>>>()?.concat())
    })?;
    ensure!(found == [open.local_addr()?.port()], "{found:?}");
    world.is_bounded()?;
    world.is_over()
}

/// Of each there is a flow for minutes: they make room for each other.
fn datagrams_from_every_port(backend: Backend, family: Family) -> Result<()> {
    let mut world = World::new(backend, family)?;
    for port in 1024..MANY {
        world.send(UDP, silent(family), &datagram(port, 9, b"datagram"))?;
        // A question that nobody answers.
        world.send(UDP, family.dns(), &datagram(port, 53, &[&port.to_be_bytes()[..], QUESTION].concat()))?;
        if port % 10_000 == 0 {
            world.is_bounded()?;
            world.serves()?;
        }
    }
    world.is_bounded()?;
    world.serves()
}

/// Behind the identifier: one question, for an address of a.
const QUESTION: &[u8] = &[1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, b'a', 0, 0, 1, 0, 1];

fn frames_of_no_form(backend: Backend, family: Family) -> Result<()> {
    let mut world = World::new(backend, family)?;
    let good: Vec<Vec<u8>> = [
        (TCP, world.listener.local_addr()?.ip(), beginning(1, 2, b"data")),
        (UDP, family.far(), datagram(1, 2, b"datagram")),
        (UDP, family.dns(), datagram(1, 53, &[&[0, 1], QUESTION].concat())),
        // Echo requests, a solicitation, headers of IPv6's, and parts of packets.
        (ICMP, family.far(), [&[8, 0, 0, 0, 0, 1, 0, 1][..], &[2; 40]].concat()),
        (ICMPV6, family.far(), [&[128, 0, 0, 0, 0, 1, 0, 1][..], &[2; 40]].concat()),
        (ICMPV6, family.gateway(), [&[135, 0, 0, 0, 0, 0, 0, 0][..], &[0xfd; 16], &[1, 1, 2, 2, 2, 2, 2, 2]].concat()),
        (0, family.far(), vec![60, 0, 1, 4, 0, 0, 0, 0, 17, 0, 1, 4, 0, 0, 0, 0]),
        (44, family.far(), vec![17, 0, 0, 1, 0, 0, 0, 5, 0, 1, 0, 2, 0, 8, 1, 1]),
        (132, family.far(), vec![0; 70]),
    ]
    .into_iter()
    .map(|(protocol, to, payload)| frame(world.guest, to, protocol, &payload))
    .collect();
    let mut numbers = Pattern::new(1);
    let mut below = |limit: usize| {
        let mut number = [0; 8];
        numbers.fill(&mut number);
        (u64::from_le_bytes(number) % limit as u64) as usize
    };
    for round in 0..50_000 {
        let mut frame = good[below(good.len())].clone();
        for _ in 0..=below(4) {
            let place = below(frame.len());
            frame[place] = below(256) as u8;
        }
        match below(8) {
            0 => frame.truncate(14 + below(frame.len() - 14)),
            1 => {
                let most = 1 << below(15);
                frame.resize(frame.len() + below(most), 7);
            }
            _ => {}
        }
        (&world.raw).write_all(&frame).or_else(full)?;
        if round % 10_000 == 0 {
            world.is_bounded()?;
            world.serves()?;
        }
    }
    world.is_bounded()?;
    world.serves()
}
