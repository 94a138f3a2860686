//! What a workload would get from a plan.

use std::path::Path;

use oci_spec::runtime::{Capabilities, LinuxNamespaceType, Mount};
use rbox_runtime::ALL_CAPABILITIES;
use rbox_types::IdMaps;

use super::{Ids, MountPoint, Namespace, Posture, Seccomp, SeccompMode, Sets};
use crate::plan::RunPlan;

/// Of the workload once it is executed. Paths that this host has not are left out.
pub(super) fn posture(planned: &RunPlan, maps: &IdMaps) -> Posture {
    let spec = &planned.spec;
    let linux = spec.linux().clone().unwrap_or_default();
    let process = spec.process().clone().unwrap_or_default();
    let there = |paths: &Option<Vec<String>>| {
        paths.iter().flatten().filter(|path| Path::new(path).exists()).cloned().collect::<Vec<_>>()
    };
    let root =
        MountPoint { destination: "/".into(), kind: "overlay".into(), root: "/".into(), options: vec!["rw".into()] };
    let filter = planned.built_in_filter || linux.seccomp().is_some();
    Posture {
        capabilities: process.capabilities().as_ref().map(|sets| after_execve(sets, planned)).unwrap_or_default(),
        seccomp: Seccomp {
            mode: if filter { SeccompMode::Filter } else { SeccompMode::Disabled },
            filters: Some(filter.into()),
            profile: filter.then(|| "default".into()),
        },
        no_new_privileges: process.no_new_privileges().unwrap_or(false),
        label: process.apparmor_profile().clone().or_else(|| process.selinux_label().clone()),
        masked_paths: there(linux.masked_paths()),
        readonly_paths: there(linux.readonly_paths()),
        mounts: std::iter::once(root).chain(spec.mounts().iter().flatten().map(mount_point)).collect(),
        namespaces: namespaces(linux.namespaces().iter().flatten().map(|one| one.typ())),
        ids: Ids {
            user: Some(planned.user.clone()).filter(|user| !user.is_empty()),
            uid: planned.user.is_empty().then_some(0),
            gid: planned.user.is_empty().then_some(0),
            groups: Vec::new(),
            uid_map: Some(maps.uid.clone()),
            gid_map: Some(maps.gid.clone()),
        },
    }
}

/// execve(2) gives root what is in the bounding set, and others what is ambient (capabilities(7)).
fn after_execve(sets: &oci_spec::runtime::LinuxCapabilities, planned: &RunPlan) -> Sets {
    let list = |set: &Option<Capabilities>| -> Vec<_> {
        ALL_CAPABILITIES.into_iter().filter(|one| set.as_ref().is_some_and(|set| set.contains(one))).collect()
    };
    let (bounding, ambient) = (list(sets.bounding()), list(sets.ambient()));
    let effective = if crate::security::is_root(&planned.user) { bounding.clone() } else { ambient.clone() };
    Sets { permitted: effective.clone(), effective, inheritable: list(sets.inheritable()), bounding, ambient }
}

fn mount_point(mount: &Mount) -> MountPoint {
    let kind = mount.typ().clone().unwrap_or_default();
    MountPoint {
        destination: mount.destination().display().to_string(),
        kind: if kind == "cgroup" { "cgroup2".into() } else { kind },
        root: "/".into(),
        options: mount.options().clone().unwrap_or_default(),
    }
}

fn namespaces(own: impl Iterator<Item = LinuxNamespaceType>) -> std::collections::BTreeMap<String, Namespace> {
    let own: Vec<LinuxNamespaceType> = own.collect();
    [
        ("cgroup", LinuxNamespaceType::Cgroup),
        ("ipc", LinuxNamespaceType::Ipc),
        ("mnt", LinuxNamespaceType::Mount),
        ("net", LinuxNamespaceType::Network),
        ("pid", LinuxNamespaceType::Pid),
        ("time", LinuxNamespaceType::Time),
        ("user", LinuxNamespaceType::User),
        ("uts", LinuxNamespaceType::Uts),
    ]
    .map(|(name, kind)| (name.to_owned(), Namespace { own: own.contains(&kind), inode: None }))
    .into()
}
