//! `rbox wait`

use std::time::Duration;

use clap::Args;
use rbox_container::{Engine, WaitCondition};

use crate::failure::Failure;
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct Wait {
    /// What to wait for; of several, any: stopped (or exited, not-running), created (or configured, initialized), running,
    /// paused, healthy, unhealthy, removed
    #[arg(long, value_name = "CONDITION", default_value = "stopped", value_parser = parse_condition)]
    condition: Vec<WaitCondition>,

    /// How often to look, where that is needed (all but stopped): a number of milliseconds, or 100ms, 2s
    #[arg(short, long, value_name = "TIME", default_value = "250ms", value_parser = parse_interval)]
    interval: Duration,

    /// Print -1 for containers that are not there, and do not mind
    #[arg(long)]
    ignore: bool,

    /// Names, or ids or their beginnings
    #[arg(required = true)]
    containers: Vec<String>,
}

impl Wait {
    /// Prints a line for each: the exit status, or -1 where something else was waited for, or there is none to be known.
    pub(crate) fn act(self, engine: &Engine) -> Result<u8, Failure> {
        super::each(self.containers, |name| {
            let exit = match engine.wait_container(name, &self.condition, self.interval) {
                Err(error) if self.ignore && error.is_not_found() => None,
                exit => exit?,
            };
            Ok(output::line(&exit.map_or_else(|| "-1".into(), |exit| exit.status().to_string()))?)
        })
    }
}

fn parse_condition(text: &str) -> Result<WaitCondition, &'static str> {
    Ok(match text {
        "stopped" | "exited" | "not-running" => WaitCondition::Stopped,
        // Podman has three steps where here is one.
        "created" | "configured" | "initialized" => WaitCondition::Created,
        "paused" => WaitCondition::Paused,
        "healthy" => WaitCondition::Healthy,
        "unhealthy" => WaitCondition::Unhealthy,
        "running" => WaitCondition::Running,
        "removed" => WaitCondition::Removed,
        "stopping" | "removing" => {
            return Err("no container is to be seen in that state; there are stopped and removed");
        }
        _ => return Err("expected stopped, created, running, paused, healthy, unhealthy or removed"),
    })
}

/// Podman takes a number of milliseconds, or a number with its unit.
pub(crate) fn parse_interval(text: &str) -> Result<Duration, &'static str> {
    let milliseconds = text.parse().ok().map(Duration::from_millis);
    let interval = milliseconds.or_else(|| text.parse::<jiff::SignedDuration>().ok()?.try_into().ok());
    interval.filter(|interval| !interval.is_zero()).ok_or("expected a time such as 250ms or 2s")
}
