//! Blobs: the bytes that registries serve, by their digest.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Read},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use rbox_types::Digest;

use crate::{
    Error, Lease, Staged, Store,
    durability::Thing,
    error::{IoContext, Result},
    files,
    lease::LeaseInner,
    locks::KeyedLock,
};

/// A blob being written: invisible until [`commit`](StagedBlob::commit), removed if dropped before.
#[derive(Debug)]
pub struct StagedBlob {
    digest: Digest,
    path: PathBuf,
    file: File,
    lease: Arc<LeaseInner>,
    _lock: KeyedLock,
}

impl Store {
    /// Where the blob is, if it is there.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.path("blobs/sha256").join(digest.hex())
    }

    /// Whether the blob is there. Only a lease, name or container that wants it makes it stay.
    pub fn has_blob(&self, digest: &Digest) -> Result<bool> {
        files::exists(&self.blob_path(digest))
    }

    /// The blob's bytes, at most `limit` of them.
    pub fn read_blob(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>> {
        let path = self.blob_path(digest);
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Error::NoBlob(*digest)),
            file => file.at("read", &path)?,
        };
        let size = file.metadata().at("look at", &path)?.len();
        if size > limit {
            return Err(Error::TooLarge { digest: *digest, size, limit });
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
        file.take(limit).read_to_end(&mut bytes).at("read", &path)?;
        Ok(bytes)
    }
}

impl Lease {
    /// Begins to write a blob, unless it is there; waits for whoever is writing it just now.
    ///
    /// To never wait for each other in a circle, a thread holds one staged blob at a time, and takes it before
    /// the layer that is made of it.
    pub fn stage_blob(&self, digest: Digest) -> Result<Staged<StagedBlob>> {
        self.keep(&[digest], &[])?;
        let lease = &self.inner;
        let lock = lease.store.keyed_lock(&format!("blob.{}", digest.hex()))?;
        if lease.store.has_blob(&digest)? {
            return Ok(Staged::Present);
        }
        let path = lease.new_path();
        let file =
            OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path).at("create", &path)?;
        Ok(Staged::New(StagedBlob { digest, path, file, lease: lease.clone(), _lock: lock }))
    }
}

impl StagedBlob {
    /// What the bytes shall hash to.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The file to write to, open for reading too.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Where that file is for now.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes it a blob. The caller has verified the bytes.
    pub fn commit(self) -> Result<()> {
        let store = &self.lease.store;
        self.file.set_permissions(Permissions::from_mode(0o444)).at("set the mode of", &self.path)?;
        self.lease.mark_unsettled(&Thing::Blob(self.digest))?;
        let target = store.blob_path(&self.digest);
        fs::rename(&self.path, &target).at("create", &target)
    }
}

impl Drop for StagedBlob {
    fn drop(&mut self) {
        // Not there after a commit; if it cannot be removed, the lease's end or gc tries again.
        let _ = fs::remove_file(&self.path);
    }
}
