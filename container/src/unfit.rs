//! What is asked for and cannot be had, on this host or together.

use std::path::PathBuf;

/// It, for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// `--device` of something else.
    #[error("{0} is not a device node")]
    NoDevice(PathBuf),
    /// `--device` of a directory.
    #[error("there is no device in {0}")]
    NoDevices(PathBuf),
    /// `--device …:r` of what the caller may write.
    #[error("{node}: nothing would keep the container from what you may do, which is to {verb} it")]
    Permissions {
        /// The node.
        node: PathBuf,
        /// What the workload is not to do.
        verb: &'static str,
    },
    /// `--tz`.
    #[error("no time zone {0:?} is on this host (/usr/share/zoneinfo, and /etc/localtime for local)")]
    NoZone(String),
    /// `-v …:z` where SELinux is in force.
    #[error("this version gives no files the SELinux label of a container, as z, Z and relabel ask for")]
    Relabel,
    /// `--preserve-fds`.
    #[error("--preserve-fds: descriptor {0} is not open")]
    NotHanded(i32),
    /// What a container that runs by itself cannot have.
    #[error(
        "a container that runs by itself (-d, create, --restart, --log-…, --timeout, -a, --sig-proxy=false, --detach-keys) cannot have {0} in this version"
    )]
    Monitored(&'static str),
    /// `--cidfile`.
    #[error("{0} is there already: --cidfile writes a new file, lest another container's id be lost")]
    CidFile(PathBuf),
}

impl Unfit {
    /// What the user can do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Permissions { .. } => Some("only root can forbid that, by a cgroup of the host's; say rwm".into()),
            Self::Relabel => Some("label them yourself: chcon -R -t container_file_t DIR".into()),
            Self::CidFile(path) => Some(format!("rm {}, if that container is gone", path.display())),
            Self::Monitored(_) => Some("run it in the foreground, without these".into()),
            Self::NoDevice(_) | Self::NoDevices(_) | Self::NoZone(_) | Self::NotHanded(_) => None,
        }
    }
}
