//! A container's root filesystem: opened and mounted by init, and asked who the workload's user is.

use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;

use rbox_overlay::kernel::{KernelOverlay, KernelOverlayError};
use rbox_runtime::{Failure, MountRoot, Prepared};
use serde::{Deserialize, Serialize};

use crate::user;

/// The layers of an image under a container's own directory, by the kernel's overlay.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct OverlayRoot {
    /// Topmost first.
    pub(crate) lowers: Vec<PathBuf>,
    pub(crate) upper: PathBuf,
    pub(crate) work: PathBuf,
    /// The container is removed at its end, so nothing need reach the disk.
    pub(crate) volatile: bool,
    /// `user[:group]`.
    pub(crate) user: String,
    /// HOME is set already.
    pub(crate) has_home: bool,
    /// Files of rbox's own in place of the image's.
    pub(crate) files: Vec<(PathBuf, String)>,
}

impl OverlayRoot {
    /// In words for [`open`].
    pub(crate) fn words(&self) -> io::Result<Vec<u8>> {
        Ok(serde_json::to_vec(self)?)
    }
}

/// Init's side.
pub(crate) fn open(words: &[u8]) -> Result<Box<dyn MountRoot>, Failure> {
    let root: OverlayRoot = serde_json::from_slice(words)
        .map_err(|error| Failure::new("read what the root filesystem is", &error.into()))?;
    let overlay = KernelOverlay::open(&root.lowers, &root.upper, &root.work).map_err(overlay_failure)?;
    Ok(Box::new(OpenOverlay { root, overlay }))
}

struct OpenOverlay {
    root: OverlayRoot,
    overlay: KernelOverlay,
}

impl MountRoot for OpenOverlay {
    fn mount(self: Box<Self>) -> Result<Prepared, Failure> {
        let OverlayRoot { volatile, user, has_home, files, .. } = self.root;
        let rootfs = self.overlay.mount(volatile).map_err(overlay_failure)?;
        let (passwd, group) =
            user::databases(rootfs.as_fd()).map_err(|error| Failure::new("look up the user in the image", &error))?;
        let account = user::look_up(&user, &passwd, &group)
            .map_err(|nobody| Failure::new("look up the user", &io::Error::other(nobody)))?;
        let env = if has_home { Vec::new() } else { vec![format!("HOME={}", account.home)] };
        Ok(Prepared { rootfs, user: Some(account.user), env, files })
    }
}

fn overlay_failure(error: KernelOverlayError) -> Failure {
    let hint = error.hint();
    let (what, source) = match error {
        KernelOverlayError::Open { path, source } => (format!("open {}", path.display()), source),
        KernelOverlayError::Mount { message, source } => {
            let words = message.map(|text| format!(" ({text})")).unwrap_or_default();
            (format!("mount the root filesystem{words}"), source)
        }
    };
    let failure = Failure::new(what, &source);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}
