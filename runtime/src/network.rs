//! The network namespace: half a millisecond of the kernel's time, spent where it keeps nothing waiting.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::thread::{self, JoinHandle};

use rbox_sys::clone::{self, Namespaces};
use rbox_sys::{netdev, sched};

use crate::error::{During, Failure};

/// A network namespace with its loopback device, on its way in a thread of its own.
pub(crate) struct Network(JoinHandle<Result<File, Failure>>);

impl Network {
    /// Begins to make it, as an owner of the user namespace.
    ///
    /// The thread also closes `exe`, the clone that init runs from: to let go of a detached mount takes an RCU grace
    /// period.
    pub(crate) fn begin(exe: Option<OwnedFd>) -> Result<Self, Failure> {
        let make = || {
            drop(exe);
            // What init does comes first where cores are few; that it is refused is no reason to fail. SCHED_IDLE would not
            // do: on a busy host this thread could take a second to end, which only CAP_SYS_NICE could undo, and the
            // container's first process does not end before it (pid_namespaces(7)).
            let _ = sched::give_way();
            make()?;
            File::open("/proc/thread-self/ns/net").during(|| "open the network namespace")
        };
        Ok(Self(thread::Builder::new().name("network".into()).spawn(make).during(|| "start a thread")?))
    }

    /// Waits for it.
    pub(crate) fn finish(self) -> Result<File, Failure> {
        self.0.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// Makes it for the calling thread.
pub(crate) fn make() -> Result<(), Failure> {
    clone::unshare(Namespaces::NET).during(|| "make the network namespace")?;
    netdev::loopback_up().during(|| "bring up the loopback device")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_thread_is_not_starved() {
        // SCHED_IDLE of uapi/linux/sched.h.
        const IDLE: u32 = 5;
        let policy = thread::spawn(|| {
            let _ = sched::give_way();
            sched::get().expect("sched_getattr").policy
        });
        assert_ne!(policy.join().expect("no panic"), IDLE);
    }
}
