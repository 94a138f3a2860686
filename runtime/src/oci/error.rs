//! What an engine asked for and did not get.

use std::io;
use std::path::PathBuf;

use crate::Status;

/// A failure of a command of the OCI runtime interface.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The id cannot be a file's name.
    #[error("{0:?} is not an id for a container: expected letters, digits and any of _+-.")]
    InvalidId(String),
    /// The id is taken.
    #[error("a container with the id {0} exists already")]
    Exists(String),
    /// Somebody else could write there.
    #[error("{0} is not a directory that only this user can write to")]
    NotOurs(PathBuf),
    /// There is no such container.
    #[error("the container {0} does not exist")]
    Missing(String),
    /// The container is not in a state for that.
    #[error("cannot {operation} the container {id}: it is {status}")]
    Status {
        /// What was asked for.
        operation: &'static str,
        /// Which container.
        id: String,
        /// What it is instead.
        status: Status,
    },
    /// The bundle is not one.
    #[error("cannot read the bundle's {path}")]
    Bundle {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What the engine asked for contradicts itself or the bundle.
    #[error("{0}")]
    Usage(String),
    /// A file of ours.
    #[error("cannot {operation} {path}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something of its cgroup failed.
    #[error(transparent)]
    Cgroup(#[from] crate::cgroup::Error),
    /// systemd did not do its part.
    #[error(transparent)]
    Systemd(#[from] crate::systemd::Error),
    /// The container has no cgroup for that.
    #[error("cannot {operation} the container {id}: it has no cgroup")]
    NoCgroup {
        /// What was asked for.
        operation: &'static str,
        /// Which container.
        id: String,
    },
    /// The start of the container's first process failed.
    #[error(transparent)]
    Runtime(#[from] crate::Error),
}

impl Error {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Runtime(error) => error.hint(),
            Self::Cgroup(error) => error.hint(),
            Self::Systemd(error) => error.hint(),
            Self::NotOurs(_) => Some("set XDG_RUNTIME_DIR, or say --root".into()),
            Self::NoCgroup { .. } => Some("a user needs a cgroup that is delegated to him".into()),
            _ => None,
        }
    }

    /// For `map_err`.
    pub(super) fn io(operation: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { operation, path, source }
    }
}
