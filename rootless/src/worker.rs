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
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};

use rbox_sys::clone::{self, Namespaces};
use rbox_sys::socket::Channel;
use rbox_sys::{fd, ids};

use crate::{Error, Identity, MapWriter};

const UNSHARED: &[u8] = b"unshared";
const MAPPED: &[u8] = b"mapped";

/// A running worker; ended and reaped when dropped.
#[derive(Debug)]
pub struct Worker {
    child: Child,
    channel: Channel,
}

impl Worker {
    /// Starts this binary with `verb`, and gives it the ids of `identity`.
    pub fn start(identity: &Identity, verb: &str) -> Result<Self, Error> {
        let failed = |operation| move |source| Error::Worker { operation, source };
        let (ours, theirs) = Channel::pair().map_err(failed("make a channel to"))?;
        let child = Command::new("/proc/self/exe")
            .arg(verb)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .spawn()
            .map_err(failed("start"))?;
        let worker = Self { child, channel: ours };
        let mut message = [0; 64];
        let (length, _) = worker.channel.receive(&mut message).map_err(failed("hear from"))?;
        match &message[..length] {
            UNSHARED => {}
            // What the worker sends instead is the number of the error that unshare(2) gave.
            other => {
                let errno = std::str::from_utf8(other).ok().and_then(|text| text.parse().ok());
                return Err(match errno {
                    Some(errno) => Error::Userns(io::Error::from_raw_os_error(errno)),
                    None => failed("hear from")(io::ErrorKind::UnexpectedEof.into()),
                });
            }
        }
        MapWriter::begin(identity, worker.child.id())?.finish()?;
        worker.channel.send(MAPPED, &[]).map_err(failed("talk to"))?;
        Ok(worker)
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

/// The worker's side: takes over the channel, enters the namespace, becomes its root.
pub fn enter() -> io::Result<Channel> {
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
    become_root()?;
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
