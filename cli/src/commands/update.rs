//! `rbox update`

use clap::Args;
use rbox_container::Engine;

use crate::commands::container_flags::resources::ResourceFlags;
use crate::commands::each;
use crate::failure::Failure;
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct Update {
    #[command(flatten)]
    resources: ResourceFlags,

    /// Names, or ids or their beginnings
    #[arg(required = true)]
    containers: Vec<String>,
}

impl Update {
    pub(crate) fn act(self, engine: &Engine) -> Result<u8, Failure> {
        let changes = self.resources.take()?;
        if changes.is_empty() {
            return Err(Failure::new("no limit to change was given"));
        }
        each(self.containers, |container| {
            engine.update(container, &changes)?;
            Ok(output::line(container)?)
        })
    }
}
