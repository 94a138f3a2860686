//! `rbox audit`: what a container may do and see, and how that differs from what Docker gives by default.
//!
//! Of a container, it is the running thing that counts: all is read from /proc of the workload ([`process`]), and nothing
//! of the plan that it was started by. Of an image, it is what a run of it without any flag would get ([`spec`]).

mod docker;
mod process;
mod spec;

use std::collections::BTreeMap;

use oci_spec::runtime::Capability;
use rbox_runtime::seccomp::KernelVersion;
use rbox_types::IdMap;
use serde::Serialize;

use crate::observe::containers::ContainerSummary;
use crate::on_host::OnHost;
use crate::plan::{Host, plan};
use crate::request::RunRequest;
use crate::shared::Shared;
use crate::{Engine, Error};

pub use docker::{Difference, Effect};

/// The answer, in the shape of its JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Audit {
    /// What was looked at.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// The workload's process id, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// What was found.
    #[serde(flatten)]
    pub posture: Posture,
    /// How that differs from Docker's default.
    pub differences: Vec<Difference>,
}

/// What an audit is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A running container.
    Container,
    /// An image, run without flags.
    Image,
}

/// What a workload may do and see.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Posture {
    /// Within its user namespace.
    pub capabilities: Sets,
    /// System calls.
    pub seccomp: Seccomp,
    /// Whether nothing that it executes gives it more privileges.
    pub no_new_privileges: bool,
    /// What the host's security modules confine it to (/proc/<pid>/attr/current), where they do.
    pub label: Option<String>,
    /// Paths that nothing is to be seen of.
    pub masked_paths: Vec<String>,
    /// Paths of the kernel's filesystems that cannot be written.
    pub readonly_paths: Vec<String>,
    /// All other mounts.
    pub mounts: Vec<MountPoint>,
    /// By kind.
    pub namespaces: BTreeMap<String, Namespace>,
    /// Who it is.
    pub ids: Ids,
}

/// The five sets (capabilities(7)), in the kernel's order.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Sets {
    /// In force.
    pub effective: Vec<Capability>,
    /// What may be raised to effective.
    pub permitted: Vec<Capability>,
    /// Kept over execve(2) of a file that has them inheritable.
    pub inheritable: Vec<Capability>,
    /// What execve(2) may ever give.
    pub bounding: Vec<Capability>,
    /// Kept over execve(2) of any file that is not setuid.
    pub ambient: Vec<Capability>,
}

/// Which system calls can be made.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Seccomp {
    /// Whether and how they are filtered.
    pub mode: SeccompMode,
    /// How many filters there are, its own included; none where the kernel does not tell (before Linux 5.9).
    pub filters: Option<u32>,
    /// What was asked for: "default", or the file's name. /proc does not show what a filter says.
    pub profile: Option<String>,
}

/// `Seccomp` of /proc/<pid>/status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SeccompMode {
    /// All calls.
    #[default]
    Disabled,
    /// read, write, exit.
    Strict,
    /// What a filter lets through.
    Filter,
}

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct MountPoint {
    /// Where it is in the container.
    pub destination: String,
    /// The filesystem's type.
    #[serde(rename = "Type")]
    pub kind: String,
    /// The part of the filesystem that is seen: "/" for all of it.
    pub root: String,
    /// Of the mount, not of the filesystem.
    pub options: Vec<String>,
}

impl MountPoint {
    /// Whether nothing can be written through it.
    pub fn is_read_only(&self) -> bool {
        self.options.iter().any(|option| option == "ro" || option == "rro")
    }
}

/// A namespace that a workload is in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Namespace {
    /// Whether it is another one than that of who asks.
    pub own: bool,
    /// Its number, where it is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inode: Option<u64>,
}

/// Who a workload is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Ids {
    /// As an image names it, whose passwd has not been asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// In the container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// In the container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
    /// In the container.
    pub groups: Vec<u32>,
    /// The container's ids, and what they are on the host.
    pub uid_map: Option<IdMap>,
    /// The same of groups.
    pub gid_map: Option<IdMap>,
}

impl Ids {
    /// The host's id of who the workload is, or of root where that is not known.
    pub fn outside(&self) -> Option<u32> {
        self.uid_map.as_ref()?.outside(self.uid.unwrap_or(0))
    }
}

impl Engine {
    /// Looks at a container of this name or id, else at an image.
    pub fn audit(&self, name: &str) -> Result<Audit, Error> {
        match self.find_container(name) {
            Ok(container) => self.audit_container(container),
            Err(Error::Store(rbox_store::Error::NoContainer(_))) => match self.audit_image(name) {
                Err(Error::NoSuchImage(name)) => Err(Error::Nothing(name)),
                result => result,
            },
            Err(error) => Err(error),
        }
    }

    fn audit_container(&self, container: ContainerSummary) -> Result<Audit, Error> {
        let not_running = || Error::NotRunning(container.name.clone());
        if !container.status.is_alive() {
            return Err(not_running());
        }
        let pid = container.status.pid();
        let posture = process::posture(pid);
        // The number is the workload's as long as its supervisor holds the lock: what was read is of the workload if
        // that is so still.
        if self.find_container(container.id.as_str())?.status != container.status {
            return Err(not_running());
        }
        let mut posture = posture.map_err(Error::io("look at the workload of", &container.name))?;
        if posture.seccomp.mode == SeccompMode::Filter {
            posture.seccomp.profile = container.made.map(|made| made.security.seccomp());
        }
        Ok(Audit {
            kind: Kind::Container,
            name: container.name.to_string(),
            id: container.id.to_string(),
            pid: Some(pid),
            differences: docker::differences(&posture),
            posture,
        })
    }

    fn audit_image(&self, name: &str) -> Result<Audit, Error> {
        let (record, image) = self.find_image(name)?;
        // What the command is makes no difference here; an image may have none.
        let request = RunRequest { command: vec!["true".into()], ..RunRequest::new(record.reference.clone()) };
        let host = Host {
            hostname: "",
            terminal: None,
            many_ids: !self.identity.is_single(),
            foreign_root: self.identity.foreign_root().is_some(),
            volumes: &[],
            kernel: KernelVersion::of_host(),
            devices: &[],
            shared: &Shared::default(),
            on_host: &OnHost::default(),
        };
        let planned = plan(image.config.config().as_ref(), &request, &host)?;
        let posture = spec::posture(&planned, &self.identity.maps);
        Ok(Audit {
            kind: Kind::Image,
            name: record.reference.to_string(),
            id: image.config_digest.to_string(),
            pid: None,
            differences: docker::differences(&posture),
            posture,
        })
    }
}
