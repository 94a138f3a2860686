//! Which root filesystems can be had on the filesystem of a store.

use std::fs;
use std::io;
use std::path::Path;

use rbox_rootless::{Identity, attempt};
use rbox_sys::clone::Namespaces;
use rbox_types::{Finding, ProbeState};

use crate::kernel::{KERNEL_OVERLAY_HINT, KernelOverlay, KernelOverlayError};

/// Mounts a kernel overlay of empty directories below `scratch`, a directory on the store's filesystem, and writes.
pub fn kernel_overlay(identity: &Identity, scratch: &Path) -> Finding {
    const FACILITY: &str = "kernel overlay";
    let missing =
        |detail: String| Finding::lacks(FACILITY, ProbeState::Missing, detail, Some(KERNEL_OVERLAY_HINT.into()));
    let [lower, upper, work] = ["lower", "upper", "work"].map(|name| scratch.join(name));
    for directory in [&lower, &upper, &work] {
        let made = fs::create_dir(directory).and_then(|()| match identity.foreign_root() {
            Some((uid, gid)) => std::os::unix::fs::chown(directory, Some(uid), Some(gid)),
            None => Ok(()),
        });
        if let Err(error) = made {
            return missing(format!("cannot create {}: {error}", directory.display()));
        }
    }
    let mount = || -> io::Result<()> {
        let source = |error| match error {
            KernelOverlayError::Open { source, .. } | KernelOverlayError::Mount { source, .. } => source,
        };
        KernelOverlay::open(std::slice::from_ref(&lower), &upper, &work)
            .and_then(|overlay| overlay.mount(false, None))
            .map(drop)
            .map_err(source)
    };
    match attempt(identity, Namespaces::MOUNT, mount) {
        Ok(Ok(())) => Finding::works(FACILITY, "can be mounted on the store's filesystem"),
        Ok(Err(error)) => missing(format!("cannot be mounted: {error}")),
        Err(error) => Finding::lacks(FACILITY, ProbeState::Missing, error.to_string(), error.hint()),
    }
}
