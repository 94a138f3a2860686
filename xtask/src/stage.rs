//! A place where unprivileged users run the tests: a directory that they can reach, wherever the source tree is.
//!
//! As root, each command there has a mount namespace of its own, in which
//! - the source tree and the target directory are mounted read-only below the stage: a tree in /root will do,
//! - /sys/fs/cgroup is a plain cgroup2, on machines where it is a hybrid of both versions,
//! - a filesystem of the stage's own is mounted where benchmarks write.
//!
//! Nothing of this is seen outside, and it ends with the command. The machine's own mounts are never changed.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use rbox_tests::command::{read, run};
use rbox_tests::{fixture, host};

use crate::admin::Admin;
use crate::users::{User, become_user};

/// The directory, removed when this is dropped.
pub(crate) struct Stage {
    dir: PathBuf,
    admin: Admin,
    disk: Option<Disk>,
}

/// Who runs a command there.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Runner<'a> {
    Root,
    User(&'a User),
    /// In a cgroup that is the user's, as a service manager that was started by systemd would give him one.
    InOwnCgroup(&'a User),
}

impl<'a> Runner<'a> {
    pub(crate) fn user(self) -> Option<&'a User> {
        match self {
            Self::Root => None,
            Self::User(user) | Self::InOwnCgroup(user) => Some(user),
        }
    }

    pub(crate) fn name(self) -> &'a str {
        self.user().map_or("root", |user| &user.name)
    }
}

/// Joins a cgroup of the user's below `$cgroup`, and removes both when the words have run and nobody is left in them.
const IN_OWN_CGROUP: &str = r#"
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system $cgroup/tests
chown $owner $cgroup $cgroup/tests
for file in procs threads subtree_control; do
    chown $owner $cgroup/cgroup.$file $cgroup/tests/cgroup.$file
done
status=0
sh -c 'echo $$ >"$0" && exec "$@"' $cgroup/tests/cgroup.procs "$@" || status=$?
for moment in $(seq 50); do
    find $cgroup -depth -type d -exec rmdir {} + 2>/dev/null || true
    test ! -d $cgroup || sleep 0.1
done
test ! -d $cgroup || { echo "somebody is left in $cgroup" >&2; exit 1; }
exit $status
"#;

/// A filesystem of the stage's own, which commands have as their scratch space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disk {
    /// ext4 with a journal on a loop device, of which at most this is used: `6G`.
    Ext4(&'static str),
    /// tmpfs.
    Memory,
}

impl std::fmt::Display for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Ext4(_) => "an ext4 with journal of its own (loop device)",
            Self::Memory => "a tmpfs of its own",
        })
    }
}

impl Stage {
    /// Makes the directory. In /var/tmp: /tmp may be a tmpfs, on which unprivileged overlay mounts need Linux 6.6.
    pub(crate) fn new(admin: Admin) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("rbox-stage.").tempdir_in("/var/tmp")?.keep();
        std::fs::set_permissions(&dir, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        for name in ["source", "target"] {
            std::fs::create_dir(dir.join(name))?;
        }
        Ok(Self { dir, admin, disk: None })
    }

    /// Gives the stage a filesystem. Only root can.
    pub(crate) fn add_disk(&mut self, disk: Disk) -> Result<()> {
        if let Disk::Ext4(size) = disk {
            let image = self.dir.join("disk.img");
            run(Command::new("fallocate").args(["-l", size]).arg(&image))?;
            let eager = ["-q", "-E", "lazy_itable_init=0,lazy_journal_init=0"];
            read(Command::new("/sbin/mkfs.ext4").args(eager).arg(&image))?;
        }
        self.disk = Some(disk);
        Ok(())
    }

    /// A home directory on the stage for the user of this name, yet to be made.
    pub(crate) fn home(&self, name: &str) -> PathBuf {
        self.dir.join(format!("home-{name}"))
    }

    /// `program`, which is in the target directory, to be run by somebody; `variable`, as NAME=VALUE, is one more of its
    /// environment.
    pub(crate) fn command(&self, program: &Path, runner: Runner<'_>, variable: Option<&str>) -> Result<Command> {
        let (name, user) = (runner.name(), runner.user());
        let scratch = self.dir.join(format!("tmp-{name}"));
        let inside = |path: &Path| -> Result<PathBuf> {
            let below = path.strip_prefix(host::target_dir());
            Ok(self.dir.join("target").join(below.with_context(|| format!("{} is elsewhere", path.display()))?))
        };
        let mut environment = vec![
            ("RBOX_SOURCE".to_owned(), self.dir.join("source")),
            ("RBOX_BIN".to_owned(), self.dir.join("target/rbox")),
            ("RBOX_FIXTURES".to_owned(), inside(&fixture::dir())?),
            ("CARGO_TARGET_DIR".to_owned(), self.dir.join("target")),
            ("RBOX_TEST_TMP".to_owned(), scratch.clone()),
            ("TMPDIR".to_owned(), scratch.clone()),
            ("HOME".to_owned(), self.home(name)),
            ("PATH".to_owned(), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into()),
            ("USER".to_owned(), name.into()),
        ];
        let unique = self.dir.file_name().unwrap_or_default().to_string_lossy();
        let cgroup = Path::new("/sys/fs/cgroup").join(unique.as_ref());
        if let Runner::InOwnCgroup(_) = runner {
            environment.push(("RBOX_TEST_CGROUP".to_owned(), cgroup.clone()));
        }
        for kept in ["CI", "TERM", "RUST_BACKTRACE", "RBOX_TEST_RUNTIME"] {
            environment.extend(std::env::var_os(kept).map(|value| (kept.to_owned(), value.into())));
        }
        let environment: Vec<(String, String)> =
            environment.into_iter().map(|(name, value)| (name, value.to_string_lossy().into_owned())).collect();

        let mut script = String::from("set -e\n");
        for (from, to) in [(host::source_root(), "source"), (host::target_dir(), "target")] {
            let (from, to) = (quoted(&from), quoted(&self.dir.join(to)));
            script += &format!("mount --bind {from} {to}\nmount -o remount,bind,ro {to}\n");
        }
        if !cgroup_is_plain()? {
            script += "mount -t cgroup2 cgroup2 /sys/fs/cgroup\n";
        }
        let owner = user.map_or_else(|| "0:0".to_owned(), |user| format!("{}:{}", user.uid, user.gid));
        let (scratch, home) = (quoted(&scratch), quoted(&self.home(name)));
        script += &format!("mkdir -p {scratch} {home}\n");
        match self.disk {
            Some(Disk::Ext4(_)) => {
                script += &format!("mount -t ext4 -o loop {} {scratch}\n", quoted(&self.dir.join("disk.img")));
            }
            Some(Disk::Memory) => script += &format!("mount -t tmpfs tmpfs {scratch}\n"),
            None => {}
        }
        script += &format!("chown {owner} {scratch} {home}\ncd {home}\n");
        script += &match runner {
            Runner::InOwnCgroup(_) => format!("owner={owner}\ncgroup={}{IN_OWN_CGROUP}", quoted(&cgroup)),
            _ => "exec \"$@\"\n".to_owned(),
        };

        let mut command = self.admin.command("unshare").context("only root has a stage")?;
        command.args(["--mount", "--propagation", "private", "sh", "-c", &script, "sh"]);
        match user {
            Some(user) => become_user(user, &environment, &mut command),
            None => {
                command.args(["env", "-i"]).args(environment.iter().map(|(name, value)| format!("{name}={value}")));
            }
        }
        // However this is started: nohup(1) has signals ignored, and shells do for what they put in the background.
        command.args(["env", "--default-signal"]).args(variable).arg(inside(program)?);
        Ok(command)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // Users with subordinate ids have left files that only root can remove.
        if let Some(mut rm) = self.admin.command("rm")
            && let Err(error) = run(rm.args(["-rf", "--one-file-system"]).arg(&self.dir))
        {
            eprintln!("warning: {} is left: {error:#}", self.dir.display());
        }
    }
}

/// Whether /sys/fs/cgroup is version 2 and nothing else.
pub(crate) fn cgroup_is_plain() -> Result<bool> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").context("cannot read /proc/self/mounts")?;
    let on_top = mounts.lines().rev().find(|line| line.split(' ').nth(1) == Some("/sys/fs/cgroup"));
    Ok(on_top.is_some_and(|line| line.split(' ').nth(2) == Some("cgroup2")))
}

fn quoted(path: &Path) -> String {
    format!("'{}'", path.to_string_lossy().replace('\'', r"'\''"))
}
