//! A container with one id: what would give files or processes others is said to be done, and is not.
//!
//! The kernel knows no other id to give (user_namespaces(7)), and says so before any filesystem is asked. Package managers,
//! archivers and whoever drops privileges take that for a failure and give up, though all that they write is there. So the
//! filter on system calls answers 0 in the kernel's stead. Nobody gains by that: whoever has become somebody else has the same
//! rights as before, those of the one id.

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction as Action};

use crate::confinement::{entry, errno, masked, with};

/// Owners of files and ids of processes.
const IDS: &str = "\
    chown chown32 fchown fchown32 fchownat lchown lchown32 setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups \
    setgroups32 setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setuid setuid32";

/// Device nodes, by the argument that has the type.
const NODES: [(&str, usize); 2] = [("mknod", 1), ("mknodat", 2)];
const TYPE: u64 = 0o170_000;
const DEVICES: [u64; 2] = [0o020_000, 0o060_000];
/// What else there is to make; 0 is a regular file, too.
const OTHERS: [u64; 4] = [0, 0o010_000, 0o100_000, 0o140_000];

/// Has a filter do so. One that there is not, lets all else pass.
pub(super) fn answer_for_the_kernel(profile: Option<LinuxSeccomp>) -> LinuxSeccomp {
    let mut profile = profile.unwrap_or_else(|| {
        let mut open = LinuxSeccomp::default();
        open.set_default_action(Action::ScmpActAllow);
        open
    });
    let mut calls = profile.syscalls().clone().unwrap_or_default();
    let answered = |name: &str| IDS.split(' ').chain(NODES.map(|(node, _)| node)).any(|one| one == name);
    let allows_nodes = profile.default_action() != Action::ScmpActAllow
        && calls
            .iter()
            .any(|call| call.action() == Action::ScmpActAllow && call.names().iter().any(|name| name == NODES[1].0));
    for call in &mut calls {
        let names = call.names().iter().filter(|name| !answered(name)).cloned().collect();
        call.set_names(names);
    }
    calls.retain(|call| !call.names().is_empty());
    calls.push(errno(IDS, 0));
    for (name, argument) in NODES {
        calls.extend(DEVICES.map(|kind| with(errno(name, 0), masked(argument, TYPE, kind))));
        if allows_nodes {
            calls.extend(OTHERS.map(|kind| entry(name, masked(argument, TYPE, kind))));
        }
    }
    profile.set_syscalls(Some(calls));
    profile
}
