//! Failures, on this side of the container's walls and on the other.

use std::path::PathBuf;
use std::{fmt, io};

use rbox_types::Exit;
use serde::{Deserialize, Serialize};

/// A failure of the launcher.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The spec asks for something that this runtime does not do.
    #[error("config: {field}: {why}")]
    Refused {
        /// The field, as the runtime spec writes it: `linux.seccomp`.
        field: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// Namespaces or ids could not be had.
    #[error(transparent)]
    Rootless(#[from] rbox_rootless::Error),
    /// A step before the container's own first process failed.
    #[error("cannot {operation}")]
    Launch {
        /// What was tried.
        operation: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A namespace to be joined cannot be opened.
    #[error("cannot open the namespace {path}")]
    Namespace {
        /// Where the spec says it is.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A process whose namespaces are to be joined has the caller's own.
    #[error("process {0} is in no container")]
    NotContained(u32),
    /// A bind source cannot be shown with the container's ids.
    #[error("cannot show {path} with the container's ids")]
    IdMappedMount {
        /// The source.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Nobody takes the listener of the container's filter.
    #[error("cannot hand the listener of the seccomp filter to the agent at {path}")]
    Agent {
        /// `linux.seccomp.listenerPath`.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A step inside the namespaces failed.
    #[error("cannot {0}")]
    Inside(Failure),
}

impl Error {
    /// The exit status for this failure.
    pub fn status(&self) -> u8 {
        match self {
            Self::Inside(failure) => failure.status,
            _ => Exit::RBOX_FAILED,
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Rootless(error) => error.hint(),
            Self::Inside(failure) => failure.hint.clone(),
            Self::IdMappedMount { .. } => Some(
                "its filesystem must allow id-mapped mounts (ext4, xfs, btrfs and f2fs of Linux 5.15, tmpfs of 6.3); an \
                 ordinary user's containers do without"
                    .into(),
            ),
            _ => None,
        }
    }
}

/// What failed inside the namespaces, as it travels to the launcher.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What was tried, on what: "mount proc on /proc".
    pub what: String,
    /// The error number, where the kernel gave one.
    pub errno: Option<i32>,
    /// Why, where it is more than an error number.
    pub why: Option<String>,
    /// 125, 126 or 127.
    pub status: u8,
    /// What the user can do about it.
    pub hint: Option<String>,
}

impl Failure {
    /// rbox could not do `what`.
    pub fn new(what: impl Into<String>, error: &io::Error) -> Self {
        let errno = error.raw_os_error();
        let why = errno.is_none().then(|| error.to_string());
        Self { what: what.into(), errno, why, status: Exit::RBOX_FAILED, hint: None }
    }

    /// With a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// With an exit status other than 125.
    #[must_use]
    pub fn status(mut self, status: u8) -> Self {
        self.status = status;
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if let Some(why) = &self.why {
            write!(f, ": {why}")?;
        }
        if let Some(errno) = self.errno {
            write!(f, ": {}", io::Error::from_raw_os_error(errno))?;
        }
        Ok(())
    }
}

impl From<&Failure> for io::ErrorKind {
    fn from(failure: &Failure) -> Self {
        failure.errno.map_or(Self::Other, |errno| io::Error::from_raw_os_error(errno).kind())
    }
}

/// `result.during(|| "what was tried")`: names the step that failed.
pub(crate) trait During<T> {
    fn during<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T, Failure>;
}

impl<T> During<T> for io::Result<T> {
    fn during<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(what(), &error))
    }
}
