//! `linux.resources` of the runtime spec as writes to a cgroup's files: checked and ordered before the first is done.
//!
//! The spec was made for cgroup v1. What version 2 counts differently is converted as runc and crun do, what it does
//! not have is refused by name.

use std::io;

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources, LinuxThrottleDevice};

use super::Error;

/// One write(2) to one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Write {
    /// The field that asks for it, as the spec writes it.
    pub field: String,
    /// The file in the cgroup's directory.
    pub file: String,
    /// What to write.
    pub value: String,
    /// What it means if there is no such file.
    pub missing: IfMissing,
}

/// What it means that a file is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum IfMissing {
    /// The limit cannot be had: a failure.
    Fail,
    /// Without the file, things are as they were asked to be.
    Skip,
    /// This file is written instead, with this value.
    Instead(String, String),
}

impl Write {
    fn new(field: &str, file: impl Into<String>, value: impl ToString) -> Self {
        let value = value.to_string();
        // What is not limited needs no file, nor a controller, to be so.
        let missing = if value == "max" { IfMissing::Skip } else { IfMissing::Fail };
        Self { field: format!("linux.resources.{field}"), file: file.into(), value, missing }
    }

    fn if_missing(mut self, missing: IfMissing) -> Self {
        self.missing = missing;
        self
    }

    /// The controller that the file belongs to; `None` for those that every cgroup has.
    pub(super) fn controller(&self) -> Option<&str> {
        match self.file.split('.').next() {
            Some("cgroup") | None => None,
            // Every cgroup has cpu.stat and the pressure files; all that are written belong to the controller.
            name => name,
        }
    }
}

/// Reads a file of the cgroup, for limits that depend on what is there; before there is a cgroup, as a new one has it.
pub(super) type Read<'a> = &'a dyn Fn(&str) -> io::Result<String>;

/// What a cgroup has in its files when it is made.
pub(super) fn of_new(file: &str) -> io::Result<String> {
    match file {
        "memory.max" => Ok("max".into()),
        "memory.current" => Ok("0".into()),
        "cpu.max" => Ok("max 100000".into()),
        "cpu.max.burst" => Ok("0".into()),
        _ => Err(io::ErrorKind::NotFound.into()),
    }
}

/// All that `resources` asks for, but for the devices.
pub(super) fn plan(resources: &LinuxResources, read: Read<'_>) -> Result<Vec<Write>, Error> {
    let mut writes = Vec::new();
    if let Some(network) = resources.network()
        && (network.class_id().is_some_and(|id| id != 0)
            || network.priorities().as_ref().is_some_and(|it| !it.is_empty()))
    {
        return refuse("network", "cgroup v2 has no network classes or priorities");
    }
    if let Some(limits) = resources.memory() {
        memory(limits, read, &mut writes)?;
    }
    if let Some(limits) = resources.cpu() {
        cpu(limits, read, &mut writes)?;
    }
    if let Some(pids) = resources.pids() {
        match pids.limit() {
            ..0 => writes.push(Write::new("pids.limit", "pids.max", "max")),
            // Podman's word for none, and crun takes it so.
            0 => {}
            limit => writes.push(Write::new("pids.limit", "pids.max", limit.to_string())),
        }
    }
    if let Some(limits) = resources.block_io() {
        block_io(limits, &mut writes)?;
    }
    for (at, limit) in resources.hugepage_limits().iter().flatten().enumerate() {
        let size = limit.page_size();
        let field = format!("hugepageLimits[{at}]");
        if !size.bytes().all(|byte| byte.is_ascii_alphanumeric()) || size.is_empty() {
            return refuse(&format!("{field}.pageSize"), format!("'{}' is no size like 2MB", size.escape_debug()));
        }
        let value = unlimited_below_zero(limit.limit());
        writes.push(Write::new(&field, format!("hugetlb.{size}.max"), &value));
        // Pages that are reserved but not yet used; Linux 5.7.
        writes.push(Write::new(&field, format!("hugetlb.{size}.rsvd.max"), &value).if_missing(IfMissing::Skip));
    }
    let mut rdma: Vec<_> = resources.rdma().iter().flatten().collect();
    rdma.sort_by_key(|(device, _)| *device);
    for (device, limit) in rdma {
        let field = format!("rdma.{device}");
        if device.is_empty() || device.contains(|c: char| c.is_whitespace() || c.is_control() || c == '=') {
            return refuse("rdma", format!("'{}' is no name of a device", device.escape_debug()));
        }
        let mut value = device.clone();
        for (key, limit) in [("hca_handle", limit.hca_handles()), ("hca_object", limit.hca_objects())] {
            if let Some(limit) = limit {
                value += &format!(" {key}={limit}");
            }
        }
        if value != *device {
            writes.push(Write::new(&field, "rdma.max", value));
        }
    }
    unified(resources, &mut writes)?;
    Ok(writes)
}

fn memory(limits: &LinuxMemory, read: Read<'_>, writes: &mut Vec<Write>) -> Result<(), Error> {
    for (field, asked, why) in [
        ("kernel", limits.kernel().is_some_and(|limit| limit > 0), "cgroup v2 counts it within memory"),
        ("kernelTCP", limits.kernel_tcp().is_some_and(|limit| limit > 0), "cgroup v2 counts it within memory"),
        ("swappiness", limits.swappiness().is_some(), "cgroup v2 has no swappiness"),
        ("disableOOMKiller", limits.disable_oom_killer() == Some(true), "cgroup v2 cannot go without"),
        ("useHierarchy", limits.use_hierarchy() == Some(false), "cgroup v2 is always hierarchical"),
    ] {
        if asked {
            return refuse(&format!("memory.{field}"), why);
        }
    }
    // Zero has always meant "not given" here: no program runs in no memory.
    let given = |limit: Option<i64>| limit.filter(|limit| *limit != 0);
    let (limit, together) = (given(limits.limit()), given(limits.swap()));
    if limits.check_before_update() == Some(true) && [limit, together].iter().flatten().any(|limit| *limit > 0) {
        let used = number("memory.checkBeforeUpdate", "memory.current", read)?;
        for (field, limit) in [("memory.limit", limit), ("memory.swap", together)] {
            if limit.is_some_and(|limit| limit > 0 && limit as u64 <= used) {
                return refuse(field, format!("{used} bytes are in use already"));
            }
        }
    }
    if let Some(swap) = swap(limit, together, read)? {
        // Without swap accounting nothing is limited, and where there is no swap, none is used.
        let missing = if matches!(swap.as_str(), "max" | "0") { IfMissing::Skip } else { IfMissing::Fail };
        writes.push(Write::new("memory.swap", "memory.swap.max", swap).if_missing(missing));
    }
    if let Some(limit) = limit {
        writes.push(Write::new("memory.limit", "memory.max", unlimited_below_zero(limit)));
    }
    if let Some(reservation) = given(limits.reservation()) {
        writes.push(Write::new("memory.reservation", "memory.low", unlimited_below_zero(reservation)));
    }
    Ok(())
}

/// The spec counts memory and swap together, as v1 did; v2 counts swap alone.
fn swap(limit: Option<i64>, together: Option<i64>, read: Read<'_>) -> Result<Option<String>, Error> {
    let Some(together) = together else {
        // In v1 memory without a limit was swap without one.
        return Ok(limit.filter(|limit| *limit < 0).map(|_| "max".into()));
    };
    if together < 0 {
        return Ok(Some("max".into()));
    }
    let limit = match limit {
        Some(limit) => u64::try_from(limit).ok(),
        // An update of one of the two: the other is what it was.
        None => match reading("memory.swap", "memory.max", read)?.as_str() {
            "max" => return refuse("memory.swap", "it is memory and swap together, and there is no memory.limit"),
            limit => limit.parse().ok(),
        },
    };
    // Unlimited memory: all of it is for swap.
    let Some(limit) = limit else { return Ok(Some(together.to_string())) };
    match (together as u64).checked_sub(limit) {
        Some(swap) => Ok(Some(swap.to_string())),
        None => {
            refuse("memory.swap", format!("it is memory and swap together, and less than the memory limit of {limit}"))
        }
    }
}

fn cpu(limits: &LinuxCpu, read: Read<'_>, writes: &mut Vec<Write>) -> Result<(), Error> {
    if limits.realtime_runtime().is_some_and(|it| it != 0) || limits.realtime_period().is_some_and(|it| it != 0) {
        return refuse("cpu.realtimeRuntime", "cgroup v2 has no realtime limits");
    }
    match limits.idle() {
        None => {}
        Some(idle @ (0 | 1)) => writes.push(Write::new("cpu.idle", "cpu.idle", idle)),
        Some(other) => return refuse("cpu.idle", format!("{other} is neither 0 nor 1")),
    }
    if let Some(shares) = limits.shares().filter(|shares| *shares != 0) {
        let weight = Write::new("cpu.shares", "cpu.weight", weight_of_shares(shares));
        // No preference at all, which needs no controller; containerd's ctr asks every container for it.
        let is_default = shares == DEFAULT_SHARES;
        writes.push(if is_default { weight.if_missing(IfMissing::Skip) } else { weight });
    }
    let quota = limits.quota().filter(|quota| *quota != 0);
    let period = limits.period().filter(|period| *period != 0);
    let bandwidth = match (quota, period) {
        (None, None) => None,
        // What is not written stays as it is.
        (Some(quota), None) => Some(unlimited_below_zero(quota)),
        (Some(quota), Some(period)) => Some(format!("{} {period}", unlimited_below_zero(quota))),
        (None, Some(period)) => {
            let before = reading("cpu.period", "cpu.max", read)?;
            let quota = before.split_whitespace().next().unwrap_or("max");
            Some(format!("{quota} {period}"))
        }
    };
    // The file is of Linux 5.14, and without it there are no bursts.
    let burst = limits.burst().map(|burst| {
        let missing = if burst == 0 { IfMissing::Skip } else { IfMissing::Fail };
        Write::new("cpu.burst", "cpu.max.burst", burst).if_missing(missing)
    });
    if let Some(bandwidth) = bandwidth {
        // The kernel refuses a burst above the quota at any moment; without one on the way, both may rise or sink.
        writes.extend(burst.clone().map(|burst| Write { value: "0".into(), ..burst }));
        let field = if quota.is_some() { "cpu.quota" } else { "cpu.period" };
        writes.push(Write::new(field, "cpu.max", bandwidth));
    }
    writes.extend(burst);
    for (field, file, list) in [("cpu.cpus", "cpuset.cpus", limits.cpus()), ("cpu.mems", "cpuset.mems", limits.mems())]
    {
        let Some(list) = list.as_ref().filter(|list| !list.is_empty()) else { continue };
        if !list.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b',' | b'-' | b' ' | b':' | b'/')) {
            return refuse(field, format!("'{}' is no list like 0-3,6", list.escape_debug()));
        }
        writes.push(Write::new(field, file, list));
    }
    Ok(())
}

/// What every cgroup has that was not told otherwise.
const DEFAULT_SHARES: u64 = 1024;

/// From 2 … 262144 with 1024 in the middle to 1 … 10000 with 100 in the middle, by the curve through these three points
/// that runc and crun came to in 2025: `log10(weight)` is quadratic in `log2(shares)`.
pub(crate) fn weight_of_shares(shares: u64) -> u64 {
    match shares {
        ..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let log = (shares as f64).log2();
            10_f64.powf((log * log + 125.0 * log) / 612.0 - 7.0 / 34.0).ceil() as u64
        }
    }
}

/// From 10 … 1000 to 1 … 10000, evenly (runc, crun).
pub(crate) fn io_weight_of(weight: u16) -> u32 {
    1 + u32::from(weight.clamp(10, 1000) - 10) * 9999 / 990
}

fn block_io(limits: &LinuxBlockIo, writes: &mut Vec<Write>) -> Result<(), Error> {
    let none = "cgroup v2 has no leaf weights";
    if limits.leaf_weight().is_some_and(|weight| weight != 0) {
        return refuse("blockIO.leafWeight", none);
    }
    // BFQ takes the spec's own range; io.weight, which iocost reads, has another.
    let weight = |field: &str, device: &str, weight: u16| match weight {
        10..=1000 => {
            let instead = IfMissing::Instead("io.weight".into(), format!("{device}{}", io_weight_of(weight)));
            Ok(Write::new(field, "io.bfq.weight", format!("{device}{weight}")).if_missing(instead))
        }
        _ => refuse(field, format!("{weight} is not between 10 and 1000")),
    };
    if let Some(all) = limits.weight().filter(|weight| *weight != 0) {
        writes.push(weight("blockIO.weight", "", all)?);
    }
    for (at, device) in limits.weight_device().iter().flatten().enumerate() {
        let field = format!("blockIO.weightDevice[{at}]");
        if device.leaf_weight().is_some_and(|weight| weight != 0) {
            return refuse(&format!("{field}.leafWeight"), none);
        }
        if let Some(own) = device.weight().filter(|weight| *weight != 0) {
            writes.push(weight(&field, &format!("{}:{} ", device.major(), device.minor()), own)?);
        }
    }
    type Throttle = Option<Vec<LinuxThrottleDevice>>;
    let throttles: [(&str, &str, &Throttle); 4] = [
        ("throttleReadBpsDevice", "rbps", limits.throttle_read_bps_device()),
        ("throttleWriteBpsDevice", "wbps", limits.throttle_write_bps_device()),
        ("throttleReadIOPSDevice", "riops", limits.throttle_read_iops_device()),
        ("throttleWriteIOPSDevice", "wiops", limits.throttle_write_iops_device()),
    ];
    for (field, key, devices) in throttles {
        for (at, device) in devices.iter().flatten().enumerate() {
            // Zero took a limit away in v1; v2 refuses it.
            let rate = if device.rate() == 0 { "max".into() } else { device.rate().to_string() };
            let value = format!("{}:{} {key}={rate}", device.major(), device.minor());
            writes.push(Write::new(&format!("blockIO.{field}[{at}]"), "io.max", value));
        }
    }
    Ok(())
}

/// Files of cgroup v2 by name; they come last, so that they have the last word.
fn unified(resources: &LinuxResources, writes: &mut Vec<Write>) -> Result<(), Error> {
    let mut files: Vec<_> = resources.unified().iter().flatten().collect();
    files.sort();
    for (file, value) in files {
        let field = format!("unified.{}", file.escape_debug());
        let is_name = file.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
        if !is_name || !file.contains('.') || file.starts_with('.') || file.contains("..") {
            return refuse(&field, "it is no name of a cgroup's file");
        }
        // cgroup.procs would take processes of others in, cgroup.freeze would keep the container from starting.
        if file.starts_with("cgroup.") && !file.starts_with("cgroup.max.") && file != "cgroup.pressure" {
            return refuse(&field, "it is no limit; the runtime itself writes to it");
        }
        if value.trim().is_empty() {
            // A write of no bytes at all has no effect; a line without a value resets some files.
            writes.push(Write::new(&field, file, "\n"));
        }
        for line in value.lines().filter(|line| !line.trim().is_empty()) {
            writes.push(Write::new(&field, file, line));
        }
    }
    Ok(())
}

fn unlimited_below_zero(limit: i64) -> String {
    if limit < 0 { "max".into() } else { limit.to_string() }
}

fn number(field: &str, file: &str, read: Read<'_>) -> Result<u64, Error> {
    let text = reading(field, file, read)?;
    text.parse().or_else(|_| refuse(field, format!("{file} says '{}'", text.escape_debug())))
}

fn reading(field: &str, file: &str, read: Read<'_>) -> Result<String, Error> {
    match read(file) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(error) => refuse(field, format!("cannot read {file} of the cgroup: {error}")),
    }
}

fn refuse<T>(field: &str, why: impl Into<String>) -> Result<T, Error> {
    Err(Error::refused(format!("linux.resources.{field}"), why))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(resources: &str) -> LinuxResources {
        serde_json::from_str(resources).expect("resources")
    }

    /// "file=value" of each write, in order.
    fn writes(resources: &str, read: Read<'_>) -> Vec<String> {
        let writes = plan(&parse(resources), read).unwrap_or_else(|error| panic!("{resources}: {error}"));
        writes.iter().map(|write| format!("{}={}", write.file, write.value)).collect()
    }

    #[test]
    fn limits_are_written_as_v2_counts_them() {
        for (resources, expected) in [
            (r#"{}"#, &[][..]),
            (r#"{"memory": {"limit": 1000, "reservation": 500}}"#, &["memory.max=1000", "memory.low=500"]),
            (r#"{"memory": {"limit": 1000, "swap": 1500}}"#, &["memory.swap.max=500", "memory.max=1000"]),
            (r#"{"memory": {"limit": 1000, "swap": 1000}}"#, &["memory.swap.max=0", "memory.max=1000"]),
            (r#"{"memory": {"limit": 1000, "swap": -1}}"#, &["memory.swap.max=max", "memory.max=1000"]),
            (r#"{"memory": {"limit": -1}}"#, &["memory.swap.max=max", "memory.max=max"]),
            (r#"{"memory": {"limit": -1, "swap": 9}}"#, &["memory.swap.max=9", "memory.max=max"]),
            (r#"{"memory": {"limit": 0, "disableOOMKiller": false, "useHierarchy": true}}"#, &[]),
            (r#"{"cpu": {"shares": 1024}}"#, &["cpu.weight=100"]),
            (r#"{"cpu": {"quota": 50000}}"#, &["cpu.max=50000"]),
            (r#"{"cpu": {"quota": -1, "period": 5000}}"#, &["cpu.max=max 5000"]),
            (r#"{"cpu": {"period": 5000}}"#, &["cpu.max=max 5000"]),
            (
                r#"{"cpu": {"quota": 50000, "period": 100000, "burst": 10000}}"#,
                &["cpu.max.burst=0", "cpu.max=50000 100000", "cpu.max.burst=10000"],
            ),
            (
                r#"{"cpu": {"idle": 1, "cpus": "0-3,6", "mems": "0"}}"#,
                &["cpu.idle=1", "cpuset.cpus=0-3,6", "cpuset.mems=0"],
            ),
            (r#"{"pids": {"limit": 7}}"#, &["pids.max=7"]),
            (r#"{"pids": {"limit": -1}}"#, &["pids.max=max"]),
            (r#"{"pids": {"limit": 0}}"#, &[]),
            (
                r#"{"blockIO": {"weight": 500, "weightDevice": [{"major": 8, "minor": 0, "weight": 1000}]}}"#,
                &["io.bfq.weight=500", "io.bfq.weight=8:0 1000"],
            ),
            (
                r#"{"blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 16, "rate": 600}],
                    "throttleWriteIOPSDevice": [{"major": 8, "minor": 16, "rate": 0}]}}"#,
                &["io.max=8:16 rbps=600", "io.max=8:16 wiops=max"],
            ),
            (
                r#"{"hugepageLimits": [{"pageSize": "2MB", "limit": 209715200}]}"#,
                &["hugetlb.2MB.max=209715200", "hugetlb.2MB.rsvd.max=209715200"],
            ),
            (
                r#"{"rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10000}, "mlx4_0": {"hcaObjects": 1}}}"#,
                &["rdma.max=mlx4_0 hca_object=1", "rdma.max=mlx5_1 hca_handle=3 hca_object=10000"],
            ),
            (
                r#"{"memory": {"limit": 1000}, "unified": {"memory.high": "900", "io.max": "8:0 rbps=1\n8:16 rbps=2\n"}}"#,
                &["memory.max=1000", "io.max=8:0 rbps=1", "io.max=8:16 rbps=2", "memory.high=900"],
            ),
            (r#"{"unified": {"cpuset.cpus": ""}}"#, &["cpuset.cpus=\n"]),
            (r#"{"network": {}}"#, &[]),
        ] {
            assert_eq!(writes(resources, &of_new), expected, "{resources}");
        }
    }

    #[test]
    fn an_update_keeps_the_other_half() {
        let read: Read<'_> = &|file| match file {
            "memory.max" => Ok("1000\n".into()),
            "cpu.max" => Ok("20000 100000\n".into()),
            "memory.current" => Ok("800\n".into()),
            _ => Err(io::ErrorKind::NotFound.into()),
        };
        assert_eq!(writes(r#"{"memory": {"swap": 1700}}"#, read), ["memory.swap.max=700"]);
        assert_eq!(writes(r#"{"cpu": {"period": 50000}}"#, read), ["cpu.max=20000 50000"]);
        let check = r#"{"memory": {"limit": 801, "checkBeforeUpdate": true}}"#;
        assert_eq!(writes(check, read), ["memory.max=801"]);
        let below = parse(r#"{"memory": {"limit": 800, "checkBeforeUpdate": true}}"#);
        let error = plan(&below, read).expect_err("it is in use").to_string();
        assert_eq!(error, "config: linux.resources.memory.limit: 800 bytes are in use already");
    }

    #[test]
    fn what_v2_does_not_have_is_refused_by_name() {
        for (resources, field) in [
            (r#"{"memory": {"kernel": 5}}"#, "memory.kernel"),
            (r#"{"memory": {"kernelTCP": 5}}"#, "memory.kernelTCP"),
            (r#"{"memory": {"swappiness": 0}}"#, "memory.swappiness"),
            (r#"{"memory": {"disableOOMKiller": true}}"#, "memory.disableOOMKiller"),
            (r#"{"memory": {"useHierarchy": false}}"#, "memory.useHierarchy"),
            (r#"{"memory": {"swap": 5}}"#, "memory.swap"),
            (r#"{"memory": {"swap": 5, "limit": 6}}"#, "memory.swap"),
            (r#"{"cpu": {"realtimeRuntime": 5}}"#, "cpu.realtimeRuntime"),
            (r#"{"cpu": {"idle": 2}}"#, "cpu.idle"),
            (r#"{"cpu": {"cpus": "0\n1"}}"#, "cpu.cpus"),
            (r#"{"blockIO": {"leafWeight": 50}}"#, "blockIO.leafWeight"),
            (r#"{"blockIO": {"weight": 9}}"#, "blockIO.weight"),
            (r#"{"blockIO": {"weightDevice": [{"major": 1, "minor": 1, "weight": 1001}]}}"#, "blockIO.weightDevice[0]"),
            (r#"{"hugepageLimits": [{"pageSize": "../2MB", "limit": 1}]}"#, "hugepageLimits[0].pageSize"),
            (r#"{"rdma": {"a b": {"hcaHandles": 3}}}"#, "rdma"),
            (r#"{"network": {"classID": 1048577}}"#, "network"),
            (r#"{"network": {"priorities": [{"name": "lo", "priority": 1}]}}"#, "network"),
            (r#"{"unified": {"../memory.max": "1"}}"#, "unified.../memory.max"),
            (r#"{"unified": {"a/b": "1"}}"#, "unified.a/b"),
            (r#"{"unified": {"": "1"}}"#, "unified."),
            (r#"{"unified": {"..": "1"}}"#, "unified..."),
            (r#"{"unified": {"cgroup.procs": "1"}}"#, "unified.cgroup.procs"),
        ] {
            let error = plan(&parse(resources), &of_new).expect_err(resources);
            let Error::Refused { field: refused, .. } = error else { panic!("{resources}: {error}") };
            assert_eq!(refused, format!("linux.resources.{field}"));
        }
    }

    #[test]
    fn the_default_weight_needs_no_controller() {
        let missing = |shares: u64| {
            let limits = parse(&format!(r#"{{"cpu": {{"shares": {shares}}}}}"#));
            plan(&limits, &of_new).expect("a plan")[0].missing.clone()
        };
        assert_eq!([1023, 1024].map(missing), [IfMissing::Fail, IfMissing::Skip]);
    }

    #[test]
    fn shares_and_weights_meet_at_both_ends_and_in_the_middle() {
        let converted = [1, 2, 1024, 262_144, u64::MAX].map(weight_of_shares);
        assert_eq!(converted, [1, 1, 100, 10_000, 10_000]);
        assert!((2..262_144).step_by(97).all(|shares| weight_of_shares(shares) <= weight_of_shares(shares + 97)));
        let instead = |weight: u16| {
            let limits = parse(&format!(r#"{{"blockIO": {{"weight": {weight}}}}}"#));
            match &plan(&limits, &of_new).expect("a plan")[0].missing {
                IfMissing::Instead(file, value) => format!("{file}={value}"),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!([10, 1000].map(instead), ["io.weight=1", "io.weight=10000"]);
    }
}
