//! The directories of a layer being unpacked: found, made, remembered.
//!
//! Every path is resolved by the kernel, beneath the root and through no symbolic link, to a descriptor of the
//! directory that its last name is in. The last few descriptors are kept, since an archive goes directory by directory.
//!
//! A directory's mode and times are set when all is unpacked: what is made in it changes its times, and a mode like
//! 0555 may forbid that anything is made.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rbox_sys::at::{self, Kind, Time};
use rbox_sys::{Errno, beneath, fd, node, xattr};
use rbox_types::LeftOut;

use crate::error::Problem;
use crate::path::EntryPath;
use crate::{Error, OPAQUE, is, remove};

pub(super) struct Tree {
    root: Rc<OwnedFd>,
    /// Most recently used first.
    cache: Vec<(EntryPath, Rc<OwnedFd>)>,
    /// Every directory that this layer has.
    pub(super) directories: BTreeMap<EntryPath, Directory>,
    /// Every name that is a whiteout now.
    pub(super) whiteouts: BTreeSet<EntryPath>,
    /// Devices; a whiteout stands for each.
    pub(super) left_out: BTreeMap<EntryPath, LeftOut>,
    /// Hard links whose target was not there yet. Nothing is at their own names.
    pub(super) pending_links: BTreeMap<EntryPath, EntryPath>,
    pub(super) opaque_root: bool,
    /// Directories that no entry has made are there already.
    over: bool,
    /// About the bytes that the four maps take.
    remembered: usize,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Directory {
    /// An entry lists it.
    Listed { mode: u32, mtime: Time },
    /// Only paths through it say that it is there. `fresh`: what is below is removed, so nothing is taken from there.
    Implied { fresh: bool },
}

/// Descriptors kept.
const CACHE: usize = 32;

/// The most that may be remembered of one layer, in bytes; some 500 000 directories.
const MAX_REMEMBERED: usize = 96 << 20;

impl Tree {
    pub(super) fn new(root: BorrowedFd<'_>, over: bool) -> Result<Self, Error> {
        let root = fd::duplicate(root).map_err(Error::io("open", &EntryPath::root()))?;
        let implied = Directory::Implied { fresh: false };
        Ok(Self {
            root: Rc::new(root),
            cache: Vec::with_capacity(CACHE),
            directories: BTreeMap::from([(EntryPath::root(), implied)]),
            whiteouts: BTreeSet::new(),
            left_out: BTreeMap::new(),
            pending_links: BTreeMap::new(),
            opaque_root: false,
            over,
            remembered: 0,
        })
    }

    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// The directory that `path` is in, made with its own parents where no entry has listed it.
    pub(super) fn parent(&mut self, path: &EntryPath) -> Result<Rc<OwnedFd>, Error> {
        let (parent, _) = path.split();
        if let Some(dir) = self.cached(parent) {
            return Ok(dir);
        }
        let parent = path.parent();
        let dir = if self.directories.contains_key(&parent) {
            Rc::new(beneath::open_dir_path(self.root(), parent.as_bytes()).map_err(Error::io("open", &parent))?)
        } else {
            self.imply(&parent, path)?
        };
        self.remember_open(parent, &dir);
        Ok(dir)
    }

    /// The directory that `path` is in, if it is there. `entry` is blamed where something else is in the way.
    pub(super) fn existing_parent(
        &mut self,
        path: &EntryPath,
        entry: &EntryPath,
    ) -> Result<Option<Rc<OwnedFd>>, Error> {
        let (parent, _) = path.split();
        if let Some(dir) = self.cached(parent) {
            return Ok(Some(dir));
        }
        let parent = path.parent();
        match beneath::open_dir_path(self.root(), parent.as_bytes()) {
            Ok(dir) => {
                let dir = Rc::new(dir);
                self.remember_open(parent, &dir);
                Ok(Some(dir))
            }
            Err(error) if is(&error, Errno::NOENT) => Ok(None),
            Err(error) if is(&error, Errno::NOTDIR) || is(&error, Errno::LOOP) => {
                let mut dir = Rc::clone(&self.root);
                for (prefix, name) in components(&parent) {
                    match at::open_dir_path(dir.as_fd(), name) {
                        Ok(next) => dir = Rc::new(next),
                        Err(_) => match at::status(dir.as_fd(), name) {
                            Ok(status) if status.kind == Kind::Whiteout => return Ok(None),
                            Ok(status) => return Err(Error::entry(entry, in_the_way(status.kind, &prefix))),
                            Err(error) => return Err(Error::io("look at", &prefix)(error)),
                        },
                    }
                }
                Err(Error::io("open", &parent)(error))
            }
            Err(error) => Err(Error::io("open", &parent)(error)),
        }
    }

    /// Makes what is missing of `path`, a directory that `entry` implies.
    fn imply(&mut self, path: &EntryPath, entry: &EntryPath) -> Result<Rc<OwnedFd>, Error> {
        let known = path.prefix_lengths().rev().find(|length| self.directories.contains_key(&path.prefix(*length)));
        let known = path.prefix(known.unwrap_or(0));
        let opened = beneath::open_dir_path(self.root(), known.as_bytes()).map_err(Error::io("open", &known))?;
        let mut dir = Rc::new(opened);
        for (prefix, name) in components(path).filter(|(prefix, _)| prefix.as_bytes().len() > known.as_bytes().len()) {
            let mut fresh = false;
            if let Err(error) = at::make_dir(dir.as_fd(), name, 0o755) {
                if !is(&error, Errno::EXIST) {
                    return Err(Error::io("make the directory", &prefix)(error));
                }
                let status = at::status(dir.as_fd(), name).map_err(Error::io("look at", &prefix))?;
                if self.over && status.kind == Kind::Directory {
                    dir = Rc::new(at::open_dir_path(dir.as_fd(), name).map_err(Error::io("open", &prefix))?);
                    continue;
                }
                if status.kind != Kind::Whiteout {
                    return Err(Error::entry(entry, in_the_way(status.kind, &prefix)));
                }
                fresh = !self.left_out.contains_key(&prefix);
                at::unlink(dir.as_fd(), name).map_err(Error::io("replace", &prefix))?;
                at::make_dir(dir.as_fd(), name, 0o755).map_err(Error::io("make the directory", &prefix))?;
            }
            self.forget(&prefix);
            dir = Rc::new(at::open_dir_path(dir.as_fd(), name).map_err(Error::io("open", &prefix))?);
            if fresh && !self.over {
                mark_opaque(dir.as_fd(), &prefix)?;
            }
            self.remember(&prefix)?;
            self.directories.insert(prefix, Directory::Implied { fresh });
        }
        Ok(dir)
    }

    /// Removes whatever is called `path`, for something else to take its place. `true`: it was a whiteout, so that
    /// what takes its place must go on hiding what is below.
    pub(super) fn clear(&mut self, path: &EntryPath, parent: BorrowedFd<'_>) -> Result<bool, Error> {
        let (_, name) = path.split();
        let status = match at::status(parent, name) {
            Err(error) if is(&error, Errno::NOENT) => {
                self.forget(path);
                return Ok(false);
            }
            other => other.map_err(Error::io("look at", path))?,
        };
        let hides = status.kind == Kind::Whiteout && !self.left_out.contains_key(path);
        match status.kind {
            Kind::Directory => remove::remove_tree(parent, name),
            _ => at::unlink(parent, name),
        }
        .map_err(Error::io("replace", path))?;
        self.forget(path);
        Ok(hides)
    }

    /// Whether a directory is called `path`.
    pub(super) fn is_directory(&self, path: &EntryPath, parent: BorrowedFd<'_>) -> Result<bool, Error> {
        let status = at::status(parent, path.split().1).map_err(Error::io("look at", path))?;
        Ok(status.kind == Kind::Directory)
    }

    /// Makes a whiteout at `path`, unless this layer has something there: a whiteout hides what is below, not beside.
    pub(super) fn whiteout(&mut self, path: &EntryPath) -> Result<(), Error> {
        if self.pending_links.contains_key(path) || self.left_out.contains_key(path) {
            return Ok(());
        }
        let parent = self.parent(path)?;
        match node::make_whiteout(parent.as_fd(), path.split().1) {
            Ok(()) => {
                self.remember(path)?;
                self.whiteouts.insert(path.clone());
                Ok(())
            }
            Err(error) if is(&error, Errno::EXIST) => match self.directories.get_mut(path) {
                Some(directory) => {
                    if let Directory::Implied { fresh } = directory {
                        *fresh = true;
                    }
                    self.opaque(path)
                }
                None => Ok(()),
            },
            Err(error) => Err(Error::io("make the whiteout", path)(error)),
        }
    }

    /// Makes the directory `path` hide everything that is in it below.
    pub(super) fn opaque(&mut self, path: &EntryPath) -> Result<(), Error> {
        if path.is_root() {
            self.opaque_root = true;
            return mark_opaque(self.root(), path);
        }
        let parent = self.parent(path)?;
        let dir = match at::open_dir_path(parent.as_fd(), path.split().1) {
            Ok(dir) => dir,
            Err(_) => {
                // Only this says that there is such a directory, or something else is in the way.
                self.imply(path, path)?;
                at::open_dir_path(parent.as_fd(), path.split().1).map_err(Error::io("open", path))?
            }
        };
        mark_opaque(dir.as_fd(), path)
    }

    /// Leaves a device out. The whiteout in its place hides what a layer below may have there.
    pub(super) fn leave_out(&mut self, path: &EntryPath, device: LeftOut) -> Result<(), Error> {
        let parent = self.parent(path)?;
        self.clear(path, parent.as_fd())?;
        self.whiteout(path)?;
        self.remember(path)?;
        self.left_out.insert(path.clone(), device);
        Ok(())
    }

    /// Remembers a hard link whose target is not there.
    pub(super) fn link_later(&mut self, path: &EntryPath, target: EntryPath) -> Result<(), Error> {
        let parent = self.parent(path)?;
        self.clear(path, parent.as_fd())?;
        self.remember(path)?;
        self.remember(&target)?;
        self.pending_links.insert(path.clone(), target);
        Ok(())
    }

    /// Drops what is remembered of `path` and beneath it.
    pub(super) fn forget(&mut self, path: &EntryPath) {
        self.left_out.remove(path);
        self.pending_links.remove(path);
        self.whiteouts.remove(path);
        if self.directories.remove(path).is_none() {
            // Only a directory has anything beneath it.
            return;
        }
        self.cache.retain(|(cached, _)| !path.holds(cached));
        drop_range(&mut self.left_out, path);
        drop_range(&mut self.pending_links, path);
        drop_range(&mut self.directories, path);
        let beneath: Vec<EntryPath> = self.whiteouts.range(path.beneath()).cloned().collect();
        for path in beneath {
            self.whiteouts.remove(&path);
        }
    }

    /// Accounts for one more record about `path`.
    pub(super) fn remember(&mut self, path: &EntryPath) -> Result<(), Error> {
        self.remembered += path.as_bytes().len() + 100;
        if self.remembered > MAX_REMEMBERED { Err(Error::entry(path, Problem::TooMany)) } else { Ok(()) }
    }

    fn cached(&mut self, path: &[u8]) -> Option<Rc<OwnedFd>> {
        if path.is_empty() {
            return Some(Rc::clone(&self.root));
        }
        let at = self.cache.iter().position(|(cached, _)| cached.as_bytes() == path)?;
        self.cache[..=at].rotate_right(1);
        Some(Rc::clone(&self.cache[0].1))
    }

    fn remember_open(&mut self, path: EntryPath, dir: &Rc<OwnedFd>) {
        if self.cache.len() == CACHE {
            self.cache.pop();
        }
        self.cache.insert(0, (path, Rc::clone(dir)));
    }
}

/// The prefixes of a path, each with its last component.
fn components(path: &EntryPath) -> impl Iterator<Item = (EntryPath, &[u8])> {
    let mut begin = 0;
    path.prefix_lengths().map(move |end| {
        let name = &path.as_bytes()[begin..end];
        begin = end + 1;
        (path.prefix(end), name)
    })
}

fn drop_range<V>(map: &mut BTreeMap<EntryPath, V>, path: &EntryPath) {
    let beneath: Vec<EntryPath> = map.range(path.beneath()).map(|(path, _)| path.clone()).collect();
    for path in beneath {
        map.remove(&path);
    }
}

fn in_the_way(kind: Kind, path: &EntryPath) -> Problem {
    match kind {
        Kind::Symlink => Problem::ThroughSymlink(path.to_string()),
        _ => Problem::ThroughFile(path.to_string()),
    }
}

/// `dir` may be a place only (O_PATH).
fn mark_opaque(dir: BorrowedFd<'_>, path: &EntryPath) -> Result<(), Error> {
    let marked = beneath::open_dir(dir, b"").and_then(|dir| xattr::set(dir.as_fd(), OPAQUE, b"y"));
    marked.map_err(|error| {
        if is(&error, Errno::OPNOTSUPP) {
            Error::entry(path, Problem::NoOpaque)
        } else {
            Error::io("mark as opaque", path)(error)
        }
    })
}
