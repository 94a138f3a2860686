//! `rbox run` in the foreground: this process is the container's supervisor.

use std::cell::Cell;
use std::io;

use jiff::Timestamp;
use rbox_image::Image;
use rbox_runtime::cgroup::Hits;
use rbox_runtime::seccomp::KernelVersion;
use rbox_runtime::trace::{Step, Trace};
use rbox_runtime::{Failure, Init, Launch, WantedTap};
use rbox_store::ContainerDir;
use rbox_sys::flock::{self, Mode};
use rbox_sys::signal::SignalFd;
use rbox_types::{Exit, StorageDriver};

use crate::denied::{Denials, Watch};
use crate::images::pull::PullOutput;
use crate::life::draft::Draft;
use crate::life::siblings::Siblings;
use crate::life::supervise::{Terminal, supervise_with};
use crate::life::workload::{Start, workload};
use crate::life::{health, limited, overlay_dirs};
use crate::logs::Driver;
use crate::network;
use crate::on_host::{self, OnHost};
use crate::plan::RunPlan;
use crate::record::{Filter, Finished, Made, Record};
use crate::request::RunRequest;
use crate::root::Owners;
use crate::servers::Servers;
use crate::{Engine, Error, events, names, oom_score, outside, root, worker};

/// A run that has ended.
#[derive(Debug)]
pub struct Ran {
    /// How the workload ended.
    pub exit: Exit,
    /// What was planned, and what each step of the start took, where that was asked for.
    pub explained: Option<(RunPlan, Vec<Step>)>,
    /// What the filter has refused, where that was asked for.
    pub denied: Option<Denials>,
}

impl Engine {
    /// Runs a container to its end; fails with [`Error::NeedsMonitor`] before anything is made where its image has a health
    /// check. With `explain`, the steps of its start are measured.
    pub fn run(&self, request: &RunRequest, explain: bool, output: &dyn PullOutput) -> Result<Ran, Error> {
        let mut trace = if explain { Trace::on("rbox") } else { Trace::off() };
        let terminal = if request.tty { Some(Terminal::of_caller()?) } else { None };
        // An init that stays must be one that others can join (ptrace(2), "Ptrace access mode checking"): of a process that
        // has never been executed in the user namespace, the kernel asks for power over the one that it came from.
        let init = Init { always_executed: request.init, ..worker::INIT };
        // What has this name may be whose namespaces are shared: then there is nothing to share, and that is said.
        self.make_room(request)?;
        on_host::descriptors_are_there(request.settings.preserve_fds)?;
        let mut shared = self.shared(&request.settings.sharing)?;
        // Both fork, which a process can only do before it has threads that pull. The second one takes longest.
        let driver = self.driver_for(&shared.userns)?;
        let mut siblings = Siblings::find(self);
        // Below a parent there are no helpers to wait for, so first what the plan is made of; and once there, this process
        // has no way to the helpers, which unpack what is pulled, or copy it.
        let mut image = siblings.parent().map(|_| self.image_here(request)).transpose()?.flatten();
        if self.is_to_choose_ids(&shared.userns)? && image.is_none() {
            // Which ids it has, the image tells.
            image = Some(self.image_for(request, output)?);
        }
        let mut chosen = None;
        if let Some(image) = &image {
            needs_no_monitor(request, image)?;
            chosen = self.choose_ids(&mut shared.userns, request, image)?;
        }
        let ids = shared.maps(&self.identity)?;
        let is_shifted = shared.userns.shows_otherwise();
        if is_shifted && !self.identity.is_inside() {
            siblings.have_parent()?;
        }
        let may_be_below = image.is_some() && driver != StorageDriver::Copy && !is_shifted;
        let parent = siblings.parent().filter(|_| may_be_below);
        let namespaces = shared.plan()?;
        let id = names::random_id()?;
        let settings = &request.settings;
        settings.check().map_err(Error::Limits)?;
        let mut prepared = limited::prepare(&id, &settings.resources, settings, None)?;
        let launch = oom_score::begin_with(&settings.limits, OnHost::least_oom_score_adj(request)?, || {
            let cgroup = prepared.as_fd();
            Ok(Launch::begin_in(cgroup, &init, &namespaces, ids.as_deref(), parent, &mut trace)?)
        })?;
        prepared.ask(launch.pid())?;
        let image = match image {
            Some(image) => image,
            None => {
                let image = self.image_for(request, output)?;
                needs_no_monitor(request, &image)?;
                image
            }
        };
        trace.mark("find the image");
        let draft = Draft::new(self, id, request, image, terminal.as_ref().map(Terminal::size), &shared, driver)?;
        let mut watch = Watch::default();
        let mut hear = |refusals| watch.begin(refusals);
        let network = shared.network.slirp();
        let (network_server, root_server, mut servers) = (Cell::new(None), Cell::new(None), Servers::default());
        let path = self.store.container_path(&draft.id);
        let mut serve = |tap| {
            let served_by = |slirp| network::serve(slirp, draft.settings(), &path, tap, false);
            network_server.set(network.map(served_by).transpose()?);
            Ok(())
        };
        let start = Start {
            planned: &draft.planned,
            id: &draft.id,
            bundle: &path,
            preserved: request.settings.preserve_fds,
            interactive: request.interactive,
            reaper: request.init,
            tap: network.map(|slirp| WantedTap { plan: network::tap(slirp), serve: &mut serve }),
        };
        let refusals = if request.explain_denied { Some(&mut hear as &mut dyn FnMut(_)) } else { None };
        // Before it makes its cgroup namespace, which it does when it hears what to run.
        let (limited, missed) = prepared.join(launch.pid())?;
        missed.iter().for_each(|missed| eprintln!("note: {missed}"));
        let home = limited.as_ref().map(|limited| limited.record.clone());
        servers.limited = limited;
        // Before there is anything on the disk: init has enough to do meanwhile.
        let launch = launch.plan(workload(start, refusals), &mut trace)?;
        // Before anything that a signal could leave half-done: it waits, and is handed on to the workload.
        let signals = SignalFd::of_forwarded().map_err(Error::io("block", "signals"))?;
        let directory = draft.make(self, request)?;
        drop(chosen);
        let happened = |action| draft.happened(action, request, &directory);
        let mut hits = Hits::default();
        let attempt = || {
            let root = draft.root(self, request, &directory, &shared, output)?;
            trace.mark("make the container's directory");
            let mut record_file = None;
            let mut record = |pid| {
                let failed = |error: io::Error| Failure::new(format!("fill {}", directory.path().display()), &error);
                if !request.rm {
                    Finished::reserve(directory.path()).map_err(failed)?;
                }
                // In the foreground nothing is kept, which some ask for.
                let log = Some(request.log.clone()).filter(|log| log.driver == Driver::Passthrough);
                let mut made = Made { log, ..draft.record(request) };
                made.start(pid, Filter::of(&draft.planned), home.clone()).map_err(failed)?;
                record_file = Some(made.write(directory.path()).map_err(failed)?);
                outside::write_pid_file(&request.settings, pid)?;
                Ok(())
            };
            let words = root.words().map_err(Error::io("describe", "the root filesystem"))?;
            let mut serve_root = |asking| {
                let owners = Owners::of(is_shifted, siblings.parent());
                root_server.set(Some(root::serve(&root, asking, owners, false)?));
                Ok(())
            };
            let running = launch.start(&words, root.serve_root(&mut serve_root), &mut record, &mut trace)?;
            if let Some(file) = &record_file {
                // From here on it can be joined.
                flock::lock(file, Mode::Exclusive).map_err(record_error(&directory))?;
            }
            // Here and not earlier: while the workload begins there is time.
            events::note(&self.store, &["create", "start"].map(happened));
            match request.rm {
                true => overlay_dirs::prepare_next(directory.path(), &root.work),
                false => overlay_dirs::remove_left(directory.path(), &root.work),
            }
            (servers.network, servers.root) = (network_server.take(), root_server.take());
            let settled = &mut || siblings.invite();
            let exit = supervise_with(running, &signals, terminal, request.interactive, &mut servers, settled)?;
            hits = servers.hits();
            servers.finish();
            trace.mark("supervise the workload to its end");
            Ok(exit)
        };
        let ran: Result<Exit, Error> = attempt();
        let status = ran.as_ref().map_or_else(Error::status, |exit| exit.status());
        let killed = (hits.oom_kills > 0).then(|| happened("oom"));
        let ended: Vec<_> = killed.into_iter().chain([happened("die").with("exitCode", status)]).collect();
        let removed = request.rm.then(|| happened("remove"));
        if hits.oom_kills > 0 {
            eprintln!("rbox: {}", limited::said(&hits));
        }
        self.finish(request, directory, ran.as_ref().copied().map_err(Error::status), hits)?;
        if request.rm {
            self.remove_anonymous(draft.volumes());
        }
        events::note(&self.store, &ended.into_iter().chain(removed).collect::<Vec<_>>());
        // Here and not earlier: meanwhile there was something to do.
        drop(servers);
        trace.mark(if request.rm { "remove the container" } else { "record the end" });
        let exit = ran?;
        let denied = request.explain_denied.then(|| watch.finish(&request.security, KernelVersion::of_host()));
        Ok(Ran { exit, denied, explained: explain.then(|| (draft.planned, trace.into_steps())) })
    }

    /// The container's end is recorded, or the container removed, however the run went.
    fn finish(
        &self,
        request: &RunRequest,
        directory: ContainerDir,
        ended: Result<Exit, u8>,
        hits: Hits,
    ) -> Result<(), Error> {
        let finished = Finished { at: Timestamp::now(), exit: ended.unwrap_or_else(Exit::Code), hits };
        // As in Docker, what never started stays only if the user keeps containers.
        if request.rm {
            // A disk that is full is no reason to keep it.
            let _ = finished.tell_waiters(directory.path());
            return Ok(directory.recycle(&overlay_dirs::LEFT, &|path| self.remove_tree(path))?);
        }
        finished.write_reserved(directory.path()).map_err(record_error(&directory))
    }
}

/// Whether nobody has to check this container's health.
fn needs_no_monitor(request: &RunRequest, image: &Image) -> Result<(), Error> {
    // Almost always; what was asked for has been seen to.
    let Some(of_image) = &image.healthcheck else { return Ok(()) };
    match health::wanted(request, Some(of_image))? {
        Some(check) if !check.on_demand => Err(Error::NeedsMonitor),
        _ => Ok(()),
    }
}

fn record_error(directory: &ContainerDir) -> impl Fn(io::Error) -> Error {
    let path = directory.path().display().to_string();
    move |source| Error::Io { operation: "write the records in", on: path.clone(), source }
}
