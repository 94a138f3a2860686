//! A scope's properties: org.freedesktop.systemd1(5), systemd.resource-control(5).

use oci_spec::runtime::{LinuxCpu, LinuxMemory, LinuxResources};

use super::wire::Value;
use crate::cgroup::weight_of_shares;
use crate::number_list;

/// A property's name and value.
type Property = (&'static str, Value);

/// systemd's "infinity".
const UNLIMITED: u64 = u64::MAX;

/// The kernel's period of `cpu.max` where none is given, in microseconds.
const USUAL_PERIOD: u64 = 100_000;

/// Those of each scope.
pub(super) fn of_scope(slice: &str, pid: u32, id: &str) -> Vec<Property> {
    let yes = Value::Bool(true);
    vec![
        ("Description", Value::Text(format!("container {id}"))),
        ("Slice", Value::text(slice)),
        // What is below its cgroup is the container's.
        ("Delegate", yes.clone()),
        ("PIDs", Value::U32s(vec![pid])),
        // Whoever manages containers ends them; systemd is not to do it as one of the first things of a shutdown.
        ("DefaultDependencies", Value::Bool(false)),
        // Has the controllers passed down, for what may be limited later.
        ("CPUAccounting", yes.clone()),
        ("IOAccounting", yes.clone()),
        ("MemoryAccounting", yes.clone()),
        ("TasksAccounting", yes),
    ]
}

/// Those limits that systemd has a property for. What is not limited here stays as it is.
pub(super) fn of_limits(resources: &LinuxResources) -> Vec<Property> {
    let mut all = Vec::new();
    if let Some(limits) = resources.memory() {
        memory(limits, &mut all);
    }
    if let Some(limits) = resources.cpu() {
        cpu(limits, &mut all);
    }
    if let Some(pids) = resources.pids().as_ref().filter(|pids| pids.limit() != 0) {
        all.push(("TasksMax", limit(pids.limit())));
    }
    all
}

fn memory(limits: &LinuxMemory, all: &mut Vec<Property>) {
    let set = |limit: Option<i64>| limit.filter(|limit| *limit != 0);
    all.extend(set(limits.limit()).map(|max| ("MemoryMax", limit(max))));
    all.extend(set(limits.reservation()).map(|low| ("MemoryLow", limit(low))));
    match (set(limits.swap()), set(limits.limit())) {
        (Some(..0), _) => all.push(("MemorySwapMax", Value::U64(UNLIMITED))),
        // The spec counts both together.
        (Some(together), Some(memory @ 1..)) => all.push(("MemorySwapMax", limit((together - memory).max(0)))),
        _ => {}
    }
}

fn cpu(limits: &LinuxCpu, all: &mut Vec<Property>) {
    if let Some(shares) = limits.shares().filter(|shares| *shares != 0) {
        all.push(("CPUWeight", Value::U64(weight_of_shares(shares))));
    }
    for (name, list) in [("AllowedCPUs", limits.cpus()), ("AllowedMemoryNodes", limits.mems())] {
        all.extend(list.as_deref().and_then(bits).map(|bits| (name, bits)));
    }
    let period = limits.period().filter(|period| *period != 0);
    all.extend(period.map(|period| ("CPUQuotaPeriodUSec", Value::U64(period))));
    match limits.quota().filter(|quota| *quota != 0) {
        None => {}
        Some(..0) => all.push(("CPUQuotaPerSecUSec", Value::U64(UNLIMITED))),
        Some(quota) => {
            let a_second = quota.unsigned_abs().saturating_mul(1_000_000).div_ceil(period.unwrap_or(USUAL_PERIOD));
            // systemd keeps whole hundredths; rather one too much than one too few.
            all.push(("CPUQuotaPerSecUSec", Value::U64(a_second.next_multiple_of(10_000))));
        }
    }
}

/// A bit for each: `0-2` is 7. What is no such list the cgroup's file refuses, with a better message.
fn bits(list: &str) -> Option<Value> {
    /// More than any kernel has.
    const MOST: usize = 1 << 16;
    let numbers = number_list::parse(list, MOST)?;
    let mut bytes = vec![0_u8; numbers.iter().max()? / 8 + 1];
    numbers.iter().for_each(|number| bytes[number / 8] |= 1 << (number % 8));
    Some(Value::Bytes(bytes))
}

fn limit(limit: i64) -> Value {
    Value::U64(limit.try_into().unwrap_or(UNLIMITED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_those_of_the_files() {
        for (resources, expected) in [
            (r#"{}"#, &[][..]),
            (
                r#"{"memory": {"limit": 1000, "reservation": 500, "swap": 1500}}"#,
                &[("MemoryMax", 1000), ("MemoryLow", 500), ("MemorySwapMax", 500)],
            ),
            (r#"{"memory": {"limit": -1, "swap": -1}}"#, &[("MemoryMax", UNLIMITED), ("MemorySwapMax", UNLIMITED)]),
            (r#"{"memory": {"limit": 0}}"#, &[]),
            (r#"{"cpu": {"shares": 1024}}"#, &[("CPUWeight", 100)]),
            (r#"{"cpu": {"quota": 50000}}"#, &[("CPUQuotaPerSecUSec", 500_000)]),
            (
                r#"{"cpu": {"quota": 1001, "period": 2000}}"#,
                &[("CPUQuotaPeriodUSec", 2000), ("CPUQuotaPerSecUSec", 510_000)],
            ),
            (r#"{"cpu": {"quota": -1}}"#, &[("CPUQuotaPerSecUSec", UNLIMITED)]),
            (r#"{"pids": {"limit": 7}}"#, &[("TasksMax", 7)]),
            (r#"{"pids": {"limit": -1}}"#, &[("TasksMax", UNLIMITED)]),
            (r#"{"pids": {"limit": 0}}"#, &[]),
        ] {
            let expected: Vec<_> = expected.iter().map(|(name, value)| (*name, Value::U64(*value))).collect();
            let parsed = serde_json::from_str(resources).expect("resources");
            assert_eq!(of_limits(&parsed), expected, "{resources}");
        }
    }

    #[test]
    fn processors_are_bits() {
        let parsed = serde_json::from_str(r#"{"cpu": {"cpus": "0-2,9", "mems": "0"}}"#).expect("resources");
        let expected = [("AllowedCPUs", Value::Bytes(vec![7, 2])), ("AllowedMemoryNodes", Value::Bytes(vec![1]))];
        assert_eq!(of_limits(&parsed), expected);
        assert_eq!([bits(""), bits("x")], [None, None]);
    }
}
