//! Paths of /proc and /sys that a workload is not to see or not to write.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rbox_sys::at::{self, Kind};
use rbox_sys::in_root;
use rbox_sys::mount::{self, Attributes, Filesystem};

use crate::error::{During, Failure};
use crate::labels;
use crate::mounted::Mounted;

/// Binds `path` over itself, read-only. What is not there needs no protection.
pub(crate) fn make_read_only(mounted: &Mounted<'_>, path: &Path) -> Result<(), Failure> {
    let what = || format!("make {} read-only", path.display());
    let Some(target) = find(mounted, path).during(what)? else { return Ok(()) };
    let clone = mount::clone_tree(target.as_fd(), Path::new(""), true).during(what)?;
    mount::set_attributes(clone.as_fd(), Attributes::READ_ONLY, Attributes::default(), true).during(what)?;
    mount::attach(clone.as_fd(), target.as_fd()).during(what)
}

/// Covers files with /dev/null and directories with one empty, read-only directory in the SELinux context.
pub(crate) fn cover(mounted: &Mounted<'_>, paths: &[PathBuf], context: Option<&str>) -> Result<(), Failure> {
    let mut null = None;
    let mut empty = None;
    for path in paths {
        let what = || format!("mask {}", path.display());
        let Some(target) = find(mounted, path).during(what)? else { continue };
        let directory = at::status_of(target.as_fd()).during(what)?.kind == Kind::Directory;
        let cover = if directory { &mut empty } else { &mut null };
        let clone = match &*cover {
            // Both covers are mounted once and cloned from there on: a clone shares the first one's superblock.
            Some(first) => clone_mount(first).during(what)?,
            None if directory => empty_directory(context).during(what)?,
            None => clone_mount(&container_null(mounted.root()).during(what)?).during(what)?,
        };
        mount::attach(clone.as_fd(), target.as_fd()).during(what)?;
        cover.get_or_insert(clone);
    }
    Ok(())
}

fn clone_mount(mounted: &OwnedFd) -> io::Result<OwnedFd> {
    mount::clone_tree(mounted.as_fd(), Path::new(""), false)
}

fn empty_directory(context: Option<&str>) -> io::Result<OwnedFd> {
    let filesystem = Filesystem::open("tmpfs")?;
    filesystem.set("mode", "755")?;
    filesystem.set("nr_inodes", "1")?;
    labels::set_context(&filesystem, context)?;
    let all = Attributes::READ_ONLY.and(Attributes::NOSUID).and(Attributes::NODEV).and(Attributes::NOEXEC);
    filesystem.mount(all)
}

/// The container's /dev/null, which must be the null device and nothing that an image or another container put in its
/// place (CVE-2025-31133).
fn container_null(root: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    /// major 1, minor 3 (Documentation/admin-guide/devices.txt), as st_rdev has it.
    const NULL_DEVICE: u64 = 1 << 8 | 3;
    let null = in_root::open_path(root, Path::new("/dev/null"))?;
    let metadata = File::from(null.try_clone()?).metadata()?;
    if metadata.file_type().is_char_device() && metadata.rdev() == NULL_DEVICE {
        Ok(null)
    } else {
        Err(io::Error::new(ErrorKind::InvalidData, "/dev/null of the container is not the null device"))
    }
}

fn find(mounted: &Mounted<'_>, path: &Path) -> io::Result<Option<OwnedFd>> {
    let (mount, rest) = mounted.of(path);
    match in_root::open_path(mount, rest) {
        Ok(found) => Ok(Some(found)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}
