//! `rbox stats`

use std::io;
use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use clap::Args;
use rbox_container::{ContainerQuery, Engine, Error, Usage};
use rbox_sys::{Errno, tty};
use serde_json::{Value, json};

use super::wait::parse_interval;
use crate::failure::Failure;
use crate::format::Format;
use crate::output;

const COLUMNS: &str =
    "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}";
/// Docker's.
const HEADINGS: [(&str, &str); 8] = [
    ("ID", "CONTAINER ID"),
    ("CPUPerc", "CPU %"),
    ("MemUsage", "MEM USAGE / LIMIT"),
    ("MemPerc", "MEM %"),
    ("NetIO", "NET I/O"),
    ("BlockIO", "BLOCK I/O"),
    ("PIDs", "PIDS"),
    ("AvgCPU", "AVG CPU %"),
];

/// Forgets what a terminal shows.
const CLEAR: &str = "\x1b[H\x1b[J";

#[derive(Debug, Args)]
pub(crate) struct Stats {
    /// Print once and end
    #[arg(long)]
    no_stream: bool,

    /// Print below what was printed before, also on a terminal
    #[arg(long)]
    no_reset: bool,

    /// Whole ids
    #[arg(long)]
    no_trunc: bool,

    /// The time that is measured, and between two prints: a number of milliseconds, or 100ms, 2s
    #[arg(short, long, value_name = "TIME", default_value = "1s", value_parser = parse_interval)]
    interval: Duration,

    /// How to print: table, json, or a template such as '{{.Name}}: {{.CPUPerc}}'
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    format: Format,

    /// Names, or ids or their beginnings [default: all that run]
    containers: Vec<String>,
}

impl Stats {
    /// With names, until none of these runs any more; without, until somebody ends it.
    pub(crate) fn act(self, engine: &Engine) -> Result<(), Failure> {
        // Of the names that were given, one that means nothing is told at once.
        let named = self.containers.iter().map(|name| engine.usage(name)).collect::<Result<Vec<_>, Error>>()?;
        let ids: Vec<String> = named.iter().map(|usage| usage.id.to_string()).collect();
        let mut before = if named.is_empty() { measure(engine, &running(engine)?)? } else { named };
        loop {
            if !before.is_empty() || ids.is_empty() {
                thread::sleep(self.interval);
            }
            let now = measure(engine, &if ids.is_empty() { running(engine)? } else { ids.clone() })?;
            if !ids.is_empty() && now.is_empty() {
                return Ok(());
            }
            self.print(&now, &before)?;
            if self.no_stream {
                return Ok(());
            }
            before = now;
        }
    }

    fn print(&self, now: &[Usage], before: &[Usage]) -> Result<(), Failure> {
        let rows: Vec<Value> =
            now.iter().map(|usage| self.row(usage, before.iter().find(|before| before.id == usage.id))).collect();
        if !self.no_stream && !self.no_reset && tty::is_terminal(io::stdout().as_fd()) {
            // Not by what prints texts of others, which would keep the terminal from understanding.
            output::control(CLEAR)?;
        }
        self.format.print(COLUMNS, &HEADINGS, true, &rows, || rows.clone())
    }

    fn row(&self, usage: &Usage, before: Option<&Usage>) -> Value {
        let id = if self.no_trunc { usage.id.as_str() } else { usage.id.short() };
        let share = usage.memory as f64 * 100.0 / usage.memory_limit.max(1) as f64;
        let moved = |bytes: Option<u64>| bytes.map_or_else(|| "--".into(), output::size);
        json!({
            "ID": id,
            "Container": id,
            "Name": usage.name,
            "CPUPerc": format!("{:.2}%", usage.processor_percent(before)),
            "AvgCPU": format!("{:.2}%", usage.processor_percent(None)),
            "CPUTime": format!("{:.3}s", usage.processor.as_secs_f64()),
            "UpTime": output::duration(i64::try_from(usage.running_for.as_secs()).unwrap_or(i64::MAX)),
            "MemUsage": format!("{} / {}", output::size(usage.memory), output::size(usage.memory_limit)),
            "MemPerc": format!("{share:.2}%"),
            "NetIO": format!("{} / {}", moved(usage.network.map(|it| it.0)), moved(usage.network.map(|it| it.1))),
            "BlockIO": format!("{} / {}", moved(usage.read), moved(usage.written)),
            "PIDs": usage.tasks,
            "PIDsLimit": usage.tasks_limit.unwrap_or(0),
            "PSI": usage.pressure.map(waited).join(" / "),
        })
    }
}

/// A share of time.
fn waited(share: Option<f64>) -> String {
    share.map_or_else(|| "--".into(), |share| format!("{share:.2}%"))
}

fn running(engine: &Engine) -> Result<Vec<String>, Failure> {
    let running = engine.list_containers(&ContainerQuery::default())?;
    Ok(running.into_iter().map(|container| container.id.to_string()).collect())
}

/// Those that still run.
fn measure(engine: &Engine, ids: &[String]) -> Result<Vec<Usage>, Failure> {
    let mut all = Vec::with_capacity(ids.len());
    for id in ids {
        match engine.usage(id) {
            Ok(usage) => all.push(usage),
            Err(Error::NotRunning(_) | Error::Starting(_)) => {}
            Err(error) if error.is_not_found() => {}
            // It has ended while its files were read.
            Err(Error::Io { source, .. }) if is_gone(&source) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(all)
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(Errno::SRCH.raw_os_error())
}
