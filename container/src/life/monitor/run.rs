//! One life of the workload, from its start to its end.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rbox_rootless::Parent;
use rbox_runtime::trace::Trace;
use rbox_runtime::{Failure, Launch, Running, WantedTap};
use rbox_sys::flock::{self, Mode};
use rbox_sys::poll::{self, Interest};
use rbox_sys::signal::Signal;
use rbox_sys::socket::Channel;
use rbox_sys::{text, tty};
use rbox_types::{Exit, StorageDriver};

use super::Monitor;
use super::checks::Checks;
use super::streams::Streams;
use super::words::{Heard, say};
use crate::life::attach::frames::{Frame, LONGEST};
use crate::life::beside::Container;
use crate::life::health::HealthStatus;
use crate::life::siblings::SETTLED_AFTER;
use crate::life::stop::{Stopping, mark_stopped};
use crate::life::workload::{Start, workload};
use crate::life::{limited, pause};
use crate::logs::Stream;
use crate::network;
use crate::on_host::OnHost;
use crate::plan::console_size;
use crate::record::{Filter, Finished, Record};
use crate::root::Owners;
use crate::servers::{Lost, Servers};
use crate::settings::HealthAction;
use crate::{Error, oom_score, outside, root};

impl Monitor {
    /// Starts the workload, which `starter` hears, and stays with it to its end.
    pub(super) fn run(&mut self, starter: &mut Option<Channel>) -> Result<Exit, Error> {
        let io_error = |operation, on| Error::io(operation, on);
        let startable = &mut self.startable;
        let (tty, interactive) = (self.made.tty, startable.interactive);
        if let (Some(process), Some(size)) = (startable.planned.spec.process_mut(), self.setup.size) {
            process.set_console_size(console_size(size));
        }
        let passed = self.made.has_callers_streams();
        let streams = match () {
            () if tty => None,
            () if passed => Some(Streams::elsewhere()),
            () => {
                let (ours, theirs) =
                    Streams::pipes(interactive).map_err(io_error("make the pipes of", "the workload"))?;
                theirs.put_in_place().map_err(io_error("set the streams of", "the workload"))?;
                Some(ours)
            }
        };
        let begun = self.launch(interactive || !passed);
        if !passed {
            tty::replace_stdio_by_null(0..3).map_err(io_error("leave the streams of", "the workload"))?;
        }
        let (mut running, record, mut servers) = begun?;
        let mut checks = Checks::begin(self.made.settings.health.as_ref(), self.directory.path(), self.made.since());
        // From here on it can be joined.
        flock::lock(&record, Mode::Exclusive).map_err(io_error("lock the record of", "the container"))?;
        if let Some(starter) = starter.take() {
            let monitor = self.made.monitor.map_or(0, |monitor| monitor.pid);
            let missed = std::mem::take(&mut servers.missed);
            let _ = say(&starter, &Heard::Started { monitor, missed });
            self.told = Some(starter);
        }
        self.note(self.happened("start"));
        let mut streams = match (streams, running.take_console()) {
            (Some(streams), _) => streams,
            (None, Some(master)) => {
                Streams::terminal(master, interactive).map_err(io_error("serve", "the terminal"))?
            }
            (None, None) => return Err(io_error("get", "the terminal")(std::io::ErrorKind::NotFound.into())),
        };
        self.serve(&running, &mut streams, &mut checks, &mut servers).map_err(io_error("supervise", "the workload"))?;
        servers.finish();
        // One that still runs has nothing left to check.
        drop(checks);
        let exit = running.wait().map_err(io_error("wait for", "the workload"))?;
        self.hits = servers.hits();
        self.finish(&mut streams, exit);
        drop(servers);
        Ok(exit)
    }

    /// `interactive`: this process's standard input is the workload's.
    fn launch(&mut self, interactive: bool) -> Result<(Running, std::fs::File, Servers), Error> {
        let Self { engine, directory, setup, startable, made, .. } = self;
        let path = directory.path().to_owned();
        // What it has of the host's, this process has too. A container that is joined may have been started anew.
        let shared = engine.shared(&made.settings.sharing.settled())?;
        // Anew: the host may be elsewhere today.
        let etc = shared.etc(&engine.store, &made.hostname, directory.name(), &made.settings.resolver)?;
        startable.root.files = etc.files(&made.hostname);
        let planned = startable.planned.clone().sharing(&shared);
        let (namespaces, ids) = (shared.plan()?, shared.maps(&engine.identity)?);
        let is_shifted = shared.userns.shows_otherwise();
        if startable.root.driver != StorageDriver::Copy {
            startable.root.driver = if is_shifted { StorageDriver::Fuse } else { setup.driver };
        }
        let parent =
            (is_shifted && !engine.identity.is_inside()).then(|| Parent::make(&engine.identity)).transpose()?;
        let on_host = OnHost::of_record(&made.settings)?;
        // That of an earlier life, whose monitor was killed.
        if let Some(left) = made.home.take() {
            let _ = left.remove();
        }
        let resources =
            limited::current(&path, &made.settings).map_err(Error::io("read the records in", path.display()))?;
        let mut prepared = limited::prepare(&setup.id, &resources, &made.settings, setup.bus.as_ref())?;
        let launch = oom_score::begin_with(&made.settings.limits, on_host.least_oom_score_adj, || {
            let (init, trace) = (startable.init(), &mut Trace::off());
            Ok(Launch::begin_in(prepared.as_fd(), &init, &namespaces, ids.as_deref(), None, trace)?)
        })?;
        prepared.ask(launch.pid())?;
        // Before it makes its cgroup namespace, which it does when it hears what to run.
        let (limited, missed) = prepared.join(launch.pid())?;
        let home = limited.as_ref().map(|limited| limited.record.clone());
        let (mut servers, mut root_server) = (Servers { limited, missed, ..Servers::default() }, None);
        let settings = &made.settings.clone();
        let (mut record, preserved) = (None, made.settings.preserve_fds);
        let mut before = |pid| {
            let failed = |error: std::io::Error| Failure::new(format!("fill {}", path.display()), &error);
            Finished::reserve(&path).map_err(failed)?;
            // A workload that runs has no end yet.
            let _ = std::fs::remove_file(path.join(Finished::FILE));
            made.start(pid, Filter::of(&planned), home.clone()).map_err(failed)?;
            record = Some(made.write(&path).map_err(failed)?);
            outside::write_pid_file(&made.settings, pid)
        };
        let network = shared.network.slirp();
        let mut serve = |tap| {
            servers.network = network.map(|slirp| network::serve(slirp, settings, &path, tap, true)).transpose()?;
            Ok(())
        };
        let root = &startable.root;
        let mut serve_root = |asking| {
            root_server = Some(root::serve(root, asking, Owners::of(is_shifted, parent.as_ref()), true)?);
            Ok(())
        };
        let words = root.words().map_err(Error::io("describe", "the root filesystem"))?;
        let start = Start {
            planned: &planned,
            id: &setup.id,
            bundle: directory.path(),
            interactive,
            reaper: startable.reaper,
            preserved,
            tap: network.map(|slirp| WantedTap { plan: network::tap(slirp), serve: &mut serve }),
        };
        let trace = &mut Trace::off();
        let launch = launch.plan(workload(start, None), trace)?;
        let running = launch.start(&words, root.serve_root(&mut serve_root), &mut before, trace)?;
        servers.root = root_server;
        let missing = || Error::io("write the record of", "the container")(std::io::ErrorKind::NotFound.into());
        Ok((running, record.ok_or_else(missing)?, servers))
    }

    /// To the workload's end, or until it is to be killed.
    fn serve(
        &mut self,
        running: &Running,
        streams: &mut Streams,
        checks: &mut Option<Checks>,
        servers: &mut Servers,
    ) -> std::io::Result<()> {
        let mut buffer = [0; LONGEST];
        let mut settles = Some(Instant::now() + SETTLED_AFTER);
        let lifetime = self.made.settings.stop.lifetime.map(|seconds| Duration::from_secs(seconds.get().into()));
        let mut killed_at: Option<Instant> = lifetime.map(|lifetime| Instant::now() + lifetime);
        loop {
            let wants_output = self.clients.are_ready();
            let mut waited = vec![(running.as_fd(), Interest::Read), (self.signals.as_fd(), Interest::Read)];
            waited.extend(streams.interests(wants_output));
            let before_servers = waited.len();
            waited.extend(servers.watched(running.as_fd()));
            let before_checks = waited.len();
            waited.extend(checks.iter().flat_map(Checks::interests));
            let before_clients = waited.len();
            waited.extend(self.clients.interests(streams.take_input()));
            let now = Instant::now();
            let check = checks.as_ref().and_then(Checks::due);
            let next = settles.into_iter().chain(killed_at).chain(check).map(|at| at.saturating_duration_since(now));
            let ready = poll::wait_all(&waited, next.chain(self.clients.patience()).min())?;
            drop(waited);
            if wants_output {
                self.take_output(streams, &mut buffer);
            }
            streams.write();
            self.clients.serve(&ready[before_clients..], |frame| take_in(frame, streams, self.setup.attached));
            if ready[1] {
                while let Some(signal) = self.signals.read()? {
                    // As the system ends, or whoever ends a login.
                    if signal == Signal::TERM && !self.stopping {
                        self.stopping = true;
                        self.ask_to_end(running, &mut killed_at)?;
                    }
                }
            }
            if (ready[before_servers + 2] || ready[before_servers + 3]) && servers.has_killed() {
                self.note(self.happened("oom"));
            }
            if ready[0] {
                self.note_lost(servers.take_lost_at_end());
                return Ok(());
            }
            self.note_lost(servers.take_lost([ready[before_servers], ready[before_servers + 1]]));
            if let Some(checks) = checks {
                let has_ended = ready[before_checks..before_clients].first() == Some(&true);
                if self.check(checks, has_ended, running) == Some(HealthStatus::Unhealthy) && !self.stopping {
                    self.give_up(running, &mut killed_at)?;
                }
            }
            let now = Instant::now();
            if killed_at.take_if(|at| now >= *at).is_some() {
                running.signal(Signal::KILL)?;
            }
            if settles.take_if(|at| now >= *at).is_some() {
                self.invite();
                // What it began with is of no use any more.
                let _ = text::forget();
            }
        }
    }

    fn note_lost(&self, lost: impl Iterator<Item = Lost>) {
        for lost in lost {
            self.note(self.happened(lost.action).with("error", lost.end));
        }
    }

    /// By its stop signal, and when its time is over by the one that nobody can ignore.
    fn ask_to_end(&self, running: &Running, killed_at: &mut Option<Instant>) -> std::io::Result<()> {
        running.signal(self.made.stop_signal())?;
        // What stands still would not hear it. It is killed in the end, if it does not go on.
        if let Ok(true) = pause::resume(self.directory.path(), &self.made, running.as_fd()) {
            self.note(self.happened("unpause"));
        }
        // What is not to be counted is for ever.
        let by_then = Instant::now().checked_add(self.made.stop_timeout());
        *killed_at = killed_at.take().into_iter().chain(by_then).min();
        Ok(())
    }

    /// What is wanted of a workload that has become unhealthy.
    fn give_up(&mut self, running: &Running, killed_at: &mut Option<Instant>) -> std::io::Result<()> {
        match self.made.settings.on_unhealthy {
            HealthAction::None => Ok(()),
            HealthAction::Kill => {
                self.note(self.happened("kill").with("signal", Signal::KILL.number()));
                running.signal(Signal::KILL)
            }
            action => {
                let stays = action == HealthAction::Stop;
                if stays {
                    // Where there is no room for the mark, this monitor knows all the same.
                    let _ = mark_stopped(self.directory.path(), Stopping::default());
                }
                (self.stopping, self.begins_anew) = (stays, !stays);
                self.note(self.happened("stop"));
                self.ask_to_end(running, killed_at)
            }
        }
    }

    /// Goes on with the health checks. Gives the status where that is another one now.
    fn check(&self, checks: &mut Checks, has_ended: bool, running: &Running) -> Option<HealthStatus> {
        let Self { directory, made, .. } = self;
        let joining = made.joining.as_ref()?;
        let (id, name, filter) = (directory.id(), directory.name(), &joining.filter);
        let container = Container { id, name, made, filter, first: running.pid() };
        let status = checks.go_on(has_ended, container, running.as_fd(), directory.path())?;
        self.note(self.happened(&format!("health_status: {}", status.word())));
        Some(status)
    }

    /// What it printed last is still in the pipes. Clients get it, and the last word, as long as they take it.
    fn finish(&mut self, streams: &mut Streams, exit: Exit) {
        let mut buffer = [0; LONGEST];
        while self.clients.wait_until_ready() && self.take_output(streams, &mut buffer) {}
        self.log.finish(Timestamp::now());
        self.clients.tell(Frame::Exit(exit.status()));
        self.clients.wait_until_ready();
    }

    /// Hands on what the workload has printed, once; says whether there was anything.
    fn take_output(&mut self, streams: &mut Streams, buffer: &mut [u8]) -> bool {
        let mut any = false;
        for (which, stream) in [(0, Stream::Stdout), (1, Stream::Stderr)] {
            // One frame at a time: a client that has not taken the first one gets no second.
            if !self.clients.are_ready() {
                return any;
            }
            let Some(bytes) = streams.read(which, buffer) else { continue };
            any = true;
            self.log.feed(stream, bytes, Timestamp::now());
            self.clients.tell(if which == 0 { Frame::Output(bytes) } else { Frame::Error(bytes) });
        }
        any
    }

    fn invite(&mut self) {
        if let Some(path) = &self.setup.offers
            && self.offer.is_none()
        {
            // Nobody is told what fails: they do without.
            self.offer = Parent::own().and_then(|own| own.offer(path)).ok().flatten();
        }
    }
}

/// `once`: the input ends with that of who is attached.
fn take_in(frame: Frame<'_>, streams: &mut Streams, once: bool) {
    match frame {
        Frame::Input(bytes) => streams.type_in(bytes),
        Frame::EndOfInput if once => streams.end_input(),
        Frame::Size(rows, columns) => streams.resize(rows, columns),
        // Nothing that a client could say.
        Frame::EndOfInput | Frame::Output(_) | Frame::Error(_) | Frame::Exit(_) => {}
    }
}
