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
        let mut datagrams = HashSet::new();
        for table in TABLES {
            let table = file(pid, &format!("net/{table}"))?;
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
        held.memory = memory(pid, "Anonymous")?;
        held.cpu = cpu(pid)?;
        Ok(held)
    }
}

/// The memory of a process, in KiB: `Pss`, its share of what it has together with others, or another of the sums of
/// smaps_rollup (proc_pid_smaps(5)).
pub fn memory(pid: u32, sum: &str) -> Result<usize> {
    let sums = file(pid, "smaps_rollup")?;
    let line = sums.lines().find_map(|line| line.strip_prefix(sum)?.strip_prefix(':'));
    let line = line.with_context(|| format!("smaps_rollup has no {sum}"))?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// How long a process was on a processor (proc_pid_stat(5): utime and stime).
pub fn cpu(pid: u32) -> Result<Duration> {
    // What precedes the state may hold spaces.
    let stat = file(pid, "stat")?;
    let (_, fields) = stat.rsplit_once(") ").context("no stat")?;
    let times = fields.split(' ').skip(11).take(2).map(str::parse::<u64>);
    let ticks = times.sum::<Result<u64, _>>()?;
    Ok(Duration::from_millis(ticks * 1000 / TICKS))
}

fn file(pid: u32, name: &str) -> Result<String> {
    let path = format!("/proc/{pid}/{name}");
    fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
}
