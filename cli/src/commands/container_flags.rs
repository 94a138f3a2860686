//! The flags that say how a container is to be, for every verb that makes one; a file each for what belongs together.

mod described;
mod egress;
mod files;
mod health;
mod labels;
mod limits;
mod names;
mod ports;
mod process;
pub(super) mod resources;
mod sharing;

use clap::Args;
use rbox_container::settings::Settings;
use rbox_container::{Tmpfs, Volume};

use crate::failure::Failure;

use described::Described;

/// All of them.
#[derive(Debug, Args)]
pub(super) struct ContainerFlags {
    #[command(flatten)]
    all: Described<All>,
}

#[derive(Debug, Default, Args)]
struct All {
    #[command(flatten)]
    files: files::Files,

    #[command(flatten)]
    health: health::HealthFlags,

    #[command(flatten)]
    limits: limits::LimitFlags,

    #[command(flatten)]
    resources: resources::ResourceFlags,

    #[command(flatten)]
    cgroup: resources::CgroupFlags,

    #[command(flatten)]
    sharing: sharing::SharingFlags,

    #[command(flatten)]
    names: names::Names,

    #[command(flatten)]
    ports: ports::PortFlags,

    #[command(flatten)]
    egress: egress::EgressFlags,

    #[command(flatten)]
    labels: labels::Labels,

    #[command(flatten)]
    process: process::ProcessFlags,
}

/// What they come to.
pub(super) struct Taken {
    pub(super) settings: Settings,
    pub(super) volumes: Vec<Volume>,
    pub(super) tmpfs: Vec<Tmpfs>,
    pub(super) host_env: Vec<String>,
}

impl ContainerFlags {
    /// Whether its health is to be checked, as far as flags say.
    pub(super) fn check_health(&self) -> bool {
        self.all.0.health.check()
    }

    pub(super) fn take(self) -> Result<Taken, Failure> {
        self.all.0.take()
    }
}

impl All {
    fn take(self) -> Result<Taken, Failure> {
        let host_env = self.process.host_env();
        let (labels, annotations) = self.labels.take()?;
        let mut settings = Settings {
            limits: self.limits.take(),
            resources: self.resources.take()?,
            cgroup: self.cgroup.take(),
            sharing: self.sharing.take()?,
            resolver: self.names.take()?,
            egress: self.egress.take()?,
            labels,
            annotations,
            on_unhealthy: self.health.on_failure(),
            health: self.health.take()?,
            ..Settings::default()
        };
        self.ports.take(&mut settings);
        self.process.take(&mut settings);
        let (volumes, tmpfs) = self.files.take(&mut settings);
        Ok(Taken { settings, volumes, tmpfs, host_env })
    }
}
