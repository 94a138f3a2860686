//! What these tests share: archives written byte by byte, and user namespaces to unpack them in.
#![allow(dead_code, unreachable_pub, reason = "each test includes all of it and uses a part")]

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rbox_overlay::{Compression, Error, Options, Unpacked, settle, unpack};

/// The time that entries have unless told otherwise.
pub const MTIME: u64 = 1_600_000_000;

/// An archive being written. Nothing is checked.
#[derive(Default, Clone)]
pub struct Tar(pub Vec<u8>);

/// One header, with fields to be changed before it is added.
#[derive(Clone)]
pub struct Header {
    pub name: Vec<u8>,
    pub flag: u8,
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    pub mtime: u64,
    pub link: Vec<u8>,
    pub device: (u32, u32),
    pub data: Vec<u8>,
    /// Said instead of the data's real length.
    pub size: Option<u64>,
}

impl Header {
    pub fn new(name: impl AsRef<[u8]>, flag: u8) -> Self {
        Self {
            name: name.as_ref().to_vec(),
            flag,
            mode: if flag == b'5' { 0o755 } else { 0o644 },
            uid: 0,
            gid: 0,
            mtime: MTIME,
            link: Vec::new(),
            device: (0, 0),
            data: Vec::new(),
            size: None,
        }
    }

    pub fn bytes(&self) -> [u8; 512] {
        let mut block = [0; 512];
        let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &self.name[..self.name.len().min(100)]);
        put(100, format!("{:07o}\0", self.mode).as_bytes());
        put(108, &number(self.uid, 8));
        put(116, &number(self.gid, 8));
        put(124, &number(self.size.unwrap_or(self.data.len() as u64), 12));
        put(136, &number(self.mtime, 12));
        put(148, b"        ");
        put(156, &[self.flag]);
        put(157, &self.link[..self.link.len().min(100)]);
        put(257, b"ustar\x0000");
        put(329, &number(self.device.0.into(), 8));
        put(337, &number(self.device.1.into(), 8));
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block
    }
}

/// Octal where it fits, else base 256.
fn number(value: u64, width: usize) -> Vec<u8> {
    let octal = format!("{value:0digits$o}\0", digits = width - 1);
    if octal.len() == width {
        return octal.into_bytes();
    }
    // Times may be negative.
    let mut field = vec![if value > i64::MAX as u64 { 0xff } else { 0 }; width];
    field[width - 8..].copy_from_slice(&value.to_be_bytes());
    field[0] |= 0x80;
    field
}

impl Tar {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn add(mut self, header: &Header) -> Self {
        self.0.extend_from_slice(&header.bytes());
        self.0.extend_from_slice(&header.data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub fn with(self, name: impl AsRef<[u8]>, flag: u8, change: impl FnOnce(&mut Header)) -> Self {
        let mut header = Header::new(name, flag);
        change(&mut header);
        self.add(&header)
    }

    pub fn file(self, name: impl AsRef<[u8]>, data: impl AsRef<[u8]>) -> Self {
        self.with(name, b'0', |header| header.data = data.as_ref().to_vec())
    }

    pub fn dir(self, name: impl AsRef<[u8]>, mode: u32) -> Self {
        self.with(name, b'5', |header| header.mode = mode)
    }

    pub fn symlink(self, name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        self.with(name, b'2', |header| header.link = target.as_ref().to_vec())
    }

    pub fn hard_link(self, name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        self.with(name, b'1', |header| header.link = target.as_ref().to_vec())
    }

    /// A PAX extended header for the next entry.
    pub fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut data = Vec::new();
        for (key, value) in records {
            let body = key.len() + value.len() + 3;
            let mut length = body + 1;
            while length != body + length.to_string().len() {
                length = body + length.to_string().len();
            }
            data.extend_from_slice(format!("{length} {key}=").as_bytes());
            data.extend_from_slice(value);
            data.push(b'\n');
        }
        self.with("PaxHeaders/x", b'x', |header| header.data = data)
    }

    /// With the two blocks of zeros that end an archive.
    pub fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

/// An empty directory for a layer.
pub struct Layer {
    pub dir: tempfile::TempDir,
    pub root: File,
}

impl Layer {
    pub fn empty() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let root = File::open(dir.path()).expect("open");
        Self { dir, root }
    }

    /// Unpacks into it.
    pub fn unpack(&self, tar: &[u8], single_id: bool) -> Result<Unpacked, Error> {
        unpack(tar, Compression::None, self.root.as_fd(), Options { single_id, over: false })
    }

    /// A new layer with this in it, settled on others.
    pub fn on(parents: &[&Layer], tar: Tar, single_id: bool) -> Result<Self, Error> {
        let layer = Self::empty();
        let unpacked = layer.unpack(&tar.end(), single_id)?;
        let parents: Vec<_> = parents.iter().map(|layer| layer.root.as_fd()).collect();
        settle(layer.root.as_fd(), &parents, &unpacked)?;
        Ok(layer)
    }

    pub fn path(&self, path: &str) -> std::path::PathBuf {
        self.dir.path().join(path)
    }

    pub fn stat(&self, path: &str) -> std::fs::Metadata {
        std::fs::symlink_metadata(self.path(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    pub fn text(&self, path: &str) -> String {
        std::fs::read_to_string(self.path(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    pub fn is_whiteout(&self, path: &str) -> bool {
        use std::os::unix::fs::FileTypeExt;
        std::fs::symlink_metadata(self.path(path))
            .is_ok_and(|stat| stat.file_type().is_char_device() && stat.rdev() == 0)
    }

    pub fn xattr(&self, path: &str, name: &str) -> Option<Vec<u8>> {
        let file = File::open(self.path(path)).expect("open");
        rbox_sys::xattr::get(file.as_fd(), name.as_bytes()).expect("getxattr")
    }

    pub fn is_opaque(&self, path: &str) -> bool {
        self.xattr(path, "user.overlay.opaque").as_deref() == Some(b"y")
    }

    /// All names, sorted.
    pub fn names(&self) -> Vec<String> {
        fn walk(dir: &Path, below: &str, names: &mut Vec<String>) {
            for entry in std::fs::read_dir(dir).expect("readdir") {
                let entry = entry.expect("readdir");
                let name = format!("{below}{}", entry.file_name().to_string_lossy());
                if entry.file_type().expect("a type").is_dir() {
                    walk(&entry.path(), &format!("{name}/"), names);
                }
                names.push(name);
            }
        }
        let mut names = Vec::new();
        walk(self.dir.path(), "", &mut names);
        names.sort();
        names
    }
}

const INSIDE: &str = "RBOX_TEST_INSIDE";

/// Runs the calling test once more, as root of a user namespace with ids 0 to 65535, and answers `true` there; outside
/// it waits for the test to pass and answers `false`. Root maps ids by itself, everybody else by newuidmap.
pub fn in_namespace(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let me = std::env::current_exe().expect("this binary");
    // The shell waits for its ids and then executes the test, by which uid 0 becomes mighty inside.
    let mut child = Command::new("unshare")
        .args(["--user", "--", "sh", "-c", "echo ready; read go; exec \"$0\" \"$@\" < /dev/null"])
        .arg(me)
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("unshare(1) starts");
    let mut output = BufReader::new(child.stdout.take().expect("piped"));
    let mut line = String::new();
    output.read_line(&mut line).expect("the shell says that it is ready");
    assert_eq!(line, "ready\n", "a user namespace can be made");
    let pid = child.id();
    let me = std::fs::metadata("/proc/self").expect("procfs");
    if me.uid() == 0 {
        for map in ["uid_map", "gid_map"] {
            std::fs::write(format!("/proc/{pid}/{map}"), "0 0 1\n1 100000 65535\n").expect("root maps any id");
        }
    } else {
        for (helper, file, own) in [("newuidmap", "/etc/subuid", me.uid()), ("newgidmap", "/etc/subgid", me.gid())] {
            let (first, count) = range(file, me.uid());
            let arguments = [pid, 0, own, 1, 1, first, count.min(65535)].map(|number| number.to_string());
            let status = Command::new(helper).args(arguments).status().expect("the package uidmap is installed");
            assert!(status.success(), "{helper} maps the range of {file}");
        }
    }
    child.stdin.take().expect("piped").write_all(b"go\n").expect("the shell goes on");
    let mut text = String::new();
    output.read_to_string(&mut text).expect("output");
    let status = child.wait().expect("wait");
    assert!(status.success() && text.contains("1 passed"), "in the namespace:\n{text}");
    false
}

/// The first range of subordinate ids that this user has.
fn range(file: &str, uid: u32) -> (u32, u32) {
    let name = Command::new("id").arg("-un").output().expect("id(1)").stdout;
    let name = String::from_utf8_lossy(&name).trim().to_owned();
    let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{file}: {error}"));
    let found = text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let owner = fields.next()?;
        (owner == name || owner == uid.to_string())
            .then(|| Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?)))?
    });
    found.unwrap_or_else(|| panic!("{file} has a range for {name}"))
}
