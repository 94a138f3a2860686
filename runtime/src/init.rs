//! Init: from the execution of the read-only clone to the workload's.

use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, IntoRawFd, OwnedFd};

use rbox_rootless::worker;
use rbox_sys::signal::{self, Signal};
use rbox_sys::socket::Channel;
use rbox_sys::{fd, process, tty};
use rbox_types::Exit;

use crate::error::{During, Failure};
use crate::launch::{IDMAPPED, MAPPED, MountRoot};
use crate::plan::{InitPlan, MountSource, MountStep};
use crate::report::Report;
use crate::trace::Trace;
use crate::{entry, exec, rootfs};

/// The hidden verb that makes the binary init.
pub const VERB: &str = "__init";

/// What `rbox __init PLAN CHANNEL` does; the arguments are descriptors that the entry handed on. Returns only to give
/// an exit status.
pub fn main(mut arguments: impl Iterator<Item = String>, mount_root: MountRoot) -> u8 {
    let mut inherited = || arguments.next()?.parse().ok().and_then(|number| fd::inherited(number).ok());
    let (Some(plan), Some(channel)) = (inherited(), inherited()) else {
        eprintln!("rbox: {VERB} is for rbox itself");
        return Exit::RBOX_FAILED;
    };
    let channel = Channel::from(channel);
    let Err(failure) = run(plan, &channel, mount_root);
    let status = failure.status;
    if Report::Failed(failure.clone()).send(&channel, None).is_err() {
        eprintln!("rbox: cannot {failure}");
    }
    status
}

fn run(plan: OwnedFd, channel: &Channel, mount_root: MountRoot) -> Result<Infallible, Failure> {
    let mut text = Vec::new();
    File::from(plan).read_to_end(&mut text).during(|| "read the plan")?;
    let mut plan: InitPlan = postcard::from_bytes(&text).map_err(io::Error::other).during(|| "read the plan")?;
    plan.trace.continue_as("init");
    wait_for_ids(channel, &mut plan.mounts)?;
    plan.trace.mark("wait for the id maps");
    // Nothing of this process is for the container's eyes (it holds host descriptors). Not earlier: /proc/<pid> of an
    // undumpable process belongs to root, and newuidmap writes maps only for processes of its caller.
    process::set_undumpable().during(|| "hide from the container")?;
    worker::become_root().during(|| "become root in the user namespace")?;
    let prepared = mount_root(&plan.root)?;
    plan.trace.mark("mount the root filesystem");
    if let Some(user) = prepared.user {
        plan.user = user;
    }
    if plan.single_id {
        // There is no other group to be in, and setgroups(2) is forbidden (user_namespaces(7)).
        plan.user.additional_gids.clear();
    }
    plan.env.extend(prepared.env);
    process::set_umask(0o022);
    process::new_session().during(|| "begin a session")?;
    rootfs::build(&mut plan, channel, &prepared.rootfs, &prepared.files)?;
    if let Some(name) = &plan.hostname {
        process::set_hostname(name).during(|| format!("set the host name {name:?}"))?;
    }
    if let Some(name) = &plan.domainname {
        process::set_domainname(name).during(|| format!("set the domain name {name:?}"))?;
    }
    if plan.no_stdin {
        let null = File::open("/dev/null").during(|| "open /dev/null")?;
        tty::replace_stdio(null.as_fd(), 0).during(|| "replace standard input")?;
    }
    // Whatever the caller of rbox had open is not for the workload (CVE-2024-21626 began with such a descriptor).
    process::close_rest_on_exec().during(|| "close what the caller had open")?;
    signal::unblock_all();
    signal::reset_sigpipe();
    let program = exec::prepare(&plan)?;
    // After the change of ids, which clears it.
    process::signal_at_parent_death(Signal::KILL).during(|| "ask for death with the supervisor")?;
    plan.trace.mark("become the workload's user");
    if plan.trace.is_on() {
        let steps = std::mem::replace(&mut plan.trace, Trace::off()).into_steps();
        // The workload does not fail for want of a listener.
        let _ = Report::Trace(steps).send(channel, None);
    }
    Err(program.execute())
}

/// Waits until the ids are there; takes the bind sources that the launcher has made with them, in order.
fn wait_for_ids(channel: &Channel, mounts: &mut [MountStep]) -> Result<(), Failure> {
    const WHAT: &str = "wait for the id maps";
    let mut idmapped = mounts.iter_mut().filter(|step| step.options.idmap);
    loop {
        let mut message = [0; 16];
        let (length, fds) = channel.receive(&mut message).during(|| WHAT)?;
        match (&message[..length], fds.into_iter().next(), idmapped.next()) {
            (MAPPED, None, None) => return Ok(()),
            (IDMAPPED, Some(clone), Some(step)) => {
                if let MountSource::Bind(path) = &step.source {
                    step.source = entry::detached(path, &clone)?;
                    // The plan owns it from here on, by its number.
                    let _ = clone.into_raw_fd();
                }
            }
            _ => return Err(Failure::new(WHAT, &io::ErrorKind::UnexpectedEof.into())),
        }
    }
}
