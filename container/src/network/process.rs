//! The process that serves a container's network.

use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Stderr, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::parent_id;

use rbox_net_slirp::Config;
use rbox_net_slirp::config::PublishedSocket;
use rbox_sys::process;
use rbox_sys::signal::{self, Signal};
use rbox_types::Exit;

use super::confinement;
use crate::servers::{self, Ending, Server};

/// As lists of processes show it.
const NAME: &std::ffi::CStr = c"rbox-net";

/// Forks it from this process, which has one thread and is in the host's network namespace.
pub(super) fn begin(tap: OwnedFd, config: Config, quiet: bool) -> io::Result<Server> {
    let parent = std::process::id();
    let ending = if config.log.is_some() { Ending::Asked } else { Ending::Killed };
    Server::begin(ending, move || live(tap, config, parent, quiet))
}

/// Gives its exit status.
fn live(tap: OwnedFd, mut config: Config, parent: u32, quiet: bool) -> u8 {
    if let Err(error) = prepare(&mut config, parent, quiet) {
        eprintln!("rbox: cannot serve the network: {error}");
        return Exit::RBOX_FAILED;
    }
    let error = process::keep_only_those_of(Life { tap, config, log: io::stderr() }, Life::kept, Life::live);
    eprintln!("rbox: cannot serve the network: {error}");
    Exit::RBOX_FAILED
}

/// All that it has.
struct Life {
    tap: OwnedFd,
    config: Config,
    log: Stderr,
}

impl Life {
    /// What stays open.
    fn kept(&self) -> Vec<BorrowedFd<'_>> {
        let published = self.config.published.iter().map(|published| match &published.socket {
            PublishedSocket::Tcp(listener) => listener.as_fd(),
            PublishedSocket::Udp(socket) => socket.as_fd(),
        });
        let Config { log, refusals, end, .. } = &self.config;
        let files = log.iter().chain(refusals).map(File::as_fd);
        let ours = [self.tap.as_fd(), self.log.as_fd()].into_iter().chain(end.as_ref().map(OwnedFd::as_fd));
        published.chain(files).chain(ours).collect()
    }

    fn live(self) -> Infallible {
        let Self { tap, config, mut log } = self;
        let served = confinement::confine().and_then(|()| rbox_net_slirp::run(tap, config));
        if let Err(error) = &served {
            let _ = writeln!(log, "rbox: cannot serve the network any more: {error}");
        }
        process::exit_at_once(if served.is_ok() { 0 } else { Exit::RBOX_FAILED })
    }
}

fn prepare(config: &mut Config, parent: u32, quiet: bool) -> io::Result<()> {
    // The tap keeps the network namespace in being: it would not see the container's end by itself.
    process::signal_at_parent_death(Signal::KILL)?;
    if parent_id() != parent {
        return Err(io::Error::other("its parent has ended"));
    }
    if config.log.is_some() {
        config.end = Some(signal::take(Signal::TERM)?);
        // A write that is too much for `ulimit -f` fails, and that is all.
        signal::ignore_file_size_limit();
    }
    // Each flow takes a descriptor.
    servers::begin(NAME, quiet)
}
