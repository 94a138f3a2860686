//! A part of rbox that runs inside a user namespace, where files of all mapped ids can be made and removed.
//!
//! The worker is the same binary, started with a hidden verb and a channel as its standard input. It makes its
//! namespace itself while it has one thread, says so, and goes on when its ids are there:
//!
//! ```text
//! caller                             worker
//!   spawn ──────────────────────────▶ unshare(user, mount)
//!         ◀──────────── "unshared" ──
//!   newuidmap ‖ newgidmap
//!         ── "mapped" ──────────────▶ setgroups, setresgid, setresuid to 0
//!         ◀───────── job's own words ─▶
//! ```
//!
//! The caller's death closes the channel, and with that the worker's next read ends it.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::process::{Child, Command, Stdio};

use rbox_sys::clone::{self, Namespaces};
use rbox_sys::socket::Channel;
use rbox_sys::{fd, ids, process};

use crate::{Error, Identity, MapWriter};

const UNSHARED: &[u8] = b"unshared";
const MAPPED: &[u8] = b"mapped";
const JOIN: &[u8] = b"join";
const JOINED: &[u8] = b"joined";

/// A running worker; ended and reaped when dropped.
#[derive(Debug)]
pub struct Worker {
    child: Child,
    channel: Channel,
}

impl Worker {
    /// Starts this binary with `verb`, and gives it the ids of `identity`.
    pub fn start(identity: &Identity, verb: &str) -> Result<Self, Error> {
        let worker = Self::spawn(verb)?;
        worker.hear(UNSHARED)?.map_err(Error::Userns)?;
        MapWriter::begin(identity, worker.child.id())?.finish()?;
        worker.channel.send(MAPPED, &[]).map_err(failed("talk to"))?;
        Ok(worker)
    }

    /// Starts this binary with `verb`, which [`join`]s the user namespace of the process with this pidfd.
    pub fn start_in(process: BorrowedFd<'_>, verb: &str) -> Result<Self, Error> {
        let worker = Self::spawn(verb)?;
        worker.channel.send(JOIN, &[process]).map_err(failed("talk to"))?;
        worker.hear(JOINED)?.map_err(failed("bring into the container's namespace"))?;
        Ok(worker)
    }

    fn spawn(verb: &str) -> Result<Self, Error> {
        let (ours, theirs) = Channel::pair().map_err(failed("make a channel to"))?;
        let child = Command::new("/proc/self/exe")
            .arg(verb)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .spawn()
            .map_err(failed("start"))?;
        Ok(Self { child, channel: ours })
    }

    /// Waits for this word. What a worker sends instead is the number of the error that it met, which is given.
    fn hear(&self, word: &[u8]) -> Result<io::Result<()>, Error> {
        let mut message = [0; 64];
        let (length, _) = self.channel.receive(&mut message).map_err(failed("hear from"))?;
        let heard = &message[..length];
        if heard == word {
            return Ok(Ok(()));
        }
        match std::str::from_utf8(heard).ok().and_then(|text| text.parse().ok()) {
            Some(errno) => Ok(Err(io::Error::from_raw_os_error(errno))),
            None => Err(failed("hear from")(io::ErrorKind::UnexpectedEof.into())),
        }
    }

    /// The words of the job go through here.
    pub fn channel(&self) -> &Channel {
        &self.channel
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Killing it is always right here: what it had finished, it has reported.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn failed(operation: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Worker { operation, source }
}

/// The worker's side: takes over the channel, enters the namespace, becomes its root.
pub fn enter() -> io::Result<Channel> {
    let channel = unshare()?;
    become_root()?;
    Ok(channel)
}

/// As [`enter`], without becoming root: with the caller's ids still, which may pass through directories that root of the
/// namespace may not, where the caller is the host's root.
pub fn unshare() -> io::Result<Channel> {
    // Standard input is below what `inherited` takes; a copy of it closes on exec like all else.
    let channel = Channel::from(fd::duplicate(io::stdin())?);
    if let Err(error) = clone::unshare(Namespaces::USER.and(Namespaces::MOUNT)) {
        channel.send(error.raw_os_error().unwrap_or(0).to_string().as_bytes(), &[])?;
        return Err(error);
    }
    channel.send(UNSHARED, &[])?;
    let mut message = [0; 64];
    let (length, _) = channel.receive(&mut message)?;
    if &message[..length] != MAPPED {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(channel)
}

/// The side of a worker that was [started in](Worker::start_in) somebody's user namespace: enters it, and becomes its root.
/// It has the caller's mounts still.
pub fn join() -> io::Result<Channel> {
    let channel = Channel::from(fd::duplicate(io::stdin())?);
    let mut message = [0; 64];
    let (length, fds) = channel.receive(&mut message)?;
    let whose = match (&message[..length], fds.first()) {
        (JOIN, Some(whose)) => whose,
        _ => return Err(io::ErrorKind::UnexpectedEof.into()),
    };
    // Whoever is root there, with all capabilities, and sees the host's processes, could otherwise trace this one, which has
    // the host's files.
    process::set_undumpable()?;
    match clone::enter(whose, Namespaces::USER).and_then(|()| become_root()) {
        Ok(_) => channel.send(JOINED, &[])?,
        Err(error) => {
            channel.send(error.raw_os_error().unwrap_or(0).to_string().as_bytes(), &[])?;
            return Err(error);
        }
    }
    Ok(channel)
}

/// Becomes uid and gid 0 of the namespace that this process is in, without supplementary groups.
///
/// Gives whether there are any: where a user has mapped his one id by himself, the kernel forbids setgroups(2) for good
/// (user_namespaces(7)).
pub fn become_root() -> io::Result<bool> {
    let groups = match ids::set_groups(&[]) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => false,
        other => other.map(|()| true)?,
    };
    ids::become_user(0, 0)?;
    Ok(groups)
}
