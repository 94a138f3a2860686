//! `rbox healthcheck`

use std::path::PathBuf;

use clap::{Args, Subcommand};

use rbox_container::Engine;

use crate::failure::Failure;

#[derive(Debug, Args)]
pub(crate) struct Healthcheck {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run a container's health check once, now; the exit status is 0 where it succeeds, and 1 where it does not
    Run(Container),
}

#[derive(Debug, Args)]
struct Container {
    /// The container's name or the beginning of its id
    #[arg(value_name = "CONTAINER")]
    name: String,
}

impl Healthcheck {
    pub(crate) fn act(
        self,
        root: Option<PathBuf>,
        engine: impl FnOnce() -> Result<Engine, rbox_container::Error>,
    ) -> Result<u8, Failure> {
        let Verb::Run(Container { name }) = self.verb;
        let is_well = rbox_container::check_health(root, &name, engine)?;
        if !is_well {
            crate::output::line("unhealthy")?;
        }
        Ok(u8::from(!is_well))
    }
}
