//! A tree of files becomes a tar archive.
//!
//! - Nothing is followed: each directory is opened as such in the one above it, and a file that is something else when it is
//!   opened than when it was looked at is left out.
//! - The order is that of the names' bytes, so that the same files make the same archive.
//! - Sockets are left out, as tar has no word for them, and so is what the kernel shows of itself (procfs, sysfs and their
//!   like), where it is met below.

use std::collections::HashMap;
use std::ffi::CString;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rbox_sys::listing::Listing;
use rbox_sys::stored::{self, Stat, kind};
use rbox_sys::{at, node};

use crate::path::shown;
use crate::tar::write::{Head, What, WriteError, Writer};

/// How a tree is packed.
#[derive(Debug, Clone, Copy)]
pub struct Packing {
    /// Extended attributes go along.
    pub xattrs: bool,
}

/// Why a tree cannot be packed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// A file of the tree cannot be read.
    #[error("cannot {operation} {path}")]
    Tree {
        /// What was tried.
        operation: &'static str,
        /// On what, fit to be shown.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// Where the archive goes takes no more.
    #[error("cannot write the archive")]
    Archive(#[source] io::Error),
}

/// Directories that stand in each other, each of which is kept open: fewer than a process may have by default.
const DEEPEST: usize = 900;

/// Filesystems that show what the kernel knows and no files of anybody's: procfs, sysfs, cgroup2, devpts, mqueue, debugfs,
/// tracefs, securityfs, bpf.
const SHOWN_BY_KERNEL: [u64; 9] =
    [0x9fa0, 0x6265_6572, 0x6367_7270, 0x1cd1, 0x1980_0202, 0x6462_6720, 0x7472_6163, 0x7363_6673, 0xcafe_4a11];

/// Packs what `name` in `dir` is, with all that is in it, as `called`, and ends the archive. `called` is empty for the
/// content of a directory, which then has no entry of its own.
pub fn pack(
    dir: BorrowedFd<'_>,
    name: &[u8],
    called: &[u8],
    packing: Packing,
    out: impl Write,
) -> Result<(), PackError> {
    let mut packer = Packer { writer: Writer::new(out), links: HashMap::new(), packing };
    packer.tree(dir, name, called)?;
    packer.writer.finish().map_err(PackError::Archive)?;
    Ok(())
}

/// Names and values of extended attributes.
type Attributes = Vec<(Vec<u8>, Vec<u8>)>;

struct Packer<W> {
    writer: Writer<W>,
    /// Files with several names, by device and inode, and the name that they were packed by.
    links: HashMap<(u64, u64), Vec<u8>>,
    packing: Packing,
}

/// A directory on the way down.
struct Level {
    dir: OwnedFd,
    /// Of its names those that are still to come, the next one last.
    names: Vec<CString>,
    /// How long its path is.
    path: usize,
}

impl<W: Write> Packer<W> {
    fn tree(&mut self, dir: BorrowedFd<'_>, name: &[u8], called: &[u8]) -> Result<(), PackError> {
        let mut path = called.to_vec();
        let mut levels: Vec<Level> = self.one(dir, name, &path)?.into_iter().collect();
        while let Some(level) = levels.last_mut() {
            path.truncate(level.path);
            let Some(name) = level.names.pop() else {
                levels.pop();
                continue;
            };
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(name.to_bytes());
            let inner = self.one(level.dir.as_fd(), name.to_bytes(), &path);
            match inner {
                Ok(Some(_)) if levels.len() >= DEEPEST => {
                    let source = io::Error::other(format!("directories stand in each other more than {DEEPEST} deep"));
                    return Err(tree("go into", &path, source));
                }
                Ok(inner) => levels.extend(inner),
                // Removed meanwhile, or put in another's place.
                Err(PackError::Tree { source, .. }) if is_gone(&source) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Packs one name; gives the directory that it is.
    fn one(&mut self, dir: BorrowedFd<'_>, name: &[u8], path: &[u8]) -> Result<Option<Level>, PackError> {
        let stat = stored::stat(dir, name).map_err(|source| tree("look at", path, source))?;
        let seen = (stat.device, stat.inode);
        if stat.links > 1
            && !stat.is_directory()
            && let Some(first) = self.links.get(&seen)
        {
            let first = first.clone();
            self.entry(path, What::HardLink(&first), &stat, &[], &mut io::empty())?;
            return Ok(None);
        }
        let mut level = None;
        match stat.kind() {
            kind::DIRECTORY => {
                let opened = at::open_dir(dir, name).map_err(|source| tree("open", path, source))?;
                let xattrs = self.xattrs(opened.as_fd(), path)?;
                if !path.is_empty() {
                    self.entry(path, What::Directory, &stat, &xattrs, &mut io::empty())?;
                }
                level = Some(Level::new(opened, path)?);
            }
            kind::FILE => {
                let file = at::open_file(dir, name).map_err(|source| tree("open", path, source))?;
                let stat = stored::stat_of(&file).map_err(|source| tree("look at", path, source))?;
                let xattrs = self.xattrs(file.as_fd(), path)?;
                self.entry(path, What::File { size: stat.size }, &stat, &xattrs, &mut &file)?;
            }
            kind::SYMLINK => {
                let target = at::read_link(dir, name).map_err(|source| tree("read", path, source))?;
                self.entry(path, What::Symlink(&target), &stat, &[], &mut io::empty())?;
            }
            kind::FIFO => self.entry(path, What::Fifo, &stat, &[], &mut io::empty())?,
            kind::CHARACTER => {
                let (major, minor) = node::numbers(stat.rdev);
                self.entry(path, What::CharDevice(major, minor), &stat, &[], &mut io::empty())?;
            }
            kind::BLOCK => {
                let (major, minor) = node::numbers(stat.rdev);
                self.entry(path, What::BlockDevice(major, minor), &stat, &[], &mut io::empty())?;
            }
            _ => return Ok(None),
        }
        if stat.links > 1 && !stat.is_directory() {
            self.links.insert(seen, path.to_vec());
        }
        Ok(level)
    }

    fn entry(
        &mut self,
        path: &[u8],
        what: What<'_>,
        stat: &Stat,
        xattrs: &[(Vec<u8>, Vec<u8>)],
        data: &mut dyn Read,
    ) -> Result<(), PackError> {
        let Stat { uid, gid, modified, .. } = *stat;
        let head = Head { path, what, mode: stat.mode & 0o7777, uid, gid, mtime: modified.seconds, xattrs };
        self.writer.entry(&head, data).map_err(|error| match error {
            WriteError::Data(source) => tree("read", path, source),
            WriteError::Archive(source) => PackError::Archive(source),
        })
    }

    /// Those that a layer may have.
    fn xattrs(&self, file: BorrowedFd<'_>, path: &[u8]) -> Result<Attributes, PackError> {
        if !self.packing.xattrs {
            return Ok(Vec::new());
        }
        let failed = |source| tree("read the extended attributes of", path, source);
        let names = stored::list_xattrs(file, b"").map_err(failed)?;
        let mut found = Vec::new();
        for attribute in names.split(|byte| *byte == 0).filter(|attribute| crate::may_have(attribute)) {
            match stored::get_xattr(file, b"", attribute) {
                Ok(value) => found.push((attribute.to_vec(), value)),
                // Taken away meanwhile.
                Err(error) if crate::is(&error, rbox_sys::Errno::NODATA) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        found.sort();
        Ok(found)
    }
}

impl Level {
    fn new(dir: OwnedFd, path: &[u8]) -> Result<Self, PackError> {
        let failed = |source| tree("list", path, source);
        let mut names = Vec::new();
        if !SHOWN_BY_KERNEL.contains(&stored::filesystem(dir.as_fd()).map_err(failed)?) {
            for name in Listing::new(at::open_dir(dir.as_fd(), b".").map_err(failed)?).map_err(failed)? {
                names.push(name.map_err(failed)?.name);
            }
        }
        names.sort_by(|one, other| other.cmp(one));
        Ok(Self { dir, names, path: path.len() })
    }
}

fn tree(operation: &'static str, path: &[u8], source: io::Error) -> PackError {
    let path = if path.is_empty() { ".".into() } else { shown(path) };
    PackError::Tree { operation, path, source }
}

/// ENOENT, and what opening gives when something else has taken the name: ENOTDIR, ELOOP, not a regular file.
fn is_gone(error: &io::Error) -> bool {
    use rbox_sys::Errno;
    error.kind() == io::ErrorKind::NotFound
        || error.kind() == io::ErrorKind::InvalidInput && error.raw_os_error().is_none()
        || [Errno::NOTDIR, Errno::LOOP, Errno::NXIO].into_iter().any(|errno| crate::is(error, errno))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::*;

    #[test]
    fn in_the_order_of_names_with_links_and_without_sockets() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("top/b/c"))?;
        fs::write(at("top/b.x"), "text")?;
        fs::hard_link(at("top/b.x"), at("top/b/again"))?;
        std::os::unix::fs::symlink("/etc", at("top/a"))?;
        let _socket = std::os::unix::net::UnixListener::bind(at("top/socket"))?;
        let mut bytes = Vec::new();
        let opened = File::open(dir.path())?;
        pack(opened.as_fd(), b"top", b"new", Packing { xattrs: true }, &mut bytes).expect("packed");
        let mut archive = crate::tar::Archive::new(&bytes[..]);
        let mut names = Vec::new();
        while let Some(entry) = archive.next().expect("an archive") {
            names.push(format!("{} {:?}", String::from_utf8_lossy(&entry.path), entry.kind));
        }
        let symlink = format!("new/a Symlink({:?})", b"/etc".to_vec());
        let link = format!("new/b.x HardLink({:?})", b"new/b/again".to_vec());
        // Of a file's names the one that comes first has the bytes.
        let wanted = [
            "new/ Directory",
            &symlink,
            "new/b/ Directory",
            "new/b/again File { size: 4 }",
            "new/b/c/ Directory",
            &link,
        ];
        assert_eq!(names, wanted);
        Ok(())
    }
}
