//! What the host lets a container have, tried in namespaces of the same kinds.

use std::io;

use rbox_rootless::{Identity, attempt};
use rbox_sys::clone::Namespaces;
use rbox_sys::mount::{Attributes, Filesystem};
use rbox_sys::{rtnetlink, tap};
use rbox_types::{Finding, ProbeState};

use crate::{cgroup, home, network};

/// A fresh /proc: refused where the outer one is partly covered.
pub fn proc(identity: &Identity) -> Finding {
    let namespaces = Namespaces::MOUNT.and(Namespaces::PID);
    finding(identity, "a /proc of its own", namespaces, || mount("proc"), crate::filesystems::PROC_HINT)
}

/// A fresh /sys: only with a network namespace of its own, and where the outer one is not covered.
pub fn sys(identity: &Identity) -> Finding {
    let namespaces = Namespaces::MOUNT.and(Namespaces::NET);
    finding(identity, "a /sys of its own", namespaces, || mount("sysfs"), crate::filesystems::PROC_HINT)
}

/// cgroup v2, as /sys/fs/cgroup shows it.
pub fn cgroup(identity: &Identity) -> Finding {
    let namespaces = Namespaces::MOUNT.and(Namespaces::CGROUP);
    finding(identity, "cgroup v2", namespaces, || mount("cgroup2"), cgroup::TO_V2)
}

/// What `--memory` and its like need: controllers of cgroup v2 that this user may have.
pub fn limits() -> Finding {
    const WHAT: &str = "limits of memory, processors, I/O and processes";
    match home::available() {
        Err(error) => {
            let hint = error.hint();
            Finding::lacks(WHAT, ProbeState::Degraded, with_causes(&error), hint)
        }
        Ok(home::Available { how, missing }) if missing.is_empty() => Finding::works(WHAT, how),
        Ok(home::Available { how, missing }) => {
            let detail = format!("{how}, but not of {}", missing.join(", "));
            Finding::lacks(WHAT, ProbeState::Degraded, detail, Some(cgroup::to_delegate()))
        }
    }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {}", with_causes(cause)))
}

/// A network namespace with a loopback device.
pub fn network(identity: &Identity) -> Finding {
    let remedy = "as root: sysctl -w user.max_net_namespaces=15000";
    finding(identity, "network namespaces", Namespaces::NET, rtnetlink::loopback_up, remedy)
}

/// A network of a container's own: by /dev/net/tun.
pub fn tap(identity: &Identity) -> Finding {
    let make = || tap::open("tap0").map(drop);
    finding(identity, "network devices of containers", Namespaces::NET, make, network::TAP_HINT)
}

fn mount(kind: &str) -> io::Result<()> {
    Filesystem::open(kind)?.mount(Attributes::default()).map(drop)
}

fn finding(
    identity: &Identity,
    facility: &str,
    namespaces: Namespaces,
    act: impl FnOnce() -> io::Result<()>,
    remedy: &str,
) -> Finding {
    match attempt(identity, namespaces, act) {
        Ok(Ok(())) => Finding::works(facility, "can be had"),
        Ok(Err(error)) => Finding::lacks(facility, ProbeState::Missing, error.to_string(), Some(remedy.into())),
        Err(error) => Finding::lacks(facility, ProbeState::Missing, error.to_string(), error.hint()),
    }
}
