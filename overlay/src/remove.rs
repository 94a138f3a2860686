//! Removing a directory with everything in it, of which nothing is to be trusted.
//!
//! - It never leaves the tree: names are opened without following links, and nothing that is mounted is entered.
//! - Its depth has no limit but memory: only the innermost directories are kept open; on the way back, one that was
//!   closed is opened again as `..` and must be the one that it was.
//! - Directories that forbid to be read or changed are made to allow it, where they are ours.
//! - Nothing is made or renamed, so it works on a full disk.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rbox_sys::at::{self, Status};
use rbox_sys::listing::Listing;
use rbox_sys::{Errno, beneath};

/// Directories that are kept open at a time.
const OPEN: usize = 32;

/// A directory on the way down.
struct Level {
    /// What it is called in the level above.
    name: CString,
    identity: (u64, u64),
    /// How often it was not empty after all.
    attempts: u32,
    /// `None` where too many are open.
    listing: Option<Listing>,
}

/// Removes `name`, whatever it is, from `dir`, with everything that is in it. That it is not there is an error (ENOENT)
/// for the name itself, but not for what others remove inside meanwhile.
pub fn remove_tree(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    let top = CString::new(name).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    match at::unlink(dir, name) {
        Err(error) if is_directory(&error) => {}
        other => return other,
    }
    let mut levels = vec![Level::open(dir, top)?];
    while let Some(level) = levels.last_mut() {
        let listing = level.listing.as_mut().ok_or_else(|| io::Error::other("a closed level is innermost"))?;
        match next_directory(listing)? {
            Some(name) => {
                let inner = match Level::open(listing.dir()?, name) {
                    Err(error) if gone(&error) => continue,
                    other => other?,
                };
                if levels.len() >= OPEN {
                    let far = levels.len() - OPEN;
                    levels[far].listing = None;
                }
                levels.push(inner);
            }
            None => {
                let Some(done) = levels.pop() else { break };
                let parent = match levels.last_mut() {
                    None => dir,
                    Some(level) => level.reopened(&done)?.dir()?,
                };
                match at::remove_dir(parent, done.name.to_bytes()) {
                    // Something was made in it, or not listed since other names were removed: once more.
                    Err(error) if is_not_empty(&error) && done.attempts < 16 => {
                        let attempts = done.attempts + 1;
                        let again = Level { attempts, ..Level::open(parent, done.name)? };
                        levels.push(again);
                    }
                    Err(error) if gone(&error) => {}
                    other => other?,
                }
            }
        }
    }
    Ok(())
}

impl Level {
    fn open(parent: BorrowedFd<'_>, name: CString) -> io::Result<Self> {
        let bytes = name.to_bytes();
        let dir = match beneath::open_dir_here(parent, bytes) {
            // Its mode forbids to read it. A chmod by name could follow a link that was just put there.
            Err(error) if error.raw_os_error() == Some(Errno::ACCESS.raw_os_error()) => {
                let place = at::open_dir_path(parent, bytes)?;
                at::set_mode_of(place.as_fd(), 0o700)?;
                beneath::open_dir_here(parent, bytes)?
            }
            other => other?,
        };
        let status = at::status_of(dir.as_fd())?;
        if status.mode & 0o700 != 0o700 {
            // Where it is not ours, unlink says so; as root of a user namespace it is not needed.
            let _ = at::set_mode_of(dir.as_fd(), status.mode | 0o700);
        }
        Ok(Self { name, identity: identity(&status), attempts: 0, listing: Some(Listing::new(dir)?) })
    }

    /// This level's listing, opened again through the one below it if it was closed.
    fn reopened(&mut self, inner: &Level) -> io::Result<&mut Listing> {
        if self.listing.is_none() {
            let inner = inner.listing.as_ref().ok_or_else(|| io::Error::other("a closed level is innermost"))?;
            let dir: OwnedFd = at::open_dir(inner.dir()?, b"..")?;
            if identity(&at::status_of(dir.as_fd())?) != self.identity {
                return Err(io::Error::other("a directory was moved while its tree was being removed"));
            }
            self.listing = Some(Listing::new(dir)?);
        }
        self.listing.as_mut().ok_or_else(|| io::Error::other("just opened"))
    }
}

/// Removes names until it meets a directory that is not empty.
fn next_directory(listing: &mut Listing) -> io::Result<Option<CString>> {
    while let Some(entry) = listing.next() {
        let entry = entry?;
        let name = entry.name.to_bytes();
        let dir = listing.dir()?;
        if !entry.is_directory {
            match at::unlink(dir, name) {
                Err(error) if is_directory(&error) => {}
                Err(error) if gone(&error) => continue,
                other => {
                    other?;
                    continue;
                }
            }
        }
        match at::remove_dir(dir, name) {
            Ok(()) => {}
            Err(error) if gone(&error) => {}
            Err(error) if is_not_empty(&error) => return Ok(Some(entry.name)),
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

fn identity(status: &Status) -> (u64, u64) {
    (status.device, status.inode)
}

fn gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

fn is_directory(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::IsADirectory
}

/// ENOTEMPTY, and EEXIST on some file systems (rmdir(2)).
fn is_not_empty(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn temporary() -> (tempfile::TempDir, File) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = File::open(dir.path()).expect("open");
        (dir, file)
    }

    #[test]
    fn files_links_and_what_they_point_to() {
        let (dir, root) = temporary();
        fs::create_dir_all(dir.path().join("x/a/b")).expect("mkdir");
        fs::create_dir(dir.path().join("kept")).expect("mkdir");
        fs::write(dir.path().join("kept/file"), "").expect("write");
        symlink("../kept", dir.path().join("x/link")).expect("symlink");
        symlink("/", dir.path().join("x/a/root")).expect("symlink");
        for n in 0..2000 {
            fs::write(dir.path().join(format!("x/a/b/{n}")), "").expect("write");
        }
        remove_tree(root.as_fd(), b"x").expect("removed");
        assert!(!dir.path().join("x").exists());
        assert!(dir.path().join("kept/file").exists());
        symlink("kept", dir.path().join("link")).expect("symlink");
        remove_tree(root.as_fd(), b"link").expect("removed");
        assert!(dir.path().join("kept/file").exists());
        assert_eq!(remove_tree(root.as_fd(), b"x").expect_err("gone").kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn deeper_than_any_path_and_wide_on_each_floor() {
        let (dir, root) = temporary();
        at::make_dir(root.as_fd(), b"top", 0o700).expect("mkdir");
        let mut inner = at::open_dir_path(root.as_fd(), b"top").expect("open");
        let name = [b'n'; 200];
        for _ in 0..500 {
            at::create_file(inner.as_fd(), b"file", 0o600).expect("create");
            at::make_dir(inner.as_fd(), b"side", 0o700).expect("mkdir");
            at::make_dir(inner.as_fd(), &name, 0o700).expect("mkdir");
            inner = at::open_dir_path(inner.as_fd(), &name).expect("open");
        }
        remove_tree(root.as_fd(), b"top").expect("removed");
        assert_eq!(fs::read_dir(dir.path()).expect("read").count(), 0);
    }

    #[test]
    fn directories_that_forbid_it() {
        let (dir, root) = temporary();
        fs::create_dir_all(dir.path().join("x/a/b")).expect("mkdir");
        fs::write(dir.path().join("x/a/b/file"), "").expect("write");
        for (path, mode) in [("x/a/b", 0o000), ("x/a", 0o444), ("x", 0o555)] {
            fs::set_permissions(dir.path().join(path), fs::Permissions::from_mode(mode)).expect("chmod");
        }
        remove_tree(root.as_fd(), b"x").expect("removed");
        assert!(!dir.path().join("x").exists());
    }
}
