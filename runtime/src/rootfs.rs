//! The container's file tree: root, mounts, /dev, masked paths, and the change of root.
//!
//! All of it happens on the new root through one descriptor, before the old root is given up: each destination is
//! resolved inside the root to a descriptor (the image may have links anywhere), and a detached mount is attached
//! there.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rbox_sys::mount::{self, Attributes, Filesystem};
use rbox_sys::socket::Channel;
use rbox_sys::tty::{self, Winsize};
use rbox_sys::{dir, fd, in_root, process};

use crate::error::{During, Failure};
use crate::plan::{InitPlan, MountSource, MountStep};
use crate::report::Report;

/// Links that every container has in /dev (runtime spec, "Dev symbolic links", and runc's).
const DEV_LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
    ("pts/ptmx", "/dev/ptmx"),
];

/// What mends a /proc or /sys that cannot be mounted: the kernel gives a user namespace a fresh one only where the
/// outer one is fully visible (mount_too_revealing() in fs/namespace.c).
pub(crate) const PROC_HINT: &str = "parts of the outer one are covered, as inside another container: start that one \
     with them uncovered (Docker and Podman: --security-opt systempaths=unconfined)";

/// Builds the tree on the detached mount `root` and makes it this process's root.
pub(crate) fn build(
    plan: &mut InitPlan,
    channel: &Channel,
    root: &OwnedFd,
    files: &[(PathBuf, String)],
) -> Result<(), Failure> {
    let root = root.as_fd();
    // Over the old root, where a directory is sure to be; pivot_root(2) swaps the two.
    let old_root = dir::open(Path::new("/")).during(|| "open the host's root")?;
    mount::attach(root, old_root.as_fd()).during(|| "attach the root filesystem")?;
    plan.trace.mark("attach the root filesystem");
    if let Some(cover) = plan.mounts.first() {
        show_files(root, files, &cover.destination)?;
        plan.trace.mark("show files in /etc");
    }
    for step in &plan.mounts {
        mount_one(root, step)?;
        if step.destination == Path::new("/dev") {
            for (target, link) in DEV_LINKS {
                in_root::create_symlink(root, target, Path::new(link)).during(|| format!("make the link {link}"))?;
            }
        }
    }
    plan.trace.mark("mount");
    if let Some(size) = plan.terminal {
        let slave = open_console(root, channel, size, plan.user.uid)?;
        tty::take_as_controlling(slave.as_fd()).during(|| "take the terminal as the controlling one")?;
        for place in 0..3 {
            tty::replace_stdio(slave.as_fd(), place).during(|| "put the terminal in place of the standard streams")?;
        }
        plan.trace.mark("make the terminal");
    }
    // The workload's directory is made while the root can still be written.
    in_root::create_dir_all(root, &plan.cwd, 0o755)
        .during(|| format!("make the working directory {}", plan.cwd.display()))?;
    for path in &plan.read_only_paths {
        make_read_only(root, path)?;
    }
    mask(root, &plan.masked_paths)?;
    plan.trace.mark("mask paths");
    if plan.root_read_only {
        mount::set_attributes(root, Attributes::READ_ONLY, Attributes::default(), false)
            .during(|| "make the root filesystem read-only")?;
    }
    process::change_directory_to(root).during(|| "enter the root filesystem")?;
    mount::pivot_to_current_directory().during(|| "pivot to the root filesystem")?;
    plan.trace.mark("pivot_root");
    Ok(())
}

fn mount_one(root: BorrowedFd<'_>, step: &MountStep) -> Result<(), Failure> {
    let destination = &step.destination;
    let (mounted, directory) = match &step.source {
        MountSource::New(kind) => (new_filesystem(kind, step)?, true),
        MountSource::Detached { path, fd, directory } => {
            let what = || format!("bind {} on {}", path.display(), destination.display());
            let clone = fd::inherited(*fd).during(what)?;
            let options = &step.options;
            if (options.set, options.clear) != (0, 0) {
                let (set, clear) = (options.set_attributes(), options.clear_attributes());
                mount::set_attributes(clone.as_fd(), set, clear, options.attributes_recursive).during(what)?;
            }
            (clone, *directory)
        }
        MountSource::Bind(path) => {
            return Err(Failure::new(format!("bind {}", path.display()), &ErrorKind::InvalidInput.into()));
        }
    };
    let target = if directory {
        in_root::create_dir_all(root, destination, 0o755)
    } else {
        in_root::create_file(root, destination, 0o644)
    };
    let target = target.during(|| format!("make the mount point {}", destination.display()))?;
    mount::attach(mounted.as_fd(), target.as_fd()).during(|| format!("mount on {}", destination.display()))
}

/// Shows small files of an instance of tmpfs, before anything else is mounted.
///
/// What is not attached cannot be cloned before Linux 6.15. So the instance is attached where the spec's first mount will
/// cover it for good: taking it off again would wait for an RCU grace period, which is longer than all the rest here.
fn show_files(root: BorrowedFd<'_>, files: &[(PathBuf, String)], cover: &Path) -> Result<(), Failure> {
    if files.is_empty() {
        return Ok(());
    }
    let memory = || -> io::Result<OwnedFd> {
        let filesystem = Filesystem::open("tmpfs")?;
        filesystem.set("mode", "755")?;
        filesystem.set("size", "1m")?;
        let memory = filesystem.mount(Attributes::NOSUID.and(Attributes::NODEV).and(Attributes::NOEXEC))?;
        let place = in_root::create_dir_all(root, cover, 0o755)?;
        mount::attach(memory.as_fd(), place.as_fd())?;
        Ok(memory)
    };
    let memory = memory().during(|| "mount tmpfs for files in /etc")?;
    for (number, (path, content)) in files.iter().enumerate() {
        let what = || format!("show {}", path.display());
        let name = PathBuf::from(number.to_string());
        let file = in_root::create_file(memory.as_fd(), &name, 0o644).during(what)?;
        fs::write(format!("/proc/self/fd/{}", file.as_raw_fd()), content).during(what)?;
        let clone = mount::clone_tree(file.as_fd(), Path::new(""), false).during(what)?;
        let target = in_root::create_file(root, path, 0o644).during(what)?;
        mount::attach(clone.as_fd(), target.as_fd()).during(what)?;
    }
    Ok(())
}

fn new_filesystem(kind: &str, step: &MountStep) -> Result<OwnedFd, Failure> {
    // The runtime spec's "cgroup" is whatever hierarchy the host has; this one is v2 only.
    let kind = if kind == "cgroup" { "cgroup2" } else { kind };
    let what = || format!("mount {kind} on {}", step.destination.display());
    let filesystem = Filesystem::open(kind).during(what)?;
    for (key, value) in &step.options.data {
        let set = match value {
            Some(value) => filesystem.set(key, value),
            None => filesystem.set_flag(key),
        };
        set.during(|| format!("{} with option {key:?}", what()))?;
    }
    filesystem.mount(step.options.set_attributes()).map_err(|error| {
        let failure = Failure::new(what(), &error);
        match (kind, error.kind()) {
            ("proc" | "sysfs", ErrorKind::PermissionDenied) => failure.hint(PROC_HINT),
            _ => failure,
        }
    })
}

/// A pseudo-terminal of the container's own devpts, also shown as /dev/console. Gives the workload's end.
fn open_console(root: BorrowedFd<'_>, channel: &Channel, size: (u16, u16), uid: u32) -> Result<OwnedFd, Failure> {
    let pts = in_root::open_path(root, Path::new("/dev/pts")).during(|| "open /dev/pts")?;
    let (master, slave) = tty::open_pty_at(pts.as_fd(), "ptmx").during(|| "open a pseudo-terminal")?;
    if size != (0, 0) {
        let size = Winsize { ws_row: size.0, ws_col: size.1, ws_xpixel: 0, ws_ypixel: 0 };
        tty::set_size(slave.as_fd(), size).during(|| "set the terminal's size")?;
    }
    std::os::unix::fs::fchown(&slave, Some(uid), None).during(|| "give the terminal to the workload's user")?;
    let console = in_root::create_file(root, Path::new("/dev/console"), 0o600).during(|| "make /dev/console")?;
    let clone = mount::clone_tree(slave.as_fd(), Path::new(""), false).during(|| "clone the terminal's node")?;
    mount::attach(clone.as_fd(), console.as_fd()).during(|| "mount on /dev/console")?;
    Report::Console.send(channel, Some(master.as_fd())).during(|| "hand the terminal to the supervisor")?;
    Ok(slave)
}

/// Binds `path` over itself, read-only. What is not there needs no protection.
fn make_read_only(root: BorrowedFd<'_>, path: &Path) -> Result<(), Failure> {
    let what = || format!("make {} read-only", path.display());
    let Some(target) = if_there(in_root::open_path(root, path)).during(what)? else { return Ok(()) };
    let clone = mount::clone_tree(target.as_fd(), Path::new(""), true).during(what)?;
    mount::set_attributes(clone.as_fd(), Attributes::READ_ONLY, Attributes::default(), true).during(what)?;
    mount::attach(clone.as_fd(), target.as_fd()).during(what)
}

/// Covers files with /dev/null and directories with one empty, read-only directory.
fn mask(root: BorrowedFd<'_>, paths: &[PathBuf]) -> Result<(), Failure> {
    let mut null = None;
    let mut empty = None;
    for path in paths {
        let what = || format!("mask {}", path.display());
        let Some(target) = if_there(in_root::open_path(root, path)).during(what)? else { continue };
        let metadata = target.try_clone().and_then(|target| File::from(target).metadata()).during(what)?;
        let cover = if metadata.is_dir() { &mut empty } else { &mut null };
        let clone = match &*cover {
            // Both covers are mounted once and cloned from there on: a clone shares the first one's superblock.
            Some(first) => clone_mount(first).during(what)?,
            None if metadata.is_dir() => empty_directory().during(what)?,
            None => clone_mount(&container_null(root).during(what)?).during(what)?,
        };
        mount::attach(clone.as_fd(), target.as_fd()).during(what)?;
        cover.get_or_insert(clone);
    }
    Ok(())
}

fn clone_mount(mounted: &OwnedFd) -> io::Result<OwnedFd> {
    mount::clone_tree(mounted.as_fd(), Path::new(""), false)
}

fn empty_directory() -> io::Result<OwnedFd> {
    let filesystem = Filesystem::open("tmpfs")?;
    filesystem.set("mode", "755")?;
    filesystem.set("nr_inodes", "1")?;
    let all = Attributes::READ_ONLY.and(Attributes::NOSUID).and(Attributes::NODEV).and(Attributes::NOEXEC);
    filesystem.mount(all)
}

/// The container's /dev/null, which must be the null device and nothing that an image or another container put in its
/// place (CVE-2025-31133).
fn container_null(root: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    /// major 1, minor 3 (Documentation/admin-guide/devices.txt), as st_rdev has it.
    const NULL_DEVICE: u64 = 1 << 8 | 3;
    let null = in_root::open_path(root, Path::new("/dev/null"))?;
    let metadata = File::from(null.try_clone()?).metadata()?;
    if metadata.file_type().is_char_device() && metadata.rdev() == NULL_DEVICE {
        Ok(null)
    } else {
        Err(io::Error::new(ErrorKind::InvalidData, "/dev/null of the container is not the null device"))
    }
}

fn if_there(opened: io::Result<OwnedFd>) -> io::Result<Option<OwnedFd>> {
    match opened {
        Ok(found) => Ok(Some(found)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}
