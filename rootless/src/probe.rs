//! Whether this user can have a user namespace and ids, and what mends it where not.

use std::{fs, io};

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
        return "AppArmor allows user namespaces only to programs with a profile; as root: sysctl -w \
                kernel.apparmor_restrict_unprivileged_userns=0, or install the profile that `rbox doctor` prints"
            .into();
    }
    match error.kind() {
        io::ErrorKind::StorageFull => {
            "the limit of user namespaces is reached (user.max_user_namespaces), or they are nested too deep".into()
        }
        _ => "inside another container its seccomp profile may forbid it (Docker: --security-opt seccomp=unconfined); \
              `rbox doctor` says more"
            .into(),
    }
}
