//! Which ports lead to a container.

use rbox_types::ContainerName;

use crate::record::{Made, Record};
use crate::settings::PortMapping;
use crate::{Engine, Error};

impl Engine {
    /// The ports of a container that are published while it runs, and its name.
    pub fn published_ports(&self, name_or_id: &str) -> Result<(ContainerName, Vec<PortMapping>), Error> {
        let entry = self.store.find_container(name_or_id)?;
        let read = || Made::read(&entry.path).map_err(Error::io("read the record of", entry.name.as_str()));
        let made = if entry.running { read()? } else { None };
        Ok((entry.name, made.map(|made| made.settings.ports).unwrap_or_default()))
    }
}
