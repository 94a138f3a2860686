//! A tar archive's files come into a tree that is there already.
//!
//! Unlike [`unpack`](crate::unpack()), which makes layers: names that a layer reads as "removed" are names here, what is
//! there is kept or replaced, and a file appears under its name when all of its bytes have. Each path is resolved by
//! whoever knows the tree ([`Target`]) to a descriptor of the directory that its last name is in, and that last name is
//! never followed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::rc::Rc;

use rbox_sys::at::{self, Kind as FileKind, Time};
use rbox_sys::whole::NewFile;
use rbox_sys::{Errno, beneath, node, stored, xattr};

use crate::is;
use crate::path::{EntryPath, shown};
use crate::tar::{self, Archive, Entry, Kind};

/// The tree.
pub trait Target {
    /// The directory at this path of plain names, relative to where the archive goes; empty for that place itself. A
    /// descriptor of a place (O_PATH) will do.
    fn directory(&self, path: &[u8]) -> io::Result<OwnedFd>;
}

/// What the files are like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placing {
    /// They belong to whom the archive says; else to who places them.
    pub owners: bool,
    /// That this cannot be had is no failure: by who is not root, and where there is one id.
    pub lenient: bool,
    /// Set-user-id and set-group-id bits, and extended attributes, are set.
    pub special: bool,
}

/// What was left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Placed {
    /// Device nodes, which nobody but the host's root may make.
    pub devices: u64,
}

/// Why an archive cannot be placed.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// It cannot be read.
    #[error("cannot read the archive")]
    Read(#[source] io::Error),
    /// It is none.
    #[error("that is not a tar archive: {0}")]
    Archive(String),
    /// An entry that is not to be.
    #[error("the archive's entry {path}: {problem}")]
    Entry {
        /// Its name, fit to be shown.
        path: String,
        /// Why.
        problem: String,
    },
    /// A directory where a file is to be.
    #[error("cannot overwrite directory {0} with non-directory")]
    OverDirectory(String),
    /// A file where a directory is to be.
    #[error("cannot overwrite non-directory {0} with directory")]
    OverFile(String),
    /// The kernel refused.
    #[error("cannot {operation} {path}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what, fit to be shown.
        path: String,
        /// Why.
        source: io::Error,
    },
}

/// Places an archive's files.
pub fn place(input: impl BufRead, target: &dyn Target, placing: Placing) -> Result<Placed, PlaceError> {
    let mut archive = Archive::new(input);
    let mut placer = Placer { target, placing, parent: None, directories: BTreeMap::new(), placed: Placed::default() };
    while let Some(entry) = archive.next()? {
        placer.entry(&entry, &mut archive)?;
    }
    // To its end, so that who writes it is not told that nobody reads.
    let mut rest = archive.into_input();
    loop {
        let length = rest.fill_buf().map_err(PlaceError::Read)?.len();
        if length == 0 {
            break;
        }
        rest.consume(length);
    }
    placer.finish()
}

struct Placer<'a> {
    target: &'a dyn Target,
    placing: Placing,
    /// The directory that the last entry was in: an archive goes directory by directory.
    parent: Option<(EntryPath, Rc<OwnedFd>)>,
    /// Those made here, whose mode and time are set when all that is in them is there.
    directories: BTreeMap<EntryPath, (u32, Time)>,
    placed: Placed,
}

impl Placer<'_> {
    fn entry(&mut self, entry: &Entry, archive: &mut Archive<impl BufRead>) -> Result<(), PlaceError> {
        let trimmed = entry.path.iter().position(|byte| *byte != b'/').unwrap_or(entry.path.len());
        let path = match &entry.path[trimmed..] {
            // Of the directory that it all goes into nothing is changed.
            [] => return Ok(()),
            path => EntryPath::parse(path).map_err(|problem| wrong(&entry.path, problem))?,
        };
        if path.is_root() {
            return Ok(());
        }
        let (_, name) = path.split();
        let parent = self.parent(&path)?;
        let dir = parent.as_fd();
        match &entry.kind {
            Kind::File { size } => self.file(entry, &path, dir, &[(0, *size)], None, archive),
            Kind::Sparse(map) => self.file(entry, &path, dir, &map.pieces.clone(), Some(map.size), archive),
            Kind::Directory => self.directory(entry, &path, dir),
            Kind::Symlink(link) => {
                clear(dir, &path)?;
                at::make_symlink(link, dir, name).map_err(failed("make", &path))?;
                self.owner(entry, &path, |uid, gid| at::set_owner(dir, name, uid, gid))?;
                at::set_times(dir, name, entry.mtime).map_err(failed("set the times of", &path))
            }
            Kind::HardLink(first) => {
                let first = EntryPath::parse(first).map_err(|problem| wrong(&entry.path, problem))?;
                let from = self.target.directory(first.parent().as_bytes()).map_err(failed("open", &first))?;
                clear(dir, &path)?;
                at::link(from.as_fd(), first.split().1, dir, name).map_err(failed("link", &path))
            }
            Kind::Fifo => {
                clear(dir, &path)?;
                node::make_fifo(dir, name, 0o600).map_err(failed("make", &path))?;
                let made = stored::open_path(dir, name).map_err(failed("open", &path))?;
                self.owner(entry, &path, |uid, gid| at::set_owner(dir, name, uid, gid))?;
                at::set_mode_of(made.as_fd(), self.mode(entry)).map_err(failed("set the mode of", &path))?;
                at::set_times(dir, name, entry.mtime).map_err(failed("set the times of", &path))
            }
            Kind::CharDevice(..) | Kind::BlockDevice(..) => {
                self.placed.devices += 1;
                Ok(())
            }
            Kind::Unknown(flag) => Err(wrong(&entry.path, format!("its type {:?} is unknown", char::from(*flag)))),
        }
    }

    fn file(
        &self,
        entry: &Entry,
        path: &EntryPath,
        dir: BorrowedFd<'_>,
        pieces: &[(u64, u64)],
        size: Option<u64>,
        archive: &mut Archive<impl BufRead>,
    ) -> Result<(), PlaceError> {
        let (_, name) = path.split();
        if matches!(at::status(dir, name), Ok(status) if status.kind == FileKind::Directory) {
            return Err(PlaceError::OverDirectory(path.to_string()));
        }
        // What is mounted there stays, and so nothing takes its place: it is somebody else's, and has its owner and mode.
        if beneath::is_mount_point(dir, name).map_err(failed("look at", path))? {
            let file = open_mounted(dir, path)?;
            return copy(&file, path, pieces, size, archive);
        }
        let new = NewFile::create(dir, 0o600).map_err(failed("make", path))?;
        let out = new.file();
        copy(out, path, pieces, size, archive)?;
        // Before the mode: a change of owner takes set-id bits away.
        self.owner(entry, path, |uid, gid| at::set_owner_of(out.as_fd(), uid, gid))?;
        at::set_mode_of(out.as_fd(), self.mode(entry)).map_err(failed("set the mode of", path))?;
        self.xattrs(entry, path, out.as_fd())?;
        at::set_times_of(out.as_fd(), entry.mtime).map_err(failed("set the times of", path))?;
        new.publish(name).map_err(failed("make", path))
    }

    fn directory(&mut self, entry: &Entry, path: &EntryPath, dir: BorrowedFd<'_>) -> Result<(), PlaceError> {
        let (_, name) = path.split();
        match at::make_dir(dir, name, 0o700) {
            Ok(()) => {}
            Err(error) if is(&error, Errno::EXIST) => {
                let status = at::status(dir, name).map_err(failed("look at", path))?;
                return match status.kind {
                    // It stays as it is, but for what comes into it.
                    FileKind::Directory => Ok(()),
                    _ => Err(PlaceError::OverFile(path.to_string())),
                };
            }
            Err(error) => return Err(failed("make", path)(error)),
        }
        let made = at::open_dir(dir, name).map_err(failed("open", path))?;
        self.owner(entry, path, |uid, gid| at::set_owner_of(made.as_fd(), uid, gid))?;
        self.xattrs(entry, path, made.as_fd())?;
        self.directories.insert(path.clone(), (self.mode(entry), entry.mtime));
        Ok(())
    }

    /// The directory that `path` is in, made where no entry has listed it.
    fn parent(&mut self, path: &EntryPath) -> Result<Rc<OwnedFd>, PlaceError> {
        let wanted = path.parent();
        if let Some((known, dir)) = &self.parent
            && *known == wanted
        {
            return Ok(Rc::clone(dir));
        }
        let dir = match self.target.directory(wanted.as_bytes()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !wanted.is_root() => {
                let above = self.parent(&wanted)?;
                match at::make_dir(above.as_fd(), wanted.split().1, 0o755) {
                    Err(error) if !is(&error, Errno::EXIST) => return Err(failed("make", &wanted)(error)),
                    _ => self.target.directory(wanted.as_bytes()),
                }
            }
            opened => opened,
        };
        let dir = Rc::new(dir.map_err(failed("open", &wanted))?);
        self.parent = Some((wanted, Rc::clone(&dir)));
        Ok(dir)
    }

    fn mode(&self, entry: &Entry) -> u32 {
        entry.mode & if self.placing.special { 0o7777 } else { 0o1777 }
    }

    fn owner(
        &self,
        entry: &Entry,
        path: &EntryPath,
        set: impl FnOnce(u32, u32) -> io::Result<()>,
    ) -> Result<(), PlaceError> {
        if !self.placing.owners {
            return Ok(());
        }
        let id = |id: u64| u32::try_from(id).map_err(|_| wrong(&entry.path, format!("there is no id {id}")));
        match set(id(entry.uid)?, id(entry.gid)?) {
            Err(error) if self.placing.lenient && may_not(&error) => Ok(()),
            result => result.map_err(failed("set the owner of", path)),
        }
    }

    fn xattrs(&self, entry: &Entry, path: &EntryPath, file: BorrowedFd<'_>) -> Result<(), PlaceError> {
        if !self.placing.special {
            return Ok(());
        }
        for (name, value) in entry.xattrs.iter().filter(|(name, _)| crate::may_have(name)) {
            match xattr::set(file, name, value) {
                Err(error) if may_not(&error) || is(&error, Errno::OPNOTSUPP) => {}
                result => result.map_err(failed("set the extended attributes of", path))?,
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<Placed, PlaceError> {
        // A directory after what is in it, for its mode may forbid to enter it.
        for (path, (mode, mtime)) in self.directories.iter().rev() {
            let Ok(parent) = self.target.directory(path.parent().as_bytes()) else { continue };
            // Somebody has put another thing in its place.
            let Ok(dir) = at::open_dir_path(parent.as_fd(), path.split().1) else { continue };
            at::set_mode_of(dir.as_fd(), *mode).map_err(failed("set the mode of", path))?;
            let set = at::set_times(dir.as_fd(), b".", *mtime);
            // Of a directory whose mode forbids even its owner to enter it.
            if !matches!(&set, Err(error) if error.kind() == io::ErrorKind::PermissionDenied) {
                set.map_err(failed("set the times of", path))?;
            }
        }
        Ok(self.placed)
    }
}

/// Writes the data that the archive is at. Without a `size` it is one piece from the beginning.
fn copy(
    mut out: &File,
    path: &EntryPath,
    pieces: &[(u64, u64)],
    size: Option<u64>,
    archive: &mut Archive<impl BufRead>,
) -> Result<(), PlaceError> {
    for (offset, length) in pieces {
        let (mut at, end) = (*offset, offset + length);
        while at < end {
            let data = archive.data(end - at)?;
            let length = data.len();
            let written = if size.is_none() { out.write_all(data) } else { out.write_all_at(data, at) };
            written.map_err(failed("write", path))?;
            archive.consume(length);
            at += length as u64;
        }
    }
    match size {
        Some(size) => out.set_len(size).map_err(failed("write", path)),
        None => Ok(()),
    }
}

/// Opens a file that is mounted, to be written anew.
fn open_mounted(dir: BorrowedFd<'_>, path: &EntryPath) -> Result<File, PlaceError> {
    let (_, name) = path.split();
    if !matches!(at::status(dir, name), Ok(status) if status.kind == FileKind::File) {
        return Err(failed("replace what is mounted at", path)(Errno::BUSY.into()));
    }
    let file = stored::open(dir, name, true).map_err(failed("open", path))?;
    if !matches!(at::status_of(file.as_fd()), Ok(status) if status.kind == FileKind::File) {
        return Err(failed("replace what is mounted at", path)(Errno::BUSY.into()));
    }
    file.set_len(0).map_err(failed("write", path))?;
    Ok(file)
}

/// Removes what has the name, unless it is a directory.
fn clear(dir: BorrowedFd<'_>, path: &EntryPath) -> Result<(), PlaceError> {
    if beneath::is_mount_point(dir, path.split().1).map_err(failed("look at", path))? {
        return Err(failed("replace what is mounted at", path)(Errno::BUSY.into()));
    }
    match at::unlink(dir, path.split().1) {
        Err(error) if is(&error, Errno::ISDIR) => Err(PlaceError::OverDirectory(path.to_string())),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("replace", path)(error)),
        _ => Ok(()),
    }
}

/// EPERM, and EINVAL for an id that this user namespace does not map (chown(2)).
fn may_not(error: &io::Error) -> bool {
    is(error, Errno::PERM) || is(error, Errno::INVAL)
}

fn failed<'a>(operation: &'static str, path: &'a EntryPath) -> impl FnOnce(io::Error) -> PlaceError + 'a {
    move |source| PlaceError::Io { operation, path: path.to_string(), source }
}

fn wrong(name: &[u8], problem: impl ToString) -> PlaceError {
    PlaceError::Entry { path: shown(name), problem: problem.to_string() }
}

impl From<tar::Error> for PlaceError {
    fn from(error: tar::Error) -> Self {
        match error {
            tar::Error::Io(error) => Self::Read(error),
            malformed @ tar::Error::Malformed { .. } => Self::Archive(malformed.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::tar::write::{Head, What, Writer};

    struct Beneath(File);

    impl Target for Beneath {
        fn directory(&self, path: &[u8]) -> io::Result<OwnedFd> {
            beneath::open_dir_path(self.0.as_fd(), path)
        }
    }

    fn placed(into: &Path, entries: &[(&str, What<'_>, &str)]) -> Result<Placed, PlaceError> {
        let mut writer = Writer::new(Vec::new());
        for (path, what, data) in entries {
            let path = path.as_bytes();
            let head = Head { path, what: *what, mode: 0o6640, uid: 0, gid: 0, mtime: 1_000_000, xattrs: &[] };
            writer.entry(&head, &mut data.as_bytes()).expect("written to memory");
        }
        let bytes = writer.finish().expect("written to memory");
        let target = Beneath(File::open(into).expect("a directory"));
        place(&bytes[..], &target, Placing { owners: false, lenient: false, special: false })
    }

    #[test]
    fn links_that_an_archive_makes_are_not_gone_through() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let outside = tempfile::tempdir().expect("a temporary directory");
        let out = outside.path().to_str().expect("text").as_bytes().to_vec();
        let file = What::File { size: 1 };
        for entries in [
            &[("link", What::Symlink(&out), ""), ("link/evil", file, "x")][..],
            &[("link", What::Symlink(&out), ""), ("link", What::Directory, ""), ("link/evil", file, "x")],
            &[("../evil", file, "x")],
            &[("a", What::HardLink(b"../x"), "")],
            &[("link", What::Symlink(&out), ""), ("a", What::HardLink(b"link/secret"), "")],
        ] {
            fs::write(outside.path().join("secret"), "").expect("written");
            placed(dir.path(), entries).expect_err("refused");
            assert_eq!(fs::read_dir(outside.path()).expect("listed").count(), 1, "{entries:?}");
        }
    }

    #[test]
    fn what_is_there_is_replaced_or_kept() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("a temporary directory");
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("kept")).expect("made");
        fs::set_permissions(at("kept"), PermissionsExt::from_mode(0o711)).expect("set");
        fs::write(at("file"), "old").expect("written");
        std::os::unix::fs::symlink("file", at("link")).expect("linked");
        let file = What::File { size: 3 };
        placed(dir.path(), &[("kept", What::Directory, ""), ("kept/new", file, "new"), ("link", file, "new")])
            .expect("placed");
        let mode = |name: &str| fs::symlink_metadata(at(name)).expect("there").permissions().mode();
        assert_eq!((mode("kept") & 0o7777, mode("kept/new") & 0o7777), (0o711, 0o640));
        assert_eq!(fs::read(at("file")).expect("read"), b"old");
        assert_eq!(fs::read(at("link")).expect("read"), b"new");
        assert!(matches!(placed(dir.path(), &[("kept", file, "new")]), Err(PlaceError::OverDirectory(_))));
        assert!(matches!(placed(dir.path(), &[("file", What::Directory, "")]), Err(PlaceError::OverFile(_))));
        // Cut short, it is not there at all.
        let target = Beneath(File::open(dir.path()).expect("a directory"));
        let mut writer = Writer::new(Vec::new());
        let head = Head { path: b"cut", what: file, mode: 0o600, uid: 0, gid: 0, mtime: 0, xattrs: &[] };
        writer.entry(&head, &mut &b"cut"[..]).expect("written");
        let bytes = writer.finish().expect("written");
        let placing = Placing { owners: false, lenient: false, special: false };
        place(&bytes[..514], &target, placing).expect_err("cut short");
        assert!(!at("cut").exists());
        assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 3);
    }
}
