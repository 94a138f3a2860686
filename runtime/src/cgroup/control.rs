//! The processes in a cgroup as a whole: listed, stopped, signalled.

use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rbox_sys::clone::{open_pidfd, signal_pidfd};
use rbox_sys::signal::Signal;
use rbox_sys::{Errno, at, cgroup};

use super::{Cgroup, Error, tree};

/// How many processes are held by descriptor at once.
const AT_ONCE: usize = 256;

impl Cgroup {
    /// The processes in this cgroup and in those below it, in ascending order, as this pid namespace numbers them.
    pub fn processes(&self) -> Result<Vec<u32>, Error> {
        let pids = tree::processes(self.dir.as_fd()).map_err(|source| self.failed("list the processes of", source))?;
        Ok(pids.into_iter().collect())
    }

    /// Whether this cgroup or one below it has a process; one that has ended but was not yet waited for is none.
    pub fn is_populated(&self) -> Result<bool, Error> {
        self.event("populated")
    }

    /// Whether every process is stopped by [`freeze`](Self::freeze).
    pub fn is_frozen(&self) -> Result<bool, Error> {
        self.event("frozen")
    }

    /// Stops every process (Linux 5.2), and waits until they are. If that takes longer than `limit` (a process may be
    /// in an uninterruptible wait), they go on, and it is a failure of kind `TimedOut`.
    pub fn freeze(&self, limit: Duration) -> Result<(), Error> {
        let failed = |source| self.failed("freeze", source);
        self.write("cgroup.freeze", "1").map_err(failed)?;
        if self.wait_for_event("frozen", true, limit).map_err(failed)? {
            return Ok(());
        }
        self.write("cgroup.freeze", "0").map_err(failed)?;
        let why = format!("a process was still running after {} s", limit.as_secs_f32());
        Err(failed(io::Error::new(io::ErrorKind::TimedOut, why)))
    }

    /// Lets every process go on. One that a cgroup above stops stays so.
    pub fn thaw(&self) -> Result<(), Error> {
        self.write("cgroup.freeze", "0").map_err(|source| self.failed("thaw", source))
    }

    /// Ends every process with SIGKILL, those that are being made meanwhile too. They may take a moment to end.
    pub fn kill(&self) -> Result<(), Error> {
        match self.write("cgroup.kill", "1") {
            // The file is of Linux 5.14.
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.signal_all(Signal::KILL),
            result => result.map_err(|source| self.failed("kill the processes of", source)),
        }
    }

    /// Sends a signal to every process, stopping them all meanwhile, so that none is made unnoticed. A cgroup that was
    /// frozen before stays so.
    pub fn signal_all(&self, signal: Signal) -> Result<(), Error> {
        let was_frozen = self.is_frozen()?;
        // One that cannot be stopped is in an uninterruptible wait, and makes no others meanwhile.
        let stopped = !was_frozen && self.freeze(Duration::from_secs(2)).is_ok();
        let sent = self.signal_each(signal).map_err(|source| self.failed("signal the processes of", source));
        if stopped {
            self.thaw()?;
        }
        sent
    }

    fn signal_each(&self, signal: Signal) -> io::Result<()> {
        let pids: Vec<u32> = tree::processes(self.dir.as_fd())?.into_iter().collect();
        for pids in pids.chunks(AT_ONCE) {
            let mut held: Vec<(u32, OwnedFd)> = Vec::new();
            for pid in pids {
                match open_pidfd(*pid) {
                    Ok(pidfd) => held.push((*pid, pidfd)),
                    Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => {}
                    Err(error) => return Err(error),
                }
            }
            // A number may have changed hands before it was held; one that is still listed here now has not.
            let still = tree::processes(self.dir.as_fd())?;
            for (_, pidfd) in held.iter().filter(|(pid, _)| still.contains(pid)) {
                signal_pidfd(pidfd, signal)?;
            }
        }
        Ok(())
    }

    /// How often a process of this cgroup or of those below it was ended for want of memory (`memory.events`); `None`
    /// without the memory controller.
    pub fn oom_kills(&self) -> Option<u64> {
        let events = tree::read(self.dir.as_fd(), "memory.events").ok()?;
        super::statistics::value(&events, "oom_kill")
    }

    /// A key of `cgroup.events`.
    fn event(&self, key: &str) -> Result<bool, Error> {
        let events = tree::read(self.dir.as_fd(), "cgroup.events").map_err(|source| self.failed("look at", source))?;
        Ok(super::statistics::value(&events, key) == Some(1))
    }

    /// Waits until a key of `cgroup.events` is `wanted`, at most for `limit`; says whether it is. A cgroup that is
    /// gone counts as having nothing in it that is not as wanted.
    pub(super) fn wait_for_event(&self, key: &str, wanted: bool, limit: Duration) -> io::Result<bool> {
        let deadline = Instant::now() + limit;
        let mut events = match at::open_file(self.dir.as_fd(), b"cgroup.events") {
            Err(error) if tree::is_gone(&error) => return Ok(true),
            events => events?,
        };
        loop {
            // What is polled for is a change since this descriptor was read last.
            let mut text = String::new();
            match events.rewind().and_then(|()| events.read_to_string(&mut text)) {
                Err(error) if tree::is_gone(&error) => return Ok(true),
                read => read?,
            };
            if super::statistics::value(&text, key) == Some(wanted.into()) {
                return Ok(true);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            cgroup::wait_for_change(&events, left)?;
        }
    }
}
