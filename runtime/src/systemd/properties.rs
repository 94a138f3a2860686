//! A scope's properties: org.freedesktop.systemd1(5), systemd.resource-control(5).

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources, LinuxThrottleDevice};

use super::wire::Value;
use crate::cgroup::{io_weight_of, weight_of_shares};
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
        // Nothing is left of it, however its processes ended: whoever made the container writes that down.
        ("CollectMode", Value::text("inactive-or-failed")),
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
    if let Some(limits) = resources.block_io() {
        block_io(limits, &mut all);
    }
    for (file, value) in resources.unified().iter().flatten() {
        all.extend(of_file(file, value.trim()));
    }
    all
}

fn block_io(limits: &LinuxBlockIo, all: &mut Vec<Property>) {
    let weight = limits.weight().filter(|weight| *weight != 0);
    all.extend(weight.map(|weight| ("IOWeight", Value::U64(io_weight_of(weight).into()))));
    for (name, devices) in [
        ("IOReadBandwidthMax", limits.throttle_read_bps_device()),
        ("IOWriteBandwidthMax", limits.throttle_write_bps_device()),
        ("IOReadIOPSMax", limits.throttle_read_iops_device()),
        ("IOWriteIOPSMax", limits.throttle_write_iops_device()),
    ] {
        let rate = |device: &LinuxThrottleDevice| {
            let rate = if device.rate() == 0 { UNLIMITED } else { device.rate() };
            (format!("/dev/block/{}:{}", device.major(), device.minor()), rate)
        };
        let rates: Vec<(String, u64)> = devices.iter().flatten().map(rate).collect();
        if !rates.is_empty() {
            all.push((name, Value::Rates(rates)));
        }
    }
}

/// What systemd calls the file of a cgroup that holds one number.
fn of_file(file: &str, value: &str) -> Option<Property> {
    let number = || match value {
        "max" => Some(Value::U64(UNLIMITED)),
        number => number.parse().ok().map(Value::U64),
    };
    let name = match file {
        "cpu.weight" => "CPUWeight",
        "memory.min" => "MemoryMin",
        "memory.low" => "MemoryLow",
        "memory.high" => "MemoryHigh",
        "memory.max" => "MemoryMax",
        "memory.swap.max" => "MemorySwapMax",
        "pids.max" => "TasksMax",
        _ => return None,
    };
    Some((name, number()?))
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
            (r#"{"blockIO": {"weight": 10}}"#, &[("IOWeight", 1)]),
            (r#"{"unified": {"memory.high": "9", "cpu.weight": "50\n"}}"#, &[("CPUWeight", 50), ("MemoryHigh", 9)]),
            (r#"{"unified": {"pids.max": "max"}}"#, &[("TasksMax", UNLIMITED)]),
            // What it has no property for is written to the file alone.
            (r#"{"unified": {"cpu.max": "50 100", "memory.high": "x", "cpu.idle": "1"}}"#, &[]),
        ] {
            let expected: Vec<_> = expected.iter().map(|(name, value)| (*name, Value::U64(*value))).collect();
            let parsed = serde_json::from_str(resources).expect("resources");
            let mut found = of_limits(&parsed);
            found.sort_by_key(|(name, _)| if resources.contains("unified") { name } else { "" });
            assert_eq!(found, expected, "{resources}");
        }
    }

    #[test]
    fn rates_are_of_devices() {
        let resources = r#"{"blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 16, "rate": 600}],
            "throttleWriteIOPSDevice": [{"major": 8, "minor": 16, "rate": 0}]}}"#;
        let rates = |rate| Value::Rates(vec![("/dev/block/8:16".into(), rate)]);
        let expected = [("IOReadBandwidthMax", rates(600)), ("IOWriteIOPSMax", rates(UNLIMITED))];
        assert_eq!(of_limits(&serde_json::from_str(resources).expect("resources")), expected);
    }

    #[test]
    fn processors_are_bits() {
        let parsed = serde_json::from_str(r#"{"cpu": {"cpus": "0-2,9", "mems": "0"}}"#).expect("resources");
        let expected = [("AllowedCPUs", Value::Bytes(vec![7, 2])), ("AllowedMemoryNodes", Value::Bytes(vec![1]))];
        assert_eq!(of_limits(&parsed), expected);
        assert_eq!([bits(""), bits("x")], [None, None]);
    }
}
