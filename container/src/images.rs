//! Images that are here: finding, listing, removing.

pub(crate) mod history;
pub(crate) mod list;
pub(crate) mod pull;
mod tag;

use std::collections::BTreeMap;

use jiff::Timestamp;
use rbox_image::{Image, LARGEST_DOCUMENT, LayerRef};
use rbox_store::{Collected, ImageRecord};
use rbox_types::{Digest, Platform, Reference};

use crate::images::pull::{PullOutput, PullRequest};
use crate::request::{PullPolicy, RunRequest};
use crate::{Engine, Error, events};

/// An image in a list.
#[derive(Debug, Clone)]
pub struct ImageSummary {
    /// Its name.
    pub reference: Reference,
    /// The config's digest, which Docker calls the image's id.
    pub id: Digest,
    /// What the registry answered for the name: an index's digest, or the manifest's.
    pub digest: Digest,
    /// The manifest of one platform.
    pub(crate) manifest: Digest,
    /// What it was built for.
    pub platform: Platform,
    /// When it was built, if it says.
    pub created: Option<Timestamp>,
    /// The sum of its blobs in bytes, as they travel.
    pub packed_size: u64,
    /// The sum of its layers' files in bytes, if they are unpacked.
    pub size: Option<u64>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// A name that is gone.
#[derive(Debug)]
pub struct Unnamed {
    /// The name.
    pub reference: Reference,
    /// Whose it was.
    pub id: Digest,
    /// What was removed with it.
    pub collected: Collected,
}

impl Engine {
    /// The image for a run, pulled first where the policy wants that.
    pub(crate) fn image_for(&self, request: &RunRequest, output: &dyn PullOutput) -> Result<Image, Error> {
        let pull = || -> Result<Image, Error> {
            let pulled = self.pull(
                &PullRequest {
                    reference: request.image.clone(),
                    platform: request.platform.clone(),
                    tls_verify: request.tls_verify,
                },
                output,
            )?;
            Ok(pulled.image)
        };
        match (self.image_here(request)?, request.pull) {
            (Some(image), _) => Ok(image),
            (None, PullPolicy::Never) => Err(Error::NoImage(request.image.clone().into())),
            (None, _) => pull(),
        }
    }

    /// The image for a run, where nothing need be pulled for that.
    pub(crate) fn image_here(&self, request: &RunRequest) -> Result<Option<Image>, Error> {
        match request.pull {
            PullPolicy::Always => Ok(None),
            _ => self.stored(&request.image, request.platform.as_ref()),
        }
    }

    /// The image of this name if all of it is here, unpacked for our ids and built for the wanted platform.
    fn stored(&self, reference: &Reference, platform: Option<&Platform>) -> Result<Option<Image>, Error> {
        let Some(record) = self.store.image(reference)? else { return Ok(None) };
        if platform.is_some_and(|platform| !platform.accepts(&record.platform)) || self.is_suspect(&record)? {
            return Ok(None);
        }
        let image = self.load(&record)?;
        let key = self.identity.maps.key();
        for layer in &image.layers {
            if self.store.layer(&key, layer.chain_id)?.is_none() {
                return Ok(None);
            }
        }
        Ok(Some(image))
    }

    /// Reads manifest and config of a record from the store.
    pub(crate) fn load(&self, record: &ImageRecord) -> Result<Image, Error> {
        let name = record.reference.to_string();
        let digest = record.manifest.digest;
        let manifest = self.store.read_blob(&digest, LARGEST_DOCUMENT)?;
        Image::load(&name, digest, &manifest, |config| Ok(self.store.read_blob(config, LARGEST_DOCUMENT)?))
    }

    /// The record that a person means by a name, or by the beginning of an image id or digest.
    pub(crate) fn find_image(&self, text: &str) -> Result<(ImageRecord, Image), Error> {
        if let Ok(reference) = text.parse::<Reference>()
            && let Some(record) = self.store.image(&reference)?
        {
            let image = self.load(&record)?;
            return Ok((record, image));
        }
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        let mut matching = Vec::new();
        // Shorter ones would often be names mistyped.
        if hex.len() >= 3 && hex.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            for record in self.store.images()? {
                let image = self.load(&record)?;
                if [image.config_digest, image.manifest].iter().any(|digest| digest.hex().starts_with(hex)) {
                    matching.push((record, image));
                }
            }
        }
        let ids: std::collections::BTreeSet<Digest> = matching.iter().map(|(_, image)| image.config_digest).collect();
        match (ids.len(), matching.into_iter().next()) {
            (1, Some(found)) => Ok(found),
            (0, _) | (_, None) => Err(Error::NoSuchImage(text.to_owned())),
            (count, _) => Err(Error::AmbiguousImage { prefix: text.to_owned(), count }),
        }
    }

    pub(crate) fn image_summary(&self, record: &ImageRecord) -> Result<ImageSummary, Error> {
        let image = self.load(record)?;
        let size = self.unpacked_size(&image)?;
        Ok(ImageSummary {
            reference: record.reference.clone(),
            id: image.config_digest,
            digest: record.index.unwrap_or(record.manifest.digest),
            platform: record.platform.clone(),
            manifest: image.manifest,
            created: created(&image),
            labels: labels(&image),
            packed_size: image.layers.iter().map(|layer| layer.size).sum(),
            size,
        })
    }

    /// The size of an image's files, if its layers are unpacked for our ids.
    pub(crate) fn unpacked_size(&self, image: &Image) -> Result<Option<u64>, Error> {
        let key = self.identity.maps.key();
        let mut size = 0;
        for layer in &image.layers {
            match self.unpacked_layer_size(&key, layer)? {
                Some(of_layer) => size += of_layer,
                None => return Ok(None),
            }
        }
        Ok(Some(size))
    }

    /// The size of a layer's files, if it is unpacked for these ids.
    fn unpacked_layer_size(&self, map_key: &str, layer: &LayerRef) -> Result<Option<u64>, Error> {
        let unpacked = self.store.layer(map_key, layer.chain_id)?;
        Ok(unpacked.map(|unpacked| unpacked.record()).transpose()?.map(|record| record.size))
    }

    /// All that the image of a record is called.
    pub(crate) fn names_of(&self, record: &ImageRecord) -> Result<Vec<Reference>, Error> {
        let records = self.store.images()?.into_iter();
        let same = records.filter(|other| other.manifest.digest == record.manifest.digest);
        Ok(same.map(|other| other.reference).collect())
    }

    /// Takes an image's name away, and removes what only it needed. Refused while a container was made from it, unless
    /// forced: then containers that do not run go with it.
    pub fn remove_image(&self, name: &str, force: bool) -> Result<Unnamed, Error> {
        let (record, image) = self.find_image(name)?;
        let others = self.names_of(&record)?.len();
        for container in self.store.containers()? {
            // Under another name the image stays, and so may the container.
            if container.refs.manifest != image.manifest || others > 1 {
                continue;
            }
            if container.running || !force {
                return Err(Error::InUse { image: record.reference.into(), container: container.name.to_string() });
            }
            self.remove_container(container.id.as_str(), None, false)?;
        }
        self.store.untag(&record.reference)?;
        events::note(&self.store, &[events::of_image("untag", &image.config_digest, &record.reference)]);
        if others == 1 {
            events::note(&self.store, &[events::of_image("remove", &image.config_digest, &record.reference)]);
        }
        Ok(Unnamed { reference: record.reference, id: image.config_digest, collected: self.gc()? })
    }

    /// Removes what no image, no container and no pull under way needs.
    pub fn gc(&self) -> Result<Collected, Error> {
        rbox_runtime::home::sweep();
        Ok(self.store.gc(&|path| self.remove_tree(path))?)
    }
}

/// When it was built, if it says.
pub(crate) fn created(image: &Image) -> Option<Timestamp> {
    image.config.created().as_ref().and_then(|time| time.parse().ok())
}

fn labels(image: &Image) -> BTreeMap<String, String> {
    let labels = image.config.config().as_ref().and_then(|config| config.labels().clone());
    labels.into_iter().flatten().collect()
}
