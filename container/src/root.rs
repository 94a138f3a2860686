//! A container's root filesystem: opened and mounted by init, or there already, and asked who the workload's user is.

mod confinement;
mod server;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rbox_overlay::fuse::{Device, MountError};
use rbox_overlay::kernel::{KernelOverlay, KernelOverlayError};
use rbox_runtime::{CONTEXT_HINT, Failure, HandOver, MountRoot, Prepared, ServeRoot};
use rbox_sys::{Errno, dir, in_root, mount};
use rbox_types::StorageDriver;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::plan::RunPlan;
use crate::user::{self, Person};

pub(crate) use server::{Owners, serve};

/// The layers of an image under a container's own directory.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct OverlayRoot {
    /// What makes one tree of them; that of a container which was made by an rbox that had one.
    #[serde(default = "the_first")]
    pub(crate) driver: StorageDriver,
    /// Topmost first.
    pub(crate) lowers: Vec<PathBuf>,
    pub(crate) upper: PathBuf,
    pub(crate) work: PathBuf,
    /// The container is removed at its end, so nothing need reach the disk.
    pub(crate) volatile: bool,
    /// The SELinux context of all files.
    pub(crate) context: Option<String>,
    pub(crate) wanted: Wanted,
    /// Files of rbox's own in place of the image's.
    pub(crate) files: Vec<(PathBuf, String)>,
}

/// Where apt(8) looks for what it is to do, on systems that have it.
const APT: &str = "/etc/apt/apt.conf.d";
/// It becomes somebody else to download, and looks whether it did.
const APT_STAYS: &str = "// The container has one id.\nAPT::Sandbox::User \"root\";\n";

/// In a container's directory, its copy of all layers.
pub(crate) const COPY: &str = "rootfs";

/// Who the workload is to be, for the passwd of the root filesystem.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Wanted {
    /// `user[:group]`.
    user: String,
    /// Besides the user's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    groups: Vec<String>,
    /// HOME is set already.
    has_home: bool,
    /// There is nobody else to be.
    #[serde(default)]
    one_id: bool,
    /// Somebody whom the image may not know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    person: Option<Person>,
}

fn the_first() -> StorageDriver {
    StorageDriver::Overlay
}

impl OverlayRoot {
    /// Where the copy is, of a container that has one.
    pub(crate) fn copy(&self) -> PathBuf {
        self.upper.with_file_name(COPY)
    }

    /// Who serves it, where it asks for that.
    pub(crate) fn serve_root<'a>(&self, serve: ServeRoot<'a>) -> Option<ServeRoot<'a>> {
        (self.driver == StorageDriver::Fuse).then_some(serve)
    }

    /// In words for [`open`].
    pub(crate) fn words(&self) -> io::Result<Vec<u8>> {
        Ok(serde_json::to_vec(self)?)
    }
}

impl Wanted {
    /// Who a plan wants.
    pub(crate) fn of(plan: &RunPlan) -> Self {
        let process = plan.spec.process().as_ref();
        let env = process.and_then(|process| process.env().as_deref()).unwrap_or_default();
        Self {
            user: plan.user.clone(),
            groups: plan.groups.clone(),
            has_home: env.iter().any(|variable| variable.starts_with("HOME=")),
            one_id: false,
            person: None,
        }
    }

    /// With somebody whom the image need not know; `one_id`: with nobody else to be.
    pub(crate) fn with(self, person: Option<Person>, one_id: bool) -> Self {
        Self { person, one_id, ..self }
    }

    /// In words for [`there`].
    pub(crate) fn words(&self) -> io::Result<Vec<u8>> {
        Ok(serde_json::to_vec(self)?)
    }

    /// Looks for them in `rootfs`.
    fn find(self, rootfs: OwnedFd, mut files: Vec<(PathBuf, String)>) -> Result<Prepared, Failure> {
        let (mut passwd, mut group) = user::databases(rootfs.as_fd())
            .map_err(|error| Failure::new("look up the user in the container", &error))?;
        if self.one_id && in_root::open_path(rootfs.as_fd(), Path::new(APT)).is_ok() {
            files.push((Path::new(APT).join("99rbox-one-id"), APT_STAYS.into()));
        }
        if let Some(person) = &self.person {
            let added = person.add_to(rootfs.as_fd(), &mut passwd, &mut group);
            files.extend(added.map_err(|error| Failure::new("add the user to /etc/passwd in the container", &error))?);
        }
        let account = user::look_up(&self.user, &passwd, &group)
            .and_then(|account| user::add_groups(account, &self.groups, &group))
            .map_err(|nobody| Failure::new("look up the user", &io::Error::other(nobody)))?;
        let env = if self.has_home { Vec::new() } else { vec![format!("HOME={}", account.home)] };
        Ok(Prepared { rootfs, user: Some(account.user), env, files })
    }
}

/// The side of an init that comes into a container.
pub(crate) fn there(words: &[u8]) -> Result<Box<dyn MountRoot>, Failure> {
    Ok(Box::new(There(read(words)?)))
}

struct There(Wanted);

impl MountRoot for There {
    fn mount(self: Box<Self>, _: &HandOver<'_>) -> Result<Prepared, Failure> {
        let rootfs = dir::open(Path::new("/")).map_err(|error| Failure::new("open the container's root", &error))?;
        self.0.find(rootfs, Vec::new())
    }
}

/// Init's side.
pub(crate) fn open(words: &[u8]) -> Result<Box<dyn MountRoot>, Failure> {
    let root: OverlayRoot = read(words)?;
    let open = match root.driver {
        StorageDriver::Overlay => {
            let overlay = KernelOverlay::open(&root.lowers, &root.upper, &root.work);
            Open::Overlay(overlay.map_err(overlay_failure)?)
        }
        StorageDriver::Fuse => Open::Fuse(Device::open().map_err(fuse_failure)?),
        StorageDriver::Copy => {
            let copy = root.copy();
            let failed = |error| Failure::new(format!("open {}", copy.display()), &error);
            Open::Copy(mount::clone_tree(dir::cwd(), &copy, false).map_err(failed)?)
        }
    };
    Ok(Box::new(OpenRoot { root, open }))
}

struct OpenRoot {
    root: OverlayRoot,
    open: Open,
}

/// What each driver has opened.
enum Open {
    Overlay(KernelOverlay),
    Fuse(Device),
    Copy(OwnedFd),
}

impl MountRoot for OpenRoot {
    fn mount(self: Box<Self>, hand_over: &HandOver<'_>) -> Result<Prepared, Failure> {
        let Self { root: OverlayRoot { volatile, context, wanted, files, .. }, open } = *self;
        let context = context.as_deref();
        let mounted = match open {
            Open::Overlay(overlay) => overlay.mount(volatile, context).map_err(overlay_failure),
            Open::Fuse(device) => device.mount("overlay", false, context).map_err(fuse_failure).and_then(|mounted| {
                hand_over(device.as_fd())?;
                Ok(mounted)
            }),
            Open::Copy(_) if context.is_some() => Err(Failure::new(
                "give a copy of an image an SELinux context of its own",
                &io::ErrorKind::Unsupported.into(),
            )),
            Open::Copy(copy) => Ok(copy),
        };
        let rootfs = mounted.map_err(|failure| match context {
            Some(context) if failure.errno == Some(Errno::INVAL.raw_os_error()) => {
                let what = format!("{} with the SELinux context {context:?}", failure.what);
                Failure { what, ..failure }.hint(CONTEXT_HINT)
            }
            _ => failure,
        })?;
        wanted.find(rootfs, files)
    }
}

fn read<T: DeserializeOwned>(words: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(words).map_err(|error| Failure::new("read what the root filesystem is", &error.into()))
}

fn overlay_failure(error: KernelOverlayError) -> Failure {
    let hint = error.hint();
    let (what, source) = match error {
        KernelOverlayError::Open { path, source } => (format!("open {}", path.display()), source),
        KernelOverlayError::Mount { message, source } => {
            let words = message.map(|text| format!(" ({text})")).unwrap_or_default();
            (format!("mount the root filesystem{words}"), source)
        }
    };
    failure(what, &source, hint)
}

fn fuse_failure(error: MountError) -> Failure {
    let hint = error.hint();
    let (what, source) = match error {
        MountError::Open(source) => ("open /dev/fuse".to_owned(), source),
        MountError::Mount { message, source } => {
            let words = message.map(|text| format!(" ({text})")).unwrap_or_default();
            (format!("mount the root filesystem by FUSE{words}"), source)
        }
    };
    failure(what, &source, hint)
}

fn failure(what: String, source: &io::Error, hint: Option<&'static str>) -> Failure {
    let failure = Failure::new(what, source);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}
