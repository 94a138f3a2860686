//! The few fields of image manifests and configs that say what an image is made of.

use rbox_types::{ChainId, DiffId, Digest, chain_ids};
use serde::{Deserialize, de::DeserializeOwned};

use crate::{Error, Store, error::Result};

/// What a manifest refers to. The fields are the same in OCI's and in Docker's (schema 2) format.
#[derive(Debug, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) config: Part,
    pub(crate) layers: Vec<Part>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Part {
    pub(crate) digest: Digest,
}

#[derive(Debug, Deserialize)]
struct Config {
    rootfs: RootFs,
}

#[derive(Debug, Deserialize)]
struct RootFs {
    diff_ids: Vec<DiffId>,
}

/// Registries refuse manifests over 4 MiB; a config has no limit of its own, but none in use comes near this.
const MANIFEST_LIMIT: u64 = 4 << 20;
const CONFIG_LIMIT: u64 = 16 << 20;

impl Store {
    /// The manifest with this digest.
    pub(crate) fn manifest(&self, digest: &Digest) -> Result<Manifest> {
        self.read_json(digest, MANIFEST_LIMIT, "manifest")
    }

    /// The chain ids of the image with this config.
    pub(crate) fn chains_of_config(&self, digest: &Digest) -> Result<Vec<ChainId>> {
        let config: Config = self.read_json(digest, CONFIG_LIMIT, "config")?;
        Ok(chain_ids(&config.rootfs.diff_ids))
    }

    fn read_json<T: DeserializeOwned>(&self, digest: &Digest, limit: u64, role: &'static str) -> Result<T> {
        let json = self.read_blob(digest, limit)?;
        serde_json::from_slice(&json).map_err(|source| Error::NotAnImage { digest: *digest, role, source })
    }
}
