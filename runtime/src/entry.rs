//! The entry: from the fork to the execution of init.

use std::convert::Infallible;
use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rbox_rootless::worker;
use rbox_sys::clone::{self, Namespaces};
use rbox_sys::mount::{self, Propagation};
use rbox_sys::socket::Channel;
use rbox_sys::{dir, exec, fd, memfd, netdev};

use crate::error::{During, Failure};
use crate::init::VERB;
use crate::launch::{IDMAPPED, MAPPED, Root};
use crate::own_exe;
use crate::plan::{InitPlan, MountSource, MountStep};

/// The namespaces that clone3 makes. A network namespace costs half a millisecond, which the entry spends while the
/// launcher waits for the id maps; a cgroup namespace has its root where its maker is, so it is made last.
pub(crate) const AT_CLONE: Namespaces =
    Namespaces::USER.and(Namespaces::PID).and(Namespaces::MOUNT).and(Namespaces::UTS).and(Namespaces::IPC);

/// Goes on as the container's first process. Returns only to say what failed.
pub(crate) fn run(
    mut plan: InitPlan,
    single_id: bool,
    channel: &Channel,
    root: &mut dyn Root,
) -> Result<Infallible, Failure> {
    plan.trace.continue_as("entry");
    let rest = plan.namespaces.without(AT_CLONE);
    clone::unshare(rest).during(|| "make the network and cgroup namespaces")?;
    if rest.has(Namespaces::NET) {
        netdev::loopback_up().during(|| "bring up the loopback device")?;
    }
    plan.trace.mark("make the network namespace");
    // Mounts made here must not appear on the host, and the host's must not appear in the container.
    mount::set_root_propagation(Propagation::Private).during(|| "make the mounts private")?;
    let mut sources = clone_bind_sources(&mut plan.mounts)?;
    root.open()?;
    plan.trace.mark("open bind sources and the root filesystem");
    wait_for_ids(channel, &mut plan.mounts, &mut sources)?;
    plan.trace.mark("wait for the id maps");
    worker::become_root().during(|| "become root in the user namespace")?;
    let prepared = root.mount()?;
    if let Some(user) = prepared.user {
        plan.user = user;
    }
    if single_id {
        // There is no other group to be in, and setgroups(2) is forbidden (user_namespaces(7)).
        plan.user.additional_gids.clear();
    }
    plan.env.extend(prepared.env);
    plan.trace.mark("mount the root filesystem");
    let exe = own_exe::read_only().during(|| "make a read-only clone of the rbox binary")?;
    plan.trace.mark("clone own executable");
    execute_init(&plan, channel, &prepared.rootfs, &sources, &exe)
}

fn clone_bind_sources(mounts: &mut [MountStep]) -> Result<Vec<OwnedFd>, Failure> {
    let mut clones = Vec::new();
    for step in mounts {
        let MountSource::Bind(path) = &step.source else { continue };
        if step.options.idmap {
            // Only the launcher may have the power for that.
            continue;
        }
        let recursive = step.options.bind_recursive;
        let clone = mount::clone_tree(dir::cwd(), path, recursive).during(|| format!("bind {}", path.display()))?;
        step.source = detached(path, &clone)?;
        clones.push(clone);
    }
    Ok(clones)
}

fn detached(path: &Path, clone: &OwnedFd) -> Result<MountSource, Failure> {
    let metadata = clone.try_clone().and_then(|clone| File::from(clone).metadata());
    let directory = metadata.during(|| format!("look at {}", path.display()))?.is_dir();
    Ok(MountSource::Detached { path: path.to_owned(), fd: clone.as_raw_fd(), directory })
}

/// Waits until the ids are there; takes the bind sources that the launcher has made with them, in order.
fn wait_for_ids(channel: &Channel, mounts: &mut [MountStep], sources: &mut Vec<OwnedFd>) -> Result<(), Failure> {
    const WHAT: &str = "wait for the id maps";
    let mut idmapped = mounts.iter_mut().filter(|step| step.options.idmap);
    loop {
        let mut message = [0; 16];
        let (length, fds) = channel.receive(&mut message).during(|| WHAT)?;
        match (&message[..length], fds.into_iter().next(), idmapped.next()) {
            (MAPPED, None, None) => return Ok(()),
            (IDMAPPED, Some(clone), Some(step)) => {
                if let MountSource::Bind(path) = &step.source {
                    step.source = detached(path, &clone)?;
                }
                sources.push(clone);
            }
            _ => return Err(Failure::new(WHAT, &std::io::ErrorKind::UnexpectedEof.into())),
        }
    }
}

/// Init gets the numbers of its three descriptors as arguments, and those of the bind sources in the plan.
fn execute_init(
    plan: &InitPlan,
    channel: &Channel,
    rootfs: &OwnedFd,
    sources: &[OwnedFd],
    exe: &OwnedFd,
) -> Result<Infallible, Failure> {
    let text = postcard::to_stdvec(plan).map_err(std::io::Error::other).during(|| "write the plan")?;
    let file = memfd::of("rbox-plan", &text).during(|| "write the plan")?;
    let handed_on = [file.as_fd(), channel.as_fd(), rootfs.as_fd()];
    for descriptor in handed_on.into_iter().chain(sources.iter().map(AsFd::as_fd)) {
        fd::keep_over_exec(descriptor).during(|| "hand a descriptor to init")?;
    }
    let numbers = handed_on.map(|descriptor| descriptor.as_raw_fd().to_string());
    let argv: Vec<CString> = ["rbox", VERB]
        .into_iter()
        .chain(numbers.iter().map(String::as_str))
        .filter_map(|argument| CString::new(argument).ok())
        .collect();
    let error = exec::execve_fd(exe.as_fd(), &argv, &[]);
    Err(Failure::new("execute init", &error))
}
