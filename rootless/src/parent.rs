//! A user namespace that no container is in, for the user namespaces of containers to be made below.
//!
//! newuidmap(1) and newgidmap(1) take longer than all else of a start. Whoever is in a user namespace with a user's
//! ids can map them further without these helpers. So a supervisor that has lived for a while makes such a namespace
//! and offers it to the others of its user, for as long as it lives:
//!
//! ```text
//! the user's namespace
//! ├─ container             the first one: by newuidmap and newgidmap
//! └─ parent                held open by that one's supervisor; here are the others' supervisors
//!    ├─ container          the next ones
//!    └─ container
//! ```
//!
//! A monitor, which is in a user namespace of its own, offers that one. Who starts a container below goes there itself,
//! with that container's supervision, which changes little for it: its user is the same.
//!
//! Containers are siblings: below one container's namespace, another's root would be under the first one's root. As
//! siblings neither has a capability in the other, for which it would have to be in the parent, where nothing of a
//! container ever is (user_namespaces(7), "Capabilities").

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rbox_sys::clone::{self, Forked, Namespaces};
use rbox_sys::flock::{self, Mode};
use rbox_sys::process;

use crate::{Error, Identity, MapWriter};

/// A user namespace with all ids of an identity and no container.
#[derive(Debug)]
pub struct Parent {
    namespace: File,
}

/// Others of this user find the namespace while this lives.
#[derive(Debug)]
pub struct Offer {
    _parent: Parent,
    _lock: File,
}

impl Parent {
    /// Makes one, with the helpers' help. Needs a process of one thread.
    pub fn make(identity: &Identity) -> Result<Self, Error> {
        let failed = |operation| move |source| Error::Parent { operation, source };
        let (until, held) = io::pipe().map_err(failed("make a pipe for"))?;
        let child = match clone::fork_into(Namespaces::USER).map_err(Error::Userns)? {
            Forked::Parent(child) => child,
            Forked::Child => {
                drop(held);
                // Until the pipe is closed, be it by the death of the other side.
                let _ = (&until).read(&mut [0]);
                process::exit_at_once(0)
            }
        };
        // In a monitor, whose pid namespace is its own; /proc is the host's.
        let child = match process::proc_numbers_otherwise() {
            true => child.as_proc_numbers_it().map_err(failed("find"))?,
            false => child,
        };
        let made = MapWriter::begin(identity, child.pid())
            .and_then(MapWriter::finish)
            .and_then(|()| File::open(format!("/proc/{}/ns/user", child.pid())).map_err(failed("open")));
        drop(held);
        child.wait().map_err(failed("leave"))?;
        Ok(Self { namespace: made? })
    }

    /// The caller's own, of which it is the only process: a monitor's, which has all ids of its containers.
    pub fn own() -> io::Result<Self> {
        Ok(Self { namespace: File::open("/proc/self/ns/user")? })
    }

    /// The one that a living process offers at `path`. Whatever is not as it should be there: there is none.
    pub fn find(path: &Path) -> Option<Self> {
        let mut lock = File::open(path).ok()?;
        if flock::try_lock(&lock, Mode::Shared).ok()? {
            return None;
        }
        let mut text = String::new();
        lock.read_to_string(&mut text).ok()?;
        let mut words = text.split_whitespace();
        let (pid, number): (u32, u32) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let inode: u64 = words.next()?.parse().ok()?;
        let namespace = File::open(format!("/proc/{pid}/fd/{number}")).ok()?;
        // Namespaces are numbered across all pid namespaces: it is the one that the holder of the lock has written down.
        (namespace.metadata().ok()?.ino() == inode).then_some(Self { namespace })
    }

    /// Lets others find it at `path`; none where somebody offers one there already.
    pub fn offer(self, path: &Path) -> io::Result<Option<Offer>> {
        let Some(mut lock) = lock(path)? else { return Ok(None) };
        let process = process::number_in_proc()?;
        let (number, inode) = (self.namespace.as_raw_fd(), self.namespace.metadata()?.ino());
        let text = format!("{process} {number} {inode}\n");
        lock.set_len(0)?;
        lock.rewind()?;
        lock.write_all(text.as_bytes())?;
        Ok(Some(Offer { _parent: self, _lock: lock }))
    }

    /// Whether somebody offers one at `path`.
    pub fn is_offered(path: &Path) -> bool {
        File::open(path).is_ok_and(|lock| flock::try_lock(lock, Mode::Shared).is_ok_and(|free| !free))
    }

    /// Takes the calling process there, for good: from then on it is root of the ids, and its user still; it can write the
    /// maps of namespaces below. Needs a process of one thread.
    pub fn enter(&self) -> io::Result<()> {
        clone::enter(&self.namespace, Namespaces::USER)
    }
}

/// The lock at `path`, unless somebody has it.
fn lock(path: &Path) -> io::Result<Option<File>> {
    let lock = fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    Ok(flock::try_lock(&lock, Mode::Exclusive)?.then_some(lock))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_somebody_alive_offers_is_found() -> io::Result<()> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("parent");
        assert!(Parent::find(&path).is_none() && !Parent::is_offered(&path), "there is no file");
        let offer = Parent::own()?.offer(&path)?.expect("nobody else offers one");
        assert!(Parent::is_offered(&path));
        let found = Parent::find(&path).expect("offered");
        assert_eq!(found.namespace.metadata()?.ino(), fs::metadata("/proc/self/ns/user")?.ino());
        assert!(Parent::own()?.offer(&path)?.is_none(), "one is enough");
        drop(offer);
        assert!(Parent::find(&path).is_none() && !Parent::is_offered(&path), "the offer is gone, its text is not");

        let mut lock = lock(&path)?.expect("nobody has it");
        for text in ["", "1", "1 x 3", "0 0 0", &format!("{} 0 1\n", std::process::id())] {
            lock.set_len(0)?;
            lock.rewind()?;
            lock.write_all(text.as_bytes())?;
            assert!(Parent::find(&path).is_none(), "{text:?} is no offer");
        }
        Ok(())
    }
}
