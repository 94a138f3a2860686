//! This process itself becomes root of a user namespace, for good: for a program of the user's that is to be that.
//!
//! The maps are written from outside, by somebody who has stayed there. So a child is made first, which does that and ends:
//!
//! ```text
//! this process                child
//!   clone ──────────────────▶ waits
//!   unshare(user, mount)
//!         ── "unshared" ────▶ newuidmap ‖ newgidmap for its parent
//!         ◀──────── outcome ─ ends
//!   setgroups, setresgid, setresuid to 0
//! ```

use std::io;

use rbox_sys::clone::{self, Forked, Namespaces};
use rbox_sys::process;
use rbox_sys::socket::Channel;

use crate::worker::become_root;
use crate::{Error, Identity, MapWriter};

/// The words of a failure are cut to this.
const MESSAGE: usize = 4096;

/// Takes this process, which has one thread, into new user and mount namespaces with the ids of `identity`, as root.
pub fn enter(identity: &Identity) -> Result<(), Error> {
    let failed = |operation| move |source| Error::Worker { operation, source };
    let own = process::number_in_proc().map_err(failed("find out the number of"))?;
    let (ours, theirs) = Channel::pair().map_err(failed("make a channel to"))?;
    let helper = match clone::fork_into(Namespaces::NONE).map_err(failed("start"))? {
        Forked::Parent(child) => child,
        Forked::Child => {
            drop(ours);
            let mut go = [0; 1];
            if matches!(theirs.receive(&mut go), Ok((1, _))) {
                let written = MapWriter::begin(identity, own).and_then(MapWriter::finish);
                let told = match &written {
                    Ok(()) => "+".to_owned(),
                    Err(error) => format!("-{}\0{}", words(error), error.hint().unwrap_or_default()),
                };
                let _ = theirs.send(&told.as_bytes()[..told.len().min(MESSAGE)], &[]);
            }
            process::exit_at_once(0)
        }
    };
    drop(theirs);
    let unshared = clone::unshare(Namespaces::USER.and(Namespaces::MOUNT));
    let heard = match &unshared {
        Ok(()) => ours.send(&[1], &[]).and_then(|()| hear(&ours)),
        Err(_) => Ok(Vec::new()),
    };
    drop(ours);
    helper.wait().map_err(failed("wait for"))?;
    unshared.map_err(Error::Userns)?;
    match &heard.map_err(failed("hear from"))?[..] {
        [b'+'] => {}
        [b'-', told @ ..] => {
            let told = String::from_utf8_lossy(told);
            let (message, hint) = told.split_once('\0').unwrap_or((&told, ""));
            return Err(Error::InHelper {
                message: message.to_owned(),
                hint: (!hint.is_empty()).then(|| hint.to_owned()),
            });
        }
        _ => return Err(failed("hear from")(io::ErrorKind::UnexpectedEof.into())),
    }
    become_root().map_err(failed("become root of"))?;
    Ok(())
}

fn hear(channel: &Channel) -> io::Result<Vec<u8>> {
    let mut message = vec![0; MESSAGE];
    let (length, _) = channel.receive(&mut message)?;
    message.truncate(length);
    Ok(message)
}

/// The error with its causes.
fn words(error: &Error) -> String {
    let mut message = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        message.push_str(": ");
        message.push_str(&error.to_string());
        cause = error.source();
    }
    message
}
