//! One entry after the other becomes a file, directory, link or whiteout.
//!
//! Later entries replace earlier ones of the same name, a directory and everything in it too, but a directory entry
//! leaves a directory as it is but for its metadata.

use std::collections::BTreeMap;
use std::fs::{File, Permissions};
use std::io::{self, BufRead, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, fchown};
use std::rc::Rc;

use rbox_sys::at::{self, Kind as FileKind};
use rbox_sys::{Errno, node, xattr};
use rbox_types::{DiffId, Digest, LeftOut, NodeKind};

use super::tree::{Directory, Tree};
use super::{Options, Report, Unpacked};
use crate::error::Problem;
use crate::path::{EntryPath, PathProblem};
use crate::tar::{Archive, Entry, Kind};
use crate::{Error, is};

pub(super) struct Extractor {
    tree: Tree,
    made: Made,
    options: Options,
    size: u64,
    ids: u32,
    dropped_xattrs: BTreeMap<String, u64>,
}

/// How a file comes out that is made with mode 0777: calls that would change nothing need not be made.
struct Made {
    uid: u32,
    gid: u32,
    /// Neither a umask nor a default ACL takes bits away.
    exact_mode: bool,
}

/// The owner that an entry is to have.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Owner {
    uid: u32,
    gid: u32,
}

/// Whom an id that is not mapped is shown as.
const NOBODY: u32 = 65_534;

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE_WHITEOUT: &[u8] = b".wh..wh..opq";
/// What aufs kept its own books under.
const AUFS: &[u8] = b".wh..wh.";

impl Extractor {
    pub(super) fn new(root: BorrowedFd<'_>, options: Options) -> Result<Self, Error> {
        let made = Made::probe(root).map_err(Error::io("make a file in", &EntryPath::root()))?;
        Ok(Self {
            tree: Tree::new(root, options.over)?,
            made,
            options,
            size: 0,
            ids: 0,
            dropped_xattrs: BTreeMap::new(),
        })
    }

    /// Unpacks one entry, whose data `archive` is at.
    pub(super) fn entry(&mut self, entry: Entry, archive: &mut Archive<impl BufRead>) -> Result<(), Error> {
        let path = EntryPath::parse(&entry.path).map_err(|problem| Error::raw_entry(&entry.path, problem))?;
        let (parent, name) = path.split();
        if !self.options.over && is_aufs(&path) {
            return if name == OPAQUE_WHITEOUT && !parent.split(|byte| *byte == b'/').any(|c| c.starts_with(AUFS)) {
                self.tree.opaque(&path.parent())
            } else {
                Ok(())
            };
        }
        if let Some(hidden) = name.strip_prefix(WHITEOUT).filter(|_| !self.options.over) {
            let hidden = path.with_name(hidden).map_err(|problem| Error::entry(&path, problem))?;
            return self.tree.whiteout(&hidden);
        }
        if path.is_root() && entry.kind != Kind::Directory {
            return Err(Error::entry(&path, Problem::Root));
        }
        let owner = self.owner(&path, &entry)?;
        match &entry.kind {
            Kind::File { size } => {
                let (_, file) = self.place(&path, |dir, name| at::create_file(dir, name, entry.mode & 0o777))?;
                copy_data(archive, &file, *size, &path)?;
                self.size += size;
                self.finish_file(&path, &file, &entry, owner)
            }
            Kind::Sparse(map) => {
                let (_, file) = self.place(&path, |dir, name| at::create_file(dir, name, entry.mode & 0o777))?;
                for (offset, length) in &map.pieces {
                    copy_piece(archive, &file, *offset, *length, &path)?;
                }
                file.set_len(map.size).map_err(Error::io("write", &path))?;
                self.size = self.size.saturating_add(map.size);
                self.finish_file(&path, &file, &entry, owner)
            }
            Kind::Directory => self.directory(&path, &entry, owner),
            Kind::Symlink(target) => {
                // PATH_MAX, and what ext4 and others hold.
                if target.is_empty() || target.len() > 4095 || target.contains(&0) {
                    return Err(Error::entry(&path, Problem::SymlinkTarget));
                }
                let (dir, ()) = self.place(&path, |dir, name| at::make_symlink(target, dir, name))?;
                self.drop_xattrs(&entry);
                self.set_owner(dir.as_fd(), &path, owner)?;
                at::set_times(dir.as_fd(), name, entry.mtime).map_err(Error::io("set the times of", &path))
            }
            Kind::Fifo => {
                let (dir, ()) = self.place(&path, |dir, name| node::make_fifo(dir, name, entry.mode & 0o777))?;
                self.drop_xattrs(&entry);
                self.set_owner(dir.as_fd(), &path, owner)?;
                // Nobody else is here who could have put a link in its place.
                at::set_mode(dir.as_fd(), name, entry.mode).map_err(Error::io("set the mode of", &path))?;
                at::set_times(dir.as_fd(), name, entry.mtime).map_err(Error::io("set the times of", &path))
            }
            Kind::CharDevice(major, minor) => self.device(&path, &entry, owner, NodeKind::Char, *major, *minor),
            Kind::BlockDevice(major, minor) => self.device(&path, &entry, owner, NodeKind::Block, *major, *minor),
            Kind::HardLink(target) => {
                let target = EntryPath::parse(target)
                    .map_err(|problem: PathProblem| Error::entry(&path, Problem::LinkName(problem)))?;
                self.hard_link(&path, target)
            }
            Kind::Unknown(flag) => Err(Error::entry(&path, Problem::Type(char::from(*flag)))),
        }
    }

    /// Sets what had to wait until everything is there.
    pub(super) fn finish(mut self) -> Result<Unpacked, Error> {
        // A link may come before what it links to.
        for (path, target) in std::mem::take(&mut self.tree.pending_links) {
            self.hard_link(&path, target)?;
        }
        if self.options.over
            && let Some((path, target)) = self.tree.pending_links.first_key_value()
        {
            // There are no layers below, one of which might have it.
            return Err(Error::entry(path, Problem::LinkToNothing(target.to_string())));
        }
        let directories = std::mem::take(&mut self.tree.directories);
        let mut implied = BTreeMap::new();
        // A directory after what is in it, for its mode may forbid to enter it.
        for (path, directory) in directories.into_iter().rev() {
            match directory {
                Directory::Implied { fresh } => {
                    implied.insert(path, fresh);
                }
                Directory::Listed { mode, mtime } => {
                    let (_, name) = path.split();
                    let name = if path.is_root() { b"." } else { name };
                    let Some(dir) = self.tree.existing_parent(&path, &path)? else { continue };
                    at::set_mode(dir.as_fd(), name, mode).map_err(Error::io("set the mode of", &path))?;
                    at::set_times(dir.as_fd(), name, mtime).map_err(Error::io("set the times of", &path))?;
                }
            }
        }
        Ok(Unpacked {
            report: Report {
                // Known when the last byte was hashed.
                diff_id: DiffId(Digest::from_sha256([0; 32])),
                tar_size: 0,
                size: self.size,
                ids: self.ids,
                left_out: self.tree.left_out.into_values().collect(),
                dropped_xattrs: self.dropped_xattrs,
                opaque_root: self.tree.opaque_root,
            },
            implied,
            whiteouts: self.tree.whiteouts.into_iter().collect(),
            pending_links: self.tree.pending_links,
            single_id: self.options.single_id,
        })
    }

    /// Makes something new called `path`, in place of what this layer had there.
    fn place<T>(
        &mut self,
        path: &EntryPath,
        make: impl Fn(BorrowedFd<'_>, &[u8]) -> io::Result<T>,
    ) -> Result<(Rc<OwnedFd>, T), Error> {
        let dir = self.tree.parent(path)?;
        let (_, name) = path.split();
        let made = match make(dir.as_fd(), name) {
            Err(error) if is(&error, Errno::EXIST) => {
                self.tree.clear(path, dir.as_fd())?;
                make(dir.as_fd(), name)
            }
            other => {
                // Nothing of that name was there; but a hard link may be on its way.
                self.tree.pending_links.remove(path);
                other
            }
        };
        Ok((dir, made.map_err(Error::io("make", path))?))
    }

    fn directory(&mut self, path: &EntryPath, entry: &Entry, owner: Owner) -> Result<(), Error> {
        let (dir, name) = if path.is_root() {
            (self.tree.parent(path)?, &b"."[..])
        } else {
            let (dir, name) = (self.tree.parent(path)?, path.split().1);
            if !self.tree.directories.contains_key(path) {
                if let Err(error) = at::make_dir(dir.as_fd(), name, 0o700) {
                    if !is(&error, Errno::EXIST) {
                        return Err(Error::io("make the directory", path)(error));
                    }
                    if !self.options.over || !self.tree.is_directory(path, dir.as_fd())? {
                        self.replace_by_directory(path, dir.as_fd(), name)?;
                    }
                } else {
                    self.tree.pending_links.remove(path);
                }
                self.tree.remember(path)?;
            }
            (dir, name)
        };
        self.tree.directories.insert(path.clone(), Directory::Listed { mode: entry.mode, mtime: entry.mtime });
        if !self.options.single_id {
            // Unlike a new file it may have been given an owner by an earlier entry.
            at::set_owner(dir.as_fd(), name, owner.uid, owner.gid).map_err(|error| not_owned(path, owner, error))?;
        }
        if !entry.xattrs.is_empty() {
            let dir = at::open_dir(dir.as_fd(), name).map_err(Error::io("open", path))?;
            self.set_xattrs(dir.as_fd(), path, entry)?;
        }
        Ok(())
    }

    /// Whatever is there gives way to a new directory.
    fn replace_by_directory(&mut self, path: &EntryPath, dir: BorrowedFd<'_>, name: &[u8]) -> Result<(), Error> {
        let hides = self.tree.clear(path, dir)?;
        at::make_dir(dir, name, 0o700).map_err(Error::io("make the directory", path))?;
        if hides && !self.options.over { self.tree.opaque(path) } else { Ok(()) }
    }

    fn device(
        &mut self,
        path: &EntryPath,
        entry: &Entry,
        owner: Owner,
        kind: NodeKind,
        major: u32,
        minor: u32,
    ) -> Result<(), Error> {
        if self.options.over {
            return Ok(());
        }
        let Owner { uid, gid } = owner;
        let shown = std::ffi::OsStr::from_bytes(path.as_bytes()).into();
        self.tree.leave_out(path, LeftOut { path: shown, kind, major, minor, mode: entry.mode, uid, gid })
    }

    fn hard_link(&mut self, path: &EntryPath, target: EntryPath) -> Result<(), Error> {
        if *path == target {
            return Err(Error::entry(path, Problem::LinkToItself));
        }
        if let Some(device) = self.tree.left_out.get(&target) {
            let shown = std::ffi::OsStr::from_bytes(path.as_bytes()).into();
            let device = LeftOut { path: shown, ..device.clone() };
            return self.tree.leave_out(path, device);
        }
        if self.tree.whiteouts.contains(&target) {
            return Err(Error::entry(path, Problem::LinkToNothing(target.to_string())));
        }
        if target.is_root() || self.tree.directories.contains_key(&target) {
            return Err(Error::entry(path, Problem::LinkToDirectory(target.to_string())));
        }
        let Some(from) = self.tree.existing_parent(&target, path)? else {
            return self.tree.link_later(path, target);
        };
        let (_, from_name) = target.split();
        match self.place(path, |dir, name| at::link(from.as_fd(), from_name, dir, name)) {
            Err(Error::Io { source, .. }) if is(&source, Errno::NOENT) => self.tree.link_later(path, target),
            other => other.map(|_| ()),
        }
    }

    /// Owner, mode, extended attributes and times of a file whose data is written. In this order: a change of owner
    /// clears set-id bits and `security.capability`.
    fn finish_file(&mut self, path: &EntryPath, file: &File, entry: &Entry, owner: Owner) -> Result<(), Error> {
        if !self.options.single_id && !self.made.is_owned_by(owner) {
            fchown(file, Some(owner.uid), Some(owner.gid)).map_err(|error| not_owned(path, owner, error))?;
        }
        if !self.made.exact_mode || entry.mode & 0o7000 != 0 {
            file.set_permissions(Permissions::from_mode(entry.mode)).map_err(Error::io("set the mode of", path))?;
        }
        self.set_xattrs(file.as_fd(), path, entry)?;
        at::set_times_of(file.as_fd(), entry.mtime).map_err(Error::io("set the times of", path))
    }

    fn owner(&mut self, path: &EntryPath, entry: &Entry) -> Result<Owner, Error> {
        // The highest number means "leave as it is" to chown(2).
        let id = |id: u64| u32::try_from(id).ok().filter(|id| *id != u32::MAX);
        match (id(entry.uid), id(entry.gid)) {
            (Some(uid), Some(gid)) => {
                let known = [uid, gid].into_iter().filter(|id| *id < NOBODY).max();
                self.ids = self.ids.max(known.map_or(0, |id| id + 1));
                Ok(Owner { uid, gid })
            }
            _ => Err(Error::entry(path, Problem::OwnerRange { uid: entry.uid, gid: entry.gid })),
        }
    }

    fn set_owner(&self, dir: BorrowedFd<'_>, path: &EntryPath, owner: Owner) -> Result<(), Error> {
        if self.options.single_id || self.made.is_owned_by(owner) {
            return Ok(());
        }
        at::set_owner(dir, path.split().1, owner.uid, owner.gid).map_err(|error| not_owned(path, owner, error))
    }

    fn set_xattrs(&mut self, fd: BorrowedFd<'_>, path: &EntryPath, entry: &Entry) -> Result<(), Error> {
        for (name, value) in &entry.xattrs {
            if !crate::may_have(name) {
                self.drop_xattr(name);
                continue;
            }
            match xattr::set(fd, name, value) {
                Ok(()) => {}
                Err(error) if is(&error, Errno::OPNOTSUPP) || is(&error, Errno::PERM) => self.drop_xattr(name),
                Err(error) => return Err(Error::io("set an extended attribute of", path)(error)),
            }
        }
        Ok(())
    }

    /// Neither links nor pipes have `user.*` attributes, and capabilities mean nothing on them.
    fn drop_xattrs(&mut self, entry: &Entry) {
        for (name, _) in &entry.xattrs {
            self.drop_xattr(name);
        }
    }

    fn drop_xattr(&mut self, name: &[u8]) {
        let name = crate::path::shown(name);
        // An image could make up a new name for each entry.
        if self.dropped_xattrs.len() < 64 || self.dropped_xattrs.contains_key(&name) {
            *self.dropped_xattrs.entry(name).or_default() += 1;
        }
    }
}

fn is_aufs(path: &EntryPath) -> bool {
    path.as_bytes().starts_with(AUFS) || path.as_bytes().windows(AUFS.len() + 1).any(|at| at == b"/.wh..wh.")
}

impl Made {
    fn probe(root: BorrowedFd<'_>) -> io::Result<Self> {
        let name = b".rbox-probe";
        let file = at::create_file(root, name, 0o777)?;
        let status = at::status_of(file.as_fd());
        at::unlink(root, name)?;
        let status = status?;
        debug_assert_eq!(status.kind, FileKind::File);
        Ok(Self { uid: status.uid, gid: status.gid, exact_mode: status.mode == 0o777 })
    }

    fn is_owned_by(&self, owner: Owner) -> bool {
        self.uid == owner.uid && self.gid == owner.gid
    }
}

fn copy_data(archive: &mut Archive<impl BufRead>, mut file: &File, size: u64, path: &EntryPath) -> Result<(), Error> {
    let mut left = size;
    while left > 0 {
        let data = archive.data(left)?;
        let length = data.len();
        file.write_all(data).map_err(Error::io("write", path))?;
        archive.consume(length);
        left -= length as u64;
    }
    Ok(())
}

fn copy_piece(
    archive: &mut Archive<impl BufRead>,
    file: &File,
    mut offset: u64,
    length: u64,
    path: &EntryPath,
) -> Result<(), Error> {
    let end = offset + length;
    while offset < end {
        let data = archive.data(end - offset)?;
        let length = data.len();
        file.write_all_at(data, offset).map_err(Error::io("write", path))?;
        archive.consume(length);
        offset += length as u64;
    }
    Ok(())
}

fn not_owned(path: &EntryPath, owner: Owner, error: io::Error) -> Error {
    // chown(2), "EINVAL": this user namespace maps no such id.
    if is(&error, Errno::INVAL) {
        Error::entry(path, Problem::NotMapped { uid: owner.uid, gid: owner.gid })
    } else {
        Error::io("set the owner of", path)(error)
    }
}
