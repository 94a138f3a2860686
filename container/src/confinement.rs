//! Filters on system calls, in words; and how one keeps a process that serves a hostile guest to what it needs.

use std::io;

use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg, LinuxSeccompArgBuilder,
    LinuxSeccompOperator as Operator, LinuxSyscall,
};
use rbox_runtime::seccomp;

const PROT_EXEC: u64 = 4;
const EPERM: u32 = 1;

/// Allows this process nothing but these calls, besides memory that is not executed, for good.
pub(crate) fn allow_only(mut calls: Vec<LinuxSyscall>) -> io::Result<()> {
    calls.push(entry("mmap mmap2 mprotect", masked(2, PROT_EXEC, 0)));
    // Of itself only.
    calls.push(entry("prlimit64", equal(0, 0)));
    let mut profile = LinuxSeccomp::default();
    profile.set_default_action(Action::ScmpActErrno).set_default_errno_ret(Some(EPERM)).set_syscalls(Some(calls));
    seccomp::compile(&profile).map_err(io::Error::other)?.install(|_| Ok(()))
}

/// Calls that are allowed, in words; with such arguments, or any.
pub(crate) fn entry(names: &str, arguments: Vec<LinuxSeccompArg>) -> LinuxSyscall {
    let mut entry = LinuxSyscall::default();
    entry.set_names(names.split_whitespace().map(Into::into).collect()).set_action(Action::ScmpActAllow);
    with(entry, arguments)
}

/// The same with such arguments, or any.
pub(crate) fn with(mut entry: LinuxSyscall, arguments: Vec<LinuxSeccompArg>) -> LinuxSyscall {
    entry.set_args(Some(arguments).filter(|arguments| !arguments.is_empty()));
    entry
}

/// Calls that fail with this number.
pub(crate) fn errno(names: &str, number: u32) -> LinuxSyscall {
    let mut entry = entry(names, Vec::new());
    entry.set_action(Action::ScmpActErrno).set_errno_ret(Some(number));
    entry
}

/// An argument that is this; where none can be built, nothing is allowed by it.
pub(crate) fn equal(index: usize, value: u64) -> Vec<LinuxSeccompArg> {
    LinuxSeccompArgBuilder::default().index(index).value(value).op(Operator::ScmpCmpEq).build().into_iter().collect()
}

/// An argument of whose bits in `mask` these are set.
pub(crate) fn masked(index: usize, mask: u64, set: u64) -> Vec<LinuxSeccompArg> {
    let argument = LinuxSeccompArgBuilder::default().index(index).value(mask).value_two(set);
    argument.op(Operator::ScmpCmpMaskedEq).build().into_iter().collect()
}
