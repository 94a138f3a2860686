//! How it is found out whether a container is well.

use std::str::FromStr;

use clap::Args;
use rbox_container::settings::{HealthAction, HealthCheck, HealthCommand, HealthTime};

use crate::failure::Failure;

#[derive(Debug, Default, Args)]
pub(super) struct HealthFlags {
    /// Run this in the container from time to time; it is well where that succeeds. A line for its shell, a JSON list of
    /// words, or none for no check [default: the image's]
    #[arg(long, value_name = "COMMAND")]
    health_cmd: Option<HealthCommand>,

    /// From the end of one check to the next; disable: only healthcheck run checks [default: 30s]
    #[arg(long, value_name = "TIME|disable")]
    health_interval: Option<Interval>,

    /// So many have to fail in a row for it to be unhealthy [default: 3]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    health_retries: Option<u32>,

    /// How long one may take before it is killed, and has failed [default: 30s]
    #[arg(long, value_name = "TIME")]
    health_timeout: Option<HealthTime>,

    /// For so long from its start failures do not count until there is a success [default: 0s]
    #[arg(long, value_name = "TIME")]
    health_start_period: Option<HealthTime>,

    /// The interval meanwhile [default: 5s, or the interval where that is shorter]
    #[arg(long, value_name = "TIME")]
    health_start_interval: Option<HealthTime>,

    /// What is done when it becomes unhealthy: none, kill, restart or stop
    #[arg(long, value_name = "ACTION", default_value = "none")]
    health_on_failure: HealthAction,

    /// Check nothing, whatever the image says
    #[arg(long)]
    no_healthcheck: bool,
}

#[derive(Debug, Clone, Copy)]
enum Interval {
    Disabled,
    Of(HealthTime),
}

impl FromStr for Interval {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "disable" { Ok(Self::Disabled) } else { text.parse().map(Self::Of) }
    }
}

impl HealthFlags {
    /// Whether a command is to be run by somebody else than a person.
    pub(super) fn check(&self) -> bool {
        let is_off = self.no_healthcheck || matches!(self.health_interval, Some(Interval::Disabled));
        !is_off && self.health_cmd.as_ref().is_some_and(|command| *command != HealthCommand::none())
    }

    /// What is done when the check has failed too often.
    pub(super) fn on_failure(&self) -> HealthAction {
        self.health_on_failure
    }

    /// What was said; none where nothing was.
    pub(super) fn take(self) -> Result<Option<HealthCheck>, Failure> {
        let times = [self.health_timeout, self.health_start_period, self.health_start_interval];
        let is_said = self.health_cmd.is_some()
            || self.health_interval.is_some()
            || self.health_retries.is_some()
            || times.iter().any(Option::is_some);
        if self.no_healthcheck {
            // Docker's rule.
            let contradicts = || Failure::new("--no-healthcheck and --health-… contradict each other");
            return if is_said { Err(contradicts()) } else { Ok(Some(HealthCheck::none())) };
        }
        if !is_said {
            return Ok(None);
        }
        let [timeout, start_period, start_interval] = times.map(|time| time.map_or(0, |time| time.0));
        Ok(Some(HealthCheck {
            test: self.health_cmd.map(|command| command.0).unwrap_or_default(),
            interval: if let Some(Interval::Of(time)) = self.health_interval { time.0 } else { 0 },
            timeout,
            start_period,
            start_interval,
            retries: self.health_retries.unwrap_or(0).into(),
            on_demand: matches!(self.health_interval, Some(Interval::Disabled)),
        }))
    }
}
