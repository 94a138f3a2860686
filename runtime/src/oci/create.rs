//! `create`: from a bundle to a first process that waits.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rbox_sys::clone::Namespaces;
use rbox_sys::ids;
use rbox_sys::socket::Channel;

use super::state::{Process, Record, SOCKET};
use super::{Bundle, Container, Error, States};
use crate::error::{During, Failure};
use crate::hooks::{Hooks, Subject};
use crate::trace::Trace;
use crate::{BUNDLE_VERB, Launch, NamespacePlan, Running, Stdin, Workload};

/// What is to be created, and how.
#[derive(Debug)]
pub struct Creation {
    /// Its id.
    pub id: String,
    /// From what.
    pub bundle: Bundle,
    /// Where the first process's id is written.
    pub pid_file: Option<PathBuf>,
    /// How many descriptors from 3 on the workload gets.
    pub preserve_fds: u32,
    /// Now, in RFC 3339's form.
    pub now: String,
}

/// A container whose workload waits for its start. Dropped before it is [released](Running::release), its process is
/// killed.
#[derive(Debug)]
pub struct Created {
    /// What is known of it.
    pub container: Container,
    /// Its first process.
    pub running: Running,
}

impl States {
    /// Creates a container; where that fails, nothing of it is left.
    pub fn create(&self, creation: &Creation) -> Result<Created, Error> {
        let Bundle { path, spec } = &creation.bundle;
        let linux = spec.linux().as_ref();
        let namespaces = linux.and_then(|linux| linux.namespaces().as_deref()).unwrap_or_default();
        let namespaces = NamespacePlan::of(namespaces)?;
        let identity = namespaces.new.has(Namespaces::USER).then(|| super::ids::identity(spec)).transpose()?;
        let root = creation.bundle.root()?;
        let record = Record {
            subject: Subject {
                oci_version: spec.version().clone(),
                id: creation.id.clone(),
                bundle: path.clone(),
                annotations: spec.annotations().clone().unwrap_or_default().into_iter().collect(),
            },
            hooks: Hooks::of(spec.hooks().as_ref()),
            spec: spec.clone(),
            rootfs: root.path.clone(),
            created: creation.now.clone(),
            process: None,
            owner: ids::uid(),
        };
        let mut container = self.make(&creation.id, record)?;
        let directory = container.directory.clone();
        let launched = (|| {
            let socket = Channel::listen(container.file.as_fd(), SOCKET)
                .map_err(Error::io("make the socket", directory.join(SOCKET)))?;
            let mut trace = Trace::off();
            let launch = Launch::begin(BUNDLE_VERB, &namespaces, identity.as_ref(), &mut trace)?;
            self.launch(
                launch,
                creation,
                &root.words().map_err(Error::io("describe", &root.path))?,
                socket,
                &mut container,
            )
        })();
        match launched {
            Ok(running) => Ok(Created { container, running }),
            Err(error) => {
                // The first failure is the one to tell.
                let _ = container.forget();
                Err(error)
            }
        }
    }

    fn launch(
        &self,
        launch: Launch,
        creation: &Creation,
        root: &[u8],
        socket: OwnedFd,
        container: &mut Container,
    ) -> Result<Running, Error> {
        let subject = container.record.subject.clone();
        let mut write_down = |pid| {
            container.record.process = Some(Process::of(pid).during(|| "find the container's first process")?);
            container.write().map_err(|error| Failure::new(error.to_string(), &io::Error::other("see above")))
        };
        let workload = Workload {
            spec: &creation.bundle.spec,
            stdin: Stdin::Inherit,
            preserved: creation.preserve_fds,
            root,
            subject,
            outlives: true,
            held: Some(socket),
            before: &mut write_down,
        };
        let running = launch.start(workload, &mut Trace::off())?;
        if let Some(path) = &creation.pid_file {
            write_pid(path, running.pid())?;
        }
        Ok(running)
    }
}

/// By rename: whoever waits for the file finds the number in it.
pub(super) fn write_pid(path: &Path, pid: u32) -> Result<(), Error> {
    let new = path.with_extension("new");
    fs::write(&new, pid.to_string()).and_then(|()| fs::rename(&new, path)).map_err(Error::io("write", path))
}
