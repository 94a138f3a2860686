//! `rbox exec`: one more process in a container that runs.
//!
//! Nothing is asked of the ids of this user: the container has its user namespace. What the process shares with the
//! container's first one, the container's record tells, and the kernel, by that process's pidfd.

use std::io;
use std::path::PathBuf;

use rbox_runtime::trace::Trace;
use rbox_runtime::{Launch, NamespacePlan, Streams, Subject, Workload, cgroup};
use rbox_sys::signal::SignalFd;
use rbox_types::Exit;

use crate::begun::Begun;
use crate::engine::open_store;
use crate::on_host::OnHost;
use crate::plan::exec::plan;
use crate::request::ExecRequest;
use crate::root::Wanted;
use crate::shared::Shared;
use crate::supervise::{Supervised, Terminal, supervise_until};
use crate::{Error, events, held, oom_score, pause, worker};

/// Runs a process in a container of the store at `root`, or of this user's own, and waits for its end. One that is left to
/// itself has ended well as far as its caller is concerned.
pub fn exec(root: Option<PathBuf>, request: &ExecRequest) -> Result<Exit, Error> {
    let store = open_store(root)?;
    let Begun { entry, made, filter, first, pidfd } = Begun::find(&store, &request.container)?;
    let on = || entry.name.as_str();

    let going = pause::keep_going(&entry, &made)?;
    let made_for_it = NamespacePlan::of(&Shared::recorded(&made.settings.sharing).namespaces())?;
    let on_host = OnHost::of_record(&made.settings)?;
    let joined = NamespacePlan::of_container(first.pid, pidfd, &made_for_it);
    let launch = oom_score::begin_with(&made.settings.limits, on_host.least_oom_score_adj, || {
        Ok(Launch::begin(&worker::JOIN, &joined, None, None, &mut Trace::off())?)
    })?;
    cgroup::follow(launch.pid(), first.pid);
    let terminal = if request.tty { Some(Terminal::of_caller()?) } else { None };
    let security = made.security.parse().map_err(io::Error::other).map_err(Error::io("read the record of", on()))?;
    let plan = plan(&made, &filter, security, request, terminal.as_ref().map(Terminal::size), &on_host)?;
    let signals = SignalFd::of_forwarded().map_err(Error::io("block", "signals"))?;
    let workload = Workload {
        spec: &plan.spec,
        built_in_filter: plan.built_in_filter,
        streams: match (request.detach, request.interactive) {
            (true, _) => Streams::None,
            (false, true) => Streams::Inherit,
            (false, false) => Streams::NoInput,
        },
        reaper: false,
        preserved: 0,
        no_pivot: false,
        place: None,
        new_keyring: true,
        root: &Wanted::of(&plan).words().map_err(Error::io("describe", "the user"))?,
        subject: Subject { oci_version: plan.spec.version().clone(), id: entry.id.to_string(), ..Subject::default() },
        beside: Some(first.pid),
        outlives: true,
        held: None,
        refusals: None,
        before: &mut |_| Ok(()),
    };
    let mut running = launch.start(workload, &mut Trace::off())?;
    drop(going);
    let happened = |action| events::of_container(action, &entry.id, &entry.name, Some(&made.image));
    events::note(&store, &[happened("exec_start")]);
    let supervised = if request.detach {
        Supervised::Left(running.take_console().map(Into::into), running)
    } else {
        supervise_until(running, &signals, terminal, request.interactive, &request.detach_keys, &mut || {})?
    };
    match supervised {
        Supervised::Ended(exit) => {
            events::note(&store, &[happened("exec_died").with("exitCode", exit.status())]);
            return Ok(exit);
        }
        Supervised::Left(None, running) => _ = running.release(),
        Supervised::Left(Some(master), running) => {
            held::hold(&master, running).map_err(Error::io("go on holding", "the terminal"))?;
        }
    }
    Ok(Exit::Code(0))
}
