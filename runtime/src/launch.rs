//! The launcher's side: make the namespaces, give them ids, say what to run, wait until it runs.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use oci_spec::runtime::Spec;
use rbox_rootless::{Identity, MapWriter};
use rbox_sys::clone::{self, Forked};
use rbox_sys::socket::Channel;
use rbox_sys::{clock, memfd};
use rbox_types::Exit;

use crate::Error;
use crate::entry::{self, AT_CLONE};
use crate::error::Failure;
use crate::order::Order;
use crate::plan::InitPlan;
use crate::report::Report;
use crate::running::{FirstProcess, Running};
use crate::sources::idmapped_clone;
use crate::trace::Trace;

/// What is to be run.
pub struct Workload<'a> {
    /// Everything but the root filesystem.
    pub spec: &'a Spec,
    /// Standard input.
    pub stdin: Stdin,
    /// The words for the [`OpenRoot`](crate::OpenRoot) that init calls.
    pub root: &'a [u8],
    /// What the caller has to do before the workload runs, such as writing down its process id, which is handed in. It
    /// runs beside init, which has more to do.
    pub before: &'a mut dyn FnMut(u32) -> Result<(), Failure>,
}

/// Where the workload's standard input comes from when it has no terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stdin {
    /// The caller's.
    Inherit,
    /// /dev/null.
    Null,
}

/// Init in new namespaces, with its ids on their way. They take longer than all else; what is to be run, the caller
/// finds out meanwhile. Dropped, it is killed.
#[must_use = "nothing runs before `start`"]
pub struct Launch {
    // Before `maps`, whose helpers give up when it is gone.
    first: FirstProcess,
    maps: MapWriter,
    channel: Channel,
    single_id: bool,
    cloned: Duration,
}

impl Launch {
    /// Makes the namespaces that every container has, and begins to map ids.
    pub fn begin(identity: &Identity, trace: &mut Trace) -> Result<Self, Error> {
        let (ours, theirs) = Channel::pair().map_err(failed("make a channel to the container"))?;
        let child = match clone::fork_into(AT_CLONE) {
            Ok(Forked::Parent(child)) => child,
            Ok(Forked::Child) => {
                drop(ours);
                let Err(failure) = entry::run(&theirs);
                // If nobody listens any more, nobody is left to tell.
                let _ = Report::Failed(failure).send(&theirs, None);
                std::process::exit(i32::from(Exit::RBOX_FAILED));
            }
            Err(error) => return Err(rbox_rootless::Error::Userns(error).into()),
        };
        // As with all that is sent to a child that is gone: it has said why, and `start` hears that.
        let _ = Order::Begin.send(&ours, None);
        trace.mark("clone into new namespaces");
        let (first, cloned) = (FirstProcess(child), clock::monotonic());
        let maps = MapWriter::begin(identity, first.0.pid())?;
        trace.mark("start newuidmap and newgidmap");
        Ok(Self { first, maps, channel: ours, single_id: identity.is_single(), cloned })
    }

    /// Has init run the workload; it does when this returns.
    pub fn start(self, workload: Workload<'_>, trace: &mut Trace) -> Result<Running, Error> {
        let mut plan = InitPlan::new(workload.spec)?;
        plan.single_id = self.single_id;
        plan.no_stdin = workload.stdin == Stdin::Null && plan.terminal.is_none();
        plan.traced = trace.is_on();
        plan.root = workload.root.to_owned();
        trace.mark("check the spec");
        let Self { first, maps, channel, cloned, .. } = self;
        let pid = first.0.pid();
        let text = postcard::to_stdvec(&plan).map_err(io::Error::other).map_err(failed("write the plan"))?;
        let text = memfd::of("rbox-plan", &text).map_err(failed("write the plan"))?;
        let _ = Order::Plan.send(&channel, Some(text.as_fd()));
        maps.finish()?;
        trace.mark("wait for newuidmap and newgidmap");
        for path in plan.mounts.iter().filter_map(|step| step.idmapped_source()) {
            let clone = idmapped_clone(path, pid);
            let clone = clone.map_err(|source| Error::IdMappedMount { path: path.to_owned(), source })?;
            let _ = Order::IdMapped.send(&channel, Some(clone.as_fd()));
        }
        let _ = Order::Mapped.send(&channel, None);
        (workload.before)(pid).map_err(Error::Inside)?;
        trace.mark("do what comes before the workload");
        let _ = Order::Go.send(&channel, None);
        let mut console = None;
        loop {
            match Report::receive(&channel).map_err(failed("hear from the container"))? {
                // The channel is closed by execve(2), or by a death that said nothing; waiting tells which.
                None => break,
                Some((Report::Console, master)) => console = master,
                Some((Report::Trace(steps), _)) => trace.take_in(("entry", "become init"), cloned, steps),
                Some((Report::Failed(failure), _)) => return Err(Error::Inside(failure)),
            }
        }
        trace.mark("wait for the workload's start");
        Ok(Running::new(first, console))
    }
}

fn failed(operation: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| Error::Launch { operation, source }
}
