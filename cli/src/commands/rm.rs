//! `rbox rm`

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use rbox_container::{ContainerQuery, Engine};

use super::ps;
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

    /// Remove anonymous volumes, too, of which no container has any in this version
    #[arg(short, long)]
    #[allow(dead_code, reason = "what it asks for is always so")]
    volumes: bool,

    /// All containers
    #[arg(short, long, conflicts_with_all = ["containers", "cidfile", "filter"])]
    all: bool,

    /// Those that are so, as `rbox ps --filter` has it
    #[arg(long, value_name = "KEY=VALUE", conflicts_with_all = ["containers", "cidfile"])]
    filter: Vec<String>,

    /// The container whose id is in this file
    #[arg(long, value_name = "FILE")]
    cidfile: Vec<PathBuf>,

    /// Names, or ids or their beginnings
    #[arg(required_unless_present_any = ["all", "filter", "cidfile"])]
    containers: Vec<String>,
}

impl Rm {
    pub(crate) fn act(self, engine: &Engine) -> Result<u8, Failure> {
        let mut names = self.containers;
        if self.all || !self.filter.is_empty() {
            let query = ContainerQuery { all: true, filters: ps::filters(&self.filter)?, ..ContainerQuery::default() };
            names.extend(engine.list_containers(&query)?.into_iter().map(|container| container.id.to_string()));
        }
        for file in &self.cidfile {
            match fs::read_to_string(file) {
                Ok(id) => names.push(id.trim().to_owned()),
                Err(error) if self.ignore && error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(Failure::new(format!("cannot read {}: {error}", file.display()))),
            }
        }
        let forced = self.force.then(|| Duration::from_secs(self.time));
        let ignored = self.force || self.ignore;
        super::each(names, |name| match engine.remove_container(name, forced) {
            Err(error) if ignored && error.is_not_found() => Ok(()),
            removed => {
                removed?;
                Ok(output::line(name)?)
            }
        })
    }
}
