//! The process that serves a container's network.

use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Stderr, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::parent_id;
use std::time::Duration;

use rbox_net_slirp::Config;
use rbox_net_slirp::config::PublishedSocket;
use rbox_sys::clone::{self, Child, Ended, Forked, Namespaces};
use rbox_sys::poll::{self, Interest};
use rbox_sys::rlimit::{self, Resource};
use rbox_sys::signal::{self, Signal};
use rbox_sys::{process, tty};
use rbox_types::Exit;

use super::confinement;

/// As lists of processes show it.
const NAME: &std::ffi::CStr = c"rbox-net";

/// How long it may take to write down what it knows.
const PATIENCE: Duration = Duration::from_secs(2);

/// It, while it runs. Dropped, it is ended and reaped.
#[derive(Debug)]
pub(crate) struct NetProcess {
    child: Child,
    /// It has something to write down in the end.
    has_log: bool,
}

impl NetProcess {
    /// Forks it from this process, which has one thread and is in the host's network namespace.
    pub(super) fn begin(tap: OwnedFd, config: Config, quiet: bool) -> io::Result<Self> {
        let parent = std::process::id();
        let has_log = config.log.is_some();
        let mut given = Some((tap, config));
        match clone::fork_into(Namespaces::NONE)? {
            Forked::Parent(child) => Ok(Self { child, has_log }),
            Forked::Child => {
                let status = given.take().map_or(Exit::RBOX_FAILED, |(tap, config)| live(tap, config, parent, quiet));
                process::exit_at_once(status)
            }
        }
    }

    /// Has it end; that is waited for when this is dropped.
    pub(crate) fn finish(&self) {
        // One that has ended already is no failure, and another there is not.
        let _ = self.child.signal(if self.has_log { Signal::TERM } else { Signal::KILL });
    }

    /// How it has ended, as is seen when it [is readable](AsFd).
    pub(crate) fn end(self) -> String {
        match self.child.wait() {
            Ok(Ended::Exited(status)) => format!("it has ended with status {status}"),
            Ok(Ended::Signaled(signal)) => format!("it was ended by signal {signal}"),
            Err(error) => error.to_string(),
        }
    }
}

impl Drop for NetProcess {
    fn drop(&mut self) {
        self.finish();
        if self.has_log && !matches!(poll::wait([(self.child.as_fd(), Interest::Read)], Some(PATIENCE)), Ok([true])) {
            let _ = self.child.signal(Signal::KILL);
        }
        // One that was waited for is no child any more.
        let _ = self.child.wait();
    }
}

/// Readable once it has ended.
impl AsFd for NetProcess {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.child.as_fd()
    }
}

/// The child; gives its exit status.
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
    process::set_name(NAME)?;
    // What a terminal does to its foreground is not for it.
    process::new_session()?;
    process::signal_at_parent_death(Signal::KILL)?;
    if parent_id() != parent {
        return Err(io::Error::other("its parent has ended"));
    }
    if config.log.is_some() {
        config.end = Some(signal::take(Signal::TERM)?);
        // A write that is too much for `ulimit -f` fails, and that is all.
        signal::ignore_file_size_limit();
    }
    tty::replace_stdio_by_null(0..if quiet { 3 } else { 2 })?;
    // Each flow takes a descriptor.
    rlimit::raise(Resource::NOFILE).map(drop)
}
