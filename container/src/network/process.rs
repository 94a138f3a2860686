//! The process that serves a container's network.

use std::convert::Infallible;
use std::io::{self, Stderr, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::parent_id;

use rbox_net_slirp::Config;
use rbox_net_slirp::config::PublishedSocket;
use rbox_sys::clone::{self, Child, Ended, Forked, Namespaces};
use rbox_sys::rlimit::{self, Resource};
use rbox_sys::signal::Signal;
use rbox_sys::{process, tty};
use rbox_types::Exit;

use super::confinement;

/// As lists of processes show it.
const NAME: &std::ffi::CStr = c"rbox-net";

/// It, while it runs. Dropped, it is killed and reaped.
#[derive(Debug)]
pub(crate) struct NetProcess {
    child: Child,
}

impl NetProcess {
    /// Forks it from this process, which has one thread and is in the host's network namespace.
    pub(super) fn begin(tap: OwnedFd, config: Config, quiet: bool) -> io::Result<Self> {
        let parent = std::process::id();
        let mut given = Some((tap, config));
        match clone::fork_into(Namespaces::NONE)? {
            Forked::Parent(child) => Ok(Self { child }),
            Forked::Child => {
                let status = given.take().map_or(Exit::RBOX_FAILED, |(tap, config)| live(tap, config, parent, quiet));
                process::exit_at_once(status)
            }
        }
    }

    /// Has it end; that is waited for when this is dropped.
    pub(crate) fn kill(&self) {
        // One that has ended already is no failure, and another there is not.
        let _ = self.child.signal(Signal::KILL);
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
        self.kill();
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
fn live(tap: OwnedFd, config: Config, parent: u32, quiet: bool) -> u8 {
    if let Err(error) = prepare(parent, quiet) {
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
        published.chain([self.tap.as_fd(), self.log.as_fd()]).collect()
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

fn prepare(parent: u32, quiet: bool) -> io::Result<()> {
    process::set_name(NAME)?;
    // What a terminal does to its foreground is not for it.
    process::new_session()?;
    process::signal_at_parent_death(Signal::KILL)?;
    if parent_id() != parent {
        return Err(io::Error::other("its parent has ended"));
    }
    tty::replace_stdio_by_null(0..if quiet { 3 } else { 2 })?;
    // Each flow takes a descriptor.
    rlimit::raise(Resource::NOFILE).map(drop)
}
