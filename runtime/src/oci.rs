//! The OCI runtime interface: what engines such as Podman and containerd ask of a runtime, as functions. The command line
//! is elsewhere.
//!
//! ```text
//! create  bundle → state directory, namespaces, mounts; init waits ──▶ created
//! start   connects to the socket that init listens on              ──▶ running
//! exec    one more process                                             (running)
//! kill    a signal to the first process
//! delete  what is left of it goes                                  (stopped ──▶ gone)
//! ```
//!
//! No process of rbox stays: a container's status is what its first process and its state directory say.

mod bundle;
mod create;
mod delete;
mod error;
mod exec;
mod features;
mod ids;
mod kill;
mod resources;
mod spelling;
mod start;
mod state;

use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::{fs, io};

pub use bundle::Bundle;
pub use create::{Created, Creation, Rootless};
pub use error::Error;
pub use exec::Execution;
pub use features::{SPEC_VERSION, features};
pub use kill::parse_signal;
pub use spelling::parse;
pub use state::Container;

#[cfg(test)]
pub(crate) use ids::identity;

/// Where containers' states are kept: a directory each.
#[derive(Debug, Clone)]
pub struct States {
    root: PathBuf,
}

impl States {
    /// Those at `root`.
    pub fn at(root: PathBuf) -> Self {
        Self { root }
    }

    /// Where this user's are: `$XDG_RUNTIME_DIR/rbox-oci`, or `/run/rbox-oci` for root. A user without the variable has
    /// them in a directory in /tmp, that nobody else may have made.
    pub fn of_this_user() -> Result<Self, Error> {
        let base = match std::env::var_os("XDG_RUNTIME_DIR") {
            Some(dir) if !dir.is_empty() => PathBuf::from(dir),
            _ if rbox_sys::ids::uid() == 0 => PathBuf::from("/run"),
            _ => own_directory(std::env::temp_dir().join(format!("rbox-{}", rbox_sys::ids::uid())))?,
        };
        Ok(Self { root: base.join("rbox-oci") })
    }

    fn directory(&self, id: &str) -> Result<PathBuf, Error> {
        check_id(id)?;
        Ok(self.root.join(id))
    }

    /// The directory of them all.
    pub fn root(&self) -> &Path {
        &self.root
    }
}

/// A directory where anybody may make one. Its name can be foreseen, and a state that somebody else has written could have
/// this user run hooks of that one's choice, or signal processes.
fn own_directory(path: PathBuf) -> Result<PathBuf, Error> {
    match fs::DirBuilder::new().mode(0o700).create(&path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        result => result.map_err(Error::io("create", &path))?,
    }
    let found = fs::symlink_metadata(&path).map_err(Error::io("look at", &path))?;
    if found.is_dir() && found.uid() == rbox_sys::ids::uid() && found.mode() & 0o022 == 0 {
        Ok(path)
    } else {
        Err(Error::NotOurs(path))
    }
}

/// An id becomes a file's name: letters, digits and `_+-.`, as in runc, and no name of a directory itself.
fn check_id(id: &str) -> Result<(), Error> {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '+' | '-' | '.');
    if id.is_empty() || id.len() > 255 || !id.chars().all(fine) || id == "." || id == ".." {
        return Err(Error::InvalidId(id.to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids() {
        for id in ["a", "A-1_2.3+4", "..."] {
            check_id(id).expect(id);
        }
        for id in ["", ".", "..", "a/b", "a b", "ä"] {
            assert!(check_id(id).is_err(), "{id:?}");
        }
    }
}
