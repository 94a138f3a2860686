//! A container's tree of files, for who is not in the container.
//!
//! One that runs is seen as its first process sees it, with all that is mounted there. Of one that does not, and wherever
//! what is mounted in a container is not to be seen, the root filesystem is put together from what is stored: see
//! [`StoredTree::open`], which is the one place that knows how.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::{fs, io, thread};

use rbox_overlay::fuse::{self, Device, Layers, MountError, OpenError};
use rbox_overlay::kernel::{KernelLayers, KernelOverlay, KernelOverlayError};
use rbox_store::{ContainerEntry, ContainerRefs, Layer};
use rbox_sys::syncfs::syncfs;
use rbox_sys::{at, dir, stored};
use rbox_types::{ChainId, StorageDriver};
use serde::{Deserialize, Serialize};

use crate::life::overlay_dirs::UPPER;
use crate::life::start::Startable;
use crate::record::Record;
use crate::root::COPY;
use crate::{Engine, Error, with_causes};

/// In the directory of a container that was run in the foreground: the overlay's own, for who writes to its files later.
const WORK: &str = "work.files";

/// Where the root filesystem of a container is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StoredTree {
    /// Topmost first.
    layers: Vec<PathBuf>,
    /// What the container has written.
    upper: PathBuf,
    /// The overlay's own directory, where something is to be written.
    work: Option<PathBuf>,
    /// All of it, of a container that has a copy of its image.
    copy: Option<PathBuf>,
    /// The kernel's overlay is not even tried.
    by_fuse: bool,
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
    /// Those that a container is made of, topmost first.
    pub(crate) fn layers_of(&self, refs: &ContainerRefs) -> Result<Vec<Layer>, Error> {
        self.layers(&refs.map_key, refs.layers.iter().copied())
    }

    /// Those of these, of which the lowest is first; topmost first.
    pub(crate) fn layers(
        &self,
        map_key: &str,
        ids: impl DoubleEndedIterator<Item = ChainId>,
    ) -> Result<Vec<Layer>, Error> {
        ids.rev().map(|id| self.store.layer(map_key, id)?.ok_or(Error::LayerGone(id))).collect()
    }

    /// That of a container that is there.
    pub(crate) fn stored_tree(&self, entry: &ContainerEntry) -> Result<StoredTree, Error> {
        let layers = self.layers_of(&entry.refs)?.iter().map(Layer::fs).collect();
        let recorded = Startable::read(&entry.path).map_err(Error::io("read the records in", entry.path.display()))?;
        let copy = entry.path.join(COPY);
        Ok(StoredTree {
            layers,
            upper: entry.path.join(UPPER),
            copy: copy.exists().then_some(copy),
            by_fuse: recorded.as_ref().is_some_and(|startable| startable.root.driver == StorageDriver::Fuse),
            work: recorded.map(|startable| startable.root.work),
        })
    }

    /// As [`stored_tree`](Self::stored_tree), to be written to.
    pub(crate) fn writable_tree(&self, entry: &ContainerEntry) -> Result<StoredTree, Error> {
        let tree = self.stored_tree(entry)?;
        if tree.work.is_some() {
            return Ok(tree);
        }
        // One that was run in the foreground is never started again. Which one it has had is not written down, and those of
        // others may be in use.
        let work = entry.path.join(WORK);
        let made = match fs::create_dir(&work) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            made => made.and_then(|()| self.identity.give_to_root(&work)),
        };
        made.map_err(Error::io("make", work.display()))?;
        Ok(StoredTree { work: Some(work), ..tree })
    }
}

impl StoredTree {
    /// What the container has written, or, where it has a copy of its image, all that it has; and whether it is the latter.
    pub(crate) fn written(&self) -> (&Path, bool) {
        match &self.copy {
            Some(copy) => (copy, true),
            None => (&self.upper, false),
        }
    }

    /// Opens what is needed, with the ids of the caller; what is given is then called as root of the user namespace.
    pub(crate) fn open(self, view: View) -> Result<Mount, Failed> {
        let Self { mut layers, upper, work, copy, by_fuse } = self;
        if let Some(copy) = copy.filter(|_| view != View::Image) {
            let copy = dir::open(&copy).map_err(|error| (format!("cannot open {}: {error}", copy.display()), None))?;
            return Ok(Box::new(move || Ok(copy)));
        }
        let opened = |error: OpenError| (with_causes(&error), None);
        match (view, work) {
            (View::Writable, Some(work)) => {
                let overlay = KernelOverlay::open(&layers, &upper, &work).map_err(told)?;
                let served = Layers::open(&layers, Some((&upper, &work))).map_err(opened)?;
                let kernel = move || overlay.mount(false, None);
                Ok(Box::new(move || either(kernel, served, by_fuse)))
            }
            (View::Writable, None) => Err(("the container's files cannot be written to".into(), None)),
            (View::Whole | View::Image, _) => {
                if view == View::Whole {
                    layers.insert(0, upper);
                }
                let overlay = KernelLayers::open(&layers).map_err(told)?;
                let served = Layers::open(&layers, None).map_err(opened)?;
                Ok(Box::new(move || either(|| overlay.mount(), served, by_fuse)))
            }
        }
    }
}

/// By the kernel's overlay, or where that cannot be had by rbox's own, which a thread of this process serves: both have the
/// same format.
fn either(
    kernel: impl FnOnce() -> Result<OwnedFd, KernelOverlayError>,
    layers: Layers,
    by_fuse: bool,
) -> Result<OwnedFd, Failed> {
    let mut refused = None;
    if !by_fuse {
        match kernel() {
            Ok(root) => return Ok(root),
            Err(error) => refused = Some(told(error)),
        }
    }
    let mount = || -> Result<OwnedFd, MountError> {
        let device = Device::open()?;
        let root = device.mount("overlay", layers.are_read_only(), None)?;
        thread::spawn(move || fuse::serve(device, layers, false));
        Ok(root)
    };
    mount().map_err(|error| refused.unwrap_or_else(|| (with_causes(&error), error.hint().map(Into::into))))
}

/// Has what is cached of a filesystem that is served by FUSE come to where it is stored. What cannot be had so is not.
pub(crate) fn settle(root: &OwnedFd) -> io::Result<()> {
    /// FUSE_SUPER_MAGIC.
    const FUSE: u64 = 0x6573_5546;
    match stored::filesystem(root)? {
        // O_PATH will not do for it.
        FUSE => syncfs(at::open_dir(root.as_fd(), b".")?),
        _ => Ok(()),
    }
}

fn told(error: KernelOverlayError) -> Failed {
    (with_causes(&error), error.hint().map(Into::into))
}

/// Opens the root directory of the process that /proc numbers so, whose user namespace the caller is in.
pub(crate) fn root_of(pid: u32) -> io::Result<OwnedFd> {
    rbox_sys::dir::open(&PathBuf::from(format!("/proc/{pid}/root")))
}
