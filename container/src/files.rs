//! Files of ids that are not ours: what containers and layers leave is removed and measured, and a container's files are
//! compared, read and written from outside.

mod changes;
pub(crate) mod copy;
mod destination;
mod export;
mod job;
pub(crate) mod serve;
pub(crate) mod users;

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rbox_rootless::Identity;
use rbox_rootless::worker::Worker;
use rbox_sys::dir;

use crate::worker;

/// Removes a tree, whoever owns its files within the id map.
///
/// Most trees hold only files of the caller's own, and go without the milliseconds that a worker costs.
pub(crate) fn remove_tree(identity: &Identity, path: &Path) -> io::Result<()> {
    match remove_own_tree(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let (parent, name) = place(path)?;
            let worker = Worker::start(identity, worker::TREE).map_err(io::Error::other)?;
            rbox_overlay::worker::remove(worker.channel(), parent.as_fd(), name).map_err(io::Error::other)
        }
        result => result,
    }
}

/// The bytes of all files in a directory, whoever owns them within the id map.
pub(crate) fn tree_size(identity: &Identity, path: &Path) -> std::io::Result<u64> {
    // As a place only: to read it may be for its owner alone.
    let dir = dir::open(path)?;
    match rbox_overlay::tree_size(dir.as_fd()) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let worker = Worker::start(identity, worker::TREE).map_err(io::Error::other)?;
            rbox_overlay::worker::measure(worker.channel(), dir.as_fd()).map_err(io::Error::other)
        }
        result => result,
    }
}

/// Removes a tree with files of the caller's own, as are those of a container for its root.
fn remove_own_tree(path: &Path) -> io::Result<()> {
    let (parent, name) = place(path)?;
    rbox_overlay::remove_tree(parent.as_fd(), name)
}

fn place(path: &Path) -> io::Result<(File, &[u8])> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    Ok((File::open(parent)?, name.as_bytes()))
}
