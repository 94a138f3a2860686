//! The overlay's own directory, which one short-lived container leaves to the next.
//!
//! Each mount makes three directories in it, and to take them apart costs a start more than all else that is on the disk.
//! So a container that goes away leaves it as it is, and the next one cleans it up beside its own workload:
//!
//! ```text
//!            work      work.used     work.clean
//! made       mounted                               or taken over: work.clean, by rename(2)
//! runs       mounted   taken apart ─▶ clean
//! ended                used           clean        the directory waits for the next container (ContainerDir::recycle)
//! ```
//!
//! Nothing of a workload is ever in there: what it writes is in upper, and goes with it. A mount that somebody still holds
//! has its own directories open, which are gone by name, and not those that the next mount makes.

use std::path::Path;
use std::{fs, io};

use rbox_overlay::kernel::remove_volatile_mark;

/// In a container's directory, the one that is in use.
pub(crate) const WORK: &str = "work";
const USED: &str = "work.used";
const CLEAN: &str = "work.clean";

/// Those that the next container gets.
pub(crate) const LEFT: [&str; 2] = [USED, CLEAN];

/// Makes the one for a container, or takes over a clean one.
pub(crate) fn make(container: &Path) -> io::Result<()> {
    let work = container.join(WORK);
    fs::rename(container.join(CLEAN), &work).or_else(|_| fs::create_dir(&work))
}

/// Cleans up what another container has left. What that does not do, the removal of the container does.
pub(crate) fn clean_up(container: &Path) {
    let used = container.join(USED);
    if remove_volatile_mark(&used).is_ok() {
        let _ = fs::rename(used, container.join(CLEAN));
    }
}

/// Leaves it to the next container, if that has not one to clean up already.
pub(crate) fn leave(container: &Path) {
    let _ = fs::rename(container.join(WORK), container.join(USED));
}

/// Takes apart what is in the one of a container that is over.
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
            make(container)?;
            assert_eq!(there(), expected);
            used(container)?;
            clean_up(container);
            leave(container);
        }
        assert_eq!(there(), [false, true, true]);
        assert!(fs::read_dir(container.join(CLEAN))?.next().is_none());
        Ok(())
    }

    #[test]
    fn what_is_not_empty_is_not_taken_for_clean() -> io::Result<()> {
        let container = tempfile::tempdir()?;
        let container = container.path();
        make(container)?;
        used(container)?;
        fs::write(container.join(WORK).join("work/#1"), "half a file")?;
        leave(container);
        clean_up(container);
        assert!(container.join(USED).is_dir() && !container.join(CLEAN).exists());
        Ok(())
    }
}
