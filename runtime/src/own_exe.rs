//! rbox's own executable, in a form that nobody can write through.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use rbox_sys::clone::{self, Forked, Namespaces};
use rbox_sys::mount::{self, Attributes};
use rbox_sys::socket::Channel;
use rbox_sys::{dir, memfd};
use rbox_types::IdMaps;

/// Whether no process with these ids can write the binary, with whatever power over the files of its ids.
///
/// What executes `/proc/self/exe` in a container is this binary on its mount of the host. Through that, root of a container
/// could write to it if it were his file, or one that others may write (CVE-2019-5736). To be asked outside: in a new user
/// namespace the kernel does not tell whose the file is.
pub(crate) fn is_out_of_reach(maps: &IdMaps) -> bool {
    /// Of the group and of others; where there is an access control list, the former stands for whatever it allows (acl(5)).
    const WRITABLE: u32 = 0o022;
    fs::metadata("/proc/self/exe").is_ok_and(|exe| maps.uid.inside(exe.uid()).is_none() && exe.mode() & WRITABLE == 0)
}

/// A descriptor to execute: a detached, read-only clone of the mount that the binary lies on.
///
/// /proc/self/exe refers to the mount of the namespace that this process came from, which cannot be cloned here, so
/// the path is opened in this namespace and must turn out to be the same file. Where that fails (the binary was
/// replaced or deleted, or its directory is out of reach) a sealed copy in memory serves as well and costs
/// milliseconds.
pub(crate) fn read_only() -> io::Result<OwnedFd> {
    clone_of_mount()
        .or_else(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => clone_by_a_child(),
            _ => Err(error),
        })
        .or_else(|_| {
            let content = fs::read("/proc/self/exe")?;
            memfd::sealed("rbox", &content)
        })
}

/// Who has no power over his own mount namespace has it over a copy, in a user namespace for just that.
fn clone_by_a_child() -> io::Result<OwnedFd> {
    let (ours, theirs) = Channel::pair()?;
    match clone::fork_into(Namespaces::USER.and(Namespaces::MOUNT))? {
        Forked::Child => {
            let sent = clone_of_mount().and_then(|clone| theirs.send(b"exe", &[clone.as_fd()]));
            std::process::exit(i32::from(sent.is_err()));
        }
        Forked::Parent(child) => {
            drop(theirs);
            let received = ours.receive(&mut [0; 3]);
            child.wait()?;
            received?.1.into_iter().next().ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
        }
    }
}

fn clone_of_mount() -> io::Result<OwnedFd> {
    let path = fs::read_link("/proc/self/exe")?;
    let clone = mount::clone_tree(dir::cwd(), &path, false)?;
    let (ours, theirs) = (fs::metadata("/proc/self/exe")?, File::from(clone.try_clone()?).metadata()?);
    if (ours.dev(), ours.ino()) != (theirs.dev(), theirs.ino()) {
        return Err(io::ErrorKind::NotFound.into());
    }
    let protect = Attributes::READ_ONLY.and(Attributes::NOSUID).and(Attributes::NODEV);
    mount::set_attributes(clone.as_fd(), protect, Attributes::default(), false)?;
    Ok(clone)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use rbox_types::IdMap;

    use super::*;

    #[test]
    fn who_could_write_the_binary() -> io::Result<()> {
        let exe = fs::metadata("/proc/self/exe")?;
        let of = |uid| is_out_of_reach(&IdMaps { uid: IdMap::single(uid), gid: IdMap::single(0) });
        assert!(!of(exe.uid()), "its owner, who is inside");
        let others = exe.permissions().mode() & 0o022;
        assert_eq!(of(exe.uid() + 1), others == 0);
        Ok(())
    }
}
