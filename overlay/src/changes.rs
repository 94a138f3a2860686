//! How the tree that an overlay shows differs from that of its layers, found by what is in its upper directory.
//!
//! The words are Docker's: a directory that is removed is told and what was in it is not; of what is made all is told; a
//! directory is changed if its mode or owner is, or if anything that is in it is.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rbox_sys::listing::Listing;
use rbox_sys::stored::{self, Stat, kind};
use rbox_sys::{Errno, at};
use serde::{Deserialize, Serialize};

use crate::path::shown;
use crate::{OPAQUE, WHITEOUT, is};

/// What happened to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChangeKind {
    /// It was not there.
    Added,
    /// It is another now.
    Changed,
    /// It is there no longer.
    Deleted,
}

/// A path that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// How.
    pub kind: ChangeKind,
    /// Bytes that begin with `/`.
    pub path: Vec<u8>,
}

/// Directories that stand in each other, each of which is kept open twice.
const DEEPEST: usize = 450;

/// Finds what the upper directory changes. `lower` is the tree that the layers show together. `all`: the upper one is no
/// overlay's, but all that there is, and what it lacks is deleted.
///
/// `mount_points` are paths at which empty files and directories are put, to mount something there: where they are such,
/// they are not told of.
pub fn changes(
    upper: BorrowedFd<'_>,
    all: bool,
    lower: BorrowedFd<'_>,
    mount_points: &[&str],
) -> io::Result<Vec<Change>> {
    let mut walk = Walk { found: Vec::new(), all, mount_points };
    let mut levels = vec![walk.level(at::open_dir(upper, b".")?, Some(at::open_dir(lower, b".")?), 0, None)?];
    let mut path = Vec::new();
    while let Some(level) = levels.last_mut() {
        path.truncate(level.path);
        let Some(name) = level.names.pop() else {
            let done = levels.pop();
            walk.close(done, &path);
            continue;
        };
        path.push(b'/');
        path.extend_from_slice(name.to_bytes());
        let (upper, lower) = (level.upper.as_fd(), level.lower.as_ref().map(AsFd::as_fd));
        if let Some(inner) = walk.one(upper, lower, name.to_bytes(), &path)? {
            if levels.len() >= DEEPEST {
                return Err(io::Error::other(format!("directories stand in each other more than {DEEPEST} deep")));
            }
            levels.push(inner);
        }
    }
    Ok(walk.found)
}

struct Walk<'a> {
    found: Vec<Change>,
    all: bool,
    mount_points: &'a [&'a str],
}

struct Level {
    upper: OwnedFd,
    /// What the layers have there; none where they have nothing, or where it is hidden.
    lower: Option<OwnedFd>,
    /// Those still to come, the next one last.
    names: Vec<CString>,
    path: usize,
    /// What is to be told of itself, and at which place, if anything that is in it is told.
    pending: Option<(usize, ChangeKind)>,
}

impl Walk<'_> {
    fn level(
        &self,
        upper: OwnedFd,
        lower: Option<OwnedFd>,
        path: usize,
        pending: Option<(usize, ChangeKind)>,
    ) -> io::Result<Level> {
        let list = |dir: BorrowedFd<'_>| -> io::Result<BTreeSet<CString>> {
            Listing::new(at::open_dir(dir, b".")?)?.map(|name| Ok(name?.name)).collect()
        };
        let mut names = list(upper.as_fd())?;
        // Of what an opaque directory hides nothing is left, whatever stands in its place.
        if (self.all || is_opaque(upper.as_fd()))
            && let Some(lower) = &lower
        {
            names.extend(list(lower.as_fd())?);
        }
        Ok(Level { upper, lower, names: names.into_iter().rev().collect(), path, pending })
    }

    /// Looks at one name of the upper directory, or of the lower one where the upper is opaque. Gives the directory that it
    /// is.
    fn one(
        &mut self,
        upper: BorrowedFd<'_>,
        lower: Option<BorrowedFd<'_>>,
        name: &[u8],
        path: &[u8],
    ) -> io::Result<Option<Level>> {
        let failed = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", shown(path)));
        let above = found(stored::stat(upper, name)).map_err(failed)?;
        let below = match lower {
            Some(lower) => found(stored::stat(lower, name)).map_err(failed)?,
            None => None,
        };
        let Some(above) = above.filter(|stat| !is_whiteout(upper, name, stat)) else {
            if below.is_some() {
                self.tell(ChangeKind::Deleted, path);
            }
            return Ok(None);
        };
        let change = match &below {
            None => Some(ChangeKind::Added),
            Some(below) => differ(&above, below).then_some(ChangeKind::Changed),
        };
        let change = match (change, lower) {
            (None, Some(lower)) if has_other_capabilities(upper, lower, name) => Some(ChangeKind::Changed),
            _ => change,
        };
        let mount_point = below.is_none() && self.mount_points.iter().any(|known| known.as_bytes() == path);
        if !above.is_directory() {
            let is_placed = mount_point && above.kind() == kind::FILE && above.size == 0;
            if let Some(change) = change.filter(|_| !is_placed) {
                self.tell(change, path);
            }
            return Ok(None);
        }
        let inner = at::open_dir(upper, name).map_err(failed)?;
        let hidden = match (lower, below) {
            (Some(lower), Some(below)) if below.is_directory() => Some(at::open_dir(lower, name).map_err(failed)?),
            _ => None,
        };
        let place = self.found.len();
        let pending = match change {
            Some(change) if !mount_point => {
                self.tell(change, path);
                None
            }
            Some(change) => Some((place, change)),
            None => Some((place, ChangeKind::Changed)),
        };
        self.level(inner, hidden, path.len(), pending).map(Some).map_err(failed)
    }

    fn tell(&mut self, kind: ChangeKind, path: &[u8]) {
        self.found.push(Change { kind, path: path.to_vec() });
    }

    /// All that is in a directory is told.
    fn close(&mut self, done: Option<Level>, path: &[u8]) {
        if let Some(Level { pending: Some((place, kind)), .. }) = done
            && self.found.len() > place
        {
            self.found.insert(place, Change { kind, path: path.to_vec() });
        }
    }
}

/// None where there is no such name.
fn found(stat: io::Result<Stat>) -> io::Result<Option<Stat>> {
    match stat {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        stat => stat.map(Some),
    }
}

/// Either of the two forms that overlayfs knows.
fn is_whiteout(upper: BorrowedFd<'_>, name: &[u8], stat: &Stat) -> bool {
    stat.is_whiteout()
        || stat.kind() == kind::FILE && stat.size == 0 && stored::get_xattr(upper, name, WHITEOUT).is_ok()
}

/// Whether a directory of the upper one hides all that is below (overlayfs with `userxattr`).
fn is_opaque(dir: BorrowedFd<'_>) -> bool {
    stored::get_xattr(dir, b"", OPAQUE).is_ok_and(|value| value == b"y")
}

/// As Docker compares: times and sizes are those of what is no directory.
fn differ(above: &Stat, below: &Stat) -> bool {
    let of = |stat: &Stat| (stat.mode, stat.uid, stat.gid, stat.rdev);
    let content = |stat: &Stat| (stat.size, stat.modified);
    of(above) != of(below) || !above.is_directory() && content(above) != content(below)
}

fn has_other_capabilities(upper: BorrowedFd<'_>, lower: BorrowedFd<'_>, name: &[u8]) -> bool {
    let of = |dir| match stored::get_xattr(dir, name, b"security.capability") {
        Err(error) if is(&error, Errno::NODATA) || is(&error, Errno::OPNOTSUPP) => None,
        value => value.ok(),
    };
    of(upper) != of(lower)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::path::Path;

    use super::*;

    fn told(directory: &Path) -> Vec<String> {
        let open = |name: &str| File::open(directory.join(name)).expect("a directory");
        let (upper, lower) = (open("upper"), open("lower"));
        let found = changes(upper.as_fd(), false, lower.as_fd(), &["/dev", "/etc/hosts"]).expect("compared");
        let kind = |kind| match kind {
            ChangeKind::Added => 'A',
            ChangeKind::Changed => 'C',
            ChangeKind::Deleted => 'D',
        };
        found.iter().map(|change| format!("{} {}", kind(change.kind), String::from_utf8_lossy(&change.path))).collect()
    }

    #[test]
    fn as_docker_tells_it() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let at = |name: &str| directory.path().join(name);
        for name in ["lower/same/inner", "lower/gone", "lower/hidden/x", "lower/etc"] {
            fs::create_dir_all(at(name)).expect("made");
        }
        fs::write(at("lower/file"), "old").expect("written");
        fs::write(at("lower/hidden/y"), "").expect("written");
        for name in ["upper/same/inner", "upper/hidden", "upper/new/a", "upper/dev", "upper/etc"] {
            fs::create_dir_all(at(name)).expect("made");
        }
        fs::write(at("upper/file"), "other").expect("written");
        fs::write(at("upper/new/a/b"), "").expect("written");
        fs::write(at("upper/etc/hosts"), "").expect("written");
        let open = File::open(at("upper")).expect("opened");
        rbox_sys::node::make_whiteout(open.as_fd(), b"gone").expect("made");
        fs::write(at("lower/removed"), "").expect("written");
        let removed = File::create(at("upper/removed")).expect("made");
        rbox_sys::xattr::set(removed.as_fd(), WHITEOUT, b"").expect("set");
        let hidden = File::open(at("upper/hidden")).expect("opened");
        rbox_sys::xattr::set(hidden.as_fd(), OPAQUE, b"y").expect("set");
        let wanted = [
            "C /file",
            "D /gone",
            "C /hidden",
            "D /hidden/x",
            "D /hidden/y",
            "A /new",
            "A /new/a",
            "A /new/a/b",
            "D /removed",
        ];
        assert_eq!(told(directory.path()), wanted);
        // What is put into a mount point is told, and the mount point then is.
        fs::write(at("upper/dev/null"), "text").expect("written");
        fs::write(at("upper/etc/hosts"), "text").expect("written");
        let more = ["A /dev", "A /dev/null", "C /etc", "A /etc/hosts"];
        let mut wanted: Vec<_> = wanted.iter().chain(&more).map(|line| line.to_string()).collect();
        wanted.sort_by(|one, other| one[2..].cmp(&other[2..]));
        assert_eq!(told(directory.path()), wanted);
    }
}
