//! The tree that layers show together, to be read only: an overlay without an upper directory.

use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rbox_sys::mount::{self, Attributes, Filesystem};
use rbox_sys::{Errno, dir};

use super::{KernelOverlayError, name};

/// The open directories of layers.
#[derive(Debug)]
pub struct KernelLayers {
    /// Topmost first.
    layers: Vec<OwnedFd>,
    /// The directory that holds the topmost, and that one's name in it, as for a
    /// [`KernelOverlay`](super::KernelOverlay).
    place: OwnedFd,
    name: std::ffi::OsString,
}

impl KernelLayers {
    /// Opens them, topmost first, in the mount namespace that the overlay is to be in. The upper directory of an overlay
    /// that is mounted elsewhere may be among them: what changes in it meanwhile may be seen or not.
    pub fn open(layers: &[PathBuf]) -> Result<Self, KernelOverlayError> {
        let open =
            |path: &Path| dir::open(path).map_err(|source| KernelOverlayError::Open { path: path.into(), source });
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
        match self.mount_by_keys() {
            // `lowerdir+` is not known.
            Err(KernelOverlayError::Mount { source, .. })
                if source.raw_os_error() == Some(Errno::INVAL.raw_os_error()) =>
            {
                self.mount_by_options()
            }
            result => result,
        }
    }

    fn mount_by_keys(&self) -> Result<OwnedFd, KernelOverlayError> {
        let plain = |source| KernelOverlayError::Mount { message: None, source };
        let overlay = Filesystem::open("overlay").map_err(plain)?;
        let configure = || -> io::Result<()> {
            for layer in &self.layers {
                overlay.set("lowerdir+", &name(layer))?;
            }
            overlay.set_flag("userxattr")?;
            // Where the kernel has an index by default, it refuses directories that another overlay writes to.
            overlay.set("index", "off")?;
            overlay.create()
        };
        configure().map_err(|source| KernelOverlayError::Mount { message: overlay.message(), source })?;
        overlay.mounted(Attributes::default()).map_err(plain)
    }

    fn mount_by_options(&self) -> Result<OwnedFd, KernelOverlayError> {
        let layers = self.layers.iter().map(name).collect::<Vec<_>>().join(":");
        let options = format!("lowerdir={layers},userxattr,index=off");
        let spot = Path::new(&name(&self.place)).join(&self.name);
        let mount = || -> io::Result<OwnedFd> {
            mount::mount_old("overlay", &spot, &CString::new(options)?)?;
            let clone = mount::clone_tree(dir::cwd(), &spot, false);
            mount::detach(&spot)?;
            clone
        };
        mount().map_err(|source| KernelOverlayError::Mount { message: None, source })
    }
}
