//! What every command needs: the store and the ids.

use std::path::{Path, PathBuf};

use rbox_rootless::{Choice, Identity, Kind};
use rbox_store::Store;
use rbox_types::IdMaps;

use crate::Error;
use crate::files;

/// The store of one user, and the ids that his containers have.
#[derive(Debug)]
pub struct Engine {
    pub(crate) store: Store,
    pub(crate) identity: Identity,
}

impl Engine {
    /// Opens the store at `root`, or where this user has his own.
    pub fn open(root: Option<PathBuf>, choice: Choice) -> Result<Self, Error> {
        Ok(Self { store: open_store(root)?, identity: Identity::detect(choice)? })
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
    /// The maps, inside → outside.
    pub maps: IdMaps,
    /// How many images have a name.
    pub images: usize,
    /// How many containers there are, and how many of them run.
    pub containers: (usize, usize),
}

impl Engine {
    /// How rbox is set up for this user.
    pub fn info(&self) -> Result<Info, Error> {
        let containers = self.store.containers()?;
        Ok(Info {
            root: self.store.root().to_owned(),
            identity: match self.identity.kind {
                Kind::Subid => "subid",
                Kind::Single => "single",
                Kind::Privileged => "privileged",
            },
            maps: self.identity.maps.clone(),
            images: self.store.images()?.len(),
            containers: (containers.len(), containers.iter().filter(|container| container.running).count()),
        })
    }
}
