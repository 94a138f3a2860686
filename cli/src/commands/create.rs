//! `rbox create`

use clap::Args;
use rbox_container::Engine;

use crate::commands::making::Making;
use crate::failure::Failure;

#[derive(Debug, Args)]
pub(crate) struct Create {
    #[command(flatten)]
    making: Making,
}

impl Create {
    pub(crate) fn act(self, engine: &Engine) -> Result<(), Failure> {
        let request = self.making.request()?;
        let id = crate::progress::with_output(false, |output| engine.create(&request, output))?;
        Ok(crate::output::line(id.as_str())?)
    }
}
