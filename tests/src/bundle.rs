//! An OCI bundle and a runtime to try it on: rbox, or whichever `RBOX_TEST_RUNTIME` names, so that a test can be shown to
//! ask for what other runtimes do too.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::command::{read, run};
use crate::rbox::{Outcome, finish};
use crate::running::Running;
use crate::{alpine, attacker, host};

/// A directory with the small image's files, a config.json, and a runtime's state.
pub struct Bundle {
    dir: TempDir,
    environment: Vec<(String, String)>,
}

impl Bundle {
    /// A bundle that runs the script with `sh -c`, in a user namespace of one id and new namespaces of the other kinds.
    pub fn new(script: &str) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("bundle.").tempdir_in(host::scratch_base())?;
        let layout = alpine::small()?;
        let manifest: Value = serde_json::from_slice(&layout.read(&layout.find("latest")?.digest)?)?;
        let rootfs = dir.path().join("rootfs");
        fs::create_dir(&rootfs)?;
        for layer in manifest["layers"].as_array().context("the image has layers")? {
            let blob = layout.blob_path(layer["digest"].as_str().context("a layer has a digest")?);
            run(Command::new("tar").arg("-C").arg(&rootfs).arg("--no-same-owner").arg("-xf").arg(blob))?;
        }
        let bundle = Self { dir, environment: Vec::new() };
        bundle.write(&config(script, host::uid(), host::gid()))?;
        Ok(bundle)
    }

    /// As [`Bundle::new`], with the [attacker's program](attacker) at /kit.
    pub fn armed(script: &str) -> Result<Self> {
        let bundle = Self::new(script)?;
        attacker::install(&bundle.inside("/kit"))?;
        Ok(bundle)
    }

    /// Sets an environment variable for all commands to come: the runtime's, not the workload's.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Changes config.json.
    pub fn change(&self, change: impl FnOnce(&mut Value)) -> Result<()> {
        let mut config = serde_json::from_slice(&fs::read(self.dir.path().join("config.json"))?)?;
        change(&mut config);
        self.write(&config)
    }

    fn write(&self, config: &Value) -> Result<()> {
        Ok(fs::write(self.dir.path().join("config.json"), serde_json::to_vec(config)?)?)
    }

    /// The bundle's directory.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A path in the container, as it is outside.
    pub fn inside(&self, path: &str) -> PathBuf {
        self.dir.path().join("rootfs").join(path.trim_start_matches('/'))
    }

    /// The runtime with these arguments, in the bundle's directory.
    pub fn command(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        let mut command = match std::env::var_os("RBOX_TEST_RUNTIME") {
            Some(other) => {
                let mut command = Command::new(other);
                command.arg("--root").arg(self.dir.path().join("state"));
                command
            }
            None => {
                let mut command = Command::new(host::rbox_binary());
                command.arg("--root").arg(self.dir.path().join("state")).arg("oci");
                command
            }
        };
        command.args(arguments).current_dir(self.dir.path()).env("RUST_BACKTRACE", "1");
        command.env("XDG_RUNTIME_DIR", self.dir.path());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs the runtime to its end with nothing on stdin. What it leaves running must not have this one's output.
    pub fn runtime(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Outcome {
        finish(self.command(arguments).stdin(Stdio::null()))
    }

    /// `create`, whose workload writes to the file `output` in the bundle.
    pub fn create(&self, id: &str, flags: &[&str]) -> Result<Outcome> {
        let output = fs::File::create(self.dir.path().join("output"))?;
        let stderr = self.dir.path().join("stderr");
        let mut command = self.command(["create"]);
        command.args(flags).arg(id).stdin(Stdio::null()).stdout(output).stderr(fs::File::create(&stderr)?);
        let status = crate::rbox::code(command.status()?);
        let stderr = fs::read_to_string(stderr)?;
        Ok(Outcome { arguments: crate::command::shown(&command), status, stdout: String::new(), stderr })
    }

    /// Leaves a container running: [`Bundle::create`] and `start`.
    pub fn start(&self, id: &str) -> Result<()> {
        self.create(id, &[])?.exits(0);
        self.runtime(["start", id]).exits(0);
        Ok(())
    }

    /// What the workload of [`Bundle::create`] has written.
    pub fn output(&self) -> String {
        fs::read_to_string(self.dir.path().join("output")).unwrap_or_default()
    }

    /// Starts the runtime in the background.
    pub fn begin(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<Running> {
        Running::start(&mut self.command(arguments))
    }

    /// What `state` prints.
    pub fn state(&self, id: &str) -> Result<Value> {
        Ok(serde_json::from_str(&read(&mut self.command(["state", id]))?)?)
    }

    /// The status in it.
    pub fn status(&self, id: &str) -> String {
        self.state(id).map_or_else(|_| "none".into(), |state| state["status"].as_str().unwrap_or_default().to_owned())
    }
}

/// Whatever a test did not delete.
impl Drop for Bundle {
    fn drop(&mut self) {
        let ids = finish(self.command(["list", "-q"]).stdin(Stdio::null())).stdout;
        for id in ids.lines() {
            self.runtime(["delete", "--force", id]);
        }
    }
}

/// The config.json of [`Bundle::new`], of the user and group that run the runtime.
pub fn config(script: &str, uid: u32, gid: u32) -> Value {
    let capabilities = json!(["CAP_CHOWN", "CAP_KILL", "CAP_SETUID", "CAP_SETGID", "CAP_NET_BIND_SERVICE"]);
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "args": ["sh", "-c", script],
            "cwd": "/",
            "env": ["PATH=/bin:/usr/bin:/sbin"],
            "user": { "uid": 0, "gid": 0 },
            "capabilities": { "bounding": capabilities, "effective": capabilities, "permitted": capabilities },
        },
        "root": { "path": "rootfs" },
        "hostname": "bundle",
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"] },
            { "destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance", "ptmxmode=0666"] },
        ],
        "linux": {
            "uidMappings": [{ "containerID": 0, "hostID": uid, "size": 1 }],
            "gidMappings": [{ "containerID": 0, "hostID": gid, "size": 1 }],
            "namespaces": (["pid", "network", "ipc", "uts", "mount", "user"].map(|kind| json!({ "type": kind }))),
        },
    })
}
