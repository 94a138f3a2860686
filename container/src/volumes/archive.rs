//! A volume's content in and out.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rbox_rootless::worker::Worker;
use rbox_store::VolumeEntry;
use rbox_sys::dir;
use rbox_sys::flock::{self, Mode};
use rbox_types::FirstUse;

use crate::{Engine, Error, worker};

impl Engine {
    /// Writes what is in a volume to `out`, as a tar archive with the owners that a container sees.
    pub fn export_volume(&self, volume: &VolumeEntry, out: BorrowedFd<'_>) -> Result<(), Error> {
        let data = open(volume)?;
        let worker = Worker::start(&self.identity, worker::TREE)?;
        rbox_overlay::worker::pack_from(worker.channel(), data.as_fd(), out).map_err(|source| Error::Archive {
            operation: "export",
            volume: volume.name.clone(),
            source,
        })
    }

    /// Puts what is in a tar archive into a volume, over what is there.
    pub fn import_volume(&self, volume: &VolumeEntry, archive: BorrowedFd<'_>) -> Result<(), Error> {
        let data = open(volume)?;
        let path = volume.first_use();
        let failed = || Error::io("begin with", path.display());
        let first_use = File::options().read(true).write(true).open(&path).map_err(failed())?;
        // Not while an image's content is copied there; and from now on none is to be.
        flock::lock(&first_use, Mode::Exclusive).map_err(failed())?;
        first_use.write_all_at(&[FirstUse::Over.byte()], 0).map_err(failed())?;
        let worker = Worker::start(&self.identity, worker::TREE)?;
        rbox_overlay::worker::unpack_over(worker.channel(), data.as_fd(), archive, self.identity.is_single())
            .map_err(|source| Error::Archive { operation: "import into", volume: volume.name.clone(), source })
    }
}

/// As a place only: to read it may be for its owner alone, who need not be the caller.
fn open(volume: &VolumeEntry) -> Result<OwnedFd, Error> {
    let path = volume.data();
    dir::open(&path).map_err(Error::io("open", path.display()))
}
