//! UDP through user-mode networking.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rbox_tests::lines;
use rbox_tests::slirp::{Backend, Family, LARGE, Lab, Options};
use rbox_tests::traffic::{Pattern, within};

// libslirp knows no fragments of IPv6, the pasta of Debian 12 none at all; and that says nothing of closed ports.
lines! {
    datagrams_of_all_sizes: rbox routed slirp4netns_v4;
    datagrams_of_all_sizes_at_an_mtu_of_1500: rbox routed slirp4netns_v4;
    an_empty_datagram: rbox routed slirp4netns pasta;
    a_closed_port_refuses: rbox routed slirp4netns;
    one_socket_with_many_others: rbox routed slirp4netns pasta;
    a_socket_keeps_its_port_outside: rbox routed slirp4netns pasta;
    a_thousand_sockets_at_once: rbox routed slirp4netns pasta;
}

/// How long to wait for one that may be lost, before it is sent again.
const PATIENCE: Duration = Duration::from_secs(2);

/// Sends until it has come; no more than a few times. What came is whole, and who sent it.
fn sent(from: &UdpSocket, to: &UdpSocket, address: SocketAddr, bytes: &[u8]) -> Result<SocketAddr> {
    for _ in 0..3 {
        from.send_to(bytes, address)?;
        let mut buffer = vec![0; 1 << 16];
        to.set_read_timeout(Some(PATIENCE))?;
        match to.recv_from(&mut buffer) {
            Ok((length, who)) => {
                ensure!(&buffer[..length] == bytes, "{length} bytes came of {}, or other ones", bytes.len());
                return Ok(who);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
    anyhow::bail!("{} bytes to {address} never came", bytes.len())
}

/// There and back.
fn round_trip(near: &UdpSocket, far: &UdpSocket, length: usize) -> Result<()> {
    let there = sent(near, far, far.local_addr()?, &Pattern::bytes(1, length))?;
    let back = sent(far, near, there, &Pattern::bytes(2, length))?;
    ensure!(back == far.local_addr()?, "the answer of {} came from {back}", far.local_addr()?);
    Ok(())
}

fn datagrams_of_all_sizes(backend: Backend, family: Family) -> Result<()> {
    of_all_sizes(backend, family, LARGE)
}

fn datagrams_of_all_sizes_at_an_mtu_of_1500(backend: Backend, family: Family) -> Result<()> {
    of_all_sizes(backend, family, 1500)
}

fn of_all_sizes(backend: Backend, family: Family, mtu: u16) -> Result<()> {
    let lab = Lab::new(backend, &Options { mtu, ..Options::default() })?;
    let near = lab.guest.datagrams(family.any(), 0)?;
    for address in [family.far(), family.farther()] {
        let far = lab.far.datagrams(address, 0)?;
        for length in [1, 2, 1400, 1472, 1473, 9000, 32_000, 65_507] {
            round_trip(&near, &far, length).with_context(|| format!("{length} bytes"))?;
        }
    }
    Ok(())
}

fn an_empty_datagram(backend: Backend, family: Family) -> Result<()> {
    let lab = Lab::new(backend, &Options::default())?;
    round_trip(&lab.guest.datagrams(family.any(), 0)?, &lab.far.datagrams(family.far(), 0)?, 0)
}

fn a_closed_port_refuses(backend: Backend, family: Family) -> Result<()> {
    let lab = Lab::new(backend, &Options::default())?;
    let open = lab.far.datagrams(family.far(), 0)?;
    let closed = open.local_addr()?;
    drop(open);
    let error = refusal(&lab, family, closed)?;
    ensure!(error.kind() == ErrorKind::ConnectionRefused, "{error}");
    Ok(())
}

/// What a connected socket is told of a datagram that nobody gets.
fn refusal(lab: &Lab, family: Family, to: SocketAddr) -> Result<io::Error> {
    let near = lab.guest.datagrams(family.any(), 0)?;
    near.connect(to)?;
    near.set_read_timeout(Some(PATIENCE))?;
    for _ in 0..3 {
        let told = near.send(b"anybody?").and_then(|_| near.recv(&mut [0]));
        match told {
            Ok(_) => anyhow::bail!("somebody answers"),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Ok(error),
        }
    }
    anyhow::bail!("nothing is said of it")
}

fn one_socket_with_many_others(backend: Backend, family: Family) -> Result<()> {
    let lab = Lab::new(backend, &Options::default())?;
    let near = lab.guest.datagrams(family.any(), 0)?;
    let address = |number: usize| if number.is_multiple_of(2) { family.far() } else { family.farther() };
    let others: Vec<UdpSocket> =
        (0..20).map(|number| lab.far.datagrams(address(number), 0)).collect::<io::Result<_>>()?;
    // Each is answered to at once and again when all the others have been.
    for _ in 0..2 {
        others.iter().enumerate().try_for_each(|(number, far)| round_trip(&near, far, 100 + number))?;
    }
    Ok(())
}

/// Others know it by that (RFC 4787, REQ-1).
fn a_socket_keeps_its_port_outside(backend: Backend, family: Family) -> Result<()> {
    let lab = Lab::new(backend, &Options::default())?;
    let near = lab.guest.datagrams(family.any(), 0)?;
    let (one, other) = (lab.far.datagrams(family.far(), 0)?, lab.far.datagrams(family.far(), 0)?);
    let seen = sent(&near, &one, one.local_addr()?, b"one")?;
    ensure!(seen.ip() == backend.seen(family), "it comes from {seen}");
    ensure!(sent(&near, &other, other.local_addr()?, b"other")? == seen, "each is shown another port");
    Ok(())
}

fn a_thousand_sockets_at_once(backend: Backend, family: Family) -> Result<()> {
    let lab = Lab::new(backend, &Options::default())?;
    let far = lab.far.datagrams(family.far(), 0)?;
    let all: Vec<UdpSocket> = (0..1000).map(|_| lab.guest.datagrams(family.any(), 0)).collect::<io::Result<_>>()?;
    let mut seen = Vec::new();
    for (number, near) in (0u32..).zip(&all) {
        seen.push(sent(near, &far, far.local_addr()?, &number.to_be_bytes())?);
    }
    // The way back is still known of each.
    for ((number, near), to) in (0u32..).zip(&all).zip(seen) {
        sent(&far, near, to, &number.to_be_bytes())?;
    }
    let more = within(&all[0], Duration::from_millis(100), |socket| socket.recv(&mut [0]));
    ensure!(more.is_none(), "somebody else's came too");
    Ok(())
}
