//! The process that a detached container has: it starts the workload, keeps what that prints, serves those who are
//! attached, writes down the end, and starts it again where that is wanted.
//!
//! ```text
//! starter                    monitor                        workload
//!   clone3(user, pid) ─────▶ pid 1 of a pid namespace
//!   its ids, then ─────────▶ execve: nothing of the starter
//!   what to do ────────────▶ is left
//!        ◀──── listening ─── socket, log
//!   attach, perhaps
//!   go ────────────────────▶ runtime::Launch ─────────────▶ namespaces below the monitor's
//!        ◀────── started ─── record                          execve
//!                            log ‖ clients ◀──────────────── standard streams, or a terminal
//!                            exit record                     end
//! ```
//!
//! The monitor is the first process of a pid namespace, so that the kernel ends the container when the monitor is killed,
//! whatever the workload has done to its own death signal (pid_namespaces(7)). It holds the container's lock for as long as
//! it lives: who finds it free knows that nothing of the container runs. It has a session of its own, no terminal, and
//! nothing of its starter's but the container's lock, so that it outlives terminal and login.
//!
//! It trusts nobody but who may open the store: the socket is in there. What a client or the workload does not take is
//! waited for with a limit, and never piles up.

mod checks;
mod clients;
mod run;
mod spawn;
mod streams;
mod words;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};
use std::{fs, thread};

use jiff::Timestamp;
use rbox_overlay::kernel::remove_volatile_mark;
use rbox_rootless::Offer;
use rbox_runtime::cgroup::Hits;
use rbox_store::{ContainerDir, Event, Store};
use rbox_sys::poll::{self, Interest};
use rbox_sys::signal::{Signal, SignalFd};
use rbox_sys::socket::Channel;
use rbox_sys::{dir, fd, process};
use rbox_types::Exit;

pub(crate) use self::spawn::Starting;
pub use self::words::StartFailure;

use self::clients::Clients;
use self::words::{Heard, Setup, hear, say};
use crate::life::restart::BackOff;
use crate::life::start::{ATTACH, Startable};
use crate::life::stop::STOPPED;
use crate::logs::LogWriter;
use crate::record::{Finished, Made, Record};
use crate::{Engine, Error, events, with_causes};

/// As lists of processes show it.
const NAME: &std::ffi::CStr = c"rbox-monitor";

/// What `rbox VERB CHANNEL LOCK` does; the arguments name descriptors that the starter handed on.
pub(crate) fn main(mut arguments: impl Iterator<Item = String>) -> u8 {
    let mut inherited = || arguments.next()?.parse().ok().and_then(|number| fd::inherited(number).ok());
    let (Some(channel), Some(lock)) = (inherited().map(Channel::from), inherited()) else {
        eprintln!("rbox: {} is for rbox itself", crate::worker::MONITOR);
        return Exit::RBOX_FAILED;
    };
    let result = Monitor::begin(&channel, lock).and_then(|monitor| monitor.live(channel));
    // Why it failed, its starter has heard, or there is nobody to hear it.
    result.unwrap_or(Exit::RBOX_FAILED)
}

struct Monitor {
    engine: Engine,
    directory: ContainerDir,
    setup: Setup,
    startable: Startable,
    made: Made,
    signals: SignalFd,
    clients: Clients,
    log: LogWriter,
    /// Its user namespace, for others to make theirs below.
    offer: Option<Offer>,
    back_off: BackOff,
    /// The limits that its last life has run into.
    hits: Hits,
    /// What SIGTERM asked for: to stop, and not to begin again.
    stopping: bool,
    /// To whoever has been told that the workload runs, and may have more to do before this process ends.
    told: Option<Channel>,
    /// What its health check asked for: to begin again, whatever its policy.
    begins_anew: bool,
}

impl Monitor {
    fn begin(channel: &Channel, lock: OwnedFd) -> Result<Self, ()> {
        let begun = Self::prepare(channel, lock);
        begun.map_err(|error| drop(say(channel, &Heard::Failed(failure(&error)))))
    }

    fn prepare(channel: &Channel, lock: OwnedFd) -> Result<Self, Error> {
        let on_monitor = || Error::io("begin", "the monitor");
        let _ = process::set_name(NAME);
        let signals = SignalFd::of_forwarded().map_err(on_monitor())?;
        let setup: Setup = match hear(channel).map_err(on_monitor())? {
            Some(setup) => setup,
            None => return Err(on_monitor()(io::ErrorKind::UnexpectedEof.into())),
        };
        let engine =
            Engine { store: Store::open(&setup.root)?, identity: setup.ids.clone(), forced: Some(setup.driver) };
        let directory = engine.store.adopt_container(&setup.id, &setup.name, lock);
        let path = directory.path();
        let on_records = || Error::io("read the records in", path.display());
        let missing = || Error::io("find the records in", path.display())(io::ErrorKind::NotFound.into());
        let startable = Startable::read(path).map_err(on_records())?.ok_or_else(missing)?;
        let mut made = Made::read(path).map_err(on_records())?.ok_or_else(missing)?;
        if !made.settings.sharing.reaches_out() {
            // Who has the same user id inside some container shall not look at it. Not that this is all that keeps it from
            // that: elsewhere newuidmap, which writes maps for those alone whom its caller may look at, has to do.
            process::set_undumpable().map_err(on_monitor())?;
        }
        made.monitor = Some(rbox_runtime::ProcessId::of_self().map_err(on_monitor())?);
        made.restarts = 0;
        let on_socket = || Error::io("listen in", path.display());
        // The one of a monitor that was killed.
        let _ = fs::remove_file(path.join(ATTACH));
        let opened = dir::open(path).map_err(on_socket())?;
        let socket = Channel::listen(opened.as_fd(), ATTACH).map_err(on_socket())?;
        let clients = Clients::of(socket).map_err(on_socket())?;
        let options = made.log.clone().unwrap_or_default();
        let log = LogWriter::open(path, &options, Timestamp::now());
        let log = log.map_err(Error::io("open the log in", path.display()))?;
        Ok(Self {
            engine,
            directory,
            setup,
            startable,
            made,
            signals,
            clients,
            log,
            offer: None,
            back_off: BackOff::default(),
            hits: Hits::default(),
            stopping: false,
            told: None,
            begins_anew: false,
        })
    }

    /// From the first start to the last end. Gives the exit status, by which a service manager knows how the last life went:
    /// the workload's own, or 0 where its end is what somebody wanted.
    fn live(mut self, starter: Channel) -> Result<u8, ()> {
        // A starter that is gone is as good as one that says go: what was to be started is started. Who wanted to be attached
        // before, has connected by then.
        let _ = say(&starter, &Heard::Listening);
        let _ = starter.receive(&mut [0; 16]);
        self.clients.accept();
        let mut starter = Some(starter);
        let _ = fs::remove_file(self.directory.path().join(STOPPED));
        loop {
            let began = Instant::now();
            let ended = self.run(&mut starter);
            let failed = ended.as_ref().err().map(failure);
            let exit = ended.unwrap_or_else(|error| Exit::Code(error.status()));
            self.write_end(exit);
            let length = began.elapsed();
            if let Some(failure) = failed
                && let Some(starter) = starter.take()
            {
                // What never ran is not started again. It is told when all is done: the next command finds nobody at work.
                self.end();
                let _ = say(&starter, &Heard::Failed(failure));
                return Err(());
            }
            if !self.begins_again(exit, length) {
                let asked_for = self.is_to_stop();
                let told = self.told.take();
                self.end();
                // Who has not yet told a service manager of this process holds the other end.
                told.map(|told| told.receive(&mut [0; 16]));
                return Ok(if asked_for { 0 } else { exit.status() });
            }
            self.made.restarts += 1;
        }
    }

    /// Waits until the workload, whose last life was that long, is to be started once more; false if it is not.
    fn begins_again(&mut self, exit: Exit, length: Duration) -> bool {
        let anew = std::mem::take(&mut self.begins_anew);
        if !anew && !self.made.restart.restarts(exit, self.made.restarts) {
            return false;
        }
        let until = Instant::now() + self.back_off.after(length);
        loop {
            if self.is_to_stop() {
                return false;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            let mut waited = vec![(self.signals.as_fd(), Interest::Read)];
            waited.extend(self.clients.interests(true));
            let Ok(ready) = poll::wait_all(&waited, Some(left)) else {
                thread::sleep(left);
                continue;
            };
            while let Ok(Some(signal)) = self.signals.read() {
                self.stopping |= signal == Signal::TERM;
            }
            self.clients.serve(&ready[1..], |_| {});
        }
    }

    /// Whether its end is wanted. Who stops a container says so first, and then to the monitor.
    fn is_to_stop(&self) -> bool {
        self.stopping || self.directory.path().join(STOPPED).exists()
    }

    /// The end of a life, in the room that was kept for it.
    fn write_end(&mut self, exit: Exit) {
        let finished = Finished { at: Timestamp::now(), exit, hits: std::mem::take(&mut self.hits) };
        // On a full disk there is room all the same; what else goes wrong, nobody is there to hear.
        let _ = finished.write_reserved(self.directory.path());
        self.note(self.happened("die").with("exitCode", exit.status()));
        if self.startable.rm {
            let _ = finished.tell_waiters(self.directory.path());
        }
    }

    /// Something that happened to the container.
    fn happened(&self, action: &str) -> Event {
        events::of_container(action, self.directory.id(), self.directory.name(), Some(self.made.known()))
    }

    fn note(&self, event: Event) {
        events::note(&self.engine.store, &[event]);
    }

    /// The end of it all: the container goes, or stays for others to start.
    fn end(self) {
        let removed = self.happened("remove");
        let Self { engine, directory, startable, .. } = self;
        let _ = fs::remove_file(directory.path().join(ATTACH));
        if startable.rm {
            let _ = remove_volatile_mark(&startable.root.work);
            // As a rule it is root of all its ids here, and nobody else need be asked. What cannot be removed, gc finds.
            let volumes = directory.volumes().unwrap_or_default();
            let _ = directory.remove(&|path| engine.remove_tree(path));
            engine.remove_anonymous(&volumes);
            events::note(&engine.store, &[removed]);
        }
    }
}

fn failure(error: &Error) -> StartFailure {
    StartFailure { message: with_causes(error), hint: error.hint(), status: error.status() }
}
