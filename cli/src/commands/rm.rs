//! `rbox rm`

use clap::Args;
use rbox_container::Engine;

use crate::failure::Failure;
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct Rm {
    /// Kill those that run first; do not mind those that are not there
    #[arg(short, long)]
    force: bool,

    /// All containers
    #[arg(short, long, conflicts_with = "containers")]
    all: bool,

    /// Names, or ids or their beginnings
    #[arg(required_unless_present = "all")]
    containers: Vec<String>,
}

impl Rm {
    pub(crate) fn act(self, engine: &Engine) -> Result<u8, Failure> {
        let names = match self.all {
            true => engine.containers()?.into_iter().map(|container| container.id.to_string()).collect(),
            false => self.containers,
        };
        super::each(names, |name| match engine.remove_container(name, self.force) {
            Err(error) if self.force && error.is_not_found() => Ok(()),
            removed => {
                removed?;
                Ok(output::line(name)?)
            }
        })
    }
}
