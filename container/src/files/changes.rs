//! `rbox diff`: what a container has changed of its image.

use std::os::fd::BorrowedFd;

use rbox_overlay::Change;

use super::job::{Client, Job, told};
use crate::tree::View;
use crate::{Engine, Error};

/// Where every container has something mounted, for which an empty file or directory is made where the image has none.
pub(super) const MOUNT_POINTS: &[&str] = &[
    "/dev",
    "/proc",
    "/sys",
    "/etc/hosts",
    "/etc/hostname",
    "/etc/resolv.conf",
    "/etc/mtab",
    "/run",
    "/run/.containerenv",
    "/run/secrets",
    "/run/notify",
];

impl Engine {
    /// What a container has changed, made and removed, in the order of the paths.
    pub fn changes(&self, name_or_id: &str) -> Result<Vec<Change>, Error> {
        let entry = self.store.find_container(name_or_id)?;
        self.settle(&entry);
        let tree = self.stored_tree(&entry)?;
        let begin = |out: BorrowedFd<'_>| Client::on_stored(&self.identity, tree, View::Image, Job::Changes, out);
        told("what has changed", begin)
    }
}
