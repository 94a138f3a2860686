//! The kernel's overlay filesystem, mounted inside a user namespace (Linux 5.11, `userxattr`).
//!
//! The directories are opened first, with the ids of the caller, and named to the kernel as /proc/self/fd/N: the
//! options of mount(2) have one page of 4 KiB for all of them, and fsconfig(2) takes 255 bytes a value, which paths
//! below a home directory would soon fill. The names also tell a container's /proc/self/mounts nothing of the host.

mod read_only;

use std::ffi::{CString, OsStr, OsString};
use std::fs::{self, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rbox_sys::mount::{self, Attributes, Filesystem};
use rbox_sys::{Errno, dir};

pub use read_only::KernelLayers;

/// The open directories of one overlay.
#[derive(Debug)]
pub struct KernelOverlay {
    /// Topmost first.
    lowers: Vec<OwnedFd>,
    upper: OwnedFd,
    work: OwnedFd,
    /// The directory that holds the upper one, and that one's name in it: where a mount by mount(2) is made for a
    /// moment, only before Linux 6.7.
    place: OwnedFd,
    name: OsString,
}

/// Why there is no overlay.
#[derive(Debug, thiserror::Error)]
pub enum KernelOverlayError {
    /// A directory cannot be opened.
    #[error("cannot open {path}")]
    Open {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The kernel refuses the mount.
    #[error("cannot mount an overlay{}", message.as_ref().map(|text| format!(" ({text})")).unwrap_or_default())]
    Mount {
        /// The kernel's own words, where it has any.
        message: Option<String>,
        /// Why.
        source: io::Error,
    },
}

/// What may help where the kernel refuses.
pub const KERNEL_OVERLAY_HINT: &str = "an overlay in a user namespace needs Linux 5.11 and a local filesystem under \
     the store, one that has user xattrs (tmpfs: Linux 6.6); keep the store on such a one with --root DIR";

impl KernelOverlayError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Open { .. } => None,
            Self::Mount { .. } => Some(KERNEL_OVERLAY_HINT),
        }
    }
}

impl KernelOverlay {
    /// Opens the directories, in the mount namespace that the overlay is to be in and with ids that may pass through
    /// all their parents. `lowers` has the topmost layer first; `upper` and `work` are on one filesystem.
    pub fn open(lowers: &[PathBuf], upper: &Path, work: &Path) -> Result<Self, KernelOverlayError> {
        Ok(Self {
            lowers: lowers.iter().map(|path| open(path)).collect::<Result<_, _>>()?,
            upper: open(upper)?,
            work: open(work)?,
            place: open(upper.parent().unwrap_or(Path::new("/")))?,
            name: upper.file_name().unwrap_or_default().to_owned(),
        })
    }

    /// A detached mount, made as root of the user namespace. A `volatile` one leaves out every fsync(2), the
    /// workload's own too: for what does not outlive its container. All files are in the SELinux `context`, where there
    /// is one; those that are stored keep theirs.
    pub fn mount(&self, volatile: bool, context: Option<&str>) -> Result<OwnedFd, KernelOverlayError> {
        or_by_options(self.mount_by_keys(volatile, context), || self.mount_by_options(volatile, context))
    }

    /// One key a directory: Linux 6.7.
    fn mount_by_keys(&self, volatile: bool, context: Option<&str>) -> Result<OwnedFd, KernelOverlayError> {
        by_keys(|overlay| {
            for lower in &self.lowers {
                overlay.set("lowerdir+", &name(lower))?;
            }
            overlay.set("upperdir", &name(&self.upper))?;
            overlay.set("workdir", &name(&self.work))?;
            overlay.set_flag("userxattr")?;
            if volatile {
                overlay.set_flag("volatile")?;
            }
            if let Some(context) = context {
                overlay.set("context", context)?;
            }
            Ok(())
        })
    }

    /// All in one page of options: before Linux 6.7. More than a hundred lowers fit, thanks to their short names.
    fn mount_by_options(&self, volatile: bool, context: Option<&str>) -> Result<OwnedFd, KernelOverlayError> {
        let lowers = self.lowers.iter().map(name).collect::<Vec<_>>().join(":");
        let mut options =
            format!("lowerdir={lowers},upperdir={},workdir={},userxattr", name(&self.upper), name(&self.work));
        if volatile {
            options.push_str(",volatile");
        }
        if let Some(context) = context {
            // In quotation marks, for the commas of its categories. With one of its own it would end early, and what
            // follows would be options.
            if context.contains('"') {
                let source = io::Error::new(io::ErrorKind::InvalidInput, "no SELinux context has a quotation mark");
                return Err(KernelOverlayError::Mount { message: None, source });
            }
            options.push_str(&format!(",context=\"{context}\""));
        }
        // Over the upper directory, which is open already; container root reaches it from the directory around it.
        over(&self.place, &self.name, options)
    }
}

fn open(path: &Path) -> Result<OwnedFd, KernelOverlayError> {
    dir::open(path).map_err(|source| KernelOverlayError::Open { path: path.into(), source })
}

/// A detached mount of what `configure` says key by key.
fn by_keys(configure: impl FnOnce(&Filesystem) -> io::Result<()>) -> Result<OwnedFd, KernelOverlayError> {
    let plain = |source| KernelOverlayError::Mount { message: None, source };
    let overlay = Filesystem::open("overlay").map_err(plain)?;
    configure(&overlay)
        .and_then(|()| overlay.create())
        .map_err(|source| KernelOverlayError::Mount { message: overlay.message(), source })?;
    overlay.mounted(Attributes::default()).map_err(plain)
}

/// What was mounted key by key; where the kernel does not know `lowerdir+`, by options.
fn or_by_options(
    by_keys: Result<OwnedFd, KernelOverlayError>,
    by_options: impl FnOnce() -> Result<OwnedFd, KernelOverlayError>,
) -> Result<OwnedFd, KernelOverlayError> {
    match by_keys {
        Err(KernelOverlayError::Mount { source, .. }) if source.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
            by_options()
        }
        result => result,
    }
}

/// A detached mount of what these options say, made for a moment over a directory in an open one.
fn over(place: &OwnedFd, spot: &OsStr, options: String) -> Result<OwnedFd, KernelOverlayError> {
    let spot = Path::new(&name(place)).join(spot);
    let mount = || -> io::Result<OwnedFd> {
        mount::mount_old("overlay", &spot, &CString::new(options)?)?;
        let clone = mount::clone_tree(dir::cwd(), &spot, false);
        mount::detach(&spot)?;
        clone
    };
    mount().map_err(|source| KernelOverlayError::Mount { message: None, source })
}

/// Whether a mount has had `work` since it was [taken apart](remove_volatile_mark).
pub fn is_used(work: &Path) -> bool {
    work.join("work").exists()
}

/// Takes apart what the kernel leaves in the work directory of a volatile mount, if nothing else is there
/// (ovl_workdir_create() and ovl_create_volatile_dirty() in fs/overlayfs/super.c). They are directories that nobody may
/// enter; a general removal, which has to find that out, takes five times as many steps. What is left is left to that. Where
/// this succeeds, `work` is empty.
pub fn remove_volatile_mark(work: &Path) -> io::Result<()> {
    const MARK: [&str; 3] = ["work", "work/incompat", "work/incompat/volatile"];
    let remove = || -> io::Result<()> {
        fs::remove_file(work.join("work/incompat/volatile/dirty"))?;
        MARK.iter().rev().try_for_each(|directory| fs::remove_dir(work.join(directory)))
    };
    let enter = || MARK.iter().try_for_each(|dir| fs::set_permissions(work.join(dir), Permissions::from_mode(0o700)));
    // Who is root of the ids that own them enters all the same.
    remove().or_else(|_| enter().and_then(|()| remove()))
}

fn name(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())
}
