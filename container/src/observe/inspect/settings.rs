//! A container's settings, under the names and in the places where Docker shows them; what only Podman has, where that one
//! does.

use std::num::NonZeroU32;

use serde_json::{Map, Value, json};

use crate::settings::{Amount, CgroupWish, DeviceRate, Dns, EgressLog, Limits, Resources, Settings, Stop, Ulimit};

impl Settings {
    /// For `Config`.
    pub(crate) fn in_config(&self) -> Map<String, Value> {
        let mut fields = map(json!({
            "Labels": self.labels,
            "Annotations": self.annotations,
            "StopSignal": self.stop.signal.as_ref().map_or("SIGTERM", |signal| signal.as_str()),
            "StopTimeout": self.stop.timeout.unwrap_or(Stop::TIMEOUT),
            "Timeout": self.stop.lifetime.map_or(0, NonZeroU32::get),
            "Umask": self.limits.umask.map_or_else(|| "0022".into(), |mask| mask.to_string()),
        }));
        if let Some(check) = &self.health {
            fields.insert("Healthcheck".into(), json!(check));
            fields.insert("HealthcheckOnFailureAction".into(), json!(self.on_unhealthy.word()));
        }
        fields.extend(self.timezone.as_ref().map(|zone| ("Timezone".into(), json!(zone))));
        fields
    }

    /// For `HostConfig`.
    pub(crate) fn in_host_config(&self) -> Map<String, Value> {
        let Limits { ulimits, oom_score_adj, shm_size, sysctls, .. } = &self.limits;
        let resolver = &self.resolver;
        let servers = resolver.servers.iter().map(|server| match server {
            Dns::None => "none".to_owned(),
            Dns::Server(address) => address.to_string(),
        });
        let hosts = resolver.hosts.iter().map(|host| format!("{}:{}", host.names.join(";"), host.address));
        map(json!({
            "IpcMode": self.sharing.ipc.to_string(),
            "PidMode": self.sharing.pid.to_string(),
            "UTSMode": self.sharing.uts.to_string(),
            "UsernsMode": self.sharing.userns.mode(),
            "Ulimits": ulimits.iter().filter_map(ulimit).collect::<Vec<_>>(),
            "ShmSize": shm_size.map_or(64 << 20, |size| size.0),
            "OomScoreAdj": oom_score_adj.unwrap_or(0),
            "Sysctls": sysctls,
            "Devices": self.devices.iter().map(|device| json!({
                "PathOnHost": device.source,
                "PathInContainer": device.destination,
                "CgroupPermissions": device.permissions,
            })).collect::<Vec<_>>(),
            "GroupAdd": self.groups,
            "ExtraHosts": hosts.collect::<Vec<_>>(),
            "Dns": servers.collect::<Vec<_>>(),
            "DnsSearch": resolver.search,
            "DnsOptions": resolver.options,
            "Annotations": self.annotations,
            "Egress": self.egress.options.iter().chain(&self.egress.files).collect::<Vec<_>>(),
            "EgressLog": self.egress.log.as_ref().map_or_else(String::new, EgressLog::to_string),
            "NetworkRate": self.network_rate.to_string(),
            "ContainerIDFile": self.cid_file.as_ref().map_or_else(String::new, |path| path.display().to_string()),
        }))
    }
}

/// For `HostConfig`: what is limited, and where.
pub(crate) fn of_limits(resources: &Resources, cgroup: &CgroupWish) -> Map<String, Value> {
    let amount = |amount: Option<Amount>| amount.map_or(0, |amount| amount.0);
    let rates = |rates: &[DeviceRate]| -> Vec<Value> {
        rates.iter().map(|rate| json!({"Path": rate.device, "Rate": rate.rate})).collect()
    };
    let weights: Vec<Value> = resources
        .blkio_weight_devices
        .iter()
        .map(|weight| json!({"Path": weight.device, "Weight": weight.rate}))
        .collect();
    map(json!({
        "Memory": amount(resources.memory),
        "MemorySwap": resources.swap().unwrap_or(0),
        "MemoryReservation": amount(resources.memory_reservation),
        // Of a processor: thousand millions are one.
        "NanoCpus": resources.cpus.map_or(0, |cpus| u64::from(cpus.0) * 10_000),
        "CpuPeriod": resources.cpu_period.unwrap_or(0),
        "CpuQuota": resources.cpu_quota.unwrap_or(0),
        "CpuShares": resources.cpu_shares.unwrap_or(0),
        "CpuWeight": resources.cpu_weight.unwrap_or(0),
        "CpusetCpus": resources.cpuset_cpus.as_deref().unwrap_or_default(),
        "CpusetMems": resources.cpuset_mems.as_deref().unwrap_or_default(),
        "PidsLimit": resources.pids_limit.unwrap_or(0),
        "BlkioWeight": resources.blkio_weight.unwrap_or(0),
        "BlkioWeightDevice": weights,
        "BlkioDeviceReadBps": rates(&resources.read_bps),
        "BlkioDeviceWriteBps": rates(&resources.write_bps),
        "BlkioDeviceReadIOps": rates(&resources.read_iops),
        "BlkioDeviceWriteIOps": rates(&resources.write_iops),
        "CgroupConf": resources.unified,
        "CgroupParent": cgroup.parent.as_deref().unwrap_or_default(),
        "CgroupManager": cgroup.manager.map_or_else(String::new, |manager| manager.to_string()),
        "Cgroups": if cgroup.disabled { "disabled" } else { "default" },
        "OomKillDisable": false,
    }))
}

/// As Docker has it: -1 is the most.
fn ulimit(limit: &Ulimit) -> Option<Value> {
    let Ulimit::Of { name, soft, hard } = limit else { return None };
    let number = |limit: &Option<u64>| limit.map_or(json!(-1), |limit| json!(limit));
    Some(json!({"Name": name, "Soft": number(soft), "Hard": number(hard)}))
}

fn map(value: Value) -> Map<String, Value> {
    if let Value::Object(fields) = value { fields } else { Map::new() }
}
