//! The network namespace: more than half a millisecond of the kernel's time, spent beside all the rest.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::thread::{self, JoinHandle};

use rbox_sys::clone::{self, Namespaces};
use rbox_sys::netdev;

use crate::error::{During, Failure};

/// A network namespace with its loopback device, on its way.
pub(crate) struct Network(JoinHandle<Result<File, Failure>>);

impl Network {
    /// Begins to make it, as an owner of the user namespace, in a thread of its own.
    ///
    /// The thread also closes `exe`, the clone that init runs from: to let go of a detached mount takes an RCU grace
    /// period.
    pub(crate) fn begin(exe: Option<OwnedFd>) -> Result<Self, Failure> {
        let make = || {
            drop(exe);
            make()
        };
        Ok(Self(thread::Builder::new().name("network".into()).spawn(make).during(|| "start a thread")?))
    }

    /// Waits for it.
    pub(crate) fn finish(self) -> Result<File, Failure> {
        self.0.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

fn make() -> Result<File, Failure> {
    clone::unshare(Namespaces::NET).during(|| "make the network namespace")?;
    netdev::loopback_up().during(|| "bring up the loopback device")?;
    File::open("/proc/thread-self/ns/net").during(|| "open the network namespace")
}
