//! `rbox rm`

use std::time::Duration;

use clap::Args;
use rbox_container::{Engine, Error};

use super::chosen::Chosen;
use crate::failure::Failure;
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct Rm {
    /// End those that run first; do not mind those that are not there
    #[arg(short, long)]
    force: bool,

    /// With --force: seconds that one that runs is given to end after it was asked to; then it is killed
    #[arg(short, long, value_name = "SECONDS", default_value_t = 0, requires = "force")]
    time: u64,

    /// Do not mind those that are not there
    #[arg(short, long)]
    ignore: bool,

    /// Remove their volumes, too, that nobody has named
    #[arg(short, long)]
    volumes: bool,

    /// All containers
    #[arg(short, long)]
    all: bool,

    #[command(flatten)]
    chosen: Chosen,
}

impl Rm {
    pub(crate) fn act(self, engine: &Engine) -> Result<u8, Failure> {
        let names = if self.all {
            engine.containers()?.into_iter().map(|container| container.id.to_string()).collect()
        } else {
            self.chosen.names(engine, self.ignore)?
        };
        let forced = self.force.then(|| Duration::from_secs(self.time));
        let ignored = self.force || self.ignore;
        super::each(names, |name| match engine.remove_container(name, forced, self.volumes) {
            Err(error) if ignored && error.is_not_found() => Ok(()),
            Err(error) => {
                let status = status(&error);
                Err(Failure::from(error).with_status(status))
            }
            Ok(_) => Ok(output::line(name)?),
        })
    }
}

/// Podman's manual has these two beside the general one: 1 for a container that is not there, 2 for one that runs.
fn status(error: &Error) -> u8 {
    match error {
        error if error.is_not_found() => 1,
        error if error.is_running() => 2,
        error => error.status(),
    }
}
