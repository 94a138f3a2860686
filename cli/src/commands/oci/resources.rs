//! `rbox oci pause`, `resume`, `update`, `events`, `ps`.

use std::io::{Read, stdin};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use oci_spec::runtime::LinuxResources;
use rbox_runtime::Status;
use rbox_runtime::oci::States;
use serde_json::{Map, Value, json};

use crate::failure::Failure;
use crate::output;

/// Limits to change.
#[derive(Debug, Args)]
pub(super) struct Update {
    /// The container's id
    id: String,

    /// Read them from a file, as config.json's linux.resources; `-` is standard input
    #[arg(short, long, value_name = "FILE")]
    resources: Option<PathBuf>,

    /// Memory in bytes
    #[arg(short, long, value_name = "BYTES")]
    memory: Option<i64>,

    /// Memory and swap in bytes
    #[arg(long, value_name = "BYTES")]
    memory_swap: Option<i64>,

    /// Memory that is kept when others need it, in bytes
    #[arg(long, value_name = "BYTES")]
    memory_reservation: Option<i64>,

    /// Processor time in a period, in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_quota: Option<i64>,

    /// The period
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_period: Option<u64>,

    /// The weight against others, from 2 to 262144
    #[arg(long, value_name = "SHARES")]
    cpu_share: Option<u64>,

    /// The processors that may be used: 0-2,7
    #[arg(long, value_name = "CPUS")]
    cpuset_cpus: Option<String>,

    /// The memory nodes that may be used
    #[arg(long, value_name = "NODES")]
    cpuset_mems: Option<String>,

    /// How many processes there may be
    #[arg(long, value_name = "NUMBER")]
    pids_limit: Option<i64>,

    /// The weight of its block I/O against others, from 10 to 1000
    #[arg(long, value_name = "WEIGHT")]
    blkio_weight: Option<u16>,
}

/// What to tell of the use of resources.
#[derive(Debug, Args)]
pub(super) struct Events {
    /// The container's id
    id: String,

    /// Once, not again and again
    #[arg(long)]
    stats: bool,

    /// How long from one time to the next, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    interval: u64,
}

/// Which processes to list.
#[derive(Debug, Args)]
pub(super) struct Ps {
    /// The container's id
    id: String,

    /// table or json
    #[arg(short, long, default_value = "table")]
    format: output::Format,
}

impl Update {
    pub(super) fn act(self, states: &States) -> Result<(), Failure> {
        let resources = self.resources()?;
        Ok(states.find(&self.id)?.update(&resources)?)
    }

    fn resources(&self) -> Result<LinuxResources, Failure> {
        let mut all = match &self.resources {
            Some(path) => {
                let failed = |error: std::io::Error| Failure::new(format!("cannot read {}: {error}", path.display()));
                let mut text = Vec::new();
                let read = match path.as_os_str() == "-" {
                    true => stdin().read_to_end(&mut text).map(drop),
                    false => std::fs::read(path).map(|read| text = read),
                };
                read.map_err(failed)?;
                serde_json::from_slice(&text).map_err(|error| failed(error.into()))?
            }
            None => json!({}),
        };
        let mut set = |part: &str, field: &str, value: Option<Value>| {
            if let Some(value) = value {
                all[part][field] = value;
            }
        };
        set("memory", "limit", self.memory.map(Value::from));
        set("memory", "swap", self.memory_swap.map(Value::from));
        set("memory", "reservation", self.memory_reservation.map(Value::from));
        set("cpu", "quota", self.cpu_quota.map(Value::from));
        set("cpu", "period", self.cpu_period.map(Value::from));
        set("cpu", "shares", self.cpu_share.map(Value::from));
        set("cpu", "cpus", self.cpuset_cpus.clone().map(Value::from));
        set("cpu", "mems", self.cpuset_mems.clone().map(Value::from));
        set("pids", "limit", self.pids_limit.map(Value::from));
        set("blockIO", "weight", self.blkio_weight.map(Value::from));
        if all.as_object().is_none_or(Map::is_empty) {
            return Err(Failure::new("no limit to change was given"));
        }
        serde_json::from_value(all).map_err(|error| Failure::new(format!("these are no resources: {error}")))
    }
}

impl Events {
    pub(super) fn act(self, states: &States) -> Result<(), Failure> {
        let container = states.find(&self.id)?;
        loop {
            output::line(&serde_json::to_string(&container.statistics()?)?)?;
            if self.stats || container.status() == Status::Stopped {
                return Ok(());
            }
            std::thread::sleep(Duration::from_secs(self.interval.max(1)));
        }
    }
}

impl Ps {
    pub(super) fn act(self, states: &States) -> Result<(), Failure> {
        let processes = states.find(&self.id)?.processes()?;
        if self.format == output::Format::Json {
            return Ok(output::json(&processes)?);
        }
        let rows: Vec<[String; 2]> = processes.iter().map(|pid| [pid.to_string(), command(*pid)]).collect();
        Ok(output::table(["PID", "CMD"], &rows)?)
    }
}

/// The command line of a process; what is not printed well is a question mark.
fn command(pid: u32) -> String {
    let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let text = String::from_utf8_lossy(&words).trim_end_matches('\0').replace('\0', " ");
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}
