//! The ids of a spec: `linux.uidMappings` and `linux.gidMappings`.

use oci_spec::runtime::{LinuxIdMapping, Spec};
use rbox_rootless::{Identity, Kind};
use rbox_sys::ids;
use rbox_types::{IdMap, IdMaps, IdRange};

use super::Error;

/// The maps for a new user namespace, and how this caller can write them.
pub(super) fn identity(spec: &Spec) -> Result<Identity, Error> {
    let linux = spec.linux().as_ref();
    let uid = map("linux.uidMappings", linux.and_then(|linux| linux.uid_mappings().as_deref()))?;
    let gid = map("linux.gidMappings", linux.and_then(|linux| linux.gid_mappings().as_deref()))?;
    let own = |map: &IdMap, own: u32| map.is_single() && map.root() == own;
    let kind = if ids::uid() == 0 {
        Kind::Privileged
    } else if own(&uid, ids::uid()) && own(&gid, ids::gid()) {
        Kind::Single
    } else {
        Kind::Subid
    };
    Ok(Identity { maps: IdMaps { uid, gid }, kind })
}

fn map(field: &str, mappings: Option<&[LinuxIdMapping]>) -> Result<IdMap, Error> {
    let ranges: Vec<IdRange> = mappings
        .unwrap_or_default()
        .iter()
        .map(|mapping| IdRange { inside: mapping.container_id(), outside: mapping.host_id(), length: mapping.size() })
        .collect();
    IdMap::new(ranges).map_err(|error| Error::Usage(format!("config: {field}: {error}")))
}
