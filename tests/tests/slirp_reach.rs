//! What of the host and of the rest of the world a guest can reach, and echoes of it.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, TcpListener};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rbox_tests::lines;
use rbox_tests::slirp::{Backend, DEVICE, Family, Lab, Options};
use rbox_tests::traffic::within;

// Of both peers the host's loopback is reached by who sends them packets for 127.0.0.1, and the host by itself. libslirp
// passes on no echoes of IPv6; the pasta of Debian 12 has no gateway that answers, says nothing of who cannot be reached,
// and lets answers of the loopback come from a link-local address.
lines! {
    echoes_from_afar: rbox routed slirp4netns_v4 pasta;
    echoes_of_the_gateway: rbox routed slirp4netns;
    echoes_of_nobody: rbox routed slirp4netns_v4;
    the_hosts_own_address: rbox routed slirp4netns pasta;
    the_host_is_not_connected_to_itself: rbox routed;
    the_hosts_loopback_is_out_of_reach: rbox slirp4netns pasta;
    the_hosts_loopback_is_out_of_reach_by_its_own_name: rbox_v4 routed_v4;
    the_hosts_loopback_where_it_is_allowed: rbox slirp4netns pasta_v4;
}

fn echoes_from_afar(backend: Backend, family: Family) -> Result<()> {
    let lab = Lab::new(backend, &Options::default())?;
    for to in [family.far(), family.farther()] {
        // A router would ask for smaller packets first.
        let large = (backend != Backend::Routed).then_some(8000);
        for size in [8, 56, 1400].into_iter().chain(large) {
            let (said, all) = lab.ping(to, size)?;
            ensure!(all, "{said}");
            ensure!(said.matches(&format!("{} bytes from {to}: icmp_seq", size + 8)).count() == 3, "{said}");
        }
    }
    Ok(())
}

fn echoes_of_the_gateway(backend: Backend, family: Family) -> Result<()> {
    let lab = Lab::new(backend, &Options::default())?;
    let (said, all) = lab.ping(family.gateway(), 56)?;
    ensure!(all, "{said}");
    Ok(())
}

fn echoes_of_nobody(backend: Backend, family: Family) -> Result<()> {
    let lab = Lab::new(backend, &Options::default())?;
    let (said, _) = lab.ping(family.unreachable(), 56)?;
    ensure!(said.contains(" 0 received") && said.to_lowercase().contains("unreachable"), "{said}");
    Ok(())
}

/// Whether the guest is served by who listens there.
fn is_served(lab: &Lab, listener: &TcpListener, at: IpAddr) -> Result<bool> {
    listener.set_nonblocking(true)?;
    let to = (at, listener.local_addr()?.port()).into();
    let connected = lab.guest.run(|| std::net::TcpStream::connect_timeout(&to, Duration::from_secs(2)));
    let Ok(mut near) = connected else {
        ensure!(listener.accept().is_err(), "a connection was made of which the guest does not know");
        return Ok(false);
    };
    let (mut far, _) = listener.accept().context("the guest is connected to somebody else")?;
    far.set_nonblocking(false)?;
    far.write_all(b"here")?;
    let mut heard = [0; 4];
    near.read_exact(&mut heard)?;
    Ok(&heard == b"here")
}

fn the_hosts_own_address(backend: Backend, family: Family) -> Result<()> {
    let lab = Lab::new(backend, &Options::default())?;
    ensure!(is_served(&lab, &lab.host.listen(family.host())?, family.host())?);
    Ok(())
}

/// Where nobody listens nobody is reached, though that may be the very port which the host connects from.
fn the_host_is_not_connected_to_itself(backend: Backend, family: Family) -> Result<()> {
    const PORT: u16 = 40_000;
    let lab = Lab::new(backend, &Options::default())?;
    lab.host.set("ipv4/ip_local_port_range", &format!("{PORT} {PORT}"))?;
    let error = lab.guest.connect((family.host(), PORT).into()).err().context("nobody is there, and yet connected")?;
    ensure!(error.kind() == ErrorKind::ConnectionRefused, "{error}");
    Ok(())
}

fn the_hosts_loopback_is_out_of_reach(backend: Backend, family: Family) -> Result<()> {
    let lab = Lab::new(backend, &Options::default())?;
    unreached(&lab, family, family.gateway())
}

/// The guest takes the address from its own loopback device, and sends packets to it by the gateway.
fn the_hosts_loopback_is_out_of_reach_by_its_own_name(backend: Backend, family: Family) -> Result<()> {
    let lab = Lab::new(backend, &Options::default())?;
    lab.guest.set(&format!("ipv4/conf/{DEVICE}/route_localnet"), "1")?;
    lab.guest.set("ipv4/conf/all/route_localnet", "1")?;
    lab.guest.ip(&format!(
        "address delete 127.0.0.1/8 dev lo
         route add 127.0.0.0/8 via 10.0.2.2 dev {DEVICE} src 10.0.2.100"
    ))?;
    unreached(&lab, family, family.loopback())
}

/// Neither what listens at the loopback alone nor what listens everywhere is reached, by TCP or by UDP.
fn unreached(lab: &Lab, family: Family, at: IpAddr) -> Result<()> {
    for listens in [family.loopback(), family.any()] {
        ensure!(!is_served(lab, &lab.host.listen(listens)?, at)?, "{listens} is reached by {at}");
        let server = lab.host.datagrams(listens, 0)?;
        let client = lab.guest.datagrams(family.any(), 0)?;
        // That nobody gets it may be told at once.
        let _ = client.send_to(b"reached?", (at, server.local_addr()?.port()));
        let reached = within(&server, Duration::from_millis(500), |server| server.recv(&mut [0; 8]));
        ensure!(reached.is_none(), "{listens} gets datagrams by {at}");
    }
    Ok(())
}

fn the_hosts_loopback_where_it_is_allowed(backend: Backend, family: Family) -> Result<()> {
    let lab = Lab::new(backend, &Options { allow_host_loopback: true, ..Options::default() })?;
    ensure!(is_served(&lab, &lab.host.listen(family.loopback())?, family.gateway())?);
    let server = lab.host.datagrams(family.loopback(), 0)?;
    let client = lab.guest.datagrams(family.any(), 0)?;
    let gateway = (family.gateway(), server.local_addr()?.port());
    client.send_to(b"ask", gateway)?;
    let (_, who) = within(&server, Duration::from_secs(5), |server| server.recv_from(&mut [0; 8])).context("lost")?;
    ensure!(who.ip() == family.loopback(), "it comes from {who}");
    server.send_to(b"answer", who)?;
    let (_, who) = within(&client, Duration::from_secs(5), |client| client.recv_from(&mut [0; 8])).context("lost")?;
    ensure!(who == gateway.into(), "the answer comes from {who}");
    Ok(())
}
