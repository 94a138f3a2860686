//! `rbox pull`: where the registry, the unpacking and the store meet.
//!
//! Several layers are under way at once. For each, one thread here receives: network → sha256 → the staged blob, once;
//! and a worker inside the user namespace reads the same file as it grows and unpacks it. What depends on the layers
//! below waits for them, then the layer is committed. The image's name comes last: until then nothing of the pull can
//! be seen, and what a killed pull leaves is for the collector.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use rbox_image::{Client, ClientOptions, Image, LayerRef, RawBlob, ResolvedImage};
use rbox_overlay::worker::{Client as Unpacking, Job};
use rbox_rootless::worker::Worker;
use rbox_store::{Descriptor, ImageRecord, LayerRecord, Lease, Staged, StagedBlob, StagedLayer};
use rbox_types::{Digest, Platform, Reference};

use crate::{Engine, Error, events, worker};

/// What to pull.
#[derive(Debug, Clone)]
pub struct PullRequest {
    /// The image.
    pub reference: Reference,
    /// For which platform, if not the host's.
    pub platform: Option<Platform>,
    /// Talk to the registry without TLS, or without verifying it.
    pub tls_verify: Option<bool>,
}

/// An image that is here now.
#[derive(Debug)]
pub struct Pulled {
    /// What the registry answered for the name: an index's digest, or the manifest's.
    pub digest: Digest,
    /// The image.
    pub image: Image,
}

/// Who is told how a pull goes on; by several threads.
pub trait PullOutput: Sync {
    /// The layers are known: their digests and sizes in bytes, the lowest first.
    fn begin(&self, reference: &Reference, layers: &[(Digest, u64)]);
    /// This many bytes of a layer are here.
    fn downloaded(&self, layer: usize, bytes: u64);
    /// A layer has come so far.
    fn state(&self, layer: usize, state: LayerState);
    /// The pull is over, whether it succeeded or not.
    fn end(&self);
    /// A container gets a copy of an image with so many bytes: why there is no overlay, and what would help; nothing where a
    /// copy is what was asked for.
    fn copy_begins(&self, bytes: u64, why: Option<(&str, Option<&str>)>);
    /// Of which so many are there.
    fn copied(&self, bytes: u64);
    /// All are there, or something failed.
    fn copy_ends(&self);
}

/// How far a layer has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerState {
    /// It was here before.
    Present,
    /// Its blob is here and verified.
    Downloaded,
    /// It is unpacked and committed.
    Done,
}

/// How many layers are under way at once: enough to keep two cores busy while one waits for the network or the disk,
/// and few enough for the memory that each unpacking takes.
const AT_ONCE: usize = 3;

impl Engine {
    /// Pulls an image.
    pub fn pull(&self, request: &PullRequest, output: &dyn PullOutput) -> Result<Pulled, Error> {
        let client = Client::new(ClientOptions { tls_verify: request.tls_verify, ..ClientOptions::default() });
        let platform = request.platform.clone().unwrap_or_else(Platform::host);
        let image = client.resolve(&request.reference, &platform)?;
        // What earlier pulls of this boot left to the kernel's write-back is on the disk by now, mostly.
        self.store.settle()?;
        let lease = self.store.begin()?;
        self.recheck_suspects(&image)?;
        let documents = [image.index.as_ref(), Some(&image.manifest), Some(&image.config)];
        for document in documents.into_iter().flatten() {
            put(&lease, document)?;
        }
        let sizes: Vec<_> = image.layers.iter().map(|layer| (layer.digest, layer.size)).collect();
        output.begin(&request.reference, &sizes);
        let layers = Layers::new(self, &client, &lease, &image, output).pull_all();
        output.end();
        layers?;
        let name = request.reference.to_string();
        let loaded = Image::load(&name, image.manifest.digest, &image.manifest.bytes, |_| {
            Ok::<_, Error>(image.config.bytes.clone())
        })?;
        let record = ImageRecord {
            reference: request.reference.clone(),
            manifest: Descriptor {
                media_type: image.manifest.media_type.clone(),
                digest: image.manifest.digest,
                size: image.manifest.bytes.len() as u64,
            },
            index: image.index.as_ref().map(|index| index.digest),
            platform: loaded.platform(),
            pulled_at: Timestamp::now(),
        };
        lease.name(&record)?;
        events::note(&self.store, &[events::of_image("pull", &loaded.config_digest, &request.reference)]);
        Ok(Pulled { digest: record.index.unwrap_or(record.manifest.digest), image: loaded })
    }

    /// Whether a power cut may have damaged what this image consists of.
    pub(crate) fn is_suspect(&self, record: &ImageRecord) -> Result<bool, Error> {
        let suspects = self.store.suspects()?;
        if suspects.is_empty() {
            return Ok(false);
        }
        if suspects.blobs.contains(&record.manifest.digest) {
            return Ok(true);
        }
        let image = self.load(record)?;
        let key = self.identity.maps.key();
        Ok(suspects.blobs.contains(&image.config_digest)
            || image.layers.iter().any(|layer| {
                suspects.blobs.contains(&layer.digest) || suspects.layers.contains(&(key.clone(), layer.chain_id))
            }))
    }

    /// After a power cut: blobs are hashed again, layers unpacked again.
    fn recheck_suspects(&self, image: &ResolvedImage) -> Result<(), Error> {
        let suspects = self.store.suspects()?;
        if suspects.is_empty() {
            return Ok(());
        }
        for digest in &suspects.blobs {
            let intact = File::open(self.store.blob_path(digest))
                .is_ok_and(|file| rbox_image::verify_file(&file, digest).is_ok());
            if intact {
                self.store.trust_blob(digest)?;
            } else {
                self.store.discard_blob(digest)?;
            }
        }
        let key = self.identity.maps.key();
        for layer in &image.layers {
            if suspects.layers.contains(&(key.clone(), layer.chain_id)) {
                self.store.discard_layer(&key, layer.chain_id, &|path| self.remove_tree(path))?;
            }
        }
        Ok(())
    }
}

/// Stores a manifest or config, whose digest was verified when it came.
fn put(lease: &Lease, document: &RawBlob) -> Result<(), Error> {
    if let Staged::New(staged) = lease.stage_blob(document.digest)? {
        staged.file().write_all(&document.bytes).map_err(Error::io("write", staged.path().display()))?;
        staged.commit()?;
    }
    Ok(())
}

/// The layers of one pull.
struct Layers<'a> {
    engine: &'a Engine,
    client: &'a Client,
    lease: &'a Lease,
    image: &'a ResolvedImage,
    output: &'a dyn PullOutput,
    map_key: String,
    progress: Mutex<Progress>,
    changed: Condvar,
    failed: AtomicBool,
}

struct Progress {
    /// Layers that nobody has begun, the lowest first: who waits for a parent waits for somebody at work.
    waiting: VecDeque<usize>,
    committed: Vec<bool>,
    failure: Option<Error>,
}

impl<'a> Layers<'a> {
    fn new(
        engine: &'a Engine,
        client: &'a Client,
        lease: &'a Lease,
        image: &'a ResolvedImage,
        output: &'a dyn PullOutput,
    ) -> Self {
        let count = image.layers.len();
        Self {
            engine,
            client,
            lease,
            image,
            output,
            map_key: engine.identity.maps.key(),
            progress: Mutex::new(Progress {
                waiting: (0..count).collect(),
                committed: vec![false; count],
                failure: None,
            }),
            changed: Condvar::new(),
            failed: AtomicBool::new(false),
        }
    }

    fn pull_all(self) -> Result<(), Error> {
        self.engine.store.note_map(&self.engine.identity.maps)?;
        std::thread::scope(|scope| {
            for _ in 0..AT_ONCE.min(self.image.layers.len()) {
                scope.spawn(|| {
                    while let Some(index) = self.next() {
                        match self.pull_one(index) {
                            Ok(state) => self.commit(index, state),
                            Err(error) => self.fail(error),
                        }
                    }
                });
            }
        });
        match self.progress.into_inner().unwrap_or_else(PoisonError::into_inner).failure {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Option<usize> {
        let mut progress = self.lock();
        if progress.failure.is_some() { None } else { progress.waiting.pop_front() }
    }

    fn commit(&self, index: usize, state: LayerState) {
        self.lock().committed[index] = true;
        self.changed.notify_all();
        self.output.state(index, state);
    }

    /// The first failure is the one to tell; the others are mostly its consequences.
    fn fail(&self, error: Error) {
        self.failed.store(true, Ordering::Relaxed);
        self.lock().failure.get_or_insert(error);
        self.changed.notify_all();
    }

    fn pull_one(&self, index: usize) -> Result<LayerState, Error> {
        let layer = &self.image.layers[index];
        let blob = self.lease.stage_blob(layer.digest)?;
        match self.lease.stage_layer(&self.map_key, layer.chain_id)? {
            Staged::New(staged) => self.unpack(index, layer, blob, staged)?,
            Staged::Present => match blob {
                Staged::Present => return Ok(LayerState::Present),
                // Unpacked for another image, or its blob was damaged: the image still needs all of its blobs.
                Staged::New(blob) => self.download(index, layer, blob, &mut |_| {})?,
            },
        }
        Ok(LayerState::Done)
    }

    fn download(
        &self,
        index: usize,
        layer: &LayerRef,
        staged: StagedBlob,
        arrived: &mut dyn FnMut(u64),
    ) -> Result<(), Error> {
        let arrived = RefCell::new(arrived);
        let progress = |bytes| {
            self.output.downloaded(index, bytes);
            (arrived.borrow_mut())(bytes);
        };
        self.client.fetch(&self.image.reference, &layer.digest, layer.size, staged.file(), &progress)?;
        staged.commit()?;
        self.output.state(index, LayerState::Downloaded);
        Ok(())
    }

    /// Has a worker unpack the blob, which may still have to come, and commits the layer.
    fn unpack(
        &self,
        index: usize,
        layer: &LayerRef,
        blob: Staged<StagedBlob>,
        staged: StagedLayer,
    ) -> Result<(), Error> {
        let identity = &self.engine.identity;
        let path = match &blob {
            Staged::Present => self.engine.store.blob_path(&layer.digest),
            Staged::New(blob) => blob.path().to_owned(),
        };
        let file = File::open(&path).map_err(Error::io("open", path.display()))?;
        let root = File::open(staged.fs()).map_err(Error::io("open", staged.fs().display()))?;
        if let Some((uid, gid)) = identity.foreign_root() {
            std::os::unix::fs::fchown(&root, Some(uid), Some(gid))
                .map_err(Error::io("change the owner of", staged.fs().display()))?;
        }
        let unpack_error = |source| Error::Unpack { layer: layer.diff_id, source };
        let worker = Worker::start(identity, worker::UNPACK)?;
        let job = Job { compression: compression(layer), diff_id: layer.diff_id, single_id: identity.is_single() };
        let mut unpacking =
            Unpacking::begin(worker.channel(), &job, file.as_fd(), root.as_fd()).map_err(unpack_error)?;
        if let Staged::New(blob) = blob {
            let mut failed = None;
            // The blob is taken to its end even if it cannot be unpacked: its digest tells whether the registry or
            // the image is at fault.
            self.download(index, layer, blob, &mut |bytes| {
                if failed.is_none() {
                    failed = unpacking.available(bytes).err();
                }
            })?;
            if let Some(source) = failed {
                return Err(unpack_error(source));
            }
        }
        let report = unpacking.report(layer.size).map_err(unpack_error)?;
        let parents = self.parents(index)?;
        let parents: Vec<BorrowedFd<'_>> = parents.iter().map(AsFd::as_fd).collect();
        unpacking.settle(&parents).map_err(unpack_error)?;
        Ok(staged.commit(&record(report))?)
    }

    /// The roots of the layers below, the topmost first, once all of them are committed.
    fn parents(&self, index: usize) -> Result<Vec<OwnedFd>, Error> {
        let mut progress = self.lock();
        while !progress.committed[..index].iter().all(|committed| *committed) {
            if self.failed.load(Ordering::Relaxed) {
                return Err(Error::Abandoned);
            }
            progress = self.changed.wait(progress).unwrap_or_else(PoisonError::into_inner);
        }
        drop(progress);
        let mut parents = Vec::with_capacity(index);
        for layer in self.image.layers[..index].iter().rev() {
            let there = self.engine.store.layer(&self.map_key, layer.chain_id)?;
            let path = there.ok_or(Error::LayerGone(layer.chain_id))?.fs();
            parents.push(File::open(&path).map_err(Error::io("open", path.display()))?.into());
        }
        Ok(parents)
    }
}

fn compression(layer: &LayerRef) -> rbox_overlay::Compression {
    match layer.compression {
        rbox_image::Compression::None => rbox_overlay::Compression::None,
        rbox_image::Compression::Gzip => rbox_overlay::Compression::Gzip,
        rbox_image::Compression::Zstd => rbox_overlay::Compression::Zstd,
    }
}

fn record(report: rbox_overlay::Report) -> LayerRecord {
    LayerRecord { diff_id: report.diff_id, size: report.size, ids: report.ids, left_out: report.left_out }
}
