//! What the flags for security come to in a spec: capabilities, the filter, labels, and paths that are covered.

use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities, LinuxSeccomp};
use rbox_runtime::seccomp::{self, KernelVersion};
use rbox_runtime::{ALL_CAPABILITIES, DEFAULT_CAPABILITIES};

use super::PlanError;
use crate::security::{Granted, Seccomp, Security, Unmask, is_root};

/// What Docker covers (moby, oci/defaults.go).
pub(crate) const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// What Docker makes read-only.
pub(crate) const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

const CGROUPS: &str = "/sys/fs/cgroup";

impl Security {
    /// The capabilities that the workload may ever have, by the rules that Docker and Podman share. Where the two
    /// differ, what contradicts itself is refused, as by Podman.
    pub(crate) fn granted(&self) -> Result<Capabilities, PlanError> {
        let (added, dropped) = (Granted::named(&self.cap_add), Granted::named(&self.cap_drop));
        let [adds_all, drops_all] = [&self.cap_add, &self.cap_drop].map(|list| list.contains(&Granted::All));
        if adds_all && drops_all {
            return Err(PlanError::Contradiction("ALL".into()));
        }
        if let Some(both) = added.intersection(&dropped).next() {
            return Err(PlanError::Contradiction(both.to_string()));
        }
        Ok(match (adds_all || self.privileged, drops_all) {
            (_, true) => added,
            (true, false) => ALL_CAPABILITIES.into_iter().filter(|one| !dropped.contains(one)).collect(),
            (false, false) => {
                DEFAULT_CAPABILITIES.into_iter().filter(|one| !dropped.contains(one)).chain(added).collect()
            }
        })
    }

    /// The sets of a process. As with Podman, one that is not root has in force what was asked for by name, and keeps it
    /// over execve(2); of the rest it may come to have only what a file gives.
    pub(super) fn capabilities(&self, granted: &Capabilities, user: &str) -> LinuxCapabilities {
        let kept = |one: &Capability| !is_root(user) && Granted::has(&self.cap_add, *one);
        let kept = Some(granted.iter().copied().filter(kept).collect::<Capabilities>()).filter(|kept| !kept.is_empty());
        let mut capabilities = LinuxCapabilities::default();
        capabilities
            .set_bounding(Some(granted.clone()))
            .set_effective(Some(granted.clone()))
            .set_permitted(Some(granted.clone()))
            .set_inheritable(kept.clone())
            .set_ambient(kept);
        capabilities
    }

    /// Whether it is [`seccomp::default_profile`].
    pub(super) fn has_default_profile(&self) -> bool {
        match &self.seccomp {
            None => !self.privileged,
            Some(choice) => matches!(choice, Seccomp::Default),
        }
    }

    /// Whether it is said that there is to be none.
    pub(super) fn is_unfiltered(&self) -> bool {
        matches!(self.seccomp, Some(Seccomp::Unconfined))
    }

    /// The profile, which depends on what the workload may come to have, and on the kernel.
    pub(crate) fn seccomp(
        &self,
        granted: &Capabilities,
        kernel: KernelVersion,
    ) -> Result<Option<LinuxSeccomp>, PlanError> {
        match &self.seccomp {
            _ if self.has_default_profile() => Ok(Some(seccomp::default_profile(granted, kernel))),
            None | Some(Seccomp::Default | Seccomp::Unconfined) => Ok(None),
            Some(Seccomp::Profile { name, json }) => {
                let parsed = seccomp::parse(json, granted, kernel);
                // The runtime compiles it again, and would name no file.
                let checked = parsed.and_then(|profile| seccomp::compile(&profile).map(|_| profile));
                checked.map(Some).map_err(|error| PlanError::Seccomp { name: name.clone(), why: error.to_string() })
            }
        }
    }

    pub(super) fn masked_paths(&self) -> Vec<String> {
        let asked = self.mask.iter().map(|path| path.display().to_string());
        self.protected(&MASKED).chain(asked).collect()
    }

    pub(super) fn read_only_paths(&self) -> Vec<String> {
        self.protected(&READ_ONLY).collect()
    }

    fn protected(&self, paths: &'static [&str]) -> impl Iterator<Item = String> {
        paths.iter().filter(|path| !self.privileged && !Unmask::any(&self.unmask, path)).map(|path| (*path).into())
    }

    /// Whether `/sys` can be written, as far as the kernel lets its user namespace.
    pub(super) fn writes_sys(&self) -> bool {
        self.privileged
    }

    /// Whether the hierarchy of cgroups can be written.
    pub(super) fn writes_cgroups(&self) -> bool {
        self.privileged || Unmask::any(&self.unmask, CGROUPS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn security(add: &[&str], drop: &[&str]) -> Security {
        let parsed = |words: &[&str]| words.iter().map(|word| word.parse().expect("valid")).collect();
        Security { cap_add: parsed(add), cap_drop: parsed(drop), ..Security::default() }
    }

    #[test]
    fn capabilities_that_are_granted() {
        use Capability::{Chown, Kill, NetAdmin, SysAdmin};
        let default: Capabilities = DEFAULT_CAPABILITIES.into_iter().collect();
        let of = |add: &[&str], drop: &[&str]| security(add, drop).granted().expect("no contradiction");
        assert_eq!(of(&[], &[]), default);
        let changed = of(&["NET_ADMIN"], &["KILL", "sys_admin"]);
        assert_eq!(changed.symmetric_difference(&default).copied().collect::<Capabilities>(), [NetAdmin, Kill].into());
        assert_eq!(of(&["CHOWN"], &["ALL"]), [Chown].into());
        assert_eq!(of(&[], &["ALL"]), [].into());
        let most = of(&["ALL"], &["SYS_ADMIN"]);
        assert!(most.len() == 40 && !most.contains(&SysAdmin));
        for (add, drop, named) in [("ALL", "ALL", "ALL"), ("KILL", "CAP_KILL", "KILL")] {
            let error = security(&[add], &[drop]).granted().expect_err("a contradiction").to_string();
            assert!(error.contains(named), "{error}");
        }
        let privileged = Security { privileged: true, ..security(&[], &["KILL"]) };
        assert_eq!(privileged.granted().expect("no contradiction").len(), 40);
    }

    #[test]
    fn who_has_them() {
        let of = |add: &[&str], user: &str| {
            let security = security(add, &[]);
            let sets = security.capabilities(&security.granted().expect("no contradiction"), user);
            (sets.bounding().as_ref().map(Capabilities::len), sets.ambient().clone(), sets.inheritable().clone())
        };
        for user in ["", "root", "0:5", "0"] {
            assert_eq!(of(&["NET_ADMIN"], user), (Some(15), None, None), "{user}");
        }
        let kept = Some(Capabilities::from([Capability::NetAdmin]));
        assert_eq!(of(&["NET_ADMIN"], "bob"), (Some(15), kept.clone(), kept));
        assert_eq!(of(&[], "bob"), (Some(14), None, None));
        assert_eq!(of(&["ALL"], "7").1.map(|all| all.len()), Some(41));
    }

    #[test]
    fn paths() {
        let unmasked = |patterns: &[&str]| {
            let mut security = Security::default();
            for pattern in patterns {
                security.take(format!("unmask={pattern}").parse().expect("valid")).expect("no file");
            }
            (security.masked_paths(), security.read_only_paths(), security.writes_cgroups())
        };
        assert_eq!(unmasked(&[]), (MASKED.map(Into::into).into(), READ_ONLY.map(Into::into).into(), false));
        assert_eq!(unmasked(&["ALL"]), (vec![], vec![], true));
        let (masked, read_only, cgroups) = unmasked(&["/proc/*:/sys/fs/cgroup", "/sys/firmware"]);
        assert_eq!((masked, read_only, cgroups), (vec!["/sys/devices/virtual/powercap".into()], vec![], true));
        let asked = Security { privileged: true, mask: vec!["/etc/shadow".into()], ..Security::default() };
        assert_eq!((asked.masked_paths(), asked.read_only_paths()), (vec!["/etc/shadow".into()], vec![]));
    }
}
