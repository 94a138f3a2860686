//! The launcher's side: make the namespaces, give them ids, wait for the workload.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;
use rbox_rootless::{Identity, MapWriter};
use rbox_sys::clone::{self, Child, Ended, Forked};
use rbox_sys::signal::Signal;
use rbox_sys::socket::Channel;
use rbox_sys::{dir, mount};
use rbox_types::Exit;

use crate::Error;
use crate::entry;
use crate::error::Failure;
use crate::plan::{InitPlan, User};
use crate::report::Report;
use crate::trace::Trace;

/// What the launcher says when the ids are there.
pub(crate) const MAPPED: &[u8] = b"mapped";

/// What comes with each bind source that is shown with the container's ids.
pub(crate) const IDMAPPED: &[u8] = b"idmapped";

/// Where the root filesystem comes from.
pub trait Root {
    /// Opens what it is made of: in the container's mount namespace, but still with the caller's ids, since container
    /// root may not pass through all directories that the caller may.
    fn open(&mut self) -> Result<OpenRoot, Failure>;
}

/// The root filesystem's parts, on their way over the execution of init.
pub struct OpenRoot {
    /// For the [`MountRoot`] that init was given; they name the descriptors by number.
    pub words: Vec<u8>,
    /// Kept open for it.
    pub descriptors: Vec<OwnedFd>,
}

/// Makes the detached mount out of the words of an [`OpenRoot`]. Init calls it as root of the user namespace.
pub type MountRoot = fn(words: &[u8]) -> Result<Prepared, Failure>;

/// The root filesystem, and what could only be known by looking into it.
pub struct Prepared {
    /// A detached mount.
    pub rootfs: OwnedFd,
    /// Instead of the spec's user: an image names its user, and only its own passwd(5) says who that is.
    pub user: Option<User>,
    /// Variables to add.
    pub env: Vec<String>,
    /// Small files to be shown in the place of the root's own, by their path and content. They live in memory as long
    /// as the container; the spec's own mounts come over them.
    pub files: Vec<(PathBuf, String)>,
}

/// Where the workload's standard input comes from when it has no terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stdin {
    /// The caller's.
    Inherit,
    /// /dev/null.
    Null,
}

/// A start that has not happened yet.
pub struct Launch<'a> {
    /// What to run.
    pub spec: &'a Spec,
    /// With which ids.
    pub identity: &'a Identity,
    /// Standard input.
    pub stdin: Stdin,
    /// What the caller has to do before the workload runs, such as writing down its process id, which is handed in. It
    /// runs beside the helpers that map the ids, which take longer.
    pub meanwhile: &'a mut dyn FnMut(u32) -> Result<(), Failure>,
    /// Brings the root filesystem.
    pub root: &'a mut dyn Root,
}

impl Launch<'_> {
    /// Starts the container's first process; it has become the workload when this returns.
    pub fn start(self, trace: &mut Trace) -> Result<Running, Error> {
        let failed = |operation| move |source| Error::Launch { operation, source };
        let mut plan = InitPlan::new(self.spec)?;
        plan.single_id = self.identity.is_single();
        plan.no_stdin = self.stdin == Stdin::Null && plan.terminal.is_none();
        plan.trace = if trace.is_on() { Trace::on("entry") } else { Trace::off() };
        let idmapped: Vec<PathBuf> = plan.idmapped_sources().map(Path::to_owned).collect();
        let (ours, theirs) = Channel::pair().map_err(failed("make a channel to the container"))?;
        trace.mark("check the spec");
        let at_clone = plan.namespaces.within(entry::AT_CLONE);
        let child = match clone::fork_into(at_clone) {
            Ok(Forked::Parent(child)) => child,
            Ok(Forked::Child) => {
                drop(ours);
                let Err(failure) = entry::run(plan, &theirs, self.root);
                // If nobody listens any more, nobody is left to tell.
                let _ = Report::Failed(failure).send(&theirs, None);
                std::process::exit(i32::from(Exit::RBOX_FAILED));
            }
            Err(error) => return Err(rbox_rootless::Error::Userns(error).into()),
        };
        drop(theirs);
        trace.mark("clone into new namespaces");
        let mut running = Running { child: Guard(Some(child)), console: None };
        let maps = MapWriter::begin(self.identity, running.child().pid())?;
        trace.mark("start newuidmap and newgidmap");
        (self.meanwhile)(running.pid()).map_err(Error::Inside)?;
        trace.mark("write the record");
        maps.finish()?;
        trace.mark("wait for newuidmap and newgidmap");
        for source in &idmapped {
            // A child that is gone already has said why.
            let _ = ours.send(IDMAPPED, &[idmapped_clone(source, running.child().pid())?.as_fd()]);
        }
        let _ = ours.send(MAPPED, &[]);
        running.hear(&ours, trace)?;
        trace.mark("wait for the workload's start");
        Ok(running)
    }
}

/// A detached clone of the mount at `path` that shows files with the ids of the process `pid`.
fn idmapped_clone(path: &Path, pid: u32) -> Result<OwnedFd, Error> {
    let ids = File::open(format!("/proc/{pid}/ns/user"));
    let clone = ids.and_then(|ids| {
        let clone = mount::clone_tree(dir::cwd(), path, false)?;
        mount::set_id_map(clone.as_fd(), ids.as_fd())?;
        Ok(clone)
    });
    clone.map_err(|source| Error::IdMappedMount { path: path.to_owned(), source })
}

/// A container whose first process is the workload. Dropped, it is killed.
#[derive(Debug)]
pub struct Running {
    child: Guard,
    console: Option<OwnedFd>,
}

/// Kills the child unless it was waited for.
#[derive(Debug)]
struct Guard(Option<Child>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(child) = &self.0 {
            let _ = child.signal(Signal::KILL);
            let _ = child.wait();
        }
    }
}

impl Running {
    fn child(&self) -> &Child {
        self.child.0.as_ref().expect("only `wait` takes the child, and it consumes this")
    }

    /// Takes in what init says until it is the workload, or has failed.
    fn hear(&mut self, channel: &Channel, trace: &mut Trace) -> Result<(), Error> {
        loop {
            match Report::receive(channel) {
                // The channel is closed by execve(2), or by a death that said nothing; waiting tells which.
                Ok(None) => return Ok(()),
                Ok(Some((Report::Console, master))) => self.console = master,
                Ok(Some((Report::Trace(steps), _))) => trace.take_in(steps),
                Ok(Some((Report::Failed(failure), _))) => return Err(Error::Inside(failure)),
                Err(source) => return Err(Error::Launch { operation: "hear from the container", source }),
            }
        }
    }

    /// The process id of the workload, as the host numbers it.
    pub fn pid(&self) -> u32 {
        self.child().pid()
    }

    /// The master of the workload's terminal, where it has one; given away once.
    pub fn take_console(&mut self) -> Option<OwnedFd> {
        self.console.take()
    }

    /// Sends the workload a signal.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        self.child().signal(signal)
    }

    /// Waits for the end of the workload, and with it of everything in the container.
    pub fn wait(mut self) -> io::Result<Exit> {
        let ended = self.child().wait()?;
        self.child.0 = None;
        Ok(match ended {
            Ended::Exited(code) => Exit::Code(code),
            Ended::Signaled(signal) => Exit::Signal(signal),
        })
    }
}

/// Readable once the workload has ended.
impl AsFd for Running {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.child().as_fd()
    }
}
