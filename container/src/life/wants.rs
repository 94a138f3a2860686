//! What a container that is to run by itself has of whoever starts it.

use std::io;
use std::os::fd::AsFd;

use rbox_store::ContainerDir;
use rbox_sys::tty;

use crate::life::limited;
use crate::logs::{Driver, LogOptions};
use crate::on_host::descriptors_are_there;
use crate::record::{Made, Record};
use crate::request::RunRequest;
use crate::settings::{CgroupWish, Settings};
use crate::{Error, Unfit};

/// What a container has of whoever starts it, and how it is started.
pub(crate) struct Wants {
    pub(crate) tty: bool,
    /// Its monitor is in no namespace of its own.
    pub(crate) reaches_out: bool,
    /// So many descriptors, from 3 on.
    pub(crate) descriptors: u32,
    /// The standard streams.
    pub(crate) streams: bool,
    /// Something is said of its cgroup.
    pub(crate) limits: bool,
}

impl Wants {
    /// Fails where whoever runs this process has not all of it.
    fn of(settings: &Settings, log: &LogOptions, tty: bool) -> Result<Self, Unfit> {
        let reaches_out = settings.sharing.reaches_out();
        let streams = log.driver == Driver::Passthrough;
        descriptors_are_there(settings.preserve_fds)?;
        if streams && has_terminal() {
            return Err(Unfit::PassedTerminal);
        }
        let limits = !settings.resources.is_empty() || settings.cgroup != CgroupWish::default();
        Ok(Self { tty, reaches_out, descriptors: settings.preserve_fds, streams, limits })
    }

    pub(crate) fn of_request(request: &RunRequest) -> Result<Self, Unfit> {
        Self::of(&request.settings, &request.log, request.tty)
    }

    pub(crate) fn of_record(directory: &ContainerDir) -> Result<Self, Error> {
        let on_records = || Error::io("read the records in", directory.path().display());
        let made = Made::read(directory.path()).map_err(on_records())?;
        let made = made.ok_or_else(|| on_records()(io::ErrorKind::NotFound.into()))?;
        let mut settings = made.settings;
        settings.resources = limited::current(directory.path(), &settings).map_err(on_records())?;
        Ok(Self::of(&settings, &made.log.unwrap_or_default(), made.tty)?)
    }
}

/// Whether any of this process's standard streams is one.
fn has_terminal() -> bool {
    let (input, output, error) = (io::stdin(), io::stdout(), io::stderr());
    [input.as_fd(), output.as_fd(), error.as_fd()].into_iter().any(tty::is_terminal)
}
