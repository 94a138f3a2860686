//! A container's cgroup, version 2: cgroups(7), Documentation/admin-guide/cgroup-v2.rst of the kernel.
//!
//! # Theory of operation
//!
//! ```text
//! Cgroup::place   where it goes, and whether this user may have it there           nothing is changed
//! Place::create   the directories; controllers passed down as far as they go       → Cgroup, Record
//! apply, restrict_devices, delegate                                                before the first process
//! as_fd           for CLONE_INTO_CGROUP: the container's first process is born in it, so nothing escapes
//! freeze, thaw, kill, signal_all, processes, statistics, apply again               other invocations: Cgroup::open
//! delete          the cgroups below it, itself, and those above it that create made
//! ```
//!
//! The cgroup2 filesystem is found once, checked to be one, and everything is resolved beneath that descriptor without
//! links, `..` or other mounts. What a container makes below its cgroup (where that is delegated to it) is never
//! followed as a path. A [`Record`] knows the cgroup by its inode, which the kernel uses once: another cgroup that has
//! the same name by now is not taken for it.
//!
//! All of `linux.resources` is checked before the first write, see `limits`. A limit that cannot be had is an error
//! that names the controller and says who does not pass it down. Limits are the union of what runc and crun take, and
//! what either of them passes over in silence is refused.
//!
//! Not here: cgroup v1, threaded cgroups. A cgroup that systemd makes ([`Cgroup::of_process`]) is used as one that was there
//! before.

mod control;
mod delegated;
mod devices;
mod error;
mod follow;
mod hits;
mod limits;
mod mount;
mod place;
mod statistics;
mod tree;

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxResources};
use rbox_sys::bpf::Program;
use rbox_sys::{at, cgroup};
use serde::{Deserialize, Serialize};

pub(crate) use delegated::{Delegated, may_be_delegated, remove_left};
pub use error::{Error, Missing, TO_V2, to_delegate};
pub use follow::follow;
pub use hits::{Hits, Watch};
pub use place::Place;
pub(crate) use place::{check_host, missing_in, needs};
pub use statistics::{
    Block, BlockEntry, Cpu, CpuUsage, Event, Hugepages, Memory, MemoryEntry, Pids, Pressure, PressureShare, Statistics,
    Throttling,
};

use limits::{IfMissing, Write};
pub(crate) use limits::{io_weight_of, weight_of_shares};
use mount::Mount;

/// The controllers that are passed down for every container: what can be limited later, and is counted meanwhile.
/// The rest is passed down when something asks for it.
const CONTROLLERS: [&str; 6] = ["cpu", "cpuset", "hugetlb", "io", "memory", "pids"];

/// A container's cgroup.
#[derive(Debug)]
pub struct Cgroup {
    mount: OwnedFd,
    dir: OwnedFd,
    record: Record,
}

/// What would be written and loaded for a cgroup, from files that all have this text.
#[cfg(test)]
pub(crate) fn plan_of(resources: &LinuxResources, text: &str) {
    let _ = limits::plan(resources, &|_| Ok(text.to_owned()));
    let _ = devices::program(resources.devices().as_deref().unwrap_or_default());
}

/// What a later invocation must know of a cgroup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Below the cgroup2 mount, without a leading `/`.
    path: String,
    /// How many of the path's last components [`Place::create`] made.
    made: usize,
    /// Its inode, which no other cgroup gets as long as the machine is up; none while it is still to be made.
    inode: Option<u64>,
}

impl Record {
    /// The cgroup's path below the cgroup2 mount: `/name`.
    pub fn path(&self) -> String {
        display(&self.path)
    }
}

/// What became of the device rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceFilter {
    /// The kernel asks them at every access.
    Attached,
    /// This caller may not attach a filter, and is in no need of one: in a user namespace no device nodes can be made
    /// (mknod(2), EPERM), and those that are bound in are guarded by the caller's own permissions.
    NotNeeded,
}

impl Cgroup {
    /// Decides where a container's cgroup goes. Nothing is made yet.
    ///
    /// `cgroups_path` is `linux.cgroupsPath`: an absolute path is below the cgroup2 mount, a relative one beside the
    /// caller's own cgroup. Without it that is `/ID`, or, where the caller may not make that one, `ID` beside his own.
    /// `privileged` says that the caller is root of the host, or will not do without a cgroup.
    ///
    /// `None`: there can be no cgroup, and none is needed, because the caller is not privileged and the spec has
    /// neither a path nor a limit. (Device rules count for nothing here, see [`DeviceFilter::NotNeeded`].)
    pub fn place(
        cgroups_path: Option<&str>,
        id: &str,
        resources: Option<&LinuxResources>,
        privileged: bool,
    ) -> Result<Option<Place>, Error> {
        Place::choose(cgroups_path, id, resources, privileged)
    }

    /// The cgroup that was made earlier; `None`: it is gone, or its making was cut short.
    pub fn open(record: &Record) -> Result<Option<Self>, Error> {
        if record.inode.is_none() {
            return Ok(None);
        }
        let mount = Mount::find()?.dir;
        let failed = |source| Error::Failed { operation: "open", path: record.path(), source };
        let dir = match cgroup::open(mount.as_fd(), &record.path) {
            Err(error) if tree::is_gone(&error) => return Ok(None),
            dir => dir.map_err(failed)?,
        };
        if Some(at::status_of(dir.as_fd()).map_err(failed)?.inode) != record.inode {
            return Ok(None);
        }
        Ok(Some(Self { mount, dir, record: record.clone() }))
    }

    /// The cgroup that a process is in. Somebody else has made it, and will remove it.
    pub fn of_process(pid: u32) -> Result<Self, Error> {
        let Mount { dir: mount, place } = Mount::find_with(&pid.to_string())?;
        let outside = || Error::NoMount(format!("the cgroup of the process {pid} is not below its mount"));
        let path = place.ok_or_else(outside)?;
        let failed = |source| Error::Failed { operation: "open", path: display(&path), source };
        let dir = cgroup::open(mount.as_fd(), &path).map_err(failed)?;
        let inode = at::status_of(dir.as_fd()).map_err(failed)?.inode;
        Ok(Self { mount, dir, record: Record { path, made: 0, inode: Some(inode) } })
    }

    /// What is to be written down, so that [`open`](Self::open) finds it again.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Sets limits: all of `resources` but the devices, which [`restrict_devices`](Self::restrict_devices) does.
    ///
    /// What is not asked for stays as it is, so that this serves for updates too. A failure midway leaves the limits
    /// before it set.
    pub fn apply(&self, resources: &LinuxResources) -> Result<(), Error> {
        let mut checked = BTreeSet::new();
        self.plan(resources)?.into_iter().try_for_each(|write| self.set(write, &mut checked))
    }

    /// As [`apply`](Self::apply), but goes on past what cannot be had, and gives that.
    pub fn apply_each(&self, resources: &LinuxResources) -> Result<Vec<Error>, Error> {
        let mut checked = BTreeSet::new();
        Ok(self.plan(resources)?.into_iter().filter_map(|write| self.set(write, &mut checked).err()).collect())
    }

    /// Whether swap can be limited: a kernel may not count it.
    pub fn limits_swap(&self) -> bool {
        at::status(self.dir.as_fd(), b"memory.swap.max").is_ok()
    }

    fn plan(&self, resources: &LinuxResources) -> Result<Vec<Write>, Error> {
        // Without its controller a file is as the controller, once it is there, makes it.
        let read = |file: &str| match tree::read(self.dir.as_fd(), file) {
            Err(error) if tree::is_gone(&error) => limits::of_new(file),
            text => text,
        };
        limits::plan(resources, &read)
    }

    /// `checked` are the controllers that are known to be there.
    fn set(&self, write: Write, checked: &mut BTreeSet<String>) -> Result<(), Error> {
        if let Some(controller) = write.controller().map(str::to_owned)
            && !checked.contains(&controller)
        {
            match self.provide(&controller) {
                Ok(()) => _ = checked.insert(controller),
                Err(_) if write.missing == IfMissing::Skip => return Ok(()),
                Err(why) => return Err(Error::NoController { field: write.field, controller, why }),
            }
        }
        let failed = |file: String, value: String| {
            let (field, path) = (write.field.clone(), self.record.path());
            move |source| Error::Write { field, file, value, path, source }
        };
        match (self.write(&write.file, &write.value), write.missing) {
            (Err(error), IfMissing::Skip) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            (Err(error), IfMissing::Instead(file, value)) if error.kind() == io::ErrorKind::NotFound => {
                self.write(&file, &value).map_err(failed(file, value))
            }
            (result, _) => result.map_err(failed(write.file, write.value)),
        }
    }

    /// Restricts the devices that processes in the cgroup may open and make to `linux.resources.devices` and to those
    /// that every container has, in the place of what was set earlier. With no rules it is those alone.
    ///
    /// `privileged` says that the caller is root of the host; only for others may a filter be not needed.
    pub fn restrict_devices(&self, rules: &[LinuxDeviceCgroup], privileged: bool) -> Result<DeviceFilter, Error> {
        let program = devices::program(rules)?;
        match Program::load_device_filter(&program).and_then(|program| program.attach_to(self.dir.as_fd())) {
            Ok(()) => Ok(DeviceFilter::Attached),
            Err(error) if !privileged && error.kind() == io::ErrorKind::PermissionDenied => Ok(DeviceFilter::NotNeeded),
            Err(error) => Err(Error::Devices(error)),
        }
    }

    /// Gives the cgroup to the container's root (runtime spec, "Cgroup ownership"), for a container with a cgroup
    /// namespace and a writable cgroup filesystem: it may then make cgroups of its own below, but not change the
    /// limits of this one.
    pub fn delegate(&self, uid: u32, gid: u32) -> Result<(), Error> {
        let failed = |source| self.failed("give ownership of", source);
        // Which files, the kernel says (Linux 4.15).
        let list = std::fs::read_to_string("/sys/kernel/cgroup/delegate")
            .unwrap_or_else(|_| "cgroup.procs\ncgroup.threads\ncgroup.subtree_control\n".into());
        at::set_owner(self.dir.as_fd(), b".", uid, gid).map_err(failed)?;
        for file in list.lines().filter(|file| !file.is_empty() && !file.contains('/')) {
            match at::set_owner(self.dir.as_fd(), file.as_bytes(), uid, gid) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                result => result.map_err(failed)?,
            }
        }
        Ok(())
    }

    /// Moves a process into the cgroup. A process that is yet to be made is better born in it, with CLONE_INTO_CGROUP
    /// and this cgroup's descriptor.
    pub fn attach(&self, pid: u32) -> Result<(), Error> {
        self.write("cgroup.procs", &pid.to_string()).map_err(|source| self.failed("move a process into", source))
    }

    /// Moves a process to the container's process `first`: into the cgroup itself, or, where the container has divided
    /// that into cgroups of its own (as systemd in a container does) and it takes no processes any more, into the one
    /// below it that `first` is in.
    pub fn attach_beside(&self, pid: u32, first: u32) -> Result<(), Error> {
        let failed = |source| self.failed("move a process into", source);
        match self.write("cgroup.procs", &pid.to_string()) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                let beside = tree::find(self.dir.as_fd(), first).map_err(failed)?.ok_or_else(|| failed(error))?;
                write(beside.as_fd(), "cgroup.procs", &pid.to_string()).map_err(failed)
            }
            result => result.map_err(failed),
        }
    }

    /// Removes the cgroup, those below it, and those above it that were made for it and that nobody else uses.
    ///
    /// Processes that are just ending are waited for, at most for `limit` in all. That it is gone already is no error;
    /// one that was there before is left, but for those below it.
    pub fn delete(self, limit: Duration) -> Result<(), Error> {
        let failed = |source| self.failed("remove", source);
        let deadline = Instant::now() + limit;
        let components: Vec<&str> = self.record.path.split('/').collect();
        let parent = |depth: usize| cgroup::open(self.mount.as_fd(), &components[..depth - 1].join("/"));
        loop {
            let removed = tree::remove_children(self.dir.as_fd()).and_then(|()| match self.record.made {
                0 => Ok(()),
                _ => tree::remove(parent(components.len())?.as_fd(), components[components.len() - 1].as_bytes()),
            });
            match removed {
                Err(error) if tree::is_gone(&error) => break,
                Err(error) if is_busy(&error) && Instant::now() < deadline => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if self.wait_for_event("populated", false, left).map_err(failed)? {
                        // The last one is as good as gone.
                        std::thread::sleep(Duration::from_millis(1));
                    }
                }
                result => break result.map_err(failed)?,
            }
        }
        // Those above may be in use by another container, or be removed by it: either is well.
        for depth in (components.len() + 1 - self.record.made.max(1)..components.len()).rev() {
            let Ok(parent) = parent(depth) else { continue };
            if tree::remove(parent.as_fd(), components[depth - 1].as_bytes()).is_err() {
                break;
            }
        }
        Ok(())
    }

    /// Removes what [`Place::create`] had made when it was killed, if it was: cgroups without processes.
    pub fn clear(record: &Record) -> Result<(), Error> {
        if record.inode.is_some() {
            return Ok(());
        }
        let mount = Mount::find()?.dir;
        let mut path = record.path.as_str();
        for _ in 0..record.made {
            let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
            let removed =
                cgroup::open(mount.as_fd(), above).and_then(|above| tree::remove(above.as_fd(), name.as_bytes()));
            match removed {
                // Another container is in it by now.
                Err(error) if is_busy(&error) => break,
                Err(source) if !tree::is_gone(&source) => {
                    return Err(Error::Failed { operation: "remove", path: record.path(), source });
                }
                _ => path = above,
            }
        }
        Ok(())
    }

    /// Has `controller` passed down from the mount to this cgroup.
    fn provide(&self, controller: &str) -> Result<(), Missing> {
        let mut path = String::new();
        for name in self.record.path.split('/') {
            let dir = cgroup::open(self.mount.as_fd(), &path);
            let dir = dir.map_err(|error| Missing::NotPassedOn(display(&path), error.to_string()))?;
            let lists = |file: &str| {
                tree::read(dir.as_fd(), file).is_ok_and(|text| text.split_whitespace().any(|one| one == controller))
            };
            if !lists("cgroup.subtree_control") {
                if path.is_empty() && !lists("cgroup.controllers") {
                    let v1 = mount::is_bound_to_v1(controller);
                    return Err(if v1 { Missing::BoundToV1 } else { Missing::NotOffered });
                }
                pass_on(dir.as_fd(), &[controller]).map_err(|error| {
                    let above = display(&path);
                    match error.kind() {
                        io::ErrorKind::ResourceBusy => Missing::HasProcesses(above),
                        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                            Missing::NotDelegated(above)
                        }
                        _ => Missing::NotPassedOn(above, error.to_string()),
                    }
                })?;
            }
            path = if path.is_empty() { name.into() } else { format!("{path}/{name}") };
        }
        Ok(())
    }

    fn write(&self, file: &str, value: &str) -> io::Result<()> {
        write(self.dir.as_fd(), file, value)
    }

    fn failed(&self, operation: &'static str, source: io::Error) -> Error {
        Error::Failed { operation, path: self.record.path(), source }
    }
}

/// For CLONE_INTO_CGROUP (clone(2), Linux 5.7).
impl AsFd for Cgroup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

impl Place {
    /// Makes the cgroup, and those above it that are missing, and has the usual controllers passed down as far as
    /// they go: one that is missing becomes a failure when something asks for it.
    ///
    /// A cgroup that is there already is taken only if it has no processes and no cgroups below it.
    pub fn create(self) -> Result<Cgroup, Error> {
        // Others may remove a cgroup above, made by them and empty in their eyes, between two steps.
        const ATTEMPTS: usize = 100;
        for _ in 1..ATTEMPTS {
            match self.make() {
                Err(Error::Failed { source, .. }) if tree::is_gone(&source) => {}
                made => return Ok(self.into_cgroup(made?)),
            }
        }
        let made = self.make()?;
        Ok(self.into_cgroup(made))
    }

    fn into_cgroup(self, (dir, made, inode): (OwnedFd, usize, u64)) -> Cgroup {
        Cgroup { mount: self.mount.dir, dir, record: Record { path: self.path, made, inode: Some(inode) } }
    }

    fn make(&self) -> Result<(OwnedFd, usize, u64), Error> {
        let failed = |source| Error::Failed { operation: "make", path: self.path(), source };
        let mut made = Made(Vec::new());
        let mut dir = cgroup::open(self.mount.dir.as_fd(), "").map_err(failed)?;
        for name in self.path.split('/') {
            pass_on_usual(dir.as_fd());
            match at::make_dir(dir.as_fd(), name.as_bytes(), 0o755) {
                Ok(()) => made.0.push((dir.as_fd().try_clone_to_owned().map_err(failed)?, name)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    // Somebody was quicker, and what was made above it is for him to use too.
                    made.0.clear();
                }
                Err(error) => return Err(failed(error)),
            }
            dir = cgroup::open(dir.as_fd(), name).map_err(failed)?;
        }
        let taken = |why: &str| Err(Error::Taken { path: self.path(), why: why.into() });
        if made.0.is_empty() {
            if !tree::read(dir.as_fd(), "cgroup.procs").unwrap_or_default().is_empty() {
                return taken("it has processes already");
            }
            if tree::has_children(&dir).map_err(failed)? {
                return taken("it has cgroups below it already");
            }
        }
        // A container in a threaded cgroup could use few controllers, and only with its threads apart.
        match tree::read(dir.as_fd(), "cgroup.type").map_err(failed)?.trim() {
            "domain" => {}
            other => return taken(&format!("it is '{other}' because of a threaded cgroup above it")),
        }
        let inode = at::status_of(dir.as_fd()).map_err(failed)?.inode;
        Ok((dir, made.keep(), inode))
    }
}

/// Cgroups made so far, topmost first, by parent and name: removed again unless kept.
struct Made<'a>(Vec<(OwnedFd, &'a str)>);

impl Made<'_> {
    fn keep(mut self) -> usize {
        std::mem::take(&mut self.0).len()
    }
}

impl Drop for Made<'_> {
    fn drop(&mut self) {
        for (parent, name) in self.0.drain(..).rev() {
            // One that another container has begun to use cannot be removed, and is its own by now.
            let _ = tree::remove(parent.as_fd(), name.as_bytes());
        }
    }
}

/// Passes on the usual controllers, those that can be.
fn pass_on_usual(dir: BorrowedFd<'_>) {
    let offered = tree::read(dir, "cgroup.controllers").unwrap_or_default();
    let passed = tree::read(dir, "cgroup.subtree_control").unwrap_or_default();
    let lists = |list: &str, name: &str| list.split_whitespace().any(|one| one == name);
    let wanted: Vec<&str> =
        CONTROLLERS.into_iter().filter(|name| lists(&offered, name) && !lists(&passed, name)).collect();
    // All at once or each for itself: the kernel takes a line as a whole or not at all.
    if !wanted.is_empty() && pass_on(dir, &wanted).is_err() {
        for name in wanted {
            let _ = pass_on(dir, &[name]);
        }
    }
}

fn pass_on(dir: BorrowedFd<'_>, controllers: &[&str]) -> io::Result<()> {
    let line: Vec<String> = controllers.iter().map(|name| format!("+{name}")).collect();
    write(dir, "cgroup.subtree_control", &line.join(" "))
}

fn write(dir: BorrowedFd<'_>, file: &str, value: &str) -> io::Result<()> {
    // One write(2): the kernel takes each for a whole value.
    cgroup::open_attribute(dir, file)?.write_all(value.as_bytes())
}

fn is_busy(error: &io::Error) -> bool {
    // ENOTEMPTY: the container has made one more meanwhile.
    matches!(error.kind(), io::ErrorKind::ResourceBusy | io::ErrorKind::DirectoryNotEmpty)
}

/// A path below the mount as /proc/PID/cgroup writes it.
fn display(path: &str) -> String {
    format!("/{path}")
}
