//! What init does before it knows what is to be run: while the launcher finds that out, there is time.

use std::os::fd::OwnedFd;

use rbox_sys::clone::{self, Namespaces};

use crate::error::{During, Failure};
use crate::network::Network;

/// Namespaces of which only that they are wanted need be known. Not that of cgroups: where its root is, depends on
/// the cgroup that init is in by then.
pub(crate) const EARLY: Namespaces = Namespaces::NET.and(Namespaces::UTS).and(Namespaces::IPC);

/// They are made, or on their way.
#[derive(Default)]
pub(crate) struct Early {
    pub(crate) made: Namespaces,
    pub(crate) network: Option<Network>,
    /// The clone of the binary, as long as no thread has it: to let go of it takes a while.
    pub(crate) exe: Option<OwnedFd>,
}

impl Early {
    /// Makes those of `wanted` that can be. `exe` is the clone of the binary, where this process was executed from one.
    pub(crate) fn begin(wanted: Namespaces, mut exe: Option<OwnedFd>) -> Result<Self, Failure> {
        let made = wanted.within(EARLY);
        // First what is quick: the thread may have this core, and the kernel does not give that up in between.
        clone::unshare(made.without(Namespaces::NET)).during(|| "make the other namespaces")?;
        let network = made.has(Namespaces::NET).then(|| Network::begin(exe.take())).transpose()?;
        Ok(Self { made, network, exe })
    }
}
