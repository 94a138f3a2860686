//! The directories of a container's overlay, some of which one short-lived container leaves to the next.
//!
//! To make a directory, and to take it apart, costs a filesystem with a journal more than all else that a start has on the
//! disk; and in the overlay's own one, work, each mount makes three. So a container that goes away leaves that as it is, and
//! the next one cleans it up beside its own workload, and makes the next one's upper:
//!
//! ```text
//!            work      work.used     work.clean    upper     upper.next
//! made       mounted                               mounted             or taken over, by rename(2): work.clean, upper.next
//! runs       mounted   taken apart ─▶ clean        mounted   made
//! ended                used           clean                  empty     the directory waits (ContainerDir::recycle)
//! ```
//!
//! Nothing of a workload is ever in what is left: what it writes is in upper, and goes with it, and so does whatever else it
//! does to upper, not all of which could be undone. A mount that somebody still holds has its own directories of work open,
//! which are gone by name, and not those that the next mount makes.

use std::path::Path;
use std::{fs, io};

use rbox_overlay::kernel::remove_volatile_mark;

/// In a container's directory, what the workload has written.
pub(crate) const UPPER: &str = "upper";
/// The overlay's own.
pub(crate) const WORK: &str = "work";

const NEXT_UPPER: &str = "upper.next";
const USED: &str = "work.used";
const CLEAN: &str = "work.clean";

/// Those that the next container gets.
pub(crate) const LEFT: [&str; 3] = [NEXT_UPPER, USED, CLEAN];

/// Makes that which the workload writes to, or takes over one that nobody has had. It is the container's root directory, which
/// has the mode that the topmost layer gives it, and not what the caller's umask leaves of it.
pub(crate) fn make_upper(container: &Path, topmost: Option<&Path>) -> io::Result<()> {
    let upper = container.join(UPPER);
    fs::rename(container.join(NEXT_UPPER), &upper).or_else(|_| fs::create_dir(&upper))?;
    let wanted = topmost.map(fs::metadata).transpose()?.map(|root| root.permissions());
    match wanted {
        Some(wanted) if fs::metadata(&upper)?.permissions() != wanted => fs::set_permissions(upper, wanted),
        _ => Ok(()),
    }
}

/// Makes the overlay's own one, or takes over a clean one.
pub(crate) fn make_work(container: &Path) -> io::Result<()> {
    let work = container.join(WORK);
    fs::rename(container.join(CLEAN), &work).or_else(|_| fs::create_dir(&work))
}

/// Gets ready what the next container gets. What that does not clean up, the removal of the container does.
pub(crate) fn prepare_next(container: &Path) {
    let used = container.join(USED);
    if remove_volatile_mark(&used).is_ok() {
        let _ = fs::rename(used, container.join(CLEAN));
    }
    let _ = fs::create_dir(container.join(NEXT_UPPER));
}

/// Removes what another container has left to one that is kept.
pub(crate) fn remove_left(container: &Path) {
    let _ = remove_volatile_mark(&container.join(USED));
    for name in LEFT {
        let _ = fs::remove_dir(container.join(name));
    }
}

/// Leaves the overlay's own one to the next container, if that has not one to clean up already.
pub(crate) fn leave(container: &Path) {
    let _ = fs::rename(container.join(WORK), container.join(USED));
}

/// Takes apart what is in the overlay's own one when a container is over.
pub(crate) fn empty(container: &Path) {
    let _ = remove_volatile_mark(&container.join(WORK));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(container: &Path) -> io::Result<()> {
        fs::create_dir_all(container.join(WORK).join("work/incompat/volatile"))?;
        fs::write(container.join(WORK).join("work/incompat/volatile/dirty"), "")
    }

    #[test]
    fn two_are_used_in_turn() -> io::Result<()> {
        let container = tempfile::tempdir()?;
        let container = container.path();
        let there = || [WORK, USED, CLEAN].map(|name| container.join(name).is_dir());
        for expected in [[true, false, false], [true, true, false], [true, true, false]] {
            make_work(container)?;
            assert_eq!(there(), expected);
            used(container)?;
            prepare_next(container);
            leave(container);
        }
        assert_eq!(there(), [false, true, true]);
        assert!(fs::read_dir(container.join(CLEAN))?.next().is_none());
        // One that is kept wants none of it.
        make_work(container)?;
        make_upper(container, None)?;
        remove_left(container);
        let mut left: Vec<_> =
            fs::read_dir(container)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<_>>()?;
        left.sort();
        assert_eq!(left, [UPPER, WORK]);
        Ok(())
    }

    #[test]
    fn what_is_not_empty_is_not_taken_for_clean() -> io::Result<()> {
        let container = tempfile::tempdir()?;
        let container = container.path();
        make_work(container)?;
        used(container)?;
        fs::write(container.join(WORK).join("work/#1"), "half a file")?;
        leave(container);
        prepare_next(container);
        assert!(container.join(USED).is_dir() && !container.join(CLEAN).exists());
        Ok(())
    }
}
