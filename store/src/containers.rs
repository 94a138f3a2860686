//! Containers: a directory, a name and a lock that tells whether the owner lives.
//!
//! The name is a symbolic link, since symlink(2) is atomic, exclusive and never half-written, and the link is what
//! makes a container visible: it comes last when one is made and goes first when one is removed. A directory
//! that no link points to and whose lock nobody holds is garbage. What the container refers to is the text of
//! the lock file itself, which saves a run one file.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as URL_SAFE_NO_PAD;
use rbox_sys::{at, flock};
use rbox_types::{ChainId, ContainerId, ContainerName, Digest, IdMaps, VolumeName};
use serde::{Deserialize, Serialize};

use crate::{
    Error, Store,
    error::{IoContext, Result},
    files,
    locks::{Mode, names_this},
};

/// What a container needs of the store for as long as it is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerRefs {
    /// The manifest of its image; config and layers are kept with it.
    pub manifest: Digest,
    /// The [key](rbox_types::IdMaps::key) of its id maps.
    pub map_key: String,
    /// The layers that it runs on, base first.
    pub layers: Vec<ChainId>,
    /// The volumes that are mounted in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<VolumeName>,
    /// Its ids, inside → outside, where it was given some of its user's alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ids: Option<IdMaps>,
}

/// A container of which this process is the owner. Dropping it ends the ownership, not the container.
#[derive(Debug)]
pub struct ContainerDir {
    store: Store,
    id: ContainerId,
    name: ContainerName,
    path: PathBuf,
    lock: OwnedFd,
}

/// A container as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerEntry {
    /// Its id.
    pub id: ContainerId,
    /// Its name.
    pub name: ContainerName,
    /// What it refers to.
    pub refs: ContainerRefs,
    /// Its directory.
    pub path: PathBuf,
    /// Whether its owner lives: somebody holds its lock, and not only to [write to its files](ContainerDir::write_to).
    pub running: bool,
}

/// A container that does not run, and that this process writes to. Its lock is given back before what tells that from running.
#[derive(Debug)]
pub struct WrittenContainer {
    _owned: ContainerDir,
    _written: File,
}

impl Store {
    /// Makes a container's directory and reserves its name; the caller is its owner.
    ///
    /// Refused if the name is taken or if the manifest or a layer is gone; after success they stay.
    pub fn create_container(
        &self,
        id: &ContainerId,
        name: &ContainerName,
        refs: &ContainerRefs,
    ) -> Result<ContainerDir> {
        let json = serde_json::to_vec(refs).map_err(|source| self.unwritable_json(source))?;
        // Until the link is there: a collection takes what nobody links to and nobody holds for garbage.
        let _guard = self.gc_lock(Mode::Shared)?;
        self.check_refs(name, refs)?;
        let path = self.container_path(id);
        self.new_container_dir(&path)?;
        let made = self.fill(&path, &json).and_then(|lock| {
            self.reserve(name, id)?;
            Ok(lock)
        });
        match made {
            Ok(lock) => Ok(ContainerDir { store: self.clone(), id: id.clone(), name: name.clone(), path, lock }),
            Err(error) => {
                // The first failure is the one to tell; gc removes what this leaves.
                let _ = fs::remove_file(path.join(LOCK));
                // The directory that another container had left goes on waiting.
                let _ = fs::remove_dir(&path).or_else(|_| fs::rename(&path, self.path(SPARE)));
                Err(error)
            }
        }
    }

    /// All containers, ordered by name.
    pub fn containers(&self) -> Result<Vec<ContainerEntry>> {
        let mut entries = Vec::new();
        for (name, id) in self.container_names()? {
            entries.extend(self.entry(name, id)?);
        }
        Ok(entries)
    }

    /// The container with this name.
    pub fn container_named(&self, name: &ContainerName) -> Result<Option<ContainerEntry>> {
        match self.named(name)? {
            Some(id) => self.entry(name.clone(), id),
            None => Ok(None),
        }
    }

    /// The container with this name, else the one whose id begins so.
    pub fn find_container(&self, name_or_id: &str) -> Result<ContainerEntry> {
        if let Ok(name) = name_or_id.parse::<ContainerName>()
            && let Some(entry) = self.container_named(&name)?
        {
            return Ok(entry);
        }
        let mut matching = self.container_names()?;
        matching.retain(|(_, id)| !name_or_id.is_empty() && id.as_str().starts_with(name_or_id));
        let none = || Error::NoContainer(name_or_id.to_owned());
        if matching.len() > 1 {
            let mut ids: Vec<_> = matching.into_iter().map(|(_, id)| id).collect();
            ids.sort();
            return Err(Error::Ambiguous { prefix: name_or_id.to_owned(), ids });
        }
        let (name, id) = matching.pop().ok_or_else(none)?;
        self.entry(name, id)?.ok_or_else(none)
    }

    /// Whether a container has an owner now; one whose directory is gone has none.
    pub fn has_owner(&self, entry: &ContainerEntry) -> Result<bool> {
        let path = entry.path.join(LOCK);
        match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            file => Ok(!flock::try_lock(file.at("open", &path)?, Mode::Shared).at("lock", &path)?),
        }
    }

    /// Waits until a container has no owner any more: until it has ended, and what its owner wrote down of that is there.
    /// Its directory may be gone then.
    pub fn wait_for_owner(&self, entry: &ContainerEntry) -> Result<()> {
        let path = entry.path.join(LOCK);
        match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            file => flock::lock(file.at("open", &path)?, Mode::Shared).at("lock", &path),
        }
    }

    /// Waits until nobody writes to the files of a container that does not run; says whether somebody did.
    pub fn wait_for_writer(&self, entry: &ContainerEntry) -> Result<bool> {
        let path = entry.path.join(WRITTEN);
        if !is_written_to(&entry.path)? {
            return Ok(false);
        }
        match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            file => flock::lock(file.at("open", &path)?, Mode::Shared).at("lock", &path)?,
        }
        Ok(true)
    }

    /// Becomes the owner of a container that has none: to start it again, or to remove it.
    pub fn claim_container(&self, entry: &ContainerEntry) -> Result<ContainerDir> {
        let none = || Error::NoContainer(entry.id.to_string());
        let path = entry.path.join(LOCK);
        let lock = match OpenOptions::new().read(true).write(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(none()),
            lock => lock.at("open", &path)?,
        };
        // Somebody who lists the containers holds it for microseconds, or for as long as the machine lets him wait.
        let asked = Instant::now();
        while !flock::try_lock(&lock, Mode::Exclusive).at("lock", &path)? {
            if asked.elapsed() > Duration::from_millis(250) {
                return Err(Error::Running(entry.id.clone()));
            }
            thread::sleep(Duration::from_millis(1));
        }
        if !names_this(&path, &lock)? || self.named(&entry.name)?.as_ref() != Some(&entry.id) {
            return Err(none());
        }
        Ok(ContainerDir {
            store: self.clone(),
            id: entry.id.clone(),
            name: entry.name.clone(),
            path: entry.path.clone(),
            lock: lock.into(),
        })
    }

    /// Gives a container another name. Its owner, if it has one, need not know.
    pub fn rename_container(&self, entry: &ContainerEntry, name: &ContainerName) -> Result<()> {
        // A collection reads all names, and must not miss one that is just being changed.
        let _gc = self.gc_lock(Mode::Shared)?;
        let _index = self.index_lock()?;
        let links = self.path("container-names");
        let directory = File::open(&links).at("open", &links)?;
        loop {
            if self.named(&entry.name)?.as_ref() != Some(&entry.id) {
                return Err(Error::NoContainer(entry.name.to_string()));
            }
            let [from, to] = [&entry.name, name].map(|name| name.as_str().as_bytes());
            match at::rename_new(directory.as_fd(), from, to) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => self.free_if_stale(name)?,
                result => return result.at("rename", &self.container_name_path(entry.name.as_str())),
            }
        }
    }

    /// Takes over a container whose lock descriptor was handed down from the process that made it
    /// (see [`ContainerDir::into_lock`]).
    pub fn adopt_container(&self, id: &ContainerId, name: &ContainerName, lock: OwnedFd) -> ContainerDir {
        ContainerDir { store: self.clone(), id: id.clone(), name: name.clone(), path: self.container_path(id), lock }
    }

    /// The directory of a container, whether it is there or not.
    pub fn container_path(&self, id: &ContainerId) -> PathBuf {
        self.path("containers").join(id.as_str())
    }

    pub(crate) fn container_name_path(&self, name: &str) -> PathBuf {
        self.path("container-names").join(name)
    }

    fn check_refs(&self, name: &ContainerName, refs: &ContainerRefs) -> Result<()> {
        let incomplete =
            |missing: String| Error::Incomplete { what: format!("the container {}", name.as_str()), missing };
        if !self.has_blob(&refs.manifest)? {
            return Err(incomplete(format!("the blob {}", refs.manifest)));
        }
        for chain in &refs.layers {
            if self.layer(&refs.map_key, *chain)?.is_none() {
                return Err(incomplete(format!("the layer {chain}")));
            }
        }
        Ok(())
    }

    /// The directory that the last container has left, or a new one.
    fn new_container_dir(&self, path: &Path) -> Result<()> {
        match fs::rename(self.path(SPARE), path) {
            Ok(()) => Ok(()),
            Err(_) => files::new_dir(path).at("create", path),
        }
    }

    fn fill(&self, directory: &Path, json: &[u8]) -> Result<OwnedFd> {
        let path = directory.join(LOCK);
        let mut lock = OpenOptions::new().read(true).write(true).create_new(true).open(&path).at("create", &path)?;
        flock::lock(&lock, Mode::Exclusive).at("lock", &path)?;
        lock.write_all(json).at("write", &path)?;
        Ok(lock.into())
    }

    fn reserve(&self, name: &ContainerName, id: &ContainerId) -> Result<()> {
        let link = self.container_name_path(name.as_str());
        match std::os::unix::fs::symlink(target_of(id), &link) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            result => return result.at("create", &link),
        }
        // Taken, or left by a container whose directory somebody removed by hand. One at a time decides which.
        let _lock = self.index_lock()?;
        loop {
            self.free_if_stale(name)?;
            match std::os::unix::fs::symlink(target_of(id), &link) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                result => return result.at("create", &link),
            }
        }
    }

    /// Frees a name that a container has left which is not there any more; refuses one that is taken. The caller holds
    /// the lock of the index.
    fn free_if_stale(&self, name: &ContainerName) -> Result<()> {
        match self.named(name)? {
            Some(other) if files::exists(&self.container_path(&other))? => {
                Err(Error::NameTaken { name: name.clone(), id: other })
            }
            Some(_) => files::remove(&self.container_name_path(name.as_str())),
            None => Ok(()),
        }
    }

    /// Who has the name.
    fn named(&self, name: &ContainerName) -> Result<Option<ContainerId>> {
        let link = self.container_name_path(name.as_str());
        match fs::read_link(&link) {
            Ok(target) => Ok(target.to_str().and_then(id_of)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).at("read", &link),
        }
    }

    pub(crate) fn container_names(&self) -> Result<Vec<(ContainerName, ContainerId)>> {
        let mut names = Vec::new();
        for name in files::list(&self.path("container-names"))? {
            let Ok(name) = name.parse::<ContainerName>() else { continue };
            if let Some(id) = self.named(&name)? {
                names.push((name, id));
            }
        }
        Ok(names)
    }

    /// `None` if it is being removed, or was made when the power failed.
    fn entry(&self, name: ContainerName, id: ContainerId) -> Result<Option<ContainerEntry>> {
        let path = self.container_path(&id);
        let Some((refs, owned)) = inspect(&path)? else { return Ok(None) };
        let running = owned && !is_written_to(&path)?;
        Ok(Some(ContainerEntry { id, name, refs, path, running }))
    }
}

pub(crate) const LOCK: &str = "lock";

/// Locked while somebody who does not run the container writes to its files.
const WRITTEN: &str = "written";

/// Where one directory waits for the next container ([`ContainerDir::recycle`]).
pub(crate) const SPARE: &str = "tmp/spare";

/// What a name's link says: the id, in fewer letters than it has digits. ext4 keeps up to 59 bytes of a link in its inode;
/// for one more it allocates a block, which takes twice as long to make and three times as long to remove.
fn target_of(id: &ContainerId) -> String {
    URL_SAFE_NO_PAD.encode(id.bytes())
}

fn id_of(target: &str) -> Option<ContainerId> {
    Some(ContainerId::from_random(URL_SAFE_NO_PAD.decode(target).ok()?.try_into().ok()?))
}

/// What the lock file in this container's directory says, and whether it is held.
pub(crate) fn inspect(directory: &Path) -> Result<Option<(ContainerRefs, bool)>> {
    let path = directory.join(LOCK);
    let mut file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.at("read", &path)?,
    };
    let running = !flock::try_lock(&file, Mode::Shared).at("lock", &path)?;
    let json = files::read_small(&mut file).at("read", &path)?;
    Ok(serde_json::from_slice(&json).ok().map(|refs| (refs, running)))
}

fn is_written_to(directory: &Path) -> Result<bool> {
    let path = directory.join(WRITTEN);
    match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        file => Ok(!flock::try_lock(file.at("open", &path)?, Mode::Shared).at("lock", &path)?),
    }
}

impl ContainerDir {
    /// The volumes that are mounted in it.
    pub fn volumes(&self) -> Result<Vec<VolumeName>> {
        Ok(inspect(&self.path)?.map(|(refs, _)| refs.volumes).unwrap_or_default())
    }

    /// Keeps others from starting or removing the container while this process writes to its files. To those who look at it,
    /// it does not run.
    pub fn write_to(self) -> Result<WrittenContainer> {
        let path = self.path.join(WRITTEN);
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path).at("create", &path)?;
        flock::lock(&file, Mode::Exclusive).at("lock", &path)?;
        Ok(WrittenContainer { _owned: self, _written: file })
    }

    /// Its id.
    pub fn id(&self) -> &ContainerId {
        &self.id
    }

    /// Its name.
    pub fn name(&self) -> &ContainerName {
        &self.name
    }

    /// The directory, for its owner to fill; only the files `lock` and `written` are the store's.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the lock up to the caller, who hands it down to the container's monitor. It stays locked until the
    /// last copy of it is closed: no copy may reach the workload.
    pub fn into_lock(self) -> OwnedFd {
        self.lock
    }

    /// Removes the container. Its name is free at once, even if removing its files fails half-way; gc goes on
    /// from there.
    pub fn remove(self, remove_tree: &dyn Fn(&Path) -> io::Result<()>) -> Result<()> {
        self.free_name()?;
        // Where it is: without a name it is garbage already.
        self.store.delete(&self.path, remove_tree)
    }

    /// As [`remove`](Self::remove), but the directory waits for the next container, with nothing in it but the directories
    /// called `kept`. To make and to remove a directory takes a filesystem with a journal ten times as long as to rename it.
    pub fn recycle(self, kept: &[&str], remove_tree: &dyn Fn(&Path) -> io::Result<()>) -> Result<()> {
        self.free_name()?;
        let spare = || {
            self.empty_but_for(kept, remove_tree)?;
            // One that waits already is not empty, and stays.
            fs::rename(&self.path, self.store.path(SPARE))
        };
        // A collection that comes upon it meanwhile, without a lock, moves it aside.
        spare().or_else(|_| self.store.delete(&self.path, remove_tree))
    }

    fn empty_but_for(&self, kept: &[&str], remove_tree: &dyn Fn(&Path) -> io::Result<()>) -> io::Result<()> {
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let path = entry.path();
            if !entry.file_type()?.is_dir() {
                fs::remove_file(path)?;
            } else if !kept.iter().any(|kept| entry.file_name() == *kept) {
                fs::remove_dir(&path).or_else(|_| remove_tree(&path))?;
            }
        }
        Ok(())
    }

    fn free_name(&self) -> Result<()> {
        if self.store.named(&self.name)?.as_ref() == Some(&self.id) {
            files::remove(&self.store.container_name_path(self.name.as_str()))?;
        } else if let Some((name, _)) = self.store.container_names()?.into_iter().find(|(_, id)| *id == self.id) {
            // Renamed since this became its owner.
            files::remove(&self.store.container_name_path(name.as_str()))?;
        }
        Ok(())
    }
}

impl AsFd for ContainerDir {
    /// The lock's descriptor.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.lock.as_fd()
    }
}
