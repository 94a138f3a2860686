//! `process.apparmorProfile`, `process.selinuxLabel` and `linux.mountLabel`: what the host's security module is told.
//!
//! Where the module is off, a label is refused, as runc does: whoever asks for confinement is not to do without it.

use std::path::Path;
use std::{fs, io};

use oci_spec::runtime::{Linux, Process};
use rbox_sys::procfs::Procfs;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::error::{During, Failure};

/// What a workload and its filesystems are labelled with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Labels {
    apparmor: Option<String>,
    selinux: Option<String>,
    /// The SELinux context of new filesystems.
    pub(crate) mount: Option<String>,
}

/// Security modules that are in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Modules {
    apparmor: bool,
    selinux: bool,
}

impl Modules {
    /// Those of this host.
    pub(crate) fn of_host() -> Self {
        let says = |path, test: fn(&str) -> bool| fs::read_to_string(path).is_ok_and(|text| test(&text));
        Self {
            apparmor: says("/sys/module/apparmor/parameters/enabled", |text| text.starts_with('Y')),
            // The kernel has that filesystem only if SELinux is on.
            selinux: says("/proc/filesystems", |text| text.lines().any(|line| line.ends_with("\tselinuxfs"))),
        }
    }
}

impl Labels {
    /// Checks and reduces what a spec says. An empty label is none.
    pub(crate) fn of(process: &Process, linux: &Linux, modules: impl FnOnce() -> Modules) -> Result<Self, Error> {
        let label = |asked: &Option<String>| asked.clone().filter(|label| !label.is_empty());
        let labels = Self {
            apparmor: label(process.apparmor_profile()),
            selinux: label(process.selinux_label()),
            mount: label(linux.mount_label()),
        };
        if labels == Self::default() {
            return Ok(labels);
        }
        let modules = modules();
        for (field, label, is_on, module) in [
            ("process.apparmorProfile", &labels.apparmor, modules.apparmor, "AppArmor"),
            ("process.selinuxLabel", &labels.selinux, modules.selinux, "SELinux"),
            ("linux.mountLabel", &labels.mount, modules.selinux, "SELinux"),
        ] {
            if label.is_some() && !is_on {
                return Err(Error::Refused { field, why: format!("{module} is not enabled on this host") });
            }
        }
        Ok(labels)
    }

    /// Has the coming execve(2) of this thread enter the profile and the context.
    pub(crate) fn apply(&self) -> Result<(), Failure> {
        if let Some(profile) = &self.apparmor {
            let what = || format!("have the workload confined by the AppArmor profile {profile:?}");
            let procfs = Procfs::open().during(what)?;
            let order = format!("exec {profile}");
            let write = |path| procfs.write(Path::new(path), order.as_bytes());
            let written = match write("thread-self/attr/apparmor/exec") {
                // Before Linux 5.8 it shared the other file with SELinux.
                Err(error) if error.kind() == io::ErrorKind::NotFound => write("thread-self/attr/exec"),
                other => other,
            };
            written
                .during(what)
                .map_err(|failure| failure.hint("is the profile loaded? `aa-status` lists those that are"))?;
        }
        if let Some(label) = &self.selinux {
            let what = || format!("have the workload run in the SELinux context {label:?}");
            let procfs = Procfs::open().during(what)?;
            procfs.write(Path::new("thread-self/attr/exec"), label.as_bytes()).during(what)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_needs_its_module() {
        let apparmor = Modules { apparmor: true, selinux: false };
        let mut process = Process::default();
        process.set_apparmor_profile(Some("web".into())).set_selinux_label(Some(String::new()));
        let mut linux = Linux::default();
        let labels = Labels::of(&process, &linux, || apparmor).expect("valid");
        assert_eq!(labels, Labels { apparmor: Some("web".into()), ..Labels::default() });
        let error = Labels::of(&process, &linux, || Modules { apparmor: false, selinux: true }).expect_err("off");
        assert_eq!(error.to_string(), "config: process.apparmorProfile: AppArmor is not enabled on this host");
        linux.set_mount_label(Some("system_u:object_r:container_file_t:s0".into()));
        let error = Labels::of(&process, &linux, || apparmor).expect_err("off");
        assert_eq!(error.to_string(), "config: linux.mountLabel: SELinux is not enabled on this host");
    }
}
