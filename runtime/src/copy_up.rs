//! `tmpcopyup`: a new tmpfs begins with what the image has in that place.
//!
//! Both trees are walked by descriptors: a link is copied, never followed, and what is mounted somewhere below is left
//! out, but for its mount point.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rbox_sys::at::{self, Kind, Status};
use rbox_sys::listing::Listing;
use rbox_sys::{Errno, beneath, copy, node, xattr};

use crate::error::{During, Failure};

/// Copies all of the directory `from` into the empty directory `to`, which becomes the place called `path`.
pub(crate) fn copy_up(from: BorrowedFd<'_>, to: BorrowedFd<'_>, path: &Path) -> Result<(), Failure> {
    let copied = (|| {
        let (from, to) = (beneath::open_dir(from, b"")?, beneath::open_dir(to, b"")?);
        Copy { to: to.as_fd(), names: HashMap::new() }.directory(from, to.as_fd(), Path::new(""))
    })();
    copied.during(|| format!("copy what the image has in {}", path.display()))
}

struct Copy<'a> {
    /// The new tree's root.
    to: BorrowedFd<'a>,
    /// Where in it a file is that has more names than one, by its device and inode.
    names: HashMap<(u64, u64), PathBuf>,
}

impl Copy<'_> {
    /// `path` is that of `to` in the new tree.
    fn directory(&mut self, from: OwnedFd, to: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
        let status = at::status_of(from.as_fd())?;
        copy_xattrs(from.as_fd(), to)?;
        let listing = Listing::new(from)?;
        let from = listing.dir()?.try_clone_to_owned()?;
        for name in listing {
            let name = name?.name;
            let name = name.to_bytes();
            self.name(from.as_fd(), to, name, &path.join(std::ffi::OsStr::from_bytes(name)))?;
        }
        at::set_owner_of(to, status.uid, status.gid)?;
        at::set_mode_of(to, status.mode)?;
        at::set_times_of(to, status.modified)
    }

    fn name(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &[u8], path: &Path) -> io::Result<()> {
        let status = at::status(from, name)?;
        if status.kind == Kind::Directory {
            at::make_dir(to, name, 0o700)?;
            return match beneath::open_dir_here(from, name) {
                Ok(below) => self.directory(below, at::open_dir(to, name)?.as_fd(), path),
                // Something is mounted there.
                Err(error) if error.raw_os_error() == Some(Errno::XDEV.raw_os_error()) => Ok(()),
                Err(error) => Err(error),
            };
        }
        let inode = (status.device, status.inode);
        if let Some(first) = self.names.get(&inode) {
            let parent = beneath::open_dir_path(self.to, first.parent().unwrap_or(first).as_os_str().as_bytes())?;
            let first = first.file_name().unwrap_or_default().as_bytes();
            return at::link(parent.as_fd(), first, to, name);
        }
        match status.kind {
            Kind::File => {
                let (mut old, mut new) = (at::open_file(from, name)?, at::create_file(to, name, 0o600)?);
                copy::whole_file(&mut old, &mut new)?;
                finish(to, name, &status)?;
                // After the owner, whose change takes away what security.capability says.
                copy_xattrs(old.as_fd(), new.as_fd())?;
                at::set_times_of(new.as_fd(), status.modified)?;
            }
            Kind::Symlink => {
                at::make_symlink(&at::read_link(from, name)?, to, name)?;
                at::set_owner(to, name, status.uid, status.gid)?;
                at::set_times(to, name, status.modified)?;
            }
            Kind::Fifo => {
                node::make_fifo(to, name, 0o600)?;
                finish(to, name, &status)?;
                at::set_times(to, name, status.modified)?;
            }
            // Sockets have nobody behind them, and devices are not an image's to give.
            Kind::Whiteout | Kind::Other => return Ok(()),
            Kind::Directory => {}
        }
        self.names.insert(inode, path.to_owned());
        Ok(())
    }
}

/// Owner, then mode: a change of owner clears set-id bits.
fn finish(dir: BorrowedFd<'_>, name: &[u8], status: &Status) -> io::Result<()> {
    at::set_owner(dir, name, status.uid, status.gid)?;
    at::set_mode(dir, name, status.mode)
}

fn copy_xattrs(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    for name in xattr::list(from)? {
        let name = name.to_bytes();
        let Some(value) = xattr::get(from, name)? else { continue };
        match xattr::set(to, name, &value) {
            // Not every filesystem has each kind (tmpfs has user.* since Linux 6.6), and not everybody may set it.
            Err(error) if matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied) => {}
            result => result?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File, Permissions};
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    #[test]
    fn all_but_what_is_elsewhere() {
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let (from, to) = (temporary.path().join("from"), temporary.path().join("to"));
        fs::create_dir_all(from.join("d/e")).expect("mkdir");
        fs::create_dir(&to).expect("mkdir");
        fs::write(from.join("d/file"), "content").expect("written");
        fs::set_permissions(from.join("d/file"), Permissions::from_mode(0o640)).expect("chmod");
        fs::set_permissions(from.join("d"), Permissions::from_mode(0o1711)).expect("chmod");
        fs::set_permissions(&from, Permissions::from_mode(0o750)).expect("chmod");
        fs::hard_link(from.join("d/file"), from.join("d/e/same")).expect("link");
        symlink("/etc", from.join("out")).expect("symlink");
        let open = |path: &Path| File::open(path).expect("open");
        xattr::set(open(&from.join("d/file")).as_fd(), b"user.a", b"b").expect("setxattr");

        copy_up(open(&from).as_fd(), open(&to).as_fd(), Path::new("/x")).expect("copied");
        let of = |path: &str| fs::symlink_metadata(to.join(path)).expect("copied");
        assert_eq!(fs::read_to_string(to.join("d/file")).expect("read"), "content");
        assert_eq!(of("d/file").mode() & 0o7777, 0o640);
        assert_eq!(of("d").mode() & 0o7777, 0o1711);
        assert_eq!(of("").mode() & 0o7777, 0o750);
        assert_eq!(of("d/file").ino(), of("d/e/same").ino());
        assert_eq!(of("d/file").mtime(), fs::metadata(from.join("d/file")).expect("stat").mtime());
        assert_eq!(fs::read_link(to.join("out")).expect("a link"), Path::new("/etc"));
        let value = xattr::get(open(&to.join("d/file")).as_fd(), b"user.a").expect("getxattr");
        assert_eq!(value.as_deref(), Some(&b"b"[..]));
    }
}
