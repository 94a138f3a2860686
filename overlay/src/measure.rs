//! How much is in a directory, of which nothing is to be trusted.

use std::collections::HashSet;
use std::io;
use std::os::fd::BorrowedFd;

use rbox_sys::at::{self, Kind};
use rbox_sys::beneath;
use rbox_sys::listing::Listing;

/// Directories that stand in each other, each of which is kept open: fewer than a process may have by default.
const DEEPEST: usize = 900;

/// The bytes of all files in `dir`; one that has several names counts once. What others remove meanwhile does not count,
/// and nothing that is mounted is entered.
pub fn tree_size(dir: BorrowedFd<'_>) -> io::Result<u64> {
    let mut levels = vec![Listing::new(at::open_dir(dir, b".")?)?];
    let mut seen = HashSet::new();
    let mut size = 0_u64;
    while let Some(level) = levels.last_mut() {
        let Some(name) = level.next().transpose()? else {
            levels.pop();
            continue;
        };
        let name = name.name.to_bytes();
        let inner = match at::status(level.dir()?, name) {
            Ok(status) if status.kind == Kind::Directory => beneath::open_dir_here(level.dir()?, name),
            Ok(status) => {
                if seen.insert((status.device, status.inode)) {
                    size = size.saturating_add(status.size);
                }
                continue;
            }
            Err(error) => Err(error),
        };
        match inner {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            inner if levels.len() < DEEPEST => levels.push(Listing::new(inner?)?),
            _ => return Err(io::Error::other(format!("directories stand in each other more than {DEEPEST} deep"))),
        }
    }
    Ok(size)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn files_count_once_and_links_are_not_followed() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let at = |name: &str| directory.path().join(name);
        fs::create_dir_all(at("a/b/c")).expect("made");
        fs::write(at("a/one"), [0; 1000]).expect("written");
        fs::write(at("a/b/c/two"), [0; 200]).expect("written");
        fs::hard_link(at("a/one"), at("a/b/again")).expect("linked");
        std::os::unix::fs::symlink("/usr", at("out")).expect("linked");
        let dir = fs::File::open(directory.path()).expect("open");
        assert_eq!(tree_size(dir.as_fd()).expect("measured"), 1204);
    }

    #[test]
    fn a_tree_that_is_too_deep_is_refused() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("d/".repeat(DEEPEST + 1));
        fs::create_dir_all(path).expect("made");
        let dir = fs::File::open(directory.path()).expect("open");
        let error = tree_size(dir.as_fd()).expect_err("too deep").to_string();
        assert!(error.contains("deep"), "{error}");
    }
}
