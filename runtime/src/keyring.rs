//! A session keyring for the container: it does not get the caller's keys.

use std::ffi::CString;
use std::io::ErrorKind;

use rbox_sys::keyring::{self, Search};

use crate::error::{During, Failure};

/// Begins it, or goes on with the one that the container called `id` has; without an id it has no name. Before the ids
/// change: it belongs to container root.
///
/// That there are no keyrings is no failure: this kernel may be without, or a seccomp filter around this process may
/// forbid keyctl(2), to the workload as well.
pub(crate) fn begin(id: &str, in_user_namespace: bool) -> Result<(), Failure> {
    let what = || format!("begin a session keyring for the container {id}");
    let name = CString::new(format!("_ses.{id}")).ok().filter(|_| !id.is_empty());
    // The owner of a user namespace's keyrings is nobody whom another user namespace's processes would be.
    let search = if in_user_namespace { Search::Everybody } else { Search::Owner };
    match keyring::join_session(name.as_deref(), search) {
        Err(error) if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::PermissionDenied) => Ok(()),
        Err(error) if error.kind() == ErrorKind::QuotaExceeded => {
            Err(Failure::new(what(), &error).hint("sysctl kernel.keys.maxkeys says how many a user may have"))
        }
        result => result.during(what),
    }
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
}
