//! What a process holds: descriptors and memory, and the time it has taken for itself.

use std::collections::HashSet;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// At one moment.
#[derive(Debug, Clone, Copy)]
pub struct Held {
    /// Sockets of datagrams: UDP and ICMP echo.
    pub datagrams: usize,
    /// All other descriptors.
    pub others: usize,
    /// Memory of its own, in KiB.
    pub memory: usize,
    /// How long it was on a processor.
    pub cpu: Duration,
}

/// proc_pid_net(5).
const TABLES: [&str; 4] = ["udp", "udp6", "icmp", "icmp6"];

/// What a second of proc_pid_stat(5) has of them, on all architectures that are ours.
const TICKS: u64 = 100;

impl Held {
    /// By this process.
    pub fn by(pid: u32) -> Result<Self> {
        let file = |name: &str| {
            let path = format!("/proc/{pid}/{name}");
            fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
        };
        let mut datagrams = HashSet::new();
        for table in TABLES {
            let table = file(&format!("net/{table}"))?;
            let inodes = table.lines().skip(1).filter_map(|line| line.split_whitespace().nth(9));
            datagrams.extend(inodes.map(|inode| format!("socket:[{inode}]")));
        }
        let mut held = Self { datagrams: 0, others: 0, memory: 0, cpu: Duration::ZERO };
        for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
            // One that is closed by now.
            let Ok(what) = fs::read_link(entry?.path()) else { continue };
            let count =
                if datagrams.contains(&*what.to_string_lossy()) { &mut held.datagrams } else { &mut held.others };
            *count += 1;
        }
        let shares = file("smaps_rollup")?;
        let memory = shares.lines().find_map(|line| line.strip_prefix("Anonymous:")).context("no memory")?;
        held.memory = memory.trim().trim_end_matches(" kB").parse()?;
        // What precedes the state may hold spaces.
        let stat = file("stat")?;
        let (_, fields) = stat.rsplit_once(") ").context("no stat")?;
        let times = fields.split(' ').skip(11).take(2).map(str::parse::<u64>);
        let ticks = times.sum::<Result<u64, _>>()?;
        held.cpu = Duration::from_millis(ticks * 1000 / TICKS);
        Ok(held)
    }
}
