//! What a person says of a container besides what it runs: limits, shared namespaces, names, labels, devices.
//!
//! A container's record has them as they were said, so that `exec`, `stop` and `inspect` find them.

/// Records have the words of the flags.
macro_rules! as_words {
    ($($kind:ty),+) => { $(
        impl TryFrom<String> for $kind {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                text.parse()
            }
        }

        impl From<$kind> for String {
            fn from(kind: $kind) -> Self {
                kind.to_string()
            }
        }
    )+ };
}

mod device;
mod egress;
mod health;
mod limits;
mod network;
mod network_rate;
mod ports;
mod resolver;
mod resources;
mod sharing;
mod stop;
mod userns;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use device::DeviceRequest;
pub use egress::{Egress, EgressLog, EgressOption};
pub use health::{HealthAction, HealthCheck, HealthCommand, HealthTime};
pub(crate) use limits::resource;
pub use limits::{ByteSize, Limits, Sysctl, Ulimit, Umask};
pub use network::{Cidr, MacAddress, NetworkMode, Slirp};
pub use network_rate::NetworkRate;
pub use ports::{PortMapping, PortProtocol, Publish};
pub use resolver::{Dns, ExtraHost, HostAddress, Resolver};
pub use resources::{Amount, CgroupConf, CgroupManager, CgroupWish, Cgroups, Cpus, DeviceRate, Resources};
pub use sharing::{Ipc, Sharing, Whose};
pub use stop::{Stop, StopSignal};
pub use userns::{Auto, MapFlag, Userns};

/// The flags of `rbox run` that say how a container is to be, each with what goes without saying as its default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// What a process may use and touch.
    #[serde(skip_serializing_if = "is_default")]
    pub limits: Limits,
    /// What all of it together may use.
    #[serde(skip_serializing_if = "is_default")]
    pub resources: Resources,
    /// Where that is enforced.
    #[serde(skip_serializing_if = "is_default")]
    pub cgroup: CgroupWish,
    /// Whose namespaces it has.
    #[serde(skip_serializing_if = "is_default")]
    pub sharing: Sharing,
    /// What can be reached from outside; of a record each with a port of the host's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PortMapping>,
    /// Whether all ports that the image names are among them.
    #[serde(skip_serializing_if = "is_default")]
    pub publish_all: bool,
    /// Where it may go.
    #[serde(skip_serializing_if = "is_default")]
    pub egress: Egress,
    /// How fast.
    #[serde(skip_serializing_if = "is_default")]
    pub network_rate: NetworkRate,
    /// hosts(5) and resolv.conf(5).
    #[serde(skip_serializing_if = "is_default")]
    pub resolver: Resolver,
    /// For people and their tools; over those of the image.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// For the runtime, in the spec.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Device nodes of the host.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<DeviceRequest>,
    /// Supplementary groups, by name or number; or [`KEEP_GROUPS`] alone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// `local`, or a name beneath /usr/share/zoneinfo.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// How it is asked to end.
    #[serde(skip_serializing_if = "is_default")]
    pub stop: Stop,
    /// How it is found out whether it is well; of a request what was said, of a record what there is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthCheck>,
    /// What is done when it is not.
    #[serde(skip_serializing_if = "is_default")]
    pub on_unhealthy: HealthAction,
    /// Where its id is written; must not be there yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cid_file: Option<PathBuf>,
    /// Where the first process's id is written, as the host has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid_file: Option<PathBuf>,
    /// How many of the caller's descriptors, from 3 on, the workload gets too.
    #[serde(skip_serializing_if = "is_default")]
    pub preserve_fds: u32,
}

/// What stands among [`Settings::groups`] for those of the caller (Podman).
pub const KEEP_GROUPS: &str = "keep-groups";

impl Settings {
    /// Refuses limits that contradict each other.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.resources.check()?;
        if self.cgroup.disabled && !self.resources.is_empty() {
            return Err("--cgroups=disabled leaves nothing that could limit the container".into());
        }
        if self.cgroup.disabled && (self.cgroup.parent.is_some() || self.cgroup.manager.is_some()) {
            return Err("--cgroup-parent and --cgroup-manager do not go with --cgroups=disabled".into());
        }
        Ok(())
    }

    /// Whether the workload is in its caller's supplementary groups.
    pub fn keeps_groups(&self) -> bool {
        self.groups.iter().any(|group| group == KEEP_GROUPS)
    }
}

/// For records, which leave out what goes without saying.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    #[test]
    fn what_goes_without_saying_is_not_written_down() {
        assert_eq!(serde_json::to_string(&Settings::default()).expect("serialized"), "{}");
        let settings = Settings {
            limits: Limits { umask: Some("077".parse().expect("valid")), ..Limits::default() },
            sharing: Sharing { pid: Whose::Host, ipc: "container:a".parse().expect("valid"), ..Sharing::default() },
            groups: vec!["audio".into()],
            stop: Stop { signal: Some("INT".parse().expect("valid")), timeout: Some(3), lifetime: NonZeroU32::new(5) },
            ..Settings::default()
        };
        let text = serde_json::to_string(&settings).expect("serialized");
        assert_eq!(serde_json::from_str::<Settings>(&text).expect("read"), settings, "{text}");
    }
}
