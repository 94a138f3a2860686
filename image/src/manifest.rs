//! What manifests and indexes say: from bytes to meaning, and no further.
//!
//! Two families say the same in different media types: OCI (image-spec `manifest.md`, `image-index.md`) and Docker's
//! schema 2 (distribution `manifest-v2-2.md`). The bytes themselves are kept elsewhere, since their digest is their
//! name; here is only what is needed of them, read leniently: unknown fields are ignored, as both specifications ask.

use std::collections::HashSet;

use rbox_types::{Digest, Platform};
use serde::Deserialize;

use crate::Error;

const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// The Accept header for manifests: all that can be read here.
pub(crate) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// Either of the two things that a name may lead to.
pub(crate) enum Document {
    Index(Index),
    Manifest(Manifest),
}

/// A list of images, one for each platform.
pub(crate) struct Index {
    pub(crate) media_type: String,
    pub(crate) entries: Vec<IndexEntry>,
}

/// One image of an index.
pub(crate) struct IndexEntry {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) platform: Option<Platform>,
}

/// One image: its config and its layers, lowest first.
pub(crate) struct Manifest {
    pub(crate) media_type: String,
    pub(crate) config: Blob,
    pub(crate) layers: Vec<(Blob, Compression)>,
}

/// A blob that a manifest names.
pub(crate) struct Blob {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) media_type: String,
}

/// How a layer's tar is packed, as its media type says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// A tar as it is.
    None,
    /// gzip (RFC 1952).
    Gzip,
    /// zstd (RFC 8878).
    Zstd,
}

/// Reads a manifest or an index. `media_type` is the response's Content-Type, where there was one; what the document
/// itself says counts more.
pub(crate) fn parse(name: &str, bytes: &[u8], media_type: Option<&str>) -> Result<Document, Error> {
    let raw: RawDocument = serde_json::from_slice(bytes).map_err(|error| match media_type {
        // A page of some web server, which says by itself that it is none of ours.
        Some(other) if error.is_syntax() && !other.contains("json") => {
            Error::MediaType { what: name.to_owned(), why: "it is not a container image", found: other.to_owned() }
        }
        _ => malformed(name, "manifest", error),
    })?;
    let media_type = raw.media_type.as_deref().filter(|own| !own.is_empty()).or(media_type).unwrap_or_default();
    let wrong = |why| Error::MediaType { what: name.to_owned(), why, found: media_type.to_owned() };
    if raw.schema_version == Some(1) || media_type.starts_with("application/vnd.docker.distribution.manifest.v1") {
        return Err(wrong("it has a manifest of schema 1, which Docker retired; push the image again"));
    }
    // A document that could be read either way would be one image here and another elsewhere (CVE-2021-41190).
    let is_index = match (media_type, raw.manifests.is_some(), raw.layers.is_some() || raw.config.is_some()) {
        (_, true, true) => return Err(wrong("its manifest could be read both as an image and as an index")),
        (OCI_INDEX | DOCKER_LIST, false, _) => return Err(wrong("it calls itself an index but lists no manifests")),
        (OCI_MANIFEST | DOCKER_MANIFEST, _, false) => return Err(wrong("it calls itself an image but has no layers")),
        (OCI_INDEX | DOCKER_LIST, true, false) => true,
        (OCI_MANIFEST | DOCKER_MANIFEST, false, true) => false,
        // No media type of its own and a useless header: the shape decides.
        ("" | "application/json" | "text/plain" | "application/octet-stream", index, image) if index != image => index,
        _ => return Err(wrong("it is not a container image")),
    };
    if is_index {
        let media_type = if media_type == DOCKER_LIST { DOCKER_LIST } else { OCI_INDEX };
        Ok(Document::Index(Index {
            media_type: media_type.to_owned(),
            entries: raw.manifests.unwrap_or_default().into_iter().filter_map(index_entry).collect(),
        }))
    } else {
        let media_type = match media_type {
            DOCKER_MANIFEST => DOCKER_MANIFEST,
            _ => OCI_MANIFEST,
        };
        manifest(name, raw.artifact_type.as_deref(), media_type, raw.config, raw.layers.unwrap_or_default())
            .map(Document::Manifest)
    }
}

impl Index {
    /// The best image for `wanted`: one of just that platform, else the first that serves; an index with one image
    /// that doesn't say its platform means that one, and its config is to be checked.
    pub(crate) fn choose(&self, name: &str, wanted: &Platform) -> Result<&IndexEntry, Error> {
        let platform_is = |accept: &dyn Fn(&Platform) -> bool| {
            self.entries.iter().find(|entry| entry.platform.as_ref().is_some_and(accept))
        };
        let chosen = platform_is(&|offered| offered == wanted).or_else(|| {
            // Where none is asked for, the one without a variant is the one for every machine.
            platform_is(&|offered| wanted.accepts(offered) && offered.variant.is_none())
                .or_else(|| platform_is(&|offered| wanted.accepts(offered)))
        });
        match (chosen, &self.entries[..]) {
            (Some(entry), _) => Ok(entry),
            (None, [only]) if only.platform.is_none() => Ok(only),
            _ => Err(Error::NoPlatform {
                name: name.to_owned(),
                wanted: Box::new(wanted.clone()),
                offered: self.platforms(),
            }),
        }
    }

    /// What the index offers to run, in its own order; attestations go by the platform unknown/unknown.
    fn platforms(&self) -> Vec<Platform> {
        let mut seen = HashSet::new();
        let offered = self.entries.iter().filter_map(|entry| entry.platform.clone());
        offered.filter(|platform| platform.os != "unknown" && seen.insert(platform.clone())).collect()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDocument {
    schema_version: Option<u64>,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<RawDescriptor>,
    layers: Option<Vec<RawDescriptor>>,
    manifests: Option<Vec<RawDescriptor>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDescriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: u64,
    platform: Option<RawPlatform>,
}

#[derive(Deserialize)]
struct RawPlatform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    variant: Option<String>,
}

/// None for what an index may list but nobody can run from here: nested indexes, artifacts, other digests' kinds.
fn index_entry(raw: RawDescriptor) -> Option<IndexEntry> {
    let is_image = matches!(raw.media_type.as_str(), OCI_MANIFEST | DOCKER_MANIFEST | "");
    let platform = raw
        .platform
        .filter(|platform| !platform.os.is_empty())
        .map(|platform| normal_platform(platform.os, platform.architecture, platform.variant));
    is_image.then_some(IndexEntry { digest: raw.digest.parse().ok()?, size: raw.size, platform })
}

/// An empty variant is none.
pub(crate) fn normal_platform(os: String, architecture: String, variant: Option<String>) -> Platform {
    Platform { os, architecture, variant: variant.filter(|variant| !variant.is_empty()) }
}

fn manifest(
    name: &str,
    artifact_type: Option<&str>,
    media_type: &str,
    config: Option<RawDescriptor>,
    layers: Vec<RawDescriptor>,
) -> Result<Manifest, Error> {
    let config = blob(name, config.ok_or_else(|| malformed(name, "manifest", "it names no config"))?)?;
    if !matches!(config.media_type.as_str(), OCI_CONFIG | DOCKER_CONFIG) {
        let why = match config.media_type.as_str() {
            kind if kind.contains("helm") => "it is a Helm chart, not a container image",
            kind if kind.contains("plugin") => "it is a Docker plugin, not a container image",
            kind if kind.contains("wasm") => "it is a WebAssembly module, not a container image",
            _ => "it is an artifact, not a container image",
        };
        let found = artifact_type.filter(|kind| !kind.is_empty()).unwrap_or(&config.media_type).to_owned();
        return Err(Error::MediaType { what: name.to_owned(), why, found });
    }
    let layers = layers
        .into_iter()
        .map(|raw| {
            let layer = blob(name, raw)?;
            let compression = compression(name, &layer)?;
            Ok((layer, compression))
        })
        .collect::<Result<_, Error>>()?;
    Ok(Manifest { media_type: media_type.to_owned(), config, layers })
}

fn blob(name: &str, raw: RawDescriptor) -> Result<Blob, Error> {
    let digest = raw.digest.parse().map_err(|error| malformed(name, "manifest", error))?;
    Ok(Blob { digest, size: raw.size, media_type: raw.media_type })
}

fn compression(name: &str, layer: &Blob) -> Result<Compression, Error> {
    let kind = layer.media_type.as_str();
    let wrong = |why| Error::MediaType { what: format!("{name}: layer {}", layer.digest), why, found: kind.to_owned() };
    match kind {
        "application/vnd.oci.image.layer.v1.tar+gzip" | "application/vnd.docker.image.rootfs.diff.tar.gzip" => {
            Ok(Compression::Gzip)
        }
        "application/vnd.oci.image.layer.v1.tar+zstd" | "application/vnd.docker.image.rootfs.diff.tar.zstd" => {
            Ok(Compression::Zstd)
        }
        "application/vnd.oci.image.layer.v1.tar" | "application/vnd.docker.image.rootfs.diff.tar" => {
            Ok(Compression::None)
        }
        foreign if foreign.contains(".foreign.") || foreign.contains(".nondistributable.") => {
            Err(wrong("it must be fetched from elsewhere than the registry, which is not done (CVE-2020-15157)"))
        }
        encrypted if encrypted.ends_with("+encrypted") => Err(wrong("it is encrypted")),
        _ => Err(wrong("it is not a layer of a container image")),
    }
}

pub(crate) fn malformed(name: &str, which: &str, why: impl ToString) -> Error {
    Error::Malformed { what: format!("the {which} of {name}"), why: why.to_string() }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn digest(n: u8) -> String {
        Digest::from_sha256([n; 32]).to_string()
    }

    fn image(config: &str, layer: &str) -> Value {
        json!({
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {"mediaType": config, "digest": digest(1), "size": 2},
            "layers": [{"mediaType": layer, "digest": digest(2), "size": 3}],
        })
    }

    fn read(value: &Value) -> Result<Document, Error> {
        parse("r/n:t", value.to_string().as_bytes(), None)
    }

    const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

    rbox_fuzz::target!(
        image_manifest,
        rbox_fuzz::Shape::Json,
        [
            image(OCI_CONFIG, GZIP).to_string(),
            json!({ "schemaVersion": 2, "mediaType": DOCKER_LIST, "manifests": [
                { "mediaType": DOCKER_MANIFEST, "digest": digest(3), "size": 4,
                  "platform": { "os": "linux", "architecture": "arm", "variant": "v7" } },
                { "mediaType": OCI_MANIFEST, "digest": digest(4), "size": 5 },
            ] })
            .to_string(),
        ],
        |input: &[u8]| {
            for header in [None, Some(OCI_INDEX), Some(DOCKER_MANIFEST)] {
                if let Ok(Document::Index(index)) = parse("r/n:t", input, header) {
                    let _ = index.choose("r/n:t", &Platform::host());
                }
            }
        }
    );

    #[test]
    fn images_of_both_families() {
        for (config, layer, expected) in [
            (OCI_CONFIG, GZIP, Compression::Gzip),
            (OCI_CONFIG, "application/vnd.oci.image.layer.v1.tar+zstd", Compression::Zstd),
            (OCI_CONFIG, "application/vnd.oci.image.layer.v1.tar", Compression::None),
            (DOCKER_CONFIG, "application/vnd.docker.image.rootfs.diff.tar.gzip", Compression::Gzip),
            (DOCKER_CONFIG, "application/vnd.docker.image.rootfs.diff.tar", Compression::None),
        ] {
            let Ok(Document::Manifest(manifest)) = read(&image(config, layer)) else { panic!("{layer}") };
            assert_eq!((manifest.layers[0].1, manifest.layers[0].0.size), (expected, 3), "{layer}");
        }
    }

    #[test]
    fn what_is_no_image_says_what_it_is() {
        for (value, says) in [
            (image("application/vnd.cncf.helm.config.v1+json", GZIP), "Helm chart"),
            (image("application/vnd.oci.empty.v1+json", GZIP), "artifact"),
            (image(OCI_CONFIG, "application/vnd.dev.cosign.simplesigning.v1+json"), "not a layer"),
            (image(OCI_CONFIG, "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"), "CVE-2020-15157"),
            (image(OCI_CONFIG, "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"), "CVE-2020-15157"),
            (image(OCI_CONFIG, "application/vnd.oci.image.layer.v1.tar+gzip+encrypted"), "encrypted"),
            (Value::Null, "malformed"),
            (json!({"schemaVersion": 1, "fsLayers": []}), "schema 1"),
            (json!({"mediaType": OCI_INDEX}), "lists no manifests"),
            (json!({"mediaType": OCI_MANIFEST, "manifests": []}), "has no layers"),
            (json!({"mediaType": "application/x-other", "manifests": []}), "not a container image"),
            (json!({}), "not a container image"),
            (json!([]), "malformed"),
        ] {
            match read(&value) {
                Err(error) => assert!(error.to_string().contains(says), "{value}: {error}"),
                Ok(_) => panic!("{value} was accepted"),
            }
        }
    }

    #[test]
    fn a_document_is_never_both() {
        let mut both = image(OCI_CONFIG, GZIP);
        both["manifests"] = json!([]);
        for media_type in [OCI_MANIFEST, OCI_INDEX] {
            both["mediaType"] = media_type.into();
            assert!(matches!(read(&both), Err(Error::MediaType { .. })));
        }
    }

    #[test]
    fn the_header_decides_where_the_document_is_silent() {
        let mut silent = image(OCI_CONFIG, GZIP);
        silent.as_object_mut().expect("object").remove("mediaType");
        let parse_as = |header| parse("n", silent.to_string().as_bytes(), header);
        assert!(
            matches!(parse_as(Some(DOCKER_MANIFEST)), Ok(Document::Manifest(m)) if m.media_type == DOCKER_MANIFEST)
        );
        assert!(matches!(parse_as(None), Ok(Document::Manifest(m)) if m.media_type == OCI_MANIFEST));
        assert!(parse_as(Some("text/html")).is_err());
        assert!(parse_as(Some(OCI_INDEX)).is_err());
    }

    #[test]
    fn platforms() {
        let entry = |n, platform: Value| {
            let mut entry = json!({"mediaType": OCI_MANIFEST, "digest": digest(n), "size": 1});
            if !platform.is_null() {
                entry["platform"] = platform;
            }
            entry
        };
        let index = |entries: Vec<Value>| match read(&json!({"mediaType": OCI_INDEX, "manifests": entries})) {
            Ok(Document::Index(index)) => index,
            _ => panic!("not an index"),
        };
        let many = index(vec![
            entry(1, json!({"os": "linux", "architecture": "amd64", "variant": "v3"})),
            entry(2, json!({"os": "linux", "architecture": "amd64"})),
            entry(3, json!({"os": "linux", "architecture": "arm64", "variant": "v8"})),
            entry(4, json!({"os": "unknown", "architecture": "unknown"})),
        ]);
        let chosen = |index: &Index, wanted: &str| {
            index.choose("n", &wanted.parse().expect("platform")).map(|entry| entry.digest.to_string())
        };
        assert_eq!(chosen(&many, "linux/amd64").expect("found"), digest(2));
        assert_eq!(chosen(&many, "linux/amd64/v3").expect("found"), digest(1));
        assert_eq!(chosen(&many, "linux/arm64").expect("found"), digest(3));
        let error = chosen(&many, "linux/s390x").expect_err("absent");
        assert_eq!(
            error.to_string(),
            "n has no image for linux/s390x; it offers linux/amd64/v3, linux/amd64, linux/arm64/v8"
        );
        assert_eq!(chosen(&index(vec![entry(1, Value::Null)]), "linux/s390x").expect("found"), digest(1));
        assert!(chosen(&index(vec![entry(1, Value::Null), entry(2, Value::Null)]), "linux/s390x").is_err());
        assert!(chosen(&index(vec![]), "linux/s390x").is_err());
    }
}
