//! What is asked for and cannot be had, on this host or together.

use std::path::PathBuf;

use rbox_types::StorageDriver;

use crate::settings::Userns;

/// It, for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// `--device` of something else.
    #[error("{0} is not a device node")]
    NoDevice(PathBuf),
    /// `--device-read-bps` and its like of something else.
    #[error("{0} is not a block device")]
    NoBlockDevice(PathBuf),
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
    /// `--publish` where there is no network of the container's own.
    #[error("no ports can be published with --network {0}: there is none of the container's own to reach them by")]
    NoPorts(String),
    /// `--egress` and `--egress-log` where nothing could hold to it.
    #[error("nothing can hold to --egress, nor keep --egress-log, with --network {0}")]
    NoEgress(String),
    /// `--network-rate`, likewise.
    #[error("nothing can hold to --network-rate with --network {0}")]
    NoRate(String),
    /// `--egress-log=-` for a monitor.
    #[error("--egress-log=- is for what runs in the foreground: a monitor's standard error is read by nobody")]
    EgressUnread,
    /// `--preserve-fds`.
    #[error("--preserve-fds: descriptor {0} is not open")]
    NotHanded(i32),
    /// `--log-driver=passthrough` where a terminal would be passed on.
    #[error(
        "--log-driver=passthrough: what would be passed on is a terminal, which somebody else reads and writes too"
    )]
    PassedTerminal,
    /// `--userns=keep-id` by what shows files as they are stored.
    #[error("{}: --storage-driver={driver} shows files with the ids that they are stored with", userns.flag())]
    ShownOtherwise {
        /// What was asked for.
        userns: Userns,
        /// And this.
        driver: StorageDriver,
    },
    /// `-v …:U` of a directory of the host's own.
    #[error("all in {0} would belong to the container's user (U), and the host, or all that you do, needs it as it is")]
    NotToGiveAway(PathBuf),
    /// Two mounts in one place.
    #[error("two things are to be mounted on {0}")]
    SamePlace(PathBuf),
    /// An image with a volume that would cover all of it.
    #[error("the image has a volume on {0}, which would cover all of it")]
    ImageVolume(PathBuf),
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
            Self::NotToGiveAway(_) => Some("name the directory that is the container's alone".into()),
            Self::CidFile(path) => Some(format!("rm {}, if that container is gone", path.display())),
            Self::NotHanded(number) => Some(format!("whoever starts the container hands them on: {number}<FILE")),
            Self::PassedTerminal => Some("redirect all three streams, or keep a log (--log-driver=k8s-file)".into()),
            Self::NoPorts(network) if network == "host" => {
                Some("they are the host's as they are, without --publish".into())
            }
            Self::NoPorts(_) | Self::NoEgress(_) | Self::NoRate(_) => {
                Some("--network slirp has one; it needs /dev/net/tun".into())
            }
            Self::ShownOtherwise { .. } => Some("--storage-driver=fuse shows them with others".into()),
            Self::EgressUnread => Some("--egress-log FILE".into()),
            Self::NoDevice(_)
            | Self::NoBlockDevice(_)
            | Self::NoDevices(_)
            | Self::NoZone(_)
            | Self::SamePlace(_)
            | Self::ImageVolume(_) => None,
        }
    }
}
