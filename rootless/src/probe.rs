//! Whether this user can have a user namespace and ids, and what mends it where not.

use std::{fs, io};

use rbox_sys::clone::Namespaces;
use rbox_sys::mount::{self, Propagation};
use rbox_types::{Finding, ProbeState};

use crate::{Error, Identity, Kind, attempt};

/// Tries what a container needs of user namespaces with these ids.
///
/// Where an LSM restricts them, making one may succeed and the first mount in it fail; so a mount is tried.
pub fn user_namespace(identity: &Identity) -> Finding {
    const FACILITY: &str = "user namespaces";
    let missing = |detail: String, remedy| Finding::lacks(FACILITY, ProbeState::Missing, detail, remedy);
    match attempt(identity, Namespaces::MOUNT, || mount::set_root_propagation(Propagation::Private)) {
        Ok(Ok(())) => Finding::works(FACILITY, "one can be made, and mounted in"),
        Ok(Err(error)) => missing(format!("one can be made, but not mounted in: {error}"), Some(userns_hint(&error))),
        Err(error) => {
            let remedy = error.hint();
            let detail = match &error {
                Error::Userns(source) => format!("{error}: {source}"),
                _ => error.to_string(),
            };
            missing(detail, remedy)
        }
    }
}

/// Which ids containers have.
pub fn ids(identity: &Identity) -> Finding {
    const FACILITY: &str = "ids";
    let count = identity.maps.uid.count();
    match identity.kind {
        Kind::Subid => Finding::works(FACILITY, format!("{count} users, from {}", identity.source)),
        Kind::Privileged => Finding::works(FACILITY, format!("{count} users, mapped by root")),
        Kind::Single => Finding::lacks(
            FACILITY,
            ProbeState::Degraded,
            format!(
                "containers have one id, your own: all files belong to it, and switching users inside fails; no ranges are \
                 from {}",
                identity.source
            ),
            Error::NoRanges {
                user: std::env::var("USER").unwrap_or_else(|_| "USER".into()),
                asked: identity.source.clone(),
            }
            .hint(),
        ),
    }
}

/// What mends a user namespace that cannot be made, as the host's settings show it.
pub fn userns_hint(error: &io::Error) -> String {
    let setting = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    if setting("/proc/sys/kernel/unprivileged_userns_clone") == "0" {
        return "this kernel keeps user namespaces from ordinary users; as root: sysctl -w \
                kernel.unprivileged_userns_clone=1"
            .into();
    }
    if setting("/proc/sys/user/max_user_namespaces") == "0" {
        return "user namespaces are switched off; as root: sysctl -w user.max_user_namespaces=15000".into();
    }
    if setting("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1" {
        let binary = std::env::current_exe().map_or_else(|_| "/path/to/rbox".into(), |path| path.display().to_string());
        return format!(
            "AppArmor allows user namespaces only to programs with a profile; as root: echo 'abi <abi/4.0>, profile rbox \
             {binary} flags=(unconfined) {{ userns, }}' > /etc/apparmor.d/rbox && apparmor_parser -r /etc/apparmor.d/rbox"
        );
    }
    match error.kind() {
        io::ErrorKind::StorageFull => {
            "the limit of user namespaces is reached (user.max_user_namespaces), or they are nested too deep".into()
        }
        _ => "inside another container its seccomp profile may forbid it (Docker: --security-opt seccomp=unconfined)"
            .into(),
    }
}
