//! Trees in words: a line says what is where, and what is not as usual about it.
//!
//! ```text
//! dir      d mode=2755 owner=1:2 mtime=5.000000001 opaque user.a=b acl=u::rwx,u:7:r-x,g::r-x,m::r-x,o::--- default=…
//! file     d/f text=hello\x20world         or size=N, of zeros, or fill=N, of bytes that are no zeros
//! link     d/h d/f
//! symlink  d/s target
//! fifo     d/p
//! socket   d/k
//! whiteout d/w
//! xwhiteout d/x
//! ```
//!
//! Directories have a mode of 0755 and need no line, all else 0644; root owns all. Bytes that are not graphic are as in
//! Rust's strings. Times count where they are said. Of hard links, the first by name is the `file`.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write;
use std::fs::{self, File, Metadata, Permissions};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::calls::{self, AtFlags, CWD, FileType, Mode, Timespec, Timestamps, UTIME_OMIT, XattrFlags};

/// What an overlay keeps in the upper directory and shows to nobody.
const OWN: &str = "user.overlay.";

/// Those of them that are hints to the overlay alone: a tree is the same with them and without.
const HINTS: [&str; 4] = ["origin", "impure", "nlink", "uuid"];

/// As whose a tree is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// A user's of the mount: all that is seen counts.
    Merged,
    /// The overlay's.
    Upper,
    /// fuse-overlayfs', which has marks of its own, and calls opaque whatever directory it makes.
    UpperOfPeer,
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    kind: String,
    words: BTreeMap<String, String>,
}

/// All of a tree, by path; the root is `.`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Tree(BTreeMap<PathBuf, Entry>);

/// Makes what the text says below a directory.
pub fn make(root: &Path, text: &str) -> Result<()> {
    let tree = Tree::parse(text)?;
    let is_link = |entry: &Entry| entry.kind == "link";
    for links in [false, true] {
        for (path, entry) in tree.0.iter().filter(|(_, entry)| is_link(entry) == links) {
            entry.make(root, &root.join(path)).with_context(|| format!("cannot make {} {path:?}", entry.kind))?;
        }
    }
    // What changes a directory changes its times: children come first.
    for (path, entry) in tree.0.iter().rev().filter(|(_, entry)| !is_link(entry)) {
        entry.furnish(&root.join(path)).with_context(|| format!("cannot furnish {} {path:?}", entry.kind))?;
    }
    Ok(())
}

/// Fails with both, where the tree below a directory is not as the text says.
pub fn compare(root: &Path, view: View, text: &str) -> Result<()> {
    let mut wanted = Tree::parse(text)?;
    let mut found = Tree::read(root, view)?;
    if view == View::UpperOfPeer {
        wanted.0.values_mut().chain(found.0.values_mut()).for_each(|entry| _ = entry.words.remove("opaque"));
    }
    for (path, entry) in &mut found.0 {
        let times_count = wanted.0.get(path).is_some_and(|wanted| wanted.words.contains_key("mtime"));
        if !times_count {
            entry.words.remove("mtime");
        }
    }
    let (mut missing, mut surplus) = (String::new(), String::new());
    for (path, entry) in wanted.0.iter().filter(|(path, entry)| found.0.get(*path) != Some(entry)) {
        write!(missing, "\n  {}", entry.line(path))?;
    }
    for (path, entry) in found.0.iter().filter(|(path, entry)| wanted.0.get(*path) != Some(entry)) {
        write!(surplus, "\n  {}", entry.line(path))?;
    }
    ensure!(missing.is_empty() && surplus.is_empty(), "wanted:{missing}\nfound instead:{surplus}");
    Ok(())
}

/// The tree below a directory in words, without times.
pub fn in_words(root: &Path, view: View) -> Result<String> {
    let mut text = String::new();
    for (path, mut entry) in Tree::read(root, view)?.0 {
        entry.words.remove("mtime");
        writeln!(text, "{}", entry.line(&path))?;
    }
    Ok(text)
}

/// What `fill=` fills with.
pub fn filling(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8 | (at / 251 % 8) as u8 | 1).collect()
}

impl Tree {
    fn parse(text: &str) -> Result<Self> {
        let mut tree = Self([(".".into(), Entry::directory())].into());
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let mut words = line.split_whitespace();
            let (kind, path) = words.next().zip(words.next()).with_context(|| format!("no path: {line}"))?;
            let path = unescaped(path)?;
            let parents = path.ancestors().skip(1).filter(|parent| *parent != Path::new(""));
            for parent in parents {
                tree.0.entry(parent.to_owned()).or_insert_with(Entry::directory);
            }
            let words = words.map(|word| match word.split_once('=') {
                // All nine digits, as they are read.
                Some(("mtime", value)) if !value.contains('.') => ("mtime".to_owned(), format!("{value}.000000000")),
                Some((key, value)) => (key.to_owned(), value.to_owned()),
                None if kind.ends_with("link") => ("to".to_owned(), word.to_owned()),
                None => (word.to_owned(), String::new()),
            });
            let mut entry = Entry { kind: kind.to_owned(), words: words.collect() };
            if entry.word("mode") == Some(usual_mode(kind)) {
                entry.words.remove("mode");
            }
            tree.0.insert(path, entry);
        }
        Ok(tree)
    }

    fn read(root: &Path, view: View) -> Result<Self> {
        let mut tree = Self(BTreeMap::new());
        let mut left = vec![PathBuf::from(".")];
        let mut first_of = BTreeMap::new();
        while let Some(path) = left.pop() {
            let here = root.join(&path);
            let status = fs::symlink_metadata(&here).with_context(|| format!("cannot look at {path:?}"))?;
            if status.is_dir() {
                for entry in fs::read_dir(&here).with_context(|| format!("cannot list {path:?}"))? {
                    let name = entry?.file_name();
                    let is_mark =
                        view == View::UpperOfPeer && [".wh..opq", ".wh..wh..opq"].iter().any(|mark| name == *mark);
                    let below = path.strip_prefix(".").unwrap_or(&path).join(name);
                    left.extend((!is_mark).then_some(below));
                }
            } else if status.nlink() > 1 {
                first_of.entry((status.dev(), status.ino())).or_insert_with(Vec::new).push(path.clone());
            }
            let entry = Entry::read(&here, &status, view).with_context(|| format!("cannot read {path:?}"))?;
            tree.0.insert(path, entry);
        }
        for (_, mut names) in first_of {
            names.sort();
            // Whiteouts may be links of each other.
            if tree.0[&names[0]].kind == "whiteout" {
                continue;
            }
            let first = escaped(names[0].as_os_str().as_bytes());
            for name in names.drain(1..) {
                let words = [("to".to_owned(), first.clone())].into();
                tree.0.insert(name, Entry { kind: "link".to_owned(), words });
            }
        }
        Ok(tree)
    }
}

impl Entry {
    fn directory() -> Self {
        Self { kind: "dir".to_owned(), words: BTreeMap::new() }
    }

    fn line(&self, path: &Path) -> String {
        let mut line = format!("{} {}", self.kind, escaped(path.as_os_str().as_bytes()));
        for (key, value) in &self.words {
            line += &match (key.as_str(), value.as_str()) {
                ("to", value) => format!(" {value}"),
                (key, "") => format!(" {key}"),
                (key, value) => format!(" {key}={value}"),
            };
        }
        line
    }

    fn word(&self, key: &str) -> Option<&str> {
        self.words.get(key).map(String::as_str)
    }

    fn make(&self, root: &Path, path: &Path) -> Result<()> {
        let to = || unescaped(self.word("to").context("to where?")?);
        let node = |kind, mode| calls::mknodat(CWD, path, kind, Mode::from_raw_mode(mode), 0);
        match self.kind.as_str() {
            "dir" if path.is_dir() => {}
            "dir" => fs::create_dir(path)?,
            "file" => {
                let text = self.word("text").map(unescaped).transpose()?.unwrap_or_default();
                let fill =
                    self.word("fill").map(|length| Ok::<_, anyhow::Error>(filling(length.parse()?))).transpose()?;
                fs::write(path, fill.unwrap_or_else(|| text.into_os_string().into_vec()))?;
                if let Some(size) = self.word("size") {
                    File::options().write(true).open(path)?.set_len(size.parse()?)?;
                }
            }
            "link" => fs::hard_link(root.join(to()?), path)?,
            "symlink" => symlink(to()?, path)?,
            "fifo" => node(FileType::Fifo, 0o644)?,
            "socket" => {
                drop(UnixListener::bind(path)?);
                fs::set_permissions(path, Permissions::from_mode(0o644))?;
            }
            "whiteout" => node(FileType::CharacterDevice, 0)?,
            "xwhiteout" => {
                // Linux 6.7; a directory says that it has some (Documentation/filesystems/overlayfs.rst).
                fs::write(path, "")?;
                set_xattr(path, &format!("{OWN}whiteout"), b"y")?;
                set_xattr(path.parent().context("within a directory")?, &format!("{OWN}opaque"), b"x")?;
            }
            kind => bail!("what is a {kind}?"),
        }
        Ok(())
    }

    fn furnish(&self, path: &Path) -> Result<()> {
        if let Some(owner) = self.word("owner") {
            let (user, group) = owner.split_once(':').context("USER:GROUP")?;
            std::os::unix::fs::lchown(path, Some(user.parse()?), Some(group.parse()?))?;
        }
        // A change of owner clears bits of the mode; one of the mode would change ACLs.
        if let Some(mode) = self.word("mode") {
            fs::set_permissions(path, Permissions::from_mode(u32::from_str_radix(mode, 8)?))?;
        }
        for (key, value) in &self.words {
            match key.as_str() {
                "opaque" => set_xattr(path, &format!("{OWN}opaque"), b"y")?,
                "acl" => set_xattr(path, ACCESS, &acl(value)?)?,
                "default" => set_xattr(path, DEFAULT, &acl(value)?)?,
                key if key.contains('.') => set_xattr(path, key, unescaped(value)?.as_os_str().as_bytes())?,
                _ => {}
            }
        }
        if let Some(time) = self.word("mtime") {
            let (seconds, nanoseconds) = time.split_once('.').context("SECONDS or SECONDS.NANOSECONDS")?;
            let mtime = Timespec { tv_sec: seconds.parse()?, tv_nsec: nanoseconds.parse()? };
            let atime = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
            let times = Timestamps { last_access: atime, last_modification: mtime };
            calls::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Ok(())
    }

    fn read(path: &Path, status: &Metadata, view: View) -> Result<Self> {
        let kind = status.file_type();
        let is_whiteout = kind.is_char_device() && status.rdev() == 0;
        let mut words = BTreeMap::new();
        let mut word = |key: &str, value: String| words.insert(key.to_owned(), value);
        let mut kind = match kind {
            _ if is_whiteout => "whiteout",
            kind if kind.is_dir() => "dir",
            kind if kind.is_file() => "file",
            kind if kind.is_symlink() => "symlink",
            kind if kind.is_fifo() => "fifo",
            kind if kind.is_socket() => "socket",
            _ => "device",
        };
        if kind == "file" {
            let content = fs::read(path)?;
            let length = content.len().to_string();
            match content.as_slice() {
                [] => None,
                zeros if zeros.iter().all(|byte| *byte == 0) => word("size", length),
                filled if filled.len() > 64 && filled == filling(filled.len()) => word("fill", length),
                text => word("text", escaped(text)),
            };
        }
        if kind == "symlink" {
            word("to", escaped(fs::read_link(path)?.as_os_str().as_bytes()));
        }
        for name in calls::xattrs(path)? {
            let value = calls::xattr(path, &name)?;
            match (name.strip_prefix(OWN), view) {
                (Some("opaque"), View::Upper | View::UpperOfPeer) if value == b"y" => _ = word("opaque", String::new()),
                (Some("whiteout"), View::Upper) => kind = "xwhiteout",
                (Some(own), View::Upper | View::UpperOfPeer) if HINTS.contains(&own) => {}
                _ if name.starts_with("user.fuseoverlayfs.") || name == "security.selinux" => {}
                _ if name == ACCESS => _ = word("acl", acl_in_words(&value)?),
                _ if name == DEFAULT => _ = word("default", acl_in_words(&value)?),
                _ => _ = word(&name, escaped(&value)),
            }
        }
        let mode = format!("{:o}", status.mode() & 0o7777);
        let has_mode = !["symlink", "whiteout", "xwhiteout"].contains(&kind);
        if has_mode && mode != usual_mode(kind) {
            word("mode", mode);
        }
        let owner = (status.uid(), status.gid());
        if owner != (0, 0) && kind != "whiteout" {
            word("owner", format!("{}:{}", owner.0, owner.1));
        }
        word("mtime", format!("{}.{:09}", status.mtime(), status.mtime_nsec()));
        Ok(Self { kind: kind.to_owned(), words })
    }
}

fn usual_mode(kind: &str) -> &'static str {
    if kind == "dir" { "755" } else { "644" }
}

fn set_xattr(path: &Path, name: &str, value: &[u8]) -> Result<()> {
    calls::lsetxattr(path, name, value, XattrFlags::empty()).with_context(|| format!("cannot set {name}"))
}

/// The names under which the kernel has POSIX ACLs (acl(5)).
pub const ACCESS: &str = "system.posix_acl_access";
/// What those who are made in a directory get.
pub const DEFAULT: &str = "system.posix_acl_default";

/// linux/posix_acl_xattr.h: a version of 2, then tag, permissions and id of each entry.
const TAGS: [(&str, bool, u16); 6] =
    [("u", false, 1), ("u", true, 2), ("g", false, 4), ("g", true, 8), ("m", false, 0x10), ("o", false, 0x20)];

/// An ACL as the kernel has it, of `u::rwx,u:7:r-x,g::r-x,m::r-x,o::---`.
pub fn acl(words: &str) -> Result<Vec<u8>> {
    let mut bytes = 2u32.to_le_bytes().to_vec();
    for word in words.split(',') {
        let parts: Vec<&str> = word.split(':').collect();
        let [who, id, permissions] = parts[..] else { bail!("no entry: {word}") };
        let tag = TAGS.iter().find(|(letter, named, _)| *letter == who && *named != id.is_empty());
        let bits = permissions.bytes().fold(0u16, |bits, letter| bits << 1 | u16::from(letter != b'-'));
        bytes.extend(tag.with_context(|| format!("no tag: {word}"))?.2.to_le_bytes());
        bytes.extend(bits.to_le_bytes());
        bytes.extend(if id.is_empty() { u32::MAX } else { id.parse()? }.to_le_bytes());
    }
    Ok(bytes)
}

fn acl_in_words(bytes: &[u8]) -> Result<String> {
    let mut words = Vec::new();
    for entry in bytes.get(4..).context("no version")?.chunks_exact(8) {
        let (tag, bits) = (u16::from_le_bytes([entry[0], entry[1]]), u16::from_le_bytes([entry[2], entry[3]]));
        let id = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
        let (who, named, _) = TAGS.iter().find(|(_, _, number)| *number == tag).context("an unknown tag")?;
        let id = if *named { id.to_string() } else { String::new() };
        let letter = |bit: u16, letter: char| if bits & bit == 0 { '-' } else { letter };
        words.push(format!("{who}:{id}:{}{}{}", letter(4, 'r'), letter(2, 'w'), letter(1, 'x')));
    }
    Ok(words.join(","))
}

fn escaped(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string().replace(' ', "\\x20")
}

fn unescaped(text: &str) -> Result<PathBuf> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match (byte, byte == b'\\') {
            (byte, false) => byte,
            _ => match rest.next().context("nothing after a backslash")? {
                b'x' => {
                    let digits = [rest.next(), rest.next()].map(Option::unwrap_or_default);
                    u8::from_str_radix(std::str::from_utf8(&digits)?, 16)?
                }
                b'n' => b'\n',
                b't' => b'\t',
                other => other,
            },
        });
    }
    Ok(OsStr::from_bytes(&bytes).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_is_what_is_read() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let owner = format!("{}:{}", crate::host::uid(), crate::host::gid());
        let owner = if owner == "0:0" { String::new() } else { format!("owner={owner}") };
        let text = format!(
            "dir . {owner} mode=750
             dir d {owner} mode=2711 mtime=5.000000001
             file d/\\xff {owner} text=a\\x20b\\n user.a=b
             file d/empty {owner}
             file d/full {owner} fill=10000 mode=4755
             link d/link d/full
             symlink d/symlink {owner} no/where
             fifo d/fifo {owner} mode=600
             file d/zeros {owner} size=5"
        );
        make(dir.path(), &text).expect("made");
        compare(dir.path(), View::Merged, &text).expect("the same");
        let other = text.replace("size=5", "size=6");
        let error = compare(dir.path(), View::Merged, &other).expect_err("another").to_string();
        assert!(error.contains("size=6") && error.contains("size=5") && !error.contains("fifo"), "{error}");
    }

    #[test]
    fn acls_in_words() {
        let words = "u::rwx,u:7:r-x,g::r--,m::r-x,o::---";
        assert_eq!(acl_in_words(&acl(words).expect("an ACL")).expect("an ACL"), words);
    }
}
