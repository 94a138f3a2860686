//! What a monitor and whoever starts it say to each other.

use std::fmt;
use std::io;
use std::path::PathBuf;

use rbox_rootless::Identity;
use rbox_runtime::systemd::Address;
use rbox_sys::socket::Channel;
use rbox_types::{ContainerId, ContainerName, StorageDriver};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The first word to a new monitor: it has its ids.
pub(super) const MAPPED: &[u8] = b"mapped";

/// Longer than any message.
const ROOM: usize = 64 << 10;

/// What a monitor is to do.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Setup {
    /// Where the store is.
    pub(super) root: PathBuf,
    pub(super) id: ContainerId,
    pub(super) name: ContainerName,
    /// Those of its container, as the monitor itself has to map them.
    pub(super) ids: Identity,
    /// What makes one tree of its layers and what it writes.
    pub(super) driver: StorageDriver,
    /// Where it lets others find its user namespace, to make theirs below.
    pub(super) offers: Option<PathBuf>,
    /// Whether somebody attaches before the start, and the workload's input ends with his.
    pub(super) attached: bool,
    /// Where systemd is asked for its cgroup, where that may be.
    pub(super) bus: Option<Address>,
    /// Rows and columns of the terminal, where that is known.
    pub(super) size: Option<(u16, u16)>,
}

/// What a monitor says of the start.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Heard {
    /// One can attach.
    Listening,
    /// The workload runs.
    Started {
        /// The monitor's number, as /proc has it.
        monitor: u32,
        /// Limits that it goes without, and why.
        missed: Vec<String>,
    },
    /// It does not, and this is why.
    Failed(StartFailure),
}

/// Why a container did not start, as its monitor has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartFailure {
    /// What failed, and why.
    pub message: String,
    /// What mends it.
    pub hint: Option<String>,
    /// The exit status for it.
    pub status: u8,
}

impl fmt::Display for StartFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for StartFailure {}

pub(super) fn say(channel: &Channel, what: &impl Serialize) -> io::Result<()> {
    channel.send(&postcard::to_stdvec(what).map_err(io::Error::other)?, &[])
}

/// The next message; none when the other side is gone.
pub(super) fn hear<T: DeserializeOwned>(channel: &Channel) -> io::Result<Option<T>> {
    let mut buffer = vec![0; ROOM];
    match channel.receive(&mut buffer)? {
        (0, _) => Ok(None),
        (length, _) => postcard::from_bytes(&buffer[..length]).map(Some).map_err(io::Error::other),
    }
}
