//! Layers: unpacked directories, by the id maps that own their files and their chain id.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use rbox_types::{ChainId, DiffId, IdMaps, LeftOut};
use serde::{Deserialize, Serialize};

use crate::{
    Error, Lease, Staged, Store,
    durability::Thing,
    error::{IoContext, Result},
    files,
    lease::LeaseInner,
    locks::KeyedLock,
};

/// A layer that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    directory: PathBuf,
}

/// What is known of a layer besides its files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerRecord {
    /// The digest of the tar that it was unpacked from.
    pub diff_id: DiffId,
    /// The sum of its regular files' sizes in bytes.
    pub size: u64,
    /// One more than the highest id that a file in it belongs to; 0 in the records of an rbox that did not count, and of
    /// those from 65534 on, the number of which is what all ids are shown as that are not mapped.
    #[serde(default)]
    pub ids: u32,
    /// Device nodes that could not be made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<LeftOut>,
}

/// A layer being unpacked: invisible until [`commit`](StagedLayer::commit), removed if dropped before (as far as
/// this process may, see [`Lease`]).
#[derive(Debug)]
pub struct StagedLayer {
    map_key: String,
    chain: ChainId,
    directory: PathBuf,
    fs: PathBuf,
    lease: Arc<LeaseInner>,
    _lock: KeyedLock,
}

impl Store {
    /// The layer with this chain id, as unpacked under the id maps with this [key](IdMaps::key).
    ///
    /// Only a lease, name or container that wants it makes it stay.
    pub fn layer(&self, map_key: &str, chain: ChainId) -> Result<Option<Layer>> {
        let directory = self.layer_path(map_key, chain);
        // A layer whose removal was cut short has lost its record first.
        let there = files::exists(&directory.join(RECORD))?;
        Ok(there.then_some(Layer { directory }))
    }

    /// Writes down which id maps stand behind the key that the layers' directory is called after.
    pub fn note_map(&self, maps: &IdMaps) -> Result<()> {
        let directory = self.path("layers").join(maps.key());
        let path = directory.join("idmap.json");
        let content = serde_json::to_vec(maps).map_err(|source| self.unwritable_json(source))?;
        if files::read_if_there(&path)?.is_some_and(|there| there == content) {
            return Ok(());
        }
        files::create_dir(&directory)?;
        let _guard = self.index_lock()?;
        files::replace(&path, &content)
    }

    pub(crate) fn layer_path(&self, map_key: &str, chain: ChainId) -> PathBuf {
        self.path("layers").join(map_key).join(chain.0.hex())
    }

    pub(crate) fn layer_lock(&self, map_key: &str, chain: ChainId) -> Result<KeyedLock> {
        self.keyed_lock(&format!("layer.{map_key}.{}", chain.0.hex()))
    }
}

pub(crate) const RECORD: &str = "layer.json";

impl Layer {
    /// The root directory of its files.
    pub fn fs(&self) -> PathBuf {
        self.directory.join("fs")
    }

    /// What is known of it besides its files.
    pub fn record(&self) -> Result<LayerRecord> {
        let path = self.directory.join(RECORD);
        let text = fs::read(&path).at("read", &path)?;
        serde_json::from_slice(&text).map_err(|source| Error::Malformed { path, source })
    }
}

impl Lease {
    /// Begins to unpack a layer, unless it is there; waits for whoever is unpacking it just now.
    ///
    /// To never wait for each other in a circle, a thread that holds several holds a parent before its child, and
    /// stages the blob (see [`stage_blob`](Lease::stage_blob)) before the layer.
    pub fn stage_layer(&self, map_key: &str, chain: ChainId) -> Result<Staged<StagedLayer>> {
        self.keep(&[], &[(map_key.to_owned(), chain)])?;
        let lease = &self.inner;
        let lock = lease.store.layer_lock(map_key, chain)?;
        if lease.store.layer(map_key, chain)?.is_some() {
            return Ok(Staged::Present);
        }
        let directory = lease.new_path();
        files::create_dir(&directory)?;
        let fs = directory.join("fs");
        fs::create_dir(&fs).at("create", &fs)?;
        fs::set_permissions(&fs, fs::Permissions::from_mode(0o755)).at("set the mode of", &fs)?;
        Ok(Staged::New(StagedLayer {
            map_key: map_key.to_owned(),
            chain,
            directory,
            fs,
            lease: lease.clone(),
            _lock: lock,
        }))
    }
}

impl StagedLayer {
    /// The layer's root, empty and mode 0755 at first. The caller may give it to the container's root, who then
    /// fills it.
    pub fn fs(&self) -> &Path {
        &self.fs
    }

    /// Makes it a layer.
    pub fn commit(self, record: &LayerRecord) -> Result<()> {
        let store = &self.lease.store;
        let json = serde_json::to_vec(record).map_err(|source| store.unwritable_json(source))?;
        files::create(&self.directory.join(RECORD), &json)?;
        files::create_dir(&store.path("layers").join(&self.map_key))?;
        self.lease.mark_unsettled(&Thing::Layer(self.map_key.clone(), self.chain))?;
        let target = store.layer_path(&self.map_key, self.chain);
        match fs::rename(&self.directory, &target) {
            // The rest of a layer whose removal was cut short; we hold its lock.
            Err(error) if matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) => {
                let rest = store.dead_path()?;
                fs::rename(&target, &rest).at("rename", &target)?;
                fs::rename(&self.directory, &target)
            }
            result => result,
        }
        .at("create", &target)
    }
}

impl Drop for StagedLayer {
    fn drop(&mut self) {
        // Not there after a commit; what cannot be removed here is tried again at the lease's end and by gc.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsString, os::unix::ffi::OsStringExt};

    use rbox_types::NodeKind;

    use super::*;

    #[test]
    fn records_hold_every_path() {
        let digest = rbox_types::Digest::from_sha256([7; 32]);
        let node = |path: &[u8]| LeftOut {
            path: OsString::from_vec(path.to_vec()).into(),
            kind: NodeKind::Char,
            major: 1,
            minor: 3,
            mode: 0o666,
            uid: 0,
            gid: 0,
        };
        let left_out = vec![node(b"dev/null"), node(b"dev/\xff")];
        let record = LayerRecord { diff_id: DiffId(digest), size: 1, ids: 1, left_out };
        let json = serde_json::to_string(&record).expect("JSON");
        assert!(json.contains(r#""path":"dev/null","kind":"char""#), "{json}");
        assert_eq!(serde_json::from_str::<LayerRecord>(&json).expect("parses"), record);
    }
}
