//! A container's network: which one it gets, and the process that serves it.
//!
//! ```text
//! host's network namespace          container's
//!   monitor, or rbox in front         init: makes namespace and tap
//!     │  ◀──────────── tap ─────────────┘
//!     └─▶ rbox-net: confined, with the tap and sockets of the host's
//! ```
//!
//! `rbox-net` is a process of each life of the workload: forked when the tap is there, beside init, and ended when the
//! workload has. The tap keeps the namespace in being, so it could not see that end by itself. Where it dies first,
//! the container goes on, cut off.

mod confinement;
mod ports;
mod process;
mod uplink;

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;

use rbox_net_slirp::Config;
use rbox_net_slirp::config::{HostAddresses, Subnet};
use rbox_net_slirp::egress::{InvalidPolicy, Policy, Refusals};
use rbox_runtime::{Failure, Tap, TapAddress, TapPlan};
use rbox_sys::{fd, tap};
use rbox_types::{Finding, ProbeState};

use serde_json::{Map, Value};

use crate::settings::{Cidr, EgressLog, NetworkMode, Settings, Slirp};

pub(crate) use ports::settle as settle_ports;
pub(crate) use process::NetProcess;
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
        slirp.clear_of_host6 = Some(host.is_some_and(is_default6));
    }
    if slirp.cidr.is_none() {
        let host = if slirp.ip.is_none() { uplink::source_v4() } else { None };
        slirp.cidr = Some(clear_of(host));
    }
    slirp
}

fn is_default6(host: Ipv6Addr) -> bool {
    host.segments()[..4] == Subnet::<Ipv6Addr>::DEFAULT.gateway.segments()[..4]
}

/// The default network; another one where the host is in that itself, as virtual machines are at times.
fn clear_of(host: Option<Ipv4Addr>) -> Cidr {
    let is_in = |cidr: Cidr| host.is_some_and(|host| cidr.contains(host));
    if is_in(Cidr::DEFAULT) { Cidr::OTHER } else { Cidr::DEFAULT }
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
) -> Result<NetProcess, Failure> {
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
        end: None,
    };
    NetProcess::begin(tap.fd, config, quiet)
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
            let log = fd::open_to_append(path);
            Some(log.map_err(|error| Failure::new(format!("open the egress log {}", path.display()), &error))?)
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

    #[test]
    fn no_network_of_the_hosts_is_taken() {
        assert_eq!(clear_of(None).to_string(), "10.0.2.0/24");
        assert_eq!(clear_of(Some([192, 168, 1, 7].into())).to_string(), "10.0.2.0/24");
        assert_eq!(clear_of(Some([10, 0, 2, 15].into())).to_string(), "10.0.102.0/24");
        assert!(is_default6("fd00::5".parse().expect("valid")) && !is_default6("fd00:1::5".parse().expect("valid")));
        let v6 = Slirp { clear_of_host6: Some(true), ..Slirp::default() }.v6().expect("it is on");
        assert_eq!([v6.guest, v6.dns].map(|a| a.to_string()), ["fd00:0:0:102::100", "fd00:0:0:102::3"]);
    }
}
