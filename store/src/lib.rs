//! Every path on disk: staging and commit, names, leases, containers, collection.
//!
//! # How nothing is ever half there
//!
//! Whatever can be read under its final name was complete when it got that name: blobs, layers and image names
//! and volumes are made in `tmp/` and renamed into place; a container is there once its name is ([`ContainerDir`]). A process
//! killed at any point leaves garbage that only [`Store::gc`] looks at. What a power cut may do is a matter of its
//! own: see [`Suspects`].
//!
//! # How nothing in use is collected
//!
//! No collection takes a volume ([`Store::remove_volume`]). Of the rest, in use is what image names, containers and live
//! leases refer to. A [`Lease`] says what it wants *before* it
//! looks whether that is there, so a collection that runs in between either sees the wish or has already
//! removed the thing. "In between" is made exact by one lock, `locks/gc`: shared for the moment of writing a
//! reference down, exclusive for the moment in which the collection reads all references and moves its victims
//! aside. Nobody holds it over network, unpacking or deleting.
//!
//! # Locks
//!
//! All are flock(2) locks and end with their holder. In the order in which one process may take them:
//! a blob's, a layer's (a parent before its child), then `locks/gc`, then `locks/index`.

mod blobs;
mod containers;
mod durability;
mod error;
mod events;
mod files;
mod gc;
mod generations;
mod host;
mod index;
mod layers;
mod lease;
mod lines;
mod locks;
mod manifest;
mod names;
mod volumes;
mod waiter;

use std::{
    ffi::OsString,
    fs,
    io::{self, Read},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

pub use blobs::StagedBlob;
pub use containers::{ContainerDir, ContainerEntry, ContainerRefs, WrittenContainer};
pub use durability::Suspects;
pub use error::Error;
pub use events::{Event, EventKind, EventReader, Events, EventsFrom};
pub use files::read_small;
pub use gc::Collected;
pub use generations::Generations;
pub use layers::{Layer, LayerRecord, StagedLayer};
pub use lease::{Lease, Staged};
pub use lines::Lines;
pub use locks::IdsLock;
pub use names::{Descriptor, ImageRecord};
pub use volumes::{VolumeEntry, VolumeRecord};
pub use waiter::Waiter;

use crate::{
    error::{IoContext, Result},
    locks::Mode,
};

/// The store of one user.
///
/// ```text
/// $XDG_DATA_HOME/rbox/              mode 0700: setuid files in it are nobody else's
/// ├─ meta.json                      format version, written last when the tree is made
/// ├─ oci-layout  index.json         an OCI image layout; index.json is derived from names/
/// ├─ blobs/sha256/<hex>             verified, immutable, mode 0444
/// ├─ layers/<map key>/
/// │  ├─ idmap.json                  the id maps that own the files below
/// │  └─ <chain id>/
/// │     ├─ fs/                      the layer's root directory, immutable
/// │     └─ layer.json               [`LayerRecord`]
/// ├─ names/<encoded reference>      [`ImageRecord`]
/// ├─ containers/<id>/
/// │  ├─ lock                        [`ContainerRefs`] as its text; locked for life by the container's owner
/// │  ├─ written                     locked while somebody writes to the files of one that does not run
/// │  └─ …                           whatever the container's owner keeps there
/// ├─ container-names/<name>         symbolic link that says its id, in base64url: the container is there if this is
/// ├─ volumes/<name>/
/// │  ├─ _data/                      the content
/// │  ├─ first-use                   how far that has come, in one byte ([`FirstUse`](rbox_types::FirstUse)); locked meanwhile
/// │  └─ volume.json                 [`VolumeRecord`]
/// ├─ host.json                      what was found out about the host
/// ├─ events  events.1 …             what has happened, a line of JSON each ([`Events`])
/// ├─ unsettled/<boot id>/           empty files that name the blobs and layers not known to be on the disk
/// ├─ locks/                         gc, index, ids, blob.<hex>, layer.<map key>.<hex>, userns.<map key>, told.<what>
/// └─ tmp/<lease>/                   lock, keep (what it wants), and what it makes; tmp/dead.* waits for deletion, and
///                                   tmp/spare for the next container
/// ```
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

/// How marks begin that are no locks: who was told something is not told again after a collection.
const TOLD: &str = "told.";

/// The version of the tree drawn at [`Store`].
const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Meta {
    format: u32,
}

const DIRECTORIES: [&str; 9] =
    ["blobs", "blobs/sha256", "layers", "names", "containers", "container-names", "volumes", "unsettled", "tmp"];

impl Store {
    /// Opens the store at `root`, and makes it if nothing is there.
    ///
    /// Where all is there this reads one small file and does nothing else, so a store on a read-only file
    /// system can be listed and read. A directory that holds anything but a store is refused.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self> {
        let root = root.into();
        let root = std::path::absolute(&root).at("look at", &root)?;
        let store = Self { root };
        if !store.check_format()? {
            store.create()?;
        }
        Ok(store)
    }

    /// `$XDG_DATA_HOME/rbox`, else `$HOME/.local/share/rbox` (XDG Base Directory Specification).
    ///
    /// The user database is not asked: static glibc would load the host's NSS modules for that.
    pub fn default_root() -> Result<PathBuf> {
        default_root(std::env::var_os("XDG_DATA_HOME"), std::env::var_os("HOME"))
    }

    /// The directory that holds everything.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where one process of the user offers others a user namespace with the ids of this [key](rbox_types::IdMaps::key).
    pub fn userns_path(&self, map_key: &str) -> PathBuf {
        self.path(format!("locks/userns.{map_key}"))
    }

    /// Whether [`tell_once`](Self::tell_once) has been called for this.
    pub fn was_told(&self, what: &str) -> bool {
        self.told_path(what).exists()
    }

    /// Notes down that the user is told something that is not to be said again; false where he was told before, or it
    /// cannot be noted down.
    pub fn tell_once(&self, what: &str) -> bool {
        fs::File::create_new(self.told_path(what)).is_ok()
    }

    fn told_path(&self, what: &str) -> PathBuf {
        self.path(format!("locks/{TOLD}{what}"))
    }

    /// Whether `meta.json` is there, with a format that is ours.
    fn check_format(&self) -> Result<bool> {
        let path = self.path("meta.json");
        // Not fs::read: that asks for the size first.
        let mut text = [0; 512];
        let mut file = match fs::File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error).at("read", &path),
        };
        let length = file.read(&mut text).at("read", &path)?;
        if length == 0 {
            // A power cut right after the store was made.
            return Ok(false);
        }
        match serde_json::from_slice::<Meta>(&text[..length]) {
            Ok(meta) if meta.format <= FORMAT => Ok(true),
            Ok(meta) => Err(Error::NewerFormat { root: self.root.clone(), found: meta.format, known: FORMAT }),
            Err(source) => Err(Error::Malformed { path, source }),
        }
    }

    fn create(&self) -> Result<()> {
        let root = &self.root;
        fs::create_dir_all(root).at("create", root)?;
        for entry in files::list(root)? {
            let ours = matches!(
                entry.as_str(),
                "meta.json"
                    | "meta.json.new"
                    | "oci-layout"
                    | "oci-layout.new"
                    | "index.json"
                    | "index.json.new"
                    | "locks"
                    | "lost+found"
            );
            let ours = ours || events::is_journal(&entry);
            if !ours && !DIRECTORIES.contains(&entry.as_str()) {
                return Err(Error::NotAStore { root: root.clone(), entry });
            }
        }
        fs::set_permissions(root, fs::Permissions::from_mode(0o700)).at("set the mode of", root)?;
        for name in DIRECTORIES.iter().chain(&["locks"]) {
            files::create_dir(&self.path(name))?;
        }
        // So that nothing needs to be created when something is deleted on a full disk.
        drop(self.gc_lock(Mode::Exclusive)?);
        let guard = self.index_lock()?;
        files::replace(&self.path("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        self.write_index(&guard)?;
        let meta = serde_json::to_vec(&Meta { format: FORMAT }).map_err(|source| self.unwritable_json(source))?;
        files::replace(&self.path("meta.json"), &meta)
    }

    fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.root.join(relative)
    }

    /// A value of ours that serde_json cannot print; its maps have text keys, so this is out of memory at worst.
    fn unwritable_json(&self, source: serde_json::Error) -> Error {
        Error::Malformed { path: self.root.clone(), source }
    }
}

fn default_root(xdg_data_home: Option<OsString>, home: Option<OsString>) -> Result<PathBuf> {
    // "All paths set in these environment variables must be absolute", and others are to be ignored.
    let absolute = |value: Option<OsString>| value.map(PathBuf::from).filter(|path| path.is_absolute());
    let data = match absolute(xdg_data_home) {
        Some(data) => data,
        None => absolute(home).ok_or(Error::NoHome)?.join(".local/share"),
    };
    Ok(data.join("rbox"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_the_store_is() {
        let root = |xdg: Option<&str>, home: Option<&str>| default_root(xdg.map(Into::into), home.map(Into::into));
        assert_eq!(root(Some("/data"), Some("/home/u")).expect("set"), Path::new("/data/rbox"));
        for ignored in [None, Some(""), Some("relative")] {
            assert_eq!(root(ignored, Some("/home/u")).expect("set"), Path::new("/home/u/.local/share/rbox"));
            assert!(matches!(root(None, ignored), Err(Error::NoHome)));
        }
    }
}
