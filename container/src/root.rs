//! A container's root filesystem: opened and mounted by init, or there already, and asked who the workload's user is.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rbox_overlay::kernel::{KernelOverlay, KernelOverlayError};
use rbox_runtime::{CONTEXT_HINT, Failure, MountRoot, Prepared};
use rbox_sys::{Errno, dir};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::plan::RunPlan;
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
    /// The SELinux context of all files.
    pub(crate) context: Option<String>,
    pub(crate) wanted: Wanted,
    /// Files of rbox's own in place of the image's.
    pub(crate) files: Vec<(PathBuf, String)>,
}

/// Who the workload is to be, for the passwd of the root filesystem.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Wanted {
    /// `user[:group]`.
    user: String,
    /// Besides the user's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    groups: Vec<String>,
    /// HOME is set already.
    has_home: bool,
}

impl OverlayRoot {
    /// In words for [`open`].
    pub(crate) fn words(&self) -> io::Result<Vec<u8>> {
        Ok(serde_json::to_vec(self)?)
    }
}

impl Wanted {
    /// Who a plan wants.
    pub(crate) fn of(plan: &RunPlan) -> Self {
        let process = plan.spec.process().as_ref();
        let env = process.and_then(|process| process.env().as_deref()).unwrap_or_default();
        Self {
            user: plan.user.clone(),
            groups: plan.groups.clone(),
            has_home: env.iter().any(|variable| variable.starts_with("HOME=")),
        }
    }

    /// In words for [`there`].
    pub(crate) fn words(&self) -> io::Result<Vec<u8>> {
        Ok(serde_json::to_vec(self)?)
    }

    /// Looks for them in `rootfs`.
    fn find(self, rootfs: OwnedFd, files: Vec<(PathBuf, String)>) -> Result<Prepared, Failure> {
        let (passwd, group) = user::databases(rootfs.as_fd())
            .map_err(|error| Failure::new("look up the user in the container", &error))?;
        let account = user::look_up(&self.user, &passwd, &group)
            .and_then(|account| user::add_groups(account, &self.groups, &group))
            .map_err(|nobody| Failure::new("look up the user", &io::Error::other(nobody)))?;
        let env = if self.has_home { Vec::new() } else { vec![format!("HOME={}", account.home)] };
        Ok(Prepared { rootfs, user: Some(account.user), env, files })
    }
}

/// The side of an init that comes into a container.
pub(crate) fn there(words: &[u8]) -> Result<Box<dyn MountRoot>, Failure> {
    Ok(Box::new(There(read(words)?)))
}

struct There(Wanted);

impl MountRoot for There {
    fn mount(self: Box<Self>) -> Result<Prepared, Failure> {
        let rootfs = dir::open(Path::new("/")).map_err(|error| Failure::new("open the container's root", &error))?;
        self.0.find(rootfs, Vec::new())
    }
}

/// Init's side.
pub(crate) fn open(words: &[u8]) -> Result<Box<dyn MountRoot>, Failure> {
    let root: OverlayRoot = read(words)?;
    let overlay = KernelOverlay::open(&root.lowers, &root.upper, &root.work).map_err(overlay_failure)?;
    Ok(Box::new(OpenOverlay { root, overlay }))
}

struct OpenOverlay {
    root: OverlayRoot,
    overlay: KernelOverlay,
}

impl MountRoot for OpenOverlay {
    fn mount(self: Box<Self>) -> Result<Prepared, Failure> {
        let OverlayRoot { volatile, context, wanted, files, .. } = self.root;
        let rootfs = self.overlay.mount(volatile, context.as_deref()).map_err(|error| {
            let failure = overlay_failure(error);
            match context {
                Some(context) if failure.errno == Some(Errno::INVAL.raw_os_error()) => {
                    let what = format!("{} with the SELinux context {context:?}", failure.what);
                    Failure { what, ..failure }.hint(CONTEXT_HINT)
                }
                _ => failure,
            }
        })?;
        wanted.find(rootfs, files)
    }
}

fn read<T: DeserializeOwned>(words: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(words).map_err(|error| Failure::new("read what the root filesystem is", &error.into()))
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
