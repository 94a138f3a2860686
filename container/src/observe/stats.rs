//! `rbox stats`: what a container uses.
//!
//! A container that has a cgroup to itself is measured by the kernel, there. Any other shares its cgroup with whatever
//! started it, and nobody counts for it: then its processes are added up. Of memory that is their proportional share (what
//! several have in common counts once, proc_pid_smaps(5)); time of processes that have ended is what their parents waited
//! for; and what was read and written by those is not known.

use std::collections::HashSet;
use std::io;
use std::time::Duration;

use rbox_runtime::cgroup::Cgroup;
use rbox_sys::clock;
use rbox_types::{ContainerId, ContainerName};

use crate::life::begun::Begun;
use crate::observe::processes::{self, Process, TICKS};
use crate::{Engine, Error};

/// What a container uses at a moment.
#[derive(Debug, Clone)]
pub struct Usage {
    /// Its id.
    pub id: ContainerId,
    /// Its name.
    pub name: ContainerName,
    /// When this was, on the monotonic clock.
    at: Duration,
    /// For how long it has run.
    pub running_for: Duration,
    /// Processor time since it began.
    pub processor: Duration,
    /// Bytes.
    pub memory: u64,
    /// The most that it can have: its own limit, or what the machine has.
    pub memory_limit: u64,
    /// Bytes read from block devices, if that is known.
    pub read: Option<u64>,
    /// Bytes written to them.
    pub written: Option<u64>,
    /// Processes and threads.
    pub tasks: u64,
    /// How many it may have, where that is limited.
    pub tasks_limit: Option<u64>,
    /// Bytes that came to it by its network, and that it sent; none where that is another's.
    pub network: Option<(u64, u64)>,
    /// The share of the last ten seconds, in percent, in which some process waited for a processor, for memory and for block
    /// devices (PSI), where the kernel counts that for it.
    pub pressure: [Option<f64>; 3],
}

impl Usage {
    /// The share of one processor since another moment; since its beginning where there is none.
    pub fn processor_percent(&self, before: Option<&Self>) -> f64 {
        let (used, time) = match before {
            Some(before) => (self.processor.saturating_sub(before.processor), self.at.saturating_sub(before.at)),
            None => (self.processor, self.running_for),
        };
        if time.is_zero() { 0.0 } else { used.as_secs_f64() * 100.0 / time.as_secs_f64() }
    }
}

impl Engine {
    /// What a container that runs uses now.
    pub fn usage(&self, name_or_id: &str) -> Result<Usage, Error> {
        let Begun { entry, made, .. } = Begun::find(&self.store, name_or_id)?;
        let failed = || Error::io("measure", &entry.name);
        let all = processes::of_container(made.pid).map_err(failed())?;
        let now = processes::now().map_err(failed())?;
        let began = all.iter().map(|process| process.began).min().unwrap_or(now);
        let usage = Usage {
            id: entry.id.clone(),
            name: entry.name.clone(),
            at: clock::monotonic(),
            running_for: ticks(now.saturating_sub(began)),
            processor: ticks(all.iter().map(|it| it.user_time + it.system_time + it.children_time).sum()),
            memory: all.iter().map(memory).sum(),
            memory_limit: memory_of_machine().map_err(failed())?,
            read: sum(all.iter().map(|process| io_of(process, "read_bytes:"))),
            written: sum(all.iter().map(|process| io_of(process, "write_bytes:"))),
            tasks: all.iter().map(|process| process.threads).sum(),
            tasks_limit: None,
            network: made.network().slirp().and_then(|_| network_of(made.pid)),
            pressure: [None; 3],
        };
        Ok(match own_cgroup(made.pid, &all) {
            Some(cgroup) => counted(usage, &cgroup),
            None => usage,
        })
    }
}

/// The cgroup of the first process, if nothing but the container is in it.
fn own_cgroup(first: u32, all: &[Process]) -> Option<Cgroup> {
    let cgroup = Cgroup::of_process(first).ok()?;
    let ours: HashSet<u32> = all.iter().map(|process| process.host_pid).collect();
    let there = cgroup.processes().ok()?;
    (!there.is_empty() && there.iter().all(|pid| ours.contains(pid))).then_some(cgroup)
}

/// With the kernel's own numbers, where there are any.
fn counted(usage: Usage, cgroup: &Cgroup) -> Usage {
    let Ok(statistics) = cgroup.statistics() else { return usage };
    let (cpu, memory) = (&statistics.cpu.usage, &statistics.memory);
    // As Docker has it: what the kernel can drop at once is not used.
    let inactive = memory.raw.get("inactive_file").copied().unwrap_or_default();
    let total = |op: &str| {
        let entries = &statistics.blkio.io_service_bytes_recursive;
        Some(entries.iter().filter(|entry| entry.op == op).map(|entry| entry.value).sum()).filter(|sum| *sum > 0)
    };
    Usage {
        processor: if cpu.total > 0 { Duration::from_nanos(cpu.total) } else { usage.processor },
        memory: match memory.usage.usage {
            0 => usage.memory,
            used => used.saturating_sub(inactive),
        },
        memory_limit: match memory.usage.limit {
            0 => usage.memory_limit,
            limit => limit.min(usage.memory_limit),
        },
        read: total("Read").or(usage.read),
        written: total("Write").or(usage.written),
        tasks: statistics.pids.current.max(1),
        tasks_limit: Some(statistics.pids.limit).filter(|limit| *limit > 0),
        pressure: [&statistics.cpu.psi, &memory.psi, &statistics.blkio.psi]
            .map(|psi| psi.as_ref().map(|psi| psi.some.avg10)),
        ..usage
    }
}

fn ticks(ticks: u64) -> Duration {
    Duration::from_millis(ticks.saturating_mul(1000 / TICKS))
}

/// The proportional share where it is told (Linux 4.14, and only of a process that may be traced), else what is resident.
fn memory(process: &Process) -> u64 {
    let shares = processes::read(process.host_pid, "smaps_rollup").unwrap_or_default();
    match processes::kilobytes(&shares, "Pss:") {
        0 => process.resident,
        share => share,
    }
}

fn io_of(process: &Process, key: &str) -> Option<u64> {
    let text = processes::read(process.host_pid, "io").ok()?;
    processes::numbers(&text, key).first().copied()
}

/// What the devices of a process's network have received and sent, but for the loopback: proc_pid_net(5), "/proc/net/dev".
fn network_of(pid: u32) -> Option<(u64, u64)> {
    let text = processes::read(pid, "net/dev").ok()?;
    let counts = text.lines().filter_map(|line| {
        let (name, numbers) = line.split_once(':')?;
        let numbers: Vec<u64> = numbers.split_whitespace().map_while(|number| number.parse().ok()).collect();
        (name.trim() != "lo").then_some((*numbers.first()?, *numbers.get(8)?))
    });
    Some(counts.fold((0, 0), |(received, sent), (more, less)| (received + more, sent + less)))
}

/// None where one is not known.
fn sum(numbers: impl Iterator<Item = Option<u64>>) -> Option<u64> {
    numbers.sum()
}

fn memory_of_machine() -> io::Result<u64> {
    Ok(processes::kilobytes(&std::fs::read_to_string("/proc/meminfo")?, "MemTotal:"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_a_processor() {
        let usage = |at, processor| Usage {
            id: ContainerId::from_random([1; 32]),
            name: "box".parse().expect("a name"),
            at: Duration::from_secs(at),
            running_for: Duration::from_secs(at),
            processor: Duration::from_secs(processor),
            memory: 0,
            memory_limit: 0,
            read: None,
            written: None,
            tasks: 1,
            tasks_limit: None,
            network: None,
            pressure: [None; 3],
        };
        assert_eq!(usage(10, 5).processor_percent(None), 50.0);
        assert_eq!(usage(12, 9).processor_percent(Some(&usage(10, 5))), 200.0);
        // What a process used that nobody waited for is gone with it.
        assert_eq!(usage(12, 4).processor_percent(Some(&usage(10, 5))), 0.0);
        assert_eq!(usage(0, 0).processor_percent(None), 0.0);
    }
}
