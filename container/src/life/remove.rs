//! Containers that go away: because somebody says so, or because another one is to have the name.

use std::time::Duration;

use rbox_sys::signal::Signal;
use rbox_types::ContainerId;

use crate::life::stop::Stopping;
use crate::record::{Made, Record};
use crate::request::RunRequest;
use crate::{Engine, Error, events};

impl Engine {
    /// Removes a container that is not running. Where that is `forced`, one that runs is asked to end first, and killed if
    /// it has not within this time. With `volumes`, those of its volumes go too that nobody has named. Gives its id.
    pub fn remove_container(
        &self,
        name_or_id: &str,
        forced: Option<Duration>,
        volumes: bool,
    ) -> Result<ContainerId, Error> {
        let entry = self.find_settled(name_or_id)?;
        if let Some(grace) = forced
            && entry.running
        {
            let signal = grace.is_zero().then_some(Signal::KILL);
            self.end(&entry, Stopping { signal, timeout: Some(grace), shutdown: false })?;
        }
        let directory = match self.store.claim_container(&entry) {
            // A `--rm` container that has just been killed is removed by its own supervisor.
            Err(rbox_store::Error::NoContainer(_)) if forced.is_some() => return Ok(entry.id),
            directory => directory?,
        };
        let made = Made::read(&entry.path).ok().flatten();
        // As in Docker and Podman, one that was to go away at its end goes with them.
        let volumes = volumes || made.as_ref().is_some_and(|made| made.rm);
        // What its supervisor has left, when it was killed.
        let _ = made.as_ref().and_then(|made| made.home.as_ref()).map(rbox_runtime::home::Record::remove);
        directory.remove(&|path| self.remove_tree(path))?;
        if volumes {
            self.remove_anonymous(&entry.refs.volumes);
        }
        events::note(
            &self.store,
            &[events::of_container("remove", &entry.id, &entry.name, made.as_ref().map(Made::known))],
        );
        Ok(entry.id)
    }

    /// Stops and removes what has the name of a container that is to replace it.
    pub(crate) fn make_room(&self, request: &RunRequest) -> Result<(), Error> {
        let Some(name) = request.name.as_ref().filter(|_| request.replace) else { return Ok(()) };
        let Some(entry) = self.store.container_named(name)? else { return Ok(()) };
        let made_room = self.stop(entry.id.as_str(), Stopping::default());
        match made_room.and_then(|id| self.remove_container(id.as_str(), Some(Duration::ZERO), false)) {
            Err(error) if !error.is_not_found() => Err(error),
            // One of --rm has gone by itself.
            _ => Ok(()),
        }
    }
}
