//! `rbox tag` and `rbox untag`

use clap::Args;
use rbox_container::Engine;
use rbox_types::Reference;

use crate::failure::Failure;

#[derive(Debug, Args)]
pub(crate) struct Tag {
    /// Its name, or its id or the beginning of that
    image: String,

    /// What it is to be called, too
    #[arg(required = true)]
    names: Vec<Reference>,
}

impl Tag {
    pub(crate) fn act(self, engine: &Engine) -> Result<(), Failure> {
        Ok(engine.tag_image(&self.image, &self.names)?)
    }
}

#[derive(Debug, Args)]
pub(crate) struct Untag {
    /// Its name, or its id or the beginning of that
    image: String,

    /// What it is not to be called any more [default: all its names]
    names: Vec<Reference>,
}

impl Untag {
    pub(crate) fn act(self, engine: &Engine) -> Result<(), Failure> {
        Ok(engine.untag_image(&self.image, &self.names)?)
    }
}
