//! A cgroup above the caller's own that is his to divide.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rbox_sys::flock::{self, Mode};
use rbox_sys::{at, cgroup, ids, xattr};

use super::mount::{self, Mount};
use super::{display, tree};

/// What there is of the caller's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Delegated {
    /// This one, without a leading `/`, has no processes of its own, and can be given cgroups below it.
    Free(String),
    /// This one, with a leading `/`, is the caller's own, and holds him: it can give no controllers to others below it
    /// (EBUSY; cgroups(7), "no internal processes").
    HoldsCaller(String),
    /// None is.
    None,
}

/// The marks of systemd's on what it has delegated: for root, and since version 251 for everybody (CGROUP_DELEGATION.md).
const MARKS: [&[u8]; 2] = [b"user.delegate", b"trusted.delegate"];

/// The child by which a service manager's own cgroup is known: it sits in there, and what is beside it is its own to manage.
const OF_MANAGER: &str = "init.scope";

impl Delegated {
    /// Looks for the nearest one above this process.
    pub(crate) fn of_caller() -> Self {
        Mount::find().map_or(Self::None, |mount| Self::find(&mount))
    }

    /// A manager has marked it; or, where that is no systemd, it is the outermost that belongs to
    /// this user, or all that an outer container has.
    fn find(mount: &Mount) -> Self {
        let Some(own) = &mount.place else { return Self::None };
        let mut owned = None;
        let mut path = own.as_str();
        loop {
            let Ok(dir) = cgroup::open(mount.dir.as_fd(), path) else { break };
            // A manager's is nobody else's to divide, and what it has put below stays there.
            if cgroup::open(dir.as_fd(), OF_MANAGER).is_ok() {
                return Self::None;
            }
            if is_marked(&dir) {
                owned = Some((path, dir));
                break;
            }
            match is_owned(&dir, path) {
                Ok(true) => owned = Some((path, dir)),
                _ => break,
            }
            match path.rsplit_once('/') {
                Some((above, _)) => path = above,
                None if path.is_empty() => break,
                None => path = "",
            }
        }
        let Some((path, dir)) = owned else { return Self::None };
        // The host's own, which has no type.
        if at::status(dir.as_fd(), b"cgroup.type").is_err() {
            return Self::None;
        }
        let has_processes = || tree::read(dir.as_fd(), "cgroup.procs").map_or(true, |text| !text.is_empty());
        match () {
            () if has_processes() && path == own => Self::HoldsCaller(display(path)),
            () if has_processes() || !may_divide(&dir) => Self::None,
            () => Self::Free(path.to_owned()),
        }
    }
}

fn is_marked(dir: &OwnedFd) -> bool {
    MARKS.iter().any(|mark| matches!(xattr::get(dir.as_fd(), mark), Ok(Some(value)) if value == b"1"))
}

/// Root owns every cgroup of the host: only the outermost that an outer container has is his alone.
fn is_owned(dir: &OwnedFd, path: &str) -> io::Result<bool> {
    if ids::is_root_of_host() && !path.is_empty() {
        return Ok(true);
    }
    Ok(at::status_of(dir.as_fd())?.uid == ids::uid())
}

fn may_divide(dir: &OwnedFd) -> bool {
    [".", "cgroup.procs", "cgroup.subtree_control"].iter().all(|name| cgroup::may_write(dir.as_fd(), name).is_ok())
}

/// Whether there could be one, by a glance: nothing is above the outermost cgroup.
pub(crate) fn may_be_delegated() -> bool {
    let own = std::fs::read_to_string("/proc/thread-self/cgroup").unwrap_or_default();
    mount::v2_path(&own).is_some_and(|path| path.len() > 1)
}

/// Removes the empty cgroups below this one whose names begin so and which nobody holds (flock(2)). Gives how many.
pub(crate) fn remove_left(parent: &str, prefix: &str) -> usize {
    let Ok(mount) = Mount::find() else { return 0 };
    let Ok(dir) = cgroup::open(mount.dir.as_fd(), parent) else { return 0 };
    let left = |name: &&std::ffi::CString| {
        let name = name.to_string_lossy();
        let free = || {
            let held = cgroup::open(dir.as_fd(), &name)?;
            flock::try_lock(&held, Mode::Exclusive)
        };
        name.starts_with(prefix) && free().unwrap_or(false)
    };
    let names = tree::children(&dir).unwrap_or_default();
    let removed = |name: &&std::ffi::CString| at::remove_dir(dir.as_fd(), name.to_bytes()).is_ok();
    names.iter().filter(left).filter(removed).count()
}
