//! Which containers a verb is for, where it is not for all.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use clap::Args;
use rbox_container::{ContainerQuery, Engine};

use super::ps;
use crate::failure::Failure;

/// The verb has a flag `all` of its own, which says what all are.
#[derive(Debug, Args)]
pub(super) struct Chosen {
    /// The container whose id is in this file
    #[arg(long, value_name = "FILE", conflicts_with = "all")]
    cidfile: Vec<PathBuf>,

    /// Those that are so, as `rbox ps --filter` has it
    #[arg(long, value_name = "KEY=VALUE", conflicts_with_all = ["all", "containers", "cidfile"])]
    filter: Vec<String>,

    /// The one that was made last
    #[arg(short, long, conflicts_with_all = ["all", "containers", "cidfile", "filter"])]
    latest: bool,

    /// Names, or ids or their beginnings
    #[arg(
        required_unless_present_any = ["all", "cidfile", "filter", "latest"],
        conflicts_with = "all",
        value_name = "CONTAINER"
    )]
    containers: Vec<String>,
}

impl Chosen {
    /// Names and ids. Where `ignore` says so, a file that is not there stands for a container that is not.
    pub(super) fn names(self, engine: &Engine, ignore: bool) -> Result<Vec<String>, Failure> {
        let mut names = self.containers;
        for file in &self.cidfile {
            match fs::read_to_string(file) {
                Ok(id) => names.push(id.trim().to_owned()),
                Err(error) if ignore && error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(Failure::new(format!("cannot read {}: {error}", file.display()))),
            }
        }
        if self.latest || !self.filter.is_empty() {
            let filters = ps::filters(&self.filter)?;
            let last = self.latest.then_some(1);
            let query = ContainerQuery { all: true, filters, last, ..ContainerQuery::default() };
            names.extend(engine.list_containers(&query)?.into_iter().map(|container| container.id.to_string()));
        }
        Ok(names)
    }
}
