//! A container's network: which one it gets, and the process that serves it.
//!
//! ```text
//! host's network namespace          container's
//!   monitor, or rbox in front         init: makes namespace and tap
//!     │  ◀──────────── tap ─────────────┘
//!     └─▶ rbox-net: confined, with the tap and sockets of the host's
//! ```
//!
//! `rbox-net` is one of the container's [servers](crate::servers). The tap keeps the namespace in being, so it could not see
//! the workload's end by itself.

mod confinement;
mod ports;
mod process;
mod uplink;

use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use rbox_net_slirp::Config;
use rbox_net_slirp::config::HostAddresses;
use rbox_net_slirp::egress::{InvalidPolicy, Policy, Refusals};
use rbox_runtime::{Failure, Tap, TapAddress, TapPlan};
use rbox_sys::rtnetlink::Destination;
use rbox_sys::{Errno, fd, tap};
use rbox_types::{Finding, ProbeState};
use serde_json::{Map, Value};

use crate::servers::Server;
use crate::settings::{Cidr, EgressLog, NetworkMode, Settings, Slirp};

pub(crate) use ports::settle as settle_ports;
pub(crate) use uplink::Uplink;

/// The file of a container's directory that has how many were refused.
const REFUSALS: &str = "refusals.json";
/// As the container sees its device.
const DEVICE: &str = "tap0";

/// What is asked for, with what was left open filled in.
pub(crate) fn settle(asked: &NetworkMode) -> NetworkMode {
    match asked {
        // What is not asked for is no reason to fail.
        NetworkMode::Unsaid if !tap::can_be_had() => NetworkMode::None,
        NetworkMode::Unsaid => NetworkMode::Slirp(settle_slirp(&Slirp::default())),
        NetworkMode::Slirp(slirp) => NetworkMode::Slirp(settle_slirp(slirp)),
        NetworkMode::None | NetworkMode::Host | NetworkMode::Container(_) => asked.clone(),
    }
}

/// Whether a ping of a container's gets further than the gateway.
pub(crate) fn ping() -> Finding {
    const WHAT: &str = "ping from containers";
    if rbox_net_slirp::ping_is_allowed() {
        return Finding::works(WHAT, "can be had");
    }
    let remedy = "sysctl -w net.ipv4.ping_group_range='0 2147483647', by root";
    Finding::lacks(WHAT, ProbeState::Degraded, "this user may send none (icmp(7))", Some(remedy.into()))
}

fn settle_slirp(asked: &Slirp) -> Slirp {
    let mut slirp = asked.clone();
    let (unsaid, unplaced) = (slirp.enable_ipv6.is_none(), slirp.ip6.is_none() && slirp.clear_of_host6.is_none());
    let host = if unsaid || unplaced { uplink::source_v6() } else { None };
    if unsaid {
        slirp.enable_ipv6 = Some(slirp.ip6.is_some() || (host.is_some() && slirp.v6().is_some()));
    }
    if unplaced {
        let destinations = if slirp.v6().is_some() { uplink::destinations(true) } else { Vec::new() };
        slirp.clear_of_host6 = Some(is_taken6(host, &destinations));
    }
    if slirp.cidr.is_none() {
        let is_open = slirp.ip.is_none();
        slirp.cidr =
            Some(if is_open { clear_of(uplink::source_v4(), &uplink::destinations(false)) } else { Cidr::DEFAULT });
    }
    slirp
}

/// The first network that the host is not in itself, as virtual machines are at times, and has no way to: what is there
/// would be out of the container's reach. The default one where there is none such.
fn clear_of(host: Option<Ipv4Addr>, destinations: &[Destination]) -> Cidr {
    let is_clear = |cidr: &Cidr| {
        let leads_there = |to: &Destination| matches!(to.address, IpAddr::V4(to4) if cidr.overlaps(to4, to.prefix));
        !host.is_some_and(|host| cidr.contains(host)) && !destinations.iter().any(leads_there)
    };
    Cidr::DEFAULTS.into_iter().find(is_clear).unwrap_or(Cidr::DEFAULT)
}

/// Whether the network of IPv6 is one that the host is in, or has a way to. A way that leads to the other one as well, as
/// to all private addresses, is no reason to take that.
fn is_taken6(host: Option<Ipv6Addr>, destinations: &[Destination]) -> bool {
    let network = |slirp: Slirp| slirp.v6().map_or(0, |v6| v6.gateway.to_bits() >> 64);
    let (default, other) =
        (network(Slirp::default()), network(Slirp { clear_of_host6: Some(true), ..Slirp::default() }));
    let leads_to = |network: u128| {
        destinations.iter().any(|to| {
            let IpAddr::V6(address) = to.address else { return false };
            let unshared = 64 - u32::from(to.prefix.clamp(1, 64));
            (address.to_bits() >> 64 ^ network) >> unshared == 0
        })
    };
    host.is_some_and(|host| host.to_bits() >> 64 == default) || leads_to(default) && !leads_to(other)
}

/// The tap that init is to make.
pub(crate) fn tap(slirp: &Slirp) -> TapPlan {
    let v4 = slirp.v4();
    let mut addresses = vec![TapAddress { address: v4.guest.into(), prefix: v4.prefix, gateway: v4.gateway.into() }];
    if let Some(v6) = slirp.v6() {
        addresses.push(TapAddress { address: v6.guest.into(), prefix: v6.prefix, gateway: v6.gateway.into() });
    }
    TapPlan { name: DEVICE.into(), mtu: slirp.mtu(), mac: slirp.mac(), addresses }
}

/// Begins to serve a tap of that plan, for the container of this directory. `quiet`: nobody reads what goes to the standard
/// error.
pub(crate) fn serve(
    slirp: &Slirp,
    settings: &Settings,
    directory: &Path,
    tap: Tap,
    quiet: bool,
) -> Result<Server, Failure> {
    let policy = policy(settings)?;
    let config = Config {
        mtu: slirp.mtu(),
        guest_mac: slirp.mac(),
        v4: Some(slirp.v4()),
        v6: slirp.v6().filter(|_| tap.has_v6),
        allow_host_loopback: slirp.allow_host_loopback,
        resolv_conf: uplink::RESOLV_CONF.into(),
        host: host(slirp),
        published: ports::bind(&settings.ports)?,
        log: egress_log(settings)?,
        refusals: refusals(&policy, directory)?,
        egress: policy,
        rate: settings.network_rate.bytes(),
        end: None,
    };
    process::begin(tap.fd, config, quiet)
        .map_err(|error| Failure::new("start the process that serves the network", &error))
}

fn policy(settings: &Settings) -> Result<Policy, Failure> {
    let wrong = |error: InvalidPolicy| Failure::new("read the egress rules", &io::Error::other(error));
    settings.egress.policy().map_err(wrong)
}

/// Where flows are written down.
fn egress_log(settings: &Settings) -> Result<Option<File>, Failure> {
    Ok(match &settings.egress.log {
        None => None,
        Some(EgressLog::Stderr) => {
            let log = fd::duplicate(io::stderr()).map(File::from);
            Some(log.map_err(|error| Failure::new("keep the egress log", &error))?)
        }
        Some(EgressLog::File(path)) => {
            let failed = |error: io::Error| {
                let failure = Failure::new(format!("open the egress log {}", path.display()), &error);
                match error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) {
                    true => failure.hint("a fifo is to have a reader first: cat FIFO &"),
                    false => failure,
                }
            };
            Some(fd::open_to_append(path).map_err(failed)?)
        }
    })
}

/// Where refusals are counted, from nothing in each life of the workload.
fn refusals(policy: &Policy, directory: &Path) -> Result<Option<File>, Failure> {
    if policy.is_open() {
        return Ok(None);
    }
    let path = directory.join(REFUSALS);
    let made = File::create(&path).and_then(|file| Refusals::default().write(&file).map(|()| file));
    made.map(Some).map_err(|error| Failure::new(format!("write {}", path.display()), &error))
}

/// How many were refused so far, by reason.
pub(crate) fn refused(directory: &Path) -> Option<Map<String, Value>> {
    serde_json::from_slice(&fs::read(directory.join(REFUSALS)).ok()?).ok()
}

/// Where the guest finds the host, as /etc/hosts tells it too.
fn host(slirp: &Slirp) -> HostAddresses {
    match slirp.allow_host_loopback {
        true => HostAddresses { v4: Some(slirp.v4().gateway), v6: slirp.v6().map(|v6| v6.gateway) },
        false => HostAddresses { v4: uplink::source_v4(), v6: uplink::source_v6() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(network: &str) -> Destination {
        let (address, prefix) = network.split_once('/').expect("a prefix");
        Destination { address: address.parse().expect("an address"), prefix: prefix.parse().expect("a number") }
    }

    #[test]
    fn no_network_of_the_hosts_is_taken() {
        let clear_of = |host: Option<[u8; 4]>, destinations: &[&str]| {
            let destinations: Vec<Destination> = destinations.iter().map(|network| to(network)).collect();
            clear_of(host.map(Ipv4Addr::from), &destinations).to_string()
        };
        assert_eq!(clear_of(None, &[]), "10.0.2.0/24");
        assert_eq!(clear_of(Some([192, 168, 1, 7]), &["192.168.1.0/24", "10.0.3.0/24"]), "10.0.2.0/24");
        assert_eq!(clear_of(Some([10, 0, 2, 15]), &[]), "10.0.102.0/24");
        for overlaps in ["10.0.2.0/24", "10.0.2.128/25", "10.0.2.7/32", "10.0.2.0/23"] {
            assert_eq!(clear_of(None, &["10.1.0.0/16", overlaps]), "10.0.102.0/24", "{overlaps}");
        }
        assert_eq!(clear_of(None, &["10.0.0.0/8"]), "172.30.102.0/24");
        assert_eq!(clear_of(None, &["10.0.0.0/8", "172.16.0.0/12"]), "192.168.102.0/24");
        assert_eq!(clear_of(None, &["0.0.0.0/1"]), "172.30.102.0/24");
        assert_eq!(clear_of(None, &["0.0.0.0/1", "128.0.0.0/1"]), "10.0.2.0/24", "there is none");
    }

    #[test]
    fn nor_is_one_of_ipv6() {
        let is_taken = |host: Option<&str>, destinations: &[&str]| {
            let destinations: Vec<Destination> = destinations.iter().map(|network| to(network)).collect();
            is_taken6(host.map(|host| host.parse().expect("an address")), &destinations)
        };
        assert!(is_taken(Some("fd00::5"), &[]));
        for clear in ["fd00:1::/64", "fd00:0:0:1::/64", "fe80::/64", "fc00::/7", "fd00::/8", "::/1"] {
            assert!(!is_taken(Some("fd00:1::5"), &[clear]), "{clear}");
        }
        for overlaps in ["fd00::/64", "fd00::/56", "fd00::7/128", "fd00::1:0:0:0/80"] {
            assert!(is_taken(None, &[overlaps]), "{overlaps}");
        }
        let v6 = Slirp { clear_of_host6: Some(true), ..Slirp::default() }.v6().expect("it is on");
        assert_eq!([v6.guest, v6.dns].map(|a| a.to_string()), ["fd00:0:0:102::100", "fd00:0:0:102::3"]);
    }
}
