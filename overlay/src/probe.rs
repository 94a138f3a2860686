//! Which root filesystems can be had on the filesystem of a store: each is mounted there and worked in.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread;

use rbox_rootless::{Identity, attempt_with};
use rbox_sys::at;
use rbox_sys::clone::Namespaces;

use crate::fuse::{self, Device, Layers, MountError};
use crate::kernel::{KernelOverlay, KernelOverlayError};

/// What is tried below a directory on the store's filesystem: empty, and anew for each.
struct Scratch {
    lower: PathBuf,
    upper: PathBuf,
    work: PathBuf,
}

impl Scratch {
    fn make(identity: &Identity, place: &Path) -> io::Result<Self> {
        let [lower, upper, work] = ["lower", "upper", "work"].map(|name| place.join(name));
        for directory in [place, &lower, &upper, &work] {
            fs::create_dir(directory)?;
        }
        // Whoever is root in the container passes through here.
        fs::set_permissions(place, Permissions::from_mode(0o711))?;
        fs::create_dir(lower.join("directory"))?;
        fs::write(lower.join("file"), "")?;
        for path in [&lower.join("directory"), &lower.join("file"), &lower, &upper, &work] {
            identity.give_to_root(path)?;
        }
        Ok(Self { lower, upper, work })
    }
}

/// Why a driver cannot be had. Of an error inside, its number is what comes out.
pub type Lack = String;

/// Tries the kernel's overlay below `scratch`, a directory on the store's filesystem.
pub fn kernel_overlay(identity: &Identity, scratch: &Path) -> Result<(), Lack> {
    let source = |error| match error {
        KernelOverlayError::Open { source, .. } | KernelOverlayError::Mount { source, .. } => source,
    };
    in_namespace(
        identity,
        &scratch.join("overlay"),
        |place| KernelOverlay::open(std::slice::from_ref(&place.lower), &place.upper, &place.work).map_err(source),
        |overlay| work_in(overlay.mount(false, None).map_err(source)?.as_fd()),
    )
}

/// The same for rbox's own overlay, by FUSE.
pub fn fuse_overlay(identity: &Identity, scratch: &Path) -> Result<(), Lack> {
    let source = |error| match error {
        MountError::Open(source) | MountError::Mount { source, .. } => source,
    };
    in_namespace(
        identity,
        &scratch.join("fuse"),
        |place| {
            let layers = Layers::open(std::slice::from_ref(&place.lower), Some((&place.upper, &place.work)));
            Ok((layers.map_err(|error| error.source)?, Device::open().map_err(source)?))
        },
        |(layers, device)| {
            let mounted = device.mount("overlay", false, None).map_err(source)?;
            // Both end with this process.
            thread::spawn(|| fuse::serve(device, layers, true));
            work_in(mounted.as_fd())
        },
    )
}

fn in_namespace<T>(
    identity: &Identity,
    place: &Path,
    open: impl FnOnce(&Scratch) -> io::Result<T>,
    act: impl FnOnce(T) -> io::Result<()>,
) -> Result<(), Lack> {
    let scratch =
        Scratch::make(identity, place).map_err(|error| format!("cannot write in {}: {error}", place.display()))?;
    match attempt_with(identity, Namespaces::MOUNT, || open(&scratch), act) {
        Ok(done) => done.map_err(|error| words(&error)),
        Err(error) => Err(error.to_string()),
    }
}

/// Without the number, which tells people nothing.
fn words(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

/// What containers do: they write, and remove what layers have, of which the upper directory keeps marks.
fn work_in(root: BorrowedFd<'_>) -> io::Result<()> {
    at::create_file(root, b"new", 0o644)?;
    at::unlink(root, b"file")?;
    at::remove_dir(root, b"directory")?;
    at::make_dir(root, b"directory", 0o755)?;
    match at::status(root, b"file") {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        _ => Err(io::ErrorKind::AlreadyExists.into()),
    }
}
