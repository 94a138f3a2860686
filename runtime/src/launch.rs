//! The launcher's side: make the namespaces, give them ids, say what to run, wait until it runs.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::thread;
use std::time::Duration;

use oci_spec::runtime::Spec;
use rbox_rootless::{Identity, MapWriter, Parent};
use rbox_sys::clone::{self, Child, Forked, Namespaces};
use rbox_sys::poll::{self, Interest};
use rbox_sys::socket::Channel;
use rbox_sys::{clock, process};
use rbox_types::Exit;

use crate::Error;
use crate::agent::Agent;
use crate::entry::{self, Init};
use crate::error::Failure;
use crate::hooks::{self, Hook, Hooks, Subject};
use crate::namespaces::{AT_CLONE, NamespacePlan};
use crate::network::{Tap, WantedTap};
use crate::order::Order;
use crate::own_exe;
use crate::plan::{self, Confinement, InitPlan, Streams};
use crate::report::Report;
use crate::root::{AskingRoot, ServeRoot};
use crate::running::{FirstProcess, Running};
use crate::seccomp::Refusals;
use crate::seccomp::refusals;
use crate::sources::idmapped_clone;
use crate::status::Status;
use crate::trace::Trace;
use crate::volume::VolumePlan;

/// What is to be run.
pub struct Workload<'a> {
    /// Everything but the root filesystem.
    pub spec: &'a Spec,
    /// Mounts of the spec with which there is more to do than to mount them.
    pub volumes: &'a [VolumePlan],
    /// Whether it gets the [built-in](crate::seccomp::is_built_in) filter on system calls, instead of what the spec says.
    pub built_in_filter: bool,
    /// Standard input, output and error.
    pub streams: Streams,
    /// Whether init stays as the container's first process, and the workload is its child.
    pub reaper: bool,
    /// How many descriptors of this process, from 3 on, the workload gets too.
    pub preserved: u32,
    /// Whether the root is changed by chroot(2) instead of pivot_root(2).
    pub no_pivot: bool,
    /// Where the root filesystem is mounted, and the root is changed to, in the caller's mount namespace; none: the
    /// container has one of its own.
    pub place: Option<&'a Path>,
    /// Whether it gets a session keyring of its own.
    pub new_keyring: bool,
    /// What hooks and agents are told.
    pub subject: Subject,
    /// The container's first process, where this one comes into a container that is there.
    pub beside: Option<u32>,
    /// Whether it goes on when this process dies.
    pub outlives: bool,
    /// A network device, for a container with a new network namespace.
    pub tap: Option<WantedTap<'a>>,
    /// A listening socket: the workload then waits for somebody to [`start_held`] it.
    pub held: Option<OwnedFd>,
    /// Who is to hear of each call that the filter refuses, from when the filter is there, and answers them as it would;
    /// else nobody hears of them. For a person who looks for a reason: each such call takes two switches of process. The
    /// built-in filter asks nobody.
    pub refusals: Option<&'a mut dyn FnMut(Refusals)>,
}

/// Init in new namespaces, with its ids on their way. They take longer than all else; what is to be run, the caller
/// finds out meanwhile. Dropped, it is killed.
#[must_use = "nothing runs before `start`"]
pub struct Launch {
    // Before `maps`, whose helpers give up when it is gone.
    first: FirstProcess,
    own_number: u32,
    maps: Option<MapWriter>,
    channel: Channel,
    enters: bool,
    single_id: bool,
    /// The /dev/shm of the process `lender`.
    shm: Option<OwnedFd>,
    lender: Option<u32>,
    cloned: Duration,
}

impl Launch {
    /// Makes those of the namespaces that come first, joins those of others, and begins to map the ids of `identity`,
    /// which belongs to a new user namespace; below `parent`, to which this process then goes, they are mapped at once.
    ///
    /// `init` knows the root filesystem.
    pub fn begin(
        init: &Init,
        namespaces: &NamespacePlan,
        identity: Option<&Identity>,
        parent: Option<&Parent>,
        trace: &mut Trace,
    ) -> Result<Self, Error> {
        Self::begin_in(None, init, namespaces, identity, parent, trace)
    }

    /// As [`begin`](Self::begin), with all that it starts in this cgroup from the beginning.
    pub fn begin_in(
        cgroup: Option<BorrowedFd<'_>>,
        init: &Init,
        namespaces: &NamespacePlan,
        identity: Option<&Identity>,
        parent: Option<&Parent>,
        trace: &mut Trace,
    ) -> Result<Self, Error> {
        let mut ends = Some(Channel::pair().map_err(failed("make a channel to the container"))?);
        let joins = namespaces.open()?;
        let outside = !joins.is_empty();
        // Whatever there is against the parent, the helpers do without it.
        let inside = identity.filter(|_| !outside && parent.is_some_and(|parent| parent.enter().is_ok()));
        let inside = inside.map(Identity::inside);
        let at_clone = if outside { Namespaces::NONE } else { namespaces.new.within(AT_CLONE) };
        let maps_of = identity.map(|identity| &identity.maps);
        let executed = init.always_executed || outside || !maps_of.is_some_and(own_exe::is_out_of_reach);
        let mut go_on = || {
            let Some((ours, mut theirs)) = ends.take() else { return Exit::RBOX_FAILED };
            drop(ours);
            let Err(failure) = entry::run(&mut theirs, init, &joins, executed);
            // If nobody listens any more, nobody is left to tell.
            let _ = Report::Failed(failure).send(&theirs, None);
            Exit::RBOX_FAILED
        };
        let forked = match cgroup {
            Some(cgroup) => clone::fork_into_cgroup(at_clone, cgroup),
            None => clone::fork_into(at_clone),
        };
        let mut child = match forked {
            Ok(Forked::Parent(child)) => child,
            Ok(Forked::Child) => std::process::exit(i32::from(go_on())),
            Err(error) => return Err(rbox_rootless::Error::Userns(error).into()),
        };
        let Some((ours, theirs)) = ends else { unreachable!("only the child takes them") };
        drop(theirs);
        // As with all that is sent to a child that is gone: it has said why, and `start` hears that.
        let _ = Order::Begin.send(&ours, None);
        let (lender, mut shm) = (namespaces.lender(), None);
        if outside {
            child = joined_by(FirstProcess::new(child), &ours)?;
            if lender.is_some() {
                shm = Some(borrowed(&ours)?);
            }
        }
        let own_number = child.pid();
        if std::process::id() == 1 || (outside && process::proc_numbers_otherwise()) {
            // Of a pid namespace of its own, as a monitor is, or below one; and /proc is the host's.
            child = child.as_proc_numbers_it().map_err(failed("find the number of the container's process"))?;
        }
        trace.mark("clone into new namespaces");
        let (first, cloned) = (FirstProcess::new(child), clock::monotonic());
        let writes = inside.as_ref().or(identity);
        let maps = writes.map(|identity| MapWriter::begin(identity, first.child().pid())).transpose()?;
        trace.mark(if inside.is_some() { "write the id maps" } else { "start newuidmap and newgidmap" });
        let enters = namespaces.enters();
        let single_id = identity.is_some_and(Identity::is_single);
        Ok(Self { first, own_number, maps, channel: ours, enters, single_id, shm, lender, cloned })
    }

    /// Init's process id, as the host numbers it.
    pub fn pid(&self) -> u32 {
        self.first.child().pid()
    }

    /// The same as the pid namespace of this process numbers it, which is what the kernel takes from this process.
    pub fn own_number(&self) -> u32 {
        self.own_number
    }

    /// Tells init what to run. It gets ready for that, to where it needs the root filesystem, which may be in the making.
    pub fn plan<'a>(self, workload: Workload<'a>, trace: &mut Trace) -> Result<Planned<'a>, Error> {
        let (hooks, agent) = (Hooks::of(workload.spec.hooks().as_ref()), Agent::of(workload.spec));
        let mut plan = InitPlan::new(workload.spec)?;
        plan.single_id = self.single_id;
        plan.streams = if plan.terminal.is_some() { Streams::Inherit } else { workload.streams };
        plan.reaper = workload.reaper;
        plan.traced = trace.is_on();
        if workload.built_in_filter {
            plan.confinement = Confinement::BuiltIn;
        }
        plan.prepare_volumes(workload.volumes);
        plan.place = workload.place.map(Path::to_owned);
        (plan.no_pivot, plan.new_keyring) = (workload.no_pivot, workload.new_keyring);
        plan.preserved = workload.preserved;
        (plan.held, plan.outlives) = (workload.held.is_some(), workload.outlives);
        plan.enters = self.enters;
        plan.waits_for_hooks = !hooks.create_runtime.is_empty();
        (plan.create_container, plan.start_container) = (hooks.create_container, hooks.start_container);
        plan.subject = workload.subject;
        if let Some(shm) = self.lender.map(NamespacePlan::shm_of) {
            plan.mounts.iter_mut().for_each(|step| step.lent = step.binds(&shm));
        }
        plan.tap = workload.tap.as_ref().map(|tap| tap.plan.clone());
        plan.attributes.grant(self.pid(), self.own_number);
        Order::Plan.send_with(&plan, &self.channel).map_err(failed("write the plan"))?;
        trace.mark("check the spec, and send the plan");
        let Workload { spec, beside, tap, held, refusals, .. } = workload;
        let create_runtime = hooks.create_runtime;
        Ok(Planned { launch: self, plan, spec, create_runtime, agent, beside, tap, held, refusals })
    }
}

/// Init that knows what it is to run. Dropped, it is killed.
#[must_use = "nothing runs before `start`"]
pub struct Planned<'a> {
    launch: Launch,
    plan: InitPlan,
    spec: &'a Spec,
    create_runtime: Vec<Hook>,
    agent: Option<Agent<'a>>,
    beside: Option<u32>,
    tap: Option<WantedTap<'a>>,
    held: Option<OwnedFd>,
    refusals: Option<&'a mut dyn FnMut(Refusals)>,
}

impl Planned<'_> {
    /// Has init run the workload, or hold it; that is so when this returns. `root` is the words for the
    /// [`OpenRoot`](crate::OpenRoot) that it calls, and `serve_root` has it served where it asks for that.
    ///
    /// `before` is what the caller has to do before the workload runs, such as writing down its process id, which is handed
    /// in. It runs beside init, which has more to do.
    pub fn start(
        self,
        root: &[u8],
        mut serve_root: Option<ServeRoot<'_>>,
        before: &mut dyn FnMut(u32) -> Result<(), Failure>,
        trace: &mut Trace,
    ) -> Result<Running, Error> {
        let Self { launch, plan, spec, create_runtime, agent, beside, mut tap, held, refusals: mut hear } = self;
        let Launch { first, maps, channel, cloned, shm, .. } = launch;
        let pid = first.child().pid();
        Order::Root.send_with(&root, &channel).map_err(failed("write what the root filesystem is made of"))?;
        if let Some(maps) = maps {
            maps.finish()?;
            trace.mark("wait for the id maps");
        }
        for (step, path) in plan.mounts.iter().filter_map(|step| Some((step, step.sent_source()?))) {
            if step.lent {
                let _ = Order::Source.send(&channel, shm.as_ref().map(AsFd::as_fd));
                continue;
            }
            let clone = idmapped_clone(step, path, pid);
            let clone = clone.map_err(|source| Error::IdMappedMount { path: path.to_owned(), source })?;
            let _ = Order::Source.send(&channel, Some(clone.as_fd()));
        }
        let _ = Order::Mapped.send(&channel, None);
        // Init wakes on this core if the others are busy, and has more to do.
        thread::yield_now();
        // Beside init, which mounts.
        let mut filter = match plan.confinement {
            Confinement::Sent => plan::filter(spec)?,
            Confinement::BuiltIn | Confinement::None => None,
        };
        let mut refusing = hear.is_some().then(|| refusals::ask(&mut filter)).transpose()?.flatten();
        trace.mark("compile the filter on system calls");
        before(pid).map_err(Error::Inside)?;
        trace.mark("do what comes before the workload");
        let go = || -> Result<(), Error> {
            if let Some(filter) = &filter {
                Order::Filter.send_with(filter, &channel).map_err(failed("write the filter on system calls"))?;
            }
            let _ = match &held {
                Some(socket) => Order::Hold.send(&channel, Some(socket.as_fd())),
                None => Order::Go.send(&channel, None),
            };
            Ok(())
        };
        if !plan.waits_for_hooks {
            go()?;
        }
        let (mut console, mut user_namespace) = (None, None);
        loop {
            match Report::receive(&channel).map_err(failed("hear from the container"))? {
                // The channel is closed by execve(2), or by a death that said nothing; waiting tells which.
                None | Some((Report::Created, _)) => break,
                Some((Report::Cloned(_) | Report::Shm, _)) => {}
                Some((Report::Console, master)) => console = master,
                Some((Report::Tap { has_v6 }, fd)) => {
                    if let (Some(tap), Some(fd)) = (tap.take(), fd) {
                        (tap.serve)(Tap { fd, has_v6 }).map_err(Error::Inside)?;
                        trace.mark("begin to serve the network");
                    }
                }
                Some((Report::UserNamespace, fd)) => user_namespace = fd,
                Some((Report::Root, fd)) => {
                    if let (Some(serve), Some(device), Some(user_namespace)) =
                        (serve_root.take(), fd, user_namespace.take())
                    {
                        serve(AskingRoot { device, user_namespace }).map_err(Error::Inside)?;
                        trace.mark("begin to serve the root filesystem");
                    }
                }
                Some((Report::Listener, Some(listener))) => match (refusing.take(), &mut hear) {
                    (Some(program), Some(hear)) => hear(Refusals::new(listener, program)),
                    _ => {
                        let (status, first) = match beside {
                            Some(first) => (Status::Running, first),
                            None => (Status::Creating, pid),
                        };
                        let state = plan.subject.state(status, Some(first));
                        agent.iter().try_for_each(|agent| agent.hand_over(&listener, pid, state.clone()))?;
                        if plan.held {
                            break;
                        }
                    }
                },
                Some((Report::Listener, None)) => {
                    return Err(failed("get the filter's listener")(io::ErrorKind::InvalidData.into()));
                }
                Some((Report::Built, _)) => {
                    hooks::run(&create_runtime, &plan.subject.state(Status::Creating, Some(pid)), &[])
                        .map_err(Error::Inside)?;
                    let _ = Order::Hooked.send(&channel, None);
                    go()?;
                }
                Some((Report::Trace(steps), _)) => trace.take_in(("entry", "become init"), cloned, steps),
                Some((Report::Failed(failure), _)) => return Err(Error::Inside(failure)),
            }
        }
        trace.mark("wait for the workload's start");
        Ok(Running::new(first, console))
    }
}

/// Readable once init, or the workload that it has become, has ended.
impl AsFd for Launch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.first.child().as_fd()
    }
}

/// Has a workload that is held run; it does when this returns. `socket` is connected to the one that init listens on.
pub fn start_held(socket: &Channel) -> Result<(), Error> {
    // One that is gone already has said why, or has been killed.
    let _ = Order::Go.send(socket, None);
    match Report::receive(socket).map_err(failed("hear from the container"))? {
        Some((Report::Failed(failure), _)) => Err(Error::Inside(failure)),
        _ => Ok(()),
    }
}

/// The process that has joined makes the container's first one beside itself, and is done.
fn joined_by(joiner: FirstProcess, channel: &Channel) -> Result<Child, Error> {
    // The first process holds its end of the channel open as well: a joiner that was killed between the two steps would
    // be waited for without end.
    let ready = [(channel.as_fd(), Interest::Read), (joiner.child().as_fd(), Interest::Read)];
    let [told, _] = poll::wait(ready, None).map_err(failed("wait for the process that joins namespaces"))?;
    let heard = if told { Report::receive(channel).map_err(failed("hear from the container"))? } else { None };
    match heard {
        Some((Report::Cloned(pid), Some(pidfd))) => {
            joiner.child().wait().map_err(failed("wait for the process that joins namespaces"))?;
            Ok(Child::adopted(pid, pidfd))
        }
        Some((Report::Failed(failure), _)) => Err(Error::Inside(failure)),
        _ => Err(failed("join namespaces")(io::ErrorKind::UnexpectedEof.into())),
    }
}

/// What the process that has joined, and is done, has said besides.
fn borrowed(channel: &Channel) -> Result<OwnedFd, Error> {
    const WHAT: &str = "hear of the /dev/shm that is shared";
    // The container's first process holds that end open as well.
    let [said] = poll::wait([(channel.as_fd(), Interest::Read)], Some(Duration::ZERO)).map_err(failed(WHAT))?;
    match if said { Report::receive(channel).map_err(failed(WHAT))? } else { None } {
        Some((Report::Shm, Some(shm))) => Ok(shm),
        Some((Report::Failed(failure), _)) => Err(Error::Inside(failure)),
        _ => Err(failed(WHAT)(io::ErrorKind::UnexpectedEof.into())),
    }
}

fn failed(operation: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| Error::Launch { operation, source }
}
