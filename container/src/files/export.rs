//! `rbox export`: all files of a container as a tar archive.

use std::os::fd::BorrowedFd;

use rbox_store::ContainerEntry;

use super::job::{Client, Job};
use crate::life::begun::Begun;
use crate::tree::{View, root_of, settle};
use crate::{Engine, Error};

impl Engine {
    /// Writes an archive of a container's root filesystem, without what is mounted in it.
    pub fn export(&self, name_or_id: &str, out: BorrowedFd<'_>) -> Result<(), Error> {
        let entry = self.store.find_container(name_or_id)?;
        self.settle(&entry);
        let tree = self.stored_tree(&entry)?;
        Client::on_stored(&self.identity, tree, View::Whole, Job::Export, out)?.done()?;
        Ok(())
    }

    /// Has what a container that runs has written come to where it is stored. Where that fails, the last of it is not seen.
    pub(super) fn settle(&self, entry: &ContainerEntry) {
        if entry.running
            && let Ok(begun) = Begun::find(&self.store, entry.id.as_str())
        {
            let _ = root_of(begun.first.pid).and_then(|root| settle(&root));
        }
    }
}
