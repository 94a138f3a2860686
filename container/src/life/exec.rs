//! `rbox exec`: one more process in a container that runs.

use std::os::fd::AsFd;
use std::path::PathBuf;

use rbox_runtime::Streams;
use rbox_sys::signal::SignalFd;
use rbox_types::Exit;

use crate::engine::open_store;
use crate::life::begun::Begun;
use crate::life::beside::Beside;
use crate::life::supervise::{Supervised, Terminal, supervise_until};
use crate::life::{held, pause};
use crate::request::ExecRequest;
use crate::servers::Servers;
use crate::{Error, events};

/// Runs a process in a container of the store at `root`, or of this user's own, and waits for its end. One that is left to
/// itself has ended well as far as its caller is concerned.
pub fn exec(root: Option<PathBuf>, request: &ExecRequest) -> Result<Exit, Error> {
    let store = open_store(root)?;
    let begun = Begun::find(&store, &request.container)?;
    let Begun { entry, made, pidfd, .. } = &begun;
    let going = pause::keep_going(entry, made)?;
    let beside = Beside::begin(begun.container(), pidfd.as_fd())?;
    let terminal = if request.tty { Some(Terminal::of_caller()?) } else { None };
    let signals = SignalFd::of_forwarded().map_err(Error::io("block", "signals"))?;
    let streams = match (request.detach, request.interactive) {
        (true, _) => Streams::None,
        (false, true) => Streams::Inherit,
        (false, false) => Streams::NoInput,
    };
    let mut running = beside.start(request, terminal.as_ref().map(Terminal::size), streams, true)?;
    drop(going);
    let happened = |action| events::of_container(action, &entry.id, &entry.name, Some(made.known()));
    events::note(&store, &[happened("exec_start")]);
    let supervised = if request.detach {
        Supervised::Left(running.take_console().map(Into::into), running)
    } else {
        supervise_until(
            running,
            &signals,
            terminal,
            request.interactive,
            &request.detach_keys,
            &mut Servers::default(),
            &mut || {},
        )?
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
