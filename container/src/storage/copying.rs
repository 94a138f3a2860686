//! A container's own copy of its image, where there is no overlay.

use std::fs::{self, Permissions};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rbox_overlay::worker::flatten;
use rbox_rootless::worker::Worker;
use rbox_sys::dir;
use rbox_types::StorageDriver;

use super::Storage;
use crate::images::pull::PullOutput;
use crate::{Engine, Error, worker};

impl Engine {
    /// Copies what `layers`, topmost first, show together to the directory `to`, which is made. `copied` hears how many bytes
    /// there are so far.
    pub(crate) fn copy_layers(&self, layers: &[PathBuf], to: &Path, copied: &mut dyn FnMut(u64)) -> Result<(), Error> {
        let failed = || Error::io("copy the image to", to.display());
        let open = |path: &Path| dir::open(path).map_err(failed());
        // Container root passes through here, and who he is the worker says in the end.
        fs::create_dir(to).map_err(failed())?;
        fs::set_permissions(to, Permissions::from_mode(0o700)).map_err(failed())?;
        self.identity.give_to_root(to).map_err(failed())?;
        let layers = layers.iter().map(|layer| open(layer)).collect::<Result<Vec<OwnedFd>, _>>()?;
        let layers: Vec<BorrowedFd<'_>> = layers.iter().map(AsFd::as_fd).collect();
        let worker = Worker::start(&self.identity, worker::TREE)?;
        flatten(worker.channel(), &layers, open(to)?.as_fd(), copied)
            .map_err(|error| failed()(std::io::Error::other(error)))
    }

    /// As [`copy_layers`](Self::copy_layers) for an image of so many bytes, with words on why.
    pub(crate) fn copy_image(
        &self,
        layers: &[PathBuf],
        bytes: u64,
        to: &Path,
        output: &dyn PullOutput,
    ) -> Result<(), Error> {
        let storage = self.forced.is_none().then(|| self.storage()).transpose()?;
        let why = storage.as_ref().map(|storage| (storage.why(), storage.remedy()));
        output.copy_begins(bytes, why.as_ref().map(|(why, remedy)| (&**why, *remedy)));
        let copied = self.copy_layers(layers, to, &mut |bytes| output.copied(bytes));
        output.copy_ends();
        copied
    }
}

impl Storage {
    /// Why there is nothing better.
    pub(crate) fn why(&self) -> String {
        let why = |(driver, why): &(StorageDriver, String)| format!("{driver}: {why}");
        self.lacking.iter().map(why).collect::<Vec<_>>().join("; ")
    }
}
