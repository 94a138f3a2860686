//! The tree that layers show together, to be read only: an overlay without an upper directory.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use super::{KernelOverlayError, by_keys, name, open, or_by_options, over};

/// The open directories of layers.
#[derive(Debug)]
pub struct KernelLayers {
    /// Topmost first.
    layers: Vec<OwnedFd>,
    /// The directory that holds the topmost, and that one's name in it, as for a
    /// [`KernelOverlay`](super::KernelOverlay).
    place: OwnedFd,
    name: OsString,
}

impl KernelLayers {
    /// Opens them, topmost first, in the mount namespace that the overlay is to be in. The upper directory of an overlay
    /// that is mounted elsewhere may be among them: what changes in it meanwhile may be seen or not.
    pub fn open(layers: &[PathBuf]) -> Result<Self, KernelOverlayError> {
        let topmost = layers.first().map_or(Path::new("/"), PathBuf::as_path);
        Ok(Self {
            layers: layers.iter().map(|path| open(path)).collect::<Result<_, _>>()?,
            place: open(topmost.parent().unwrap_or(Path::new("/")))?,
            name: topmost.file_name().unwrap_or_default().to_owned(),
        })
    }

    /// A detached mount, made as root of the user namespace; or the one layer itself, since an overlay has two.
    pub fn mount(mut self) -> Result<OwnedFd, KernelOverlayError> {
        if self.layers.len() == 1 {
            return Ok(self.layers.remove(0));
        }
        or_by_options(self.mount_by_keys(), || self.mount_by_options())
    }

    fn mount_by_keys(&self) -> Result<OwnedFd, KernelOverlayError> {
        by_keys(|overlay| {
            for layer in &self.layers {
                overlay.set("lowerdir+", &name(layer))?;
            }
            overlay.set_flag("userxattr")?;
            // Where the kernel has an index by default, it refuses directories that another overlay writes to.
            overlay.set("index", "off")
        })
    }

    fn mount_by_options(&self) -> Result<OwnedFd, KernelOverlayError> {
        let layers = self.layers.iter().map(name).collect::<Vec<_>>().join(":");
        over(&self.place, &self.name, format!("lowerdir={layers},userxattr,index=off"))
    }
}
