//! An image as its stored bytes tell it.
//!
//! Pure functions from bytes, fast enough for the path of every `run`.

use oci_spec::image::ImageConfiguration;
use rbox_types::{ChainId, DiffId, Digest, Platform, chain_ids};

use crate::{
    Error,
    manifest::{self, Compression, Document, Manifest, malformed, normal_platform},
};

/// An image that has been pulled.
#[derive(Debug, Clone)]
pub struct Image {
    /// Its manifest's digest: what `inspect` calls its digest, and a pull by digest asks for.
    pub manifest: Digest,
    /// Its config's digest: what Docker calls the image id.
    pub config_digest: Digest,
    /// Command, environment, user, …
    pub config: ImageConfiguration,
    /// `Healthcheck` of the config, which is Docker's and not in the OCI's: whatever stands there, if it is not null.
    pub healthcheck: Option<serde_json::Value>,
    /// The layers, lowest first.
    pub layers: Vec<LayerRef>,
}

/// One layer: its blob, and who it is unpacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerRef {
    /// The packed blob's digest.
    pub digest: Digest,
    /// The packed blob's size in bytes.
    pub size: u64,
    /// The media type in the manifest.
    pub media_type: String,
    /// How the blob is packed.
    pub compression: Compression,
    /// The digest of the unpacked tar.
    pub diff_id: DiffId,
    /// The identity of this layer on top of those before it.
    pub chain_id: ChainId,
}

impl Image {
    /// Reads a manifest, which has this digest, and the config that `read` gives for the digest that the manifest names. Both
    /// are taken as already verified; `name` is for messages.
    pub fn load<E: From<Error>>(
        name: &str,
        digest: Digest,
        manifest: &[u8],
        read: impl FnOnce(&Digest) -> Result<Vec<u8>, E>,
    ) -> Result<Self, E> {
        match manifest::parse(name, manifest, None)? {
            Document::Manifest(manifest) => {
                let config = read(&manifest.config.digest)?;
                Ok(Self::assemble(name, digest, manifest, &config)?)
            }
            Document::Index(_) => Err(malformed(name, "manifest", "it is an index").into()),
        }
    }

    pub(crate) fn assemble(name: &str, digest: Digest, manifest: Manifest, config: &[u8]) -> Result<Self, Error> {
        let parsed: ImageConfiguration =
            serde_json::from_slice(config).map_err(|error| malformed(name, "config", error))?;
        let healthcheck = healthcheck(config).map_err(|error| malformed(name, "config", error))?;
        let diff_ids = parsed
            .rootfs()
            .diff_ids()
            .iter()
            .map(|text| text.parse().map(DiffId).map_err(|error| malformed(name, "config", error)))
            .collect::<Result<Vec<_>, Error>>()?;
        if diff_ids.len() != manifest.layers.len() {
            let why = format!("it names {} diff ids for {} layers", diff_ids.len(), manifest.layers.len());
            return Err(malformed(name, "config", why));
        }
        let chain_ids = chain_ids(&diff_ids);
        let layers = manifest.layers.into_iter().zip(diff_ids).zip(chain_ids);
        let layers = layers
            .map(|(((blob, compression), diff_id), chain_id)| LayerRef {
                digest: blob.digest,
                size: blob.size,
                media_type: blob.media_type,
                compression,
                diff_id,
                chain_id,
            })
            .collect();
        Ok(Self { manifest: digest, config_digest: manifest.config.digest, config: parsed, healthcheck, layers })
    }

    /// What the config says the image was built for.
    pub fn platform(&self) -> Platform {
        normal_platform(
            self.config.os().to_string(),
            self.config.architecture().to_string(),
            self.config.variant().clone(),
        )
    }
}

/// What Docker has in a config and oci-spec's types have not.
fn healthcheck(config: &[u8]) -> serde_json::Result<Option<serde_json::Value>> {
    #[derive(Default, serde::Deserialize)]
    struct Inner {
        #[serde(rename = "Healthcheck")]
        healthcheck: Option<serde_json::Value>,
    }
    #[derive(serde::Deserialize)]
    struct Outer {
        config: Option<Inner>,
    }
    // Few images have one, and each start of a container reads its image's config. Not memchr's search: that first asks what
    // the processor can do (cpuid), which a virtual machine waits for longer than this takes.
    if str::from_utf8(config).is_ok_and(|text| !text.contains("\"Healthcheck\"")) {
        return Ok(None);
    }
    let outer: Outer = serde_json::from_slice(config)?;
    Ok(outer.config.and_then(|inner| inner.healthcheck))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn diff_id(n: u8) -> DiffId {
        DiffId(Digest::from_sha256([n; 32]))
    }

    /// Docker writes null wherever Go has a nil.
    #[test]
    fn a_config_as_docker_writes_it() {
        let config = json!({
            "architecture": "arm64", "os": "linux", "variant": "", "created": "2024-01-01T00:00:00.123456789Z",
            "docker_version": "1.2", "container": "x", "container_config": {"Cmd": null},
            "config": {
                "Hostname": "", "User": "", "AttachStdin": false, "ExposedPorts": {"80/tcp": {}}, "Tty": false,
                "Env": ["PATH=/bin"], "Cmd": ["sh"], "ArgsEscaped": true, "Image": "sha256:x", "Volumes": null,
                "WorkingDir": "", "Entrypoint": null, "OnBuild": null, "Labels": null,
                "Healthcheck": {"Test": ["NONE"]}, "StopSignal": "SIGTERM",
            },
            "history": [{"created": "2024-01-01T00:00:00Z", "created_by": "x", "empty_layer": true}],
            "rootfs": {"type": "layers", "diff_ids": [diff_id(1).to_string()]},
        });
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": {"mediaType": "application/vnd.docker.container.image.v1+json", "digest": diff_id(9).to_string(), "size": 1},
            "layers": [{"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip", "digest": diff_id(8).to_string(), "size": 7}],
        })
        .to_string();
        let load = |config: &serde_json::Value| {
            Image::load("n", diff_id(3).0, manifest.as_bytes(), |digest| {
                assert_eq!(*digest, diff_id(9).0);
                Ok::<_, Error>(config.to_string().into_bytes())
            })
        };
        let image = load(&config).expect("an image");
        assert_eq!(image.platform().to_string(), "linux/arm64");
        assert_eq!((image.manifest, image.config_digest), (diff_id(3).0, diff_id(9).0));
        assert_eq!((image.layers[0].diff_id, image.layers[0].size), (diff_id(1), 7));
        let inner = image.config.config().as_ref().expect("config");
        assert_eq!(image.healthcheck, Some(json!({"Test": ["NONE"]})));
        assert_eq!(inner.cmd().as_deref(), Some(&["sh".to_owned()][..]));

        let mut fewer = config.clone();
        fewer["rootfs"]["diff_ids"] = json!([]);
        let error = load(&fewer).expect_err("no diff id");
        assert!(error.to_string().contains("0 diff ids for 1 layers"), "{error}");
    }
}
