//! The new filesystems of a plan's mounts. They need no place to be made, so they are made by a thread of their own while
//! init mounts the root filesystem.

use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};

use rbox_sys::clone::{self, Namespaces};
use rbox_sys::mount::Filesystem;
use rbox_sys::{beneath, xattr};

use crate::error::{During, Failure};
use crate::labels::CONTEXT_HINT;
use crate::network::Network;
use crate::plan::{MountSource, MountStep};
use crate::{cgroup_mount, dev, labels};

/// What mends a /proc or /sys that cannot be mounted: the kernel gives a user namespace a fresh one only where the
/// outer one is fully visible (mount_too_revealing() in fs/namespace.c).
pub(crate) const PROC_HINT: &str = "parts of the outer one are covered, as inside another container: start that one \
     with them uncovered (Docker and Podman: --security-opt systempaths=unconfined)";

/// Filesystems that take no SELinux context in a user namespace (selinux_set_mnt_opts() in security/selinux/hooks.c). The
/// policy itself has labels for their files.
const LABELLED_BY_KERNEL: [&str; 4] = ["proc", "sysfs", "cgroup2", MQUEUE];

/// Whose root may yet be labelled when it is mounted, which queues then inherit.
const MQUEUE: &str = "mqueue";

/// Those of a plan, in the order of its mounts, and the network namespace that a new /sys shows the devices of.
#[derive(Debug)]
pub(crate) struct Filesystems {
    pub(crate) mounts: Vec<Option<OwnedFd>>,
    pub(crate) network: Option<File>,
}

/// Makes them, as root of the user namespace. The calling thread is in the network namespace afterwards.
pub(crate) fn make(steps: &[MountStep], label: Option<&str>, network: Option<Network>) -> Result<Filesystems, Failure> {
    let mut mounts: Vec<Option<OwnedFd>> = steps.iter().map(|_| None).collect();
    let mut make = |of_network: bool| -> Result<(), Failure> {
        for (number, (step, mount)) in steps.iter().zip(&mut mounts).enumerate() {
            if let MountSource::New(kind) = &step.source
                && (kind == "sysfs") == of_network
            {
                let new = mount.insert(new_filesystem(kind, step, label)?);
                if dev::is_new(step) {
                    dev::fill(new.as_fd(), &steps[number..])?;
                }
            }
        }
        Ok(())
    };
    make(false)?;
    let network = network.map(Network::finish).transpose()?;
    if let Some(network) = &network {
        clone::enter(network, Namespaces::NET).during(|| "enter the network namespace")?;
    }
    make(true)?;
    Ok(Filesystems { mounts, network })
}

fn new_filesystem(kind: &str, step: &MountStep, label: Option<&str>) -> Result<OwnedFd, Failure> {
    // The runtime spec's "cgroup" is whatever hierarchy the host has; this one is v2 only.
    let kind = if kind == "cgroup" { "cgroup2" } else { kind };
    let what = || format!("mount {kind} on {}", step.destination.display());
    let filesystem = Filesystem::open(kind).during(what)?;
    for (key, value) in &step.options.data {
        let set = match value {
            Some(value) => filesystem.set(key, value),
            None => filesystem.set_flag(key),
        };
        set.during(|| format!("{} with option {key:?}", what()))?;
    }
    let labelled = || format!("{} with the SELinux context {:?}", what(), label.unwrap_or_default());
    labels::set_context(&filesystem, label.filter(|_| !LABELLED_BY_KERNEL.contains(&kind)))
        .during(labelled)
        .map_err(labels::with_hint)?;
    let mounted = filesystem
        .mount(step.early_attributes())
        .or_else(|error| cgroup_mount::or_bind(kind, step, error))
        .map_err(|error| {
        let failure = Failure::new(what(), &error);
        match (kind, error.kind()) {
            ("proc" | "sysfs", ErrorKind::PermissionDenied) => failure.hint(PROC_HINT),
            _ if label.is_some() && error.kind() == ErrorKind::InvalidInput => {
                Failure { what: labelled(), ..failure }.hint(CONTEXT_HINT)
            }
            _ => failure,
        }
    })?;
    if let Some(label) = label.filter(|_| kind == MQUEUE) {
        let root = beneath::open_dir(mounted.as_fd(), b"").during(labelled)?;
        match xattr::set(root.as_fd(), b"security.selinux", label.as_bytes()) {
            // It belongs to who made the namespace, before the ids were mapped: where root runs rbox, to nobody in the
            // container. It then keeps the policy's label.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {}
            set => set.during(labelled)?,
        }
    }
    Ok(mounted)
}
