//! The entry: from the fork to the execution of init.

use std::convert::Infallible;
use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rbox_rootless::worker;
use rbox_sys::clone::{self, Namespaces};
use rbox_sys::mount::{self, Propagation};
use rbox_sys::socket::Channel;
use rbox_sys::{dir, exec, fd, memfd, netdev};

use crate::error::{During, Failure};
use crate::init::VERB;
use crate::launch::{MAPPED, Root};
use crate::own_exe;
use crate::plan::{InitPlan, MountSource, MountStep};

/// The namespaces that clone3 makes. A network namespace costs half a millisecond, which the entry spends while the
/// launcher waits for the id maps; a cgroup namespace has its root where its maker is, so it is made last.
pub(crate) const AT_CLONE: Namespaces =
    Namespaces::USER.and(Namespaces::PID).and(Namespaces::MOUNT).and(Namespaces::UTS).and(Namespaces::IPC);

/// Goes on as the container's first process. Returns only to say what failed.
pub(crate) fn run(mut plan: InitPlan, channel: &Channel, root: &mut dyn Root) -> Result<Infallible, Failure> {
    plan.trace.continue_as("entry");
    let rest = plan.namespaces.without(AT_CLONE);
    clone::unshare(rest).during(|| "make the network and cgroup namespaces")?;
    if rest.has(Namespaces::NET) {
        netdev::loopback_up().during(|| "bring up the loopback device")?;
    }
    plan.trace.mark("make the network namespace");
    // Mounts made here must not appear on the host, and the host's must not appear in the container.
    mount::set_root_propagation(Propagation::Private).during(|| "make the mounts private")?;
    let sources = clone_bind_sources(&mut plan.mounts)?;
    root.open()?;
    plan.trace.mark("open bind sources and the root filesystem");
    wait_for_ids(channel)?;
    plan.trace.mark("wait for the id maps");
    worker::become_root().during(|| "become root in the user namespace")?;
    let prepared = root.mount()?;
    if let Some(user) = prepared.user {
        plan.user = user;
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
        let recursive = step.options.bind_recursive;
        let clone = mount::clone_tree(dir::cwd(), path, recursive).during(|| format!("bind {}", path.display()))?;
        let metadata = clone.try_clone().and_then(|clone| File::from(clone).metadata());
        let directory = metadata.during(|| format!("look at {}", path.display()))?.is_dir();
        step.source = MountSource::Detached { path: path.clone(), fd: clone.as_raw_fd(), directory };
        clones.push(clone);
    }
    Ok(clones)
}

fn wait_for_ids(channel: &Channel) -> Result<(), Failure> {
    let mut message = [0; 16];
    match channel.receive(&mut message) {
        Ok((length, _)) if &message[..length] == MAPPED => Ok(()),
        Ok(_) => Err(Failure::new("wait for the id maps", &std::io::ErrorKind::UnexpectedEof.into())),
        Err(error) => Err(Failure::new("wait for the id maps", &error)),
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
