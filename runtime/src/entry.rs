//! The entry: from the fork to the execution of init.

use std::convert::Infallible;
use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rbox_sys::clone::{self, Namespaces};
use rbox_sys::mount::{self, Propagation};
use rbox_sys::socket::Channel;
use rbox_sys::{caps, dir, exec, fd, memfd, netdev};

use crate::error::{During, Failure};
use crate::init::VERB;
use crate::launch::Root;
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
    let exe = own_exe::read_only().during(|| "make a read-only clone of the rbox binary")?;
    // Without a mapped id this process is nobody's root, and execve(2) would leave it no capability but ambient ones.
    caps::raise_ambient().during(|| "keep the capabilities")?;
    plan.trace.mark("clone own executable");
    let mut handed_on = clone_bind_sources(&mut plan.mounts)?;
    let opened = root.open()?;
    plan.root = opened.words;
    handed_on.extend(opened.descriptors);
    plan.trace.mark("open bind sources and the root filesystem");
    execute_init(&plan, channel, &handed_on, &exe)
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

pub(crate) fn detached(path: &Path, clone: &OwnedFd) -> Result<MountSource, Failure> {
    let metadata = clone.try_clone().and_then(|clone| File::from(clone).metadata());
    let directory = metadata.during(|| format!("look at {}", path.display()))?.is_dir();
    Ok(MountSource::Detached { path: path.to_owned(), fd: clone.as_raw_fd(), directory })
}

/// Init gets the numbers of plan and channel as arguments, and those of the other descriptors in the plan.
fn execute_init(
    plan: &InitPlan,
    channel: &Channel,
    handed_on: &[OwnedFd],
    exe: &OwnedFd,
) -> Result<Infallible, Failure> {
    let text = postcard::to_stdvec(plan).map_err(std::io::Error::other).during(|| "write the plan")?;
    let file = memfd::of("rbox-plan", &text).during(|| "write the plan")?;
    let named = [file.as_fd(), channel.as_fd()];
    for descriptor in named.into_iter().chain(handed_on.iter().map(AsFd::as_fd)) {
        fd::keep_over_exec(descriptor).during(|| "hand a descriptor to init")?;
    }
    let numbers = named.map(|descriptor| descriptor.as_raw_fd().to_string());
    let argv: Vec<CString> = ["rbox", VERB]
        .into_iter()
        .chain(numbers.iter().map(String::as_str))
        .filter_map(|argument| CString::new(argument).ok())
        .collect();
    let error = exec::execve_fd(exe.as_fd(), &argv, &[]);
    Err(Failure::new("execute init", &error))
}
