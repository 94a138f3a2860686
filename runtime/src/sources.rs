//! What is to be mounted, as long as nobody sees it: the sources of bind mounts, opened as the caller sees them, and new
//! filesystems.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rbox_sys::at::{self, Kind};
use rbox_sys::socket::Channel;
use rbox_sys::{dir, mount};

use crate::error::{During, Failure};
use crate::order::Order;
use crate::plan::{MountSource, MountStep};
use crate::propagation::Propagation;

/// A detached mount.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) mount: OwnedFd,
    pub(crate) directory: bool,
    /// Of a volume, how far its first use has come.
    pub(crate) first_use: Option<File>,
}

impl Source {
    fn new(path: &Path, mount: OwnedFd) -> Result<Self, Failure> {
        let status = at::status_of(mount.as_fd()).during(|| format!("look at {}", path.display()))?;
        Ok(Self { mount, directory: status.kind == Kind::Directory, first_use: None })
    }
}

/// Those of a plan's mounts, in their order, as far as they are there yet.
#[derive(Debug)]
pub(crate) struct Sources(Vec<Option<Source>>);

impl Sources {
    /// Opens what can be opened here. A source that is to be seen with the container's ids needs the power that only
    /// the launcher may have, and another container's is out of reach. Volumes may be in the making.
    pub(crate) fn open(mounts: &[MountStep]) -> Result<Self, Failure> {
        let open = |step: &MountStep| match &step.source {
            MountSource::Bind(path) if step.sent_source().is_none() && !step.is_volume() => {
                bind_source(step, path).map(Some)
            }
            MountSource::Device(device) => {
                Ok(device.of_host().map(|mount| Source { mount, directory: false, first_use: None }))
            }
            MountSource::Bind(_) | MountSource::New(_) | MountSource::Remount => Ok(None),
        };
        mounts.iter().map(open).collect::<Result<_, _>>().map(Self)
    }

    /// Opens the volumes, which are there as soon as the root filesystem is.
    pub(crate) fn open_volumes(&mut self, mounts: &[MountStep]) -> Result<(), Failure> {
        for (step, source) in mounts.iter().zip(&mut self.0) {
            if let (MountSource::Bind(path), Some(volume)) = (&step.source, &step.volume)
                && step.is_volume()
            {
                *source = Some(Source { first_use: volume.open_first_use()?, ..bind_source(step, path)? });
            }
        }
        Ok(())
    }

    /// Takes those that the launcher sends.
    pub(crate) fn receive(&mut self, mounts: &[MountStep], channel: &Channel) -> Result<(), Failure> {
        for (step, source) in mounts.iter().zip(&mut self.0) {
            if let Some(path) = step.sent_source() {
                let clone = Order::Source.expect_with_fd(channel).during(|| format!("get {}", path.display()))?;
                *source = Some(Source::new(path, clone)?);
            }
        }
        Ok(())
    }

    /// Takes those that are new filesystems.
    pub(crate) fn add(&mut self, filesystems: Vec<Option<OwnedFd>>) {
        for (source, mount) in self.0.iter_mut().zip(filesystems) {
            if let Some(mount) = mount {
                *source = Some(Source { mount, directory: true, first_use: None });
            }
        }
    }

    pub(crate) fn into_iter(self) -> impl Iterator<Item = Option<Source>> {
        self.0.into_iter()
    }
}

/// A detached clone of the mount at `path`, the source of `step`.
fn bind_source(step: &MountStep, path: &Path) -> Result<Source, Failure> {
    let clone = mount::clone_tree(dir::cwd(), path, step.options.bind_recursive);
    let clone = clone.during(|| format!("bind {}", path.display()))?;
    make_private(step, &clone).during(|| format!("make {} private", path.display()))?;
    Source::new(path, clone)
}

/// A detached clone of the mount at `path`, the source of `step`, that shows files with the step's ids, or else with those
/// of the process `pid`.
pub(crate) fn idmapped_clone(step: &MountStep, path: &Path, pid: u32) -> io::Result<OwnedFd> {
    let ids = match &step.ids {
        Some(ids) => ids.user_namespace()?,
        None => File::open(format!("/proc/{pid}/ns/user"))?,
    };
    let recursive = step.options.idmap_recursive;
    let clone = mount::clone_tree(dir::cwd(), path, recursive)?;
    mount::set_id_map(clone.as_fd(), ids.as_fd(), recursive)?;
    make_private(step, &clone)?;
    Ok(clone)
}

/// What the host mounts later does not appear below it, unless the step asks for that.
fn make_private(step: &MountStep, clone: &OwnedFd) -> io::Result<()> {
    if step.options.propagation.iter().any(|propagation| propagation.takes()) {
        return Ok(());
    }
    Propagation::PRIVATE.apply(clone.as_fd())
}
