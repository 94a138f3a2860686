//! TCP through user-mode networking, as the guest's own stack and the host's see it.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rbox_tests::lines;
use rbox_tests::patience::until;
use rbox_tests::slirp::{Backend, Family, Lab, Options};
use rbox_tests::traffic::{is_reset, patient, read_pattern, reset, write_pattern};

// slirp4netns ends a connection in order that the guest has reset. The pasta that Debian 12 has (2023-03) waits where
// others refuse, mixes bytes up when both ends send, and leaves ends and resets of the guest's unsaid.
lines! {
    a_byte_each_way: rbox routed slirp4netns pasta_v4;
    ten_megabytes_each_way_at_once: rbox routed slirp4netns;
    ten_megabytes_each_way_at_an_mtu_of_1500: rbox routed slirp4netns;
    a_closed_port_refuses: rbox routed slirp4netns;
    where_the_host_has_no_way_there_is_none: rbox routed slirp4netns;
    nobody_is_connected_before_the_host_is: rbox routed slirp4netns pasta;
    the_guest_closes_one_way: rbox routed slirp4netns;
    the_other_end_closes_one_way: rbox routed slirp4netns pasta;
    the_guest_resets: rbox routed;
    the_other_end_resets: rbox routed slirp4netns pasta;
    the_guest_reads_late: rbox routed slirp4netns;
    the_other_end_reads_late: rbox routed slirp4netns;
    many_small_writes_keep_their_order: rbox routed slirp4netns;
    a_thousand_at_once: rbox routed slirp4netns pasta_v4;
    connections_one_after_the_other: rbox routed slirp4netns;
    what_is_idle_stays: rbox routed slirp4netns pasta;
}

/// A connection from the guest to far: the guest's end, and the other one.
fn connection(lab: &Lab, family: Family) -> Result<(TcpStream, TcpStream)> {
    lab.guest.connection_to(&lab.far.listen(family.far())?)
}

fn a_byte_each_way(backend: Backend, family: Family) -> Result<()> {
    let lab = Lab::new(backend, &Options::default())?;
    for address in [family.far(), family.farther()] {
        let (mut near, mut far) = lab.guest.connection_to(&lab.far.listen(address)?)?;
        ensure!(far.peer_addr()?.ip() == backend.seen(family), "it comes from {}", far.peer_addr()?);
        let mut byte = [0];
        near.write_all(b"a")?;
        far.read_exact(&mut byte)?;
        ensure!(&byte == b"a");
        far.write_all(b"b")?;
        near.read_exact(&mut byte)?;
        ensure!(&byte == b"b");
        drop(near);
        ensure!(far.read(&mut byte)? == 0);
    }
    Ok(())
}

/// Even if the first packet was lost; a time-out is a minute at least.
const AT_ONCE: Duration = Duration::from_secs(10);

const MEGABYTE: usize = 1 << 20;

fn ten_megabytes_each_way_at_once(backend: Backend, family: Family) -> Result<()> {
    megabytes_each_way(backend, family, &Options::default())
}

fn ten_megabytes_each_way_at_an_mtu_of_1500(backend: Backend, family: Family) -> Result<()> {
    megabytes_each_way(backend, family, &Options { mtu: 1500, ..Options::default() })
}

fn megabytes_each_way(backend: Backend, family: Family, options: &Options) -> Result<()> {
    let lab = Lab::new(backend, options)?;
    let (near, far) = connection(&lab, family)?;
    thread::scope(|scope| {
        let ways = [(&near, &far, 1), (&far, &near, 2)].map(|(from, to, seed)| {
            let writer = scope.spawn(move || {
                write_pattern(from, seed, 10 * MEGABYTE)?;
                from.shutdown(Shutdown::Write)
            });
            let reader = scope.spawn(move || {
                read_pattern(to, seed, 10 * MEGABYTE)?;
                ensure!({ to }.read(&mut [0])? == 0, "more came than was written");
                Ok(())
            });
            (writer, reader)
        });
        for (writer, reader) in ways {
            writer.join().expect("no panic")?;
            reader.join().expect("no panic")?;
        }
        Ok(())
    })
}

fn a_closed_port_refuses(backend: Backend, family: Family) -> Result<()> {
    let lab = Lab::new(backend, &Options::default())?;
    let open = lab.far.listen(family.far())?;
    let closed = open.local_addr()?;
    drop(open);
    let started = Instant::now();
    let error = lab.guest.connect(closed).err().context("nobody is there, and yet it is connected")?;
    ensure!(error.kind() == ErrorKind::ConnectionRefused, "{error}");
    ensure!(started.elapsed() < AT_ONCE, "only after {:?}", started.elapsed());
    Ok(())
}

fn where_the_host_has_no_way_there_is_none(backend: Backend, family: Family) -> Result<()> {
    let lab = Lab::new(backend, &Options::default())?;
    let started = Instant::now();
    let error = lab.guest.connect((family.unreachable(), 80).into()).err().context("nobody is there")?;
    ensure!(matches!(error.kind(), ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable), "{error}");
    ensure!(started.elapsed() < AT_ONCE, "only after {:?}", started.elapsed());
    Ok(())
}

/// Somebody who never answers: the guest waits, as it would without us.
fn nobody_is_connected_before_the_host_is(backend: Backend, family: Family) -> Result<()> {
    let lab = Lab::new(backend, &Options::default())?;
    // What comes to the host by this way is for nobody, and nobody says so.
    let prefix = if family == Family::V4 { "198.51.100.99/32" } else { "2001:db8:1::99/128" };
    lab.far.ip(&format!("route add blackhole {prefix}"))?;
    let silent: SocketAddr = (prefix.split('/').next().context("an address")?.parse::<std::net::IpAddr>()?, 80).into();
    lab.far.set("ipv4/ip_forward", "1")?;
    lab.far.set("ipv6/conf/all/forwarding", "1")?;
    let result = lab.guest.run(|| TcpStream::connect_timeout(&silent, Duration::from_secs(2)));
    let error = result.err().context("nobody has answered, and yet it is connected")?;
    ensure!(error.kind() == ErrorKind::TimedOut, "{error}");
    Ok(())
}

fn the_guest_closes_one_way(backend: Backend, family: Family) -> Result<()> {
    let lab = Lab::new(backend, &Options::default())?;
    let (near, far) = connection(&lab, family)?;
    one_way_closed(&near, &far)
}

fn the_other_end_closes_one_way(backend: Backend, family: Family) -> Result<()> {
    let lab = Lab::new(backend, &Options::default())?;
    let (near, far) = connection(&lab, family)?;
    one_way_closed(&far, &near)
}

/// What is sent by an end that hears no more still arrives, for as long as it likes.
fn one_way_closed(mut closes: &TcpStream, mut sends: &TcpStream) -> Result<()> {
    closes.write_all(b"last words")?;
    closes.shutdown(Shutdown::Write)?;
    let mut heard = String::new();
    sends.read_to_string(&mut heard)?;
    ensure!(heard == "last words", "{heard}");
    thread::sleep(Duration::from_millis(500));
    thread::scope(|scope| {
        let writer = scope.spawn(|| write_pattern(sends, 3, MEGABYTE));
        read_pattern(closes, 3, MEGABYTE)?;
        writer.join().expect("no panic")?;
        sends.shutdown(Shutdown::Write)?;
        ensure!(closes.read(&mut [0])? == 0);
        Ok(())
    })
}

fn the_guest_resets(backend: Backend, family: Family) -> Result<()> {
    let lab = Lab::new(backend, &Options::default())?;
    let (near, mut far) = connection(&lab, family)?;
    reset(near, &far)?;
    let read = far.read(&mut [0]);
    ensure!(is_reset(&read), "{read:?}");
    Ok(())
}

fn the_other_end_resets(backend: Backend, family: Family) -> Result<()> {
    let lab = Lab::new(backend, &Options::default())?;
    let (mut near, far) = connection(&lab, family)?;
    reset(far, &near)?;
    let read = near.read(&mut [0]);
    ensure!(is_reset(&read), "{read:?}");
    Ok(())
}

fn the_guest_reads_late(backend: Backend, family: Family) -> Result<()> {
    let lab = Lab::new(backend, &Options::default())?;
    let (near, far) = connection(&lab, family)?;
    read_late(&near, &far)
}

fn the_other_end_reads_late(backend: Backend, family: Family) -> Result<()> {
    let lab = Lab::new(backend, &Options::default())?;
    let (near, far) = connection(&lab, family)?;
    read_late(&far, &near)
}

/// Far more than all buffers on the way hold: windows close, and open again, twice.
fn read_late(reads: &TcpStream, writes: &TcpStream) -> Result<()> {
    const LENGTH: usize = 40 * MEGABYTE;
    thread::scope(|scope| {
        let writer = scope.spawn(|| write_pattern(writes, 4, LENGTH));
        thread::sleep(Duration::from_secs(1));
        ensure!(!writer.is_finished(), "somebody holds {LENGTH} bytes that nobody reads");
        let mut hesitant = Hesitant { stream: reads, pause_at: LENGTH / 2, read: 0 };
        read_pattern(&mut hesitant, 4, LENGTH)?;
        writer.join().expect("no panic")?;
        Ok(())
    })
}

/// Stops for a while in the middle.
struct Hesitant<'a> {
    stream: &'a TcpStream,
    pause_at: usize,
    read: usize,
}

impl Read for Hesitant<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = self.stream.read(buffer)?;
        self.read += length;
        if self.read >= self.pause_at {
            self.pause_at = usize::MAX;
            thread::sleep(Duration::from_secs(1));
        }
        Ok(length)
    }
}

fn many_small_writes_keep_their_order(backend: Backend, family: Family) -> Result<()> {
    let lab = Lab::new(backend, &Options::default())?;
    let (near, far) = connection(&lab, family)?;
    for (mut from, to) in [(&near, &far), (&far, &near)] {
        from.set_nodelay(true)?;
        thread::scope(|scope| -> Result<()> {
            let writer =
                scope.spawn(move || (0..20_000u32).try_for_each(|number| from.write_all(&number.to_be_bytes())));
            let mut to = std::io::BufReader::new(to);
            for number in 0..20_000u32 {
                let mut bytes = [0; 4];
                to.read_exact(&mut bytes)?;
                ensure!(u32::from_be_bytes(bytes) == number, "{bytes:?} in the place of {number}");
            }
            Ok(writer.join().expect("no panic")?)
        })?;
    }
    Ok(())
}

fn a_thousand_at_once(backend: Backend, family: Family) -> Result<()> {
    let lab = Lab::new(backend, &Options::default())?;
    let listener = lab.far.listen(family.far())?;
    let mut all: Vec<(TcpStream, TcpStream)> =
        (0..1000).map(|_| lab.guest.connection_to(&listener)).collect::<Result<_>>()?;
    for (number, (near, far)) in (0u32..).zip(&mut all) {
        near.write_all(&number.to_be_bytes())?;
        far.write_all(&(!number).to_be_bytes())?;
    }
    let mut bytes = [0; 4];
    for (number, (near, far)) in (0u32..).zip(&mut all) {
        far.read_exact(&mut bytes)?;
        ensure!(u32::from_be_bytes(bytes) == number);
        near.read_exact(&mut bytes)?;
        ensure!(u32::from_be_bytes(bytes) == !number);
    }
    // One end of each is closed, and then nobody is in the way of the next ones.
    for (number, (near, far)) in all.into_iter().enumerate() {
        let (closed, mut other) = if number % 2 == 0 { (near, far) } else { (far, near) };
        drop(closed);
        ensure!(other.read(&mut bytes)? == 0);
    }
    lab.guest.connection_to(&listener).map(drop)
}

fn connections_one_after_the_other(backend: Backend, family: Family) -> Result<()> {
    let mut lab = Lab::new(backend, &Options::default())?;
    let slirp = lab.slirp().map(|slirp| slirp.pid());
    let listener = lab.far.listen(family.far())?;
    let fds = |pid| std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
    let held = || slirp.map_or(0, fds);
    let before = held();
    for number in 0..2000u32 {
        let (mut near, mut far) = lab.guest.connection_to(&listener)?;
        near.write_all(&number.to_be_bytes())?;
        let mut bytes = [0; 4];
        far.read_exact(&mut bytes)?;
        ensure!(u32::from_be_bytes(bytes) == number);
        drop(near);
        ensure!(far.read(&mut bytes)? == 0);
    }
    // pasta keeps some sockets in store.
    until(held, |held| *held <= before + 100);
    Ok(())
}

/// Longer than it takes to lose patience with who does not answer; and then it is told when nobody is there any more.
fn what_is_idle_stays(backend: Backend, family: Family) -> Result<()> {
    let lab = Lab::new(backend, &Options::default())?;
    let (near, mut far) = connection(&lab, family)?;
    thread::sleep(Duration::from_secs(5));
    (&near).write_all(b"still here")?;
    let mut heard = [0; 10];
    far.read_exact(&mut heard)?;
    ensure!(&heard == b"still here");
    let near = patient(near)?;
    drop(far);
    ensure!((&near).read(&mut [0])? == 0);
    Ok(())
}
