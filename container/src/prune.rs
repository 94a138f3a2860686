//! Removing all at once what nobody runs or uses.

use std::io;

use rbox_types::{ContainerId, Reference};

use crate::images::list::ImageQuery;
use crate::life::overlay_dirs::UPPER;
use crate::observe::containers::ContainerSummary;
use crate::observe::list::{ContainerFilters, ContainerQuery};
use crate::root::COPY;
use crate::{ContainerStatus, Engine, Error, files};

/// What a pruning has done.
#[derive(Debug, Default)]
pub struct Pruned<Id> {
    /// What is gone.
    pub removed: Vec<Id>,
    /// Bytes that are free now.
    pub bytes: u64,
    /// What could not be removed; the rest was, all the same.
    pub failures: Vec<Error>,
}

impl Engine {
    /// Removes the containers that do not run and are as the filters say.
    pub fn prune_containers(&self, filters: &ContainerFilters) -> Result<Pruned<ContainerId>, Error> {
        let query = ContainerQuery { all: true, filters: filters.clone(), ..ContainerQuery::default() };
        let mut pruned = Pruned { removed: Vec::new(), bytes: 0, failures: Vec::new() };
        for container in self.list_containers(&query)? {
            // Also what was made and never started: as in Docker and Podman.
            if container.status.is_alive() || matches!(container.status, ContainerStatus::Restarting { .. }) {
                continue;
            }
            // What cannot be measured can be removed, and is only not counted.
            let size = self.written_size(&container).unwrap_or_default();
            match self.remove_container(container.id.as_str(), None, false) {
                Ok(id) => {
                    pruned.removed.push(id);
                    pruned.bytes += size;
                }
                // Somebody else was faster, or has started it.
                Err(error) if error.is_not_found() => {}
                Err(Error::Store(rbox_store::Error::Running(_))) => {}
                Err(error) => pruned.failures.push(error),
            }
        }
        Ok(pruned)
    }

    /// Removes the images that no container uses, where `unused`; and in any case what no image needs.
    pub fn prune_images(&self, unused: bool, query: &ImageQuery) -> Result<Pruned<Reference>, Error> {
        let mut pruned = Pruned { removed: Vec::new(), bytes: 0, failures: Vec::new() };
        if unused {
            let used: Vec<_> = self.store.containers()?.into_iter().map(|container| container.refs.manifest).collect();
            for image in self.list_images(query)? {
                if used.contains(&image.manifest) {
                    continue;
                }
                match self.store.untag(&image.reference) {
                    Ok(true) => pruned.removed.push(image.reference),
                    Ok(false) => {}
                    Err(error) => pruned.failures.push(error.into()),
                }
            }
        }
        let collected = self.gc()?;
        pruned.bytes = collected.bytes;
        for (path, source) in collected.failures {
            pruned.failures.push(Error::Io { operation: "remove", on: path.display().to_string(), source });
        }
        Ok(pruned)
    }

    /// The bytes that a container has written to its root filesystem.
    pub fn written_size(&self, container: &ContainerSummary) -> Result<u64, Error> {
        let directory = self.store.container_path(&container.id);
        // A copy of the image is the container's own, too.
        [UPPER, COPY].iter().try_fold(0, |sum, part| match files::tree_size(&self.identity, &directory.join(part)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(sum),
            size => size.map(|size| sum + size).map_err(Error::io("measure", directory.join(part).display())),
        })
    }
}
