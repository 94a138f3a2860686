//! `linux.devices`: device nodes of the container's.
//!
//! Only with CAP_MKNOD in the initial user namespace can a node be made; elsewhere the host's node of the same device is
//! bound, with its owner and mode.

use std::fs::{File, Metadata};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};
use rbox_sys::mount::{self, Attributes};
use rbox_sys::node::{self, Node};
use rbox_sys::{at, dir, in_root};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::error::{During, Failure};

/// One node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Device {
    pub(crate) path: PathBuf,
    kind: Kind,
    major: u32,
    minor: u32,
    mode: u32,
    uid: u32,
    gid: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Kind {
    Character,
    Block,
    Fifo,
}

/// Checks and reduces those of a spec.
pub(crate) fn plan(asked: &[LinuxDevice]) -> Result<Vec<Device>, Error> {
    let one = |asked: &LinuxDevice| {
        let refuse = |why: &str| {
            Err(Error::Refused { field: "linux.devices", why: format!("{}: {why}", asked.path().display()) })
        };
        if !asked.path().is_absolute() || asked.path().file_name().is_none() {
            return refuse("the path is not an absolute one of a file");
        }
        let kind = match asked.typ() {
            LinuxDeviceType::C | LinuxDeviceType::U => Kind::Character,
            LinuxDeviceType::B => Kind::Block,
            LinuxDeviceType::P => Kind::Fifo,
            LinuxDeviceType::A => return refuse("the type is none of c, b, u and p"),
        };
        let (Ok(major), Ok(minor)) = (u32::try_from(asked.major()), u32::try_from(asked.minor())) else {
            return refuse("major and minor are no device numbers");
        };
        Ok(Device {
            path: asked.path().clone(),
            kind,
            major,
            minor,
            // Engines write the whole st_mode here.
            mode: asked.file_mode().unwrap_or(0o666) & 0o7777,
            uid: asked.uid().unwrap_or(0),
            gid: asked.gid().unwrap_or(0),
        })
    };
    let mut devices = asked.iter().map(one).collect::<Result<Vec<_>, _>>()?;
    // devpts has it, and /dev/ptmx is a link to that.
    devices.retain(|device| device.path != Path::new("/dev/ptmx"));
    Ok(devices)
}

impl Device {
    /// A character device that everybody may use.
    pub(crate) fn for_all(path: PathBuf, (major, minor): (u32, u32)) -> Self {
        Self { path, kind: Kind::Character, major, minor, mode: 0o666, uid: 0, gid: 0 }
    }

    /// The host's node of this device as a detached mount, if there is one: where the container is to have it, where
    /// udev has a link to each, or wherever it is in /dev itself.
    pub(crate) fn of_host(&self) -> Option<OwnedFd> {
        let number = format!("{}:{}", self.major, self.minor);
        let by_number = match self.kind {
            Kind::Character => Path::new("/dev/char").join(number),
            Kind::Block => Path::new("/dev/block").join(number),
            Kind::Fifo => return None,
        };
        let others = std::iter::once_with(|| std::fs::read_dir("/dev")).flatten().flatten().flatten();
        [self.path.clone(), by_number].into_iter().chain(others.map(|entry| entry.path())).find_map(|path| {
            let is_it = std::fs::metadata(&path).is_ok_and(|metadata| self.is(&metadata));
            let clone = is_it.then(|| mount::clone_tree(dir::cwd(), &path, false).ok())??;
            self.is(&metadata_of(&clone).ok()?).then_some(clone)
        })
    }

    /// Makes it in the container, or binds that of the host.
    pub(crate) fn show(&self, root: BorrowedFd<'_>, of_host: Option<&OwnedFd>) -> Result<(), Failure> {
        let what = || format!("make the device {}", self.path.display());
        match self.make(root) {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {}
            result => return result.during(what),
        }
        let Some(node) = of_host else {
            let missing = io::Error::new(
                ErrorKind::NotFound,
                format!("the host shows no {} to bind, and a user namespace cannot make one", self.words()),
            );
            return Err(Failure::new(what(), &missing));
        };
        let harmless = Attributes::NOSUID.and(Attributes::NOEXEC);
        mount::set_attributes(node.as_fd(), harmless, Attributes::default(), false).during(what)?;
        let target = in_root::create_file(root, &self.path, 0o644).during(what)?;
        mount::attach(node.as_fd(), target.as_fd()).during(what)
    }

    fn make(&self, root: BorrowedFd<'_>) -> io::Result<()> {
        let (Some(parent), Some(name)) = (self.path.parent(), self.path.file_name()) else {
            return Err(ErrorKind::InvalidInput.into());
        };
        let parent = in_root::create_dir_all(root, parent, 0o755)?;
        let parent = parent.as_fd();
        let made = match self.kind {
            Kind::Character => node::make_device(parent, name.as_bytes(), Node::Character, (self.major, self.minor)),
            Kind::Block => node::make_device(parent, name.as_bytes(), Node::Block, (self.major, self.minor)),
            Kind::Fifo => node::make_fifo(parent, name.as_bytes(), 0o600),
        };
        let was_there = match made {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => true,
            result => result.map(|()| false)?,
        };
        // Whoever shares this directory may have put something else in its place.
        let node = in_root::open_path(parent, Path::new(name))?;
        if !self.is(&metadata_of(&node)?) {
            let other = format!("something is there already, and it is no {}", self.words());
            return Err(io::Error::new(ErrorKind::AlreadyExists, other));
        }
        if was_there {
            return Ok(());
        }
        at::set_owner(parent, name.as_bytes(), self.uid, self.gid)?;
        at::set_mode_of(node.as_fd(), self.mode)
    }

    fn is(&self, metadata: &Metadata) -> bool {
        let (file_type, number) = (metadata.file_type(), node::number(self.major, self.minor));
        match self.kind {
            Kind::Character => file_type.is_char_device() && metadata.rdev() == number,
            Kind::Block => file_type.is_block_device() && metadata.rdev() == number,
            Kind::Fifo => file_type.is_fifo(),
        }
    }

    fn words(&self) -> String {
        let (major, minor) = (self.major, self.minor);
        match self.kind {
            Kind::Character => format!("character device {major}:{minor}"),
            Kind::Block => format!("block device {major}:{minor}"),
            Kind::Fifo => "named pipe".into(),
        }
    }
}

fn metadata_of(node: &OwnedFd) -> io::Result<Metadata> {
    File::from(node.try_clone()?).metadata()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(path: &str, kind: LinuxDeviceType, major: i64, minor: i64) -> LinuxDevice {
        let mut device = LinuxDevice::default();
        device.set_path(path.into()).set_typ(kind).set_major(major).set_minor(minor).set_file_mode(Some(0o20_640));
        device
    }

    #[test]
    fn what_is_no_device_is_refused() {
        use LinuxDeviceType::{A, C, P};
        let planned = plan(&[device("/dev/x", C, 1, 3), device("/dev/ptmx", C, 5, 2)]).expect("valid");
        assert_eq!((planned.len(), planned[0].mode), (1, 0o640));
        for wrong in [device("/dev/x", A, 1, 3), device("x", C, 1, 3), device("/", P, 0, 0), device("/dev/x", C, -1, 3)]
        {
            let error = plan(&[wrong]).expect_err("refused").to_string();
            assert!(error.starts_with("config: linux.devices: "), "{error}");
        }
    }

    #[test]
    fn the_hosts_node_must_be_the_same_device() {
        let of_host =
            |path, major, minor| plan(&[device(path, LinuxDeviceType::C, major, minor)]).expect("valid")[0].of_host();
        // Without privilege there is no clone to be had.
        if of_host("/dev/null", 1, 3).is_some() {
            assert!(of_host("/dev/null", 240, 77).is_none());
        }
    }

    #[test]
    fn what_is_there_already_must_be_it() {
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let root = File::open(temporary.path()).expect("open");
        let fifo = |path| plan(&[device(path, LinuxDeviceType::P, 0, 0)]).expect("valid").remove(0);
        std::fs::write(temporary.path().join("file"), "").expect("written");
        let failure = fifo("/file").show(root.as_fd(), None).expect_err("a file").to_string();
        assert!(failure.contains("/file") && failure.contains("no named pipe"), "{failure}");
        if rbox_sys::ids::uid() == 0 {
            fifo("/run/a/fifo").show(root.as_fd(), None).expect("made");
            let made = std::fs::metadata(temporary.path().join("run/a/fifo")).expect("stat");
            assert!(made.file_type().is_fifo() && made.mode() & 0o777 == 0o640);
            fifo("/run/a/fifo").show(root.as_fd(), None).expect("it is there");
        }
    }
}
