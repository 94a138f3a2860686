//! The process that serves a root filesystem which asks for all there is in it: rbox's own overlay.
//!
//! ```text
//! host's mount namespace                container's
//!   monitor, or rbox in front              init: /dev/fuse, and the mount
//!     │  ◀──────────── device ────────────────┘
//!     └─▶ rbox-overlay: root of the container's ids, confined, with the layers and the device
//! ```
//!
//! The kernel asks by the container's ids, and the server stores by its own. So where the container has its ids otherwise than
//! files are stored, as with `--userns=keep-id`, all that it takes is a server in another user namespace than the container's.
//!
//! It is outside of the container's pid namespace and cgroup: nobody in there finds it, and memory that it takes is not
//! theirs. Nobody else keeps the device, so that the kernel answers with errors from when it dies. It ends by itself, when the
//! last process of the container has taken the mount along, and with that all that was written.

use std::convert::Infallible;
use std::io::{self, Stderr, Write};
use std::os::fd::{AsFd, BorrowedFd};

use rbox_overlay::fuse::{self, Device, Layers};
use rbox_rootless::Parent;
use rbox_rootless::worker::become_root;
use rbox_runtime::{AskingRoot, Failure};
use rbox_sys::clone::{self, Namespaces};
use rbox_sys::process;
use rbox_types::Exit;

use super::{OverlayRoot, confinement};
use crate::servers::{self, Ending, Server};

/// As lists of processes show it.
const NAME: &std::ffi::CStr = c"rbox-overlay";

/// Whose ids files are stored with.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Owners<'a> {
    /// Those of the container's user namespace.
    Container,
    /// Those of this process's own: the container shows them otherwise.
    This,
    /// Those of this one: the same.
    Parent(&'a Parent),
}

impl<'a> Owners<'a> {
    /// Those of a container, which may show files with other ids than they are stored with; then `parent` has the latter,
    /// unless this process has.
    pub(crate) fn of(shows_otherwise: bool, parent: Option<&'a Parent>) -> Self {
        match (shows_otherwise, parent) {
            (false, _) => Self::Container,
            (true, None) => Self::This,
            (true, Some(parent)) => Self::Parent(parent),
        }
    }
}

/// Begins to serve what the layers of `root` are together. `quiet`: nobody reads what goes to the standard error. The caller
/// may pass through the directories of the store, and has one thread.
pub(crate) fn serve(
    root: &OverlayRoot,
    asking: AskingRoot,
    owners: Owners<'_>,
    quiet: bool,
) -> Result<Server, Failure> {
    let layers = Layers::open(&root.lowers, Some((&root.upper, &root.work)))
        .map_err(|error| Failure::new(format!("open {}", error.path.display()), &error.source))?;
    let life = Life { device: asking.device.into(), layers, volatile: root.volatile, log: io::stderr() };
    let begin = || -> io::Result<()> {
        servers::begin(NAME, quiet)?;
        match owners {
            Owners::Container => clone::enter(&asking.user_namespace, Namespaces::USER)?,
            Owners::This => {}
            Owners::Parent(parent) => parent.enter()?,
        }
        become_root().map(drop)
    };
    Server::begin(Ending::Itself, || {
        let error = match begin() {
            Ok(()) => process::keep_only_those_of(life, Life::kept, Life::live),
            Err(error) => error,
        };
        eprintln!("rbox: cannot serve the root filesystem: {error}");
        Exit::RBOX_FAILED
    })
    .map_err(|error| Failure::new("start the process that serves the root filesystem", &error))
}

/// All that it has.
struct Life {
    device: Device,
    layers: Layers,
    volatile: bool,
    log: Stderr,
}

impl Life {
    /// What stays open.
    fn kept(&self) -> Vec<BorrowedFd<'_>> {
        [self.device.as_fd(), self.log.as_fd()].into_iter().chain(self.layers.fds()).collect()
    }

    fn live(self) -> Infallible {
        let Self { device, layers, volatile, mut log } = self;
        let served = confinement::confine().and_then(|()| fuse::serve(device, layers, volatile));
        if let Err(error) = &served {
            let _ = writeln!(log, "rbox: cannot serve the root filesystem any more: {error}");
        }
        process::exit_at_once(if served.is_ok() { 0 } else { Exit::RBOX_FAILED })
    }
}
