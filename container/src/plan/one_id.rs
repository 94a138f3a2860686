//! A container with one id: what would give files or processes others is said to be done, and is not.
//!
//! The kernel knows no other id to give (user_namespaces(7)), and says so before any filesystem is asked. Package managers,
//! archivers and whoever drops privileges take that for a failure and give up, though all that they write is there. So the
//! filter on system calls answers 0 in the kernel's stead. Nobody gains by that: whoever has become somebody else has the same
//! rights as before, those of the one id.

use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg, LinuxSeccompArgBuilder,
    LinuxSeccompOperator as Operator, LinuxSyscall,
};

/// Owners of files and ids of processes.
const IDS: [&str; 25] = [
    "chown",
    "chown32",
    "fchown",
    "fchown32",
    "fchownat",
    "lchown",
    "lchown32",
    "setfsgid",
    "setfsgid32",
    "setfsuid",
    "setfsuid32",
    "setgid",
    "setgid32",
    "setgroups",
    "setgroups32",
    "setregid",
    "setregid32",
    "setresgid",
    "setresgid32",
    "setresuid",
    "setresuid32",
    "setreuid",
    "setreuid32",
    "setuid",
    "setuid32",
];

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
    let answered = |name: &str| IDS.contains(&name) || NODES.iter().any(|(node, _)| *node == name);
    let makes_nodes = profile.default_action() == Action::ScmpActAllow
        || calls
            .iter()
            .any(|call| call.action() == Action::ScmpActAllow && call.names().iter().any(|name| name == NODES[1].0));
    for call in &mut calls {
        let names = call.names().iter().filter(|name| !answered(name)).cloned().collect();
        call.set_names(names);
    }
    calls.retain(|call| !call.names().is_empty());
    calls.push(entry(&IDS, None, 0));
    for (name, argument) in NODES {
        calls.extend(DEVICES.map(|kind| entry([&name], is(argument, kind), 0)));
        if makes_nodes && profile.default_action() != Action::ScmpActAllow {
            calls.extend(OTHERS.map(|kind| {
                let mut allowed = entry([&name], is(argument, kind), 0);
                allowed.set_action(Action::ScmpActAllow).set_errno_ret(None);
                allowed
            }));
        }
    }
    profile.set_syscalls(Some(calls));
    profile
}

/// Calls that are answered by this number.
fn entry<'a>(
    names: impl IntoIterator<Item = &'a &'a str>,
    argument: Option<LinuxSeccompArg>,
    number: u32,
) -> LinuxSyscall {
    let mut entry = LinuxSyscall::default();
    entry
        .set_names(names.into_iter().map(|name| (*name).to_owned()).collect())
        .set_action(Action::ScmpActErrno)
        .set_errno_ret(Some(number))
        .set_args(argument.map(|argument| vec![argument]));
    entry
}

fn is(argument: usize, kind: u64) -> Option<LinuxSeccompArg> {
    let built = LinuxSeccompArgBuilder::default().index(argument).value(TYPE).value_two(kind);
    built.op(Operator::ScmpCmpMaskedEq).build().ok()
}
