//! `rbox pause` and `rbox unpause`

use clap::Args;
use rbox_container::Engine;

use crate::commands::chosen::Chosen;
use crate::commands::each;
use crate::failure::Failure;
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct Pause {
    /// All that run
    #[arg(short, long)]
    all: bool,

    #[command(flatten)]
    chosen: Chosen,
}

#[derive(Debug, Args)]
pub(crate) struct Unpause {
    /// All that are paused
    #[arg(short, long)]
    all: bool,

    #[command(flatten)]
    chosen: Chosen,
}

impl Pause {
    pub(crate) fn act(self, engine: &Engine) -> Result<u8, Failure> {
        let containers = if self.all { engine.running_and_paused(false)? } else { self.chosen.names(engine, false)? };
        each(containers, |container| {
            engine.pause(container)?;
            Ok(output::line(container)?)
        })
    }
}

impl Unpause {
    pub(crate) fn act(self, engine: &Engine) -> Result<u8, Failure> {
        let containers = if self.all { engine.running_and_paused(true)? } else { self.chosen.names(engine, false)? };
        each(containers, |container| {
            engine.unpause(container)?;
            Ok(output::line(container)?)
        })
    }
}
