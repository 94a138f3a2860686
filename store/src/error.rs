//! What can go wrong, and what mends it.

use std::{
    io,
    path::{Path, PathBuf},
};

use rbox_types::{ContainerId, ContainerName, Digest, Reference, VolumeName};

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// Why the store could not do something.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Neither `XDG_DATA_HOME` nor `HOME` says where the store is.
    #[error("cannot tell where the store is: neither XDG_DATA_HOME nor HOME is set to an absolute path")]
    NoHome,
    /// The store (or a part of it) refuses to be written.
    #[error("the store is not writable: cannot {operation} {path}", path = path.display())]
    NotWritable {
        /// A verb.
        operation: &'static str,
        /// What was refused.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// No space, or no quota, left.
    #[error("the store is full: cannot {operation} {path}", path = path.display())]
    Full {
        /// A verb.
        operation: &'static str,
        /// What had no room.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// Any other failure of the file system.
    #[error("cannot {operation} {path}", path = path.display())]
    Io {
        /// A verb.
        operation: &'static str,
        /// What it was about.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The tree was made by a later version of rbox.
    #[error("the store {root} has format {found}; this rbox knows formats up to {known}", root = root.display())]
    NewerFormat {
        /// The store.
        root: PathBuf,
        /// The format it has.
        found: u32,
        /// The latest that this version knows.
        known: u32,
    },
    /// The directory belongs to something else.
    #[error("{root} is not a store: it holds {entry:?}", root = root.display())]
    NotAStore {
        /// The directory.
        root: PathBuf,
        /// What a store does not hold.
        entry: String,
    },
    /// A file of the store does not hold what it should.
    #[error("{path} is damaged", path = path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with its JSON.
        source: serde_json::Error,
    },
    /// A manifest or config that its own content makes unusable.
    #[error("the blob {digest} is not an image's {role}")]
    NotAnImage {
        /// The blob.
        digest: Digest,
        /// `manifest` or `config`.
        role: &'static str,
        /// What is wrong with its JSON.
        source: serde_json::Error,
    },
    /// The blob is not in the store.
    #[error("the blob {0} is not in the store")]
    NoBlob(Digest),
    /// The blob is longer than the reader is ready to hold.
    #[error("the blob {digest} has {size} bytes; at most {limit} are read at once")]
    TooLarge {
        /// The blob.
        digest: Digest,
        /// Its size in bytes.
        size: u64,
        /// The reader's limit in bytes.
        limit: u64,
    },
    /// An image was to be named before all of it was there, or a container made of what is gone.
    #[error("{what} needs {missing}, which is not in the store")]
    Incomplete {
        /// The image or container.
        what: String,
        /// The blob or layer.
        missing: String,
    },
    /// The name does not fit into a file name.
    #[error("the image name {0} is too long for the store: its file name would have more than 255 bytes")]
    NameTooLong(Reference),
    /// Another container has the name.
    #[error("the container name {name} is taken by container {id}", id = id.short())]
    NameTaken {
        /// The name.
        name: ContainerName,
        /// Who has it.
        id: ContainerId,
    },
    /// No container has that name or an id that begins so.
    #[error("no such container: {0}")]
    NoContainer(String),
    /// Several containers' ids begin so.
    #[error("{prefix} is ambiguous: it is the beginning of {}", ids.iter().map(ContainerId::short).collect::<Vec<_>>().join(", "))]
    Ambiguous {
        /// What was asked for.
        prefix: String,
        /// All that match.
        ids: Vec<ContainerId>,
    },
    /// The container's owner is alive.
    #[error("container {} is running", .0.short())]
    Running(ContainerId),
    /// No volume has that name.
    #[error("no such volume: {0}")]
    NoVolume(String),
    /// Another volume has the name.
    #[error("volume {0} already exists")]
    VolumeExists(VolumeName),
    /// Containers have the volume.
    #[error("volume {name} is in use by {}", containers_in_words(.containers))]
    VolumeInUse {
        /// The volume.
        name: VolumeName,
        /// Their names.
        containers: Vec<ContainerName>,
    },
}

impl Error {
    /// What the person can do about it, where there is something.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoHome => Some("set HOME, or name a store with --root DIR".into()),
            Self::NotWritable { path, source, .. } => Some(match source.kind() {
                io::ErrorKind::ReadOnlyFilesystem => {
                    format!("{} is on a read-only file system; name another store with --root DIR", path.display())
                }
                _ => format!("make {} belong to you, or name another store with --root DIR", path.display()),
            }),
            Self::Full { .. } => Some("rbox gc removes what no image and no container uses".into()),
            Self::NewerFormat { .. } => {
                Some("use the rbox that made it or a later one, or name another store with --root DIR".into())
            }
            Self::NotAStore { .. } => Some("name a directory that is empty or not there".into()),
            Self::NameTaken { name, .. } => Some(format!("rbox rm {} frees the name", name.as_str())),
            Self::Incomplete { .. } | Self::NoBlob(_) => Some("pull the image again".into()),
            Self::Ambiguous { .. } => Some("give more digits of the id".into()),
            Self::VolumeExists(_) => Some("--ignore takes the one that is there".into()),
            Self::VolumeInUse { containers, .. } if !containers.is_empty() => {
                Some(format!("rbox rm {}", containers.iter().map(ContainerName::as_str).collect::<Vec<_>>().join(" ")))
            }
            Self::Running(id) => Some(format!("rbox rm --force {} ends it first", id.short())),
            _ => None,
        }
    }
}

/// Who has a volume.
fn containers_in_words(containers: &[ContainerName]) -> String {
    match containers {
        [] => "a container that is being made or removed".into(),
        [one] => format!("container {one}"),
        more => format!("containers {}", more.iter().map(ContainerName::as_str).collect::<Vec<_>>().join(", ")),
    }
}

/// Says what was being done when a call failed.
pub(crate) trait IoContext<T> {
    fn at(self, operation: &'static str, path: &Path) -> Result<T>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn at(self, operation: &'static str, path: &Path) -> Result<T> {
        self.map_err(|source| {
            let path = path.to_owned();
            let reading = matches!(operation, "read" | "list" | "look at");
            match source.kind() {
                _ if reading => Error::Io { operation, path, source },
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                    Error::NotWritable { operation, path, source }
                }
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::Full { operation, path, source },
                _ => Error::Io { operation, path, source },
            }
        })
    }
}
