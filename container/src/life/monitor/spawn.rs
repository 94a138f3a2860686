//! The starter's side: it makes a process that is the first one of a pid namespace, which then becomes the monitor.

use std::convert::Infallible;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rbox_rootless::{Identity, Kind, MapWriter};
use rbox_runtime::systemd::Address;
use rbox_store::ContainerDir;
use rbox_sys::clone::{self, Child, Ended, Forked, Namespaces};
use rbox_sys::signal::Signal;
use rbox_sys::socket::Channel;
use rbox_sys::{exec, fd, process, signal, tty};
use rbox_types::{Exit, StorageDriver};

use crate::life::monitor::words::{Heard, MAPPED, Setup, StartFailure, hear, say};
use crate::life::notify;
use crate::life::siblings::Siblings;
use crate::life::wants::Wants;
use crate::{Engine, Error, worker};

/// A container whose monitor is there and has not yet said that it runs.
#[must_use = "the container is forgotten, but started all the same"]
pub(crate) struct Starting(Channel);

impl Starting {
    /// Has a monitor start the container, whose owner it becomes. With `attached`, somebody attaches before. `size` is that
    /// of the terminal, where the workload gets one.
    pub(crate) fn begin(
        engine: &Engine,
        directory: ContainerDir,
        wants: &Wants,
        driver: StorageDriver,
        attached: bool,
        size: Option<(u16, u16)>,
    ) -> Result<Self, Error> {
        let failed = |operation| Error::io(operation, format!("the monitor of {}", directory.name().as_str()));
        let siblings = Siblings::find(engine);
        let identity = &engine.identity;
        // Root has the right by itself, and files that nobody whom it maps may read.
        let as_root = identity.kind == Kind::Privileged;
        let kinds = match () {
            () if wants.reaches_out => Namespaces::NONE,
            () if as_root => Namespaces::PID,
            () => Namespaces::PID.and(Namespaces::USER),
        };
        let has_ids = kinds.has(Namespaces::USER);
        let setup = Setup {
            root: engine.store.root().to_owned(),
            id: directory.id().clone(),
            name: directory.name().clone(),
            ids: if has_ids { identity.inside() } else { identity.clone() },
            driver,
            offers: siblings.offers().filter(|_| has_ids).map(Path::to_owned),
            attached,
            // Of all that the caller's variables say, the monitor needs this alone.
            bus: if wants.limits { Address::of_caller().ok() } else { None },
            size,
        };
        let mut ends = Some(Channel::pair().map_err(failed("make a channel to"))?);
        let lock = directory.into_lock();
        let mut go_on = || {
            let Some((ours, theirs)) = ends.take() else { return Exit::RBOX_FAILED };
            drop(ours);
            let Err(error) = become_monitor(&theirs, &lock, wants);
            let message = format!("cannot execute the monitor: {error}");
            let _ = say(&theirs, &Heard::Failed(StartFailure { message, hint: None, status: Exit::RBOX_FAILED }));
            Exit::RBOX_FAILED
        };
        let below = siblings.parent().filter(|_| has_ids).map(|parent| {
            by_another(&mut || {
                parent.enter().map_err(rbox_rootless::Error::Userns)?;
                make(kinds, Some(&setup.ids), &mut go_on)
            })
        });
        if below.is_none_or(|made| made.is_err()) {
            let mut make = || make(kinds, has_ids.then_some(identity), &mut go_on);
            // A service manager stops only what is its own child as it should: what its child's child leaves becomes that.
            let left = if notify::is_wanted() { by_another(&mut make).is_ok() } else { false };
            if !left {
                make()?;
            }
        }
        let Some((ours, theirs)) = ends else { unreachable!("only the child takes them") };
        drop(theirs);
        // One that is gone has said why, or is found to have said nothing.
        let _ = ours.send(MAPPED, &[]);
        let _ = say(&ours, &setup);
        Ok(Self(ours))
    }

    /// Waits until one can attach.
    pub(crate) fn listening(&self) -> Result<(), Error> {
        match hear(&self.0) {
            Ok(Some(Heard::Listening)) => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    /// Has it start the workload, and waits until that runs. The monitor does not end before what this gives is dropped.
    pub(crate) fn started(self) -> Result<Held, Error> {
        let _ = self.0.send(GO, &[]);
        match hear(&self.0) {
            Ok(Some(Heard::Started { monitor, missed })) => Ok(Held { monitor, missed, _channel: self.0 }),
            other => Err(unexpected(other)),
        }
    }
}

/// Keeps a monitor from ending, whatever becomes of the workload.
pub(crate) struct Held {
    /// Its number.
    pub(crate) monitor: u32,
    /// Limits that the container goes without, and why.
    pub(crate) missed: Vec<String>,
    _channel: Channel,
}

/// Makes a process that does `go_on`.
fn fork(kinds: Namespaces, go_on: &mut dyn FnMut() -> u8) -> Result<Child, rbox_rootless::Error> {
    match clone::fork_into(kinds).map_err(rbox_rootless::Error::Userns)? {
        Forked::Parent(child) => Ok(child),
        Forked::Child => process::exit_at_once(go_on()),
    }
}

/// Makes a process that does `go_on`, and writes its maps.
fn make(kinds: Namespaces, ids: Option<&Identity>, go_on: &mut dyn FnMut() -> u8) -> Result<(), rbox_rootless::Error> {
    let child = fork(kinds, go_on)?;
    let Some(ids) = ids else { return Ok(()) };
    let written = MapWriter::begin(ids, child.pid()).and_then(MapWriter::finish);
    if written.is_err() {
        // Or it would hear what is said to the one that is made in its place.
        let _ = child.signal(Signal::KILL);
        let _ = child.wait();
    }
    written
}

/// Has another process make it, which then ends: to go where this one, which may have more to start, would not come back
/// from, or to leave it to somebody else.
fn by_another(make: &mut dyn FnMut() -> Result<(), rbox_rootless::Error>) -> Result<(), rbox_rootless::Error> {
    let between = fork(Namespaces::NONE, &mut || u8::from(make().is_err()))?;
    match between.wait() {
        Ok(Ended::Exited(0)) => Ok(()),
        Ok(_) => Err(rbox_rootless::Error::Userns(io::ErrorKind::Other.into())),
        Err(error) => Err(rbox_rootless::Error::Userns(error)),
    }
}

/// The word to a monitor that listens.
pub(super) const GO: &[u8] = b"go";

fn unexpected(heard: io::Result<Option<Heard>>) -> Error {
    match heard {
        Ok(Some(Heard::Failed(failure))) => Error::Start(failure),
        Ok(_) => Error::io("hear from", "the monitor, which has ended")(io::ErrorKind::UnexpectedEof.into()),
        Err(error) => Error::io("hear from", "the monitor")(error),
    }
}

/// From the fork to the execution of the monitor, which so begins without what its starter has in memory.
fn become_monitor(channel: &Channel, lock: &OwnedFd, wants: &Wants) -> io::Result<Infallible> {
    let mut word = [0; MAPPED.len()];
    if channel.receive(&mut word)?.0 != MAPPED.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    // Of nothing that its caller has, but for what the workload is to have: terminal, directory, descriptors, variables,
    // signals.
    process::new_session()?;
    process::change_directory(Path::new("/"))?;
    if !wants.streams {
        tty::replace_stdio_by_null(0..3)?;
    }
    process::close_on_exec_from(3 + wants.descriptors)?;
    signal::unblock_all();
    signal::reset_inherited();
    let mut words = vec!["rbox".to_owned(), worker::MONITOR.to_owned()];
    for descriptor in [channel.as_fd(), lock.as_fd()] {
        fd::keep_over_exec(descriptor)?;
        words.push(descriptor.as_raw_fd().to_string());
    }
    let argv: Vec<CString> = words.into_iter().filter_map(|word| CString::new(word).ok()).collect();
    Err(exec::execve(c"/proc/self/exe", &argv, &[]))
}
