//! What of the host is seen in a container, and what is written outside about it.

use std::path::PathBuf;

use clap::Args;
use rbox_container::settings::{DeviceRequest, Settings};
use rbox_container::{MountFlag, Tmpfs, Volume};

#[derive(Debug, Default, Args)]
pub(super) struct Files {
    /// Show a file or directory of the host in the container, or a volume by its name, or, without a source, a new volume
    /// that goes with the container; options, with commas between them: ro, noexec, nosuid, nodev, bind (without what is
    /// mounted below), [r]private, [r]slave, [r]shared, z, Z, U (all is the container's user's), nocopy (a new volume begins
    /// empty)
    #[arg(short, long, value_name = "[SOURCE:]DESTINATION[:OPTIONS]")]
    volume: Vec<Volume>,

    /// An empty directory in memory
    #[arg(long, value_name = "DESTINATION[:OPTIONS]")]
    tmpfs: Vec<Tmpfs>,

    /// As --volume or --tmpfs, in Docker's long form: type=bind,source=PATH,destination=PATH[,readonly]
    /// [,bind-propagation=KIND][,bind-recursive=KIND], type=volume[,source=NAME],destination=PATH[,volume-nocopy] or type=tmpfs,destination=PATH[,tmpfs-size=SIZE][,tmpfs-mode=MODE]
    #[arg(long, value_name = "type=TYPE,KEY=VALUE…")]
    mount: Vec<MountFlag>,

    /// Show a device node of the host, or all in a directory; the container may do with it what you may
    #[arg(long, value_name = "HOST[:CONTAINER][:rwm]")]
    device: Vec<DeviceRequest>,

    /// Write the container's id to a new file
    #[arg(long, value_name = "FILE")]
    cidfile: Option<PathBuf>,

    /// Write the process id of the container's first process, as the host has it, to a file
    #[arg(long, value_name = "FILE")]
    pidfile: Option<PathBuf>,
}

impl Files {
    pub(super) fn take(self, settings: &mut Settings) -> (Vec<Volume>, Vec<Tmpfs>) {
        settings.devices = self.device;
        (settings.cid_file, settings.pid_file) = (self.cidfile, self.pidfile);
        let (mut volumes, mut tmpfs) = (self.volume, self.tmpfs);
        for mount in self.mount {
            match mount {
                MountFlag::Volume(volume) => volumes.push(volume),
                MountFlag::Tmpfs(one) => tmpfs.push(one),
            }
        }
        (volumes, tmpfs)
    }
}
