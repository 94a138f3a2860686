//! A container's root filesystem: opened by the entry, mounted by init, and asked who the workload's user is.

use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;

use rbox_overlay::kernel::{HandedOn, KernelOverlay, KernelOverlayError};
use rbox_runtime::{Failure, OpenRoot, Prepared, Root};
use serde::{Deserialize, Serialize};

use crate::user;

/// The layers of an image under a container's own directory, by the kernel's overlay.
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

/// What init is told of it.
#[derive(Debug, Serialize, Deserialize)]
struct Words {
    overlay: HandedOn,
    volatile: bool,
    user: String,
    has_home: bool,
    files: Vec<(PathBuf, String)>,
}

impl Root for OverlayRoot {
    fn open(&mut self) -> Result<OpenRoot, Failure> {
        let overlay = KernelOverlay::open(&self.lowers, &self.upper, &self.work).map_err(overlay_failure)?;
        let failed = |error| Failure::new("hand on the root filesystem", &error);
        let (overlay, descriptors) = overlay.hand_on().map_err(failed)?;
        let words = Words {
            overlay,
            volatile: self.volatile,
            user: self.user.clone(),
            has_home: self.has_home,
            files: std::mem::take(&mut self.files),
        };
        let words = serde_json::to_vec(&words).map_err(|error| failed(error.into()))?;
        Ok(OpenRoot { words, descriptors })
    }
}

/// Init's side.
pub(crate) fn mount(words: &[u8]) -> Result<Prepared, Failure> {
    let failed = |error| Failure::new("take over the root filesystem", &error);
    let words: Words = serde_json::from_slice(words).map_err(|error| failed(error.into()))?;
    let overlay = KernelOverlay::inherited(words.overlay).map_err(failed)?;
    let rootfs = overlay.mount(words.volatile).map_err(overlay_failure)?;
    let (passwd, group) =
        user::databases(rootfs.as_fd()).map_err(|error| Failure::new("look up the user in the image", &error))?;
    let account = user::look_up(&words.user, &passwd, &group)
        .map_err(|nobody| Failure::new("look up the user", &io::Error::other(nobody)))?;
    let env = if words.has_home { Vec::new() } else { vec![format!("HOME={}", account.home)] };
    Ok(Prepared { rootfs, user: Some(account.user), env, files: words.files })
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
