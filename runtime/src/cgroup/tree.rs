//! A cgroup with all those below it, which the container may have made and may be changing.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rbox_sys::listing::Listing;
use rbox_sys::{Errno, at, beneath, cgroup};

/// Calls `enter` for the cgroup and for each one below it, before those further below; and, for all but the first,
/// `leave` with the one above it and its name, after those further below.
///
/// However deep a container nests its cgroups, this has but a few descriptors open, and no path of its making.
fn walk(
    top: BorrowedFd<'_>,
    mut enter: impl FnMut(BorrowedFd<'_>) -> io::Result<()>,
    mut leave: impl FnMut(BorrowedFd<'_>, &CString) -> io::Result<()>,
) -> io::Result<()> {
    let mut here = cgroup::open(top, "")?;
    enter(here.as_fd())?;
    let mut pending = vec![children(&here)?];
    let mut names: Vec<CString> = Vec::new();
    while let Some(siblings) = pending.last_mut() {
        if let Some(name) = siblings.pop() {
            match beneath::open_dir_here(here.as_fd(), name.to_bytes()) {
                Ok(child) => {
                    here = child;
                    enter(here.as_fd())?;
                    pending.push(children(&here)?);
                    names.push(name);
                }
                Err(error) if is_gone(&error) => {}
                Err(error) => return Err(error),
            }
        } else {
            pending.pop();
            if let Some(name) = names.pop() {
                here = cgroup::open_parent(here.as_fd())?;
                leave(here.as_fd(), &name)?;
            }
        }
    }
    Ok(())
}

pub(super) fn children(dir: &OwnedFd) -> io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Listing::new(cgroup::open(dir.as_fd(), "")?)? {
        match entry {
            Ok(entry) if entry.is_directory => names.push(entry.name),
            Ok(_) => {}
            Err(error) if is_gone(&error) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(names)
}

/// Whether there are cgroups below this one.
pub(super) fn has_children(dir: &OwnedFd) -> io::Result<bool> {
    Ok(!children(dir)?.is_empty())
}

/// The processes of the cgroup and of those below it, as this pid namespace numbers them.
pub(super) fn processes(top: BorrowedFd<'_>) -> io::Result<BTreeSet<u32>> {
    let mut pids = BTreeSet::new();
    let gather = |dir: BorrowedFd<'_>| {
        match read(dir, "cgroup.procs") {
            // 0: of a pid namespace that cannot be seen from here.
            Ok(text) => pids.extend(text.lines().filter_map(|line| line.parse().ok()).filter(|pid: &u32| *pid != 0)),
            // A threaded cgroup (cgroups(7)): its processes are listed by the one where the threads' tree begins.
            Err(error) if error.raw_os_error() == Some(Errno::OPNOTSUPP.raw_os_error()) || is_gone(&error) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    };
    walk(top, gather, |_, _| Ok(()))?;
    Ok(pids)
}

/// The cgroup that has this process: this one or one below it.
pub(super) fn find(top: BorrowedFd<'_>, pid: u32) -> io::Result<Option<OwnedFd>> {
    let mut found = None;
    let look = |dir: BorrowedFd<'_>| {
        let listed = |text: String| text.lines().any(|line| line.parse() == Ok(pid));
        if found.is_none() && read(dir, "cgroup.procs").is_ok_and(listed) {
            found = Some(dir.try_clone_to_owned()?);
        }
        Ok(())
    };
    walk(top, look, |_, _| Ok(()))?;
    Ok(found)
}

/// Removes all cgroups below this one. EBUSY: one still has processes.
pub(super) fn remove_children(top: BorrowedFd<'_>) -> io::Result<()> {
    walk(top, |_| Ok(()), |parent, name| remove(parent, name.to_bytes()))
}

/// Removes a cgroup; that it is not there is no error.
pub(super) fn remove(parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    at::remove_dir(parent, name).or_else(|error| if is_gone(&error) { Ok(()) } else { Err(error) })
}

/// The whole of a cgroup's file.
pub(super) fn read(dir: BorrowedFd<'_>, name: &str) -> io::Result<String> {
    let mut text = String::new();
    at::open_file(dir, name.as_bytes())?.read_to_string(&mut text)?;
    Ok(text)
}

/// ENODEV: the file was open when its cgroup was removed.
pub(super) fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(Errno::NODEV.raw_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn processes_are_gathered_from_all_levels() {
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let mut dir = temporary.path().to_owned();
        for depth in 1..40 {
            fs::write(dir.join("cgroup.procs"), format!("{depth}\n{}\n0\n", depth + 1000)).expect("write");
            fs::create_dir(dir.join("beside")).expect("mkdir");
            dir.push("below");
            fs::create_dir(&dir).expect("mkdir");
        }
        let top = fs::File::open(temporary.path()).expect("open");
        let found = processes(top.as_fd()).expect("processes");
        assert_eq!(found, (1..40).chain(1001..1040).collect());
    }

    #[test]
    fn however_deep_it_is_removed() {
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let top = fs::File::open(temporary.path()).expect("open");
        // Longer than any path that the kernel takes, and more levels than descriptors.
        let mut dir = cgroup::open(top.as_fd(), "").expect("open");
        for _ in 0..2000 {
            at::make_dir(dir.as_fd(), b"below", 0o755).expect("mkdir");
            dir = at::open_dir(dir.as_fd(), b"below").expect("open");
        }
        remove_children(top.as_fd()).expect("removed");
        assert_eq!(fs::read_dir(temporary.path()).expect("read").count(), 0);
    }
}
