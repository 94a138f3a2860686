//! The new filesystems of a plan's mounts, and the network namespace. They need no place to be made, so they are made by a
//! thread of their own while init does all else.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::Receiver;

use rbox_sys::mount::Filesystem;
use rbox_sys::socket::Channel;
use rbox_sys::{beneath, sched, xattr};

use crate::error::{During, Failure};
use crate::init::{IdsAreThere, become_root};
use crate::labels::CONTEXT_HINT;
use crate::plan::{InitPlan, MountSource, MountStep};
use crate::{cgroup_mount, dev, labels, network};

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

/// Makes them: what a thread begins to do before the ids are there.
///
/// It also closes `exe`, the clone that init runs from: to let go of a detached mount takes an RCU grace period.
pub(crate) fn make(
    plan: &InitPlan,
    with_network: bool,
    exe: Option<OwnedFd>,
    told: Receiver<IdsAreThere>,
    channel: &Channel,
) -> Result<Filesystems, Failure> {
    drop(exe);
    // What everything waits for comes first where cores are few; that it is refused is no reason to fail. SCHED_IDLE would not
    // do: on a busy host this thread could take a second to end, which only CAP_SYS_NICE could undo, and the container's first
    // process does not end before it (pid_namespaces(7)).
    let _ = sched::give_way();
    let network = with_network.then(|| network::make(plan.tap.as_ref(), channel)).transpose()?;
    // Else init has failed, and says why.
    told.recv().map_err(io::Error::other).during(|| "wait for the ids")?;
    become_root(plan)?;
    let mut mounts: Vec<Option<OwnedFd>> = plan.mounts.iter().map(|_| None).collect();
    for (number, (step, mount)) in plan.mounts.iter().zip(&mut mounts).enumerate() {
        if let MountSource::New(kind) = &step.source {
            let new = mount.insert(new_filesystem(kind, step, plan.attributes.labels.mount.as_deref())?);
            if dev::is_new(step) {
                dev::fill(new.as_fd(), &plan.mounts[number..])?;
            }
        }
    }
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use oci_spec::runtime::Spec;

    use super::*;

    #[test]
    fn the_thread_is_not_starved() {
        // SCHED_IDLE of uapi/linux/sched.h.
        const IDLE: u32 = 5;
        let plan = InitPlan::new(&Spec::default()).expect("a plan");
        let policy = std::thread::spawn(move || {
            // Without privilege, and without ids, it goes no further than that.
            let (_, told) = mpsc::channel();
            let (channel, _launcher) = Channel::pair().expect("socketpair");
            assert!(make(&plan, true, None, told, &channel).is_err());
            sched::get().expect("sched_getattr").policy
        });
        assert_ne!(policy.join().expect("no panic"), IDLE);
    }
}
