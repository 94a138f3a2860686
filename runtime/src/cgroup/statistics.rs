//! What a cgroup counts, in the words of `runc events --stats`, which containerd and others read.
//!
//! The form is that of cgroup v1; what v2 counts is put where it belongs there, as runc does, and what nobody counts
//! is left out. A controller that is missing leaves its part at zero.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};

use serde::Serialize;

use super::{Cgroup, Error, tree};

/// One line of `events`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Event<'a> {
    /// "stats", or "oom".
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The container.
    pub id: &'a str,
    /// For "stats".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<Statistics>,
}

/// What a container uses.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Statistics {
    /// Processor time.
    pub cpu: Cpu,
    /// Memory and swap.
    pub memory: Memory,
    /// Processes and threads.
    pub pids: Pids,
    /// Block devices.
    pub blkio: Block,
    /// Huge pages, by their size: "2MB".
    pub hugetlb: BTreeMap<String, Hugepages>,
}

/// Processor time.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Cpu {
    /// Time used.
    pub usage: CpuUsage,
    /// Time denied by the quota.
    pub throttling: Throttling,
    /// Time that was waited for a processor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// In nanoseconds since the cgroup was made.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct CpuUsage {
    /// In all.
    pub total: u64,
    /// In the kernel.
    pub kernel: u64,
    /// Outside.
    pub user: u64,
}

/// What the quota did.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Throttling {
    /// Periods that have passed.
    pub periods: u64,
    /// Those of them in which the quota was used up.
    pub throttled_periods: u64,
    /// Nanoseconds for which processes were kept from running.
    pub throttled_time: u64,
}

/// Memory and swap, in bytes.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Memory {
    /// Of files.
    pub cache: u64,
    /// In all.
    pub usage: MemoryEntry,
    /// Memory and swap together, as v1 counted.
    pub swap: MemoryEntry,
    /// The numbers of `memory.stat`.
    pub raw: BTreeMap<String, u64>,
    /// Time that was waited for memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// In bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct MemoryEntry {
    /// The limit; all bits set: none.
    pub limit: u64,
    /// In use now.
    pub usage: u64,
    /// The most that was in use (Linux 5.19); 0: not known.
    pub max: u64,
    /// How often the limit was met.
    pub failcnt: u64,
}

/// Processes and threads.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Pids {
    /// How many there are; without the controller, how many processes.
    pub current: u64,
    /// How many there may be; 0: any number.
    pub limit: u64,
}

/// Block devices.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Block {
    /// Bytes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_service_bytes_recursive: Vec<BlockEntry>,
    /// Operations.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_serviced_recursive: Vec<BlockEntry>,
    /// Time that was waited for devices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// One kind of operation on one device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BlockEntry {
    /// The device.
    pub major: u64,
    /// The device.
    pub minor: u64,
    /// "Read" or "Write".
    pub op: &'static str,
    /// How many or how much.
    pub value: u64,
}

/// Huge pages of one size.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Hugepages {
    /// Bytes in use or reserved.
    pub usage: u64,
    /// How often the limit was met.
    pub failcnt: u64,
}

/// Pressure stall information, PSI (Documentation/accounting/psi.rst of the kernel).
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Pressure {
    /// While at least one process waited.
    pub some: PressureShare,
    /// While all of them did.
    pub full: PressureShare,
}

/// Shares of time in percent, and microseconds.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct PressureShare {
    /// Of the last 10 seconds, in percent.
    pub avg10: f64,
    /// Of the last 60.
    pub avg60: f64,
    /// Of the last 300.
    pub avg300: f64,
    /// In all, in microseconds.
    pub total: u64,
}

impl Cgroup {
    /// What the container uses now, with all that is in cgroups below its own.
    pub fn statistics(&self) -> Result<Statistics, Error> {
        let dir = self.dir.as_fd();
        let mut statistics = Statistics {
            cpu: cpu(dir),
            memory: memory(dir),
            pids: Pids {
                current: single(dir, "pids.current").unwrap_or(0),
                limit: single(dir, "pids.max").filter(|limit| *limit != u64::MAX).unwrap_or(0),
            },
            blkio: block(&text(dir, "io.stat")),
            hugetlb: BTreeMap::new(),
        };
        if statistics.pids.current == 0 {
            statistics.pids.current = self.processes()?.len() as u64;
        }
        statistics.blkio.psi = pressure(&text(dir, "io.pressure"));
        for size in hugepage_sizes() {
            let name = |suffix: &str| format!("hugetlb.{size}.{suffix}");
            let usage = single(dir, &name("rsvd.current")).or_else(|| single(dir, &name("current")));
            if let Some(usage) = usage {
                let failcnt = value(&text(dir, &name("events")), "max").unwrap_or(0);
                statistics.hugetlb.insert(size, Hugepages { usage, failcnt });
            }
        }
        Ok(statistics)
    }
}

fn cpu(dir: BorrowedFd<'_>) -> Cpu {
    let stat = text(dir, "cpu.stat");
    let count = |key| value(&stat, key).unwrap_or(0);
    let nanoseconds = |key| count(key).saturating_mul(1000);
    Cpu {
        usage: CpuUsage {
            total: nanoseconds("usage_usec"),
            kernel: nanoseconds("system_usec"),
            user: nanoseconds("user_usec"),
        },
        throttling: Throttling {
            periods: count("nr_periods"),
            throttled_periods: count("nr_throttled"),
            throttled_time: nanoseconds("throttled_usec"),
        },
        psi: pressure(&text(dir, "cpu.pressure")),
    }
}

fn memory(dir: BorrowedFd<'_>) -> Memory {
    let raw: BTreeMap<String, u64> = text(dir, "memory.stat").lines().filter_map(pair).collect();
    let entry = |name: &str| {
        let number = |suffix: &str| single(dir, &format!("{name}.{suffix}"));
        let failcnt = value(&text(dir, &format!("{name}.events")), "max").unwrap_or(0);
        Some(MemoryEntry {
            usage: number("current")?,
            limit: number("max")?,
            max: number("peak").unwrap_or(0),
            failcnt,
        })
    };
    let usage = entry("memory").unwrap_or_default();
    let swap = entry("memory.swap").map(|swap| MemoryEntry {
        limit: swap.limit.saturating_add(usage.limit),
        usage: swap.usage + usage.usage,
        // The most of both together is nowhere counted.
        max: 0,
        failcnt: swap.failcnt,
    });
    Memory {
        cache: raw.get("file").copied().unwrap_or(0),
        swap: swap.unwrap_or_default(),
        usage,
        raw,
        psi: pressure(&text(dir, "memory.pressure")),
    }
}

/// `io.stat`: "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6".
fn block(stat: &str) -> Block {
    let mut block = Block::default();
    for line in stat.lines() {
        let mut fields = line.split_whitespace();
        let numbers = fields.next().and_then(|device| device.split_once(':'));
        let Some((Ok(major), Ok(minor))) = numbers.map(|(major, minor)| (major.parse(), minor.parse())) else {
            continue;
        };
        for (key, value) in fields.filter_map(|field| field.split_once('=')) {
            let (table, op) = match key {
                "rbytes" => (&mut block.io_service_bytes_recursive, "Read"),
                "wbytes" => (&mut block.io_service_bytes_recursive, "Write"),
                "rios" => (&mut block.io_serviced_recursive, "Read"),
                "wios" => (&mut block.io_serviced_recursive, "Write"),
                _ => continue,
            };
            if let Ok(value) = value.parse() {
                table.push(BlockEntry { major, minor, op, value });
            }
        }
    }
    block
}

/// "some avg10=0.00 avg60=0.00 avg300=0.00 total=0", and the same for "full"; `None`: the kernel does not tell.
fn pressure(text: &str) -> Option<Pressure> {
    let share = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key))?;
        let field = |name: &str| line.split_whitespace().find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
        let average = |name: &str| field(name)?.parse().ok();
        Some(PressureShare {
            avg10: average("avg10")?,
            avg60: average("avg60")?,
            avg300: average("avg300")?,
            total: field("total")?.parse().ok()?,
        })
    };
    // Before Linux 5.13 there was no "full" for the processor.
    Some(Pressure { some: share("some ")?, full: share("full ").unwrap_or_default() })
}

/// The sizes that the kernel has, as the cgroup files call them: /sys/kernel/mm/hugepages/hugepages-2048kB is "2MB".
fn hugepage_sizes() -> Vec<String> {
    let entries = std::fs::read_dir("/sys/kernel/mm/hugepages").into_iter().flatten().flatten();
    let sizes = entries
        .filter_map(|entry| entry.file_name().to_str()?.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok());
    sizes.map(size_name).collect()
}

fn size_name(kilobytes: u64) -> String {
    match kilobytes {
        ..1024 => format!("{kilobytes}KB"),
        1024..1_048_576 => format!("{}MB", kilobytes / 1024),
        _ => format!("{}GB", kilobytes / 1_048_576),
    }
}

/// What follows `key` in a file of "key number" lines.
pub(super) fn value(text: &str, key: &str) -> Option<u64> {
    text.lines().filter_map(pair).find(|(name, _)| name == key).map(|(_, value)| value)
}

fn pair(line: &str) -> Option<(String, u64)> {
    let (key, value) = line.split_once(' ')?;
    Some((key.to_owned(), value.trim().parse().ok()?))
}

/// A file of one number; "max" is the largest.
pub(super) fn single(dir: BorrowedFd<'_>, file: &str) -> Option<u64> {
    match text(dir, file).trim() {
        "max" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

/// A file's text; a missing one's is empty, as is one of PSI when that is switched off (EOPNOTSUPP).
fn text(dir: BorrowedFd<'_>, file: &str) -> String {
    tree::read(dir, file).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn files_are_told_in_the_words_of_v1() {
        let temporary = tempfile::tempdir().expect("a temporary directory");
        for (file, text) in [
            (
                "cpu.stat",
                "usage_usec 30\nuser_usec 10\nsystem_usec 20\nnr_periods 4\nnr_throttled 3\nthrottled_usec 9\n",
            ),
            (
                "cpu.pressure",
                "some avg10=1.50 avg60=0.00 avg300=0.00 total=77\nfull avg10=0.00 avg60=0.00 avg300=0.25 total=5\n",
            ),
            ("memory.stat", "anon 100\nfile 200\n"),
            ("memory.current", "1000\n"),
            ("memory.max", "4096\n"),
            ("memory.peak", "2000\n"),
            ("memory.events", "low 0\nhigh 0\nmax 6\noom 0\noom_kill 0\n"),
            ("memory.swap.current", "10\n"),
            ("memory.swap.max", "max\n"),
        ] {
            fs::write(temporary.path().join(file), text).expect("write");
        }
        let dir = fs::File::open(temporary.path()).expect("open");
        let json = serde_json::to_value(cpu(dir.as_fd())).expect("json");
        let expected = serde_json::json!({
            "usage": {"total": 30_000, "kernel": 20_000, "user": 10_000},
            "throttling": {"periods": 4, "throttledPeriods": 3, "throttledTime": 9000},
            "psi": {
                "some": {"avg10": 1.5, "avg60": 0.0, "avg300": 0.0, "total": 77},
                "full": {"avg10": 0.0, "avg60": 0.0, "avg300": 0.25, "total": 5},
            },
        });
        assert_eq!(json, expected);
        let json = serde_json::to_value(memory(dir.as_fd())).expect("json");
        let expected = serde_json::json!({
            "cache": 200,
            "usage": {"limit": 4096, "usage": 1000, "max": 2000, "failcnt": 6},
            "swap": {"limit": u64::MAX, "usage": 1010, "max": 0, "failcnt": 0},
            "raw": {"anon": 100, "file": 200},
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn block_devices_in_two_tables() {
        let block = block("8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n8:16\nbad\n");
        let json = serde_json::to_value(block).expect("json");
        let entry = |op, value| serde_json::json!({"major": 8, "minor": 0, "op": op, "value": value});
        let expected = serde_json::json!({
            "ioServiceBytesRecursive": [entry("Read", 1), entry("Write", 2)],
            "ioServicedRecursive": [entry("Read", 3), entry("Write", 4)],
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn sizes_of_huge_pages() {
        assert_eq!([64, 2048, 1_048_576].map(size_name), ["64KB", "2MB", "1GB"]);
    }
}
