//! The directories of a container's overlay, some of which one short-lived container leaves to the next.
//!
//! To make a directory, and to take it apart, costs a filesystem with a journal more than all else that a start has on the
//! disk; and in the overlay's own one, work, each mount makes three. So there are two of those, used in turn: a container that
//! goes away leaves its own as it is, and the next one uses the other, and takes that one apart beside its own workload. It
//! makes an upper one for the container after it, too.
//!
//! ```text
//!            work               work.other          upper              upper.next
//! made       mounted                                mounted            or taken over, by rename(2)
//! runs                          taken apart         written to         made
//! ended      to take apart      clean               removed            the directory waits (ContainerDir::recycle)
//! ```
//!
//! Nothing of a workload is ever in what is left: what it writes is in upper, and goes with it, and so does whatever else it
//! does to upper, not all of which could be undone. A mount that somebody still holds has its own directories of work open,
//! which are gone by name, and not those that the next mount makes.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::{fs, io};

use rbox_overlay::kernel::{is_used, remove_volatile_mark};

/// In a container's directory, what the workload has written.
pub(crate) const UPPER: &str = "upper";

const NEXT_UPPER: &str = "upper.next";
/// The overlay's own. A third one is for when somebody was kept from taking one apart; it is left to nobody.
const WORKS: [&str; 3] = ["work", "work.other", "work.third"];

/// Those that the next container gets.
pub(crate) const LEFT: [&str; 3] = [NEXT_UPPER, WORKS[0], WORKS[1]];

/// Makes that which the workload writes to, or takes over one that nobody has had. It is the container's root directory, which
/// has the mode that the topmost layer gives it, and not what the caller's umask leaves of it.
pub(crate) fn make_upper(container: &Path, topmost: Option<&Path>) -> io::Result<PathBuf> {
    let upper = container.join(UPPER);
    fs::rename(container.join(NEXT_UPPER), &upper).or_else(|_| fs::create_dir(&upper))?;
    if let Some(wanted) = topmost.map(fs::metadata).transpose()?.map(|root| root.permissions())
        && fs::metadata(&upper)?.permissions() != wanted
    {
        fs::set_permissions(&upper, wanted)?;
    }
    Ok(upper)
}

/// Makes the overlay's own one, or takes over one that is clean.
pub(crate) fn make_work(container: &Path) -> io::Result<PathBuf> {
    let mut works = WORKS.iter().map(|name| container.join(name));
    let work = works.find(|work| !is_used(work)).ok_or(ErrorKind::AlreadyExists)?;
    match fs::create_dir(&work) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => Ok(work),
    }
}

/// Gets ready what the next container gets, while this one has `work`. What is not taken apart here is when it is removed.
pub(crate) fn prepare_next(container: &Path, work: &Path) {
    for other in others(container, work) {
        let _ = remove_volatile_mark(&other);
    }
    let _ = fs::create_dir(container.join(NEXT_UPPER));
}

/// Removes what another container has left to one that is kept.
pub(crate) fn remove_left(container: &Path, work: &Path) {
    for other in others(container, work) {
        let _ = remove_volatile_mark(&other);
        let _ = fs::remove_dir(other);
    }
    let _ = fs::remove_dir(container.join(NEXT_UPPER));
}

fn others(container: &Path, work: &Path) -> impl Iterator<Item = PathBuf> {
    WORKS[..2].iter().map(|name| container.join(name)).filter(move |other| other != work)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the kernel does with a volatile mount.
    fn mount(work: &Path) -> io::Result<()> {
        fs::create_dir_all(work.join("work/incompat/volatile"))?;
        fs::write(work.join("work/incompat/volatile/dirty"), "")
    }

    #[test]
    fn two_are_used_in_turn() -> io::Result<()> {
        let container = tempfile::tempdir()?;
        let container = container.path();
        for name in ["work", "work.other", "work", "work.other"] {
            let (work, upper) = (make_work(container)?, make_upper(container, None)?);
            assert_eq!((work.file_name(), upper.file_name()), (Some(name.as_ref()), Some(UPPER.as_ref())));
            mount(&work)?;
            prepare_next(container, &work);
            fs::remove_dir(upper)?;
        }
        // One that is kept wants none of it.
        let (work, _) = (make_work(container)?, make_upper(container, None)?);
        remove_left(container, &work);
        let mut left: Vec<_> =
            fs::read_dir(container)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<_>>()?;
        left.sort();
        assert_eq!(left, [UPPER, "work"]);
        Ok(())
    }

    #[test]
    fn what_is_not_empty_is_not_taken_for_clean() -> io::Result<()> {
        let container = tempfile::tempdir()?;
        let container = container.path();
        let first = make_work(container)?;
        mount(&first)?;
        fs::write(first.join("work/#1"), "half a file")?;
        for name in ["work.other", "work.third"] {
            let work = make_work(container)?;
            assert_eq!(work.file_name(), Some(name.as_ref()));
            mount(&work)?;
            prepare_next(container, &first);
            mount(&container.join("work.other"))?;
        }
        assert!(!LEFT.contains(&"work.third"));
        Ok(())
    }
}
