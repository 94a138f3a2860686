//! Layers written entry by entry, bad ones too: nothing checks a name or a link here.

use std::fs::File;
use std::io::{self, Cursor, Read, Write};
use std::path::PathBuf;

use tar::{EntryType, Header};

/// One entry of a layer. Built by [`Layer`]'s methods, changed through [`Layer::with`].
#[derive(Clone)]
pub struct Entry {
    /// The name as it stands in the archive.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permission bits with set-id and sticky.
    pub mode: u32,
    /// The owner.
    pub uid: u64,
    /// The group.
    pub gid: u64,
    /// Seconds since 1970.
    pub mtime: u64,
    /// Names and values, written as PAX `SCHILY.xattr.` records.
    pub xattrs: Vec<(String, Vec<u8>)>,
}

/// What an entry is, and the data it has besides its metadata.
#[derive(Clone)]
pub enum Kind {
    /// A directory.
    Dir,
    /// A regular file with these bytes.
    File(Vec<u8>),
    /// A regular file whose bytes are read from this file of the host when the layer is written.
    FileFrom(PathBuf),
    /// A symbolic link to this text.
    Symlink(Vec<u8>),
    /// One more name for the entry of this name.
    Hardlink(Vec<u8>),
    /// A named pipe.
    Fifo,
    /// A character device with these numbers.
    CharDevice(u32, u32),
}

/// A layer being put together. Entries stand in the order they were added.
#[derive(Clone, Default)]
pub struct Layer {
    entries: Vec<Entry>,
}

/// The time that entries have unless told otherwise: 2024-01-01 00:00 UTC.
pub const MTIME: u64 = 1_704_067_200;

impl Layer {
    /// No entry yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds any entry.
    #[must_use]
    pub fn entry(mut self, entry: Entry) -> Self {
        self.entries.push(entry);
        self
    }

    /// Adds a directory.
    #[must_use]
    pub fn dir(self, path: &str, mode: u32) -> Self {
        self.add(path, mode, Kind::Dir)
    }

    /// Adds a regular file.
    #[must_use]
    pub fn file(self, path: &str, mode: u32, bytes: impl Into<Vec<u8>>) -> Self {
        self.add(path, mode, Kind::File(bytes.into()))
    }

    /// Adds a symbolic link.
    #[must_use]
    pub fn symlink(self, path: &str, target: &str) -> Self {
        self.add(path, 0o777, Kind::Symlink(target.into()))
    }

    /// Adds a hard link to the entry named `target`.
    #[must_use]
    pub fn hardlink(self, path: &str, target: &str) -> Self {
        self.add(path, 0o644, Kind::Hardlink(target.into()))
    }

    /// Adds a named pipe.
    #[must_use]
    pub fn fifo(self, path: &str, mode: u32) -> Self {
        self.add(path, mode, Kind::Fifo)
    }

    /// Adds a character device.
    #[must_use]
    pub fn char_device(self, path: &str, mode: u32, major: u32, minor: u32) -> Self {
        self.add(path, mode, Kind::CharDevice(major, minor))
    }

    /// Deletes `dir/name` of the layers below (OCI image spec, "Whiteouts").
    #[must_use]
    pub fn whiteout(self, path: &str) -> Self {
        let path = match path.rsplit_once('/') {
            Some((dir, name)) => format!("{dir}/.wh.{name}"),
            None => format!(".wh.{path}"),
        };
        self.file(&path, 0o644, "")
    }

    /// Hides all that the layers below have in the directory `path` (OCI image spec, "Opaque Whiteout").
    #[must_use]
    pub fn opaque(self, path: &str) -> Self {
        self.file(&format!("{path}/.wh..wh..opq"), 0o644, "")
    }

    /// Changes the entry added last.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Entry)) -> Self {
        change(self.entries.last_mut().expect("an entry was added before"));
        self
    }

    /// The owner and group of the entry added last.
    #[must_use]
    pub fn owner(self, uid: u64, gid: u64) -> Self {
        self.with(|entry| (entry.uid, entry.gid) = (uid, gid))
    }

    /// Writes the tar archive (POSIX ustar, with PAX records where a field is too short).
    pub fn write(&self, out: impl Write) -> io::Result<()> {
        let mut tar = tar::Builder::new(out);
        for entry in &self.entries {
            append(&mut tar, entry)?;
        }
        tar.into_inner()?.flush()
    }

    /// The tar archive in memory.
    pub fn to_tar(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.write(&mut bytes).expect("writing to memory does not fail");
        bytes
    }

    fn add(self, path: &str, mode: u32, kind: Kind) -> Self {
        self.entry(Entry { path: path.into(), kind, mode, uid: 0, gid: 0, mtime: MTIME, xattrs: Vec::new() })
    }
}

fn append<W: Write>(tar: &mut tar::Builder<W>, entry: &Entry) -> io::Result<()> {
    let (kind, link, data, size): (_, &[u8], Box<dyn Read>, u64) = match &entry.kind {
        Kind::Dir => (EntryType::Directory, b"", Box::new(io::empty()), 0),
        Kind::File(bytes) => (EntryType::Regular, b"", Box::new(Cursor::new(bytes)), bytes.len() as u64),
        Kind::FileFrom(path) => {
            let file = File::open(path)?;
            let size = file.metadata()?.len();
            (EntryType::Regular, b"", Box::new(file), size)
        }
        Kind::Symlink(target) => (EntryType::Symlink, target, Box::new(io::empty()), 0),
        Kind::Hardlink(target) => (EntryType::Link, target, Box::new(io::empty()), 0),
        Kind::Fifo => (EntryType::Fifo, b"", Box::new(io::empty()), 0),
        Kind::CharDevice(..) => (EntryType::Char, b"", Box::new(io::empty()), 0),
    };
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(entry.mode);
    header.set_uid(entry.uid);
    header.set_gid(entry.gid);
    header.set_mtime(entry.mtime);
    header.set_size(size);
    if let Kind::CharDevice(major, minor) = entry.kind {
        header.set_device_major(major)?;
        header.set_device_minor(minor)?;
    }
    let mut records: Vec<(String, &[u8])> = Vec::new();
    let mut path = entry.path.clone();
    if kind.is_dir() && !path.ends_with(b"/") {
        path.push(b'/');
    }
    // Written byte by byte: the crate's own setters refuse the `..` and the leading `/` that bad layers have.
    let fields = header.as_ustar_mut().expect("made as ustar");
    for (field, value, record) in [(&mut fields.name, &path[..], "path"), (&mut fields.linkname, link, "linkpath")] {
        let length = value.len().min(field.len());
        field[..length].copy_from_slice(&value[..length]);
        if value.len() > field.len() {
            records.push((record.to_owned(), value));
        }
    }
    records.extend(entry.xattrs.iter().map(|(name, value)| (format!("SCHILY.xattr.{name}"), &value[..])));
    if !records.is_empty() {
        tar.append_pax_extensions(records.iter().map(|(name, value)| (name.as_str(), *value)))?;
    }
    header.set_cksum();
    tar.append(&header, data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn gnu_tar_reads_what_is_written() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let long = "d/".to_owned() + &"n".repeat(150);
        let layer = Layer::new().dir("d", 0o1777).file(&long, 0o4755, "hello").owner(7, 9).hardlink("d/h", &long);
        let layer = layer.symlink("d/s", "../../etc").fifo("d/p", 0o600).char_device("d/null", 0o666, 1, 3);
        let file = dir.path().join("layer.tar");
        std::fs::write(&file, layer.whiteout("d/gone").opaque("d").to_tar()).expect("written");
        let list =
            crate::command::read(Command::new("tar").args(["--numeric-owner", "-tvf"]).arg(&file)).expect("a tar");
        let lines: Vec<&str> = list.lines().collect();
        assert!(lines[0].starts_with("drwxrwxrwt 0/0"), "{list}");
        assert!(lines[1].starts_with("-rwsr-xr-x 7/9") && lines[1].ends_with(&long), "{list}");
        assert!(lines[2].contains(&format!("d/h link to {long}")), "{list}");
        assert!(lines[3].ends_with("d/s -> ../../etc") && lines[4].starts_with('p'), "{list}");
        assert!(lines[5].starts_with('c') && lines[5].contains("1,3"), "{list}");
        assert!(lines[6].ends_with("d/.wh.gone") && lines[7].ends_with("d/.wh..wh..opq"), "{list}");
    }

    #[test]
    fn bad_names_are_written_as_they_are() {
        let bytes = Layer::new().file("../../evil", 0o644, "x").file("/abs", 0o644, "y").to_tar();
        assert!(bytes.starts_with(b"../../evil\0"));
        assert_eq!(&bytes[1024..1029], b"/abs\0");
    }
}
