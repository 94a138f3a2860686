//! Giving a process that has made a user namespace its ids.

use std::ffi::CString;
use std::fs;
use std::io::{self, PipeReader, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rbox_sys::clone::{Child, Ended};
use rbox_sys::spawn::spawn;
use rbox_types::IdMap;

use crate::{Error, Identity, Kind};

/// The maps of one process on their way: the helpers take about a millisecond each, and run side by side while the
/// caller does something else.
#[derive(Default)]
#[must_use = "the maps are there when `finish` has returned"]
pub struct MapWriter {
    helpers: Vec<(&'static str, Child)>,
    /// What they print, where there are any.
    messages: Option<PipeReader>,
}

impl MapWriter {
    /// Begins to write the maps of `identity` for the process `pid`, which must be in its new namespace already.
    pub fn begin(identity: &Identity, pid: u32) -> Result<Self, Error> {
        let maps = &identity.maps;
        match identity.kind {
            Kind::Subid => {
                let (uid, gid) = (find_helper("newuidmap")?, find_helper("newgidmap")?);
                let failed = |helper| move |error: io::Error| Error::Helper { helper, message: error.to_string() };
                let (messages, stderr) = io::pipe().map_err(failed("newuidmap"))?;
                let mut writer = Self { helpers: Vec::with_capacity(2), messages: Some(messages) };
                for (name, path, map) in [("newuidmap", uid, &maps.uid), ("newgidmap", gid, &maps.gid)] {
                    writer.helpers.push((name, start(&path, pid, map, stderr.as_fd()).map_err(failed(name))?));
                }
                Ok(writer)
            }
            Kind::Single => {
                // Without privilege the kernel takes a gid map only from who has given up setgroups(2) (Linux 3.19).
                write(pid, "setgroups", "deny")?;
                write(pid, "gid_map", &maps.gid.to_string())?;
                write(pid, "uid_map", &maps.uid.to_string())?;
                Ok(Self::default())
            }
            Kind::Privileged => {
                write(pid, "gid_map", &maps.gid.to_string())?;
                write(pid, "uid_map", &maps.uid.to_string())?;
                Ok(Self::default())
            }
        }
    }

    /// Waits until both maps are there.
    pub fn finish(mut self) -> Result<(), Error> {
        let mut message = String::new();
        if let Some(messages) = &mut self.messages {
            // What cannot be read is not shown; the exit status decides.
            let _ = messages.read_to_string(&mut message);
        }
        let mut result = Ok(());
        for (helper, child) in self.helpers.drain(..) {
            let failed = match child.wait() {
                Ok(Ended::Exited(0)) => continue,
                Ok(_) if !message.trim().is_empty() => message.trim().to_owned(),
                Ok(Ended::Exited(code)) => format!("exit status {code}"),
                Ok(Ended::Signaled(signal)) => format!("ended by signal {signal}"),
                Err(error) => error.to_string(),
            };
            result = result.and(Err(Error::Helper { helper, message: failed }));
        }
        result
    }
}

/// Helpers of a writer that is not finished are reaped all the same.
impl Drop for MapWriter {
    fn drop(&mut self) {
        for (_, child) in &self.helpers {
            let _ = child.wait();
        }
    }
}

/// Where `name` is installed: $PATH, then where distributions put it, since $PATH may be anything.
pub(crate) fn find_helper(name: &'static str) -> Result<PathBuf, Error> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/bin".into(), "/bin".into(), "/run/wrappers/bin".into()])
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
        .ok_or(Error::NoHelper { helper: name })
}

/// Not by `std::process`: see [`rbox_sys::spawn`].
fn start(path: &Path, pid: u32, map: &IdMap, stderr: BorrowedFd<'_>) -> io::Result<Child> {
    let numbers = map.ranges().iter().flat_map(|range| [range.inside, range.outside, range.length]);
    let words = numbers.map(|number| number.to_string().into_bytes());
    let words = [path.as_os_str().as_bytes().to_vec(), pid.to_string().into_bytes()].into_iter().chain(words);
    let argv: Vec<CString> = words.map(CString::new).collect::<Result<_, _>>()?;
    spawn(&argv[0], &argv, stderr)
}

fn write(pid: u32, file: &str, text: &str) -> Result<(), Error> {
    let path = PathBuf::from(format!("/proc/{pid}/{file}"));
    fs::write(&path, text).map_err(|source| Error::WriteMap { path, source })
}
