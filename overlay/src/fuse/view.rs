//! What the layers show together: names, attributes, data.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rbox_sys::Errno;
use rbox_sys::stored::{self, Space, Stat};

use super::cache::Cache;
use super::change;
use super::layers::{Layer, Layers, Mark, UPPER, is_whiteout};
use super::listing::Listing;
use super::nodes::{Id, MadeOf, Nodes, ROOT};
use super::numbers;
use crate::is;

/// So many directories stay open, and so many files.
const OPEN_DIRECTORIES: usize = 512;
const OPEN_FILES: usize = 256;
/// So many names in directories are remembered, or those of one directory.
const LISTED: usize = 1 << 15;

/// One overlay.
#[derive(Debug)]
pub(super) struct View {
    pub(super) layers: Layers,
    pub(super) nodes: Nodes,
    pub(super) listings: Cache<Id, Listing>,
    directories: Cache<(Layer, Id), Arc<OwnedFd>>,
    files: Cache<Id, Opened>,
    /// How many things were made in the work directory.
    pub(super) made: u64,
    /// Nothing need reach the disk.
    pub(super) volatile: bool,
}

#[derive(Debug, Clone)]
struct Opened {
    file: Arc<File>,
    writable: bool,
}

/// A node, and what is to be said of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) id: Id,
    /// As they are shown, with a number that may be another one than the node's.
    pub(super) stat: Stat,
    /// They are shown for as long as the kernel knows the node.
    pub(super) stays: bool,
}

/// What was found by a name, and where.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) made_of: MadeOf,
    /// Of the topmost.
    pub(super) stat: Stat,
    pub(super) shown: u64,
}

impl View {
    pub(super) fn new(layers: Layers, volatile: bool) -> io::Result<Self> {
        let mut made_of = Vec::new();
        for layer in layers.all() {
            let root = layers.root(layer).ok_or(Errno::NOENT)?;
            let mark = Mark::of(root, b"");
            made_of.push((layer, mark));
            if mark == Mark::Opaque {
                break;
            }
        }
        let top = made_of.first().and_then(|(layer, _)| layers.root(*layer)).ok_or(Errno::INVAL)?;
        let shown = stored::stat_of(top)?.inode;
        if let Ok(work) = layers.work() {
            change::clear(work.as_fd())?;
        }
        let nodes = Nodes::new(MadeOf::Directory(made_of.into()), shown);
        Ok(Self {
            layers,
            nodes,
            listings: Cache::new(LISTED),
            directories: Cache::new(OPEN_DIRECTORIES),
            files: Cache::new(OPEN_FILES),
            made: 0,
            volatile,
        })
    }

    /// A directory of one layer, open as a place.
    pub(super) fn directory(&mut self, layer: Layer, id: Id) -> io::Result<Arc<OwnedFd>> {
        if let Some(open) = self.directories.get((layer, id)) {
            return Ok(open.clone());
        }
        let open = if id == ROOT {
            rbox_sys::fd::duplicate(self.layers.root(layer).ok_or(Errno::NOENT)?)?
        } else {
            let node = self.nodes.get(id).ok_or(Errno::STALE)?;
            let (parent, name) = node.name().ok_or(Errno::NOENT)?;
            let name = name.to_vec();
            let parent = self.directory(layer, parent)?;
            rbox_sys::at::open_dir_path(parent.as_fd(), &name)?
        };
        let open = Arc::new(open);
        self.directories.put((layer, id), open.clone());
        Ok(open)
    }

    /// What a directory has by this name, in whichever layer; nothing is told of it.
    pub(super) fn find(&mut self, parent: Id, name: &[u8]) -> io::Result<Found> {
        self.find_from(UPPER, parent, name)
    }

    /// As [`find`](Self::find), where it is known that no layer above this one has it.
    fn find_from(&mut self, first: Layer, parent: Id, name: &[u8]) -> io::Result<Found> {
        let layers: Box<[(Layer, Mark)]> = self.nodes.get(parent).ok_or(Errno::STALE)?.made_of().layers().into();
        let (mut directories, mut top, mut shown) = (Vec::new(), None, None);
        for (layer, mark) in layers.into_iter().filter(|(layer, _)| *layer >= first) {
            let directory = self.directory(layer, parent)?;
            let stat = match stored::stat(directory.as_fd(), name) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other?,
            };
            if is_whiteout(directory.as_fd(), name, &stat, mark) {
                break;
            }
            if !stat.is_directory() {
                if top.is_some() {
                    break;
                }
                let origin = if layer == UPPER { numbers::origin(directory.as_fd(), name) } else { None };
                let shown = origin.unwrap_or(stat.inode);
                return Ok(Found { made_of: MadeOf::File(layer), stat, shown });
            }
            top.get_or_insert(stat);
            // As the kernel's overlay has it: of what is below the upper one, if anything is.
            if layer != UPPER {
                shown.get_or_insert(stat.inode);
            }
            let mark = Mark::of(directory.as_fd(), name);
            directories.push((layer, mark));
            if mark == Mark::Opaque {
                break;
            }
        }
        let stat = top.ok_or(Errno::NOENT)?;
        let made_of = MadeOf::Directory(directories.into());
        Ok(Found { made_of, stat, shown: shown.unwrap_or(stat.inode) })
    }

    /// Whether a name is in a layer below the upper one, so that it shows when it is gone from there.
    pub(super) fn is_below(&mut self, parent: Id, name: &[u8]) -> io::Result<bool> {
        let layers: Box<[(Layer, Mark)]> = self.nodes.get(parent).ok_or(Errno::STALE)?.made_of().layers().into();
        for (layer, mark) in layers.iter().filter(|(layer, _)| *layer != UPPER) {
            let directory = self.directory(*layer, parent)?;
            match stored::stat(directory.as_fd(), name) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => return Ok(!is_whiteout(directory.as_fd(), name, &other?, *mark)),
            }
        }
        Ok(false)
    }

    /// Looks a name up for the kernel.
    pub(super) fn look_up(&mut self, parent: Id, name: &[u8]) -> io::Result<Entry> {
        self.look_up_from(UPPER, parent, name)
    }

    /// As [`look_up`](Self::look_up), where it is known that no layer above this one has it.
    pub(super) fn look_up_from(&mut self, first: Layer, parent: Id, name: &[u8]) -> io::Result<Entry> {
        let found = self.find_from(first, parent, name)?;
        Ok(self.tell(parent, name, found))
    }

    pub(super) fn tell(&mut self, parent: Id, name: &[u8], found: Found) -> Entry {
        let Found { made_of, stat, shown } = found;
        let id = self.nodes.tell(parent, name, made_of, shown);
        let stat = self.nodes.get(id).map_or(stat, |node| seen(stat, node.made_of(), node.shown()));
        Entry { id, stat, stays: self.stays(id, &stat) }
    }

    /// Whether the attributes of a node change by nothing but what the kernel asks for. Of a lower file with several names each
    /// is a file of its own, with a number of its own, once it is copied up: by a write, too, of which the kernel does not
    /// know that.
    pub(super) fn stays(&self, id: Id, stat: &Stat) -> bool {
        stat.is_directory() || stat.links == 1 || self.is_upper(id)
    }

    pub(super) fn forget(&mut self, id: Id, times: u64) {
        for (id, made_of) in self.nodes.forget(id, times) {
            self.files.remove(id);
            self.listings.remove(id);
            for (layer, _) in made_of.layers() {
                self.directories.remove((*layer, id));
            }
        }
    }

    /// The attributes of a node.
    pub(super) fn attributes(&mut self, id: Id) -> io::Result<Stat> {
        let node = self.nodes.get(id).ok_or(Errno::STALE)?;
        let (made_of, shown) = (node.made_of().clone(), node.shown());
        let stat = match (node.left(), id) {
            (Some(left), _) => stored::stat_of(left)?,
            (None, ROOT) => stored::stat_of(self.layers.root(made_of.top()).ok_or(Errno::NOENT)?)?,
            (None, _) => self.at(id, made_of.top(), stored::stat)?,
        };
        Ok(seen(stat, &made_of, shown))
    }

    /// Does something to the name of a node in one of its layers. The root has an empty name.
    pub(super) fn at<T>(
        &mut self,
        id: Id,
        layer: Layer,
        act: impl FnOnce(BorrowedFd<'_>, &[u8]) -> io::Result<T>,
    ) -> io::Result<T> {
        if id == ROOT {
            return act(self.directory(layer, ROOT)?.as_fd(), b"");
        }
        let node = self.nodes.get(id).ok_or(Errno::STALE)?;
        let (parent, name) = node.name().ok_or(Errno::NOENT)?;
        let name = name.to_vec();
        act(self.directory(layer, parent)?.as_fd(), &name)
    }

    pub(super) fn read_link(&mut self, id: Id) -> io::Result<Vec<u8>> {
        let layer = self.nodes.get(id).ok_or(Errno::STALE)?.made_of().top();
        self.at(id, layer, rbox_sys::at::read_link)
    }

    /// A regular file, as it is now.
    pub(super) fn file(&mut self, id: Id, writable: bool) -> io::Result<Arc<File>> {
        if writable {
            self.copy_up(id, None)?;
        }
        if let Some(opened) = self.files.get(id).filter(|opened| opened.writable || !writable) {
            return Ok(opened.file.clone());
        }
        let node = self.nodes.get(id).ok_or(Errno::STALE)?;
        let layer = node.made_of().top();
        let file = match node.left() {
            Some(left) => stored::reopen(left.as_fd(), writable)?,
            None => self.at(id, layer, |dir, name| stored::open(dir, name, writable))?,
        };
        let file = Arc::new(file);
        self.files.put(id, Opened { file: file.clone(), writable });
        Ok(file)
    }

    /// What is open of it, and in which layers, is another one now.
    pub(super) fn reopen(&mut self, id: Id) {
        self.files.remove(id);
    }

    /// A directory of the upper layer was made, moved or removed.
    pub(super) fn reopen_directory(&mut self, id: Id) {
        self.directories.remove((UPPER, id));
    }

    /// What is to reach the disk of a file; nothing where nothing was written, or need be.
    pub(super) fn synced(&mut self, id: Id) -> io::Result<Option<Arc<File>>> {
        if self.must_last(id) { self.file(id, true).map(Some) } else { Ok(None) }
    }

    /// As [`synced`](Self::synced), of a directory.
    pub(super) fn synced_directory(&mut self, id: Id) -> io::Result<Option<File>> {
        if !self.must_last(id) {
            return Ok(None);
        }
        let place = self.directory(UPPER, id)?;
        Ok(Some(rbox_sys::at::open_dir(place.as_fd(), b".")?.into()))
    }

    fn must_last(&self, id: Id) -> bool {
        !self.volatile && self.is_upper(id)
    }

    /// Whether a node is in the upper layer.
    pub(super) fn is_upper(&self, id: Id) -> bool {
        self.nodes.get(id).is_some_and(|node| node.made_of().top() == UPPER)
    }

    pub(super) fn space(&mut self) -> io::Result<Space> {
        let top = self.layers.all().next().unwrap_or(UPPER);
        stored::space(self.layers.root(top).ok_or(Errno::NOENT)?)
    }
}

/// Reads from a file until the room is full or it ends.
pub(super) fn read(file: &File, room: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut length = 0;
    while length < room.len() {
        match file.read_at(&mut room[length..], offset + length as u64) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

/// As [`read`], where that has not to wait for a disk; none where it has. A filesystem that does not say so may wait.
pub(super) fn read_at_once(file: &File, room: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
    let mut length = 0;
    while length < room.len() {
        match stored::read_at_once(file, &mut room[length..], offset + length as u64) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) if is(&error, Errno::OPNOTSUPP) => return read(file, room, offset).map(Some),
            Err(error) => return Err(error),
        }
    }
    Ok(Some(length))
}

/// Whether data of a file seem to be in memory: their ends are, or there is no such thing as asking for it.
pub(super) fn is_in_memory(file: &File, offset: u64, size: usize) -> bool {
    let last = offset + (size as u64).saturating_sub(1);
    [offset, last].iter().all(|at| matches!(read_at_once(file, &mut [0], *at), Ok(Some(_))))
}

/// What is shown of attributes that are stored.
fn seen(stat: Stat, made_of: &MadeOf, shown: u64) -> Stat {
    // How many directories are in it nobody counts over all layers: as the kernel's overlay, 1 says that it is not known.
    let links = if made_of.layers().len() > 1 { 1 } else { stat.links };
    Stat { inode: shown, links, ..stat }
}
