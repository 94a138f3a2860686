//! `rbox start`

use clap::Args;
use rbox_container::{Attached, Engine, Started};

use crate::commands::attaching::Leaving;
use crate::commands::each;
use crate::commands::ps::filters;
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

    /// Those that can be started and are so, as for rbox ps: restart-policy=POLICY, should-start-on-boot=true (by its
    /// policy, and nobody has stopped it), label=KEY[=VALUE], …
    #[arg(short, long, value_name = "KEY=VALUE", conflicts_with_all = ["attach", "interactive", "containers"])]
    filter: Vec<String>,

    /// Names, or the beginnings of ids
    #[arg(required_unless_present_any = ["all", "filter"], value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Start {
    pub(crate) fn act(self, engine: &Engine) -> Result<u8, Failure> {
        if !self.attach && !self.interactive {
            let containers = match (self.all, &self.filter[..]) {
                (true, []) => engine.startable_containers(false)?,
                (false, []) => self.containers,
                // One that runs already is as it should be.
                (_, given) => engine.startable_ids(&filters(given)?)?,
            };
            return each(containers, |container| {
                started(&engine.start(container)?);
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

/// Tells what there is to know of a container that runs by itself.
pub(crate) fn started(started: &Started) {
    for note in &started.notes {
        eprintln!("note: {note}");
    }
}

/// One that was left has ended well as far as its caller is concerned.
pub(crate) fn status(attached: Attached) -> u8 {
    match attached {
        Attached::Ended(status) => status,
        Attached::Left => 0,
    }
}
