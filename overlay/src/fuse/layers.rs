//! The directories that an overlay is made of.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rbox_sys::stored::{self, Stat, kind};
use rbox_sys::{Errno, dir};

use crate::OPAQUE;

/// The number of a layer: 0 is the upper one, whether there is one or not, and those below it follow.
pub(super) type Layer = u16;
/// The one that is written to.
pub(super) const UPPER: Layer = 0;

pub(super) use crate::WHITEOUT;

/// Open, and as it was asked for.
#[derive(Debug)]
pub struct Layers {
    /// Topmost first.
    lowers: Vec<OwnedFd>,
    upper: Option<Upper>,
}

#[derive(Debug)]
struct Upper {
    directory: OwnedFd,
    work: Arc<OwnedFd>,
}

/// A directory that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open {path}")]
pub struct OpenError {
    /// Which.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

impl Layers {
    /// `lowers` has the topmost layer first. Without `upper`, a directory to write to and one to work in, on the same
    /// filesystem, nothing can be written.
    pub fn open(lowers: &[PathBuf], upper: Option<(&Path, &Path)>) -> Result<Self, OpenError> {
        let open = |path: &Path| dir::open(path).map_err(|source| OpenError { path: path.into(), source });
        let upper = match upper {
            Some((directory, work)) => Some(Upper { directory: open(directory)?, work: open(work)?.into() }),
            None => None,
        };
        Ok(Self { lowers: lowers.iter().map(|path| open(path)).collect::<Result<_, _>>()?, upper })
    }

    /// Layers to be read, the topmost first.
    pub fn of(lowers: Vec<OwnedFd>) -> Self {
        Self { lowers, upper: None }
    }

    /// What is open.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let upper = self.upper.iter().flat_map(|upper| [upper.directory.as_fd(), upper.work.as_fd()]);
        self.lowers.iter().map(AsFd::as_fd).chain(upper)
    }

    /// Whether nothing can be written.
    pub fn are_read_only(&self) -> bool {
        self.upper.is_none()
    }

    /// All that there are, topmost first.
    pub(super) fn all(&self) -> impl Iterator<Item = Layer> {
        let lowers = (1..).take(self.lowers.len());
        self.upper.iter().map(|_| UPPER).chain(lowers)
    }

    pub(super) fn root(&self, layer: Layer) -> Option<BorrowedFd<'_>> {
        match layer {
            UPPER => self.upper.as_ref().map(|upper| upper.directory.as_fd()),
            lower => self.lowers.get(usize::from(lower) - 1).map(AsFd::as_fd),
        }
    }

    /// Where things are made that are not in their place yet.
    pub(super) fn work(&self) -> io::Result<&Arc<OwnedFd>> {
        Ok(self.upper.as_ref().map(|upper| &upper.work).ok_or(Errno::ROFS)?)
    }
}

/// What a directory of a layer says of itself by [`OPAQUE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Mark {
    /// Nothing.
    Plain,
    /// "y": what is below it is hidden.
    Opaque,
    /// "x": files in it may be whiteouts, by [`WHITEOUT`].
    HasWhiteouts,
}

impl Mark {
    /// Reads it; `name` is the directory in `dir`, or empty for that itself.
    pub(super) fn of(dir: BorrowedFd<'_>, name: &[u8]) -> Self {
        match stored::get_xattr(dir, name, OPAQUE).as_deref() {
            Ok(b"y") => Self::Opaque,
            Ok(b"x") => Self::HasWhiteouts,
            _ => Self::Plain,
        }
    }
}

/// Whether a name in a directory of this mark says that there is none.
pub(super) fn is_whiteout(dir: BorrowedFd<'_>, name: &[u8], stat: &Stat, mark: Mark) -> bool {
    let may_be_marked = mark == Mark::HasWhiteouts && stat.kind() == kind::FILE && stat.size == 0;
    stat.is_whiteout() || may_be_marked && stored::get_xattr(dir, name, WHITEOUT).is_ok()
}
