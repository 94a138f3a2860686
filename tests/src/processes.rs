//! Other processes of this user, in containers too, as /proc shows them.

use std::fs;
use std::process::Command;

use anyhow::Result;

/// The processes of this name whose parent this is.
pub fn children(parent: u32, name: &str) -> Vec<u32> {
    let is_one = |pid: &u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let has = |line: String| status.lines().any(|known| known == line);
        has(format!("Name:\t{name}")) && has(format!("PPid:\t{parent}"))
    };
    let all = fs::read_dir("/proc").expect("/proc is mounted").flatten();
    all.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(is_one).collect()
}

/// The ids of the processes whose environment has this entry, `NAME=value`. By a value of its own a test tells its
/// processes from all others, and the children of a process have its environment.
pub fn with_variable(entry: &str) -> Vec<u32> {
    let has_entry = |pid: &u32| {
        // What has ended since, or is not ours to read, is not ours.
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|found| found == entry.as_bytes())
    };
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    all.filter_map(|process| process.file_name().to_str()?.parse().ok()).filter(has_entry).collect()
}

/// Sends a signal, by name.
pub fn signal(pid: u32, name: &str) -> Result<()> {
    crate::command::run(Command::new("kill").args(["-s", name, &pid.to_string()]))
}
