//! Network namespaces to test in, made by a process that is root of a user namespace of its own.
//!
//! A socket belongs to the namespace in which it was made, whoever uses it: so what makes sockets is run on a thread that
//! has entered the namespace, and what uses them may run anywhere.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::process::{Child, Command, Stdio};
use std::thread;

use anyhow::{Context, Result, bail};
use rbox_sys::clone::{self, Namespaces};

/// A network namespace; it lives for as long as this does, or a process or a device in it.
pub struct Namespace(File);

/// The namespace of the thread that opens it.
const OWN: &str = "/proc/thread-self/ns/net";

impl Namespace {
    /// The one that this thread is in.
    pub fn own() -> Result<Self> {
        Ok(Self(File::open(OWN)?))
    }

    /// A new one, with nothing in it but a loopback device, which is up.
    pub fn new() -> Result<Self> {
        let made = on_thread(|| -> Result<Self> {
            clone::unshare(Namespaces::NET).context("cannot make a network namespace")?;
            Self::own()
        })?;
        made.ip("link set lo up")?;
        Ok(made)
    }

    /// Runs this on a thread in the namespace. What it starts is in there too.
    #[track_caller]
    pub fn run<T: Send>(&self, run: impl FnOnce() -> T + Send) -> T {
        on_thread(|| {
            clone::enter(&self.0, Namespaces::NET).expect("this process owns the namespace");
            run()
        })
    }

    /// Has ip(8) do what these lines say.
    pub fn ip(&self, lines: &str) -> Result<()> {
        self.run(|| {
            let mut ip = Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().context("no ip(8)")?;
            ip.stdin.take().context("piped")?.write_all(lines.as_bytes())?;
            if !ip.wait()?.success() {
                bail!("ip(8) refused some of:\n{lines}");
            }
            Ok(())
        })
    }

    /// Sets a sysctl of the namespace's own, by its path below /proc/sys/net.
    pub fn set(&self, name: &str, value: &str) -> Result<()> {
        let path = format!("/proc/sys/net/{name}");
        self.run(|| std::fs::write(&path, value)).with_context(|| format!("cannot write {path}"))
    }

    /// A path by which others may open it while this lives.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }

    /// Starts a program in it, which is ended when what is returned is dropped.
    pub fn start(&self, command: &mut Command) -> Result<Running> {
        let child = self.run(|| command.spawn());
        Ok(Running(child.with_context(|| crate::command::shown(command))?))
    }
}

/// A program that runs until this is dropped.
pub struct Running(pub Child);

impl Running {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Fails if it has ended.
    pub fn check(&mut self) -> Result<()> {
        match self.0.try_wait()? {
            Some(status) => bail!("it ended with {status}"),
            None => Ok(()),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Threads keep the namespace that they have entered; this one is gone afterwards. Its panics are the caller's.
fn on_thread<T: Send>(run: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| scope.spawn(run).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
}
