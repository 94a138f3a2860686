//! `index.json`: the store as an OCI image layout, for tools that know nothing of rbox.

use serde::Serialize;

use crate::{Descriptor, ImageRecord, Store, error::Result, files, locks::IndexLock};

/// OCI image spec, "Image Index"; one descriptor per name.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index<'a> {
    schema_version: u32,
    media_type: &'static str,
    manifests: Vec<Entry<'a>>,
}

#[derive(Serialize)]
struct Entry<'a> {
    #[serde(flatten)]
    manifest: &'a Descriptor,
    annotations: Annotations,
    platform: &'a rbox_types::Platform,
}

/// OCI image spec, "Pre-Defined Annotation Keys"; tools look an image up by it.
#[derive(Serialize)]
struct Annotations {
    #[serde(rename = "org.opencontainers.image.ref.name")]
    ref_name: String,
}

impl Store {
    /// Brings `index.json` up to date with `names/`.
    pub(crate) fn derive_index(&self) -> Result<()> {
        let guard = self.index_lock()?;
        self.write_index(&guard)
    }

    /// The lock makes the last one who writes the last one who has read the names.
    pub(crate) fn write_index(&self, _guard: &IndexLock) -> Result<()> {
        let images = self.images()?;
        let json = serde_json::to_vec(&index(&images)).map_err(|source| self.unwritable_json(source))?;
        let path = self.path("index.json");
        if files::read_if_there(&path)?.is_some_and(|there| there == json) {
            return Ok(());
        }
        files::replace(&path, &json)
    }
}

fn index(images: &[ImageRecord]) -> Index<'_> {
    let entry = |image: &'_ ImageRecord| -> Annotations { Annotations { ref_name: image.reference.to_string() } };
    Index {
        schema_version: 2,
        media_type: "application/vnd.oci.image.index.v1+json",
        manifests: images
            .iter()
            .map(|image| Entry { manifest: &image.manifest, annotations: entry(image), platform: &image.platform })
            .collect(),
    }
}
