//! `rbox oci spec`: an example to begin with.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use crate::failure::Failure;

#[derive(Debug, Args)]
pub(super) struct Example {
    /// The directory that config.json is written to
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    bundle: PathBuf,

    /// For a user without root
    #[arg(long)]
    rootless: bool,
}

impl Example {
    pub(super) fn act(self) -> Result<(), Failure> {
        let path = self.bundle.join("config.json");
        let failed = |error: std::io::Error| Failure::new(format!("cannot write {}: {error}", path.display()));
        let mut file = OpenOptions::new().write(true).create_new(true).open(&path).map_err(failed)?;
        let text = serde_json::to_string_pretty(&example(self.rootless))?;
        file.write_all(text.as_bytes()).map_err(failed)
    }
}

/// The same container as in runc's example: a shell on a terminal, in a read-only root.
fn example(rootless: bool) -> Value {
    let capabilities = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    let restricted = ["nosuid", "noexec", "nodev"];
    let with = |more: &[&'static str]| [&restricted[..], more].concat();
    let mut namespaces = vec!["pid", "network", "ipc", "uts", "mount", "cgroup"];
    // Group 5 is tty, which a map of one id does not have.
    let mut devpts = vec!["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"];
    if rootless {
        namespaces.push("user");
    } else {
        devpts.push("gid=5");
    }
    let mut spec = json!({
        "ociVersion": "1.2.0",
        "process": {
            "terminal": true,
            "user": { "uid": 0, "gid": 0 },
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {
                "bounding": capabilities, "effective": capabilities, "permitted": capabilities,
            },
            "noNewPrivileges": true,
        },
        "root": { "path": "rootfs", "readonly": true },
        "hostname": "rbox",
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
              "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] },
            { "destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": devpts },
            { "destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": with(&["mode=1777", "size=65536k"]) },
            { "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": restricted },
            { "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": with(&["ro"]) },
            { "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": with(&["relatime", "ro"]) },
        ],
        "linux": {
            "namespaces": namespaces.iter().map(|kind| json!({ "type": kind })).collect::<Vec<_>>(),
            "maskedPaths": ["/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    });
    if rootless {
        let own = |id: u32| json!([{ "containerID": 0, "hostID": id, "size": 1 }]);
        spec["linux"]["uidMappings"] = own(rbox_sys::ids::uid());
        spec["linux"]["gidMappings"] = own(rbox_sys::ids::gid());
    }
    spec
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_examples_are_what_this_runtime_takes() {
        for rootless in [false, true] {
            let spec = serde_json::from_value(example(rootless)).expect("a spec");
            rbox_runtime::InitPlan::new(&spec).expect("no field is refused");
        }
    }
}
