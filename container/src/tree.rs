//! A container's tree of files, for who is not in the container.
//!
//! One that runs is seen as its first process sees it, with all that is mounted there. Of one that does not, and wherever
//! what is mounted in a container is not to be seen, the root filesystem is put together from what is stored: see
//! [`StoredTree::open`], which is the one place that knows how.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::{fs, io};

use rbox_overlay::kernel::{KernelLayers, KernelOverlay, KernelOverlayError};
use rbox_store::ContainerEntry;
use serde::{Deserialize, Serialize};

use crate::life::overlay_dirs::UPPER;
use crate::life::start::Startable;
use crate::record::Record;
use crate::{Engine, Error, with_causes};

/// In the directory of a container that was run in the foreground: the overlay's own, for who writes to its files later.
const WORK: &str = "work.files";

/// Where the root filesystem of a container is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StoredTree {
    /// Topmost first.
    layers: Vec<PathBuf>,
    /// What the container has written.
    pub(crate) upper: PathBuf,
    /// The overlay's own directory, where something is to be written.
    work: Option<PathBuf>,
}

/// What is to be seen of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum View {
    /// The layers of its image alone.
    Image,
    /// All of it.
    Whole,
    /// All of it, to be written to: by who has claimed the container.
    Writable,
}

/// What went wrong, and what mends it.
pub(crate) type Failed = (String, Option<String>);
/// Mounts a tree whose parts are open, and gives its root directory.
pub(crate) type Mount = Box<dyn FnOnce() -> Result<OwnedFd, Failed>>;

impl Engine {
    /// That of a container that is there.
    pub(crate) fn stored_tree(&self, entry: &ContainerEntry) -> Result<StoredTree, Error> {
        let refs = &entry.refs;
        let mut layers = Vec::with_capacity(refs.layers.len());
        for id in refs.layers.iter().rev() {
            let layer = self.store.layer(&refs.map_key, *id)?.ok_or(Error::LayerGone(*id))?;
            layers.push(layer.fs());
        }
        Ok(StoredTree { layers, upper: entry.path.join(UPPER), work: None })
    }

    /// As [`stored_tree`](Self::stored_tree), to be written to.
    pub(crate) fn writable_tree(&self, entry: &ContainerEntry) -> Result<StoredTree, Error> {
        let failed = || Error::io("make the overlay's directories in", entry.path.display());
        let recorded = Startable::read(&entry.path).map_err(failed())?;
        let work = match recorded {
            Some(startable) => startable.root.work,
            // It is never started again. Which one it has had is not written down, and those of others may be in use.
            None => {
                let work = entry.path.join(WORK);
                match fs::create_dir(&work) {
                    Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed()(error)),
                    _ => {}
                }
                if let Some((uid, gid)) = self.identity.foreign_root() {
                    std::os::unix::fs::chown(&work, Some(uid), Some(gid)).map_err(failed())?;
                }
                work
            }
        };
        Ok(StoredTree { work: Some(work), ..self.stored_tree(entry)? })
    }
}

impl StoredTree {
    /// Opens what is needed, with the ids of the caller; what is given is then called as root of the user namespace.
    pub(crate) fn open(self, view: View) -> Result<Mount, Failed> {
        let Self { mut layers, upper, work } = self;
        match (view, work) {
            (View::Writable, Some(work)) => {
                let overlay = KernelOverlay::open(&layers, &upper, &work).map_err(told)?;
                Ok(Box::new(move || overlay.mount(false, None).map_err(told)))
            }
            (View::Writable, None) => Err(("the container's files cannot be written to".into(), None)),
            (View::Whole | View::Image, _) => {
                if view == View::Whole {
                    layers.insert(0, upper);
                }
                let overlay = KernelLayers::open(&layers).map_err(told)?;
                Ok(Box::new(move || overlay.mount().map_err(told)))
            }
        }
    }
}

fn told(error: KernelOverlayError) -> Failed {
    (with_causes(&error), error.hint().map(Into::into))
}

/// Opens the root directory of the process that /proc numbers so, whose user namespace the caller is in.
pub(crate) fn root_of(pid: u32) -> io::Result<OwnedFd> {
    rbox_sys::dir::open(&PathBuf::from(format!("/proc/{pid}/root")))
}
