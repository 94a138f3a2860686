//! The container's file tree: root, mounts, /dev, masked paths, and the change of root.
//!
//! All of it happens on the new root through one descriptor, before the old root is given up: each destination is
//! resolved inside the root to a descriptor (the image may have links anywhere), and a detached mount is attached
//! there.

use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rbox_sys::mount::{self, Attributes, Filesystem};
use rbox_sys::socket::Channel;
use rbox_sys::{at, beneath, dir, in_root, process, tty};

use crate::copy_up::copy_up;
use crate::error::{During, Failure};
use crate::mount_options::MountOptions;
use crate::mounted::Mounted;
use crate::order::Order;
use crate::plan::{InitPlan, MountSource, MountStep, User};
use crate::report::Report;
use crate::sources::{Source, Sources};
use crate::status::Status;
use crate::trace::Trace;
use crate::{dev, hooks, labels, mask};

/// Attaches the detached mount `root`, and shows small files in the place of its own.
pub(crate) fn attach(plan: &InitPlan, root: &OwnedFd, files: &[(PathBuf, String)]) -> Result<(), Failure> {
    // Over the old root, where a directory is sure to be; pivot_root(2) swaps the two.
    let place = plan.place.as_deref().unwrap_or(Path::new("/"));
    let target = dir::open(place).during(|| format!("open {}", place.display()))?;
    mount::attach(root.as_fd(), target.as_fd()).during(|| "attach the root filesystem")?;
    match plan.mounts.first() {
        Some(cover) => show_files(root.as_fd(), files, &cover.destination, plan.attributes.labels.mount.as_deref()),
        None => Ok(()),
    }
}

/// Builds the tree on the attached `root`, and makes it this process's root.
pub(crate) fn build(
    plan: &InitPlan,
    sources: Sources,
    channel: &Channel,
    root: &OwnedFd,
    trace: &mut Trace,
) -> Result<(), Failure> {
    let root = root.as_fd();
    let mut mounted = Mounted::new(root);
    for (step, source) in plan.mounts.iter().zip(sources.into_iter()) {
        mounted.add(step, mount_one(root, step, source, &plan.user)?);
        if step.destination == Path::new(dev::PATH) && !dev::is_new(step) {
            let what = || format!("open {}", dev::PATH);
            dev::fill(in_root::open_path(root, &step.destination).during(what)?.as_fd(), &[])?;
        }
    }
    trace.mark("mount");
    if let Some(size) = plan.terminal {
        let slave = open_terminal(root, channel, size, plan.user.uid)?;
        show_console(root, &slave)?;
        use_terminal(&slave)?;
        trace.mark("make the terminal");
    }
    // The workload's directory is made while the root can still be written.
    in_root::create_dir_all(root, &plan.cwd, 0o755)
        .during(|| format!("make the working directory {}", plan.cwd.display()))?;
    mounted.make_late_ones_read_only()?;
    for path in &plan.read_only_paths {
        mask::make_read_only(&mounted, path)?;
    }
    mask::cover(&mounted, &plan.masked_paths, plan.attributes.labels.mount.as_deref())?;
    trace.mark("mask paths");
    if plan.root_read_only {
        mount::set_attributes(root, Attributes::READ_ONLY, Attributes::default(), false)
            .during(|| "make the root filesystem read-only")?;
    }
    if plan.waits_for_hooks {
        Report::Built.send(channel, None).during(|| "call for the hooks")?;
        Order::Hooked.expect(channel).during(|| "wait for the hooks")?;
    }
    hooks::run(&plan.create_container, &plan.subject.state(Status::Creating, Some(std::process::id())), &[])?;
    process::change_directory_to(root).during(|| "enter the root filesystem")?;
    if plan.no_pivot || plan.place.is_some() {
        process::change_root_to_current_directory().during(|| "change the root to the root filesystem")?;
    } else {
        mount::pivot_to_current_directory().during(|| "pivot to the root filesystem")?;
    }
    // The mounts are private from the beginning, and those that are slaves have said so themselves: as in runc, these
    // words for the root do not undo what a mount says.
    if let Some(propagation) = plan.root_propagation.filter(|propagation| propagation.is_late()) {
        propagation.apply(root).during(|| "set linux.rootfsPropagation")?;
    }
    trace.mark("pivot_root");
    Ok(())
}

/// Gives the mount.
fn mount_one(
    root: BorrowedFd<'_>,
    step: &MountStep,
    source: Option<Source>,
    user: &User,
) -> Result<Option<OwnedFd>, Failure> {
    let destination = &step.destination;
    match &step.source {
        MountSource::Device(device) => {
            return device.show(root, source.as_ref().map(|source| &source.mount)).map(|()| None);
        }
        MountSource::Remount => return remount(root, step).map(|()| None),
        MountSource::Bind(_) | MountSource::New(_) => {}
    }
    let Some(Source { mount: mounted, directory, first_use }) = source else {
        let missing = ErrorKind::InvalidInput.into();
        return Err(Failure::new(format!("find what is to be mounted on {}", destination.display()), &missing));
    };
    if let Some(volume) = &step.volume {
        // Before it may be read-only.
        volume.prepare(root, mounted.as_fd(), first_use.as_ref(), user)?;
    }
    let options = &step.options;
    if matches!(step.source, MountSource::Bind(_)) && (options.set, options.clear) != (0, 0) {
        let (set, clear) = (options.set_attributes(), options.clear_attributes());
        mount::set_attributes(mounted.as_fd(), set, clear, options.attributes_recursive)
            .during(|| format!("set the options of the bind mount on {}", destination.display()))?;
    }
    let takes_mode = matches!(&step.source, MountSource::New(kind) if kind == "tmpfs")
        && options.data.iter().all(|(key, _)| key != "mode");
    // A tmpfs is as accessible as the directory that it covers, and not the sticky 1777 of the kernel's (runc does so).
    let covered = if takes_mode || options.copy_up { in_root::open_path(root, destination).ok() } else { None };
    if let Some(covered) = covered.as_ref().filter(|_| takes_mode) {
        let mode = at::status_of(covered.as_fd()).map(|covered| covered.mode);
        mode.and_then(|mode| at::set_mode_of(mounted.as_fd(), mode))
            .during(|| format!("give what is mounted on {} the mode of that", destination.display()))?;
    }
    if let Some(covered) = covered.filter(|_| options.copy_up) {
        let before = at::status_of(mounted.as_fd()).during(|| format!("look at the new {}", destination.display()))?;
        copy_up(covered.as_fd(), mounted.as_fd(), destination)?;
        keep_what_was_asked(mounted.as_fd(), &before, options)
            .during(|| format!("set the owner and mode of {}", destination.display()))?;
    }
    let is_kernels = match &step.source {
        MountSource::New(kind) => kind == "proc" || kind == "sysfs",
        MountSource::Bind(path) => path == Path::new("/proc"),
        MountSource::Device(_) | MountSource::Remount => false,
    };
    let target = if is_kernels {
        ordinary_directory(root, destination)
            .during(|| format!("mount on {}: it must be mounted on ordinary directory", destination.display()))?
    } else {
        let target = if directory {
            in_root::create_dir_all(root, destination, 0o755)
        } else {
            in_root::create_file(root, destination, 0o644)
        };
        target.during(|| format!("make the mount point {}", destination.display()))?
    };
    mount::attach(mounted.as_fd(), target.as_fd()).during(|| format!("mount on {}", destination.display()))?;
    for propagation in &options.propagation {
        propagation.apply(mounted.as_fd()).during(|| format!("set the propagation of {}", destination.display()))?;
    }
    Ok(Some(mounted))
}

/// A directory that no link leads to: an image with one would have this mount elsewhere, and a /proc of its own making
/// (CVE-2019-19921). It is looked at and opened at once, or whoever shares the root could come between
/// (CVE-2023-27561).
fn ordinary_directory(root: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    let relative = path.strip_prefix("/").unwrap_or(path).as_os_str().as_bytes();
    match beneath::open_dir_path(root, relative) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            in_root::create_dir_all(root, path, 0o755)?;
            beneath::open_dir_path(root, relative)
        }
        found => found,
    }
}

/// The spec's own owner and mode of a tmpfs count, not those of the directory that was copied into it.
fn keep_what_was_asked(mounted: BorrowedFd<'_>, before: &at::Status, options: &MountOptions) -> io::Result<()> {
    let asked = |name| options.data.iter().any(|(key, _)| key == name);
    let now = at::status_of(mounted)?;
    let owner = |name, before, now| if asked(name) { before } else { now };
    at::set_owner_of(
        beneath::open_dir(mounted, b"")?.as_fd(),
        owner("uid", before.uid, now.uid),
        owner("gid", before.gid, now.gid),
    )?;
    at::set_mode_of(mounted, owner("mode", before.mode, now.mode))
}

/// Changes what is mounted there: the attributes that are not named are cleared, as mount(2) does it.
fn remount(root: BorrowedFd<'_>, step: &MountStep) -> Result<(), Failure> {
    let what = || format!("remount {}", step.destination.display());
    let options = &step.options;
    let mounted = in_root::open_path(root, &step.destination).during(what)?;
    let plain = [Attributes::READ_ONLY, Attributes::NOSUID, Attributes::NODEV, Attributes::NOEXEC];
    let cleared = plain.into_iter().fold(options.clear_attributes(), Attributes::and);
    let cleared = cleared.without(options.set_attributes());
    mount::set_attributes(mounted.as_fd(), options.set_attributes(), cleared, options.attributes_recursive)
        .during(what)?;
    options.propagation.iter().try_for_each(|propagation| propagation.apply(mounted.as_fd()).during(what))
}

/// Shows small files of an instance of tmpfs, in the SELinux context, before anything else is mounted.
///
/// What is not attached cannot be cloned before Linux 6.15. So the instance is attached where the spec's first mount will
/// cover it for good: taking it off again would wait for an RCU grace period, which is longer than all the rest here.
fn show_files(
    root: BorrowedFd<'_>,
    files: &[(PathBuf, String)],
    cover: &Path,
    context: Option<&str>,
) -> Result<(), Failure> {
    if files.is_empty() {
        return Ok(());
    }
    let memory = || -> io::Result<OwnedFd> {
        let filesystem = Filesystem::open("tmpfs")?;
        filesystem.set("mode", "755")?;
        filesystem.set("size", "1m")?;
        labels::set_context(&filesystem, context)?;
        let memory = filesystem.mount(Attributes::NOSUID.and(Attributes::NODEV).and(Attributes::NOEXEC))?;
        let place = in_root::create_dir_all(root, cover, 0o755)?;
        mount::attach(memory.as_fd(), place.as_fd())?;
        Ok(memory)
    };
    let memory = memory().during(|| "mount tmpfs for files in /etc")?;
    for (number, (path, content)) in files.iter().enumerate() {
        let what = || format!("show {}", path.display());
        let name = number.to_string();
        at::create_file(memory.as_fd(), name.as_bytes(), 0o644)
            .and_then(|mut file| file.write_all(content.as_bytes()))
            .during(what)?;
        let clone = mount::clone_tree(memory.as_fd(), Path::new(&name), false).during(what)?;
        let target = in_root::create_file(root, path, 0o644).during(what)?;
        mount::attach(clone.as_fd(), target.as_fd()).during(what)?;
    }
    Ok(())
}

/// Gives this process, in a container that is there already, a terminal of the container's.
pub(crate) fn take_terminal(channel: &Channel, size: (u16, u16), uid: u32) -> Result<(), Failure> {
    let root = dir::open(Path::new("/")).during(|| "open the root")?;
    use_terminal(&open_terminal(root.as_fd(), channel, size, uid)?)
}

/// A pseudo-terminal of the container's own devpts; its master goes to the launcher. Gives the workload's end.
fn open_terminal(root: BorrowedFd<'_>, channel: &Channel, size: (u16, u16), uid: u32) -> Result<OwnedFd, Failure> {
    let pts = in_root::open_path(root, Path::new("/dev/pts")).during(|| "open /dev/pts")?;
    let (master, slave) = tty::open_pty_at(pts.as_fd(), "ptmx").during(|| "open a pseudo-terminal")?;
    if size != (0, 0) {
        tty::set_size(slave.as_fd(), tty::winsize(size.0, size.1)).during(|| "set the terminal's size")?;
    }
    std::os::unix::fs::fchown(&slave, Some(uid), None).during(|| "give the terminal to the workload's user")?;
    Report::Console.send(channel, Some(master.as_fd())).during(|| "hand the terminal to the supervisor")?;
    Ok(slave)
}

/// The terminal also as /dev/console.
fn show_console(root: BorrowedFd<'_>, slave: &OwnedFd) -> Result<(), Failure> {
    let console = in_root::create_file(root, Path::new("/dev/console"), 0o600).during(|| "make /dev/console")?;
    let clone = mount::clone_tree(slave.as_fd(), Path::new(""), false).during(|| "clone the terminal's node")?;
    mount::attach(clone.as_fd(), console.as_fd()).during(|| "mount on /dev/console")
}

fn use_terminal(slave: &OwnedFd) -> Result<(), Failure> {
    tty::take_as_controlling(slave.as_fd()).during(|| "take the terminal as the controlling one")?;
    (0..3).try_for_each(|place| {
        tty::replace_stdio(slave.as_fd(), place).during(|| "put the terminal in place of the standard streams")
    })
}
