//! `rbox export`: all files of a container as a tar archive.

use std::os::fd::BorrowedFd;

use super::job::{Client, Job};
use crate::tree::View;
use crate::{Engine, Error};

impl Engine {
    /// Writes an archive of a container's root filesystem, without what is mounted in it.
    pub fn export(&self, name_or_id: &str, out: BorrowedFd<'_>) -> Result<(), Error> {
        let entry = self.store.find_container(name_or_id)?;
        let tree = self.stored_tree(&entry)?;
        Client::on_stored(&self.identity, tree, View::Whole, Job::Export, out)?.done()?;
        Ok(())
    }
}
