//! `--memory`, `--cpus`, `--pids-limit` and their like: what a container as a whole may use, which its cgroup enforces.
//!
//! Words and units are Docker's and Podman's. What they come to is the runtime spec's `linux.resources`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use oci_spec::OciSpecError;
use oci_spec::runtime::{
    LinuxBlockIoBuilder, LinuxCpuBuilder, LinuxMemoryBuilder, LinuxPidsBuilder, LinuxResources, LinuxResourcesBuilder,
    LinuxThrottleDevice, LinuxThrottleDeviceBuilder, LinuxWeightDeviceBuilder,
};
use serde::{Deserialize, Serialize};

use super::ByteSize;

/// What all processes of a container together may use; what is not said is not limited.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Amount>,
    /// Bytes of memory and swap together; where it is not said, twice the memory (Docker, Podman).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_swap: Option<Amount>,
    /// Bytes that are left to it when others need some.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_reservation: Option<Amount>,
    /// Processors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<Cpus>,
    /// Microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_period: Option<u64>,
    /// Microseconds in each period; below zero: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_quota: Option<i64>,
    /// From 2 to 262144, 1024 being usual.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_shares: Option<u64>,
    /// The same as cgroup v2 counts: from 1 to 10000, 100 being usual.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_weight: Option<u64>,
    /// `0-2,7`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpuset_cpus: Option<String>,
    /// Likewise, of memory nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpuset_mems: Option<String>,
    /// Processes and threads; 0 and below: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids_limit: Option<i64>,
    /// From 10 to 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blkio_weight: Option<u16>,
    /// Likewise, for single devices.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub blkio_weight_devices: Vec<DeviceRate>,
    /// Bytes a second.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub read_bps: Vec<DeviceRate>,
    /// Likewise.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub write_bps: Vec<DeviceRate>,
    /// Operations a second.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub read_iops: Vec<DeviceRate>,
    /// Likewise.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub write_iops: Vec<DeviceRate>,
    /// Files of cgroup v2 and what is written to them, after all else.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub unified: BTreeMap<String, String>,
}

/// A number of bytes, or -1 for no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount(pub i64);

/// A number of processors, in hundred-thousandths: what may be used in a period of 100 ms, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cpus(pub u32);

/// `DEVICE:NUMBER`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRate {
    /// The block device's node.
    pub device: PathBuf,
    /// How much.
    pub rate: u64,
}

/// `NAME=VALUE` of `--cgroup-conf`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupConf(pub String, pub String);

/// Where a container's cgroup is, and who makes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CgroupWish {
    /// A slice of systemd's, or a path below the mount of cgroups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// None: whoever can.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manager: Option<CgroupManager>,
    /// It gets none.
    #[serde(skip_serializing_if = "super::is_default")]
    pub disabled: bool,
    /// A limit that cannot be had is said, and is no reason to fail.
    #[serde(skip_serializing_if = "super::is_default")]
    pub best_effort: bool,
}

/// Who makes cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CgroupManager {
    /// systemd, as scopes.
    Systemd,
    /// rbox itself, as directories.
    Cgroupfs,
}

/// `--cgroups`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cgroups {
    /// Where one is needed, or costs nothing.
    #[default]
    Enabled,
    /// None.
    Disabled,
}

/// The kernel's period where none is said, in microseconds.
const PERIOD: u64 = 100_000;

impl Resources {
    /// Whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Changes what `changes` names; the rest stays.
    pub fn change(&mut self, changes: &Self) {
        fn over<T: Clone>(old: &mut Option<T>, new: &Option<T>) {
            if new.is_some() {
                old.clone_from(new);
            }
        }
        let Self { memory, memory_swap, memory_reservation, cpus, .. } = changes;
        over(&mut self.memory, memory);
        over(&mut self.memory_swap, memory_swap);
        over(&mut self.memory_reservation, memory_reservation);
        // Two ways to say one thing each: the later one counts.
        if cpus.is_some() {
            (self.cpu_period, self.cpu_quota) = (None, None);
        }
        if let (Some(before), true) = (self.cpus, changes.cpu_period.is_some() || changes.cpu_quota.is_some()) {
            (self.cpus, self.cpu_quota) = (None, Some(before.0.into()));
        }
        if changes.cpu_shares.is_some() || changes.cpu_weight.is_some() {
            (self.cpu_shares, self.cpu_weight) = (None, None);
        }
        over(&mut self.cpus, cpus);
        over(&mut self.cpu_period, &changes.cpu_period);
        over(&mut self.cpu_quota, &changes.cpu_quota);
        over(&mut self.cpu_shares, &changes.cpu_shares);
        over(&mut self.cpu_weight, &changes.cpu_weight);
        over(&mut self.cpuset_cpus, &changes.cpuset_cpus);
        over(&mut self.cpuset_mems, &changes.cpuset_mems);
        over(&mut self.pids_limit, &changes.pids_limit);
        over(&mut self.blkio_weight, &changes.blkio_weight);
        for (old, new) in [
            (&mut self.blkio_weight_devices, &changes.blkio_weight_devices),
            (&mut self.read_bps, &changes.read_bps),
            (&mut self.write_bps, &changes.write_bps),
            (&mut self.read_iops, &changes.read_iops),
            (&mut self.write_iops, &changes.write_iops),
        ] {
            old.retain(|rate| !new.iter().any(|other| other.device == rate.device));
            old.extend(new.iter().cloned());
        }
        self.unified.extend(changes.unified.clone());
    }

    /// Refuses what contradicts itself, as Docker and Podman do.
    pub fn check(&self) -> Result<(), String> {
        if self.cpus.is_some() && self.cpu_quota.is_some() {
            return Err("--cpus and --cpu-quota say the same thing twice".into());
        }
        if self.cpus.is_some() && self.cpu_period.is_some() {
            return Err("--cpus and --cpu-period say the same thing twice".into());
        }
        if self.cpu_shares.is_some() && self.cpu_weight.is_some() {
            return Err("--cpu-shares and --cpu-weight say the same thing twice".into());
        }
        let limit = |amount: Option<Amount>| amount.map(|amount| amount.0).filter(|amount| *amount > 0);
        match (limit(self.memory), limit(self.memory_swap)) {
            (Some(memory), Some(both)) if both < memory => {
                return Err("--memory-swap is memory and swap together, and so cannot be less than --memory".into());
            }
            (None, Some(_)) => return Err("--memory-swap needs --memory besides".into()),
            _ => {}
        }
        match (limit(self.memory), limit(self.memory_reservation)) {
            (Some(memory), Some(kept)) if memory < kept => {
                Err("--memory-reservation cannot be more than --memory".into())
            }
            _ => Ok(()),
        }
    }

    /// As the runtime spec has it. `numbers` gives the numbers of a device's node.
    pub(crate) fn spec<E>(
        &self,
        numbers: impl Fn(&Path) -> Result<(u32, u32), E>,
    ) -> Result<Result<LinuxResources, OciSpecError>, E> {
        let throttle = |rates: &[DeviceRate]| -> Result<Vec<LinuxThrottleDevice>, E> {
            let mut throttles = Vec::new();
            for DeviceRate { device, rate } in rates {
                let (major, minor) = numbers(device)?;
                let throttle = LinuxThrottleDeviceBuilder::default().major(major).minor(minor).rate(*rate).build();
                throttles.extend(throttle);
            }
            Ok(throttles)
        };
        let mut weights = Vec::new();
        for DeviceRate { device, rate } in &self.blkio_weight_devices {
            let (major, minor) = numbers(device)?;
            let weight = LinuxWeightDeviceBuilder::default().major(major).minor(minor);
            weights.extend(weight.weight(u16::try_from(*rate).unwrap_or(u16::MAX)).build());
        }
        let [read_bps, write_bps] = [throttle(&self.read_bps)?, throttle(&self.write_bps)?];
        let [read_iops, write_iops] = [throttle(&self.read_iops)?, throttle(&self.write_iops)?];
        Ok(self.build(weights, [read_bps, write_bps, read_iops, write_iops]))
    }

    fn build(
        &self,
        weights: Vec<oci_spec::runtime::LinuxWeightDevice>,
        [read_bps, write_bps, read_iops, write_iops]: [Vec<LinuxThrottleDevice>; 4],
    ) -> Result<LinuxResources, OciSpecError> {
        let mut all = LinuxResourcesBuilder::default();
        if self.memory.is_some() || self.memory_swap.is_some() || self.memory_reservation.is_some() {
            let mut memory = LinuxMemoryBuilder::default();
            if let Some(limit) = self.memory {
                memory = memory.limit(limit.0);
            }
            if let Some(swap) = self.swap() {
                memory = memory.swap(swap);
            }
            if let Some(reservation) = self.memory_reservation {
                memory = memory.reservation(reservation.0);
            }
            all = all.memory(memory.build()?);
        }
        let (period, quota) = match self.cpus {
            Some(cpus) => (Some(PERIOD), Some(cpus.0.into())),
            None => (self.cpu_period, self.cpu_quota),
        };
        let sets = [&self.cpuset_cpus, &self.cpuset_mems];
        if period.is_some() || quota.is_some() || self.cpu_shares.is_some() || sets.iter().any(|set| set.is_some()) {
            let mut cpu = LinuxCpuBuilder::default();
            if let Some(period) = period {
                cpu = cpu.period(period);
            }
            if let Some(quota) = quota {
                cpu = cpu.quota(quota);
            }
            if let Some(shares) = self.cpu_shares {
                cpu = cpu.shares(shares);
            }
            if let Some(cpus) = &self.cpuset_cpus {
                cpu = cpu.cpus(cpus.clone());
            }
            if let Some(mems) = &self.cpuset_mems {
                cpu = cpu.mems(mems.clone());
            }
            all = all.cpu(cpu.build()?);
        }
        if let Some(limit) = self.pids_limit {
            // The spec's zero is "not said".
            all = all.pids(LinuxPidsBuilder::default().limit(if limit == 0 { -1 } else { limit }).build()?);
        }
        let throttles = [&read_bps, &write_bps, &read_iops, &write_iops];
        if self.blkio_weight.is_some() || !weights.is_empty() || throttles.iter().any(|rates| !rates.is_empty()) {
            let mut block = LinuxBlockIoBuilder::default();
            if let Some(weight) = self.blkio_weight {
                block = block.weight(weight);
            }
            block = block.weight_device(weights).throttle_read_bps_device(read_bps);
            block = block.throttle_write_bps_device(write_bps).throttle_read_iops_device(read_iops);
            all = all.block_io(block.throttle_write_iops_device(write_iops).build()?);
        }
        let mut unified = self.unified.clone();
        if let Some(weight) = self.cpu_weight {
            unified.entry("cpu.weight".into()).or_insert_with(|| weight.to_string());
        }
        if !unified.is_empty() {
            all = all.unified(unified.into_iter().collect::<std::collections::HashMap<_, _>>());
        }
        let mut all = all.build()?;
        // The type's default has device rules, for which a user namespace has no use.
        all.set_devices(None);
        Ok(all)
    }

    /// Memory and swap together.
    pub fn swap(&self) -> Option<i64> {
        let twice = |memory: Amount| if memory.0 > 0 { memory.0.saturating_mul(2) } else { memory.0 };
        self.memory_swap.map(|swap| swap.0).or_else(|| self.memory.map(twice))
    }

    /// The flag that asks for this field of `linux.resources`.
    pub(crate) fn flag_of(&self, field: &str) -> String {
        let field = field.strip_prefix("linux.resources.").unwrap_or(field);
        let flag = match field.split('[').next().unwrap_or(field) {
            "memory.limit" => "--memory",
            "memory.swap" if self.memory_swap.is_none() => "--memory",
            "memory.swap" => "--memory-swap",
            "memory.reservation" => "--memory-reservation",
            "cpu.quota" | "cpu.period" if self.cpus.is_some() => "--cpus",
            "cpu.quota" => "--cpu-quota",
            "cpu.period" => "--cpu-period",
            "cpu.shares" => "--cpu-shares",
            "unified.cpu.weight" if self.cpu_weight.is_some() => "--cpu-weight",
            "cpu.cpus" => "--cpuset-cpus",
            "cpu.mems" => "--cpuset-mems",
            "pids.limit" => "--pids-limit",
            "blockIO.weight" => "--blkio-weight",
            "blockIO.weightDevice" => "--blkio-weight-device",
            "blockIO.throttleReadBpsDevice" => "--device-read-bps",
            "blockIO.throttleWriteBpsDevice" => "--device-write-bps",
            "blockIO.throttleReadIOPSDevice" => "--device-read-iops",
            "blockIO.throttleWriteIOPSDevice" => "--device-write-iops",
            other => {
                return other
                    .strip_prefix("unified.")
                    .map_or_else(|| other.into(), |file| format!("--cgroup-conf {file}"));
            }
        };
        flag.into()
    }
}

/// As `--memory` has it: -1 is no limit.
impl FromStr for Amount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "-1" {
            return Ok(Self(-1));
        }
        let ByteSize(bytes) = text.parse()?;
        i64::try_from(bytes).map(Self).map_err(|_| format!("{text:?} is too much"))
    }
}

impl FromStr for Cpus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no number of processors, such as 0.5 or 2");
        let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let cpus: f64 = text.parse().ok().filter(|_| plain).ok_or_else(wrong)?;
        let micros = (cpus * PERIOD as f64).round();
        // cpu.max takes no less than a millisecond (cgroup-v2.rst, and kernel/sched/core.c).
        if micros < 1000.0 {
            return Err(format!("{text:?} is too few: the kernel counts no less than 0.01 of a processor"));
        }
        if micros > f64::from(u32::MAX) { Err(wrong()) } else { Ok(Self(micros as u32)) }
    }
}

impl DeviceRate {
    fn parse(text: &str, rate: impl Fn(&str) -> Result<u64, String>) -> Result<Self, String> {
        match text.rsplit_once(':') {
            Some((device, number)) if device.starts_with("/dev/") => {
                Ok(Self { device: device.into(), rate: rate(number)? })
            }
            _ => Err("expected the path of a device in /dev, a colon and a number".into()),
        }
    }

    /// `/dev/sda:10mb`: bytes a second.
    pub fn bytes(text: &str) -> Result<Self, String> {
        Self::parse(text, |number| number.parse::<ByteSize>().map(|bytes| bytes.0))
    }

    /// `/dev/sda:1000`: operations a second.
    pub fn operations(text: &str) -> Result<Self, String> {
        Self::parse(text, |number| number.parse().map_err(|_| format!("{number:?} is no number of operations")))
    }

    /// `/dev/sda:500`: a weight.
    pub fn weight(text: &str) -> Result<Self, String> {
        let in_range = |weight: &u64| (10..=1000).contains(weight);
        let weight = |number: &str| number.parse().ok().filter(in_range);
        Self::parse(text, |number| weight(number).ok_or_else(|| format!("{number:?} is no weight from 10 to 1000")))
    }
}

impl FromStr for CgroupConf {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((file, value)) if !file.is_empty() => Ok(Self(file.into(), value.into())),
            _ => Err("expected FILE=VALUE, as in memory.high=1073741824".into()),
        }
    }
}

impl FromStr for Cgroups {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "enabled" => Ok(Self::Enabled),
            "disabled" => Ok(Self::Disabled),
            _ => Err("expected enabled or disabled".into()),
        }
    }
}

impl FromStr for CgroupManager {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "systemd" => Ok(Self::Systemd),
            "cgroupfs" => Ok(Self::Cgroupfs),
            _ => Err("expected systemd or cgroupfs".into()),
        }
    }
}

impl fmt::Display for CgroupManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Systemd => "systemd",
            Self::Cgroupfs => "cgroupfs",
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn spec(resources: &Resources) -> Value {
        let numbers = |device: &Path| match device.to_str() {
            Some("/dev/sda") => Ok((8, 0)),
            _ => Err(()),
        };
        let spec = resources.spec(numbers).expect("a device").expect("a spec");
        serde_json::to_value(spec).expect("serialized")
    }

    #[test]
    fn numbers() {
        for (text, amount) in [("-1", -1), ("0", 0), ("100m", 100 << 20), ("1.5g", 3 << 29), ("65536", 65536)] {
            assert_eq!(text.parse(), Ok(Amount(amount)), "{text}");
        }
        for (text, micros) in [("0.5", 50_000), ("2", 200_000), ("0.01", 1000), (".25", 25_000), ("1.000005", 100_001)]
        {
            assert_eq!(text.parse(), Ok(Cpus(micros)), "{text}");
        }
        for wrong in ["", "0", "0.001", "-1", "1e3", "inf", "nan", "1,5", "+1", "99999999"] {
            wrong.parse::<Cpus>().expect_err(wrong);
        }
        for wrong in ["", "-2", "1x", "99999999999999999999"] {
            wrong.parse::<Amount>().expect_err(wrong);
        }
        let rate = |rate| Ok(DeviceRate { device: "/dev/sda".into(), rate });
        assert_eq!(DeviceRate::bytes("/dev/sda:1mb"), rate(1 << 20));
        assert_eq!(DeviceRate::operations("/dev/sda:1000"), rate(1000));
        assert_eq!(DeviceRate::weight("/dev/sda:10"), rate(10));
        for wrong in ["/dev/sda", "sda:1", "/etc/x:1", "/dev/sda:", "/dev/sda:-1", "/dev/sda:x"] {
            DeviceRate::bytes(wrong).expect_err(wrong);
            DeviceRate::operations(wrong).expect_err(wrong);
        }
        DeviceRate::weight("/dev/sda:9").expect_err("too little");
        assert_eq!("io.max=8:0 rbps=1".parse(), Ok(CgroupConf("io.max".into(), "8:0 rbps=1".into())));
        for wrong in ["", "=", "=1", "memory.high"] {
            wrong.parse::<CgroupConf>().expect_err(wrong);
        }
    }

    /// Podman's figures, by `podman create` and its config.json.
    #[test]
    fn what_they_come_to_in_a_spec() {
        let rates = |rate| vec![DeviceRate { device: "/dev/sda".into(), rate }];
        for (resources, expected) in [
            (Resources::default(), json!({})),
            (
                Resources { memory: Some(Amount(100 << 20)), ..Resources::default() },
                json!({"memory": {"limit": 104_857_600, "swap": 209_715_200}}),
            ),
            (
                Resources { memory: Some(Amount(1000)), memory_swap: Some(Amount(-1)), ..Resources::default() },
                json!({"memory": {"limit": 1000, "swap": -1}}),
            ),
            (
                Resources { memory_reservation: Some(Amount(500)), ..Resources::default() },
                json!({"memory": {"reservation": 500}}),
            ),
            (
                Resources { cpus: Some(Cpus(50_000)), ..Resources::default() },
                json!({"cpu": {"quota": 50_000, "period": 100_000}}),
            ),
            (
                Resources { cpu_quota: Some(7000), cpu_shares: Some(512), ..Resources::default() },
                json!({"cpu": {"quota": 7000, "shares": 512}}),
            ),
            (
                Resources { cpuset_cpus: Some("0-1".into()), cpuset_mems: Some("0".into()), ..Resources::default() },
                json!({"cpu": {"cpus": "0-1", "mems": "0"}}),
            ),
            (Resources { pids_limit: Some(100), ..Resources::default() }, json!({"pids": {"limit": 100}})),
            (Resources { pids_limit: Some(0), ..Resources::default() }, json!({"pids": {"limit": -1}})),
            (Resources { cpu_weight: Some(50), ..Resources::default() }, json!({"unified": {"cpu.weight": "50"}})),
        ] {
            assert_eq!(spec(&resources), expected, "{resources:?}");
        }
        let block = Resources {
            blkio_weight: Some(300),
            blkio_weight_devices: rates(500),
            read_bps: rates(1),
            write_iops: rates(2),
            ..Resources::default()
        };
        let block = &spec(&block)["blockIO"];
        assert_eq!(block["weight"], 300);
        assert_eq!(block["weightDevice"][0]["weight"], 500);
        assert_eq!(block["throttleReadBpsDevice"], json!([{"major": 8, "minor": 0, "rate": 1}]));
        assert_eq!(block["throttleWriteIOPSDevice"], json!([{"major": 8, "minor": 0, "rate": 2}]));
        let elsewhere = vec![DeviceRate { device: "/dev/none".into(), rate: 1 }];
        assert!(Resources { read_bps: elsewhere, ..Resources::default() }.spec(|_| Err(())).is_err());
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let memory = Some(Amount(1000));
        for (resources, words) in [
            (Resources { cpus: Some(Cpus(1000)), cpu_quota: Some(1), ..Resources::default() }, "--cpu-quota"),
            (Resources { cpus: Some(Cpus(1000)), cpu_period: Some(1), ..Resources::default() }, "--cpu-period"),
            (Resources { cpu_shares: Some(2), cpu_weight: Some(1), ..Resources::default() }, "--cpu-weight"),
            (Resources { memory, memory_swap: Some(Amount(999)), ..Resources::default() }, "less than --memory"),
            (Resources { memory_swap: Some(Amount(999)), ..Resources::default() }, "needs --memory"),
            (Resources { memory, memory_reservation: Some(Amount(1001)), ..Resources::default() }, "more than"),
        ] {
            let refused = resources.check().expect_err("a contradiction");
            assert!(refused.contains(words), "{refused}");
        }
        Resources { memory, memory_swap: Some(Amount(-1)), ..Resources::default() }.check().expect("no contradiction");
    }

    #[test]
    fn a_change_keeps_the_rest() {
        let rate = |device: &str, rate| DeviceRate { device: device.into(), rate };
        let mut all = Resources {
            memory: Some(Amount(1)),
            cpus: Some(Cpus(50_000)),
            cpu_shares: Some(3),
            read_bps: vec![rate("/dev/a", 1), rate("/dev/b", 2)],
            ..Resources::default()
        };
        all.change(&Resources {
            pids_limit: Some(5),
            cpu_period: Some(50_000),
            cpu_weight: Some(7),
            read_bps: vec![rate("/dev/a", 3)],
            ..Resources::default()
        });
        let expected = Resources {
            memory: Some(Amount(1)),
            pids_limit: Some(5),
            cpu_quota: Some(50_000),
            cpu_period: Some(50_000),
            cpu_weight: Some(7),
            read_bps: vec![rate("/dev/b", 2), rate("/dev/a", 3)],
            ..Resources::default()
        };
        assert_eq!(all, expected);
        all.change(&Resources { cpus: Some(Cpus(2000)), ..Resources::default() });
        assert_eq!((all.cpus, all.cpu_period, all.cpu_quota), (Some(Cpus(2000)), None, None));
        all.check().expect("no contradiction");
    }
}
