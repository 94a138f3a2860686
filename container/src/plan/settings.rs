//! What a container's settings come to in a spec: limits, mounts, annotations.

use std::collections::HashMap;

use oci_spec::runtime::{
    LinuxNamespaceType, Mount, PosixRlimit, PosixRlimitBuilder, PosixRlimitType, Process, Spec, User,
};
use rbox_runtime::{KEEP_GROUPS, namespace_of_sysctl};

use super::{Host, PlanError, bind, mount};
use crate::logs::Driver;
use crate::on_host::OnHost;
use crate::request::RunRequest;
use crate::settings::{Limits, NetworkMode, Settings, Ulimit, resource};
use crate::shared::{Shared, Source};

/// Docker's.
const SHM_SIZE: u64 = 64 << 20;

/// Checks what cannot go together.
pub(super) fn check(request: &RunRequest, host: &Host<'_>) -> Result<(), PlanError> {
    let settings = &request.settings;
    let shared = host.shared;
    if shared.ipc != Source::Own && settings.limits.shm_size.is_some() {
        return Err(PlanError::Together("--shm-size", "--ipc=host or container, whose /dev/shm has its size"));
    }
    if shared.uts != Source::Own && request.hostname.is_some() {
        return Err(PlanError::Together("--hostname", "--uts=host or container, whose name is another's"));
    }
    if shared.pid != Source::Own && request.init {
        return Err(PlanError::Together("--init", "--pid=host or container, which has a first process already"));
    }
    if request.tty && request.log.driver == Driver::Passthrough {
        return Err(PlanError::Together(
            "--tty",
            "--log-driver=passthrough, which has the caller's streams for a terminal",
        ));
    }
    if settings.keeps_groups() && settings.groups.len() > 1 {
        return Err(PlanError::Together(
            "--group-add keep-groups",
            "other groups: only root may be in more than its own",
        ));
    }
    if !settings.groups.is_empty() && !settings.keeps_groups() && !host.many_ids {
        return Err(PlanError::OneGroup);
    }
    settings.resolver.check().map_err(PlanError::Resolver)?;
    settings.check().map_err(PlanError::Limits)?;
    network(settings, shared)?;
    for name in settings.limits.sysctls.keys() {
        let refuse = |why: &str| PlanError::Sysctl { name: name.clone(), why: why.into() };
        let of_hosts = match namespace_of_sysctl(name).map_err(refuse)? {
            LinuxNamespaceType::Ipc if shared.ipc == Source::Host => "ipc",
            LinuxNamespaceType::Uts if shared.uts == Source::Host => "uts",
            LinuxNamespaceType::Network if shared.net == Source::Host => "network",
            _ => continue,
        };
        return Err(refuse(&format!("the container has the host's {of_hosts} namespace, whose it would change")));
    }
    Ok(())
}

/// Checks what is said of the network.
fn network(settings: &Settings, shared: &Shared) -> Result<(), PlanError> {
    shared.network.check().map_err(PlanError::Network)?;
    if shared.net == Source::Joined && settings.resolver.says_anything() {
        return Err(PlanError::Together(
            "--dns, --dns-search, --dns-option or --add-host",
            "--network=container, whose names are resolved as that one's",
        ));
    }
    if shared.network == NetworkMode::None && settings.resolver.names_the_gateway() {
        return Err(PlanError::Together("--add-host …:host-gateway", "a container that has no network to reach it by"));
    }
    Ok(())
}

/// Sets what a process has, be it a container's first or one that comes later.
pub(super) fn set_for_process(
    process: &mut Process,
    limits: &Limits,
    hard_limits: &[(PosixRlimitType, u64)],
    least: Option<i32>,
) {
    let rlimits = rlimits(limits, hard_limits);
    process.set_rlimits(Some(rlimits).filter(|limits| !limits.is_empty()));
    if let Some(mask) = limits.umask {
        let mut user = User::default();
        user.set_umask(Some(mask.0));
        process.set_user(user);
    }
    process.set_oom_score_adj(limits.oom_score_adj.map(|asked| asked.max(least.unwrap_or(asked))));
}

fn rlimits(limits: &Limits, hard_limits: &[(PosixRlimitType, u64)]) -> Vec<PosixRlimit> {
    let mut rlimits: Vec<PosixRlimit> = Vec::new();
    for limit in &limits.ulimits {
        let Ulimit::Of { name, soft, hard } = limit else { continue };
        let Some((kind, _)) = resource(name) else { continue };
        let most = hard_limits.iter().find(|(known, _)| *known == kind).map_or(u64::MAX, |(_, most)| *most);
        let hard = hard.unwrap_or(most);
        let limit = PosixRlimitBuilder::default().typ(kind).hard(hard).soft(soft.unwrap_or(hard)).build();
        rlimits.retain(|before| before.typ() != kind);
        rlimits.extend(limit);
    }
    rlimits
}

/// Sets what is the container's.
pub(super) fn set_for_spec(spec: &mut Spec, settings: &Settings, on_host: &OnHost) {
    let mut annotations: HashMap<String, String> = settings.annotations.clone().into_iter().collect();
    if settings.keeps_groups() {
        annotations.insert(KEEP_GROUPS.into(), "1".into());
    }
    if !annotations.is_empty() {
        spec.set_annotations(Some(annotations));
    }
    let sysctls = &settings.limits.sysctls;
    if let Some(linux) = spec.linux_mut().as_mut() {
        if !sysctls.is_empty() {
            linux.set_sysctl(Some(sysctls.clone().into_iter().collect()));
        }
        linux.set_resources(on_host.resources.clone());
    }
}

/// /proc: of the container's processes, or the host's own, where they are the host's.
pub(super) fn proc(host: &Host<'_>) -> Mount {
    match host.shared.pid {
        // A new one would be refused: the pid namespace belongs to another user namespace.
        Source::Host => bind("/proc".into(), "/proc".into(), &["rbind", "nosuid", "noexec", "nodev"]),
        Source::Own | Source::Joined => mount("proc", "/proc", &["nosuid", "noexec", "nodev"]),
    }
}

/// /sys: with the devices of the container's network, or the host's own, where that is the host's; `written` is "ro" or
/// "rw".
pub(super) fn sys(host: &Host<'_>, written: &str) -> Mount {
    match host.shared.net {
        // A new one would be refused: the network namespace belongs to another user namespace.
        Source::Host => {
            let written = if written == "ro" { "rro" } else { written };
            bind("/sys".into(), "/sys".into(), &["rbind", "nosuid", "noexec", "nodev", written])
        }
        Source::Own | Source::Joined => mount("sysfs", "/sys", &["nosuid", "noexec", "nodev", written]),
    }
}

/// What belongs to the IPC namespace.
pub(super) fn ipc(settings: &Settings, host: &Host<'_>) -> Vec<Mount> {
    let options = ["nosuid", "noexec", "nodev"];
    let bound = [&["bind"], &options[..]].concat();
    let queues = match host.shared.ipc {
        Source::Host => host.on_host.mqueue.then(|| bind("/dev/mqueue".into(), "/dev/mqueue".into(), &bound)),
        Source::Own | Source::Joined => Some(mount("mqueue", "/dev/mqueue", &options)),
    };
    let shm = match host.shared.shm() {
        Some(source) => Some(bind(source, "/dev/shm".into(), &bound)),
        None if host.shared.without_shm => None,
        None => {
            let size = settings.limits.shm_size.map_or(SHM_SIZE, |size| size.0);
            let size = format!("size={}k", size.div_ceil(1024));
            Some(mount("tmpfs", "/dev/shm", &[&options[..], &["mode=1777", &size]].concat()))
        }
    };
    queues.into_iter().chain(shm).collect()
}

/// Device nodes and the time zone.
pub(super) fn of_host(host: &Host<'_>) -> impl Iterator<Item = Mount> {
    let devices = host.on_host.devices.iter();
    let devices =
        devices.map(|(node, destination)| bind(node.clone(), destination.clone(), &["bind", "nosuid", "noexec"]));
    let zone = host.on_host.zone.clone();
    let options = ["bind", "ro", "nosuid", "noexec", "nodev"];
    devices.chain(zone.map(|zone| bind(zone, "/etc/localtime".into(), &options)))
}
