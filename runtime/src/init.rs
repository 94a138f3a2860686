//! Init: from the execution of the read-only clone to the workload's.

use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc;
use std::thread;

use rbox_rootless::worker;
use rbox_sys::clone::{self, Alone, Namespaces};
use rbox_sys::signal::{self, Signal};
use rbox_sys::socket::Channel;
use rbox_sys::{fd, ids, process, tty};
use rbox_types::Exit;

use crate::entry::Init;
use crate::error::{During, Failure};
use crate::exec::Program;
use crate::namespaces::{AT_CLONE, Joins};
use crate::order::Order;
use crate::plan::{Confinement, InitPlan, Streams};
use crate::report::Report;
use crate::root::OpenRoot;
use crate::sources::Sources;
use crate::status::Status;
use crate::trace::Trace;
use crate::{exec, filesystems, hooks, reaper, rootfs, seccomp, sysctl, time_offsets};

/// What `rbox VERB CHANNEL EXE [NEW JOIN…]` does; the arguments name descriptors that the entry handed on. Returns only
/// to give an exit status.
pub fn main(mut arguments: impl Iterator<Item = String>, init: &Init) -> u8 {
    let mut inherited = || arguments.next()?.parse().ok().and_then(|number| fd::inherited(number).ok());
    let (channel, exe) = (inherited().map(Channel::from), inherited());
    let (Some(mut channel), Some(exe)) = (channel, exe) else {
        eprintln!("rbox: {} is for rbox itself", init.verb);
        return Exit::RBOX_FAILED;
    };
    let joins = Joins::inherited(arguments);
    let joined = joins.map_or(Ok(()), |joins| {
        joins.join(|report, fd| {
            // Who is not listening any more has died, and with that the child ends.
            let _ = report.send(&channel, Some(fd));
        })
    });
    let Err(failure) = joined.and_then(|()| run(&mut channel, Some(exe), init.open_root));
    let status = failure.status;
    // Where nobody listens any more, whoever waited for this has been ended on purpose, and wants to hear no more.
    let _ = Report::Failed(failure).send(&channel, None);
    status
}

/// `channel` is the one to whoever waits for the workload: the launcher, and later perhaps who starts what was held. `exe` is
/// the clone of the binary, where this process was executed from one.
pub(crate) fn run(channel: &mut Channel, exe: Option<OwnedFd>, open_root: OpenRoot) -> Result<Infallible, Failure> {
    // Now and not with the last steps: while it is found out what is to be run, there is time.
    signal::unblock_all();
    signal::reset_inherited();
    let mut plan: InitPlan = Order::Plan.receive_with(channel).during(|| "read the plan")?;
    let mut trace = if plan.traced { Trace::on("init") } else { Trace::off() };
    if plan.enters {
        enter(&mut plan, channel, open_root)?;
    } else {
        furnish(&mut plan, channel, exe, open_root, &mut trace)?;
    }
    close_streams(plan.streams)?;
    // Whatever the caller of rbox had open is not for the workload (CVE-2024-21626 began with such a descriptor).
    process::close_on_exec_from(3 + plan.preserved).during(|| "close what the caller had open")?;
    signal::reset_pipe();
    let mut program = exec::prepare(&plan)?;
    if !plan.outlives {
        // After the change of ids, which clears it.
        process::signal_at_parent_death(Signal::KILL).during(|| "ask for death with the supervisor")?;
    }
    trace.mark("become the workload's user");
    program.filter = match plan.confinement {
        Confinement::None => None,
        Confinement::BuiltIn => Some(seccomp::built_in()),
        Confinement::Sent => Some(Order::Filter.receive_with(channel).during(|| "read the filter on system calls")?),
    };
    if plan.held {
        program.look_for()?;
        hold(channel, &mut program)?;
    } else {
        Order::Go.expect(channel).during(|| "wait for the word to go")?;
        trace.mark("wait for the word to go");
    }
    hooks::run(&plan.start_container, &plan.subject.state(Status::Created, Some(std::process::id())), &plan.env)?;
    if plan.traced {
        // The workload does not fail for want of a listener.
        let _ = Report::Trace(trace.into_steps()).send(channel, None);
    }
    // A filter may forbid to ask, and to open.
    let alone = plan.reaper.then(Alone::check).transpose().during(|| "wait for the end of init's threads")?;
    let labels = plan.reaper.then(|| plan.attributes.labels.own()).transpose()?;
    program.limit(channel)?;
    if let (Some(alone), Some(labels)) = (alone, labels) {
        reaper::begin(alone, labels, &exec::after_execve(&plan))?;
    }
    Err(program.execute())
}

/// Puts /dev/null in the place of the streams that the workload does not get.
fn close_streams(streams: Streams) -> Result<(), Failure> {
    let closed = match streams {
        Streams::Inherit => return Ok(()),
        Streams::NoInput => 0..1,
        Streams::None => 0..3,
    };
    tty::replace_stdio_by_null(closed).during(|| "put /dev/null in place of the standard streams")
}

/// Makes the rest of the namespaces and what is in them.
fn furnish(
    plan: &mut InitPlan,
    channel: &Channel,
    exe: Option<OwnedFd>,
    open_root: OpenRoot,
    trace: &mut Trace,
) -> Result<(), Failure> {
    let missing = plan.namespaces.without(AT_CLONE);
    clone::unshare(missing.without(Namespaces::NET)).during(|| "make the other namespaces")?;
    trace.mark("make the other namespaces");
    let (tell, told) = mpsc::channel();
    let furnished = thread::scope(|scope| {
        // Gone at the first failure, which ends the thread too.
        let (plan, tell) = (&*plan, tell);
        let filesystems =
            scope.spawn(move || filesystems::make(plan, missing.has(Namespaces::NET), exe, told, channel));
        let mut sources = Sources::open(&plan.mounts)?;
        if plan.limits_early() {
            exec::limit_capabilities(plan)?;
        }
        trace.mark("open bind sources");
        let root = open_root(&root_words(channel)?)?;
        trace.mark("wait for the root filesystem, and open it");
        sources.open_volumes(&plan.mounts)?;
        sources.receive(&plan.mounts, channel)?;
        Order::Mapped.expect(channel).during(|| "wait for the id maps")?;
        trace.mark("wait for the id maps");
        // Nothing of this process is for the container's eyes (it holds host descriptors). Not earlier: /proc/<pid> of an
        // undumpable process belongs to root, and newuidmap writes maps only for processes of its caller.
        process::set_undumpable().during(|| "hide from the container")?;
        let groups = become_root(plan)?;
        process::set_umask(0o022);
        process::new_session().during(|| "begin a session")?;
        // If that thread has failed, it says so below.
        let _ = tell.send(IdsAreThere);
        let prepared = root.mount(&|device| hand_over(channel, device))?;
        trace.mark("mount the root filesystem");
        rootfs::attach(plan, &prepared.rootfs, &prepared.files)?;
        trace.mark("attach it, and show files in /etc");
        let filesystems = filesystems.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok((groups, sources, prepared, filesystems))
    });
    let (groups, mut sources, prepared, filesystems) = furnished?;
    // Who joins a user namespace did not map its ids.
    plan.single_id |= !groups;
    if let Some(network) = &filesystems.network {
        clone::enter(network, Namespaces::NET).during(|| "enter the network namespace")?;
    }
    if plan.namespaces.has(Namespaces::TIME) {
        time_offsets::enter(&plan.time_offsets)?;
    }
    sources.add(filesystems.mounts);
    trace.mark("wait for the network namespace and the other filesystems");
    plan.find(prepared.user, prepared.env);
    // While /proc is still the host's: in the host's pid namespace it is also the container's, whose /proc/sys is read-only.
    sysctl::write(&plan.sysctls)?;
    rootfs::build(plan, sources, channel, &prepared.rootfs, trace)?;
    if let Some(name) = &plan.hostname {
        process::set_hostname(name).during(|| format!("set the host name {name:?}"))?;
    }
    if let Some(name) = &plan.domainname {
        process::set_domainname(name).during(|| format!("set the domain name {name:?}"))?;
    }
    Ok(())
}

/// What init tells the thread that makes the filesystems.
pub(crate) struct IdsAreThere;

/// Becomes root in the user namespace; gives whether there are groups to be in. As all credentials, of one thread.
pub(crate) fn become_root(plan: &InitPlan) -> Result<bool, Failure> {
    const WHAT: &str = "become root in the user namespace";
    if plan.keeps_groups {
        ids::become_user(0, 0).during(|| WHAT)?;
        return Ok(true);
    }
    worker::become_root().during(|| WHAT)
}

/// Comes into a container as one more process; what could see it there was kept from doing so before.
fn enter(plan: &mut InitPlan, channel: &Channel, open_root: OpenRoot) -> Result<(), Failure> {
    let words = root_words(channel)?;
    Order::Mapped.expect(channel).during(|| "wait for the word that all is there")?;
    let groups = become_root(plan)?;
    process::new_session().during(|| "begin a session")?;
    if let Some(place) = &plan.place {
        // Without a namespace to come into, nothing has hidden this process yet.
        process::set_undumpable().during(|| "hide from the container")?;
        process::change_directory(place).during(|| format!("enter {}", place.display()))?;
        process::change_root_to_current_directory().during(|| "change the root to the container's")?;
    }
    if !words.is_empty() {
        let root = open_root(&words)?.mount(&|device| hand_over(channel, device))?;
        plan.single_id = !groups;
        plan.find(root.user, root.env);
    }
    match plan.terminal {
        Some(size) => rootfs::take_terminal(channel, size, plan.user.uid),
        None => Ok(()),
    }
}

/// Waits until somebody wants the workload to run, who is then the one to talk to.
fn hold(channel: &mut Channel, program: &mut Program) -> Result<(), Failure> {
    const WHAT: &str = "wait for the container's start";
    let socket = Order::Hold.expect_with_fd(channel).during(|| WHAT)?;
    if program.notifies() {
        // Now, so that whoever answers for the calls is there when the container is created, as with runc and youki.
        // What follows is under the filter.
        program.confine(channel)?;
    } else {
        Report::Created.send(channel, None).during(|| WHAT)?;
    }
    *channel = Channel::accept(&socket).during(|| WHAT)?;
    Order::Go.expect(channel).during(|| WHAT)?;
    Ok(())
}

fn hand_over(channel: &Channel, device: BorrowedFd<'_>) -> Result<(), Failure> {
    let hand_over = || -> io::Result<()> {
        // Of this process, which is hidden from everybody, nobody else can open it.
        Report::UserNamespace.send(channel, Some(File::open("/proc/self/ns/user")?.as_fd()))?;
        Report::Root.send(channel, Some(device))
    };
    hand_over().during(|| "hand over what serves the root filesystem")
}

fn root_words(channel: &Channel) -> Result<Vec<u8>, Failure> {
    Order::Root.receive_with(channel).during(|| "wait for the root filesystem")
}
