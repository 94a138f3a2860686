//! The ids of a spec: `linux.uidMappings` and `linux.gidMappings`.

use oci_spec::runtime::{LinuxIdMapping, Spec};
use rbox_rootless::{Identity, Kind};
use rbox_sys::ids;
use rbox_types::{IdMap, IdMaps, IdRange};

use super::Error;

/// The maps for a new user namespace, and how this caller can write them. A spec that has none, such as crun's own
/// example for users without root, gets the caller's id as its root.
pub(crate) fn identity(spec: &Spec) -> Result<Identity, Error> {
    let linux = spec.linux().as_ref();
    let mappings = |of: fn(&oci_spec::runtime::Linux) -> &Option<Vec<LinuxIdMapping>>| {
        linux.and_then(|linux| of(linux).as_deref()).unwrap_or_default()
    };
    let (uids, gids) = (mappings(|linux| linux.uid_mappings()), mappings(|linux| linux.gid_mappings()));
    let (uid, gid) = match (uids, gids) {
        ([], []) => (IdMap::single(ids::uid()), IdMap::single(ids::gid())),
        _ => (map("linux.uidMappings", uids)?, map("linux.gidMappings", gids)?),
    };
    let own = |map: &IdMap, own: u32| map.is_single() && map.root() == own;
    let kind = if ids::uid() == 0 {
        Kind::Privileged
    } else if own(&uid, ids::uid()) && own(&gid, ids::gid()) {
        Kind::Single
    } else {
        Kind::Subid
    };
    Ok(Identity::given(IdMaps { uid, gid }, kind))
}

fn map(field: &str, mappings: &[LinuxIdMapping]) -> Result<IdMap, Error> {
    let ranges: Vec<IdRange> = mappings
        .iter()
        .map(|mapping| IdRange { inside: mapping.container_id(), outside: mapping.host_id(), length: mapping.size() })
        .collect();
    IdMap::new(ranges).map_err(|error| Error::Usage(format!("config: {field}: {error}")))
}
