//! What the layers below show at a path, as overlayfs would merge them (kernel documentation, "Overlay Filesystem").

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rbox_sys::at::{self, Kind, Status};
use rbox_sys::{beneath, xattr};

use crate::path::EntryPath;
use crate::{Error, OPAQUE};

/// The layers below one, topmost first.
pub(super) struct Chain {
    roots: Vec<Rc<OwnedFd>>,
    /// The last directory looked into, with what it is made of: paths come in order, so the next is mostly in it too.
    last: Option<(EntryPath, Vec<Rc<OwnedFd>>)>,
}

/// What there is at a path.
pub(super) enum Found {
    /// Nothing, or it was removed.
    Nothing,
    /// This, in that directory of the topmost layer that has it. It has the path's last name there, or `.`.
    This { dir: Rc<OwnedFd>, status: Status },
    /// A component before the last is this symbolic link.
    Symlink(EntryPath),
}

impl Chain {
    /// The root directories, topmost layer first.
    pub(super) fn new(layers: &[BorrowedFd<'_>]) -> Result<Self, Error> {
        let mut roots = Vec::new();
        for layer in layers {
            let root = beneath::open_dir(*layer, b"").map_err(Error::io("open a layer below", &EntryPath::root()))?;
            let opaque = is_opaque(&root).map_err(Error::io("look at", &EntryPath::root()))?;
            roots.push(Rc::new(root));
            if opaque {
                break;
            }
        }
        Ok(Self { roots, last: None })
    }

    /// Looks at `path`.
    pub(super) fn look(&mut self, path: &EntryPath) -> Result<Found, Error> {
        if path.is_root() {
            let Some(root) = self.roots.first() else { return Ok(Found::Nothing) };
            let status = at::status_of(root.as_fd()).map_err(Error::io("look at", path))?;
            return Ok(Found::This { dir: Rc::clone(root), status });
        }
        let parent = path.parent();
        if self.last.as_ref().is_none_or(|(last, _)| *last != parent) {
            let mut merged = self.roots.clone();
            let mut begin = 0;
            for end in parent.prefix_lengths() {
                let name = &parent.as_bytes()[begin..end];
                begin = end + 1;
                let prefix = parent.prefix(end);
                merged = match merge(&merged, name).map_err(Error::io("look below at", &prefix))? {
                    Merged::Directory(layers) => layers,
                    Merged::Other(Kind::Symlink) => return Ok(Found::Symlink(prefix)),
                    Merged::Nothing | Merged::Other(..) => return Ok(Found::Nothing),
                };
            }
            self.last = Some((parent, merged));
        }
        let Some((_, layers)) = &self.last else { return Ok(Found::Nothing) };
        let (_, name) = path.split();
        for dir in layers {
            match at::status(dir.as_fd(), name) {
                Ok(status) if status.kind == Kind::Whiteout => break,
                Ok(status) => return Ok(Found::This { dir: Rc::clone(dir), status }),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::io("look below at", path)(error)),
            }
        }
        Ok(Found::Nothing)
    }
}

enum Merged {
    Nothing,
    /// The directories that it is made of, topmost first.
    Directory(Vec<Rc<OwnedFd>>),
    Other(Kind),
}

/// What the merged directory `layers` has under `name`.
fn merge(layers: &[Rc<OwnedFd>], name: &[u8]) -> io::Result<Merged> {
    let mut merged = Vec::new();
    for layer in layers {
        let status = match at::status(layer.as_fd(), name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other?,
        };
        match status.kind {
            Kind::Directory => {
                let dir = at::open_dir(layer.as_fd(), name)?;
                let opaque = is_opaque(&dir)?;
                merged.push(Rc::new(dir));
                if opaque {
                    break;
                }
            }
            Kind::Whiteout => break,
            // A file hides what is below it, and is itself hidden by a directory above.
            _ if merged.is_empty() => return Ok(Merged::Other(status.kind)),
            _ => break,
        }
    }
    Ok(if merged.is_empty() { Merged::Nothing } else { Merged::Directory(merged) })
}

fn is_opaque(dir: &OwnedFd) -> io::Result<bool> {
    Ok(xattr::get(dir.as_fd(), OPAQUE)?.as_deref() == Some(b"y"))
}
