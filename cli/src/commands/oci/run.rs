//! `rbox oci run`: create and start; in the foreground, wait.

use clap::Args;
use rbox_runtime::oci::{Created, States};

use super::foreground::Foreground;
use super::{Cgroups, Create, console};
use crate::failure::Failure;

#[derive(Debug, Args)]
pub(super) struct Run {
    #[command(flatten)]
    create: Create,

    /// Do not wait for the end
    #[arg(short, long)]
    detach: bool,

    /// Leave the container there when it has ended
    #[arg(long)]
    keep: bool,
}

impl Run {
    pub(super) fn act(self, states: &States, cgroups: Cgroups) -> Result<u8, Failure> {
        let foreground = Foreground::begin()?;
        let (created, socket) = self.create.act(states, cgroups)?;
        if self.detach && socket.is_none() && created.running.has_console() {
            created.container.delete(true)?;
            return Err(Failure::new(
                "the bundle's process has a terminal: without --console-socket it needs this one",
            ));
        }
        let Created { container, running } = match socket {
            Some(_) => console::hand_over(socket, created)?,
            None => created,
        };
        if let Err(error) = container.start() {
            drop(running);
            container.delete(true)?;
            return Err(error.into());
        }
        if self.detach {
            running.release();
            return Ok(0);
        }
        let status = foreground.wait(running)?;
        if !self.keep {
            container.delete(true)?;
        }
        Ok(status)
    }
}
