//! The crate by itself, for tests and benchmarks: serves the network namespace of a process, as slirp4netns(1) does.
//!
//! `rbox-slirp [--mtu N] [--allow-host-loopback] [--resolv-conf FILE] [--ready-fd N] [--egress RULES]...
//! [--rate-in BYTES] [--rate-out BYTES] [-p HOST:GUEST[/udp]]... PID`
//!
//! HOST is a port, or an address with a port. A child enters the process's namespaces, makes and sets up a device there,
//! and hands over its descriptor; this process stays where it is.

use std::error::Error;
use std::fs::File;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::process::ExitCode;

use rbox_net_slirp::config::{Config, Published, PublishedSocket};
use rbox_sys::clone::{self, Ended, Forked, Namespaces};
use rbox_sys::rlimit::{self, Resource};
use rbox_sys::rtnetlink::{self, Changes, Link};
use rbox_sys::socket::Channel;
use rbox_sys::{datagram, fd, process, tap, tcp};

/// The guest's device.
const DEVICE: &str = "tap0";

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rbox-slirp: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let mut config = Config::default();
    let (mut ready, mut pid) = (None, None);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        match word.as_str() {
            "--mtu" => config.mtu = value()?.parse()?,
            "--allow-host-loopback" => config.allow_host_loopback = true,
            "--resolv-conf" => config.resolv_conf = value()?.into(),
            "--ready-fd" => ready = Some(File::from(fd::inherited(value()?.parse()?)?)),
            "--egress" => config.egress.add(&value()?)?,
            "--rate-in" => config.rate.inward = Some(value()?.parse()?),
            "--rate-out" => config.rate.outward = Some(value()?.parse()?),
            "-p" => config.published.push(published(&value()?)?),
            _ => pid = Some(word.parse()?),
        }
    }
    let pid: u32 = pid.ok_or("whose network? give a process id")?;
    // A descriptor for each flow.
    rlimit::raise(Resource::NOFILE)?;
    let tap = tap_of(pid, &config)?;
    if let Some(mut ready) = ready.take() {
        ready.write_all(b"1")?;
    }
    Ok(rbox_net_slirp::run(tap, config)?)
}

/// `[ADDRESS:]PORT:GUEST[/udp]`.
fn published(text: &str) -> Result<Published> {
    let (text, is_udp) = text.strip_suffix("/udp").map_or((text, false), |text| (text, true));
    let (host, guest_port) = text.rsplit_once(':').ok_or_else(|| format!("{text} is no HOST:GUEST"))?;
    let address: SocketAddr = match host.parse() {
        Ok(port) => (Ipv4Addr::UNSPECIFIED, port).into(),
        Err(_) => host.parse()?,
    };
    let socket = match is_udp {
        true => PublishedSocket::Udp(datagram::bind(address)?),
        false => PublishedSocket::Tcp(tcp::listen(address)?),
    };
    Ok(Published { socket, guest_port: guest_port.parse()? })
}

/// A device in the namespaces of this process, ready for use. Its descriptor is good anywhere.
fn tap_of(pid: u32, config: &Config) -> Result<OwnedFd> {
    let (ours, theirs) = Channel::pair()?;
    match clone::fork_into(Namespaces::NONE)? {
        Forked::Child => {
            let made = make_tap(pid, config).and_then(|tap| Ok(theirs.send(b"tap", &[tap.as_fd()])?));
            if let Err(error) = made {
                eprintln!("rbox-slirp: {DEVICE}: {error}");
                process::exit_at_once(1);
            }
            process::exit_at_once(0)
        }
        Forked::Parent(child) => {
            drop(theirs);
            let (_, mut fds) = ours.receive(&mut [0; 8])?;
            match child.wait()? {
                Ended::Exited(0) => Ok(fds.pop().ok_or("the child sent no descriptor")?),
                _ => Err(format!("process {pid} cannot be given a network").into()),
            }
        }
    }
}

fn make_tap(pid: u32, config: &Config) -> Result<OwnedFd> {
    let inode = |path: String| -> io::Result<u64> { Ok(std::fs::metadata(path)?.ino()) };
    // One's own user namespace cannot be entered (setns(2), EINVAL).
    let is_ours = inode(format!("/proc/{pid}/ns/user"))? == inode("/proc/self/ns/user".into())?;
    let kinds = if is_ours { Namespaces::NET } else { Namespaces::NET.and(Namespaces::USER) };
    clone::enter(clone::open_pidfd(pid)?, kinds)?;
    rtnetlink::loopback_up()?;
    let tap = tap::open(DEVICE)?;
    let mut changes = Changes::new()?;
    let index = changes.index_of(DEVICE)?;
    changes.no_link_local(index);
    changes.link(index, Link { mtu: Some(config.mtu.into()), mac: Some(config.guest_mac) });
    let v4 = config.v4.map(|subnet| (IpAddr::from(subnet.guest), subnet.prefix, IpAddr::from(subnet.gateway)));
    let v6 = config.v6.map(|subnet| (IpAddr::from(subnet.guest), subnet.prefix, IpAddr::from(subnet.gateway)));
    for (address, prefix, gateway) in [v4, v6].into_iter().flatten() {
        changes.address(index, address, prefix);
        changes.default_route(index, gateway);
    }
    match changes.make()?.into_iter().find(|(_, error)| !rtnetlink::lacks_ipv6(error)) {
        Some((_, error)) => Err(error.into()),
        None => Ok(tap),
    }
}
