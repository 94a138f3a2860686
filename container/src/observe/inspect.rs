//! All that is known of a container or an image, in Docker's shape and names.

mod mounts;
mod network;
mod settings;

use std::path::PathBuf;

use jiff::Timestamp;
use rbox_runtime::cgroup::Hits;
use rbox_types::{IdMap, IdRange};
use serde_json::{Value, json};

use crate::logs::{Driver, LogOptions};
use crate::observe::containers::{ContainerStatus, ContainerSummary};
use crate::record::Made;
use crate::root::COPY;
use crate::settings::Userns;
use crate::{Engine, Error, logs};

/// What is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A container, or else an image.
    Any,
    /// A container.
    Container,
    /// An image.
    Image,
}

/// Bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// What the container has written.
    pub written: u64,
    /// All that it sees: that, and its image.
    pub seen: u64,
}

/// A time that has not come is Go's first one, as in Docker and Podman: scripts compare it as text.
fn time(time: Option<Timestamp>) -> String {
    time.map_or_else(|| "0001-01-01T00:00:00Z".into(), |time| time.to_string())
}

/// What the kernel has refused for the limits' sake, in the last life of a container that has ended.
fn limits_hit(hits: &Hits) -> Value {
    json!({
        "OOMKills": hits.oom_kills,
        "MemoryLimit": hits.memory_limit,
        "MemoryPeak": hits.memory_peak,
        "PidsRefused": hits.pids_refused,
        "PidsLimit": hits.pids_limit,
    })
}

impl Engine {
    /// All that is known of what has this name or id; of containers with `sizes`, too, which takes a look at each of their
    /// files.
    pub fn inspect(&self, name: &str, kind: Kind, sizes: bool) -> Result<Value, Error> {
        if kind == Kind::Image {
            return self.inspect_image(name);
        }
        match self.find_container(name) {
            Ok(container) => {
                let mut document = self.inspect_container(&container);
                if sizes {
                    let Sizes { written, seen } = self.sizes(&container)?;
                    document["SizeRw"] = written.into();
                    document["SizeRootFs"] = seen.into();
                }
                Ok(document)
            }
            Err(Error::Store(rbox_store::Error::NoContainer(_))) if kind == Kind::Any => match self.inspect_image(name)
            {
                Err(Error::NoSuchImage(name)) => Err(Error::Nothing(name)),
                result => result,
            },
            Err(error) => Err(error),
        }
    }

    /// How large a container is, which takes a look at each of its files.
    pub fn sizes(&self, container: &ContainerSummary) -> Result<Sizes, Error> {
        let written = self.written_size(container)?;
        let refs = self.store.find_container(container.id.as_str())?.refs;
        let mut seen = written;
        if self.store.container_path(&container.id).join(COPY).exists() {
            // The image is in it.
            return Ok(Sizes { written, seen });
        }
        for chain in refs.layers {
            if let Some(layer) = self.store.layer(&refs.map_key, chain)? {
                seen += layer.record()?.size;
            }
        }
        Ok(Sizes { written, seen })
    }

    /// As Podman shows them: outside is what ids are in a container that has all of its user's.
    fn id_mappings(&self, userns: &Userns) -> Option<Value> {
        let maps = userns.ids(&self.identity.inside()).ok().flatten()?.maps;
        let lines = |map: &IdMap| -> Vec<String> {
            let line = |IdRange { inside, outside, length }: &IdRange| format!("{inside}:{outside}:{length}");
            map.ranges().iter().map(line).collect()
        };
        Some(json!({"UidMap": lines(&maps.uid), "GidMap": lines(&maps.gid)}))
    }

    fn inspect_container(&self, container: &ContainerSummary) -> Value {
        let status = &container.status;
        let made = container.made.as_ref();
        let words = made.map(|made| made.args.as_slice()).unwrap_or_default();
        let (entrypoint, command) = words.split_at(made.map_or(0, |made| made.entrypoint).min(words.len()));
        let log = made.and_then(|made| made.log.as_ref()).filter(|log| log.driver != Driver::None);
        let ports = made.map(Made::ports).unwrap_or_default();
        let mut document = json!({
            "Id": container.id,
            "Name": container.name,
            "Created": made.map(|made| made.created),
            "Path": words.first(),
            "Args": words.get(1..).unwrap_or_default(),
            "State": {
                "Status": status.word(),
                "Running": status.is_alive(),
                "Paused": matches!(status, ContainerStatus::Paused { .. }),
                "Restarting": matches!(status, ContainerStatus::Restarting { .. }),
                "Dead": matches!(status, ContainerStatus::Dead),
                "OOMKilled": container.hits.oom_kills > 0,
                "LimitsHit": limits_hit(&container.hits),
                "CgroupPath": made.and_then(|made| made.home.as_ref()).filter(|_| status.is_alive())
                    .map_or_else(String::new, |home| home.path()),
                "Pid": status.pid(),
                "ExitCode": status.exit_code(),
                "StartedAt": time(made.and_then(|made| made.started).or_else(|| status.started_at())),
                "FinishedAt": time(status.finished_at()),
            },
            "Image": made.map(|made| made.image_id),
            "ImageName": made.map(|made| made.image.clone()),
            "Driver": "overlay",
            "LogPath": log.map_or_else(PathBuf::new, |_| self.store.container_path(&container.id).join(logs::NAME)),
            "Mounts": made.map(mounts::of),
            "Config": made.map(|made| json!({
                "Hostname": made.hostname,
                "User": made.user,
                "Tty": made.tty,
                "OpenStdin": made.interactive,
                "Env": made.env,
                "Entrypoint": (!entrypoint.is_empty()).then_some(entrypoint),
                "Cmd": command,
                "Image": made.image,
                "WorkingDir": made.cwd,
                "Labels": made.labels(),
            })),
            "HostConfig": {
                "Init": made.is_some_and(|made| made.init),
                "AutoRemove": made.is_some_and(|made| made.rm),
                "NetworkMode": made.map_or_else(|| "none".into(), |made| made.network().to_string()),
                "ReadonlyRootfs": made.is_some_and(|made| made.read_only),
                "Binds": made.map(mounts::flags),
                "Privileged": made.is_some_and(|made| made.security.privileged),
                "CapAdd": made.map(|made| &made.security.cap_add),
                "CapDrop": made.map(|made| &made.security.cap_drop),
                "SecurityOpt": made.map(|made| &made.security.options),
                "RestartPolicy": made.map(|made| made.restart.document()),
                "PortBindings": network::bindings(ports),
                "PublishAllPorts": made.is_some_and(|made| made.settings.publish_all),
                "LogConfig": made.and_then(|made| made.log.as_ref()).map(LogOptions::document),
            },
            "NetworkSettings": network::settings(made.map(Made::network), ports, status.is_alive()),
            "RestartCount": made.map_or(0, |made| made.restarts),
        });
        if let Some(maps) = made.and_then(|made| self.id_mappings(&made.settings.sharing.userns)) {
            document["HostConfig"]["IDMappings"] = maps;
        }
        if let Some(health) = &container.health {
            // Docker's name and Podman's.
            document["State"]["Health"] = json!(health);
            document["State"]["Healthcheck"] = json!(health);
        }
        if let Some(refused) = crate::network::refused(&self.store.container_path(&container.id)) {
            document["NetworkSettings"]["EgressRefusals"] = Value::Object(refused);
        }
        if let Some(settings) = made.map(|made| &made.settings) {
            let limits = settings::of_limits(&container.resources, &settings.cgroup);
            for (place, fields) in
                [("Config", settings.in_config()), ("HostConfig", settings.in_host_config()), ("HostConfig", limits)]
            {
                document[place].as_object_mut().into_iter().for_each(|shown| shown.extend(fields.clone()));
            }
            if let Some(path) = &settings.pid_file {
                document["PidFile"] = json!(path);
            }
        }
        document
    }

    fn inspect_image(&self, name: &str) -> Result<Value, Error> {
        let (record, image) = self.find_image(name)?;
        let names: Vec<String> = self.names_of(&record)?.iter().map(ToString::to_string).collect();
        let config = &image.config;
        let digest = record.index.unwrap_or(record.manifest.digest);
        Ok(json!({
            "Id": image.config_digest,
            "Digest": digest,
            "RepoTags": names,
            "RepoDigests": [format!("{}@{digest}", record.reference.name())],
            "Created": config.created(),
            "Author": config.author(),
            "Architecture": record.platform.architecture,
            "Variant": record.platform.variant,
            "Os": record.platform.os,
            "Size": self.unpacked_size(&image)?,
            "Config": config.config(),
            "RootFS": {
                "Type": "layers",
                "Layers": image.layers.iter().map(|layer| layer.diff_id).collect::<Vec<_>>(),
            },
            "History": config.history(),
        }))
    }
}
