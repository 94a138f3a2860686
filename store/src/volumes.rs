//! Volumes: directories that outlive the containers which use them.
//!
//! A volume is there once its directory is, which is made in `tmp/` and renamed into place: never onto another one's, since
//! that is not empty (rename(2), "ENOTEMPTY"). Which containers use it is what their [`ContainerRefs`](crate::ContainerRefs)
//! say. A container says so before it makes sure that its volumes are there; who removes one looks for such containers and
//! takes it out of its place in one moment, under the exclusive `locks/gc`. No collection takes a volume: what is in it,
//! nobody could pull again.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use rbox_types::{ContainerName, FirstUse, VolumeName};
use serde::{Deserialize, Serialize};

use crate::{
    Error, Store, containers,
    error::{IoContext, Result},
    files,
    locks::Mode,
};

/// What is known of a volume besides its name and its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeRecord {
    /// When it was made.
    pub created: Timestamp,
    /// What people and programs noted on it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Who keeps it: `local`.
    pub driver: String,
    /// What that was told.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
    /// Whether nobody has named it: then it goes with its container.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub anonymous: bool,
}

impl VolumeRecord {
    /// One that is made now.
    pub fn new(labels: BTreeMap<String, String>, anonymous: bool) -> Self {
        Self { created: Timestamp::now(), labels, driver: "local".into(), options: BTreeMap::new(), anonymous }
    }
}

/// A volume that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeEntry {
    /// Its name.
    pub name: VolumeName,
    /// What is known of it.
    pub record: VolumeRecord,
    /// Its directory.
    path: PathBuf,
}

const DATA: &str = "_data";
const FIRST_USE: &str = "first-use";
const RECORD: &str = "volume.json";

impl VolumeEntry {
    /// The directory of its content.
    pub fn data(&self) -> PathBuf {
        self.path.join(DATA)
    }

    /// The file that says how far its first use has come.
    pub fn first_use(&self) -> PathBuf {
        self.path.join(FIRST_USE)
    }
}

impl Store {
    /// Makes a volume; refused if there is one of this name. Its empty directory belongs to `owner`, where that is not the
    /// caller.
    pub fn create_volume(
        &self,
        name: &VolumeName,
        record: &VolumeRecord,
        owner: Option<(u32, u32)>,
    ) -> Result<VolumeEntry> {
        let json = serde_json::to_vec(record).map_err(|source| self.unwritable_json(source))?;
        let path = self.volume_path(name);
        // Or a collection would take what is not in its place yet for garbage.
        let _guard = self.gc_lock(Mode::Shared)?;
        if self.volume_is_there(&path)? {
            return Err(Error::VolumeExists(name.clone()));
        }
        let staged = self.path("tmp").join(format!("volume.{}", files::random_name()?));
        files::new_dir(&staged).at("create", &staged)?;
        let filled = fill(&staged, &json, owner).and_then(|()| self.put_in_place(&staged, &path, name));
        if filled.is_err() {
            // The first failure is the one to tell; gc removes what this leaves.
            let _ = fs::remove_dir_all(&staged);
        }
        filled.map(|()| VolumeEntry { name: name.clone(), record: record.clone(), path })
    }

    /// The volume of this name.
    pub fn volume(&self, name: &VolumeName) -> Result<Option<VolumeEntry>> {
        let path = self.volume_path(name);
        let Some(json) = files::read_if_there(&path.join(RECORD))? else { return Ok(None) };
        let record = match serde_json::from_slice(&json) {
            Ok(record) => record,
            // Spoiled by a power cut right after it was made; its content is of more worth.
            Err(_) => {
                let made = fs::metadata(&path).and_then(|there| there.modified()).at("look at", &path)?;
                let created = Timestamp::try_from(made).unwrap_or_default();
                VolumeRecord { created, ..VolumeRecord::new(BTreeMap::new(), false) }
            }
        };
        Ok(Some(VolumeEntry { name: name.clone(), record, path }))
    }

    /// The volume of this name, or a failure that says that there is none.
    pub fn find_volume(&self, name: &str) -> Result<VolumeEntry> {
        let found = name.parse().ok().map(|name| self.volume(&name)).transpose()?.flatten();
        found.ok_or_else(|| Error::NoVolume(name.to_owned()))
    }

    /// All volumes, ordered by name.
    pub fn volumes(&self) -> Result<Vec<VolumeEntry>> {
        let mut volumes = Vec::new();
        for name in files::list(&self.path("volumes"))? {
            let Ok(name) = name.parse() else { continue };
            volumes.extend(self.volume(&name)?);
        }
        Ok(volumes)
    }

    /// The containers that use a volume each, by its name.
    pub fn volume_users(&self) -> Result<BTreeMap<VolumeName, Vec<ContainerName>>> {
        let mut users: BTreeMap<VolumeName, Vec<ContainerName>> = BTreeMap::new();
        for (container, id) in self.container_names()? {
            let refs = containers::inspect(&self.container_path(&id))?.map(|(refs, _)| refs);
            for volume in refs.into_iter().flat_map(|refs| refs.volumes) {
                let users = users.entry(volume).or_default();
                // One may have it in two places.
                if users.last() != Some(&container) {
                    users.push(container.clone());
                }
            }
        }
        Ok(users)
    }

    /// Removes a volume that no container uses. `remove_tree` as for [`Store::gc`].
    pub fn remove_volume(&self, name: &VolumeName, remove_tree: &dyn Fn(&Path) -> io::Result<()>) -> Result<()> {
        let path = self.volume_path(name);
        let guard = self.gc_lock(Mode::Exclusive)?;
        if !self.volume_is_there(&path)? {
            return Err(Error::NoVolume(name.to_string()));
        }
        if let Some(containers) = self.volume_users()?.remove(name) {
            return Err(Error::VolumeInUse { name: name.clone(), containers });
        }
        let doomed = self.move_aside(&path)?;
        if doomed == path {
            // No room to move it. Without its record it is none, whatever is left.
            files::remove(&path.join(RECORD))?;
        }
        drop(guard);
        self.delete(&doomed, remove_tree)
    }

    /// Where the volume of this name has its content, whether it is there or not.
    pub fn volume_data(&self, name: &VolumeName) -> PathBuf {
        self.volume_path(name).join(DATA)
    }

    /// Where it says how far its first use has come.
    pub fn volume_first_use(&self, name: &VolumeName) -> PathBuf {
        self.volume_path(name).join(FIRST_USE)
    }

    fn volume_path(&self, name: &VolumeName) -> PathBuf {
        self.path("volumes").join(name.as_str())
    }

    fn volume_is_there(&self, path: &Path) -> Result<bool> {
        files::exists(&path.join(RECORD))
    }

    fn put_in_place(&self, staged: &Path, path: &Path, name: &VolumeName) -> Result<()> {
        loop {
            match fs::rename(staged, path) {
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) => {}
                renamed => return renamed.at("create", path),
            }
            if self.volume_is_there(path)? {
                return Err(Error::VolumeExists(name.clone()));
            }
            // What a removal on a full disk has left.
            match self.move_aside(path) {
                Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                Ok(aside) if aside == path => return Err(Error::VolumeExists(name.clone())),
                moved => drop(moved?),
            }
        }
    }
}

/// What a new volume consists of.
fn fill(staged: &Path, json: &[u8], owner: Option<(u32, u32)>) -> Result<()> {
    let data = staged.join(DATA);
    files::new_dir(&data).at("create", &data)?;
    // As Docker and Podman make it; at its first use it becomes as what it is mounted on.
    fs::set_permissions(&data, fs::Permissions::from_mode(0o755)).at("set the mode of", &data)?;
    if let Some((uid, gid)) = owner {
        chown(&data, Some(uid), Some(gid)).at("set the owner of", &data)?;
    }
    files::create(&staged.join(FIRST_USE), &[FirstUse::Ahead.byte()])?;
    files::create(&staged.join(RECORD), json)
}
