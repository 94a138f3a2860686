//! What a container as a whole may use.

use clap::Args;
use rbox_container::settings::{Amount, CgroupConf, CgroupManager, CgroupWish, Cgroups, Cpus, DeviceRate, Resources};

use crate::failure::Failure;

/// Limits, which can be changed later too.
#[derive(Debug, Default, Args)]
pub(in crate::commands) struct ResourceFlags {
    /// The memory that it may use, with b, k, m or g; -1 for no limit
    #[arg(short, long, value_name = "SIZE", allow_hyphen_values = true)]
    memory: Option<Amount>,

    /// Memory and swap together, likewise [default: twice --memory]
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    memory_swap: Option<Amount>,

    /// The memory that is left to it when others need some, likewise
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    memory_reservation: Option<Amount>,

    /// How many processors it may use at a time: 0.5, 2
    #[arg(long, value_name = "NUMBER")]
    cpus: Option<Cpus>,

    /// The length of the periods that --cpu-quota is counted in, in microseconds
    #[arg(long, value_name = "MICROSECONDS", value_parser = clap::value_parser!(u64).range(1000..=1_000_000))]
    cpu_period: Option<u64>,

    /// The processor time that it may use in each period, in microseconds; -1 for no limit
    #[arg(long, value_name = "MICROSECONDS", allow_hyphen_values = true, value_parser = parse_quota)]
    cpu_quota: Option<i64>,

    /// Its share of processors that others want too, from 2 to 262144; 1024 is what all have
    #[arg(short, long, value_name = "SHARES", value_parser = clap::value_parser!(u64).range(2..=262_144))]
    cpu_shares: Option<u64>,

    /// The same as the kernel counts it, from 1 to 10000; 100 is what all have
    #[arg(long, value_name = "WEIGHT", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    cpu_weight: Option<u64>,

    /// The processors that it may use: 0-2,7
    #[arg(long, value_name = "CPUS")]
    cpuset_cpus: Option<String>,

    /// The memory nodes that it may use
    #[arg(long, value_name = "NODES")]
    cpuset_mems: Option<String>,

    /// How many processes and threads it may have; -1 or 0 for no limit
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pids_limit: Option<i64>,

    /// Its share of block devices that others use too, from 10 to 1000
    #[arg(long, value_name = "WEIGHT", value_parser = clap::value_parser!(u16).range(10..=1000))]
    blkio_weight: Option<u16>,

    /// The same of one device
    #[arg(long, value_name = "DEVICE:WEIGHT", value_parser = DeviceRate::weight)]
    blkio_weight_device: Vec<DeviceRate>,

    /// What it may read from a device in a second, with b, k, m or g: /dev/sda:10m
    #[arg(long, value_name = "DEVICE:SIZE", value_parser = DeviceRate::bytes)]
    device_read_bps: Vec<DeviceRate>,

    /// What it may write to a device in a second
    #[arg(long, value_name = "DEVICE:SIZE", value_parser = DeviceRate::bytes)]
    device_write_bps: Vec<DeviceRate>,

    /// How often it may read from a device in a second
    #[arg(long, value_name = "DEVICE:NUMBER", value_parser = DeviceRate::operations)]
    device_read_iops: Vec<DeviceRate>,

    /// How often it may write to a device in a second
    #[arg(long, value_name = "DEVICE:NUMBER", value_parser = DeviceRate::operations)]
    device_write_iops: Vec<DeviceRate>,

    /// Write a value to a file of its cgroup: memory.high=1073741824
    #[arg(long, value_name = "FILE=VALUE")]
    cgroup_conf: Vec<CgroupConf>,

    #[command(flatten)]
    lost: LostFlags,
}

/// What cgroup v1 had, or only root may have. They are known, so that what is said of them is not that they are misspelt.
#[derive(Debug, Default, Args)]
struct LostFlags {
    #[arg(long, hide = true, allow_hyphen_values = true, value_name = "NUMBER")]
    memory_swappiness: Option<String>,

    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    oom_kill_disable: Option<String>,

    #[arg(long, hide = true, value_name = "SIZE")]
    kernel_memory: Option<String>,

    #[arg(long, hide = true, value_name = "MICROSECONDS")]
    cpu_rt_period: Option<String>,

    #[arg(long, hide = true, value_name = "MICROSECONDS")]
    cpu_rt_runtime: Option<String>,

    #[arg(long, hide = true, value_name = "RULE")]
    device_cgroup_rule: Vec<String>,
}

/// Where the limits are enforced.
#[derive(Debug, Default, Args)]
pub(super) struct CgroupFlags {
    /// Whether it gets a cgroup of its own where it can: enabled, disabled
    #[arg(long, value_name = "WHETHER", default_value = "enabled", hide_default_value = true)]
    cgroups: Cgroups,

    /// What its cgroup is in: a slice of systemd's (a-b.slice), or a path below the mount of cgroups
    #[arg(long, value_name = "PARENT")]
    cgroup_parent: Option<String>,

    /// Who makes its cgroup: systemd (as a scope), or cgroupfs (rbox itself) [default: rbox where it may, else systemd]
    #[arg(long, value_name = "MANAGER")]
    cgroup_manager: Option<CgroupManager>,

    /// Go on without those limits that cannot be had, and say which
    #[arg(long)]
    best_effort_limits: bool,
}

impl ResourceFlags {
    pub(in crate::commands) fn take(self) -> Result<Resources, Failure> {
        self.lost.refuse()?;
        Ok(Resources {
            memory: self.memory,
            memory_swap: self.memory_swap,
            memory_reservation: self.memory_reservation,
            cpus: self.cpus,
            cpu_period: self.cpu_period,
            cpu_quota: self.cpu_quota,
            cpu_shares: self.cpu_shares,
            cpu_weight: self.cpu_weight,
            cpuset_cpus: self.cpuset_cpus,
            cpuset_mems: self.cpuset_mems,
            pids_limit: self.pids_limit,
            blkio_weight: self.blkio_weight,
            blkio_weight_devices: self.blkio_weight_device,
            read_bps: self.device_read_bps,
            write_bps: self.device_write_bps,
            read_iops: self.device_read_iops,
            write_iops: self.device_write_iops,
            unified: self.cgroup_conf.into_iter().map(|CgroupConf(file, value)| (file, value)).collect(),
        })
    }
}

impl LostFlags {
    fn refuse(&self) -> Result<(), Failure> {
        const IN_MEMORY: &str = "cgroup v2 counts the kernel's memory within --memory";
        const REALTIME: &str = "cgroup v2 has no limits of realtime";
        let refused = [
            ("--memory-swappiness", self.memory_swappiness.is_some(), "cgroup v2 has no swappiness"),
            ("--oom-kill-disable", self.oom_kill_disable.is_some(), "cgroup v2 cannot go without it"),
            ("--kernel-memory", self.kernel_memory.is_some(), IN_MEMORY),
            ("--cpu-rt-period", self.cpu_rt_period.is_some(), REALTIME),
            ("--cpu-rt-runtime", self.cpu_rt_runtime.is_some(), REALTIME),
            (
                "--device-cgroup-rule",
                !self.device_cgroup_rule.is_empty(),
                "a container has the devices that --device gives it, and in its user namespace no others can be made",
            ),
        ];
        match refused.into_iter().find(|(_, given, _)| *given) {
            Some((flag, _, why)) => Err(Failure::new(format!("{flag}: {why}"))),
            None => Ok(()),
        }
    }
}

impl CgroupFlags {
    pub(super) fn take(self) -> CgroupWish {
        CgroupWish {
            parent: self.cgroup_parent.filter(|parent| !parent.is_empty()),
            manager: self.cgroup_manager,
            disabled: self.cgroups == Cgroups::Disabled,
            best_effort: self.best_effort_limits,
        }
    }
}

/// No less than the kernel takes.
fn parse_quota(text: &str) -> Result<i64, String> {
    match text.parse() {
        Ok(quota @ (-1 | 1000..)) => Ok(quota),
        _ => Err("expected -1, or 1000 and more".into()),
    }
}
