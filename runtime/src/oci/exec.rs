//! `exec`: one more process in a container that is there.

use std::path::PathBuf;

use oci_spec::runtime::Process;

use super::create::write_pid;
use super::{Container, Error};
use crate::scheduling;
use crate::trace::Trace;
use crate::{Init, Launch, NamespacePlan, Running, Status, Streams, Workload};

/// What is to run, and how.
#[derive(Debug)]
pub struct Execution {
    /// The process.
    pub process: Process,
    /// Where its id is written.
    pub pid_file: Option<PathBuf>,
    /// How many descriptors from 3 on it gets.
    pub preserve_fds: u32,
    /// A container that is paused takes it too; it then waits for the container to go on.
    pub ignore_paused: bool,
}

impl Container {
    /// The process that the container was created for: what another one has too, unless it is told otherwise.
    pub fn process(&self) -> Process {
        self.record.spec.process().clone().unwrap_or_default()
    }

    /// Runs one more process in it.
    pub fn exec(&self, execution: &Execution) -> Result<Running, Error> {
        let refuse = |status| Error::Status { operation: "exec in", id: self.id().to_owned(), status };
        let first = match (self.status(), self.record.process) {
            (Status::Created | Status::Running, Some(first)) => first,
            (Status::Paused, Some(first)) if execution.ignore_paused => first,
            (status, _) => return Err(refuse(status)),
        };
        let mut spec = self.record.spec.clone();
        spec.set_process(Some(execution.process.clone())).set_hooks(None);
        let pidfd = first.open().map_err(Error::io("find the first process of", self.id()))?;
        let Some(pidfd) = pidfd else { return Err(refuse(self.status())) };
        let linux = self.record.spec.linux().as_ref();
        let namespaces = linux.and_then(|linux| linux.namespaces().as_deref()).unwrap_or_default();
        let namespaces = NamespacePlan::of_process(first.pid, pidfd, &NamespacePlan::of(namespaces)?)?;
        scheduling::begin(&execution.process)?;
        let trace = &mut Trace::off();
        let launch = Launch::begin(&Init::OF_BUNDLE, &namespaces, None, None, trace)?;
        if let Some(cgroup) = self.cgroup()? {
            cgroup.attach_beside(launch.pid(), first.pid)?;
        }
        let workload = Workload {
            spec: &spec,
            volumes: &[],
            built_in_filter: false,
            streams: Streams::Inherit,
            reaper: false,
            preserved: execution.preserve_fds,
            no_pivot: false,
            place: self.shared_place(),
            new_keyring: true,
            subject: self.record.subject.clone(),
            beside: Some(first.pid),
            outlives: true,
            tap: None,
            held: None,
            refusals: None,
        };
        let running = launch.plan(workload, trace)?.start(&[], None, &mut |_| Ok(()), trace)?;
        if let Some(path) = &execution.pid_file {
            write_pid(path, running.pid())?;
        }
        Ok(running)
    }
}
