//! Leases: what somebody alive is about to use, and the place where it makes new things.

use std::{
    collections::HashSet,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use rbox_sys::flock;
use rbox_types::{ChainId, Digest};

use crate::{
    Store,
    error::{IoContext, Result},
    files,
    locks::Mode,
};

/// A directory of one's own in `tmp/`, alive as long as this value and everything staged under it.
///
/// Dropping it removes the directory; what this process may not remove (files of subordinate ids) is left for
/// [`Store::gc`]. Threads may share it. A child process that outlives this one without an exec keeps the lease
/// alive (flock(2)).
#[derive(Debug)]
pub struct Lease {
    pub(crate) inner: Arc<LeaseInner>,
}

/// What came of asking to make something that another process may be making too.
#[derive(Debug)]
pub enum Staged<T> {
    /// It is there, perhaps since a moment ago when somebody else finished it.
    Present,
    /// It is not there, and nobody else can make it until this is committed or dropped.
    New(T),
}

#[derive(Debug)]
pub(crate) struct LeaseInner {
    pub(crate) store: Store,
    /// The directory's name: 16 random hex digits.
    pub(crate) id: String,
    directory: PathBuf,
    kept: Mutex<Kept>,
    next: AtomicU64,
    pub(crate) boot_id: OnceLock<String>,
    _lock: File,
}

#[derive(Debug)]
struct Kept {
    file: File,
    lines: HashSet<String>,
}

/// What the `keep` file of a lease says.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) blobs: Vec<Digest>,
    pub(crate) layers: Vec<(String, ChainId)>,
}

impl Store {
    /// Begins a lease.
    pub fn begin(&self) -> Result<Lease> {
        let id = files::random_name()?;
        let directory = self.path("tmp").join(&id);
        // A collection takes a lease without a held lock for a dead one.
        let guard = self.gc_lock(Mode::Shared)?;
        files::create_dir(&directory)?;
        let path = directory.join("lock");
        let lock = File::create(&path).at("create", &path)?;
        flock::lock(&lock, Mode::Exclusive).at("lock", &path)?;
        drop(guard);
        let path = directory.join("keep");
        let file = OpenOptions::new().append(true).create(true).open(&path).at("create", &path)?;
        Ok(Lease {
            inner: Arc::new(LeaseInner {
                store: self.clone(),
                id,
                directory,
                kept: Mutex::new(Kept { file, lines: HashSet::new() }),
                next: AtomicU64::new(0),
                boot_id: OnceLock::new(),
                _lock: lock,
            }),
        })
    }
}

impl Lease {
    /// The store that this is a lease of.
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// A directory for the holder's own scratch files, on the store's file system; removed with the lease.
    pub fn scratch(&self) -> Result<PathBuf> {
        let path = self.inner.new_path();
        files::create_dir(&path)?;
        Ok(path)
    }

    /// Keeps these blobs and layers (id map key, chain id) from collection for as long as this lease lives.
    ///
    /// Call it before looking whether they are there: what is there afterwards stays. Staging does it by itself.
    pub fn keep(&self, blobs: &[Digest], layers: &[(String, ChainId)]) -> Result<()> {
        let blobs = blobs.iter().map(|digest| format!("blob {digest}\n"));
        let layers = layers.iter().map(|(map_key, chain)| format!("layer {chain} {map_key}\n"));
        self.inner.keep(blobs.chain(layers))
    }
}

impl LeaseInner {
    fn keep(&self, lines: impl Iterator<Item = String>) -> Result<()> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let new: Vec<String> = lines.filter(|line| !kept.lines.contains(line)).collect();
        if new.is_empty() {
            return Ok(());
        }
        // It lives no longer than the lock does, so it need not survive more than a killed process: no fsync.
        let guard = self.store.gc_lock(Mode::Shared)?;
        kept.file.write_all(new.concat().as_bytes()).at("write", &self.directory.join("keep"))?;
        drop(guard);
        kept.lines.extend(new);
        Ok(())
    }

    /// A path in the lease's directory that nothing has yet.
    pub(crate) fn new_path(&self) -> PathBuf {
        self.directory.join(self.next.fetch_add(1, Ordering::Relaxed).to_string())
    }
}

impl Drop for LeaseInner {
    fn drop(&mut self) {
        // What stays is a dead lease once the lock is closed, and gc can do more than we can here.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Whether the lease in this directory has a living holder. The caller holds the gc lock exclusively, or a lease
/// that is just beginning would look dead.
pub(crate) fn is_alive(directory: &Path) -> Result<bool> {
    let path = directory.join("lock");
    match File::open(&path) {
        Ok(file) => Ok(!flock::try_lock(&file, Mode::Shared).at("lock", &path)?),
        // No lock, or no lease at all but some leftover.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(false),
        Err(error) => Err(error).at("read", &path),
    }
}

/// What the lease in this directory keeps.
pub(crate) fn wanted(directory: &Path) -> Result<Wanted> {
    let text = files::read_if_there(&directory.join("keep"))?.unwrap_or_default();
    let mut wanted = Wanted::default();
    for line in String::from_utf8_lossy(&text).lines() {
        let mut words = line.splitn(3, ' ');
        match (words.next(), words.next().map(str::parse::<Digest>), words.next()) {
            (Some("blob"), Some(Ok(digest)), None) => wanted.blobs.push(digest),
            (Some("layer"), Some(Ok(chain)), Some(map_key)) => wanted.layers.push((map_key.into(), ChainId(chain))),
            // Cut short by a full disk: `keep` failed then, and its caller relies on nothing.
            _ => {}
        }
    }
    Ok(wanted)
}
