//! The kernel's end: /dev/fuse, and a filesystem that asks it.
//!
//! The device is opened by whoever mounts, in the user namespace that the files are to be seen from: ids are those of that
//! namespace (fuse_get_req() in fs/fuse/dev.c). Nobody but the server may keep it: the kernel answers for a server that
//! has died when the last descriptor is closed, and not before.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rbox_sys::mount::{Attributes, Filesystem};

const DEVICE: &str = "/dev/fuse";

/// One that is open.
#[derive(Debug)]
pub struct Device(OwnedFd);

/// Why there is no filesystem.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The device cannot be opened.
    #[error("cannot open {DEVICE}")]
    Open(#[source] io::Error),
    /// The kernel refuses the mount.
    #[error("cannot mount a FUSE filesystem{}", message.as_ref().map(|text| format!(" ({text})")).unwrap_or_default())]
    Mount {
        /// The kernel's own words, where it has any.
        message: Option<String>,
        /// Why.
        source: io::Error,
    },
}

impl MountError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Open(error) if error.kind() == io::ErrorKind::NotFound && !Path::new(DEVICE).exists() => {
                Some("load the kernel module fuse, or, in a container, give it the device: --device /dev/fuse")
            }
            Self::Open(_) => Some("/dev/fuse is usually open to everybody (mode 0666)"),
            Self::Mount { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => Some(
                "who is root of a user namespace and of a mount namespace may mount: unshare --map-root-user --mount",
            ),
            Self::Mount { .. } => Some("FUSE in a user namespace needs Linux 4.18"),
        }
    }
}

impl Device {
    /// Opens it.
    pub fn open() -> Result<Self, MountError> {
        let device = OpenOptions::new().read(true).write(true).open(DEVICE).map_err(MountError::Open)?;
        Ok(Self(device.into()))
    }

    /// A detached mount, made as root of the user namespace, which answers when somebody [serves](super::serve) the device.
    /// The kernel itself judges who may do what, by owner, mode and ACL. All files are in the SELinux `context`, where there
    /// is one.
    pub fn mount(&self, source: &str, read_only: bool, context: Option<&str>) -> Result<OwnedFd, MountError> {
        let plain = |source| MountError::Mount { message: None, source };
        let fuse = Filesystem::open("fuse").map_err(plain)?;
        let configure = || -> io::Result<()> {
            fuse.set("source", source)?;
            fuse.set("subtype", "rbox-overlay")?;
            fuse.set("fd", &self.0.as_raw_fd().to_string())?;
            fuse.set("rootmode", "40000")?;
            fuse.set("user_id", "0")?;
            fuse.set("group_id", "0")?;
            if read_only {
                fuse.set_flag("ro")?;
            }
            fuse.set_flag("default_permissions")?;
            fuse.set_flag("allow_other")?;
            if let Some(context) = context {
                fuse.set("context", context)?;
            }
            fuse.create()
        };
        configure().map_err(|source| MountError::Mount { message: fuse.message(), source })?;
        let attributes = if read_only { Attributes::READ_ONLY } else { Attributes::default() };
        fuse.mounted(attributes).map_err(plain)
    }

    pub(super) fn into_fd(self) -> OwnedFd {
        self.0
    }
}

/// One that somebody else has opened, and mounted.
impl From<OwnedFd> for Device {
    fn from(device: OwnedFd) -> Self {
        Self(device)
    }
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
