//! Copying up: what is below, made once more in the upper layer before it is changed.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rbox_sys::stored::{self, NewTime, Rename, Stat, kind};
use rbox_sys::{Errno, at};

use super::layers::{Mark, UPPER};
use super::nodes::{Id, MadeOf, ROOT};
use super::numbers;
use super::view::{View, read};
use super::xattrs;
use crate::is;

/// So much is copied at a time where the kernel does not do it.
const PIECE: usize = 1 << 20;

impl View {
    /// Has a node in the upper layer, with the directories above it. Of a file only so many bytes, where that is given.
    pub(super) fn copy_up(&mut self, id: Id, length: Option<u64>) -> io::Result<()> {
        let node = self.nodes.get(id).ok_or(Errno::STALE)?;
        let from = node.made_of().top();
        if from == UPPER {
            return Ok(());
        }
        if let Some(left) = node.left().cloned() {
            return self.copy_left(id, &left, length);
        }
        let (parent, name) = node.name().ok_or(Errno::ROFS)?;
        let name = name.to_vec();
        // Whoever is copied up is below somebody who is, too.
        self.copy_up(parent, None)?;
        let source = self.directory(from, parent)?;
        let stat = stored::stat(source.as_fd(), &name)?;
        let target = self.directory(UPPER, parent)?;
        let (temporary, work) = self.temporary()?;
        let work = work.as_fd();
        let made = make_copy(source.as_fd(), &name, &stat, length, work, &temporary).and_then(|copy| {
            if let Some(copy) = copy.filter(|_| !self.volatile) {
                // A rename may reach the disk before what was renamed: then the file below would be hidden by an empty one.
                copy.sync_all()?;
            }
            if stat.links == 1 || stat.is_directory() {
                // Of several names of one file each becomes a file of its own.
                numbers::set_origin(work, &temporary, source.as_fd(), &name);
            }
            keep_parent_times(target.as_fd(), || {
                stored::rename(work, &temporary, target.as_fd(), &name, Rename::Replace)
            })
        });
        if let Err(error) = made {
            discard(work, &temporary, stat.is_directory());
            return Err(error);
        }
        self.is_up(id);
        self.relist(parent);
        if stat.links > 1 && !stat.is_directory() {
            // One of several names becomes a file of its own.
            let inode = stored::stat(target.as_fd(), &name)?.inode;
            self.nodes.show(id, inode);
        }
        Ok(())
    }

    /// What was removed below while somebody has it: into a file that has no name.
    fn copy_left(&mut self, id: Id, left: &Arc<OwnedFd>, length: Option<u64>) -> io::Result<()> {
        let stat = stored::stat_of(left)?;
        if stat.kind() != kind::FILE {
            // Whatever is done to it, nobody will see.
            return Err(Errno::NOENT.into());
        }
        let (temporary, work) = self.temporary()?;
        let work = work.as_fd();
        let copied = (|| -> io::Result<File> {
            let (from, to) = (stored::reopen(left.as_fd(), false)?, stored::create(work, &temporary, 0o600)?);
            copy_data(&from, &to, length.unwrap_or(stat.size))?;
            dress(left.as_fd(), b"", &stat, work, &temporary)?;
            Ok(to)
        })();
        at::unlink(work, &temporary)?;
        self.nodes.set_left(id, Arc::new(copied.map(OwnedFd::from)?));
        self.nodes.set_made_of(id, MadeOf::File(UPPER));
        self.reopen(id);
        Ok(())
    }

    /// It is in the upper layer now.
    fn is_up(&mut self, id: Id) {
        let Some(node) = self.nodes.get(id) else { return };
        let made_of = match node.made_of() {
            MadeOf::File(_) => MadeOf::File(UPPER),
            MadeOf::Directory(below) => {
                MadeOf::Directory(std::iter::once((UPPER, Mark::Plain)).chain(below.iter().copied()).collect())
            }
        };
        self.nodes.set_made_of(id, made_of);
        self.reopen(id);
        self.reopen_directory(id);
    }

    /// A name in the work directory that nobody has used.
    pub(super) fn temporary(&mut self) -> io::Result<(Vec<u8>, Arc<OwnedFd>)> {
        self.made += 1;
        Ok((format!("#{:x}", self.made).into_bytes(), self.layers.work()?.clone()))
    }

    /// Has a directory in the upper layer, and gives it.
    pub(super) fn upper(&mut self, id: Id) -> io::Result<Arc<OwnedFd>> {
        if id != ROOT {
            self.copy_up(id, None)?;
        }
        self.layers.work()?;
        self.directory(UPPER, id)
    }
}

/// What is made in the work directory and did not come to its place.
pub(super) fn discard(work: BorrowedFd<'_>, name: &[u8], is_directory: bool) {
    let _ = if is_directory { at::remove_dir(work, name) } else { at::unlink(work, name) };
}

/// That something was copied up is no change of the directory that it is in.
fn keep_parent_times(parent: BorrowedFd<'_>, act: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let stat = stored::stat_of(parent)?;
    act()?;
    stored::set_times(parent, b".", NewTime::At(stat.accessed), NewTime::At(stat.modified))
}

/// Copies a name, of a file only so many bytes where that is given; of a directory, not what is in it. Gives what data has
/// been copied to: nothing of that need be on the disk yet.
pub(super) fn make_copy(
    from: BorrowedFd<'_>,
    name: &[u8],
    stat: &Stat,
    length: Option<u64>,
    work: BorrowedFd<'_>,
    new: &[u8],
) -> io::Result<Option<File>> {
    let mut filled = None;
    match stat.kind() {
        kind::FILE => {
            let (source, copy) = (stored::open(from, name, false)?, stored::create(work, new, 0o600)?);
            let length = length.unwrap_or(stat.size).min(stat.size);
            copy_data(&source, &copy, length)?;
            filled = (length > 0).then_some(copy);
        }
        kind::DIRECTORY => at::make_dir(work, new, 0o700)?,
        kind::SYMLINK => at::make_symlink(&at::read_link(from, name)?, work, new)?,
        _ => stored::make(work, new, stat.mode & (kind::MASK | 0o600), stat.rdev)?,
    }
    dress(from, name, stat, work, new)?;
    Ok(filled)
}

/// Gives `new` the owner, extended attributes, mode and times of another one.
pub(super) fn dress(from: BorrowedFd<'_>, name: &[u8], stat: &Stat, to: BorrowedFd<'_>, new: &[u8]) -> io::Result<()> {
    // First, since its change takes set-id bits and capabilities away.
    stored::set_owner(to, new, Some(stat.uid), Some(stat.gid))?;
    xattrs::copy(from, name, to, new)?;
    if stat.kind() != kind::SYMLINK {
        at::set_mode(to, new, stat.mode & 0o7777)?;
    }
    stored::set_times(to, new, NewTime::At(stat.accessed), NewTime::At(stat.modified))
}

/// Copies data, and leaves holes as they are.
fn copy_data(from: &File, to: &File, length: u64) -> io::Result<()> {
    if length == from.metadata()?.len() && stored::share_blocks(from, to).is_ok() {
        return Ok(());
    }
    let mut position = 0;
    while position < length {
        let (start, end) = match stored::next_data(from, position) {
            Ok(start) => (start, stored::next_hole(from, start)?.min(length)),
            // ENXIO: nothing but a hole follows. Else the filesystem does not say, and all may be data.
            Err(error) if is(&error, Errno::NXIO) => break,
            Err(_) => (position, length),
        };
        copy_piece(from, to, start.min(length), end)?;
        position = end.max(start);
    }
    to.set_len(length)
}

fn copy_piece(from: &File, to: &File, mut position: u64, end: u64) -> io::Result<()> {
    while position < end {
        let length = (end - position).min(1 << 30) as usize;
        match stored::copy_range(from, position, to, position, length) {
            Ok(0) => return Ok(()),
            Ok(copied) => position += copied as u64,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Across filesystems, or one that cannot.
            Err(_) => return copy_by_hand(from, to, position, end),
        }
    }
    Ok(())
}

fn copy_by_hand(from: &File, to: &File, mut position: u64, end: u64) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    while position < end {
        let length = (end - position).min(PIECE as u64) as usize;
        let length = read(from, &mut piece[..length], position)?;
        if length == 0 {
            break;
        }
        to.write_all_at(&piece[..length], position)?;
        position += length as u64;
    }
    Ok(())
}
