//! What changes an overlay: in the upper layer, as one step or as one that looks like it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rbox_sys::listing::Listing;
use rbox_sys::stored::{self, NewTime, Rename, Stat, kind};
use rbox_sys::{Errno, at, node};

use super::copy_up::discard;
use super::layers::{Mark, UPPER, WHITEOUT, is_whiteout};
use super::nodes::{Id, MadeOf, ROOT};
use super::view::{Entry, Found, View};
use crate::{OPAQUE, is};

const DEFAULT_ACL: &[u8] = b"system.posix_acl_default";

/// What something new is to be.
#[derive(Debug, Clone, Copy)]
pub(super) enum New<'a> {
    Directory,
    Symlink(&'a [u8]),
    /// A file, device, fifo or socket; a device has numbers.
    Node(u64),
}

/// Whose it is to be, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owner {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// With type.
    pub(super) mode: u32,
    /// Applies where the directory has no default ACL (acl(5)).
    pub(super) umask: u32,
}

/// What is to become of attributes; nothing where none is given.
#[derive(Debug, Clone, Copy)]
pub(super) struct Changes {
    pub(super) mode: Option<u32>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) size: Option<u64>,
    pub(super) accessed: NewTime,
    pub(super) modified: NewTime,
}

impl View {
    /// Makes something that nobody sees by this name yet.
    pub(super) fn make(&mut self, parent: Id, name: &[u8], new: New<'_>, owner: Owner) -> io::Result<Entry> {
        if matches!(new, New::Node(0)) && owner.mode & kind::MASK == kind::CHARACTER {
            // Whoever makes one would find nothing there.
            return Err(Errno::PERM.into());
        }
        let directory = self.upper(parent)?;
        let directory = directory.as_fd();
        let owner = self.inherit(parent, new, owner)?;
        let covered = match stored::stat(directory, name) {
            Ok(stat) if is_whiteout(directory, name, &stat, self.upper_mark(parent)) => true,
            Ok(_) => return Err(Errno::EXIST.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(error),
        };
        // acl(5): then it says what may be done, and no mask.
        let default_acl = stored::get_xattr(directory, b"", DEFAULT_ACL).ok();
        let owner = Owner { umask: if default_acl.is_some() { 0 } else { owner.umask }, ..owner };
        if !covered {
            make(directory, name, new, owner)?;
        } else {
            let (temporary, work) = self.temporary()?;
            let nest = match &default_acl {
                Some(acl) => Some(Nest::make(work.as_fd(), &temporary, acl)?),
                None => None,
            };
            let work = nest.as_ref().map_or(work.as_fd(), |nest| nest.inside.as_fd());
            let is_directory = matches!(new, New::Directory);
            let made = make(work, &temporary, new, owner).and_then(|()| {
                if is_directory {
                    stored::set_xattr(work, &temporary, OPAQUE, b"y", 0)?;
                    stored::rename(work, &temporary, directory, name, Rename::Exchange)
                } else {
                    stored::rename(work, &temporary, directory, name, Rename::Replace)
                }
            });
            match made {
                Ok(()) if is_directory => discard(work, &temporary, false),
                Ok(()) => {}
                Err(error) => {
                    discard(work, &temporary, is_directory);
                    return Err(error);
                }
            }
        }
        self.relist(parent);
        let stat = stored::stat(directory, name)?;
        let made_of = match new {
            New::Directory => {
                let mark = if covered { Mark::Opaque } else { Mark::Plain };
                MadeOf::Directory([(UPPER, mark)].into())
            }
            _ => MadeOf::File(UPPER),
        };
        Ok(self.tell(parent, name, Found { made_of, stat, shown: stat.inode }))
    }

    /// A directory with the set-group-id bit hands its group down (inode(7)).
    fn inherit(&mut self, parent: Id, new: New<'_>, owner: Owner) -> io::Result<Owner> {
        let stat = self.attributes(parent)?;
        if stat.mode & 0o2000 == 0 {
            return Ok(owner);
        }
        let bit = if matches!(new, New::Directory) { 0o2000 } else { 0 };
        Ok(Owner { gid: stat.gid, mode: owner.mode | bit, ..owner })
    }

    /// Gives a file one more name.
    pub(super) fn link(&mut self, id: Id, parent: Id, name: &[u8]) -> io::Result<Entry> {
        self.copy_up(id, None)?;
        let directory = self.upper(parent)?;
        let directory = directory.as_fd();
        let node = self.nodes.get(id).ok_or(Errno::STALE)?;
        // linkat(2): what has no name any more gets none again, as the kernel's overlay has it.
        if node.left().is_some() {
            return Err(Errno::NOENT.into());
        }
        match self.at(id, UPPER, |dir, old| at::link(dir, old, directory, name)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if !is_whiteout(directory, name, &stored::stat(directory, name)?, self.upper_mark(parent)) {
                    return Err(error);
                }
                let (temporary, work) = self.temporary()?;
                let work = work.as_fd();
                self.at(id, UPPER, |dir, old| at::link(dir, old, work, &temporary))?;
                if let Err(error) = stored::rename(work, &temporary, directory, name, Rename::Replace) {
                    discard(work, &temporary, false);
                    return Err(error);
                }
            }
            other => other?,
        }
        let stat = stored::stat(directory, name)?;
        self.relist(parent);
        let shown = self.nodes.get(id).map_or(stat.inode, |node| node.shown());
        self.nodes.name(id, parent, name);
        self.nodes.tell(parent, name, MadeOf::File(UPPER), shown);
        Ok(Entry { id, stat: Stat { inode: shown, ..stat }, stays: true })
    }

    /// Removes a name that is no directory's.
    pub(super) fn unlink(&mut self, parent: Id, name: &[u8]) -> io::Result<()> {
        let found = self.find(parent, name)?;
        if found.made_of.is_directory() {
            return Err(Errno::ISDIR.into());
        }
        self.keep_what_is_left(parent, name, &found)?;
        self.take_away(parent, name, &found)
    }

    /// Removes a directory in which there is nothing.
    pub(super) fn remove_directory(&mut self, parent: Id, name: &[u8]) -> io::Result<()> {
        let found = self.find(parent, name)?;
        if !found.made_of.is_directory() {
            return Err(Errno::NOTDIR.into());
        }
        let entry = self.tell(parent, name, found.clone());
        let result = (|| {
            if !self.is_empty(entry.id)? {
                return Err(Errno::NOTEMPTY.into());
            }
            self.keep_what_is_left(parent, name, &found)?;
            self.take_away(parent, name, &found)
        })();
        self.forget(entry.id, 1);
        result
    }

    /// Has a name gone: from the upper layer, and from sight.
    fn take_away(&mut self, parent: Id, name: &[u8], found: &Found) -> io::Result<()> {
        let directory = self.upper(parent)?;
        let directory = directory.as_fd();
        let is_below = self.is_below(parent, name)?;
        let is_upper = found.made_of.top() == UPPER;
        let is_directory = found.made_of.is_directory();
        let aside = match (is_upper, is_below) {
            (false, _) => self.white_out(parent, directory, name, Rename::NoReplace)?,
            (true, true) => {
                let how = if is_directory { Rename::Exchange } else { Rename::Replace };
                self.white_out(parent, directory, name, how)?
            }
            (true, false) if is_directory => Some(self.set_aside(directory, name)?),
            (true, false) => {
                at::unlink(directory, name)?;
                None
            }
        };
        if let Some(aside) = aside {
            // Whiteouts may be left in it.
            remove_whiteouts(self.layers.work()?.as_fd(), &aside)?;
        }
        self.relist(parent);
        if let Some(id) = self.nodes.unname(parent, name) {
            self.reopen_directory(id);
            self.forget(id, 0);
        }
        Ok(())
    }

    /// What somebody may have open goes on being there for him.
    fn keep_what_is_left(&mut self, parent: Id, name: &[u8], found: &Found) -> io::Result<()> {
        let Some(id) = self.nodes.named(parent, name) else { return Ok(()) };
        let is_last = self.nodes.get(id).is_some_and(|node| node.has_one_name());
        if !is_last {
            return Ok(());
        }
        let layer = found.made_of.top();
        let directory = self.directory(layer, parent)?;
        let left: OwnedFd = match found.stat.kind() {
            // Under another name it is not known by, its inode may live on and be written to.
            kind::FILE => stored::open(directory.as_fd(), name, layer == UPPER)?.into(),
            _ => stored::open_path(directory.as_fd(), name)?,
        };
        self.nodes.set_left(id, Arc::new(left));
        Ok(())
    }

    /// Gives something another name.
    pub(super) fn rename(
        &mut self,
        parent: Id,
        name: &[u8],
        new_parent: Id,
        new_name: &[u8],
        how: Rename,
    ) -> io::Result<()> {
        let found = self.find(parent, name)?;
        let target = match self.find(new_parent, new_name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            other => Some(other?),
        };
        match (how, &target) {
            (Rename::NoReplace, Some(_)) => return Err(Errno::EXIST.into()),
            (Rename::Exchange, None) => return Err(Errno::NOENT.into()),
            _ => {}
        }
        // What a directory has below the upper layer would have to be copied, or pointed to: EXDEV, and mv(1) copies.
        let stays = |found: &Found| found.made_of.is_directory() && !found.made_of.is_upper_alone();
        if stays(&found) || how == Rename::Exchange && target.as_ref().is_some_and(stays) {
            return Err(Errno::XDEV.into());
        }
        let held = [(parent, name, Some(&found)), (new_parent, new_name, target.as_ref())];
        let mut told = Vec::new();
        for (parent, name, found) in held {
            if let Some(found) = found {
                told.push(self.tell(parent, name, found.clone()).id);
            }
        }
        let result = self.rename_told(&told, (parent, name, &found), (new_parent, new_name, target.as_ref()), how);
        told.into_iter().for_each(|id| self.forget(id, 1));
        result
    }

    fn rename_told(
        &mut self,
        told: &[Id],
        (parent, name, found): (Id, &[u8], &Found),
        (new_parent, new_name, target): (Id, &[u8], Option<&Found>),
        how: Rename,
    ) -> io::Result<()> {
        let [id, rest @ ..] = told else { return Err(Errno::NOENT.into()) };
        let (id, target_id) = (*id, rest.first().copied());
        if target_id == Some(id) {
            // Two names of one file (rename(2)): nothing is done.
            return Ok(());
        }
        let exchanges = how == Rename::Exchange;
        let replaced = target.filter(|_| !exchanges);
        if let (Some(replaced), Some(target_id)) = (replaced, target_id) {
            match (found.made_of.is_directory(), replaced.made_of.is_directory()) {
                (true, false) => return Err(Errno::NOTDIR.into()),
                (false, true) => return Err(Errno::ISDIR.into()),
                (true, true) if !self.is_empty(target_id)? => return Err(Errno::NOTEMPTY.into()),
                _ => {}
            }
        }
        self.copy_up(id, None)?;
        if let Some(target_id) = target_id.filter(|_| exchanges) {
            self.copy_up(target_id, None)?;
        }
        let (from, to) = (self.upper(parent)?, self.upper(new_parent)?);
        let (from, to) = (from.as_fd(), to.as_fd());
        // Whatever is below where it comes from would show when it has gone.
        let uncovers = self.is_below(parent, name)?;
        self.close_to_below(id, from, name, new_parent)?;
        if exchanges {
            target_id.map_or(Ok(()), |id| self.close_to_below(id, to, new_name, parent))?;
            stored::rename(from, name, to, new_name, Rename::Exchange)?;
        } else {
            if let Some(replaced) = replaced {
                self.keep_what_is_left(new_parent, new_name, replaced)?;
            }
            self.move_over((parent, from, name), (new_parent, to, new_name), found.made_of.is_directory(), uncovers)?;
        }
        self.relist(parent);
        self.relist(new_parent);
        let there = self.nodes.unname(new_parent, new_name);
        self.nodes.unname(parent, name);
        self.nodes.name(id, new_parent, new_name);
        match there {
            Some(there) if exchanges => self.nodes.name(there, parent, name),
            Some(gone) => {
                self.reopen_directory(gone);
                self.forget(gone, 0);
            }
            None => {}
        }
        Ok(())
    }

    /// Renames within the upper layer, over whatever is there, and leaves a whiteout where that is needed.
    fn move_over(
        &mut self,
        (parent, from, name): (Id, BorrowedFd<'_>, &[u8]),
        (new_parent, to, new_name): (Id, BorrowedFd<'_>, &[u8]),
        is_directory: bool,
        uncovers: bool,
    ) -> io::Result<()> {
        let there = match stored::stat(to, new_name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            other => Some(other?),
        };
        match there {
            // A directory takes the place of nothing but an empty one: what is there, a whiteout or a directory that has
            // whiteouts, changes places with it first, and is then what is in the way.
            Some(there) if is_directory => {
                stored::rename(from, name, to, new_name, Rename::Exchange)?;
                if is_whiteout(from, name, &there, self.upper_mark(new_parent)) && uncovers {
                    return Ok(());
                }
                let aside = match uncovers {
                    true => self.white_out(parent, from, name, Rename::Exchange)?,
                    false => Some(self.set_aside(from, name)?),
                };
                let (work, aside) = (self.layers.work()?.as_fd(), aside.unwrap_or_default());
                if there.is_directory() { remove_whiteouts(work, &aside) } else { at::unlink(work, &aside) }
            }
            _ if uncovers => match stored::rename(from, name, to, new_name, Rename::Whiteout) {
                // The filesystem has no such thing, or makes no whiteouts.
                Err(error) if is(&error, Errno::INVAL) || is(&error, Errno::PERM) => {
                    let aside = self.white_out(parent, from, name, Rename::Exchange)?.unwrap_or_default();
                    stored::rename(self.layers.work()?.as_fd(), &aside, to, new_name, Rename::Replace)
                }
                other => other,
            },
            _ => stored::rename(from, name, to, new_name, Rename::Replace),
        }
    }

    /// A directory that comes into another one shows nothing of what layers below have, or will have, in its new place.
    fn close_to_below(&mut self, id: Id, dir: BorrowedFd<'_>, name: &[u8], new_parent: Id) -> io::Result<()> {
        let is_merged = self.nodes.get(new_parent).is_some_and(|parent| parent.made_of().layers().len() > 1);
        let is_upper_directory = self.nodes.get(id).is_some_and(|node| is_upper_directory(node.made_of()));
        if is_merged && is_upper_directory {
            stored::set_xattr(dir, name, OPAQUE, b"y", 0)?;
            self.set_upper_mark(id, Mark::Opaque);
        }
        Ok(())
    }

    /// What a directory says of itself in the upper layer.
    fn upper_mark(&self, id: Id) -> Mark {
        let layers = self.nodes.get(id).map_or(&[][..], |node| node.made_of().layers());
        layers.first().filter(|(layer, _)| *layer == UPPER).map_or(Mark::Plain, |(_, mark)| *mark)
    }

    /// It says something else of itself there now.
    fn set_upper_mark(&mut self, id: Id, mark: Mark) {
        let Some(mut made_of) = self.nodes.get(id).map(|node| node.made_of().clone()) else { return };
        if let MadeOf::Directory(layers) = &mut made_of
            && let Some((UPPER, known)) = layers.first_mut()
        {
            *known = mark;
            self.nodes.set_made_of(id, made_of);
        }
    }

    /// Takes a name of the upper layer's into the work directory; gives what it is called there.
    fn set_aside(&mut self, dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<Vec<u8>> {
        let (temporary, work) = self.temporary()?;
        stored::rename(dir, name, work.as_fd(), &temporary, Rename::NoReplace)?;
        Ok(temporary)
    }

    /// Has a name in the upper layer say that there is none. Gives what was there, where that is exchanged for it: its name in
    /// the work directory.
    fn white_out(&mut self, parent: Id, dir: BorrowedFd<'_>, name: &[u8], how: Rename) -> io::Result<Option<Vec<u8>>> {
        let (temporary, work) = self.temporary()?;
        let work = work.as_fd();
        match node::make_whiteout(work, &temporary) {
            // The upper layer is itself on an overlay, which makes none (ovl_mknod()): the other kind, and the directory says
            // that it has some.
            Err(error) if is(&error, Errno::PERM) => {
                drop(stored::create(work, &temporary, 0)?);
                let marked = stored::set_xattr(work, &temporary, WHITEOUT, b"y", 0)
                    .and_then(|()| stored::set_xattr(dir, b"", OPAQUE, b"x", 0));
                if let Err(error) = marked {
                    discard(work, &temporary, false);
                    return Err(error);
                }
                self.set_upper_mark(parent, Mark::HasWhiteouts);
            }
            other => other?,
        }
        if let Err(error) = stored::rename(work, &temporary, dir, name, how) {
            discard(work, &temporary, false);
            return Err(error);
        }
        Ok((how == Rename::Exchange).then_some(temporary))
    }

    /// Changes attributes; gives them as they are then.
    pub(super) fn change(&mut self, id: Id, changes: &Changes) -> io::Result<Stat> {
        match changes.size {
            // What is cut off need not be copied.
            Some(size) if id != ROOT => self.copy_up(id, Some(size))?,
            _ => self.copy_up_any(id)?,
        }
        if let Some(size) = changes.size {
            self.file(id, true)?.set_len(size)?;
        }
        if let Some(left) = self.nodes.get(id).and_then(|node| node.left().cloned()) {
            change_open(&left, changes)?;
        } else {
            self.at(id, UPPER, |dir, name| change_named(dir, if name.is_empty() { b"." } else { name }, changes))?;
        }
        self.attributes(id)
    }
}

fn is_upper_directory(made_of: &MadeOf) -> bool {
    matches!(made_of.layers(), [(UPPER, _), ..])
}

fn change_named(dir: BorrowedFd<'_>, name: &[u8], changes: &Changes) -> io::Result<()> {
    if changes.uid.is_some() || changes.gid.is_some() {
        stored::set_owner(dir, name, changes.uid, changes.gid)?;
    }
    if let Some(mode) = changes.mode {
        at::set_mode(dir, name, mode & 0o7777)?;
    }
    if (changes.accessed, changes.modified) != (NewTime::Same, NewTime::Same) {
        stored::set_times(dir, name, changes.accessed, changes.modified)?;
    }
    Ok(())
}

fn change_open(left: &OwnedFd, changes: &Changes) -> io::Result<()> {
    if changes.uid.is_some() || changes.gid.is_some() {
        stored::set_owner_of(left.as_fd(), changes.uid, changes.gid)?;
    }
    if let Some(mode) = changes.mode {
        at::set_mode_of(left.as_fd(), mode & 0o7777)?;
    }
    if (changes.accessed, changes.modified) != (NewTime::Same, NewTime::Same) {
        stored::set_times_of(left, changes.accessed, changes.modified)?;
    }
    Ok(())
}

/// A directory in the work directory that hands down what another one does. It goes when this is dropped.
struct Nest<'a> {
    work: BorrowedFd<'a>,
    name: Vec<u8>,
    inside: OwnedFd,
}

impl<'a> Nest<'a> {
    fn make(work: BorrowedFd<'a>, name: &[u8], default_acl: &[u8]) -> io::Result<Self> {
        at::make_dir(work, name, 0o700)?;
        let nest = Self { work, name: name.to_vec(), inside: at::open_dir_path(work, name)? };
        stored::set_xattr(work, name, DEFAULT_ACL, default_acl, 0)?;
        Ok(nest)
    }
}

impl Drop for Nest<'_> {
    fn drop(&mut self) {
        let _ = at::remove_dir(self.work, &self.name);
    }
}

/// Makes something in the place where it is to be, or in the work directory.
fn make(dir: BorrowedFd<'_>, name: &[u8], new: New<'_>, owner: Owner) -> io::Result<()> {
    let Owner { uid, gid, mode, umask } = owner;
    let permissions = mode & 0o7777;
    match new {
        New::Symlink(target) => {
            at::make_symlink(target, dir, name)?;
            return take_over(dir, name, uid, gid);
        }
        New::Directory => at::make_dir(dir, name, permissions & !umask)?,
        New::Node(rdev) => stored::make(dir, name, mode & (kind::MASK | (0o7777 & !umask)), rdev)?,
    }
    take_over(dir, name, uid, gid)?;
    if permissions & 0o7000 != 0 {
        // Not by mkdir(2), and not through a change of owner. A default ACL may have taken others away.
        let others = stored::stat(dir, name)?.mode & 0o777;
        at::set_mode(dir, name, permissions & 0o7000 | others)?;
    }
    Ok(())
}

/// Somebody else's than this process's.
fn take_over(dir: BorrowedFd<'_>, name: &[u8], uid: u32, gid: u32) -> io::Result<()> {
    if (uid, gid) == (0, 0) { Ok(()) } else { stored::set_owner(dir, name, Some(uid), Some(gid)) }
}

/// Removes what a server that was killed has left in its work directory.
pub(super) fn clear(work: BorrowedFd<'_>) -> io::Result<()> {
    for entry in Listing::new(at::open_dir(work, b".")?)? {
        let entry = entry?;
        match entry.name.to_bytes() {
            // "work" is the kernel overlay's.
            name if !name.starts_with(b"#") && name != b"work" => {}
            name if entry.is_directory => crate::remove_tree(work, name)?,
            name => at::unlink(work, name)?,
        }
    }
    Ok(())
}

/// A directory of the work directory that has nothing in it but whiteouts.
fn remove_whiteouts(work: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    let directory = at::open_dir(work, name)?;
    for entry in Listing::new(at::open_dir(directory.as_fd(), b".")?)? {
        at::unlink(directory.as_fd(), entry?.name.to_bytes())?;
    }
    at::remove_dir(work, name)
}
