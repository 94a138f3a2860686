//! What every container has in /dev, whatever is mounted there.

use std::io::{self, ErrorKind};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rbox_sys::{at, node};

use crate::devices::Device;
use crate::error::{During, Failure};
use crate::mount_options::MountOptions;
use crate::plan::{MountSource, MountStep};

/// Where.
pub(crate) const PATH: &str = "/dev";

/// Symbolic links (runtime spec, "Dev symbolic links", and runc's).
const LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
];

/// Device nodes (runtime spec, "Default Devices"), with their numbers (Documentation/admin-guide/devices.txt).
const NODES: [(&str, (u32, u32)); 6] =
    [("null", (1, 3)), ("zero", (1, 5)), ("full", (1, 7)), ("random", (1, 8)), ("urandom", (1, 9)), ("tty", (5, 0))];

/// The nodes. A user namespace may make none of its own, so they are bound from the host, whose owner and mode its root
/// has no power over. The host's root has: without a user namespace the container gets nodes of its own.
pub(crate) fn nodes(in_user_namespace: bool) -> impl Iterator<Item = MountStep> {
    NODES.into_iter().map(move |(name, numbers)| {
        let path = Path::new(PATH).join(name);
        let source = if in_user_namespace {
            MountSource::Bind(path.clone())
        } else {
            MountSource::Device(Device::for_all(path.clone(), numbers))
        };
        MountStep { destination: path, source, options: MountOptions::default(), ids: None, lent: false, volume: None }
    })
}

/// Whether `step` mounts a /dev that can be filled before it is attached: nobody but rbox has been there.
pub(crate) fn is_new(step: &MountStep) -> bool {
    let new = matches!(&step.source, MountSource::New(kind) if kind == "tmpfs");
    new && step.destination == Path::new(PATH) && !step.options.copy_up
}

/// Makes the links in the directory `dev`, and the places on which `steps` mount new filesystems and the nodes.
pub(crate) fn fill(dev: BorrowedFd<'_>, steps: &[MountStep]) -> Result<(), Failure> {
    for (target, name) in LINKS {
        or_there(at::make_symlink(target.as_bytes(), dev, name.as_bytes()))
            .during(|| format!("make the link {PATH}/{name}"))?;
    }
    for step in steps {
        let Ok(name) = step.destination.strip_prefix(PATH) else { continue };
        let bytes = name.as_os_str().as_bytes();
        let made = match &step.source {
            _ if name.components().count() != 1 => continue,
            MountSource::New(_) => at::make_dir(dev, bytes, 0o755),
            MountSource::Bind(path) if *path == step.destination && NODES.iter().any(|(node, _)| name == *node) => {
                node::make_file(dev, bytes, 0o644)
            }
            MountSource::Bind(_) | MountSource::Device(_) | MountSource::Remount => continue,
        };
        or_there(made).during(|| format!("make the mount point {}", step.destination.display()))?;
    }
    Ok(())
}

fn or_there(made: io::Result<()>) -> io::Result<()> {
    match made {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}
