//! What an image was made by.

use jiff::Timestamp;
use rbox_types::{Digest, Reference};

use crate::{Engine, Error};

/// One step of it.
#[derive(Debug, Clone)]
pub struct Step {
    /// The image that it ended in, where that is known: the last one did in the image itself.
    pub id: Option<Digest>,
    /// When, if it says.
    pub created: Option<Timestamp>,
    /// The command.
    pub created_by: String,
    /// What else is said of it.
    pub comment: String,
    /// Its layer's files in bytes, or where that is not unpacked its blob; none where it has no layer.
    pub size: u64,
    /// The names of the image, of the last one.
    pub names: Vec<Reference>,
}

impl Engine {
    /// The steps that an image was made by, the last one first. What its config does not tell of, its layers do.
    pub fn image_history(&self, name: &str) -> Result<Vec<Step>, Error> {
        let (record, image) = self.find_image(name)?;
        let key = self.identity.maps.key();
        let mut sizes = Vec::with_capacity(image.layers.len());
        for layer in &image.layers {
            sizes.push(self.unpacked_layer_size(&key, layer)?.unwrap_or(layer.size));
        }
        let mut sizes = sizes.into_iter();
        let mut steps: Vec<Step> = Vec::new();
        for entry in image.config.history().iter().flatten() {
            let size = if entry.empty_layer() == Some(true) { 0 } else { sizes.next().unwrap_or(0) };
            steps.push(Step {
                created: entry.created().as_ref().and_then(|time| time.parse().ok()),
                created_by: entry.created_by().clone().unwrap_or_default(),
                comment: entry.comment().clone().unwrap_or_default(),
                ..Step::of_size(size)
            });
        }
        steps.extend(sizes.map(Step::of_size));
        if let Some(last) = steps.last_mut() {
            last.id = Some(image.config_digest);
            last.names = self.names_of(&record)?;
        }
        steps.reverse();
        Ok(steps)
    }
}

impl Step {
    fn of_size(size: u64) -> Self {
        let (created_by, comment) = Default::default();
        Self { id: None, created: None, created_by, comment, size, names: Vec::new() }
    }
}
