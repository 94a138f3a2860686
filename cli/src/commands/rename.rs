//! `rbox rename`

use clap::Args;
use rbox_container::Engine;
use rbox_types::ContainerName;

use crate::failure::Failure;

#[derive(Debug, Args)]
pub(crate) struct Rename {
    /// The container's name or the beginning of its id
    container: String,

    /// The name that it gets
    name: ContainerName,
}

impl Rename {
    pub(crate) fn act(self, engine: &Engine) -> Result<(), Failure> {
        Ok(engine.rename_container(&self.container, &self.name)?)
    }
}
