//! Parts of systemd, apart from those of the machine: a user's manager, and the one that knows of logins.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use tempfile::TempDir;

use crate::command::read;
use crate::host;
use crate::patience::until;
use crate::rbox::{Outcome, finish};
use crate::running::Running;

/// All its units but those of tests. It starts to talk on the bus when it has itself started that.
const UNITS: [(&str, &str); 5] = [
    ("bus.target", "[Unit]\nRequires=dbus.service\nAfter=dbus.service\n"),
    ("dbus.socket", "[Unit]\nDefaultDependencies=no\n[Socket]\nListenStream=%t/bus\n"),
    (
        "dbus.service",
        "[Unit]\nDefaultDependencies=no\nRequires=dbus.socket\nAfter=dbus.socket\n[Service]\nType=notify\n\
         ExecStart=dbus-daemon --session --address=systemd: --nofork --nopidfile --systemd-activation\n",
    ),
    ("basic.target", "[Unit]\nDefaultDependencies=no\n"),
    ("shutdown.target", "[Unit]\nDefaultDependencies=no\n"),
];

/// A user's systemd with a bus, with a runtime directory, units and a cgroup of its own. It ends when this is dropped, with all that it has
/// started.
pub struct Systemd {
    dir: TempDir,
    cgroup: PathBuf,
    /// Kept to be dropped first.
    manager: Option<Running>,
}

impl Systemd {
    /// Starts it, in a cgroup below the one that this process's user may make some in.
    pub fn start() -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("systemd.").tempdir_in(host::scratch_base())?;
        let inside = |name: &str| dir.path().join(name);
        for name in ["home", "run", "units"] {
            fs::create_dir(inside(name))?;
        }
        fs::set_permissions(inside("run"), fs::Permissions::from_mode(0o700))?;
        for (name, text) in UNITS {
            fs::write(inside("units").join(name), text)?;
        }
        let unique = dir.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        let cgroup = host::cgroup().join(format!("rbox-{unique}"));
        fs::create_dir(&cgroup)?;
        // It asks by /run/systemd/system whether the machine was started by systemd, and does nothing otherwise.
        let pretend = "mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/system && ";
        let (apart, pretend) = match host::uid() {
            0 => (&["unshare", "--mount", "--propagation", "private"][..], pretend),
            // Whoever has given the user the cgroup has seen to it.
            _ => (&["env"][..], ""),
        };
        let mut command = Command::new(apart[0]);
        command.args(&apart[1..]).args(["sh", "-c", &format!("{pretend}echo $$ > \"$0\" && exec \"$@\"")]);
        command.arg(cgroup.join("cgroup.procs"));
        command.args(["/lib/systemd/systemd", "--user", "--unit=bus.target", "--log-target=console"]);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", inside("home"));
        command.env("XDG_RUNTIME_DIR", inside("run")).env("SYSTEMD_UNIT_PATH", inside("units"));
        let manager = Running::start(command.stderr(fs::File::create(inside("log"))?))?;
        let systemd = Self { dir, cgroup, manager: Some(manager) };
        until(|| finish(&mut systemd.busctl(&["status", "org.freedesktop.systemd1"])), |outcome| outcome.status == 0);
        Ok(systemd)
    }

    /// Its runtime directory, with the bus's socket.
    pub fn runtime_dir(&self) -> PathBuf {
        self.dir.path().join("run")
    }

    /// A property of a unit, as busctl(1) writes it with its type.
    pub fn property(&self, unit: &str, property: &str) -> Result<String> {
        const MANAGER: [&str; 3] =
            ["org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager"];
        let found = read(&mut self.busctl(&[&["call"], &MANAGER[..], &["GetUnit", "s", unit]].concat()))?;
        let path = found.split('"').nth(1).unwrap_or_default();
        let interface = "org.freedesktop.systemd1.Scope";
        Ok(read(&mut self.busctl(&["get-property", MANAGER[0], path, interface, property]))?.trim().to_owned())
    }

    /// Whether it knows a unit.
    pub fn knows(&self, unit: &str) -> bool {
        self.property(unit, "Slice").is_ok()
    }

    /// Where its units' files are.
    pub fn units(&self) -> PathBuf {
        self.dir.path().join("units")
    }

    /// `systemctl --user` with these arguments.
    pub fn systemctl(&self, arguments: &[&str]) -> Outcome {
        let mut command = Command::new("systemctl");
        command.args(["--user", "--no-pager"]).args(arguments).env("XDG_RUNTIME_DIR", self.runtime_dir());
        finish(command.env("DBUS_SESSION_BUS_ADDRESS", self.bus()))
    }

    /// A property of a unit, as systemctl(1) shows it.
    pub fn shown(&self, unit: &str, property: &str) -> String {
        self.systemctl(&["show", "--value", "--property", property, unit]).success().trim_end().to_owned()
    }

    /// The bus's address.
    pub fn bus(&self) -> String {
        format!("unix:path={}", self.runtime_dir().join("bus").display())
    }

    /// The cgroups of scopes.
    pub fn scopes(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut pending = vec![self.cgroup.clone()];
        while let Some(cgroup) = pending.pop() {
            let below = fs::read_dir(&cgroup).into_iter().flatten().flatten().map(|entry| entry.path());
            pending.extend(below.filter(|path| path.is_dir()));
            if cgroup.extension().is_some_and(|kind| kind == "scope") && !cgroup.ends_with("init.scope") {
                found.extend(cgroup.strip_prefix(&self.cgroup).map(Path::to_owned));
            }
        }
        found
    }

    fn busctl(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("busctl");
        command.arg(format!("--address={}", self.bus())).args(arguments);
        command
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        drop(self.manager.take());
        // The bus, and whatever a test has left.
        let _ = fs::write(self.cgroup.join("cgroup.kill"), "1");
        until(|| remove(&self.cgroup), |gone| *gone);
    }
}

/// Removes a cgroup and those below it, as far as they have no processes; gives whether it is gone.
pub fn remove(cgroup: &Path) -> bool {
    for entry in fs::read_dir(cgroup).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir()) {
        remove(&entry.path());
    }
    fs::remove_dir(cgroup).is_ok() || !cgroup.exists()
}

/// A bus where everybody may do everything.
const BUS: &str = "<!DOCTYPE busconfig PUBLIC '-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN' \
                   'http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd'>\
                   <busconfig><type>system</type><listen>ADDRESS</listen><auth>EXTERNAL</auth>\
                   <policy context='default'><allow send_destination='*'/><allow receive_sender='*'/>\
                   <allow own='*'/><allow user='*'/></policy></busconfig>";

/// systemd-logind on a bus of its own, both of which end when this is dropped.
pub struct Logind {
    dir: TempDir,
    _running: [Running; 2],
}

impl Logind {
    /// Starts it, which only root can, with these lines of logind.conf(5).
    pub fn start(settings: &str) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("logind.").tempdir_in(host::scratch_base())?;
        let inside = |name: &str| dir.path().join(name);
        fs::write(inside("logind.conf"), format!("[Login]\n{settings}"))?;
        let address = address(&dir);
        fs::write(inside("bus.conf"), BUS.replace("ADDRESS", &address))?;
        let mut bus = Command::new("dbus-daemon");
        bus.arg("--config-file").arg(inside("bus.conf")).args(["--nofork", "--nopidfile", "--print-address"]);
        let mut bus = Running::start(bus.stderr(fs::File::create(inside("bus.log"))?))?;
        bus.expect("guid=");
        let script = "mount -t tmpfs tmpfs /run && mkdir /run/udev /run/systemd && \
                      mount --bind \"$0\" /etc/systemd/logind.conf && exec /lib/systemd/systemd-logind";
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", script]).arg(inside("logind.conf"));
        command.env("DBUS_SYSTEM_BUS_ADDRESS", &address).env("SYSTEMD_LOG_TARGET", "console");
        let logind = Running::start(command.stderr(fs::File::create(inside("logind.log"))?))?;
        let is_there = || {
            let mut asked = Command::new("busctl");
            asked.arg(format!("--address={address}")).args(["status", "org.freedesktop.login1"]);
            finish(&mut asked)
        };
        until(is_there, |outcome| outcome.status == 0);
        Ok(Self { dir, _running: [logind, bus] })
    }

    /// The bus's address.
    pub fn bus(&self) -> String {
        address(&self.dir)
    }
}

fn address(dir: &TempDir) -> String {
    format!("unix:path={}", dir.path().join("bus").display())
}
