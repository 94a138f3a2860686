//! `process.apparmorProfile`, `process.selinuxLabel` and `linux.mountLabel`: what the host's security module is told.
//!
//! Where the module is off, a label is refused, as runc does: whoever asks for confinement is not to do without it.
//!
//! The workload enters its profile and its context by execve(2). Where init stays, it is to be confined as the workload is,
//! and executes nothing more. AppArmor lets it change its own profile. SELinux's policies seldom have a rule for a process
//! that changes its own context ("dyntransition"); without one init stays in rbox's.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use oci_spec::runtime::{Linux, Process};
use rbox_sys::Errno;
use rbox_sys::mount::Filesystem;
use rbox_sys::procfs::Procfs;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::error::{During, Failure};

/// What may help where SELinux takes a label for invalid.
pub const CONTEXT_HINT: &str = "has the SELinux policy that is loaded such a user, role, type and level?";

/// Where a thread says what its next execve(2) enters, and where what it is in. Before Linux 5.8 AppArmor shared the
/// second file of each with SELinux.
const APPARMOR_EXEC: [&str; 2] = ["thread-self/attr/apparmor/exec", SELINUX_EXEC];
const APPARMOR_CURRENT: [&str; 2] = ["thread-self/attr/apparmor/current", SELINUX_CURRENT];
const SELINUX_EXEC: &str = "thread-self/attr/exec";
const SELINUX_CURRENT: &str = "thread-self/attr/current";

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

    /// Has the session keyring that this thread begins be in the workload's context, which may not look into it else. It
    /// holds until execve(2).
    pub(crate) fn apply_to_keyring(&self) -> Result<(), Failure> {
        let Some(label) = &self.selinux else { return Ok(()) };
        let what = || format!("have the workload and its keyring in the SELinux context {label:?}");
        let procfs = Procfs::open().during(what)?;
        procfs.write(Path::new("thread-self/attr/keycreate"), label.as_bytes()).during(what).map_err(with_hint)
    }

    /// Has the coming execve(2) of this thread enter the profile and the context.
    pub(crate) fn apply(&self) -> Result<(), Failure> {
        if let Some(profile) = &self.apparmor {
            let what = || format!("have the workload confined by the AppArmor profile {profile:?}");
            let written = open(APPARMOR_EXEC)
                .during(what)
                .and_then(|mut file| write(&mut file, &format!("exec {profile}")).during(what));
            written.map_err(|failure| failure.hint("is the profile loaded? `aa-status` lists those that are"))?;
        }
        if let Some(label) = &self.selinux {
            let what = || format!("have the workload run in the SELinux context {label:?}");
            let mut file = open([SELINUX_EXEC; 2]).during(what)?;
            write(&mut file, label).during(what).map_err(with_hint)?;
        }
        Ok(())
    }

    /// For [`OwnLabels::apply`], while this thread may still open files of procfs.
    pub(crate) fn own(&self) -> Result<OwnLabels, Failure> {
        let open = |label: &Option<String>, paths| {
            label.as_ref().map(|label| Ok((open(paths)?, label.clone()))).transpose().during(|| WHAT)
        };
        const WHAT: &str = "open what the container's init is confined by";
        Ok(OwnLabels {
            apparmor: open(&self.apparmor, APPARMOR_CURRENT)?,
            selinux: open(&self.selinux, [SELINUX_CURRENT; 2])?,
        })
    }
}

/// The profile and the context that init itself is to be in, with the files that take them.
#[derive(Debug)]
pub(crate) struct OwnLabels {
    apparmor: Option<(File, String)>,
    selinux: Option<(File, String)>,
}

impl OwnLabels {
    /// Enters them.
    pub(crate) fn apply(self) -> Result<(), Failure> {
        if let Some((mut file, profile)) = self.apparmor {
            write(&mut file, &format!("changeprofile {profile}"))
                .during(|| format!("have init confined by the AppArmor profile {profile:?}"))?;
        }
        if let Some((mut file, label)) = self.selinux {
            // It may be forbidden.
            let _ = write(&mut file, &label);
        }
        Ok(())
    }
}

/// Puts the files of a new filesystem in the context.
pub(crate) fn set_context(filesystem: &Filesystem, context: Option<&str>) -> io::Result<()> {
    context.map_or(Ok(()), |context| filesystem.set("context", context))
}

/// Of a step that took a context.
pub(crate) fn with_hint(failure: Failure) -> Failure {
    if failure.errno == Some(Errno::INVAL.raw_os_error()) { failure.hint(CONTEXT_HINT) } else { failure }
}

/// The first of the files that is there.
fn open([path, older]: [&str; 2]) -> io::Result<File> {
    let procfs = Procfs::open()?;
    match procfs.open_to_write(Path::new(path)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => procfs.open_to_write(Path::new(older)),
        file => file,
    }
}

/// The kernel takes an order whole.
fn write(file: &mut File, order: &str) -> io::Result<()> {
    if file.write(order.as_bytes())? == order.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
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
