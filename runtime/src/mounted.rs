//! What has been mounted so far, by the mounts themselves.
//!
//! Whoever shares the root filesystem may rename the directory that something was just mounted on, and put another in its
//! place: the mount goes with its directory. A mask that was then looked for by its whole path would be put on the other
//! one, and the kernel's own /proc would be seen, uncovered, under a new name. So a path is looked up from the mount that
//! it belongs to.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rbox_sys::mount::{self, Attributes};

use crate::error::{During, Failure};
use crate::plan::MountStep;

/// The root filesystem, and the mounts in it, in their order.
pub(crate) struct Mounted<'a> {
    root: BorrowedFd<'a>,
    mounts: Vec<(&'a MountStep, OwnedFd)>,
}

impl<'a> Mounted<'a> {
    /// The root filesystem alone.
    pub(crate) fn new(root: BorrowedFd<'a>) -> Self {
        Self { root, mounts: Vec::new() }
    }

    /// Takes what a step has mounted, if anything.
    pub(crate) fn add(&mut self, step: &'a MountStep, mount: Option<OwnedFd>) {
        self.mounts.extend(mount.map(|mount| (step, mount)));
    }

    /// The root filesystem.
    pub(crate) fn root(&self) -> BorrowedFd<'a> {
        self.root
    }

    /// The mount that a path of the container belongs to, and the rest of the path from there.
    pub(crate) fn of<'b>(&'b self, path: &'b Path) -> (BorrowedFd<'b>, &'b Path) {
        let below = |(step, mount): &'b (&MountStep, OwnedFd)| {
            Some((mount.as_fd(), path.strip_prefix(&step.destination).ok()?))
        };
        // The last one covers those before it.
        self.mounts.iter().rev().find_map(below).unwrap_or((self.root, path))
    }

    /// Now that all is in them.
    pub(crate) fn make_late_ones_read_only(&self) -> Result<(), Failure> {
        self.mounts.iter().filter(|(step, _)| step.read_only_late()).try_for_each(|(step, mount)| {
            mount::set_attributes(mount.as_fd(), Attributes::READ_ONLY, Attributes::default(), false)
                .during(|| format!("make {} read-only", step.destination.display()))
        })
    }
}
