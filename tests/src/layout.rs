//! OCI image layouts on disk (OCI image spec, "Image Layout"): the one form in which tests make, keep and hand on
//! images.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::hash::Hashed;

/// A directory with `oci-layout`, `index.json` and `blobs/sha256/`.
pub struct Layout {
    dir: PathBuf,
}

/// What points to a blob (OCI image spec, "Descriptors").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    /// The blob's media type.
    pub media_type: String,
    /// `sha256:<hex>`.
    pub digest: String,
    /// Its size in bytes.
    pub size: u64,
}

impl Layout {
    /// Makes an empty layout in the directory `dir`, which is made too.
    pub fn create(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir.join("blobs/sha256")).with_context(|| format!("cannot make {}", dir.display()))?;
        fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
        let layout = Self { dir: dir.to_owned() };
        layout.write_index(&[])?;
        Ok(layout)
    }

    /// The layout that is in `dir`.
    pub fn open(dir: &Path) -> Result<Self> {
        fs::metadata(dir.join("oci-layout")).with_context(|| format!("no image layout in {}", dir.display()))?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The file of a blob.
    pub fn blob_path(&self, digest: &str) -> PathBuf {
        self.dir.join("blobs").join(digest.replace(':', "/"))
    }

    /// A blob's bytes.
    pub fn read(&self, digest: &str) -> Result<Vec<u8>> {
        let path = self.blob_path(digest);
        fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    /// Adds a blob.
    pub fn put(&self, media_type: &str, bytes: &[u8]) -> Result<Descriptor> {
        self.put_with(media_type, |out| Ok(out.write_all(bytes)?))
    }

    /// Adds the blob that `write` writes.
    pub fn put_with(&self, media_type: &str, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<Descriptor> {
        let mut out = Hashed::new(tempfile::NamedTempFile::new_in(&self.dir)?);
        write(&mut out)?;
        let (file, digest, size) = out.finish();
        let path = self.blob_path(&digest);
        file.persist(&path).with_context(|| format!("cannot write {}", path.display()))?;
        // Temporary files are their owner's alone; a layout may be read by other users.
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
        Ok(Descriptor { media_type: media_type.to_owned(), digest, size })
    }

    /// Adds a blob of JSON.
    pub fn put_json(&self, media_type: &str, value: &Value) -> Result<Descriptor> {
        self.put(media_type, &serde_json::to_vec(value)?)
    }

    /// Gives a manifest or index a name in this layout.
    pub fn tag(&self, name: &str, descriptor: &Descriptor) -> Result<()> {
        let mut entries = self.entries()?;
        entries.retain(|entry| entry["annotations"][REF_NAME] != name);
        let mut entry = descriptor.to_json();
        entry["annotations"] = json!({ REF_NAME: name });
        entries.push(entry);
        self.write_index(&entries)
    }

    /// What the name stands for.
    pub fn find(&self, name: &str) -> Result<Descriptor> {
        let entries = self.entries()?;
        let entry = entries.iter().find(|entry| entry["annotations"][REF_NAME] == name);
        entry.and_then(Descriptor::from_json).with_context(|| format!("no {name} in {}", self.dir.display()))
    }

    fn entries(&self) -> Result<Vec<Value>> {
        let index: Value = serde_json::from_slice(&fs::read(self.dir.join("index.json"))?)?;
        Ok(index["manifests"].as_array().cloned().unwrap_or_default())
    }

    fn write_index(&self, entries: &[Value]) -> Result<()> {
        let index = json!({ "schemaVersion": 2, "manifests": entries });
        Ok(fs::write(self.dir.join("index.json"), serde_json::to_vec_pretty(&index)?)?)
    }
}

impl Descriptor {
    /// As it stands in manifests and indexes.
    pub fn to_json(&self) -> Value {
        json!({ "mediaType": self.media_type, "digest": self.digest, "size": self.size })
    }

    /// Reads a descriptor of a manifest or index; `None` if it is none.
    pub fn from_json(value: &Value) -> Option<Self> {
        Some(Self {
            media_type: value["mediaType"].as_str()?.to_owned(),
            digest: value["digest"].as_str()?.to_owned(),
            size: value["size"].as_u64()?,
        })
    }
}

const REF_NAME: &str = "org.opencontainers.image.ref.name";
