//! The processes of a container, as /proc tells of them.
//!
//! They are those of the pid namespace of its first process, and what descends from them: a process of the container may
//! have made a pid namespace below. All that they say of themselves (names, command lines) is theirs to choose.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

/// Clock ticks in a second, as proc_pid_stat(5) counts (USER_HZ): 100 on all architectures that rbox is built for.
pub(crate) const TICKS: u64 = 100;

/// A process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Process {
    /// As the host counts.
    pub(crate) host_pid: u32,
    pub(crate) host_parent: u32,
    /// As the container does.
    pub(crate) pid: u32,
    pub(crate) name: String,
    pub(crate) state: char,
    pub(crate) group: u32,
    pub(crate) session: u32,
    pub(crate) terminal: u64,
    /// Ticks.
    pub(crate) user_time: u64,
    pub(crate) system_time: u64,
    /// Of children that have ended and were waited for.
    pub(crate) children_time: u64,
    pub(crate) nice: i64,
    pub(crate) threads: u64,
    /// Ticks since boot.
    pub(crate) began: u64,
    /// Bytes.
    pub(crate) virtual_size: u64,
    /// Bytes.
    pub(crate) resident: u64,
    /// Effective, as the host counts.
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// No honest line of /proc is longer.
const LONGEST: u64 = 128 * 1024;

/// The processes of the container with this first one, in the order of their numbers.
pub(crate) fn of_container(first: u32) -> io::Result<Vec<Process>> {
    let namespace = std::fs::read_link(format!("/proc/{first}/ns/pid"))?;
    let depth = numbers(&read(first, "status")?, "NSpid:").len();
    let mut all: BTreeMap<u32, (bool, Process)> = BTreeMap::new();
    for entry in std::fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // Another's processes do not say; one that has just ended does not either.
        let same = std::fs::read_link(format!("/proc/{pid}/ns/pid")).is_ok_and(|there| there == namespace);
        let (Ok(stat), Ok(status)) = (read(pid, "stat"), read(pid, "status")) else { continue };
        if let Some(process) = parse(&stat, &status, depth) {
            all.insert(pid, (same, process));
        }
    }
    let mut members: HashSet<u32> = all.iter().filter(|(_, (same, _))| *same).map(|(pid, _)| *pid).collect();
    loop {
        let descends = |(pid, (_, process)): (&u32, &(bool, Process))| {
            (members.contains(&process.host_parent) && !members.contains(pid)).then_some(*pid)
        };
        let found: Vec<u32> = all.iter().filter_map(descends).collect();
        if found.is_empty() {
            break;
        }
        members.extend(found);
    }
    Ok(all.into_iter().filter(|(pid, _)| members.contains(pid)).map(|(_, (_, process))| process).collect())
}

/// The whole of a file of a process.
pub(crate) fn read(pid: u32, name: &str) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(PathBuf::from(format!("/proc/{pid}/{name}")))?.take(LONGEST).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The words that a process was started with; its name where it has none.
pub(crate) fn command_line(process: &Process) -> String {
    let text = read(process.host_pid, "cmdline").unwrap_or_default();
    let words = text.trim_end_matches('\0').replace('\0', " ");
    if words.is_empty() { format!("[{}]", process.name) } else { words }
}

/// The numbers behind a key of /proc/PID/status.
pub(crate) fn numbers(status: &str, key: &str) -> Vec<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
    line.split_whitespace().map_while(|word| word.parse().ok()).collect()
}

/// From /proc/PID/stat and status: proc_pid_stat(5), proc_pid_status(5). `depth`: in how many pid namespaces the
/// container's first process has a number.
fn parse(stat: &str, status: &str, depth: usize) -> Option<Process> {
    // The name is in parentheses, and may hold anything.
    let (begin, rest) = stat.rsplit_once(')')?;
    let (pid, name) = begin.split_once('(')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    // As the manual counts, from 3 on.
    let number = |field: usize| fields.get(field - 3)?.parse::<i64>().ok();
    let positive = |field: usize| Some(number(field)?.unsigned_abs());
    let pids = numbers(status, "NSpid:");
    let second = |key: &str| numbers(status, key).get(1).copied().unwrap_or_default() as u32;
    Some(Process {
        host_pid: pid.trim().parse().ok()?,
        host_parent: positive(4)? as u32,
        pid: pids.get(depth.checked_sub(1)?).copied().unwrap_or_default() as u32,
        name: name.to_owned(),
        state: fields.first()?.chars().next()?,
        group: positive(5)? as u32,
        session: positive(6)? as u32,
        terminal: positive(7)?,
        user_time: positive(14)?,
        system_time: positive(15)?,
        children_time: positive(16)? + positive(17)?,
        nice: number(19)?,
        threads: positive(20)?,
        began: fields.get(22 - 3)?.parse().ok()?,
        virtual_size: fields.get(23 - 3)?.parse().ok()?,
        resident: kilobytes(status, "VmRSS:"),
        uid: second("Uid:"),
        gid: second("Gid:"),
    })
}

/// A size in a file such as /proc/PID/status, in bytes; 0 where it is not told.
pub(crate) fn kilobytes(text: &str, key: &str) -> u64 {
    numbers(text, key).first().map_or(0, |kilobytes| kilobytes.saturating_mul(1024))
}

/// Ticks since boot.
pub(crate) fn now() -> io::Result<u64> {
    let text = std::fs::read_to_string("/proc/uptime")?;
    let seconds: f64 = text.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or_default();
    Ok((seconds * TICKS as f64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "4711 (a b) c) S 4700 4711 4700 34817 4711 4194304 100 200 0 0 12 34 5 6 20 -5 2 0 98765 1048576 \
        50 18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0";
    const STATUS: &str =
        "Name:\ta b) c\nUid:\t0\t100033\t0\t0\nGid:\t0\t100034\t0\t0\nNSpid:\t4711\t9\t1\nVmRSS:\t    12 kB\n";

    #[test]
    fn a_process_whose_name_is_meant_to_mislead() {
        let process = parse(STAT, STATUS, 2).expect("valid");
        let expected = Process {
            host_pid: 4711,
            host_parent: 4700,
            pid: 9,
            name: "a b) c".into(),
            state: 'S',
            group: 4711,
            session: 4700,
            terminal: 34817,
            user_time: 12,
            system_time: 34,
            children_time: 11,
            nice: -5,
            threads: 2,
            began: 98765,
            virtual_size: 1_048_576,
            resident: 12 * 1024,
            uid: 100_033,
            gid: 100_034,
        };
        assert_eq!(process, expected);
        assert_eq!(parse(STAT, "", 2).expect("valid").pid, 0);
        for broken in ["", "1", "1 (a", "1 (a) S", "x (a) S 1 2"] {
            assert_eq!(parse(broken, STATUS, 2), None, "{broken}");
        }
    }

    #[test]
    fn this_process_is_one_of_its_namespace() {
        let me = std::process::id();
        let all = of_container(me).expect("listed");
        let found = all.iter().find(|process| process.host_pid == me).expect("there");
        assert!(found.pid != 0 && found.resident > 0 && found.began <= now().expect("read"));
        assert!(command_line(found).contains("container"), "{}", command_line(found));
    }
}
