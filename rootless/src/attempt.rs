//! Trying something in new namespaces, in a child that is gone afterwards.

use std::io;

use rbox_sys::clone::{self, Ended, Forked, Namespaces};
use rbox_sys::socket::Channel;

use crate::worker::become_root;
use crate::{Error, Identity, MapWriter};

/// Runs `act` as root of a new user namespace with the ids of `identity`, in whichever further namespaces, and tells
/// what came of it. The caller has one thread.
///
/// What travels back is an error number: whatever else `act` fails with arrives as `EIO`.
pub fn attempt(
    identity: &Identity,
    namespaces: Namespaces,
    act: impl FnOnce() -> io::Result<()>,
) -> Result<io::Result<()>, Error> {
    attempt_with(identity, namespaces, || Ok(()), |()| act())
}

/// As [`attempt`], with what `open` opens there before, with the caller's ids still: who is root there may not pass through all
/// directories that the caller may.
pub fn attempt_with<T>(
    identity: &Identity,
    namespaces: Namespaces,
    open: impl FnOnce() -> io::Result<T>,
    act: impl FnOnce(T) -> io::Result<()>,
) -> Result<io::Result<()>, Error> {
    let channel_error = |source| Error::Worker { operation: "make a channel to", source };
    let (ours, theirs) = Channel::pair().map_err(channel_error)?;
    let child = match clone::fork_into(namespaces.and(Namespaces::USER)).map_err(Error::Userns)? {
        Forked::Parent(child) => child,
        Forked::Child => {
            drop(ours);
            let mut go = [0; 1];
            let done = match theirs.receive(&mut go) {
                Ok((1, _)) => open().and_then(|opened| become_root().and_then(|_| act(opened))),
                _ => Err(io::ErrorKind::UnexpectedEof.into()),
            };
            let code = done.err().map_or(0, |error| error.raw_os_error().unwrap_or(rbox_sys::Errno::IO.raw_os_error()));
            std::process::exit(code);
        }
    };
    drop(theirs);
    let mapped = MapWriter::begin(identity, child.pid()).and_then(MapWriter::finish);
    if mapped.is_ok() {
        let _ = ours.send(&[1], &[]);
    }
    drop(ours);
    let ended = child.wait().map_err(|source| Error::Worker { operation: "wait for", source })?;
    mapped?;
    Ok(match ended {
        Ended::Exited(0) => Ok(()),
        Ended::Exited(code) => Err(io::Error::from_raw_os_error(i32::from(code))),
        Ended::Signaled(signal) => Err(io::Error::other(format!("ended by signal {signal}"))),
    })
}
