//! Init: from the execution of the read-only clone to the workload's.

use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};

use rbox_sys::signal::{self, Signal};
use rbox_sys::socket::Channel;
use rbox_sys::{fd, process, tty};
use rbox_types::Exit;

use crate::error::{During, Failure};
use crate::plan::InitPlan;
use crate::report::Report;
use crate::trace::Trace;
use crate::{exec, rootfs};

/// The hidden verb that makes the binary init.
pub const VERB: &str = "__init";

/// What `rbox __init PLAN CHANNEL ROOTFS` does; the arguments are descriptors that the entry handed on. Returns only
/// to give an exit status.
pub fn main(mut arguments: impl Iterator<Item = String>) -> u8 {
    // Before anything else: nothing of this process is for the container's eyes (it holds host descriptors).
    let _ = process::set_undumpable();
    let mut inherited = || arguments.next()?.parse().ok().and_then(|number| fd::inherited(number).ok());
    let (Some(plan), Some(channel), Some(root)) = (inherited(), inherited(), inherited()) else {
        eprintln!("rbox: {VERB} is for rbox itself");
        return Exit::RBOX_FAILED;
    };
    let channel = Channel::from(channel);
    let Err(failure) = run(plan, &channel, &root);
    let status = failure.status;
    if Report::Failed(failure.clone()).send(&channel, None).is_err() {
        eprintln!("rbox: cannot {failure}");
    }
    status
}

fn run(plan: OwnedFd, channel: &Channel, root: &OwnedFd) -> Result<Infallible, Failure> {
    let mut text = Vec::new();
    File::from(plan).read_to_end(&mut text).during(|| "read the plan")?;
    let mut plan: InitPlan = postcard::from_bytes(&text).map_err(io::Error::other).during(|| "read the plan")?;
    plan.trace.continue_as("init");
    process::set_umask(0o022);
    process::new_session().during(|| "begin a session")?;
    rootfs::build(&mut plan, channel, root)?;
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
