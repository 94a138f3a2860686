//! What is known of a container between one command and the next.
//!
//! ```text
//! <root>/<id>/
//! ├─ state.json    [`Record`]: written while the container is created; without it there is no container
//! └─ start         the socket that init listens on, until the container is started
//! ```
//!
//! The directory's lock is held by whoever changes the container. One without a record that nobody holds is what a
//! killed creation or deletion left.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;
use rbox_sys::at;
use rbox_sys::flock::{self, Mode};
use serde::{Deserialize, Serialize};

use super::{Error, States};
use crate::cgroup::{self, Cgroup};
use crate::hooks::{Hooks, Subject};
use crate::systemd::Scope;
use crate::{ProcessId, Status};

const RECORD: &str = "state.json";
pub(super) const SOCKET: &str = "start";

/// What was written down when it was created.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) subject: Subject,
    /// The bundle's config.json as it was then.
    pub(super) spec: Spec,
    pub(super) rootfs: PathBuf,
    /// The number of the mount that was there, where the root filesystem is mounted for everybody.
    pub(super) covered: Option<u64>,
    /// RFC 3339.
    pub(super) created: String,
    /// Where its processes are counted and limited.
    pub(super) cgroup: Option<cgroup::Record>,
    /// The unit of systemd's that the cgroup is, where it is one.
    pub(super) scope: Option<Scope>,
    /// The first process, where it is known already.
    pub(super) process: Option<ProcessId>,
    /// The user who created it.
    pub(super) owner: u32,
}

/// A container that exists.
#[derive(Debug)]
pub struct Container {
    pub(super) directory: PathBuf,
    pub(super) record: Record,
    /// The directory, open and perhaps locked.
    pub(super) file: File,
}

impl States {
    /// Makes the directory of a new container, and locks it. What is left of one that was never there whole is removed.
    pub(super) fn make(&self, id: &str, record: Record) -> Result<Container, Error> {
        use std::os::unix::fs::DirBuilderExt;
        let directory = self.directory(id)?;
        let mut private = fs::DirBuilder::new();
        private.mode(0o700).recursive(true).create(&self.root).map_err(Error::io("create", &self.root))?;
        private.recursive(false);
        match private.create(&directory) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if directory.join(RECORD).exists() || !self.clear(id)? {
                    return Err(Error::Exists(id.to_owned()));
                }
                private.create(&directory).map_err(Error::io("create", &directory))?;
            }
            result => result.map_err(Error::io("create", &directory))?,
        }
        let file = File::open(&directory).map_err(Error::io("open", &directory))?;
        let container = Container { directory, record, file };
        container.lock()?;
        container.write()?;
        Ok(container)
    }

    /// Removes what a killed creation or deletion left of a container that is not there; gives whether nothing of that id
    /// is there now.
    pub fn clear(&self, id: &str) -> Result<bool, Error> {
        let directory = self.directory(id)?;
        let file = match File::open(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
            file => file.map_err(Error::io("open", &directory))?,
        };
        // Whoever is at work there ends first, and may have made it a container by then.
        flock::lock(&file, Mode::Exclusive).map_err(Error::io("lock", &directory))?;
        let held = file.metadata().map_err(Error::io("look at", &directory))?;
        match fs::metadata(&directory) {
            Ok(there) if (there.dev(), there.ino()) == (held.dev(), held.ino()) && !directory.join(RECORD).exists() => {
                remove(&directory).map(|()| true)
            }
            Ok(_) => Ok(false),
            Err(_) => Ok(true),
        }
    }

    /// The container with this id.
    pub fn find(&self, id: &str) -> Result<Container, Error> {
        let directory = self.directory(id)?;
        let missing = |error: io::Error, operation, path: &Path| match error.kind() {
            io::ErrorKind::NotFound => Error::Missing(id.to_owned()),
            _ => Error::io(operation, path)(error),
        };
        let file = File::open(&directory).map_err(|error| missing(error, "open", &directory))?;
        let path = directory.join(RECORD);
        let text = fs::read(&path).map_err(|error| missing(error, "read", &path))?;
        let record = serde_json::from_slice(&text).map_err(io::Error::other).map_err(Error::io("read", &path))?;
        Ok(Container { directory, record, file })
    }

    /// All containers, by id.
    pub fn list(&self) -> Result<Vec<Container>, Error> {
        let entries = match fs::read_dir(&self.root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(Error::io("list", &self.root))?,
        };
        let mut ids: Vec<String> = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
        ids.sort();
        let mut found = Vec::new();
        for id in ids {
            match self.find(&id) {
                // One that is being made, or removed, meanwhile.
                Err(Error::Missing(_) | Error::InvalidId(_)) => {}
                container => found.push(container?),
            }
        }
        Ok(found)
    }
}

impl Container {
    /// Its id.
    pub fn id(&self) -> &str {
        &self.record.subject.id
    }

    /// Its first process, if it lives.
    pub fn pid(&self) -> Option<u32> {
        self.record.process.filter(|process| process.lives()).map(|process| process.pid)
    }

    /// Its cgroup; none where it could have none, or where that is gone.
    pub(super) fn cgroup(&self) -> Result<Option<Cgroup>, Error> {
        Ok(self.record.cgroup.as_ref().map(Cgroup::open).transpose()?.flatten())
    }

    /// Its cgroup, without which the `operation` cannot be done.
    pub(super) fn needed_cgroup(&self, operation: &'static str) -> Result<Cgroup, Error> {
        self.cgroup()?.ok_or_else(|| Error::NoCgroup { operation, id: self.id().to_owned() })
    }

    /// Where it is in its life.
    pub fn status(&self) -> Status {
        let paused =
            || self.cgroup().is_ok_and(|cgroup| cgroup.is_some_and(|cgroup| cgroup.is_frozen().unwrap_or(false)));
        match self.record.process {
            None => Status::Creating,
            Some(process) if !process.lives() => Status::Stopped,
            Some(_) if self.directory.join(SOCKET).exists() => Status::Created,
            Some(_) if paused() => Status::Paused,
            Some(_) => Status::Running,
        }
    }

    /// Where its root filesystem is mounted for everybody: it has no mount namespace of its own.
    pub(super) fn shared_place(&self) -> Option<&Path> {
        self.record.covered.map(|_| &*self.record.rootfs)
    }

    /// The bundle that it was made from.
    pub fn bundle(&self) -> &Path {
        &self.record.subject.bundle
    }

    /// When it was created, in RFC 3339's form.
    pub fn created(&self) -> &str {
        &self.record.created
    }

    /// The user who created it.
    pub fn owner(&self) -> u32 {
        self.record.owner
    }

    /// The spec's annotations.
    pub fn annotations(&self) -> &BTreeMap<String, String> {
        &self.record.subject.annotations
    }

    /// The state as the runtime spec has it, and what other runtimes tell besides.
    pub fn state(&self) -> serde_json::Value {
        let status = self.status();
        let mut state = self.record.subject.state(status, Some(self.pid().unwrap_or(0)));
        state["rootfs"] = self.record.rootfs.display().to_string().into();
        state["created"] = self.record.created.clone().into();
        state["owner"] = self.record.owner.to_string().into();
        state
    }

    /// Waits for the lock; it is held until this is dropped.
    pub(super) fn lock(&self) -> Result<(), Error> {
        flock::lock(&self.file, Mode::Exclusive).map_err(Error::io("lock", &self.directory))
    }

    pub(super) fn write(&self) -> Result<(), Error> {
        self.write_record().map_err(Error::io("write", self.directory.join(RECORD)))
    }

    pub(super) fn write_record(&self) -> io::Result<()> {
        // By the descriptor: if this is no longer the directory of that name, it is somebody else's container.
        at::replace_file(self.file.as_fd(), RECORD, 0o600, &serde_json::to_vec(&self.record)?)
    }

    pub(super) fn hooks(&self) -> Hooks {
        Hooks::of(self.record.spec.hooks().as_ref())
    }

    /// Removes what is known of it.
    pub(super) fn forget(self) -> Result<(), Error> {
        remove(&self.directory)
    }
}

fn remove(directory: &Path) -> Result<(), Error> {
    // The record first: a container without one is not there.
    for name in [RECORD, SOCKET, ".state.json"] {
        let path = directory.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => result.map_err(Error::io("remove", &path))?,
        }
    }
    fs::remove_dir(directory).map_err(Error::io("remove", directory))
}
