//! `uidMappings` and `gidMappings` of a mount: the ids that its files are shown with.

use std::fs::File;
use std::io;

use oci_spec::runtime::{LinuxIdMapping, Mount};
use rbox_rootless::{Identity, Kind, MapWriter};
use rbox_sys::clone::{self, Forked, Namespaces};
use rbox_sys::signal::Signal;
use rbox_sys::socket::Channel;
use rbox_types::{IdMap, IdMaps, IdRange};
use serde::{Deserialize, Serialize};

/// Both maps: first id on disk, first id that it is shown as (the host's), how many.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MountIds {
    uids: Vec<(u32, u32, u32)>,
    gids: Vec<(u32, u32, u32)>,
}

impl MountIds {
    /// Checks and reduces those of a mount; `None` where it has none.
    pub(crate) fn of(mount: &Mount) -> Result<Option<Self>, String> {
        let reduce = |mappings: &[LinuxIdMapping]| {
            mappings.iter().map(|one| (one.container_id(), one.host_id(), one.size())).collect::<Vec<_>>()
        };
        match (mount.uid_mappings(), mount.gid_mappings()) {
            (None, None) => Ok(None),
            (Some(uids), Some(gids)) => {
                let ids = Self { uids: reduce(uids), gids: reduce(gids) };
                ids.maps().map(|_| Some(ids)).map_err(|error| error.to_string())
            }
            _ => Err("uidMappings and gidMappings go together".into()),
        }
    }

    fn maps(&self) -> io::Result<IdMaps> {
        let map = |ranges: &[(u32, u32, u32)]| {
            let ranges = ranges.iter().map(|&(inside, outside, length)| IdRange { inside, outside, length });
            IdMap::new(ranges.collect()).map_err(io::Error::other)
        };
        Ok(IdMaps { uid: map(&self.uids)?, gid: map(&self.gids)? })
    }

    /// A user namespace with these maps, which lives as long as the file is open. Needs CAP_SETUID and CAP_SETGID, and
    /// a process of one thread.
    pub(crate) fn user_namespace(&self) -> io::Result<File> {
        let identity = Identity::given(self.maps()?, Kind::Privileged);
        let (ours, theirs) = Channel::pair()?;
        let child = match clone::fork_into(Namespaces::USER)? {
            Forked::Child => wait_for_end(ours, &theirs),
            Forked::Parent(child) => child,
        };
        let opened = MapWriter::begin(&identity, child.pid())
            .and_then(MapWriter::finish)
            .map_err(io::Error::other)
            .and_then(|()| File::open(format!("/proc/{}/ns/user", child.pid())));
        child.signal(Signal::KILL)?;
        child.wait()?;
        opened
    }
}

/// A namespace needs a process while its maps are written.
fn wait_for_end(ours: Channel, theirs: &Channel) -> ! {
    drop(ours);
    let _: io::Result<(usize, Vec<_>)> = theirs.receive(&mut [0]);
    std::process::exit(0)
}
