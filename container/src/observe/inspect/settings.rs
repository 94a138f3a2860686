//! A container's settings, under the names and in the places where Docker shows them; what only Podman has, where that one
//! does.

use std::num::NonZeroU32;

use serde_json::{Map, Value, json};

use crate::settings::{Dns, EgressLog, Limits, Settings, Stop, Ulimit};

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
            "ContainerIDFile": self.cid_file.as_ref().map_or_else(String::new, |path| path.display().to_string()),
        }))
    }
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
