//! `rbox volume`: directories that outlive the containers which use them.

mod archive;
mod create;
mod list;
mod show;

use clap::{Args, Subcommand};
use rbox_container::{Engine, Error};

use super::prune;
use crate::failure::Failure;
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct Volume {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a volume
    Create(Box<create::Create>),
    /// List volumes
    #[command(visible_alias = "list")]
    Ls(Box<list::Ls>),
    /// Show all that is known of volumes
    Inspect(Box<show::Inspect>),
    /// Say by the exit status whether a volume is there: 0, or 1
    Exists(Box<show::Exists>),
    /// Remove volumes that no container uses
    #[command(visible_alias = "remove")]
    Rm(Box<Rm>),
    /// Remove all volumes that nobody has named and no container uses
    Prune(Box<prune::PruneVolumes>),
    /// Write what is in a volume to a tar archive
    Export(Box<archive::Export>),
    /// Put what is in a tar archive into a volume
    Import(Box<archive::Import>),
}

impl Volume {
    pub(crate) fn act(self, engine: &Engine) -> Result<u8, Failure> {
        match self.verb {
            Verb::Create(create) => create.act(engine)?,
            Verb::Ls(ls) => ls.act(engine)?,
            Verb::Inspect(inspect) => return inspect.act(engine),
            Verb::Exists(exists) => return exists.act(engine),
            Verb::Rm(rm) => return rm.act(engine),
            Verb::Prune(prune) => return prune.act(engine),
            Verb::Export(export) => export.act(engine)?,
            Verb::Import(import) => import.act(engine)?,
        }
        Ok(0)
    }
}

#[derive(Debug, Args)]
struct Rm {
    /// Do not mind those that are not there
    #[arg(short, long)]
    force: bool,

    /// All volumes
    #[arg(short, long)]
    all: bool,

    /// Their names
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    names: Vec<String>,
}

impl Rm {
    fn act(self, engine: &Engine) -> Result<u8, Failure> {
        let names = if self.all {
            engine.list_volumes(&Default::default())?.into_iter().map(|all| all.volume.name.to_string()).collect()
        } else {
            self.names
        };
        super::each(names, |name| match engine.remove_volume(name) {
            Err(error) if self.force && error.is_not_found() => Ok(()),
            Err(error) => {
                let status = status(&error);
                Err(Failure::from(error).with_status(status))
            }
            Ok(()) => Ok(output::line(name)?),
        })
    }
}

/// Podman's manual has these two beside the general one: 1 for a volume that is not there, 2 for one that is in use.
fn status(error: &Error) -> u8 {
    match error {
        error if error.is_not_found() => 1,
        error if error.is_in_use() => 2,
        error => error.status(),
    }
}
