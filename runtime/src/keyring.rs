//! A session keyring for the container: it does not get the caller's keys.
//!
//! A user may have 200 keys (kernel.keys.maxkeys), and a keyring is one. Where container root has no more, another id of
//! the container's owns the keyring, as long as there is one with keys left. Where there is none, the workload stays with
//! the caller's keyring, and gets no call that would reach it ([`refusal`]).

use std::ffi::{CStr, CString};
use std::io::{self, ErrorKind};
use std::iter;

use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction, LinuxSeccompBuilder, LinuxSeccompFilterFlag, LinuxSyscallBuilder,
};
use rbox_sys::keyring::{self, Search};
use rbox_sys::{Errno, ids, random};

use crate::error::{During, Failure};
use crate::seccomp::{self, Arch};

/// Whose session keyring the workload has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Session {
    /// Not the caller's.
    Own,
    /// The caller's: [`refusal`] is to keep the workload from it.
    Callers,
}

/// Begins it, or goes on with the one that the container called `id` has; without an id it has no name. Before the ids
/// change: it belongs to container root, or to another id of the container's.
///
/// That there are no keyrings is no failure: this kernel may be without, or a seccomp filter around this process may
/// forbid keyctl(2), to the workload as well.
pub(crate) fn begin(id: &str, in_user_namespace: bool) -> Result<Session, Failure> {
    let what = || format!("begin a session keyring for the container {id}");
    let name = CString::new(format!("_ses.{id}")).ok().filter(|_| !id.is_empty());
    let name = name.as_deref();
    // The owner of a user namespace's keyrings is nobody whom another user namespace's processes would be.
    let search = if in_user_namespace { Search::Everybody } else { Search::Owner };
    match keyring::join_session(name, search) {
        Err(error) if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::PermissionDenied) => Ok(Session::Own),
        Err(error) if error.kind() == ErrorKind::QuotaExceeded => {
            // Without a user namespace, other ids are other people.
            if in_user_namespace && begin_as_another(name, search).during(what)? {
                return Ok(Session::Own);
            }
            Ok(Session::Callers)
        }
        result => result.map(|()| Session::Own).during(what),
    }
}

/// Begins it as another id of the user namespace, whose keys are counted apart; says whether there was one that has keys
/// left. Which one is left to chance, so that the containers of a user, whose ids are the same, do not take them all of one.
fn begin_as_another(name: Option<&CStr>, search: Search) -> io::Result<bool> {
    let first = u32::from(u16::from_ne_bytes(random::bytes()?));
    // Ever smaller ones: of however few ids, one is found in so many steps as the first one has digits.
    for id in iter::successors(Some(first), |id| Some(id / 2)).take_while(|id| *id > 0) {
        match ids::as_user(id, || keyring::join_session(name, search)) {
            // No such id, or its keys are used up as well.
            Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::QuotaExceeded) => {}
            result => return result.map(|()| true),
        }
    }
    Ok(false)
}

/// A filter under which nobody reaches a keyring, whatever another filter lets through: the calls fail as they do where
/// the quota is exceeded.
pub(crate) fn refusal() -> Result<seccomp::Program, Failure> {
    refusing().map_err(|why| Failure::new("keep the caller's keys from the workload", &io::Error::other(why)))
}

fn refusing() -> Result<seccomp::Program, String> {
    seccomp::compile(&profile().map_err(|error| error.to_string())?).map_err(|error| error.to_string())
}

fn profile() -> Result<LinuxSeccomp, oci_spec::OciSpecError> {
    let calls = LinuxSyscallBuilder::default()
        .names(["add_key", "keyctl", "request_key"].map(str::to_owned))
        .action(LinuxSeccompAction::ScmpActErrno)
        .errno_ret(Errno::DQUOT.raw_os_error().unsigned_abs())
        .build()?;
    LinuxSeccompBuilder::default()
        .default_action(LinuxSeccompAction::ScmpActAllow)
        .architectures(Arch::ALL.map(Arch::spec_name))
        // A container without a filter has none of what filters do to speculation.
        .flags([LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow])
        .syscalls([calls])
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_name_is_the_same_keyring() {
        begin("rbox-runtime-test", false).expect("a keyring or none");
        // Where there are keyrings.
        if let Ok(name) = keyring::session_name() {
            assert_eq!(name, "_ses.rbox-runtime-test");
            begin("rbox-runtime-test", false).expect("found again");
            begin("", false).expect("one without a name");
            assert_eq!(keyring::session_name().expect("keyctl"), "_ses");
        }
    }

    #[test]
    fn the_refusal_is_of_three_calls_however_they_are_made() {
        let profile = profile().expect("a profile");
        for native in [Arch::X86_64, Arch::Aarch64, Arch::Riscv64, Arch::Loongarch64] {
            let program = seccomp::compile_for(&profile, native).expect("compiled");
            for arch in Arch::ALL {
                for (name, refused) in [("keyctl", true), ("add_key", true), ("request_key", true), ("read", false)] {
                    let call = seccomp::refusals::call_named(arch, name).expect("it has this call");
                    assert_eq!(!program.allows(&call), refused, "{name} of {arch:?} on {native:?}");
                }
            }
        }
    }
}
