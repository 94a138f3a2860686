//! What goes wrong with a layer.

use std::io;

use rbox_types::DiffId;

use crate::path::{EntryPath, PathProblem, shown};
use crate::tar;

/// A failure of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The layer's bytes could not be read, or are not what their compression says.
    #[error("cannot decompress the layer")]
    Decompress(#[source] io::Error),
    /// The decompressed bytes are not a tar archive.
    #[error("the layer is not a tar archive: {0}")]
    Archive(String),
    /// More follows the archive's end than any writer's padding.
    #[error("the layer goes on for more than {limit} bytes after the end of its archive")]
    Trailing {
        /// What is still read.
        limit: u64,
    },
    /// The bytes are not those that the image's configuration names.
    #[error("the layer's content is {found}, but the image's configuration says {expected}")]
    DiffId {
        /// The configuration's.
        expected: DiffId,
        /// The bytes' own.
        found: DiffId,
    },
    /// An entry that must not be, or cannot be, unpacked.
    #[error("the layer's entry {path}: {problem}")]
    Entry {
        /// Its name, fit to be shown.
        path: String,
        /// Why.
        problem: Problem,
    },
    /// The kernel refused.
    #[error("cannot {operation} {path}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what, relative to the layer's root, fit to be shown.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The worker could not be talked to, or ended without an answer.
    #[error("cannot {operation} the process that unpacks the layer")]
    Worker {
        /// What was tried.
        operation: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The worker's own failure, as it words it.
    #[error("{message}")]
    InWorker {
        /// The error and its causes.
        message: String,
        /// What mends it.
        hint: Option<String>,
    },
}

/// Why an entry is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Its own name.
    #[error("{0}")]
    Name(#[from] PathProblem),
    /// The name that it links to.
    #[error("the name that it is a hard link to is refused: {0}")]
    LinkName(PathProblem),
    /// Its path, or that of a hard link's target, goes through a symbolic link, which could lead anywhere.
    #[error("it goes through the symbolic link {0}")]
    ThroughSymlink(String),
    /// Its path goes through something that has no names in it.
    #[error("it goes through {0}, which is not a directory")]
    ThroughFile(String),
    /// A hard link to a directory.
    #[error("it is a hard link to the directory {0}")]
    LinkToDirectory(String),
    /// A hard link to what is neither in this layer nor in one below.
    #[error("it is a hard link to {0}, which does not exist")]
    LinkToNothing(String),
    /// A hard link to itself, or links in a circle.
    #[error("it is a hard link to itself")]
    LinkToItself,
    /// A symbolic link that says nothing, or more than a link can hold.
    #[error("it is a symbolic link to an empty, binary or overlong name")]
    SymlinkTarget,
    /// The layer's root as something else than a directory.
    #[error("it would replace the layer's root")]
    Root,
    /// A type of entry that no container image has.
    #[error("its type {0:?} is unknown")]
    Type(char),
    /// An owner that no Linux file can have.
    #[error("its owner {uid}:{gid} is out of range")]
    OwnerRange {
        /// As in the archive.
        uid: u64,
        /// As in the archive.
        gid: u64,
    },
    /// An owner that the user namespace has no id for.
    #[error("its owner {uid}:{gid} is not among the ids that this user may give out")]
    NotMapped {
        /// As in the archive.
        uid: u32,
        /// As in the archive.
        gid: u32,
    },
    /// The file system has no extended attributes for users.
    #[error("the store's file system cannot mark it as hiding what is below (no user.* extended attributes)")]
    NoOpaque,
    /// Memory is bounded.
    #[error("the layer has more directories and links than can be kept in memory")]
    TooMany,
}

impl Error {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Entry { problem: Problem::NotMapped { .. }, .. } => Some(
                "give the user larger ranges in /etc/subuid and /etc/subgid (65536 ids are usual), or store all files \
                 as one owner with --identity=single"
                    .into(),
            ),
            Self::Entry { problem: Problem::NoOpaque, .. } => {
                Some("keep the store on ext4, xfs or btrfs (tmpfs has user.* attributes since Linux 6.6)".into())
            }
            Self::Decompress(_) | Self::DiffId { .. } => {
                Some("the image is damaged where it comes from: pushing it again mends it".into())
            }
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Some("free some space; `rbox gc` removes what no image and no container uses".into())
            }
            Self::InWorker { hint, .. } => hint.clone(),
            _ => None,
        }
    }

    pub(crate) fn io<'a>(operation: &'static str, path: &'a EntryPath) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| Self::Io { operation, path: path.to_string(), source }
    }

    pub(crate) fn entry(path: &EntryPath, problem: impl Into<Problem>) -> Self {
        Self::Entry { path: path.to_string(), problem: problem.into() }
    }

    pub(crate) fn raw_entry(name: &[u8], problem: impl Into<Problem>) -> Self {
        Self::Entry { path: shown(name), problem: problem.into() }
    }
}

impl From<tar::Error> for Error {
    fn from(error: tar::Error) -> Self {
        match error {
            tar::Error::Io(error) => Self::Decompress(error),
            malformed @ tar::Error::Malformed { .. } => Self::Archive(malformed.to_string()),
        }
    }
}
