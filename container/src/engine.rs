//! What every command needs: the store and the ids.

use std::path::{Path, PathBuf};

use rbox_rootless::{Choice, Identity, Kind, SubidSource};
use rbox_store::Store;
use rbox_types::{IdMaps, StorageDriver};

use crate::Error;
use crate::files;

/// The store of one user, and the ids that his containers have.
#[derive(Debug)]
pub struct Engine {
    pub(crate) store: Store,
    pub(crate) identity: Identity,
    /// What is to make one tree of layers, whatever would be best.
    pub(crate) forced: Option<StorageDriver>,
}

impl Engine {
    /// Opens the store at `root`, or where this user has his own. `forced` makes one tree of layers, whatever would be best.
    pub fn open(root: Option<PathBuf>, choice: Choice, forced: Option<StorageDriver>) -> Result<Self, Error> {
        Ok(Self { store: open_store(root)?, identity: Identity::detect(choice)?, forced })
    }

    /// Removes a tree with files of any mapped id: by itself where that is enough, else as their root.
    pub(crate) fn remove_tree(&self, path: &Path) -> std::io::Result<()> {
        files::remove_tree(&self.identity, path)
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The ids.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }
}

/// The store at `root`, or where this user has his own.
pub(crate) fn open_store(root: Option<PathBuf>) -> Result<Store, Error> {
    let root = match root {
        Some(root) => root,
        None => Store::default_root()?,
    };
    Ok(Store::open(root)?)
}

/// How rbox is set up for this user.
#[derive(Debug, Clone)]
pub struct Info {
    /// Where the store is.
    pub root: PathBuf,
    /// How ids are mapped.
    pub identity: &'static str,
    /// Who says which ranges there are.
    pub ranges: SubidSource,
    /// The maps, inside → outside.
    pub maps: IdMaps,
    /// What makes one tree of an image's layers and what a container writes.
    pub driver: StorageDriver,
    /// The better ones, and why they cannot be had.
    pub lacking: Vec<(StorageDriver, String)>,
    /// How many images have a name.
    pub images: usize,
    /// How many containers there are, and how many of them run.
    pub containers: (usize, usize),
}

impl Engine {
    /// How rbox is set up for this user.
    pub fn info(&self) -> Result<Info, Error> {
        let containers = self.store.containers()?;
        let storage = if self.forced.is_some() { None } else { Some(self.storage()?) };
        Ok(Info {
            root: self.store.root().to_owned(),
            identity: match self.identity.kind {
                Kind::Subid => "subid",
                Kind::Single => "single",
                Kind::Privileged => "privileged",
            },
            ranges: self.identity.source.clone(),
            maps: self.identity.maps.clone(),
            driver: self.driver(),
            lacking: storage.map(|storage| storage.lacking).unwrap_or_default(),
            images: self.store.images()?.len(),
            containers: (containers.len(), containers.iter().filter(|container| container.running).count()),
        })
    }
}
