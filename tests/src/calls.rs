//! System calls as programs make them, for tests that are about what those do: nothing of rbox's own is in between.

use std::fmt::Debug;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
pub use rustix::fs::*;
pub use rustix::io::{Errno, dup, pread, pwrite, read, write};
pub use rustix::process::{WaitOptions, chdir, umask, wait};

/// Holds where a call failed with this errno.
#[track_caller]
pub fn refused<T: Debug, E: Into<std::io::Error>>(result: Result<T, E>, with: Errno) -> Result<()> {
    let at = std::panic::Location::caller();
    match result.map_err(Into::into) {
        Ok(given) => bail!("line {}: it gave {given:?}, and not {with}", at.line()),
        Err(error) => {
            ensure!(error.raw_os_error() == Some(with.raw_os_error()), "line {}: {error}, and not {with}", at.line());
            Ok(())
        }
    }
}

/// Opens, and makes with a mode of 0644 where the flags say so.
pub fn opened(path: &str, flags: OFlags) -> std::io::Result<std::fs::File> {
    Ok(open(path, flags | OFlags::CLOEXEC, Mode::from_raw_mode(0o644))?.into())
}

/// renameat2(2).
pub fn rename2(from: &str, to: &str, flags: RenameFlags) -> rustix::io::Result<()> {
    renameat_with(CWD, from, CWD, to, flags)
}

/// The value of an extended attribute, of the link itself where it is one.
pub fn xattr(path: impl AsRef<Path>, name: &str) -> rustix::io::Result<Vec<u8>> {
    let mut value = vec![0; 1 << 16];
    let length = lgetxattr(path.as_ref(), name, &mut value[..])?;
    value.truncate(length);
    Ok(value)
}

/// The names of the extended attributes, sorted.
pub fn xattrs(path: impl AsRef<Path>) -> rustix::io::Result<Vec<String>> {
    let mut names = vec![0; 1 << 16];
    let length = llistxattr(path.as_ref(), &mut names[..])?;
    let names = names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let mut names: Vec<String> = names.map(|name| String::from_utf8_lossy(name).into_owned()).collect();
    names.sort();
    Ok(names)
}

/// Does something as another user without capabilities, on a thread of its own.
#[track_caller]
pub fn as_user<T: Send>(uid: u32, gid: u32, act: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let at = std::panic::Location::caller();
    let become_and_act = || {
        rbox_sys::ids::set_groups(&[])?;
        rbox_sys::ids::become_user(uid, gid)?;
        act()
    };
    let ended = std::thread::scope(|scope| scope.spawn(become_and_act).join());
    ended
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        .with_context(|| format!("line {}, as user {uid}", at.line()))
}
