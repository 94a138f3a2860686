//! `rbox container prune`, `rbox image prune`, `rbox volume prune`

use std::fmt::Display;
use std::io::{self, Write};

use clap::Args;
use rbox_container::{ContainerFilters, Engine, Error, ImageQuery, Pruned, VolumeFilters};
use rbox_types::Exit;

use crate::failure::Failure;
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct PruneContainers {
    #[command(flatten)]
    flags: Flags,
}

#[derive(Debug, Args)]
pub(crate) struct PruneImages {
    /// Images that no container uses, too, and not only what is left of images that are gone
    #[arg(short, long)]
    all: bool,

    #[command(flatten)]
    flags: Flags,
}

#[derive(Debug, Args)]
pub(crate) struct PruneVolumes {
    /// Those that somebody has named, too
    #[arg(short, long)]
    all: bool,

    #[command(flatten)]
    flags: Flags,
}

#[derive(Debug, Args)]
struct Flags {
    /// Do not ask
    #[arg(short, long)]
    force: bool,

    /// Only those that are so: label=KEY[=VALUE], label!=KEY[=VALUE], until=TIME (made before then)
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
}

impl PruneContainers {
    pub(crate) fn act(self, engine: &Engine) -> Result<u8, Failure> {
        let filters = ContainerFilters::for_pruning(&self.flags.filter).map_err(Error::from)?;
        if !self.flags.force && !confirmed("This will remove all stopped containers.")? {
            return Ok(0);
        }
        told("Deleted Containers:", engine.prune_containers(&filters)?)
    }
}

impl PruneImages {
    pub(crate) fn act(self, engine: &Engine) -> Result<u8, Failure> {
        let query = ImageQuery::for_pruning(&self.flags.filter).map_err(Error::from)?;
        if !self.all && !self.flags.filter.is_empty() {
            return Err(Failure::new("--filter chooses among images that have a name: say --all, too"));
        }
        let warning = match self.all {
            true => "This will remove all images without at least one container associated to them.",
            false => "This will remove all dangling images.",
        };
        if !self.flags.force && !confirmed(warning)? {
            return Ok(0);
        }
        told("Deleted Images:", engine.prune_images(self.all, &query)?)
    }
}

impl PruneVolumes {
    pub(crate) fn act(self, engine: &Engine) -> Result<u8, Failure> {
        let filters = VolumeFilters::for_pruning(&self.flags.filter).map_err(Error::from)?;
        let warning = match self.all {
            true => "This will remove all volumes not used by at least one container.",
            false => "This will remove anonymous volumes not used by at least one container.",
        };
        if !self.flags.force && !confirmed(warning)? {
            return Ok(0);
        }
        told("Deleted Volumes:", engine.prune_volumes(self.all, &filters)?)
    }
}

/// Docker's question. Who is not there to answer has not said yes.
fn confirmed(warning: &str) -> Result<bool, Failure> {
    eprint!("WARNING! {warning}\nAre you sure you want to continue? [y/N] ");
    io::stderr().flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).map_err(|error| Failure::new(format!("cannot read the answer: {error}")))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes" | "Yes" | "YES"))
}

fn told<Id: Display>(heading: &str, pruned: Pruned<Id>) -> Result<u8, Failure> {
    let mut text = String::new();
    if !pruned.removed.is_empty() {
        text.push_str(heading);
        for id in &pruned.removed {
            text.push_str(&format!("\n{id}"));
        }
        text.push_str("\n\n");
    }
    output::line(&format!("{text}Total reclaimed space: {}", output::size(pruned.bytes)))?;
    let status = if pruned.failures.is_empty() { 0 } else { Exit::RBOX_FAILED };
    for error in pruned.failures {
        Failure::from(error).print();
    }
    Ok(status)
}
