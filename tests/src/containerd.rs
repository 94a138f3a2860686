//! containerd, each time with directories, a socket and a namespace of its own, and the runtime under test: rbox, or
//! whichever `RBOX_TEST_RUNTIME` names. Its package is unpacked and not installed, which would start a service.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Result;
use tempfile::TempDir;

use crate::alpine;
use crate::command::run;
use crate::host;
use crate::packages;
use crate::patience::until;
use crate::podman::runtime_in;
use crate::rbox::{Outcome, finish};
use crate::running::Running;

/// The small image, as containerd knows it.
pub const IMAGE: &str = "localhost/small:1";

/// Without Kubernetes' interface, which listens on TCP.
const CONFIGURATION: &str = "version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n";

/// The directory of containerd, its shims and ctr.
pub fn programs() -> Result<PathBuf> {
    Ok(packages::unpacked("containerd")?.join("usr/bin"))
}

/// The daemon, which ends when this is dropped, and its containers before it.
pub struct Containerd {
    dir: TempDir,
    programs: PathBuf,
    runtime: PathBuf,
    namespace: String,
    daemon: Running,
}

impl Containerd {
    /// Starts it, with [`IMAGE`] in its store.
    pub fn start() -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("containerd.").tempdir_in(host::scratch_base())?;
        let (programs, runtime) = (programs()?, runtime_in(dir.path())?);
        let inside = |name: &str| dir.path().join(name);
        fs::write(inside("config.toml"), CONFIGURATION)?;
        // The sockets of its shims are in /run/containerd, whatever it is told; here that is nobody else's.
        let mut daemon = Command::new("unshare");
        daemon.args(["--mount", "--propagation", "private", "sh", "-c"]);
        daemon.args(["mount -t tmpfs tmpfs /run && exec \"$@\"", "sh"]).arg(programs.join("containerd"));
        daemon.arg("--config").arg(inside("config.toml")).arg("--root").arg(inside("root"));
        daemon.arg("--state").arg(inside("state")).arg("--address").arg(inside("socket"));
        // Where it looks for its shims first.
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::iter::once(programs.clone()).chain(std::env::split_paths(&path));
        daemon.env("PATH", std::env::join_paths(path)?);
        let daemon = Running::start(daemon.stderr(fs::File::create(inside("log"))?))?;
        let unique = dir.path().file_name().unwrap_or_default().to_string_lossy().replace('.', "-");
        let containerd = Self { dir, programs, runtime, namespace: format!("rbox-{unique}"), daemon };
        until(|| containerd.ctr(["version"]), |outcome| outcome.status == 0);
        let archive = containerd.dir.path().join("small.tar");
        run(Command::new("tar").arg("-C").arg(alpine::small()?.dir()).arg("-cf").arg(&archive).arg("."))?;
        containerd
            .ctr([OsStr::new("images"), "import".as_ref(), "--index-name".as_ref(), IMAGE.as_ref(), archive.as_ref()])
            .success();
        Ok(containerd)
    }

    /// ctr with these arguments, not yet started.
    pub fn command(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        let mut command = Command::new(self.programs.join("ctr"));
        command.arg("--address").arg(self.dir.path().join("socket")).arg("--namespace").arg(&self.namespace);
        command.args(arguments).env_clear().current_dir(self.dir.path());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command
    }

    /// `ctr run` with these flags, of the container `id` of [`IMAGE`] with the script.
    pub fn run_command(&self, flags: &[&str], id: &str, script: &str) -> Command {
        let mut command = self.command(["run"]);
        command.arg("--runc-binary").arg(&self.runtime).arg("--runc-root").arg(self.states_at());
        command.arg("--fifo-dir").arg(self.dir.path().join("fifo"));
        command.args(flags).args([IMAGE, id, "sh", "-c", script]);
        command
    }

    /// Runs ctr to its end with nothing on stdin.
    pub fn ctr(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Outcome {
        finish(self.command(arguments).stdin(Stdio::null()))
    }

    /// As [`run_command`](Self::run_command), to its end.
    pub fn run(&self, flags: &[&str], id: &str, script: &str) -> Outcome {
        finish(self.run_command(flags, id, script).stdin(Stdio::null()))
    }

    /// `ctr task exec` of the script in the container `id`.
    pub fn exec(&self, id: &str, script: &str) -> Outcome {
        let mut command = self.command(["task", "exec", "--exec-id", "exec", "--fifo-dir"]);
        command.arg(self.dir.path().join("fifo")).args([id, "sh", "-c", script]);
        finish(command.stdin(Stdio::null()))
    }

    /// The status of the task `id`: RUNNING, PAUSED, STOPPED; empty without one.
    pub fn status(&self, id: &str) -> String {
        let tasks = self.ctr(["task", "ls"]).success();
        let line = tasks.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).find(|line| line[0] == id);
        line.and_then(|line| line.get(2).map(|status| (*status).to_owned())).unwrap_or_default()
    }

    /// What the runtime has of containers, and what cgroups there are of this one's namespace.
    pub fn left(&self) -> Vec<PathBuf> {
        let states = self.states_at().join(&self.namespace);
        let cgroup = Path::new("/sys/fs/cgroup").join(&self.namespace);
        let states = fs::read_dir(states).into_iter().flatten().flatten().map(|entry| entry.path());
        states.chain(cgroup.exists().then_some(cgroup)).collect()
    }

    fn states_at(&self) -> PathBuf {
        self.dir.path().join("runtime")
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        for id in self.ctr(["container", "ls", "--quiet"]).stdout.lines() {
            self.ctr(["task", "rm", "--force", id]);
            self.ctr(["container", "rm", id]);
        }
        let _ = self.daemon.signal("TERM");
        self.daemon.wait();
    }
}
