//! `rbox start`

use clap::Args;
use rbox_container::{Attached, Attachment, DetachKeys, Engine};

use crate::commands::each;
use crate::failure::Failure;

#[derive(Debug, Args)]
pub(crate) struct Start {
    /// Show what the command prints, and hand on signals, to its end
    #[arg(short, long)]
    attach: bool,

    /// Attach, and let standard input reach the command
    #[arg(short, long)]
    interactive: bool,

    /// What leaves the container to itself, typed at its terminal; empty for nothing
    #[arg(long, value_name = "KEYS", default_value = "ctrl-p,ctrl-q")]
    detach_keys: DetachKeys,

    /// Hand on signals where attached
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    sig_proxy: bool,

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
                println!("{container}");
                Ok(())
            });
        }
        let [container] = &self.containers[..] else {
            return Err(Failure::new("one can attach to one container at a time"));
        };
        let attachment = Attachment {
            input: self.interactive,
            outputs: [true; 2],
            signals: self.sig_proxy,
            detach_keys: self.detach_keys,
        };
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
