//! Extended attributes: those that are shown, and those of the overlay's own.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rbox_sys::Errno;
use rbox_sys::stored;

use super::nodes::{Id, ROOT};
use super::view::View;
use crate::{OWN, is};

/// What somebody calls by such a name is stored by this one (Linux 6.7).
const ESCAPED: &[u8] = b"user.overlay.overlay.";

impl View {
    pub(super) fn get_xattr(&mut self, id: Id, attribute: &[u8]) -> io::Result<Vec<u8>> {
        let attribute = stored_name(attribute);
        self.with_name(id, |dir, name| stored::get_xattr(dir, name, &attribute))
    }

    /// The names, each with a zero after it.
    pub(super) fn list_xattrs(&mut self, id: Id) -> io::Result<Vec<u8>> {
        let names = self.with_name(id, stored::list_xattrs)?;
        let shown = names.split_inclusive(|byte| *byte == 0).filter_map(shown_name);
        Ok(shown.flatten().collect())
    }

    pub(super) fn set_xattr(&mut self, id: Id, attribute: &[u8], value: &[u8], flags: u32) -> io::Result<()> {
        let attribute = stored_name(attribute);
        self.copy_up_any(id)?;
        self.with_name(id, |dir, name| stored::set_xattr(dir, name, &attribute, value, flags))
    }

    pub(super) fn remove_xattr(&mut self, id: Id, attribute: &[u8]) -> io::Result<()> {
        let attribute = stored_name(attribute);
        if !self.is_upper(id) {
            // What is not there need not be copied up to be missing. Of what is up the filesystem says whether it is an error: an
            // ACL that is not there may be removed.
            self.with_name(id, |dir, name| stored::get_xattr(dir, name, &attribute))?;
        }
        self.copy_up_any(id)?;
        self.with_name(id, |dir, name| stored::remove_xattr(dir, name, &attribute))
    }

    /// Has it in the upper layer, the root too.
    pub(super) fn copy_up_any(&mut self, id: Id) -> io::Result<()> {
        if id == ROOT { self.layers.work().map(drop) } else { self.copy_up(id, None) }
    }

    /// Does something to the topmost of a node's layers, or to what is left of it.
    pub(super) fn with_name<T>(
        &mut self,
        id: Id,
        act: impl FnOnce(BorrowedFd<'_>, &[u8]) -> io::Result<T>,
    ) -> io::Result<T> {
        let node = self.nodes.get(id).ok_or(Errno::STALE)?;
        if let Some(left) = node.left().cloned() {
            return act(left.as_fd(), b"");
        }
        let layer = node.made_of().top();
        self.at(id, layer, act)
    }
}

/// What is copied up has all but the overlay's own.
pub(super) fn copy(from: BorrowedFd<'_>, name: &[u8], to: BorrowedFd<'_>, new: &[u8]) -> io::Result<()> {
    for attribute in stored::list_xattrs(from, name)?.split(|byte| *byte == 0) {
        if attribute.is_empty() || attribute.starts_with(OWN) && !attribute.starts_with(ESCAPED) {
            continue;
        }
        let value = stored::get_xattr(from, name, attribute)?;
        match stored::set_xattr(to, new, attribute, &value, 0) {
            // What only the host's root may set (security.selinux, trusted.*) is not kept, as it is not by the kernel's
            // overlay without that.
            Err(error) if is_of_host(&error) && !attribute.starts_with(b"user.") => {}
            other => other?,
        }
    }
    Ok(())
}

fn is_of_host(error: &io::Error) -> bool {
    [Errno::PERM, Errno::OPNOTSUPP, Errno::ACCESS].iter().any(|errno| is(error, *errno))
}

fn stored_name(attribute: &[u8]) -> Vec<u8> {
    match attribute.strip_prefix(OWN) {
        Some(rest) => [ESCAPED, rest].concat(),
        None => attribute.to_vec(),
    }
}

fn shown_name(attribute: &[u8]) -> Option<Vec<u8>> {
    match attribute.strip_prefix(ESCAPED) {
        Some(rest) => Some([OWN, rest].concat()),
        None if attribute.starts_with(OWN) => None,
        None => Some(attribute.to_vec()),
    }
}
