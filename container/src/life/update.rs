//! `rbox update`: other limits for a container, whether it runs or not.
//!
//! What holds is written down beside the record of how the container was made, which its supervisor keeps locked. A container
//! that runs has its cgroup changed first, so that what is written down is what could be had.

use rbox_types::ContainerId;

use crate::life::begun::Begun;
use crate::life::{limited, pause};
use crate::record::{Made, Record};
use crate::settings::Resources;
use crate::{Engine, Error, events};

impl Engine {
    /// Changes what `changes` names, now and for later starts. Gives its id.
    pub fn update(&self, name_or_id: &str, changes: &Resources) -> Result<ContainerId, Error> {
        let entry = self.find_settled(name_or_id)?;
        let failed = || Error::io("update", entry.name.as_str());
        let read = || Error::io("read the records in", entry.path.display());
        // One at a time, and nobody begins anything in it meanwhile.
        let _held = pause::hold_alone(&entry.path).map_err(failed())?;
        let made = match entry.running {
            true => Some(Begun::find(&self.store, entry.id.as_str())?.made),
            false => Made::read(&entry.path).map_err(read())?,
        };
        let made = made.ok_or_else(|| read()(std::io::ErrorKind::NotFound.into()))?;
        if made.settings.cgroup.disabled {
            return Err(Error::Limits("the container was made with --cgroups=disabled, and cannot be limited".into()));
        }
        let mut all = limited::current(&entry.path, &made.settings).map_err(read())?;
        all.change(changes);
        all.check().map_err(Error::Limits)?;
        // That a device is none, is found whatever the container does.
        limited::spec(&all)?;
        if entry.running {
            let home = made.home.as_ref().ok_or_else(|| Error::Unlimitable(entry.name.clone()))?;
            limited::set(home, &all, changes)?;
        }
        limited::Updated(all).write(&entry.path).map_err(failed())?;
        events::note(&self.store, &[events::of_container("update", &entry.id, &entry.name, Some(made.known()))]);
        Ok(entry.id)
    }
}
