//! What programs do to a tree and see of it, in words: a line is a step, and what comes of it is words too, the same for
//! all who do as the kernel does.
//!
//! ```text
//! create F MODE                put F LENGTH FILL            node F MODE            mkdir D MODE
//! fifo P MODE                  symlink TO L                 link FROM TO           rmdir D
//! unlink F                     rename FROM TO               rename-free FROM TO    exchange ONE OTHER
//! write F AT LENGTH FILL       append F LENGTH FILL         truncate F SIZE        empty F
//! map F AT LENGTH FILL         allocate F HOW AT LENGTH     copy F AT TO AT LENGTH
//! chmod P MODE                 chown P UID:GID              utimes P ACCESSED MODIFIED
//! setxattr P NAME VALUE HOW    removexattr P NAME           acl P NAME ACL
//! stat P                       read F                       list D                 readlink L
//! open N P                     open-write N F               close N
//! of N …                       one of: stat, read, write, truncate, chmod, chown, utimes, setxattr, allocate, list, sync,
//!                              map, make NAME, look NAME
//! ```

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::PathBuf;

use rbox_sys::map::{Map, Sharing};

use super::tree::{ACCESS, DEFAULT, acl};
use crate::calls::{
    self, AtFlags, CWD, Dir, Errno, FallocateFlags, FileType, Gid, Mode, OFlags, RenameFlags, Timespec, Timestamps,
    UTIME_NOW, UTIME_OMIT, Uid, XattrFlags,
};
use crate::hash::digest;

/// Times from then on are those of the clock, and not said.
const NOW: i64 = 1_000_000_000;

/// Who takes steps, from the working directory on, with what is open to him.
#[derive(Debug, Default)]
pub struct Steps {
    open: BTreeMap<String, File>,
}

impl Steps {
    /// Takes one; gives what came of it. An error in the words themselves is EINVAL's affair and nobody's else: both get it.
    pub fn take(&mut self, step: &str) -> String {
        let words: Vec<&str> = step.split(' ').collect();
        self.act(&words).unwrap_or_else(|error| error.to_string())
    }

    /// Lets go of all that is open.
    pub fn close_all(&mut self) {
        self.open.clear();
    }

    fn act(&mut self, words: &[&str]) -> io::Result<String> {
        let done = || Ok(String::from("done"));
        match *words {
            ["create", path, bits] => {
                calls::open(path, OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | ALWAYS, mode(bits)?)?;
                done()
            }
            ["put", path, length, fill] => {
                let flags = OFlags::CREATE | OFlags::TRUNC | OFlags::WRONLY | ALWAYS;
                write(&calls::open(path, flags, Mode::from_raw_mode(0o644))?.into(), "0", length, fill)
            }
            ["node", path, bits] => said(calls::mknodat(CWD, path, FileType::RegularFile, mode(bits)?, 0)),
            ["fifo", path, bits] => said(calls::mknodat(CWD, path, FileType::Fifo, mode(bits)?, 0)),
            ["mkdir", path, bits] => said(calls::mkdir(path, mode(bits)?)),
            ["symlink", to, path] => said(calls::symlink(to, path)),
            ["link", from, to] => said(calls::link(from, to)),
            ["rmdir", path] => said(calls::rmdir(path)),
            ["unlink", path] => said(calls::unlink(path)),
            ["rename", from, to] => said(calls::rename(from, to)),
            ["rename-free", from, to] => said(calls::rename2(from, to, RenameFlags::NOREPLACE)),
            ["exchange", from, to] => said(calls::rename2(from, to, RenameFlags::EXCHANGE)),
            ["write", path, at, length, fill] => write(&opened(path, OFlags::WRONLY)?, at, length, fill),
            ["append", path, length, fill] => {
                let file = opened(path, OFlags::WRONLY | OFlags::APPEND)?;
                io::Write::write_all(&mut &file, &filled(length, fill)?)?;
                done()
            }
            // As truncate(2), which opens nothing, and which there is no safe way to.
            ["truncate", path, size] => opened(path, OFlags::WRONLY)?.set_len(number(size)?).and_then(|()| done()),
            ["empty", path] => opened(path, OFlags::WRONLY | OFlags::TRUNC).and_then(|_| done()),
            ["map", path, at, length, fill] => map(&opened(path, OFlags::RDWR)?, at, length, fill),
            ["allocate", path, how, at, length] => allocate(&opened(path, OFlags::RDWR)?, how, at, length),
            ["copy", from, at, to, to_at, length] => {
                let (from, to) = (opened(from, OFlags::RDONLY)?, opened(to, OFlags::RDWR)?);
                write_to(&to);
                let (mut at, mut to_at) = (number(at)?, number(to_at)?);
                let length = number(length)? as usize;
                let copied = calls::copy_file_range(&from, Some(&mut at), &to, Some(&mut to_at), length)?;
                Ok(copied.to_string())
            }
            ["chmod", path, bits] => said(calls::chmod(path, mode(bits)?)),
            ["chown", path, owner] => {
                let (uid, gid) = ids(owner)?;
                calls::chownat(CWD, path, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
                done()
            }
            ["utimes", path, accessed, modified] => {
                calls::utimensat(CWD, path, &times(accessed, modified)?, AtFlags::SYMLINK_NOFOLLOW)?;
                done()
            }
            ["setxattr", path, name, value, how] => {
                calls::lsetxattr(path, name, value.as_bytes(), flags(how)?)?;
                done()
            }
            ["removexattr", path, name] => said(calls::lremovexattr(path, name)),
            ["acl", path, which, words] => {
                let name = if which == "access" { ACCESS } else { DEFAULT };
                // Who is not in the group takes that bit away with an ACL; rbox is not told who is.
                if fs::metadata(path)?.mode() & 0o2000 != 0 {
                    return Ok("has a set-group-id bit".to_owned());
                }
                match words {
                    "none" => calls::lremovexattr(path, name)?,
                    words => calls::lsetxattr(path, name, &acl(words).map_err(io::Error::other)?, XattrFlags::empty())?,
                }
                done()
            }
            ["stat", path] => Ok(status(&fs::symlink_metadata(path)?)),
            ["read", path] => content(&opened(path, OFlags::RDONLY)?),
            ["list", path] => list(opened(path, OFlags::RDONLY | OFlags::DIRECTORY)?),
            ["readlink", path] => Ok(format!("{:?}", fs::read_link(path)?)),
            ["open", slot, path] => {
                let file = opened(path, OFlags::RDONLY)?;
                self.open.insert(slot.to_owned(), file);
                done()
            }
            // What is opened to be written is written to: others copy it up then.
            ["open-write", slot, path] => {
                let file = opened(path, OFlags::RDWR)?;
                file.write_all_at(b"w", 0)?;
                self.open.insert(slot.to_owned(), file);
                done()
            }
            ["close", slot] => Ok(self.open.remove(slot).map_or("none", |_| "done").to_owned()),
            ["of", slot, ref rest @ ..] => match self.open.get(slot) {
                Some(file) => act_on(file, rest),
                None => Ok("none".to_owned()),
            },
            _ => Err(Errno::INVAL.into()),
        }
    }
}

/// None waits for the other end of a fifo.
const ALWAYS: OFlags = OFlags::CLOEXEC.union(OFlags::NONBLOCK);

fn act_on(file: &File, words: &[&str]) -> io::Result<String> {
    let done = || Ok(String::from("done"));
    match *words {
        ["stat"] => Ok(status(&file.metadata()?)),
        ["read"] => content(file),
        ["write", at, length, fill] => write(file, at, length, fill),
        ["truncate", size] => file.set_len(number(size)?).and_then(|()| done()),
        ["chmod", bits] => said(calls::fchmod(file, mode(bits)?)),
        ["chown", owner] => {
            let (uid, gid) = ids(owner)?;
            said(calls::fchown(file, uid, gid))
        }
        ["utimes", accessed, modified] => said(calls::futimens(file, &times(accessed, modified)?)),
        ["setxattr", name, value, how] => said(calls::fsetxattr(file, name, value.as_bytes(), flags(how)?)),
        ["allocate", how, at, length] => allocate(file, how, at, length),
        ["map", at, length, fill] => map(file, at, length, fill),
        ["list"] => list(file.try_clone()?),
        ["sync"] => file.sync_all().and_then(|()| done()),
        ["make", name] => said(calls::mkdirat(file, name, Mode::from_raw_mode(0o755))),
        ["look", name] => {
            let file = File::from(calls::openat(file, name, OFlags::PATH | OFlags::NOFOLLOW | ALWAYS, Mode::empty())?);
            Ok(status(&file.metadata()?))
        }
        _ => Err(Errno::INVAL.into()),
    }
}

fn said(result: Result<(), Errno>) -> io::Result<String> {
    result?;
    Ok("done".to_owned())
}

fn opened(path: &str, flags: OFlags) -> io::Result<File> {
    Ok(calls::open(path, flags | ALWAYS, Mode::empty())?.into())
}

fn number(word: &str) -> io::Result<u64> {
    word.parse().map_err(io::Error::other)
}

fn mode(word: &str) -> io::Result<Mode> {
    u32::from_str_radix(word, 8).map(Mode::from_raw_mode).map_err(io::Error::other)
}

fn ids(word: &str) -> io::Result<(Option<Uid>, Option<Gid>)> {
    let (uid, gid) = word.split_once(':').ok_or(Errno::INVAL)?;
    let one = |id: &str| if id.is_empty() { Ok(None) } else { id.parse().map(Some).map_err(io::Error::other) };
    Ok((one(uid)?.map(Uid::from_raw), one(gid)?.map(Gid::from_raw)))
}

/// `now`, `same`, or seconds and as many nanoseconds.
fn times(accessed: &str, modified: &str) -> io::Result<Timestamps> {
    let one = |word: &str| -> io::Result<Timespec> {
        Ok(match word {
            "now" => Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
            "same" => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            word => {
                let seconds: i64 = word.parse().map_err(io::Error::other)?;
                Timespec { tv_sec: seconds, tv_nsec: (seconds.unsigned_abs() % 1_000_000_000) as _ }
            }
        })
    };
    Ok(Timestamps { last_access: one(accessed)?, last_modification: one(modified)? })
}

fn flags(word: &str) -> io::Result<XattrFlags> {
    match word {
        "any" => Ok(XattrFlags::empty()),
        "new" => Ok(XattrFlags::CREATE),
        "old" => Ok(XattrFlags::REPLACE),
        _ => Err(Errno::INVAL.into()),
    }
}

/// What is opened to be written is written to, before that may come to nothing: rbox copies up then, the kernel when it is
/// opened.
fn write_to(file: &File) {
    let _ = calls::fallocate(file, FallocateFlags::KEEP_SIZE, 0, 1);
}

fn filled(length: &str, fill: &str) -> io::Result<Vec<u8>> {
    Ok(vec![fill.as_bytes().first().copied().unwrap_or(b'?'); number(length)? as usize])
}

fn write(file: &File, at: &str, length: &str, fill: &str) -> io::Result<String> {
    let bytes = filled(length, fill)?;
    if bytes.is_empty() {
        write_to(file);
    }
    file.write_all_at(&bytes, number(at)?)?;
    Ok("done".to_owned())
}

fn map(file: &File, at: &str, length: &str, fill: &str) -> io::Result<String> {
    let (at, bytes, size) = (number(at)? as usize, filled(length, fill)?, file.metadata()?.len() as usize);
    if size < at + bytes.len() || bytes.is_empty() {
        write_to(file);
        return Ok("not so long".to_owned());
    }
    // A mapped write keeps them on the kernel's overlay; to rbox it comes as any other, which takes them.
    if file.metadata()?.mode() & 0o6000 != 0 {
        return Ok("has set-id bits".to_owned());
    }
    let mut map = Map::new(file, size, Sharing::Shared, true)?;
    let before = runs(&map.read(0, size));
    map.write(at, &bytes);
    map.sync()?;
    Ok(before)
}

fn allocate(file: &File, how: &str, at: &str, length: &str) -> io::Result<String> {
    let flags = match how {
        "plain" => FallocateFlags::empty(),
        "keep" => FallocateFlags::KEEP_SIZE,
        "punch" => FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
        "zero" => FallocateFlags::ZERO_RANGE,
        _ => return Err(Errno::INVAL.into()),
    };
    write_to(file);
    calls::fallocate(file, flags, number(at)?, number(length)?)?;
    Ok("done".to_owned())
}

fn content(file: &File) -> io::Result<String> {
    let mut bytes = vec![0; 1 << 18];
    let mut length = 0;
    while length < bytes.len() {
        match calls::pread(file, &mut bytes[length..], length as u64)? {
            0 => break,
            more => length += more,
        }
    }
    Ok(runs(&bytes[..length]))
}

/// Bytes, and how often each stands there: `[a×3 b]`. Of many, the sum of all.
fn runs(bytes: &[u8]) -> String {
    let words = bytes.chunk_by(|one, other| one == other).map(|run| match run.len() {
        1 => run.escape_ascii().to_string(),
        length => format!("{}×{length}", run[..1].escape_ascii()),
    });
    let words: Vec<String> = words.collect();
    match words.len() {
        0..=SAID => format!("[{}]", words.join(" ")),
        length => format!("[{} … {length} runs, {}]", words[..SAID].join(" "), digest(bytes)),
    }
}

/// So many are said.
const SAID: usize = 12;

fn list(file: File) -> io::Result<String> {
    let mut names = Vec::new();
    for entry in Dir::read_from(file.as_fd())? {
        let entry = entry?;
        // The kernel's overlay lists whiteouts that are in the only layer of a directory, and then does not find them.
        if entry.file_type() == FileType::CharacterDevice {
            continue;
        }
        names.push(format!("{}:{:?}", entry.file_name().to_string_lossy(), entry.file_type()));
    }
    names.sort();
    Ok(names.join(" "))
}

/// What is the same wherever it is asked for: neither numbers nor blocks, and of the times what was set.
fn status(status: &Metadata) -> String {
    let size = if status.is_dir() { String::new() } else { format!(" {} bytes", status.size()) };
    let time = match (status.mtime(), status.mtime_nsec()) {
        (NOW.., _) => "now".to_owned(),
        (seconds, nanoseconds) => format!("{seconds}.{nanoseconds}"),
    };
    let (uid, gid) = (status.uid(), status.gid());
    format!("{:06o} {uid}:{gid} ×{} rdev={}{size} mtime={time}", status.mode(), status.nlink(), status.rdev())
}

/// Which names of files are hard links of each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// Is looked at.
    Seen,
    /// Is not.
    Unseen,
}

/// All that is in the working directory: a line for each name.
pub fn all(links: Links) -> anyhow::Result<String> {
    let (mut text, mut left, mut first_names) = (String::new(), vec![PathBuf::from(".")], BTreeMap::new());
    while let Some(path) = left.pop() {
        let found = fs::symlink_metadata(&path)?;
        write!(text, "{} {}", path.display(), status(&found))?;
        if found.is_file() {
            write!(text, " {}", content(&File::open(&path)?)?)?;
            let first = first_names.entry(found.ino()).or_insert_with(|| path.clone());
            if links == Links::Seen && *first != path {
                write!(text, " = {}", first.display())?;
            }
        } else if found.is_symlink() {
            write!(text, " {:?}", fs::read_link(&path)?)?;
        } else if found.is_dir() {
            let mut names = Vec::new();
            for entry in fs::read_dir(&path)? {
                let entry = entry?;
                // As in [`list`].
                if !entry.file_type()?.is_char_device() {
                    names.push(path.join(entry.file_name()));
                }
            }
            names.sort_by(|one, other| other.as_os_str().as_bytes().cmp(one.as_os_str().as_bytes()));
            left.append(&mut names);
        }
        for name in calls::xattrs(&path)? {
            write!(text, " {name}={}", calls::xattr(&path, &name)?.escape_ascii())?;
        }
        writeln!(text)?;
    }
    Ok(text)
}
