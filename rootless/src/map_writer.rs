//! Giving a process that has made a user namespace its ids.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rbox_types::IdMap;

use crate::{Error, Identity, Kind};

/// The maps of one process on their way: the helpers take about a millisecond each, and run side by side while the
/// caller does something else.
#[must_use = "the maps are there when `finish` has returned"]
pub struct MapWriter {
    helpers: Vec<(&'static str, Child)>,
}

impl MapWriter {
    /// Begins to write the maps of `identity` for the process `pid`, which must be in its new namespace already.
    pub fn begin(identity: &Identity, pid: u32) -> Result<Self, Error> {
        let maps = &identity.maps;
        match identity.kind {
            Kind::Subid => {
                let (uid, gid) = (find_helper("newuidmap")?, find_helper("newgidmap")?);
                let mut writer = Self { helpers: Vec::with_capacity(2) };
                for (name, path, map) in [("newuidmap", uid, &maps.uid), ("newgidmap", gid, &maps.gid)] {
                    writer.helpers.push((name, spawn(name, &path, pid, map)?));
                }
                Ok(writer)
            }
            Kind::Single => {
                // Without privilege the kernel takes a gid map only from who has given up setgroups(2) (Linux 3.19).
                write(pid, "setgroups", "deny")?;
                write(pid, "gid_map", &maps.gid.to_string())?;
                write(pid, "uid_map", &maps.uid.to_string())?;
                Ok(Self { helpers: Vec::new() })
            }
            Kind::Privileged => {
                write(pid, "gid_map", &maps.gid.to_string())?;
                write(pid, "uid_map", &maps.uid.to_string())?;
                Ok(Self { helpers: Vec::new() })
            }
        }
    }

    /// Waits until both maps are there.
    pub fn finish(mut self) -> Result<(), Error> {
        let mut result = Ok(());
        for (helper, mut child) in self.helpers.drain(..) {
            let mut message = String::new();
            if let Some(stderr) = &mut child.stderr {
                // What cannot be read is not shown; the exit status decides.
                let _ = stderr.read_to_string(&mut message);
            }
            let failed = match child.wait() {
                Ok(status) if status.success() => continue,
                Ok(status) if message.trim().is_empty() => status.to_string(),
                Ok(_) => message.trim().to_owned(),
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
        for (_, child) in &mut self.helpers {
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

fn spawn(name: &'static str, path: &Path, pid: u32, map: &IdMap) -> Result<Child, Error> {
    let mut command = Command::new(path);
    command.arg(pid.to_string());
    for range in map.ranges() {
        command.args([range.inside, range.outside, range.length].map(|number| number.to_string()));
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| Error::Helper { helper: name, message: error.to_string() })
}

fn write(pid: u32, file: &str, text: &str) -> Result<(), Error> {
    let path = PathBuf::from(format!("/proc/{pid}/{file}"));
    fs::write(&path, text).map_err(|source| Error::WriteMap { path, source })
}
