//! A layer unpacked alone learns what is below it.
//!
//! - A directory that its archive only implies gets mode, owner, times and extended attributes of the one below: a
//!   layer that holds only `tmp/x` must not turn /tmp into 0755.
//! - A hard link to a file of a layer below becomes a copy of that file in this layer, linked: overlayfs itself would
//!   copy it up at the first change, and two layers cannot share an inode.
//! - A layer that hides all below it hides each thing by itself: overlayfs does not look for the mark of an opaque
//!   directory on a layer's root.
//! - A whiteout that hides nothing goes. overlayfs shows it as a broken name where it has no directory to merge.

mod chain;

use std::collections::BTreeSet;
use std::fs::Permissions;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, fchown};

use rbox_sys::at::{self, Kind, Status};
use rbox_sys::listing::Listing;
use rbox_sys::{Errno, beneath, copy, node, xattr};

use crate::error::Problem;
use crate::path::EntryPath;
use crate::unpack::Unpacked;
use crate::{Error, OPAQUE};

use chain::{Chain, Found};

/// Finishes the layer in `root`. `parents` are the directories of all layers below it, topmost first, themselves
/// settled; files in them keep their owners as this process sees them.
pub fn settle(root: BorrowedFd<'_>, parents: &[BorrowedFd<'_>], unpacked: &Unpacked) -> Result<(), Error> {
    // A layer that hides all below it takes nothing from there.
    let parents = if unpacked.report.opaque_root {
        hide_each(root, parents)?;
        &[]
    } else {
        parents
    };
    let mut settler = Settler {
        root,
        chain: Chain::new(parents)?,
        implied: unpacked.implied.keys().cloned().collect(),
        fresh: unpacked.implied.iter().filter(|(_, fresh)| **fresh).map(|(path, _)| path.clone()).collect(),
        single_id: unpacked.single_id,
    };
    for path in &unpacked.whiteouts {
        settler.prune_whiteout(path)?;
    }
    for (path, target) in &unpacked.pending_links {
        settler.link(path, target, unpacked)?;
    }
    // Last, since all else changes the times of directories; and what is inside before its directory, whose mode may
    // forbid to enter it.
    for path in std::mem::take(&mut settler.implied).iter().rev() {
        settler.inherit(path)?;
    }
    Ok(())
}

/// Hides everything that the parents have: a whiteout for each name of theirs that this layer has not, and each
/// directory that both have is opaque.
fn hide_each(root: BorrowedFd<'_>, parents: &[BorrowedFd<'_>]) -> Result<(), Error> {
    let path = EntryPath::root();
    let failed = || Error::io("hide what is below in", &path);
    let root = root.try_clone_to_owned().map_err(failed())?;
    keeping_times(&root, &path, |root| {
        for parent in parents {
            let listing = at::open_dir(*parent, b".").and_then(Listing::new).map_err(Error::io("list", &path))?;
            for entry in listing {
                let name = entry.map_err(Error::io("list", &path))?.name;
                match at::status(root, name.to_bytes()) {
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                        node::make_whiteout(root, name.to_bytes()).map_err(failed())?;
                    }
                    Ok(Status { kind: Kind::Directory, .. }) => {
                        let dir = at::open_dir(root, name.to_bytes()).map_err(failed())?;
                        xattr::set(dir.as_fd(), OPAQUE, b"y").map_err(failed())?;
                    }
                    other => drop(other.map_err(failed())?),
                }
            }
        }
        Ok(())
    })
}

struct Settler<'a> {
    root: BorrowedFd<'a>,
    chain: Chain,
    implied: BTreeSet<EntryPath>,
    fresh: BTreeSet<EntryPath>,
    single_id: bool,
}

impl Settler<'_> {
    /// Removes a whiteout that hides nothing.
    fn prune_whiteout(&mut self, path: &EntryPath) -> Result<(), Error> {
        let hides = match self.chain.look(path)? {
            Found::Nothing => false,
            // Where the path goes through a link below, the directory that is here hides the link.
            Found::Symlink(_) => false,
            Found::This { .. } => !self.is_hidden(path)?,
        };
        if hides {
            return Ok(());
        }
        let (_, name) = path.split();
        let parent = self.parent(path)?;
        keeping_times(&parent, path, |parent| at::unlink(parent, name).map_err(Error::io("remove the whiteout", path)))
    }

    /// Whether something of this layer on the way hides what is at `path` below.
    fn is_hidden(&self, path: &EntryPath) -> Result<bool, Error> {
        let parent = path.parent();
        for length in parent.prefix_lengths() {
            let prefix = parent.prefix(length);
            let dir = match beneath::open_dir(self.root, prefix.as_bytes()) {
                Ok(dir) => dir,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
                // Something else is here, even a whiteout.
                Err(error)
                    if [Errno::NOTDIR, Errno::LOOP].iter().any(|e| error.raw_os_error() == Some(e.raw_os_error())) =>
                {
                    return Ok(true);
                }
                Err(error) => return Err(Error::io("open", &prefix)(error)),
            };
            if xattr::get(dir.as_fd(), OPAQUE).map_err(Error::io("look at", &prefix))?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Makes a hard link whose target is in a layer below, or a link that waited for one.
    fn link(&mut self, path: &EntryPath, target: &EntryPath, unpacked: &Unpacked) -> Result<(), Error> {
        if self.is_there(path)? {
            // Made on the way to another.
            return Ok(());
        }
        // Follow links that are themselves waiting, to the first that is not.
        let mut target = target;
        let mut steps = 0;
        while let Some(next) = unpacked.pending_links.get(target) {
            steps += 1;
            if next == path || steps > unpacked.pending_links.len() {
                return Err(Error::entry(path, Problem::LinkToItself));
            }
            target = next;
        }
        if !self.is_there(target)? {
            self.copy_up(target, path)?;
        }
        let (from, to) = (self.parent(target)?, self.parent(path)?);
        let linked = |to: BorrowedFd<'_>| {
            at::link(from.as_fd(), target.split().1, to, path.split().1).map_err(Error::io("link", path))
        };
        keeping_times(&to, path, linked)
    }

    /// Copies the file `target` from below, since `entry` links to it.
    fn copy_up(&mut self, target: &EntryPath, entry: &EntryPath) -> Result<(), Error> {
        let nothing = || Error::entry(entry, Problem::LinkToNothing(target.to_string()));
        let (dir, status) = match self.chain.look(target)? {
            Found::This { dir, status } => (dir, status),
            Found::Symlink(link) => return Err(Error::entry(entry, Problem::ThroughSymlink(link.to_string()))),
            Found::Nothing => return Err(nothing()),
        };
        if self.is_hidden(target)? {
            return Err(nothing());
        }
        let (parent, (_, name)) = (self.make_parent(target, entry)?, target.split());
        keeping_times(&parent, target, |parent| {
            let failed = || Error::io("copy", target);
            match status.kind {
                Kind::File => {
                    let mut from = at::open_file(dir.as_fd(), name).map_err(failed())?;
                    let mut to = at::create_file(parent, name, 0o600).map_err(failed())?;
                    copy::whole_file(&mut from, &mut to).map_err(failed())?;
                    if !self.single_id {
                        fchown(&to, Some(status.uid), Some(status.gid)).map_err(failed())?;
                    }
                    to.set_permissions(Permissions::from_mode(status.mode)).map_err(failed())?;
                    copy_xattrs(from.as_fd(), to.as_fd(), target)?;
                    at::set_times_of(to.as_fd(), status.modified).map_err(failed())
                }
                Kind::Symlink | Kind::Fifo => {
                    if status.kind == Kind::Symlink {
                        let text = at::read_link(dir.as_fd(), name).map_err(failed())?;
                        at::make_symlink(&text, parent, name).map_err(failed())?;
                    } else {
                        node::make_fifo(parent, name, status.mode).map_err(failed())?;
                        at::set_mode(parent, name, status.mode).map_err(failed())?;
                    }
                    if !self.single_id {
                        at::set_owner(parent, name, status.uid, status.gid).map_err(failed())?;
                    }
                    at::set_times(parent, name, status.modified).map_err(failed())
                }
                Kind::Directory => Err(Error::entry(entry, Problem::LinkToDirectory(target.to_string()))),
                Kind::Whiteout | Kind::Other => Err(nothing()),
            }
        })
    }

    /// Gives an implied directory the metadata of the one below.
    fn inherit(&mut self, path: &EntryPath) -> Result<(), Error> {
        let dir = beneath::open_dir(self.root, path.as_bytes()).map_err(Error::io("open", path))?;
        let below =
            if self.fresh.iter().any(|fresh| fresh.holds(path)) { Found::Nothing } else { self.chain.look(path)? };
        let failed = || Error::io("set the metadata of", path);
        match below {
            Found::This { dir: below, status: status @ Status { kind: Kind::Directory, .. } } => {
                let name = if path.is_root() { b"." } else { path.split().1 };
                let from = at::open_dir(below.as_fd(), name).map_err(Error::io("open below", path))?;
                if !self.single_id {
                    fchown(&dir, Some(status.uid), Some(status.gid)).map_err(failed())?;
                }
                at::set_mode_of(dir.as_fd(), status.mode).map_err(failed())?;
                copy_xattrs(from.as_fd(), dir.as_fd(), path)?;
                at::set_times_of(dir.as_fd(), status.modified).map_err(failed())
            }
            // The archive says "lib/x" where "lib" is a link below: to make the directory would take the link away.
            Found::This { status: Status { kind: Kind::Symlink, .. }, .. } => {
                Err(Error::entry(path, Problem::ThroughSymlink(path.to_string())))
            }
            Found::Symlink(link) => Err(Error::entry(path, Problem::ThroughSymlink(link.to_string()))),
            // A file below is replaced.
            Found::Nothing | Found::This { .. } => at::set_mode_of(dir.as_fd(), 0o755).map_err(failed()),
        }
    }

    fn is_there(&self, path: &EntryPath) -> Result<bool, Error> {
        let parent = match beneath::open_dir_path(self.root, path.split().0) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            other => other.map_err(Error::io("open", path))?,
        };
        match at::status(parent.as_fd(), path.split().1) {
            Ok(status) => Ok(status.kind != Kind::Whiteout),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::io("look at", path)(error)),
        }
    }

    fn parent(&self, path: &EntryPath) -> Result<OwnedFd, Error> {
        beneath::open_dir_path(self.root, path.split().0).map_err(Error::io("open", &path.parent()))
    }

    /// The directory that `path` is in, made as one more implied directory where it is missing.
    fn make_parent(&mut self, path: &EntryPath, entry: &EntryPath) -> Result<OwnedFd, Error> {
        let parent = path.parent();
        for length in parent.prefix_lengths() {
            let prefix = parent.prefix(length);
            let dir = self.parent(&prefix)?;
            let (_, name) = prefix.split();
            match at::status(dir.as_fd(), name) {
                Ok(Status { kind: Kind::Directory, .. }) => {}
                Ok(_) => return Err(Error::entry(entry, Problem::LinkToNothing(path.to_string()))),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    keeping_times(&dir, &prefix, |dir| {
                        at::make_dir(dir, name, 0o755).map_err(Error::io("make the directory", &prefix))
                    })?;
                    self.implied.insert(prefix);
                }
                Err(error) => return Err(Error::io("look at", &prefix)(error)),
            }
        }
        self.parent(path)
    }
}

/// Does something in a directory and puts its times back.
fn keeping_times(
    dir: &OwnedFd,
    path: &EntryPath,
    act: impl FnOnce(BorrowedFd<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    let before = at::status_of(dir.as_fd()).map_err(Error::io("look at the directory of", path))?;
    act(dir.as_fd())?;
    at::set_times(dir.as_fd(), b".", before.modified).map_err(Error::io("set the times of the directory of", path))
}

/// All attributes but overlayfs's own, which speak about the layer that they are in.
fn copy_xattrs(from: BorrowedFd<'_>, to: BorrowedFd<'_>, path: &EntryPath) -> Result<(), Error> {
    let failed = || Error::io("copy the extended attributes of", path);
    for name in xattr::list(from).map_err(failed())? {
        let name = name.to_bytes();
        if crate::may_have(name)
            && let Some(value) = xattr::get(from, name).map_err(failed())?
        {
            xattr::set(to, name, &value).map_err(failed())?;
        }
    }
    Ok(())
}
