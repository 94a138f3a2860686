//! Collection: what nothing refers to goes.

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
};

use rbox_types::{ChainId, ContainerId, Digest};

use crate::{
    Error, LayerRecord, Store, TOLD,
    containers::{self, SPARE},
    error::{IoContext, Result},
    files,
    layers::RECORD,
    lease,
    locks::Mode,
};

/// What a collection removed.
#[derive(Debug, Default)]
pub struct Collected {
    /// Blobs.
    pub blobs: u64,
    /// Layers.
    pub layers: u64,
    /// The sum of their sizes.
    pub bytes: u64,
    /// Directories of pulls and builds whose process died.
    pub leases: u64,
    /// Containers whose making or removal was cut short.
    pub containers: u64,
    /// What could not be deleted, and why. It is out of the way, and the next collection tries again.
    pub failures: Vec<(PathBuf, io::Error)>,
}

#[derive(Default)]
struct References {
    blobs: HashSet<Digest>,
    /// Under one id map.
    layers: HashSet<(String, ChainId)>,
    /// Under whichever id map: an image name does not say who runs it.
    chains: HashSet<ChainId>,
    containers: HashSet<ContainerId>,
}

impl Store {
    /// Removes everything that no image name, container or live lease refers to.
    ///
    /// `remove_tree` removes a directory with all that is in it, whatever the owners (where there are files of
    /// subordinate ids only root inside a user namespace can); "not found" from it is no failure.
    /// Ends with [`Store::settle`], so that it may take as long as the file system has dirty data.
    pub fn gc(&self, remove_tree: &dyn Fn(&Path) -> io::Result<()>) -> Result<Collected> {
        let mut collected = Collected::default();
        let guard = self.gc_lock(Mode::Exclusive)?;
        let doomed = self.condemn(&mut collected, remove_tree)?;
        drop(guard);
        for path in doomed {
            remove(&path, remove_tree, &mut collected);
        }
        for key in files::list(&self.path("locks"))? {
            if !["gc", "index", "ids"].contains(&key.as_str()) && !key.starts_with(TOLD) {
                self.remove_stale_lock(&key)?;
            }
        }
        self.derive_index()?;
        self.remove_vain_marks()?;
        self.settle()?;
        Ok(collected)
    }

    /// A path in `tmp/` for what is to be deleted.
    pub(crate) fn dead_path(&self) -> Result<PathBuf> {
        Ok(self.path("tmp").join(format!("dead.{}", files::random_name()?)))
    }

    /// Takes a directory or file out of its place, and says where it is now: where it was, if there is no room for
    /// so much as a new directory entry.
    pub(crate) fn move_aside(&self, path: &Path) -> Result<PathBuf> {
        let aside = self.dead_path()?;
        match fs::rename(path, &aside).at("rename", path) {
            Ok(()) => Ok(aside),
            Err(Error::Full { .. }) => Ok(path.to_owned()),
            Err(error) => Err(error),
        }
    }

    /// Deletes a directory that nothing refers to any more; a collection may be at it as well.
    pub(crate) fn delete(&self, doomed: &Path, remove_tree: &dyn Fn(&Path) -> io::Result<()>) -> Result<()> {
        match remove_tree(doomed) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result.at("remove", doomed),
        }
    }

    /// Moves what nothing refers to out of its place. The gc lock is held exclusively.
    fn condemn(
        &self,
        collected: &mut Collected,
        remove_tree: &dyn Fn(&Path) -> io::Result<()>,
    ) -> Result<Vec<PathBuf>> {
        let mut references = References::default();
        let mut doomed = Vec::new();
        // Leases before names: one that ends while we read has written its name by then.
        self.read_leases(&mut references, &mut doomed, collected)?;
        let no_containers = self.read_containers(&mut references)?;
        self.read_names(&mut references)?;

        let mut take = |path: &Path, collected: &mut Collected| -> Result<bool> {
            let aside = match self.move_aside(path) {
                // Its owner, or whoever found it spoiled, was faster.
                Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(false),
                aside => aside?,
            };
            if aside == path {
                // No room to move it. A layer's record goes first: without it a layer is none, whatever is left.
                let _ = fs::remove_file(path.join(RECORD));
                remove(path, remove_tree, collected);
            } else {
                doomed.push(aside);
            }
            Ok(true)
        };

        for path in no_containers {
            collected.containers += u64::from(take(&path, collected)?);
        }
        for hex in files::list(&self.path("blobs/sha256"))? {
            let path = self.path("blobs/sha256").join(&hex);
            if Digest::from_hex(&hex).is_ok_and(|digest| references.blobs.contains(&digest)) {
                continue;
            }
            let size = fs::symlink_metadata(&path).map_or(0, |there| there.len());
            if take(&path, collected)? {
                collected.blobs += 1;
                collected.bytes += size;
            }
        }
        for map_key in files::list(&self.path("layers"))? {
            let directory = self.path("layers").join(&map_key);
            for hex in files::list(&directory)? {
                let Ok(chain) = Digest::from_hex(&hex).map(ChainId) else { continue };
                let path = directory.join(&hex);
                let record = files::read_if_there(&path.join(RECORD))?;
                let wanted =
                    references.chains.contains(&chain) || references.layers.contains(&(map_key.clone(), chain));
                if wanted && record.is_some() {
                    continue;
                }
                let record = record.and_then(|json| serde_json::from_slice::<LayerRecord>(&json).ok());
                if take(&path, collected)? {
                    collected.layers += 1;
                    collected.bytes += record.map_or(0, |record| record.size);
                }
            }
        }
        Ok(doomed)
    }

    fn read_leases(
        &self,
        references: &mut References,
        doomed: &mut Vec<PathBuf>,
        collected: &mut Collected,
    ) -> Result<()> {
        for name in files::list(&self.path("tmp"))? {
            let path = self.path("tmp").join(&name);
            if path == self.path(SPARE) {
                // Or whoever makes a container would take it while it is deleted. Where there is no room, it stays.
                doomed.extend(Some(self.move_aside(&path)?).filter(|aside| *aside != path));
                continue;
            }
            let dead = name.starts_with("dead.");
            if !dead && lease::is_alive(&path)? {
                let wanted = lease::wanted(&path)?;
                references.blobs.extend(wanted.blobs);
                references.layers.extend(wanted.layers);
            } else {
                collected.leases += u64::from(!dead);
                doomed.push(path);
            }
        }
        Ok(())
    }

    /// Returns the directories that are no containers (any more).
    fn read_containers(&self, references: &mut References) -> Result<Vec<PathBuf>> {
        let mut no_containers = Vec::new();
        for (name, id) in self.container_names()? {
            match containers::inspect(&self.container_path(&id))? {
                Some((refs, _)) => {
                    self.refer_to_image(references, refs.manifest)?;
                    let map_key = refs.map_key;
                    references.layers.extend(refs.layers.into_iter().map(|chain| (map_key.clone(), chain)));
                    references.containers.insert(id);
                }
                // Removed by hand, or spoiled by a power cut right after it was made.
                None => files::remove(&self.container_name_path(name.as_str()))?,
            }
        }
        for id in files::list(&self.path("containers"))? {
            let path = self.path("containers").join(&id);
            if id.parse().is_ok_and(|id| references.containers.contains(&id)) {
                continue;
            }
            // Held: its owner is removing it right now.
            if !lease::is_alive(&path)? {
                no_containers.push(path);
            }
        }
        Ok(no_containers)
    }

    fn read_names(&self, references: &mut References) -> Result<()> {
        for (path, record) in self.name_files()? {
            match record {
                Some(record) => {
                    references.blobs.extend(record.index);
                    self.refer_to_image(references, record.manifest.digest)?;
                }
                // Spoiled by a power cut right after it was written.
                None => files::remove(&path)?,
            }
        }
        Ok(())
    }

    fn refer_to_image(&self, references: &mut References, manifest: Digest) -> Result<()> {
        references.blobs.insert(manifest);
        let Some(manifest) = usable(self.manifest(&manifest))? else { return Ok(()) };
        references.blobs.extend(manifest.layers.iter().map(|part| part.digest));
        references.blobs.insert(manifest.config.digest);
        if let Some(chains) = usable(self.chains_of_config(&manifest.config.digest))? {
            references.chains.extend(chains);
        }
        Ok(())
    }
}

/// What is missing or damaged refers to nothing; what cannot be read just now must not cost anything its life.
fn usable<T>(read: Result<T>) -> Result<Option<T>> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(Error::NoBlob(_) | Error::NotAnImage { .. } | Error::TooLarge { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn remove(path: &Path, remove_tree: &dyn Fn(&Path) -> io::Result<()>, collected: &mut Collected) {
    let removed = match fs::symlink_metadata(path) {
        Ok(there) if there.is_dir() => remove_tree(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Ok(()) => {}
        // Another collection was faster.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => collected.failures.push((path.to_owned(), error)),
    }
}
