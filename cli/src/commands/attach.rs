//! `rbox attach`

use clap::Args;
use rbox_container::Engine;

use crate::commands::attaching::Leaving;
use crate::commands::start::status;
use crate::failure::Failure;

#[derive(Debug, Args)]
pub(crate) struct Attach {
    /// Keep standard input to yourself
    #[arg(long)]
    no_stdin: bool,

    #[command(flatten)]
    leaving: Leaving,

    /// Its name, or the beginning of its id
    container: String,
}

impl Attach {
    pub(crate) fn act(self, engine: &Engine) -> Result<u8, Failure> {
        let attachment = self.leaving.attachment(!self.no_stdin, [true; 2]);
        Ok(status(engine.attach(&self.container, &attachment)?))
    }
}
