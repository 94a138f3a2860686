//! Image names: one file each, which is the truth that `index.json` is derived from.

use std::{fs, path::PathBuf};

use jiff::Timestamp;
use rbox_types::{Digest, Platform, Reference};
use serde::{Deserialize, Serialize};

use crate::{
    Error, Lease, Store,
    error::{IoContext, Result},
    files,
    locks::Mode,
};

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// The name.
    pub reference: Reference,
    /// The image manifest of one platform.
    pub manifest: Descriptor,
    /// What the registry answered for the name, if that was an index and not the manifest itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<Digest>,
    /// What the image was built for.
    pub platform: Platform,
    /// When the registry was asked; RFC 3339 in the file.
    pub pulled_at: Timestamp,
}

/// A blob, its size and how to read it (OCI image spec, "Content Descriptors").
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// For a manifest, OCI's or Docker's type.
    pub media_type: String,
    /// The blob.
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
}

impl Store {
    /// What the name stands for.
    ///
    /// A record that does not parse is what a power cut left of a name that was written just before: no name.
    pub fn image(&self, reference: &Reference) -> Result<Option<ImageRecord>> {
        let path = self.name_path(reference)?;
        let json = files::read_if_there(&path)?;
        Ok(json.and_then(|json| serde_json::from_slice(&json).ok()))
    }

    /// Everything that has a name, ordered by name.
    pub fn images(&self) -> Result<Vec<ImageRecord>> {
        let mut images = Vec::new();
        for (_, record) in self.name_files()? {
            images.extend(record);
        }
        images.sort_by(|a: &ImageRecord, b| a.reference.cmp(&b.reference));
        Ok(images)
    }

    /// Takes the name away; `false` if there was none. What it stood for is left to [`Store::gc`].
    pub fn untag(&self, reference: &Reference) -> Result<bool> {
        let path = self.name_path(reference)?;
        // Within the lock, so that a collection sees either the old or the new of two names that are exchanged.
        let guard = self.gc_lock(Mode::Shared)?;
        let there = files::exists(&path)?;
        files::remove(&path)?;
        drop(guard);
        self.derive_index()?;
        Ok(there)
    }

    /// The files of `names/`, with the records that could be read.
    pub(crate) fn name_files(&self) -> Result<Vec<(PathBuf, Option<ImageRecord>)>> {
        let directory = self.path("names");
        let mut all = Vec::new();
        for name in files::list(&directory)? {
            let path = directory.join(name);
            // Not there: removed since it was listed.
            if let Some(json) = files::read_if_there(&path)? {
                all.push((path, serde_json::from_slice(&json).ok()));
            }
        }
        Ok(all)
    }

    fn name_path(&self, reference: &Reference) -> Result<PathBuf> {
        let file = file_name(&reference.to_string());
        if file.len() > 255 {
            return Err(Error::NameTooLong(reference.clone()));
        }
        Ok(self.path("names").join(file))
    }
}

impl Lease {
    /// Gives an image its name, taking it from what had it before. The last step of a pull.
    ///
    /// Refused unless all blobs that the manifest lists are there. The lease keeps them (see [`Lease::keep`]), so
    /// that they still are once this returns.
    pub fn name(&self, record: &ImageRecord) -> Result<()> {
        let store = self.store();
        let target = store.name_path(&record.reference)?;
        let json = serde_json::to_vec(record).map_err(|source| store.unwritable_json(source))?;
        let path = self.inner.new_path();
        files::create(&path, &json)?;

        let guard = store.gc_lock(Mode::Shared)?;
        store.check_complete(record)?;
        fs::rename(&path, &target).at("create", &target)?;
        drop(guard);
        store.derive_index()
    }
}

impl Store {
    fn check_complete(&self, record: &ImageRecord) -> Result<()> {
        let missing = |digest: &Digest| Error::Incomplete {
            what: format!("the image {}", record.reference),
            missing: format!("the blob {digest}"),
        };
        let manifest = match self.manifest(&record.manifest.digest) {
            Err(Error::NoBlob(digest)) => return Err(missing(&digest)),
            manifest => manifest?,
        };
        for part in manifest.layers.iter().chain([&manifest.config]) {
            if !self.has_blob(&part.digest)? {
                return Err(missing(&part.digest));
            }
        }
        Ok(())
    }
}

/// The reference as a file name: what is not plain is percent-encoded, bytewise.
fn file_name(reference: &str) -> String {
    let mut name = String::with_capacity(reference.len() + 8);
    for byte in reference.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-' | b':' | b'@' | b'[' | b']' => {
                name.push(char::from(byte));
            }
            _ => name.push_str(&format!("%{byte:02X}")),
        }
    }
    name
}
