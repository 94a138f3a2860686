//! `rbox stop` and `rbox restart`

use std::time::Duration;

use clap::Args;
use rbox_container::{Engine, Signal, Stopping};

use crate::commands::chosen::Chosen;
use crate::commands::kill::parse_signal;
use crate::commands::start::started;
use crate::commands::{each, each_at_once};
use crate::failure::Failure;
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct Stop {
    #[command(flatten)]
    how: How,

    /// All that run
    #[arg(short, long)]
    all: bool,

    /// As a shutdown does: after the next boot, --restart unless-stopped starts them all the same
    #[arg(long)]
    shutdown: bool,

    /// A container that is not there is no failure
    #[arg(short, long)]
    ignore: bool,

    #[command(flatten)]
    chosen: Chosen,
}

#[derive(Debug, Args)]
pub(crate) struct Restart {
    #[command(flatten)]
    how: How,

    /// All that can be started, whether they run or not
    #[arg(short, long, conflicts_with_all = ["running", "containers"])]
    all: bool,

    /// Those that run and can be started again
    #[arg(long, conflicts_with = "containers")]
    running: bool,

    /// Names, or the beginnings of ids
    #[arg(required_unless_present_any = ["all", "running"], value_name = "CONTAINER")]
    containers: Vec<String>,
}

#[derive(Debug, Args)]
struct How {
    /// Seconds until it is killed; -1 for never [default: the container's own, or 10]
    #[arg(short, long, visible_alias = "timeout", value_name = "SECONDS", allow_negative_numbers = true)]
    time: Option<i64>,

    /// The signal that asks it to end [default: the container's own, or SIGTERM]
    #[arg(short, long, value_name = "SIGNAL", value_parser = parse_signal)]
    signal: Option<Signal>,
}

impl Stop {
    pub(crate) fn act(self, engine: &Engine) -> Result<u8, Failure> {
        let containers = if self.all { engine.running()? } else { self.chosen.names(engine, self.ignore)? };
        let stopping = Stopping { shutdown: self.shutdown, ..self.how.stopping() };
        each_at_once(containers, |container| match engine.stop(container, stopping) {
            Err(error) if self.ignore && error.is_not_found() => Ok(false),
            result => Ok(result.map(|_| true)?),
        })
    }
}

impl Restart {
    pub(crate) fn act(self, engine: &Engine) -> Result<u8, Failure> {
        let mut containers = self.containers;
        if self.all || self.running {
            containers.extend(engine.startable_containers(true)?);
        }
        if self.all {
            containers.extend(engine.startable_containers(false)?);
        }
        let stopping = self.how.stopping();
        each(containers, |container| {
            started(&engine.restart(container, stopping)?);
            Ok(output::line(container)?)
        })
    }
}

impl How {
    fn stopping(&self) -> Stopping {
        // What is not negative fits; what is negative is never.
        let timeout = self.time.map(|seconds| u64::try_from(seconds).map_or(Duration::MAX, Duration::from_secs));
        Stopping { signal: self.signal, timeout, shutdown: false }
    }
}
