//! `rbox start`

use clap::Args;
use rbox_container::{Attached, Engine};

use crate::commands::attaching::Leaving;
use crate::commands::each;
use crate::failure::Failure;
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct Start {
    /// Show what the command prints, and hand on signals, to its end
    #[arg(short, long)]
    attach: bool,

    /// Attach, and let standard input reach the command
    #[arg(short, long)]
    interactive: bool,

    #[command(flatten)]
    leaving: Leaving,

    /// All that do not run and can be started
    #[arg(long, conflicts_with_all = ["attach", "interactive", "containers"])]
    all: bool,

    /// Names, or the beginnings of ids
    #[arg(required_unless_present = "all", value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Start {
    pub(crate) fn act(self, engine: &Engine) -> Result<u8, Failure> {
        if !self.attach && !self.interactive {
            let containers = if self.all { engine.startable_containers(false)? } else { self.containers };
            return each(containers, |container| {
                engine.start(container)?;
                Ok(output::line(container)?)
            });
        }
        let [container] = &self.containers[..] else {
            return Err(Failure::new("one can attach to one container at a time"));
        };
        let attachment = self.leaving.attachment(self.interactive, [true; 2]);
        Ok(status(engine.start_attached(container, &attachment)?))
    }
}

/// One that was left has ended well as far as its caller is concerned.
pub(crate) fn status(attached: Attached) -> u8 {
    match attached {
        Attached::Ended(status) => status,
        Attached::Left => 0,
    }
}
