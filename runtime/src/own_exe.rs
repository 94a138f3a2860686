//! rbox's own executable, in a form that nobody can write through.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;

use rbox_sys::mount::{self, Attributes};
use rbox_sys::{dir, memfd};

/// A descriptor to execute: a detached, read-only clone of the mount that the binary lies on.
///
/// /proc/self/exe refers to the mount of the namespace that this process came from, which cannot be cloned here, so
/// the path is opened in this namespace and must turn out to be the same file. Where that fails (the binary was
/// replaced or deleted, or its directory is out of reach) a sealed copy in memory serves as well and costs
/// milliseconds.
pub(crate) fn read_only() -> io::Result<OwnedFd> {
    clone_of_mount().or_else(|_| {
        let content = fs::read("/proc/self/exe")?;
        memfd::sealed("rbox", &content)
    })
}

fn clone_of_mount() -> io::Result<OwnedFd> {
    let path = fs::read_link("/proc/self/exe")?;
    let clone = mount::clone_tree(dir::cwd(), &path, false)?;
    let (ours, theirs) = (fs::metadata("/proc/self/exe")?, File::from(clone.try_clone()?).metadata()?);
    if (ours.dev(), ours.ino()) != (theirs.dev(), theirs.ino()) {
        return Err(io::ErrorKind::NotFound.into());
    }
    let protect = Attributes::READ_ONLY.and(Attributes::NOSUID).and(Attributes::NODEV);
    mount::set_attributes(std::os::fd::AsFd::as_fd(&clone), protect, Attributes::default(), false)?;
    Ok(clone)
}
