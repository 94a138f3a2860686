//! One more process in a container that runs, beside its first one: how it begins and what it is.
//!
//! Nothing is asked of the ids of this user: the container has its user namespace. What the process shares with the
//! container's first one, the container's record tells, and the kernel, by that process's pidfd.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rbox_runtime::trace::Trace;
use rbox_runtime::{Launch, NamespacePlan, Running, Streams, Subject, Workload};
use rbox_types::{ContainerId, ContainerName};

use crate::life::limited;
use crate::on_host::OnHost;
use crate::plan::exec::plan;
use crate::record::{Filter, Made};
use crate::request::ExecRequest;
use crate::root::Wanted;
use crate::shared::Shared;
use crate::{Error, oom_score, worker};

/// The container, as whoever comes into it knows it.
#[derive(Clone, Copy)]
pub(crate) struct Container<'a> {
    pub(crate) id: &'a ContainerId,
    pub(crate) name: &'a ContainerName,
    pub(crate) made: &'a Made,
    pub(crate) filter: &'a Filter,
    /// The first process, as /proc numbers it.
    pub(crate) first: u32,
}

/// Init of the process, in the container's namespaces and cgroup. Dropped, it is killed.
#[must_use = "nothing runs before `start`"]
pub(crate) struct Beside<'a> {
    container: Container<'a>,
    launch: Launch,
    on_host: OnHost,
}

impl<'a> Beside<'a> {
    /// Joins the container whose first process has this pidfd.
    pub(crate) fn begin(container: Container<'a>, pidfd: BorrowedFd<'_>) -> Result<Self, Error> {
        let pidfd = pidfd.try_clone_to_owned().map_err(Error::io("join", container.name))?;
        let settings = &container.made.settings;
        let made_for_it = NamespacePlan::of(&Shared::recorded(&settings.sharing).namespaces())?;
        let on_host = OnHost::of_record(settings)?;
        let joined = NamespacePlan::of_container(container.first, pidfd, &made_for_it);
        let launch = oom_score::begin_with(&settings.limits, on_host.least_oom_score_adj, || {
            Ok(Launch::begin(&worker::JOIN, &joined, None, None, &mut Trace::off())?)
        })?;
        limited::take_in(container.made, (launch.own_number(), launch.pid()), container.first)?;
        Ok(Self { container, launch, on_host })
    }

    /// Has it run what is asked for. `terminal` is the size of the one that it gets, where it does; `outlives` is whether it
    /// goes on when this process dies.
    pub(crate) fn start(
        self,
        request: &ExecRequest,
        terminal: Option<(u16, u16)>,
        streams: Streams,
        outlives: bool,
    ) -> Result<Running, Error> {
        let Container { id, name, made, filter, first } = self.container;
        let security =
            made.security.parse().map_err(io::Error::other).map_err(Error::io("read the record of", name))?;
        let plan = plan(made, filter, security, request, terminal, &self.on_host)?;
        let workload = Workload {
            spec: &plan.spec,
            volumes: &[],
            built_in_filter: plan.built_in_filter,
            streams,
            reaper: false,
            preserved: 0,
            no_pivot: false,
            place: None,
            new_keyring: true,
            subject: Subject { oci_version: plan.spec.version().clone(), id: id.to_string(), ..Subject::default() },
            beside: Some(first),
            outlives,
            tap: None,
            held: None,
            refusals: None,
        };
        let root = Wanted::of(&plan).words().map_err(Error::io("describe", "the user"))?;
        let trace = &mut Trace::off();
        Ok(self.launch.plan(workload, trace)?.start(&root, None, &mut |_| Ok(()), trace)?)
    }
}

/// Readable once the process has ended.
impl AsFd for Beside<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.launch.as_fd()
    }
}
