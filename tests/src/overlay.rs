//! Overlays to be tried as their users see them, whoever mounts them.
//!
//! A test describes layers ([`tree`]), has them mounted, works in the mount by system calls, and describes what is to
//! be there afterwards: through the mount, in the upper directory, and once more when that is mounted anew.
//! [`cases!`](crate::cases) has each test run by several backends; what a peer fails is left out of its list, and said
//! there.
//!
//! Each test runs once more inside a user, mount and process namespace that an ordinary user may make, as the first
//! process there, and with the mount as its working directory. However it ends, no mount and no process is left.

pub mod steps;
pub mod tree;

use std::env;
use std::ffi::CString;
use std::fs::{self, File, Permissions};
use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rbox_sys::rlimit::{self, Resource};
use rbox_sys::{dir, mount};
use tempfile::TempDir;

use crate::calls::{self, Errno, WaitOptions};
use crate::command::shown;
use crate::inside::{self, Tries};
use crate::patience::{self, until};
use crate::{held, host, packages, processes};
use tree::View;

/// What rbox is called by to be as fuse-overlayfs.
const DRIVER: &str = "rbox-overlay";

/// The peer's program, and its package.
const PEER: &str = "fuse-overlayfs";

/// Who mounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// rbox's own, by FUSE.
    Rbox,
    /// The kernel's, with `userxattr`. What a case says holds here, or the case is wrong.
    Kernel,
    /// fuse-overlayfs.
    FuseOverlayfs,
}

/// Layers, and what they are together, mounted until this is dropped. The mount is the process's working directory.
pub struct Overlay {
    backend: Backend,
    lowers: usize,
    writable: bool,
    dir: TempDir,
}

/// Where the mount is, below the overlay's own directory.
const MERGED: &str = "merged";

impl Backend {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Kernel, Self::FuseOverlayfs, Self::Rbox];

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rbox => DRIVER,
            Self::Kernel => "kernel overlay",
            Self::FuseOverlayfs => PEER,
        }
    }
}

impl Overlay {
    /// Mounts these lower layers, the topmost first, below an upper one that is empty.
    pub fn new(backend: Backend, lowers: &[&str]) -> Result<Self> {
        Self::over(backend, lowers, "")
    }

    /// As [`Self::new`], with an upper one that is not.
    pub fn over(backend: Backend, lowers: &[&str], upper: &str) -> Result<Self> {
        Self::bare(backend, lowers, upper)?.mounted()
    }

    /// The layers, and nothing mounted yet.
    pub fn bare(backend: Backend, lowers: &[&str], upper: &str) -> Result<Self> {
        let everyone = Permissions::from_mode(0o755);
        let dir = tempfile::Builder::new().prefix("overlay.").permissions(everyone).tempdir_in(host::scratch_base())?;
        let overlay = Self { backend, lowers: lowers.len(), writable: true, dir };
        overlay.leave()?;
        for name in ["upper", "work", MERGED] {
            fs::create_dir(name)?;
        }
        tree::make(Path::new("upper"), upper)?;
        for (number, layer) in lowers.iter().enumerate() {
            fs::create_dir(number.to_string())?;
            tree::make(Path::new(&number.to_string()), layer).with_context(|| format!("lower layer {number}"))?;
        }
        Ok(overlay)
    }

    /// The lower layers alone, which nobody can change so.
    pub fn without_upper(backend: Backend, lowers: &[&str]) -> Result<Self> {
        let mut overlay = Self::bare(backend, lowers, "")?;
        overlay.writable = false;
        overlay.mounted()
    }

    /// Mounts them. What has been mounted below the current directory, or replaced there, is used as it is.
    pub fn mounted(self) -> Result<Self> {
        self.mount()?;
        Ok(self)
    }

    /// The upper directory.
    pub fn upper(&self) -> PathBuf {
        self.dir.path().join("upper")
    }

    /// Whether a lower one, of which 0 is the topmost, has this.
    pub fn lower_is(&self, number: usize, text: &str) -> Result<()> {
        tree::compare(&self.dir.path().join(number.to_string()), View::Merged, text).context("in a lower directory")
    }

    /// Whether the mount shows this.
    pub fn shows(&self, merged: &str) -> Result<()> {
        tree::compare(Path::new("."), View::Merged, merged).context("through the mount")
    }

    /// Has another directory be one of the lower ones, as long as this process's mount namespace is there.
    pub fn put_lower(&self, number: usize, other: &Path) -> Result<()> {
        let place = self.dir.path().join(number.to_string());
        let other = mount::clone_tree(dir::open(other)?.as_fd(), Path::new(""), false)?;
        Ok(mount::attach(other.as_fd(), dir::open(&place)?.as_fd())?)
    }

    /// Unmounts, and mounts the same again.
    pub fn remount(&self) -> Result<()> {
        self.unmount()?;
        self.mount()
    }

    /// Unmounts, and has another mount the same.
    pub fn handed_to(mut self, backend: Backend) -> Result<Self> {
        self.unmount()?;
        self.backend = backend;
        self.mounted()
    }

    /// How much memory whoever serves it has, in KiB: `Rss`, or another of the sums that [`held::memory`] knows.
    pub fn server_memory(&self, sum: &str) -> Result<usize> {
        let servers = others();
        let [server] = &servers[..] else { bail!("{servers:?} serve it") };
        held::memory(server.parse()?, sum)
    }

    /// Kills who serves it, which the kernel does not need.
    pub fn kill_server(&self) -> Result<()> {
        end_servers("KILL")
    }

    /// Asks who serves it to end, after which nothing is mounted; and mounts the same again.
    pub fn restart_server(&self) -> Result<()> {
        self.leave()?;
        end_servers("TERM")?;
        ensure!(!is_mounted(), "it is still mounted");
        self.mount()
    }

    /// Whether the mount shows this, then the upper directory has that, and a new mount shows the first again.
    pub fn ends_as(self, merged: &str, upper: &str) -> Result<()> {
        self.shows(merged)?;
        self.unmount()?;
        tree::compare(&self.upper(), self.view(), upper).context("in the upper directory")?;
        self.mount()?;
        self.shows(merged).context("mounted anew")?;
        if self.backend != Backend::Rbox {
            return self.unmount();
        }
        // What was stopped on one may be started on the other.
        let by_kernel = self.handed_to(Backend::Kernel)?;
        by_kernel.shows(merged).context("mounted by the kernel")?;
        by_kernel.unmount()
    }

    /// As [`Self::ends_as`] where the mount shows what the upper directory has and nothing else.
    pub fn ends_as_in_upper(self, both: &str) -> Result<()> {
        self.ends_as(both, both)
    }

    fn view(&self) -> View {
        if self.backend == Backend::FuseOverlayfs { View::UpperOfPeer } else { View::Upper }
    }

    /// Mounts, and enters. Layers are named from their own directory: the options of mount(2) have one page for all.
    fn mount(&self) -> Result<()> {
        self.leave()?;
        let lowers: Vec<String> = (0..self.lowers).map(|number| number.to_string()).collect();
        let upper = if self.writable { ",upperdir=upper,workdir=work" } else { "" };
        let options = format!("lowerdir={}{upper}", lowers.join(":"));
        match self.backend {
            Backend::Kernel => {
                let options = CString::new(format!("{options},userxattr"))?;
                mount::mount_old("overlay", Path::new(MERGED), &options).context("cannot mount an overlay")?;
            }
            Backend::Rbox | Backend::FuseOverlayfs => self.serve(&options)?,
        }
        until(is_mounted, |mounted| *mounted);
        Ok(env::set_current_dir(MERGED)?)
    }

    /// Starts what serves it, which goes to the background when it is mounted.
    fn serve(&self, options: &str) -> Result<()> {
        let mut command = match self.backend {
            Backend::Rbox => {
                let program = self.dir.path().join(DRIVER);
                if !program.is_symlink() {
                    symlink(host::rbox_binary(), &program)?;
                }
                Command::new(program)
            }
            _ => peer()?,
        };
        let said = self.dir.path().join("said");
        command.args(["-o", options, MERGED]).stdin(Stdio::null()).stdout(Stdio::null());
        let status = command.stderr(File::create(&said)?).status().with_context(|| shown(&command))?;
        ensure!(status.success(), "{} ended with {status}\n{}", shown(&command), fs::read_to_string(said)?);
        Ok(())
    }

    /// Unmounts, which fails while anything of it is open, and waits until nobody serves it.
    pub fn unmount(&self) -> Result<()> {
        self.leave()?;
        ensure!(is_mounted(), "it is not mounted any more");
        mount::unmount(Path::new(MERGED)).context("cannot unmount")?;
        until(others, Vec::is_empty);
        Ok(())
    }

    fn leave(&self) -> Result<()> {
        Ok(env::set_current_dir(self.dir.path())?)
    }
}

/// What starts fuse-overlayfs.
pub fn peer() -> Result<Command> {
    packages::command(PEER, PEER)
}

impl Drop for Overlay {
    fn drop(&mut self) {
        let _ = env::set_current_dir("/");
        // Those that a test has made itself, too, the last first.
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let places = mounts.lines().rev().filter_map(|line| line.split(' ').nth(1));
        for place in places.map(Path::new).filter(|place| place.starts_with(self.dir.path())) {
            let _ = mount::detach(place);
        }
    }
}

/// Has those processes gone that have ended and whose parent this one has become: who has served many overlays would be
/// looked through by [`Overlay::unmount`] each time. No child may be waited for otherwise.
pub fn reap() -> Result<()> {
    loop {
        match calls::wait(WaitOptions::NOHANG) {
            Ok(Some(_)) => {}
            Ok(None) | Err(Errno::CHILD) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Seen from the overlay's own directory.
fn is_mounted() -> bool {
    // With a server that is gone, it is and cannot be looked at.
    let id = |path: &str| mount::id_of(Path::new(path)).ok();
    id(MERGED) != id(".")
}

fn end_servers(signal: &str) -> Result<()> {
    let servers = others();
    ensure!(!servers.is_empty(), "nobody serves it");
    servers.iter().try_for_each(|pid| processes::signal(pid.parse()?, signal))?;
    until(others, Vec::is_empty);
    Ok(())
}

/// The processes of this namespace that run, but for this one.
fn others() -> Vec<String> {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let others = all.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| {
        // One that has ended and was waited for by nobody has no program any more.
        name.parse()
            .is_ok_and(|pid: u32| pid != std::process::id() && fs::read_link(format!("/proc/{pid}/exe")).is_ok())
    });
    others.collect()
}

/// Runs a program as the first process of new namespaces, as root over all ids up to 65535. When it ends, or takes too
/// long, all that it has started ends with it.
pub fn inside(program: &Path, limit: Duration) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--signal=KILL", &limit.as_secs().to_string()]);
    command.args(["unshare", "--user", "--map-root-user", "--map-auto", "--mount"]);
    command.args(["--pid", "--fork", "--kill-child", "--mount-proc", "--"]).arg(program).env(inside::INSIDE, "1");
    command
}

/// Runs a case: the test of this name, once more, inside; and there the case itself.
#[track_caller]
pub fn judged(test: &str, backend: Backend, case: fn(Backend) -> Result<()>) {
    judged_within(patience::LIMIT, test, backend, case);
}

/// As [`judged`], of a case that has more to do.
#[track_caller]
pub fn judged_within(limit: Duration, test: &str, backend: Backend, case: fn(Backend) -> Result<()>) {
    let tries = if backend == Backend::FuseOverlayfs { Tries::OfPeer } else { Tries::One };
    let enter = |program: &Path| inside(program, limit);
    inside::judged(test, tries, enter, || {
        rlimit::raise(Resource::NOFILE).context("a limit may be raised to its ceiling")?;
        calls::umask(calls::Mode::from_raw_mode(0o022));
        case(backend)
    });
}

/// Makes tests of functions `fn(Backend) -> anyhow::Result<()>`, for each backend named: `rbox`, `kernel` or
/// `fuse_overlayfs`.
#[macro_export]
macro_rules! cases {
    ($($name:ident: $($who:ident)*;)*) => {$(
        mod $name {
            $($crate::cases!(@ $who $name);)*
        }
    )*};
    (@ rbox $name:ident) => { $crate::cases!(@ rbox $name Rbox); };
    (@ kernel $name:ident) => { $crate::cases!(@ kernel $name Kernel "long: proves the case"); };
    (@ fuse_overlayfs $name:ident) => {
        $crate::cases!(@ fuse_overlayfs $name FuseOverlayfs "long: needs fuse-overlayfs");
    };
    (@ $test:ident $name:ident $backend:ident $($reason:literal)?) => {
        #[test]
        $(#[ignore = $reason])?
        fn $test() {
            let name = concat!(module_path!(), "::", stringify!($test));
            $crate::overlay::judged(name, $crate::overlay::Backend::$backend, super::$name);
        }
    };
}
