//! More names for an image, and fewer.

use jiff::Timestamp;
use rbox_store::ImageRecord;
use rbox_types::Reference;

use crate::{Engine, Error, events};

impl Engine {
    /// Gives an image more names, taking each from the image that had it before.
    pub fn tag_image(&self, name: &str, names: &[Reference]) -> Result<(), Error> {
        let (record, image) = self.find_image(name)?;
        let lease = self.store.begin()?;
        for reference in names {
            lease.name(&ImageRecord { reference: reference.clone(), pulled_at: Timestamp::now(), ..record.clone() })?;
            events::note(&self.store, &[events::of_image("tag", &image.config_digest, reference)]);
        }
        Ok(())
    }

    /// Takes names away from an image, or all that it has. What has no name any more stays until it is collected.
    pub fn untag_image(&self, name: &str, names: &[Reference]) -> Result<(), Error> {
        let (record, image) = self.find_image(name)?;
        let has = self.names_of(&record)?;
        if let Some(other) = names.iter().find(|name| !has.contains(name)) {
            return Err(Error::NotItsName { image: name.to_owned(), name: other.clone().into() });
        }
        for reference in if names.is_empty() { &has } else { names } {
            self.store.untag(reference)?;
            events::note(&self.store, &[events::of_image("untag", &image.config_digest, reference)]);
        }
        Ok(())
    }
}
