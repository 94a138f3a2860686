//! Which driver the containers of a store get.
//!
//! The best one that works is found out by trying, once for each host and store: that takes as long as all else of a start. It
//! is found out again when the kernel is another one, or the filesystem, or the ids.

mod copying;

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rbox_overlay::kernel::KERNEL_OVERLAY_HINT;
use rbox_overlay::probe;
use rbox_rootless::Identity;
use rbox_store::Store;
use rbox_sys::{dir, process, stored};
use rbox_types::StorageDriver;
use serde::{Deserialize, Serialize};

use crate::settings::Userns;
use crate::{Engine, Error, Unfit, files};

/// What was found, and where that is so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Storage {
    place: Place,
    /// The best one that works.
    pub driver: StorageDriver,
    /// The better ones, and why they do not.
    pub lacking: Vec<(StorageDriver, String)>,
}

/// When any of this is another one, what was found may not be so any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    rbox: String,
    kernel: String,
    ids: String,
    device: u64,
    /// What it is mounted with.
    flags: u64,
}

impl Place {
    fn of(store: &Store, identity: &Identity) -> io::Result<Self> {
        let root = dir::open(store.root())?;
        Ok(Self {
            rbox: env!("CARGO_PKG_VERSION").into(),
            kernel: process::kernel_release(),
            ids: identity.maps.key(),
            device: std::fs::metadata(store.root())?.dev(),
            flags: stored::space(&root)?.f_flag.bits(),
        })
    }
}

impl Storage {
    /// What is remembered, if it is of this place.
    fn remembered(store: &Store, place: &Place) -> Option<Self> {
        let text = store.host().ok()??;
        serde_json::from_slice::<Self>(&text).ok().filter(|found| found.place == *place)
    }

    /// Tries one after the other. The caller has one thread.
    pub(crate) fn probe(store: &Store, identity: &Identity) -> Result<Self, Error> {
        let place = Place::of(store, identity).map_err(Error::io("look at", store.root().display()))?;
        let lease = store.begin()?;
        let scratch = lease.scratch()?;
        let (mut driver, mut lacking) = (StorageDriver::Copy, Vec::new());
        for (better, found) in [
            (StorageDriver::Overlay, probe::kernel_overlay as fn(&Identity, &Path) -> Result<(), String>),
            (StorageDriver::Fuse, probe::fuse_overlay),
        ] {
            match found(identity, &scratch) {
                Ok(()) => {
                    driver = better;
                    break;
                }
                Err(why) => lacking.push((better, why)),
            }
        }
        // Something in there may belong to the container's root.
        let _ = files::remove_tree(identity, &scratch);
        Ok(Self { place, driver, lacking })
    }

    /// What would mend that there is no better one.
    pub fn remedy(&self) -> Option<&'static str> {
        match self.driver {
            StorageDriver::Overlay => None,
            StorageDriver::Fuse | StorageDriver::Copy => Some(KERNEL_OVERLAY_HINT),
        }
    }
}

impl Engine {
    /// What makes one tree of an image's layers and what a container writes. What cannot be found out now is not
    /// remembered: then the first one fails, and says why.
    pub(crate) fn driver(&self) -> StorageDriver {
        self.forced.unwrap_or_else(|| self.storage().map_or(StorageDriver::Overlay, |storage| storage.driver))
    }

    /// The same for a container of these ids: only a server shows files with others than they are stored with.
    pub(crate) fn driver_for(&self, userns: &Userns) -> Result<StorageDriver, Error> {
        match (userns.shows_otherwise(), self.forced) {
            (false, _) => Ok(self.driver()),
            (true, None | Some(StorageDriver::Fuse)) => Ok(StorageDriver::Fuse),
            (true, Some(other)) => Err(Unfit::ShownOtherwise { userns: userns.clone(), driver: other }.into()),
        }
    }

    /// What there is on this host, for this store.
    pub fn storage(&self) -> Result<Storage, Error> {
        let (store, identity) = (&self.store, &self.identity);
        if let Some(found) = Place::of(store, identity).ok().and_then(|place| Storage::remembered(store, &place)) {
            return Ok(found);
        }
        let found = Storage::probe(store, identity)?;
        if let Ok(text) = serde_json::to_vec(&found) {
            // A store that cannot be written to has other things to say.
            let _ = store.remember_host(&text);
        }
        Ok(found)
    }
}
