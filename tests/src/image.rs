//! Images put together layer by layer in a [`Layout`].

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};

use crate::hash::{Hashed, digest};
use crate::layer::Layer;
use crate::layout::{Descriptor, Layout};

/// Whose media types an image uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// OCI image spec 1.0.
    Oci,
    /// Docker image manifest, version 2, schema 2.
    Docker,
}

/// How a layer is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    Plain,
    /// gzip, RFC 1952.
    Gzip,
    /// Zstandard, RFC 8878; Docker's media types have no name for it.
    Zstd,
}

/// An image being put together.
pub struct ImageBuilder<'a> {
    layout: &'a Layout,
    format: Format,
    platform: Value,
    created: String,
    config: Map<String, Value>,
    layers: Vec<Descriptor>,
    diff_ids: Vec<String>,
}

impl<'a> ImageBuilder<'a> {
    /// An OCI image for linux/amd64 with no layer and no command.
    pub fn new(layout: &'a Layout) -> Self {
        let platform = json!({ "architecture": "amd64", "os": "linux" });
        let path = json!(["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]);
        let config = Map::from_iter([("Env".to_owned(), path)]);
        let created = "2024-01-01T00:00:00Z".to_owned();
        Self { layout, format: Format::Oci, platform, created, config, layers: Vec::new(), diff_ids: Vec::new() }
    }

    /// Uses these media types; to be said before the first layer.
    #[must_use]
    pub fn format(mut self, format: Format) -> Self {
        self.format = format;
        self
    }

    /// Is for this platform: `{"os": …, "architecture": …, "variant": …}`.
    #[must_use]
    pub fn platform(mut self, platform: Value) -> Self {
        self.platform = platform;
        self
    }

    /// Says that it was built at this time, RFC 3339.
    #[must_use]
    pub fn created(mut self, time: &str) -> Self {
        time.clone_into(&mut self.created);
        self
    }

    /// Sets a field of the configuration's `config` object, such as `Cmd`, `Env`, `User`.
    #[must_use]
    pub fn set(mut self, field: &str, value: Value) -> Self {
        self.config.insert(field.to_owned(), value);
        self
    }

    /// Adds a layer on top.
    pub fn layer(self, layer: &Layer, compression: Compression) -> Result<Self> {
        self.layer_from(compression, |out| Ok(layer.write(out)?))
    }

    /// Adds the layer whose tar archive `write` writes.
    pub fn layer_from(
        mut self,
        compression: Compression,
        write: impl FnOnce(&mut dyn Write) -> Result<()>,
    ) -> Result<Self> {
        let mut diff_id = String::new();
        let media_type = self.format.layer_type(compression);
        let descriptor = self.layout.put_with(media_type, |out| {
            diff_id = match compression {
                Compression::Plain => {
                    let mut hashed = Hashed::new(out);
                    write(&mut hashed)?;
                    hashed.finish().1
                }
                Compression::Gzip => {
                    let mut hashed = Hashed::new(flate2::write::GzEncoder::new(out, flate2::Compression::default()));
                    write(&mut hashed)?;
                    let (encoder, diff_id, _) = hashed.finish();
                    encoder.finish()?;
                    diff_id
                }
                Compression::Zstd => {
                    let mut tar = Vec::new();
                    write(&mut tar)?;
                    out.write_all(&zstd(&tar)?)?;
                    digest(&tar)
                }
            };
            Ok(())
        })?;
        self.layers.push(descriptor);
        self.diff_ids.push(diff_id);
        Ok(self)
    }

    /// Adds a layer blob as it is, with the diff id that the configuration is to claim.
    #[must_use]
    pub fn layer_blob(mut self, descriptor: Descriptor, diff_id: &str) -> Self {
        self.layers.push(descriptor);
        self.diff_ids.push(diff_id.to_owned());
        self
    }

    /// Writes configuration and manifest; gives the manifest's descriptor.
    pub fn finish(self) -> Result<Descriptor> {
        let mut config = self.platform.clone();
        config["created"] = json!(self.created);
        config["config"] = Value::Object(self.config);
        config["rootfs"] = json!({ "type": "layers", "diff_ids": self.diff_ids });
        config["history"] = self.diff_ids.iter().map(|_| json!({ "created_by": "rbox-tests" })).collect();
        let config = self.layout.put_json(self.format.config_type(), &config)?;
        let layers: Vec<Value> = self.layers.iter().map(Descriptor::to_json).collect();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": self.format.manifest_type(),
            "config": config.to_json(),
            "layers": layers,
        });
        self.layout.put_json(self.format.manifest_type(), &manifest)
    }

    /// As [`ImageBuilder::finish`], and gives the image a name in the layout.
    pub fn finish_as(self, name: &str) -> Result<Descriptor> {
        let layout = self.layout;
        let descriptor = self.finish()?;
        layout.tag(name, &descriptor)?;
        Ok(descriptor)
    }
}

/// Writes an index of manifests for several platforms.
pub fn index(layout: &Layout, format: Format, manifests: &[(Descriptor, Value)]) -> Result<Descriptor> {
    let entries: Vec<Value> = manifests
        .iter()
        .map(|(descriptor, platform)| {
            let mut entry = descriptor.to_json();
            entry["platform"] = platform.clone();
            entry
        })
        .collect();
    let index = json!({ "schemaVersion": 2, "mediaType": format.index_type(), "manifests": entries });
    layout.put_json(format.index_type(), &index)
}

impl Format {
    /// The media type of manifests.
    pub fn manifest_type(self) -> &'static str {
        match self {
            Self::Oci => "application/vnd.oci.image.manifest.v1+json",
            Self::Docker => "application/vnd.docker.distribution.manifest.v2+json",
        }
    }

    /// The media type of lists of manifests.
    pub fn index_type(self) -> &'static str {
        match self {
            Self::Oci => "application/vnd.oci.image.index.v1+json",
            Self::Docker => "application/vnd.docker.distribution.manifest.list.v2+json",
        }
    }

    /// The media type of image configurations.
    pub fn config_type(self) -> &'static str {
        match self {
            Self::Oci => "application/vnd.oci.image.config.v1+json",
            Self::Docker => "application/vnd.docker.container.image.v1+json",
        }
    }

    /// The media type of layers.
    pub fn layer_type(self, compression: Compression) -> &'static str {
        match (self, compression) {
            (Self::Oci, Compression::Plain) => "application/vnd.oci.image.layer.v1.tar",
            (Self::Oci, Compression::Gzip) => "application/vnd.oci.image.layer.v1.tar+gzip",
            (_, Compression::Zstd) => "application/vnd.oci.image.layer.v1.tar+zstd",
            (Self::Docker, Compression::Plain) => "application/vnd.docker.image.rootfs.diff.tar",
            (Self::Docker, Compression::Gzip) => "application/vnd.docker.image.rootfs.diff.tar.gzip",
        }
    }
}

/// Compressed by the program of Zstandard's authors.
fn zstd(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut input = tempfile::tempfile()?;
    input.write_all(bytes)?;
    std::io::Seek::rewind(&mut input)?;
    let output = Command::new("zstd").arg("-qc").stdin(input).stderr(Stdio::inherit()).output();
    let output = output.context("cannot start zstd")?;
    ensure!(output.status.success(), "zstd ended with {}", output.status);
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::read;

    #[test]
    fn umoci_and_skopeo_read_what_is_built() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let layout = Layout::create(&dir.path().join("oci")).expect("a layout");
        let below = Layer::new().dir("d", 0o755).file("d/old", 0o644, "old").file("keep", 0o600, "kept");
        let above = Layer::new().whiteout("d/old").file("d/new", 0o644, "new");
        let manifest = ImageBuilder::new(&layout).set("Cmd", json!(["/bin/true"]));
        let manifest =
            manifest.layer(&below, Compression::Gzip).and_then(|image| image.layer(&above, Compression::Plain));
        manifest.and_then(|image| image.finish_as("t")).expect("an image");

        let name = format!("{}:t", layout.dir().display());
        let seen =
            read(Command::new("skopeo").args(["inspect", "--config"]).arg(format!("oci:{name}"))).expect("skopeo");
        let seen: Value = serde_json::from_str(&seen).expect("JSON");
        assert_eq!(seen["config"]["Cmd"], json!(["/bin/true"]));

        let bundle = dir.path().join("bundle");
        read(Command::new("umoci").args(["unpack", "--rootless", "--image", &name]).arg(&bundle)).expect("umoci");
        let root = bundle.join("rootfs");
        assert_eq!(std::fs::read_to_string(root.join("d/new")).expect("made"), "new");
        assert_eq!(std::fs::read_to_string(root.join("keep")).expect("kept"), "kept");
        assert!(!root.join("d/old").exists());
    }
}
