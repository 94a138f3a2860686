//! Podman, each time with a storage of its own, and the runtime under test: rbox, or whichever `RBOX_TEST_RUNTIME` names.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Result;
use tempfile::TempDir;

use crate::command::read;
use crate::rbox::{Outcome, finish};
use crate::{alpine, host, subids};

/// The small image, as Podman knows it.
pub const IMAGE: &str = "localhost/small:1";

/// What would otherwise be asked for by default and is not to be had everywhere: a million open files takes a capability
/// that root in a virtual machine may lack, and a limit of processes a controller that cgroup v1 may hold. Without a
/// cgroup of conmon's there is none to be left.
const CONFIGURATION: &str = "\
[containers]
default_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]
pids_limit = 0
cgroups = \"no-conmon\"
netns = \"none\"
";

/// Podman and all that it writes; its containers end when this is dropped.
pub struct Podman {
    dir: TempDir,
    runtime: PathBuf,
}

impl Podman {
    /// An empty storage, but for [`IMAGE`].
    pub fn new() -> Result<Self> {
        Self::with(runtime_in)
    }

    /// As [`Podman::new`], with the runtime that Podman prefers: for what Podman itself does.
    pub fn with_its_own_runtime() -> Result<Self> {
        Self::with(|_| Ok("crun".into()))
    }

    fn with(runtime: impl FnOnce(&Path) -> Result<PathBuf>) -> Result<Self> {
        // Podman takes no run directory of more than 50 characters.
        let dir = tempfile::Builder::new().prefix("rbox-podman.").tempdir_in("/tmp")?;
        let runtime = runtime(dir.path())?;
        for name in ["home", "run", "tmp"] {
            fs::create_dir(dir.path().join(name))?;
        }
        fs::set_permissions(dir.path().join("run"), fs::Permissions::from_mode(0o700))?;
        fs::write(dir.path().join("containers.conf"), CONFIGURATION)?;
        let podman = Self { dir, runtime };
        // By a relative path: Podman makes a name of it, which has no capitals.
        symlink(alpine::small()?.dir(), podman.dir.path().join("home/small"))?;
        let id = read(&mut podman.command(["pull", "--quiet", "oci:small:latest"]))?;
        read(&mut podman.command(["tag", id.trim(), IMAGE]))?;
        Ok(podman)
    }

    /// A directory that is Podman's alone.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The home directory, where podman is started.
    pub fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    /// podman with these arguments, not yet started.
    pub fn command(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        let inside = |name: &str| self.dir.path().join(name);
        let mut command = Command::new("podman");
        command.arg("--runtime").arg(&self.runtime);
        command.arg("--root").arg(inside("storage")).arg("--runroot").arg(inside("runroot"));
        command.arg("--tmpdir").arg(inside("libpod"));
        command.args(["--cgroup-manager=cgroupfs", "--storage-driver=vfs", "--events-backend=file"]);
        command.args(arguments).env_clear().current_dir(inside("home"));
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("USER", host::user_name());
        command.env("HOME", inside("home")).env("XDG_RUNTIME_DIR", inside("run")).env("TMPDIR", inside("tmp"));
        command.env("CONTAINERS_CONF", inside("containers.conf"));
        command
    }

    /// Runs podman to its end with nothing on stdin.
    pub fn run(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Outcome {
        finish(self.command(arguments).stdin(Stdio::null()))
    }

    /// As [`Podman::run`], which must succeed; gives stdout without the last line feed.
    #[track_caller]
    pub fn says(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> String {
        self.run(arguments).success().trim_end().to_owned()
    }

    /// The containers that rbox still knows of.
    pub fn states(&self) -> Vec<String> {
        let states = fs::read_dir(self.dir.path().join("run/rbox-oci")).into_iter().flatten().flatten();
        states.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        self.run(["pod", "rm", "--all", "--force", "--time=0"]);
        self.run(["rm", "--all", "--force", "--time=0"]);
        // Ends the process that keeps a user's namespaces.
        self.run(["system", "migrate"]);
        if host::uid() == 0 {
            // Podman's own, above those of pods. One that is in use cannot be removed.
            let _ = fs::remove_dir("/sys/fs/cgroup/libpod_parent");
        } else {
            // Where that is not to be had, it is left.
            let _ = subids::remove(&self.dir.path().join("storage"));
        }
    }
}

/// The runtime under test, by the path that an engine is told.
pub(crate) fn runtime_in(dir: &Path) -> Result<PathBuf> {
    if let Some(other) = std::env::var_os("RBOX_TEST_RUNTIME") {
        return Ok(other.into());
    }
    let path = dir.join("rbox-oci");
    symlink(host::rbox_binary(), &path)?;
    Ok(path)
}
