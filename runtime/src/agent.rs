//! The seccomp agent: who answers for the system calls that a filter leaves to others (runtime spec, "seccomp":
//! `listenerPath`, and "The Container Process State").

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;
use rbox_sys::socket;
use serde_json::{Value, json};

use crate::Error;

/// Where the agent of a spec listens, and what it is told.
#[derive(Debug)]
pub(crate) struct Agent<'a> {
    socket: &'a Path,
    metadata: Option<&'a str>,
}

impl<'a> Agent<'a> {
    /// The one of a spec, where it has one.
    pub(crate) fn of(spec: &'a Spec) -> Option<Self> {
        let profile = spec.linux().as_ref()?.seccomp().as_ref()?;
        let socket = profile.listener_path().as_deref()?;
        Some(Self { socket, metadata: profile.listener_metadata().as_deref() })
    }

    /// Gives it the listener of the process `pid`; `state` is the container's.
    pub(crate) fn hand_over(&self, listener: &OwnedFd, pid: u32, state: Value) -> Result<(), Error> {
        let message = self.process_state(pid, state).to_string();
        socket::send_to_stream(self.socket, message.as_bytes(), listener.as_fd())
            .map_err(|source| Error::Agent { path: PathBuf::from(self.socket), source })
    }

    fn process_state(&self, pid: u32, state: Value) -> Value {
        let mut message = json!({
            "ociVersion": state["ociVersion"],
            "fds": ["seccompFd"],
            "pid": pid,
            "state": state,
        });
        if let Some(metadata) = self.metadata {
            message["metadata"] = metadata.into();
        }
        message
    }
}
