//! `rbox diff`: what a container has changed of its image.

use std::io::Read;
use std::os::fd::AsFd;

use rbox_overlay::Change;

use super::job::{Client, Job, pipe};
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
        let (mut read, write) = pipe()?;
        let tree = self.stored_tree(&entry)?;
        let client = Client::on_stored(&self.identity, tree, View::Image, Job::Changes, write.as_fd())?;
        drop(write);
        let mut text = Vec::new();
        read.read_to_end(&mut text).map_err(Error::io("read", "what has changed"))?;
        client.done()?;
        serde_json::from_slice(&text).map_err(|error| Error::io("read", "what has changed")(error.into()))
    }
}
