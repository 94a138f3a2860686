//! Volumes by themselves: made, listed, removed, and their content in and out.

mod archive;
mod list;

use std::collections::BTreeMap;

use rbox_store::{VolumeEntry, VolumeRecord};
use rbox_types::{ContainerName, VolumeName};
use serde_json::{Value, json};

use crate::names::random_volume_name;
use crate::prune::Pruned;
use crate::{Engine, Error, files};

pub use list::VolumeFilters;

/// A volume, and who uses it.
#[derive(Debug, Clone)]
pub struct VolumeSummary {
    /// The volume.
    pub volume: VolumeEntry,
    /// The containers that have it.
    pub users: Vec<ContainerName>,
}

impl VolumeSummary {
    /// All that is known of it, in Docker's and Podman's shape and names.
    pub fn document(&self) -> Value {
        let VolumeEntry { name, record, .. } = &self.volume;
        let mut document = json!({
            "Name": name,
            "Driver": record.driver,
            "Mountpoint": self.volume.data(),
            "CreatedAt": record.created,
            "Labels": record.labels,
            "Scope": "local",
            "Options": record.options,
            "MountCount": self.users.len(),
        });
        if record.anonymous {
            document["Anonymous"] = true.into();
        }
        document
    }
}

impl Engine {
    /// Makes a volume; one that is given no name gets one. Where there is one of this name already, that is taken if it is
    /// to be `ignored`.
    pub fn create_volume(
        &self,
        name: Option<&VolumeName>,
        labels: BTreeMap<String, String>,
        ignored: bool,
    ) -> Result<VolumeName, Error> {
        let name = match name {
            Some(name) => name.clone(),
            None => random_volume_name()?,
        };
        match self.store.create_volume(&name, &VolumeRecord::new(labels, false), self.identity.foreign_root()) {
            Err(rbox_store::Error::VolumeExists(_)) if ignored => {}
            made => drop(made?),
        }
        Ok(name)
    }

    /// The volumes that are as the filters say, ordered by name.
    pub fn list_volumes(&self, filters: &VolumeFilters) -> Result<Vec<VolumeSummary>, Error> {
        let mut users = self.store.volume_users()?;
        let with_users = |volume: VolumeEntry| {
            let users = users.remove(&volume.name).unwrap_or_default();
            VolumeSummary { volume, users }
        };
        let mut listed: Vec<_> = self.store.volumes()?.into_iter().map(with_users).collect();
        listed.retain(|volume| filters.match_one(volume));
        Ok(listed)
    }

    /// The volume of this name.
    pub fn find_volume(&self, name: &str) -> Result<VolumeSummary, Error> {
        let volume = self.store.find_volume(name)?;
        let users = self.store.volume_users()?.remove(&volume.name).unwrap_or_default();
        Ok(VolumeSummary { volume, users })
    }

    /// Removes a volume that no container uses.
    pub fn remove_volume(&self, name: &str) -> Result<(), Error> {
        let volume = self.store.find_volume(name)?;
        Ok(self.store.remove_volume(&volume.name, &|path| self.remove_tree(path))?)
    }

    /// Removes the volumes that no container uses and that are as the filters say: those that nobody has named, or, with
    /// `named`, all of them.
    pub fn prune_volumes(&self, named: bool, filters: &VolumeFilters) -> Result<Pruned<VolumeName>, Error> {
        let mut pruned = Pruned { removed: Vec::new(), bytes: 0, failures: Vec::new() };
        for VolumeSummary { volume, users } in self.list_volumes(filters)? {
            if !users.is_empty() || !(named || volume.record.anonymous) {
                continue;
            }
            // What cannot be measured can be removed, and is only not counted.
            let size = files::tree_size(&self.identity, &volume.data()).unwrap_or_default();
            match self.store.remove_volume(&volume.name, &|path| self.remove_tree(path)) {
                Ok(()) => {
                    pruned.removed.push(volume.name);
                    pruned.bytes += size;
                }
                // Somebody else was faster.
                Err(rbox_store::Error::NoVolume(_) | rbox_store::Error::VolumeInUse { .. }) => {}
                Err(error) => pruned.failures.push(error.into()),
            }
        }
        Ok(pruned)
    }
}
