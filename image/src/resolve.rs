//! From a reference to an image's manifest, config and layers.
//!
//! Every byte that is used was checked against a digest: that of the reference, of the index's entry, of the
//! manifest's config; for a tag, whose digest nobody knows, that of the registry's Docker-Content-Digest.

use oci_spec::image::ImageConfiguration;
use rbox_types::{Digest, Platform, Reference};
use ureq::http::{HeaderMap, Method, header};

use crate::{
    Client, Error, Image, LayerRef,
    client::Wanted,
    manifest::{self, Document, Manifest},
    transport::read_bounded,
    verify::verify_bytes,
};

/// The most that a manifest, index or config may have, bytes: what the distribution specification has registries
/// accept at least, and Docker and containerd read at most.
pub const LARGEST_DOCUMENT: u64 = 4 << 20;

/// An image as a registry has it: what a pull fetches and keeps.
#[derive(Debug, Clone)]
pub struct ResolvedImage {
    /// What was asked for.
    pub reference: Reference,
    /// The index that led to the manifest, where the name led to one.
    pub index: Option<RawBlob>,
    /// The manifest for the platform.
    pub manifest: RawBlob,
    /// The config.
    pub config: RawBlob,
    /// The config, read.
    pub configuration: ImageConfiguration,
    /// The layers, lowest first.
    pub layers: Vec<LayerRef>,
}

impl ResolvedImage {
    /// The digest that the name stands for: the index's, where there is one. It is what `@sha256:…` of the same name
    /// would be, and what [`Client::head`] gives.
    pub fn digest(&self) -> Digest {
        self.index.as_ref().unwrap_or(&self.manifest).digest
    }
}

/// Bytes that are named by their digest, untouched, verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawBlob {
    /// The sha256 of `bytes`.
    pub digest: Digest,
    /// What they are.
    pub media_type: String,
    /// The bytes.
    pub bytes: Vec<u8>,
}

impl Client {
    /// Finds the image for `platform` under a name; reads manifest and config, no layer.
    pub fn resolve(&self, reference: &Reference, platform: &Platform) -> Result<ResolvedImage, Error> {
        let name = reference.to_string();
        let (first, document) = self.document(reference, reference.digest(), None)?;
        let (index, manifest, parsed, to_check) = match document {
            Document::Manifest(parsed) => (None, first, parsed, true),
            Document::Index(list) => {
                let entry = list.choose(&name, platform)?;
                let (manifest, document) = self.document(reference, Some(entry.digest), Some(entry.size))?;
                let Document::Manifest(parsed) = document else {
                    return Err(Error::MediaType {
                        what: name,
                        why: "its index leads to another index",
                        found: manifest.media_type,
                    });
                };
                (Some(first), manifest, parsed, entry.platform.is_none())
            }
        };
        let config = self.config(reference, &parsed)?;
        let image = Image::assemble(&name, manifest.digest, parsed, &config.bytes)?;
        let found = image.platform();
        // Where the index named the platform, its word counts: configs of multi-platform images are often careless.
        if to_check && !platform.accepts(&found) {
            return Err(Error::WrongPlatform { name, wanted: Box::new(platform.clone()), found: Box::new(found) });
        }
        let Image { config: configuration, layers, .. } = image;
        Ok(ResolvedImage { reference: reference.clone(), index, manifest, config, configuration, layers })
    }

    /// The digest that a name stands for now; Docker Hub does not count such requests as pulls.
    pub fn head(&self, reference: &Reference) -> Result<Digest, Error> {
        let what = Wanted::Manifest(reference.digest());
        let told = self.retried(|| {
            let response = self.request(Method::HEAD, reference, what, &[(header::ACCEPT, manifest::ACCEPT)])?;
            Ok(content_digest(response.response.headers()))
        })?;
        match (told, reference.digest()) {
            (Some(actual), Some(expected)) if actual != expected => {
                Err(Error::DigestMismatch { what: format!("the manifest of {reference}"), expected, actual })
            }
            (Some(digest), _) => Ok(digest),
            // The header is a SHOULD.
            (None, _) => Ok(self.document(reference, reference.digest(), None)?.0.digest),
        }
    }

    /// A manifest or index, verified; by digest, or by the reference's tag.
    fn document(
        &self,
        reference: &Reference,
        digest: Option<Digest>,
        size: Option<u64>,
    ) -> Result<(RawBlob, Document), Error> {
        let name = reference.to_string();
        let what = || format!("the manifest of {reference}");
        let (bytes, told, media_type) = self.retried(|| {
            let wanted = Wanted::Manifest(digest);
            let answer = self.request(Method::GET, reference, wanted, &[(header::ACCEPT, manifest::ACCEPT)])?;
            let headers = answer.response.headers();
            let (told, media_type) = (content_digest(headers), content_type(headers));
            Ok((read_bounded(answer.response, &answer.host, LARGEST_DOCUMENT, &what())?, told, media_type))
        })?;
        if let Some(expected) = size.filter(|size| *size != bytes.len() as u64) {
            return Err(Error::SizeMismatch { what: what(), expected, actual: bytes.len() as u64 });
        }
        let actual = Digest::of(&bytes);
        for expected in [digest, told].into_iter().flatten() {
            if expected != actual {
                return Err(Error::DigestMismatch { what: what(), expected, actual });
            }
        }
        let document = manifest::parse(&name, &bytes, media_type.as_deref())?;
        let media_type = match &document {
            Document::Manifest(manifest) => manifest.media_type.clone(),
            Document::Index(index) => index.media_type.clone(),
        };
        Ok((RawBlob { digest: actual, media_type, bytes }, document))
    }

    fn config(&self, reference: &Reference, manifest: &Manifest) -> Result<RawBlob, Error> {
        let blob = &manifest.config;
        let what = || format!("the config of {reference}");
        if blob.size > LARGEST_DOCUMENT {
            return Err(Error::TooLarge { what: what(), limit: LARGEST_DOCUMENT });
        }
        let bytes = self.retried(|| {
            let answer = self.request(Method::GET, reference, Wanted::Blob(blob.digest), &[])?;
            read_bounded(answer.response, &answer.host, LARGEST_DOCUMENT, &what())
        })?;
        if bytes.len() as u64 != blob.size {
            return Err(Error::SizeMismatch { what: what(), expected: blob.size, actual: bytes.len() as u64 });
        }
        verify_bytes(what, &bytes, blob.digest)?;
        Ok(RawBlob { digest: blob.digest, media_type: blob.media_type.clone(), bytes })
    }
}

/// Docker-Content-Digest; one of another algorithm than sha256 is as good as none.
fn content_digest(headers: &HeaderMap) -> Option<Digest> {
    headers.get("docker-content-digest")?.to_str().ok()?.trim().parse().ok()
}

/// Content-Type without its parameters.
fn content_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}
