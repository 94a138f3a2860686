//! Archives that Linux makes its first root filesystem of: cpio's "newc" format
//! (Documentation/driver-api/early-userspace/buffer-format.rst). Owners, modes and devices are as they are said to be,
//! whoever writes the archive.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

const DIRECTORY: u32 = 0o040_755;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_777;

/// An archive being made. Directories that are only implied are root's, with mode 755.
#[derive(Default)]
pub struct Archive {
    entries: BTreeMap<PathBuf, (u32, Vec<u8>)>,
}

impl Archive {
    /// An empty directory.
    pub fn dir(&mut self, path: impl AsRef<Path>) {
        self.put(path.as_ref(), DIRECTORY, Vec::new());
    }

    /// A file of root's, with these permissions.
    pub fn file(&mut self, path: impl AsRef<Path>, mode: u32, bytes: impl Into<Vec<u8>>) {
        self.put(path.as_ref(), FILE | mode, bytes.into());
    }

    /// A symbolic link.
    pub fn symlink(&mut self, path: impl AsRef<Path>, target: &str) {
        self.put(path.as_ref(), LINK, target.into());
    }

    fn put(&mut self, path: &Path, mode: u32, bytes: Vec<u8>) {
        let path = path.strip_prefix("/").unwrap_or(path);
        for parent in path.ancestors().skip(1).filter(|parent| *parent != Path::new("")) {
            self.entries.entry(parent.to_owned()).or_insert_with(|| (DIRECTORY, Vec::new()));
        }
        self.entries.insert(path.to_owned(), (mode, bytes));
    }

    /// The archive, parents first.
    pub fn finish(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (number, (path, (mode, bytes))) in (1..).zip(&self.entries) {
            append(&mut out, number, path.as_os_str().as_bytes(), *mode, bytes);
        }
        append(&mut out, 0, b"TRAILER!!!", 0, &[]);
        out
    }
}

fn append(out: &mut Vec<u8>, inode: u32, name: &[u8], mode: u32, bytes: &[u8]) {
    let (name_size, size) = (name.len() as u32 + 1, bytes.len() as u32);
    // Inode, mode, owner, group, links, time, size; the file's device and the one it stands for; name's size, checksum.
    let header = [inode, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0];
    out.extend(b"070701");
    out.extend(header.iter().flat_map(|field| format!("{field:08x}").into_bytes()));
    out.extend(name);
    out.push(0);
    out.resize(out.len().next_multiple_of(4), 0);
    out.extend(bytes);
    out.resize(out.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_come_first_and_all_is_aligned() {
        let mut archive = Archive::default();
        archive.file("/a/b", 0o640, "text");
        archive.symlink("a/c", "b");
        let bytes = archive.finish();
        let text = String::from_utf8(bytes).expect("all of it is text");
        let at = |name: &str| text.find(name).expect(name);
        assert!(at("\u{0}\u{0}070701") > 0 && at("a\0") < at("a/b\0") && at("a/b\0") < at("a/c\0"), "{text:?}");
        assert!(text.contains("000081a0") && text.contains("0000a1ff") && text.len().is_multiple_of(4), "{text:?}");
    }
}
