//! `rbox stop` and `rbox restart`

use std::time::Duration;

use clap::Args;
use rbox_container::{Engine, Signal};
use rbox_types::ContainerId;

use crate::commands::chosen::Chosen;
use crate::commands::kill::parse_signal;
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
    #[arg(short, long, conflicts_with = "running")]
    all: bool,

    /// Those that run and can be started again
    #[arg(long, conflicts_with_all = ["cidfile", "filter", "latest", "containers"])]
    running: bool,

    #[command(flatten)]
    chosen: Chosen,
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
        each_at_once(containers, |container| match self.how.act(|signal, time| engine.stop(container, signal, time)) {
            Err(error) if self.ignore && error.is_not_found() => Ok(false),
            result => Ok(result.map(|_| true)?),
        })
    }
}

impl Restart {
    pub(crate) fn act(self, engine: &Engine) -> Result<u8, Failure> {
        let mut containers = self.chosen.names(engine, false)?;
        if self.all || self.running {
            containers.extend(engine.startable_containers(true)?);
        }
        if self.all {
            containers.extend(engine.startable_containers(false)?);
        }
        each(containers, |container| {
            self.how.act(|signal, time| engine.restart(container, signal, time))?;
            Ok(output::line(container)?)
        })
    }
}

impl How {
    fn act(
        &self,
        act: impl FnOnce(Option<Signal>, Option<Duration>) -> Result<ContainerId, rbox_container::Error>,
    ) -> Result<ContainerId, rbox_container::Error> {
        // What is not negative fits; what is negative is never.
        let time = self.time.map(|seconds| u64::try_from(seconds).map_or(Duration::MAX, Duration::from_secs));
        act(self.signal, time)
    }
}
