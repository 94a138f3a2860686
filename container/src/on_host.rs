//! What only the host tells of what is asked for: device nodes, time zones, the caller's own limits. Nothing is looked at
//! that was not asked for.

use std::os::unix::fs::FileTypeExt;
use std::path::{Component, Path, PathBuf};
use std::{fs, io};

use oci_spec::runtime::{LinuxResources, PosixRlimitType};
use rbox_sys::{fd, ids, node, rlimit};

use crate::host_devices::nodes_below;
use crate::life::limited;
use crate::request::RunRequest;
use crate::settings::{DeviceRequest, Limits, Settings, Ulimit, resource};
use crate::shared::{Shared, Source};
use crate::{Error, Unfit};

/// It, for one request.
#[derive(Debug, Default)]
pub(crate) struct OnHost {
    /// The most that a process of the caller's may have, of what `--ulimit` names.
    pub(crate) hard_limits: Vec<(PosixRlimitType, u64)>,
    /// What no process of the caller's may go below.
    pub(crate) least_oom_score_adj: Option<i32>,
    /// The file that /etc/localtime is to show.
    pub(crate) zone: Option<PathBuf>,
    /// Nodes, and where the container has them.
    pub(crate) devices: Vec<(PathBuf, PathBuf)>,
    /// What all of it together may use.
    pub(crate) resources: Option<LinuxResources>,
    /// Whether POSIX message queues are to be seen.
    pub(crate) mqueue: bool,
}

impl OnHost {
    /// Looks.
    pub(crate) fn of(request: &RunRequest, shared: &Shared) -> Result<Self, Error> {
        let settings = &request.settings;
        if request.volumes.iter().any(|volume| volume.options.relabel) && Path::new(SELINUX).exists() {
            return Err(Unfit::Relabel.into());
        }
        let mut devices = Vec::new();
        for device in &settings.devices {
            find_device(device, &mut devices)?;
        }
        Ok(Self {
            hard_limits: hard_limits(&settings.limits)?,
            least_oom_score_adj: least_oom_score_adj(&settings.limits)?,
            zone: settings.timezone.as_deref().map(zone).transpose()?,
            devices,
            resources: (!settings.resources.is_empty()).then(|| limited::spec(&settings.resources)).transpose()?,
            mqueue: shared.ipc == Source::Host && Path::new("/dev/mqueue").is_dir(),
        })
    }

    /// What the process of a request cannot go below, where that matters to it.
    pub(crate) fn least_oom_score_adj(request: &RunRequest) -> Result<Option<i32>, Error> {
        least_oom_score_adj(&request.settings.limits)
    }

    /// For one more process in a container of these settings.
    pub(crate) fn of_record(settings: &Settings) -> Result<Self, Error> {
        Ok(Self {
            hard_limits: hard_limits(&settings.limits)?,
            least_oom_score_adj: least_oom_score_adj(&settings.limits)?,
            ..Self::default()
        })
    }
}

/// That whoever runs this process has handed on as many descriptors, from 3 on, as a container is to have.
pub(crate) fn descriptors_are_there(count: u32) -> Result<(), Unfit> {
    let missing = (3..).take(count as usize).find(|number| !fd::was_handed(*number));
    missing.map_or(Ok(()), |number| Err(Unfit::NotHanded(number)))
}

/// There where SELinux is in force.
const SELINUX: &str = "/sys/fs/selinux/enforce";

/// The most that a process of the caller's may have, of what is limited.
fn hard_limits(limits: &Limits) -> Result<Vec<(PosixRlimitType, u64)>, Error> {
    let mut found = Vec::new();
    for limit in &limits.ulimits {
        let Ulimit::Of { name, .. } = limit else { continue };
        if let Some((kind, resource)) = resource(name) {
            let now = rlimit::get(None, resource).map_err(Error::io("ask for the limit", name))?;
            found.push((kind, now.hard));
        }
    }
    Ok(found)
}

/// Only root may go below its own (proc(5)); Podman has others stay at it.
fn least_oom_score_adj(limits: &Limits) -> Result<Option<i32>, Error> {
    if limits.oom_score_adj.is_none() || ids::is_root_of_host() {
        return Ok(None);
    }
    let path = "/proc/self/oom_score_adj";
    let text = fs::read_to_string(path).map_err(Error::io("read", path))?;
    Ok(text.trim().parse().ok())
}

/// `local`, or a zone's name.
fn zone(name: &str) -> Result<PathBuf, Error> {
    let no_zone = || Error::from(Unfit::NoZone(name.to_owned()));
    let path = match name {
        "local" => PathBuf::from("/etc/localtime"),
        _ if name.is_empty() || !Path::new(name).components().all(|part| matches!(part, Component::Normal(_))) => {
            return Err(no_zone());
        }
        _ => Path::new("/usr/share/zoneinfo").join(name),
    };
    let path = fs::canonicalize(path).map_err(|_| no_zone())?;
    if path.is_file() { Ok(path) } else { Err(no_zone()) }
}

/// The node, or those in a directory and below it.
fn find_device(asked: &DeviceRequest, found: &mut Vec<(PathBuf, PathBuf)>) -> Result<(), Error> {
    let on = || asked.source.display();
    let source = fs::canonicalize(&asked.source).map_err(Error::io("find the device", on()))?;
    let kind = fs::metadata(&source).map_err(Error::io("look at the device", on()))?.file_type();
    let from = found.len();
    if kind.is_dir() {
        for node in nodes_below(&source).map_err(Error::io("list the devices in", on()))? {
            let below = node.strip_prefix(&source).map_err(io::Error::other).map_err(Error::io("list", on()))?;
            let destination = asked.destination.join(below);
            found.push((node, destination));
        }
        if found.len() == from {
            return Err(Unfit::NoDevices(asked.source.clone()).into());
        }
    } else if kind.is_char_device() || kind.is_block_device() {
        found.push((source, asked.destination.clone()));
    } else {
        return Err(Unfit::NoDevice(asked.source.clone()).into());
    }
    // "m" is to make nodes, which in a user namespace nobody may.
    let allowed = |letter| asked.permissions.contains(letter);
    let too_much = |node: &Path| {
        (!allowed('w') && node::may_write(node))
            .then_some("write to")
            .or((!allowed('r') && node::may_read(node)).then_some("read"))
    };
    match found[from..].iter().find_map(|(node, _)| Some((node, too_much(node)?))) {
        Some((node, verb)) => Err(Unfit::Permissions { node: node.clone(), verb }.into()),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones() {
        for wrong in ["", "..", "../../etc/passwd", "/etc/passwd", "./UTC", "No/Such", "Europe"] {
            zone(wrong).expect_err(wrong);
        }
    }

    #[test]
    fn devices() {
        let found = |text: &str| {
            let mut found = Vec::new();
            find_device(&text.parse().expect(text), &mut found).map(|()| found).map_err(|error| error.to_string())
        };
        let null = |path: &str| (PathBuf::from("/dev/null"), PathBuf::from(path));
        assert_eq!(found("/dev/null:/dev/other"), Ok(vec![null("/dev/other")]));
        for (wrong, named) in [
            ("/dev/no-such-device", "no-such-device"),
            ("/etc/passwd", "not a device"),
            ("/etc", "no device"),
            ("/dev/null:r", "write to"),
            ("/dev/null:wm", "read"),
        ] {
            let error = found(wrong).expect_err(wrong);
            assert!(error.contains(named), "{error}");
        }
    }
}
