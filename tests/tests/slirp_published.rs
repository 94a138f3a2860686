//! Published ports: who connects to the host's address reaches the guest, and is seen by it as who he is.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rbox_tests::lines;
use rbox_tests::slirp::{Backend, Family, LARGE, Lab, Options, Published};
use rbox_tests::traffic::{Pattern, is_reset, patient, read_pattern, reset, within, write_pattern};

// slirp4netns 1.2 publishes IPv4 alone, shows the gateway to the guest where others connect, and ends in order what the
// guest has reset or refused. The pasta of Debian 12 hangs now and then, so that nothing can be proved by it.
lines! {
    the_guest_sees_who_connects: rbox;
    bytes_arrive_both_ways: rbox slirp4netns_v4;
    where_nobody_listens_nobody_is_connected: rbox;
    resets_pass_inwards: rbox slirp4netns_v4;
    resets_pass_outwards: rbox;
    by_the_hosts_loopback_the_gateway_connects: rbox slirp4netns_v4;
    two_hundred_connect_at_once: rbox slirp4netns_v4;
    the_guest_sees_who_sends_datagrams: rbox;
    large_datagrams: rbox slirp4netns_v4;
}

/// Of the host's, and of the guest's.
const OUTSIDE: u16 = 8080;
const INSIDE: u16 = 80;

fn lab(backend: Backend, family: Family, udp: bool) -> Result<Lab> {
    let published = vec![Published { host: (family.any(), OUTSIDE).into(), guest_port: INSIDE, udp }];
    Lab::new(backend, &Options { mtu: LARGE, published, ..Options::default() })
}

fn served(lab: &Lab, family: Family) -> Result<TcpListener> {
    Ok(lab.guest.run(|| TcpListener::bind((family.any(), INSIDE)))?)
}

/// From far to the guest: both ends.
fn connection(lab: &Lab, listener: &TcpListener, family: Family) -> Result<(TcpStream, TcpStream)> {
    let far = lab.far.connect((family.host(), OUTSIDE).into())?;
    let (near, _) = listener.accept()?;
    Ok((far, patient(near)?))
}

fn the_guest_sees_who_connects(backend: Backend, family: Family) -> Result<()> {
    let lab = lab(backend, family, false)?;
    let (far, near) = connection(&lab, &served(&lab, family)?, family)?;
    let (is, seen) = (far.local_addr()?, near.peer_addr()?);
    ensure!(is.ip() == family.far() && seen == is, "the guest sees {seen} in the place of {is}");
    Ok(())
}

fn bytes_arrive_both_ways(backend: Backend, family: Family) -> Result<()> {
    const LENGTH: usize = 10 << 20;
    let lab = lab(backend, family, false)?;
    let (far, near) = connection(&lab, &served(&lab, family)?, family)?;
    std::thread::scope(|scope| {
        let ways = [(&near, &far, 1), (&far, &near, 2)].map(|(from, to, seed)| {
            let writer = scope.spawn(move || {
                write_pattern(from, seed, LENGTH)?;
                from.shutdown(Shutdown::Write)
            });
            (writer, scope.spawn(move || read_pattern(to, seed, LENGTH)))
        });
        for (writer, reader) in ways {
            writer.join().expect("no panic")?;
            reader.join().expect("no panic")?;
        }
        Ok(())
    })
}

/// The host's port is open, so this is told only afterwards; but it is told.
fn where_nobody_listens_nobody_is_connected(backend: Backend, family: Family) -> Result<()> {
    let lab = lab(backend, family, false)?;
    match lab.far.connect((family.host(), OUTSIDE).into()) {
        Ok(mut far) => {
            far.set_read_timeout(Some(Duration::from_secs(10)))?;
            let read = far.read(&mut [0]);
            ensure!(is_reset(&read), "{read:?}");
        }
        // It may be told before who connects has got to see that he is connected.
        Err(error) => {
            ensure!(matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset), "{error}");
        }
    }
    Ok(())
}

fn resets_pass_inwards(backend: Backend, family: Family) -> Result<()> {
    let lab = lab(backend, family, false)?;
    let (far, mut near) = connection(&lab, &served(&lab, family)?, family)?;
    reset(far, &near)?;
    let read = near.read(&mut [0]);
    ensure!(is_reset(&read), "{read:?}");
    Ok(())
}

fn resets_pass_outwards(backend: Backend, family: Family) -> Result<()> {
    let lab = lab(backend, family, false)?;
    let (mut far, near) = connection(&lab, &served(&lab, family)?, family)?;
    reset(near, &far)?;
    let read = far.read(&mut [0]);
    ensure!(is_reset(&read), "{read:?}");
    Ok(())
}

/// Whom it sees it can answer: its own loopback is not the host's.
fn by_the_hosts_loopback_the_gateway_connects(backend: Backend, family: Family) -> Result<()> {
    let lab = lab(backend, family, false)?;
    let listener = served(&lab, family)?;
    let mut host = lab.host.connect((family.loopback(), OUTSIDE).into())?;
    let (near, seen) = listener.accept()?;
    ensure!(seen.ip() == family.gateway(), "the guest sees {seen}");
    let mut near = patient(near)?;
    near.write_all(b"hello")?;
    let mut heard = [0; 5];
    host.read_exact(&mut heard)?;
    ensure!(&heard == b"hello");
    Ok(())
}

fn two_hundred_connect_at_once(backend: Backend, family: Family) -> Result<()> {
    let lab = lab(backend, family, false)?;
    let listener = served(&lab, family)?;
    let far: Vec<TcpStream> =
        (0..200).map(|_| lab.far.connect((family.host(), OUTSIDE).into())).collect::<Result<_, _>>()?;
    for (number, mut far) in (0u32..).zip(&far) {
        far.write_all(&number.to_be_bytes())?;
    }
    let mut missing: Vec<u32> = (0..200).collect();
    for _ in 0..200 {
        let mut near = patient(listener.accept()?.0)?;
        let mut bytes = [0; 4];
        near.read_exact(&mut bytes)?;
        missing.retain(|number| number.to_be_bytes() != bytes);
    }
    ensure!(missing.is_empty(), "never came: {missing:?}");
    Ok(())
}

/// There and back; gives whom the guest has seen.
fn datagram(lab: &Lab, family: Family, length: usize) -> Result<(SocketAddr, SocketAddr)> {
    const PATIENCE: Duration = Duration::from_secs(2);
    let near = lab.guest.datagrams(family.any(), INSIDE)?;
    let far = lab.far.datagrams(family.far(), 0)?;
    let (ask, answer) = (Pattern::bytes(1, length), Pattern::bytes(2, length));
    let mut buffer = vec![0; 1 << 16];
    for _ in 0..3 {
        far.send_to(&ask, (family.host(), OUTSIDE))?;
        near.set_read_timeout(Some(PATIENCE))?;
        let Ok((length, seen)) = near.recv_from(&mut buffer) else { continue };
        ensure!(buffer[..length] == ask, "{length} bytes came, or other ones");
        near.send_to(&answer, seen)?;
        let back = within(&far, PATIENCE, |far| {
            let mut buffer = vec![0; 1 << 16];
            far.recv_from(&mut buffer).map(|(length, from)| (buffer[..length] == answer, from))
        });
        let (same, from) = back.context("the answer never came")?;
        ensure!(same && from == (family.host(), OUTSIDE).into(), "another answer, or from elsewhere: {from}");
        return Ok((far.local_addr()?, seen));
    }
    anyhow::bail!("{length} bytes never came")
}

fn the_guest_sees_who_sends_datagrams(backend: Backend, family: Family) -> Result<()> {
    let lab = lab(backend, family, true)?;
    let (is, seen) = datagram(&lab, family, 100)?;
    ensure!(seen == is, "the guest sees {seen} in the place of {is}");
    Ok(())
}

fn large_datagrams(backend: Backend, family: Family) -> Result<()> {
    let lab = lab(backend, family, true)?;
    for length in [1400, 9000, 65_507] {
        datagram(&lab, family, length).with_context(|| format!("{length} bytes"))?;
    }
    Ok(())
}
