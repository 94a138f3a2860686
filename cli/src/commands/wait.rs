//! `rbox wait`

use std::time::Duration;

use clap::Args;
use rbox_container::{Engine, WaitCondition};

use crate::failure::Failure;
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct Wait {
    /// What to wait for: stopped (or exited, not-running), running, removed
    #[arg(long, value_name = "CONDITION", default_value = "stopped", value_parser = parse_condition)]
    condition: WaitCondition,

    /// How often to look, where that is needed (running, removed): a number of milliseconds, or 100ms, 2s
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
    /// Prints a line for each: the exit status, or -1 where there is none to be known.
    pub(crate) fn act(self, engine: &Engine) -> Result<u8, Failure> {
        super::each(self.containers, |name| {
            let exit = match engine.wait_container(name, self.condition, self.interval) {
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
        "running" => WaitCondition::Running,
        "removed" => WaitCondition::Removed,
        _ => return Err("expected stopped, exited, not-running, running or removed"),
    })
}

/// Podman takes a number of milliseconds, or a number with its unit.
pub(crate) fn parse_interval(text: &str) -> Result<Duration, &'static str> {
    let milliseconds = text.parse().ok().map(Duration::from_millis);
    let interval = milliseconds.or_else(|| text.parse::<jiff::SignedDuration>().ok()?.try_into().ok());
    interval.filter(|interval| !interval.is_zero()).ok_or("expected a time such as 250ms or 2s")
}
