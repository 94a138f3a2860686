//! `start`: the workload that waits runs.

use std::fs;
use std::os::fd::AsFd;

use rbox_sys::socket::Channel;

use super::state::SOCKET;
use super::{Container, Error};
use crate::Status;
use crate::hooks;
use crate::start_held;

impl Container {
    /// Starts the workload; it runs when this returns. A `poststart` hook that fails ends nothing but the hooks, and is
    /// told, as runc and crun do it.
    pub fn start(&self) -> Result<(), Error> {
        self.lock()?;
        let status = self.status();
        if status != Status::Created {
            return Err(Error::Status { operation: "start", id: self.id().to_owned(), status });
        }
        let path = self.directory.join(SOCKET);
        let socket = Channel::connect(self.file.as_fd(), SOCKET).map_err(Error::io("connect to", &path))?;
        // Started is started, whatever comes of it.
        fs::remove_file(&path).map_err(Error::io("remove", &path))?;
        let started = start_held(&socket);
        // Whatever has become of the workload: docs/decisions/hooks-after-a-failure.md.
        let state = self.record.subject.state(Status::Running, self.pid());
        let hooked = hooks::run(&self.hooks().poststart, &state, &[]);
        started?;
        hooked.map_err(|failure| crate::Error::Inside(failure).into())
    }
}
