//! The network namespace: half a millisecond of the kernel's time, more than all other namespaces together. And the tap in
//! it, by which somebody outside can be its network.

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};

use rbox_sys::clone::{self, Namespaces};
use rbox_sys::rtnetlink::{self, Changes, LOOPBACK, Link, Step};
use rbox_sys::socket::Channel;
use rbox_sys::tap;
use serde::{Deserialize, Serialize};

use crate::error::{During, Failure};
use crate::report::Report;

/// What mends that there can be no tap.
pub(crate) const TAP_HINT: &str = "a container's network needs /dev/net/tun, which is to be there (as root: modprobe tun) \
     and to be had by everybody (mode 0666); --network none does without a network, and --network host has the host's own";

/// A tap that a new network namespace is to have, and how it is set up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TapPlan {
    /// As the container sees it.
    pub name: String,
    /// The largest packet, in bytes.
    pub mtu: u16,
    /// The hardware address.
    pub mac: [u8; 6],
    /// At most one of each family.
    pub addresses: Vec<TapAddress>,
}

/// An address of it, and the way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TapAddress {
    /// The container's own.
    pub address: IpAddr,
    /// How many bits of it are the network's.
    pub prefix: u8,
    /// Where all else is sent.
    pub gateway: IpAddr,
}

/// The other end of it: nonblocking, with a virtio header before each frame ([`tap::open`]).
///
/// It keeps the network namespace in being: whoever has it is told of the container's end by others.
#[derive(Debug)]
pub struct Tap {
    /// The descriptor.
    pub fd: OwnedFd,
    /// Whether it has its address of IPv6; the kernel may be without.
    pub has_v6: bool,
}

/// A tap, and who is to serve it. What he does is done beside init, which goes on meanwhile; what he fails with ends the
/// start.
pub struct WantedTap<'a> {
    /// What it is to be like.
    pub plan: TapPlan,
    /// Called once.
    pub serve: &'a mut dyn FnMut(Tap) -> Result<(), Failure>,
}

/// Makes the namespace, with its loopback device, for the calling thread, which owns the user namespace; the tap that is
/// wanted goes to the launcher.
pub(crate) fn make(tap: Option<&TapPlan>, channel: &Channel) -> Result<File, Failure> {
    clone::unshare(Namespaces::NET).during(|| "make the network namespace")?;
    match tap {
        None => rtnetlink::loopback_up().during(|| "bring up the loopback device")?,
        Some(plan) => {
            let tap = make_tap(plan)?;
            let report = Report::Tap { has_v6: tap.has_v6 };
            report.send(channel, Some(tap.fd.as_fd())).during(|| "hand the tap to the supervisor")?;
        }
    }
    File::open("/proc/thread-self/ns/net").during(|| "open the network namespace")
}

/// Makes it, and brings up the loopback device at the same time.
fn make_tap(plan: &TapPlan) -> Result<Tap, Failure> {
    let fd = tap::open(&plan.name)
        .during(|| format!("make the network device {} by /dev/net/tun", plan.name))
        .map_err(|failure| failure.hint(TAP_HINT))?;
    let set_up = || -> io::Result<bool> {
        let mut changes = Changes::new()?;
        let index = changes.index_of(&plan.name)?;
        let mut of_v6 = vec![changes.no_link_local(index)];
        changes.link(LOOPBACK, Link::default());
        changes.link(index, Link { mtu: Some(plan.mtu.into()), mac: Some(plan.mac) });
        for TapAddress { address, prefix, gateway } in plan.addresses.iter().copied() {
            let steps: [Step; 2] = [changes.address(index, address, prefix), changes.default_route(index, gateway)];
            if address.is_ipv6() {
                of_v6.extend(steps);
            }
        }
        let mut refused = changes.make()?;
        // The kernel may be without, or the MTU too small for it (RFC 8200, section 5).
        let has_v6 = !refused.iter().any(|(step, _)| of_v6.contains(step));
        refused.retain(|(step, _)| !of_v6.contains(step));
        match refused.into_iter().next() {
            Some((_, error)) => Err(error),
            None => Ok(has_v6 && plan.addresses.iter().any(|address| address.address.is_ipv6())),
        }
    };
    let has_v6 = set_up().during(|| format!("set up the network device {}", plan.name))?;
    Ok(Tap { fd, has_v6 })
}
