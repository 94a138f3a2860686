//! `start`: the workload that waits runs.

use std::fs;
use std::os::fd::AsFd;

use rbox_sys::socket::Channel;

use super::state::SOCKET;
use super::{Container, Error};
use crate::Status;
use crate::hooks::{self, Hooks};
use crate::start_held;

impl Container {
    /// Starts the workload; it runs when this returns. Gives the failure of a `poststart` hook, which ends nothing, to
    /// `warn`.
    pub fn start(&self, warn: &mut dyn FnMut(String)) -> Result<(), Error> {
        self.lock()?;
        let status = self.status();
        if status != Status::Created {
            return Err(Error::Status { operation: "start", id: self.id().to_owned(), status });
        }
        let path = self.directory.join(SOCKET);
        let socket = Channel::connect(self.file.as_fd(), SOCKET).map_err(Error::io("connect to", &path))?;
        // Started is started, whatever comes of it.
        fs::remove_file(&path).map_err(Error::io("remove", &path))?;
        start_held(&socket)?;
        let Hooks { poststart, .. } = &self.record.hooks;
        if let Err(failure) = hooks::run(poststart, &self.record.subject.state(Status::Running, self.pid())) {
            warn(failure.to_string());
        }
        Ok(())
    }
}
