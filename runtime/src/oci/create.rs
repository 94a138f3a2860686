//! `create`: from a bundle to a first process that waits.

use std::borrow::Cow;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxResources, Spec};
use rbox_rootless::Identity;
use rbox_sys::clone::Namespaces;
use rbox_sys::socket::Channel;
use rbox_sys::{ids, mount};

use super::state::{Record, SOCKET};
use super::{Bundle, Container, Error, States};
use crate::cgroup::{Cgroup, Place};
use crate::directory::DirectoryRoot;
use crate::error::During;
use crate::hooks::Subject;
use crate::systemd::{Manager, Scope};
use crate::trace::Trace;
use crate::{Init, Launch, NamespacePlan, ProcessId, Running, Streams, Workload};

/// What is to be created, and how.
#[derive(Debug)]
pub struct Creation {
    /// Its id.
    pub id: String,
    /// From what.
    pub bundle: Bundle,
    /// Where the first process's id is written.
    pub pid_file: Option<PathBuf>,
    /// How many descriptors from 3 on the workload gets.
    pub preserve_fds: u32,
    /// The root is changed by chroot(2), and what was there before stays mounted below.
    pub no_pivot: bool,
    /// It gets a session keyring of its own, and not the caller's.
    pub new_keyring: bool,
    /// Whether it may do without a cgroup.
    pub rootless: Rootless,
    /// Whether its cgroup is a unit that systemd makes, and `linux.cgroupsPath` is `slice:prefix:name`.
    pub systemd_cgroup: bool,
    /// Now, in RFC 3339's form.
    pub now: String,
}

/// Whether the creator is taken for a user without root over the host's cgroups and devices, as runc's `--rootless` has it.
///
/// Such a one's containers do without a cgroup where none can be made and nothing in the spec asks for one, and without a
/// device filter where none can be attached. For anybody else both are failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rootless {
    /// Yes.
    Yes,
    /// No.
    No,
    /// Unless the caller is root, and in the host's own user namespace.
    Auto,
}

/// A container whose workload waits for its start. Dropped before it is [released](Running::release), its process is
/// killed.
#[derive(Debug)]
pub struct Created {
    /// What is known of it.
    pub container: Container,
    /// Its first process.
    pub running: Running,
}

impl States {
    /// Creates a container; where that fails, nothing of it is left.
    pub fn create(&self, creation: &Creation) -> Result<Created, Error> {
        let Bundle { path, spec } = &creation.bundle;
        let linux = spec.linux().as_ref();
        let namespaces = linux.and_then(|linux| linux.namespaces().as_deref()).unwrap_or_default();
        let namespaces = NamespacePlan::of(namespaces)?;
        let identity = namespaces.new.has(Namespaces::USER).then(|| super::ids::identity(spec)).transpose()?;
        let root = creation.bundle.root()?;
        let privileged = match creation.rootless {
            Rootless::Yes => false,
            Rootless::No => true,
            Rootless::Auto => ids::is_root_of_host(),
        };
        let scope = creation.systemd_cgroup.then(|| scope(creation, privileged)).transpose()?;
        let manager = scope.as_ref().map(Manager::connect).transpose()?;
        let place = if manager.is_some() { None } else { place(creation, privileged)? };
        let record = Record {
            subject: Subject {
                oci_version: spec.version().clone(),
                id: creation.id.clone(),
                bundle: path.clone(),
                annotations: spec.annotations().clone().unwrap_or_default().into_iter().collect(),
            },
            spec: spec.clone(),
            rootfs: root.path.clone(),
            covered: (!namespaces.has_own_mounts()).then(|| cover(&root.path)).transpose()?,
            created: creation.now.clone(),
            // Before it is made, so that it is found again whatever happens.
            cgroup: place.as_ref().map(Place::record),
            scope: scope.clone(),
            process: None,
            owner: ids::uid(),
        };
        let mut container = self.make(&creation.id, record)?;
        let home = match manager {
            Some(manager) => Ok(Home::Scope { manager, privileged }),
            None => make_cgroup(&mut container, place, &creation.bundle.spec, privileged),
        };
        let made =
            home.and_then(|home| self.fill(&mut container, creation, &namespaces, identity.as_ref(), &root, home));
        match made {
            Ok(running) => Ok(Created { container, running }),
            Err(error) => {
                // The first failure is the one to tell.
                let _ = container.remove_cgroup();
                let _ = container.unmount();
                let _ = container.forget();
                Err(error)
            }
        }
    }

    fn fill(
        &self,
        container: &mut Container,
        creation: &Creation,
        namespaces: &NamespacePlan,
        identity: Option<&Identity>,
        root: &DirectoryRoot,
        home: Home,
    ) -> Result<Running, Error> {
        let socket = Channel::listen(container.file.as_fd(), SOCKET)
            .map_err(Error::io("make the socket", container.directory.join(SOCKET)))?;
        let launch = Launch::begin(&Init::OF_BUNDLE, namespaces, identity, None, &mut Trace::off())?;
        // Before init makes a cgroup namespace, whose root this then is.
        home.take_in(launch.pid(), container)?;
        let words = root.words().map_err(Error::io("describe", &root.path))?;
        self.launch(launch, creation, &words, socket, container)
    }

    fn launch(
        &self,
        launch: Launch,
        creation: &Creation,
        root: &[u8],
        socket: OwnedFd,
        container: &mut Container,
    ) -> Result<Running, Error> {
        let (subject, place) = (container.record.subject.clone(), container.shared_place().map(Path::to_owned));
        let mut write_down = |pid| {
            container.record.process = Some(ProcessId::of_child(pid).during(|| "find the container's first process")?);
            container.write_record().during(|| format!("write the state in {}", container.directory.display()))
        };
        let workload = Workload {
            spec: &creation.bundle.spec,
            volumes: &[],
            built_in_filter: false,
            streams: Streams::Inherit,
            reaper: false,
            preserved: creation.preserve_fds,
            no_pivot: creation.no_pivot,
            place: place.as_deref(),
            new_keyring: creation.new_keyring,
            subject,
            beside: None,
            outlives: true,
            held: Some(socket),
            tap: None,
            refusals: None,
        };
        let trace = &mut Trace::off();
        let running = launch.plan(workload, trace)?.start(root, None, &mut write_down, trace)?;
        if let Some(path) = &creation.pid_file {
            write_pid(path, running.pid())?;
        }
        Ok(running)
    }
}

/// The number of the mount that a root filesystem at `place` covers, in a mount namespace that is not the container's own.
fn cover(place: &Path) -> Result<u64, Error> {
    if place == Path::new("/") {
        return Err(Error::Usage(
            "config: root.path: / would be covered for everybody without a mount namespace".into(),
        ));
    }
    mount::id_of(place).map_err(Error::io("look at", place))
}

/// Where a container's processes are counted and limited.
enum Home {
    /// Nowhere.
    None,
    /// In a cgroup, which has its limits already.
    Cgroup(Cgroup),
    /// In a scope, which is made with the first of them in it.
    Scope { manager: Manager, privileged: bool },
}

impl Home {
    fn take_in(self, pid: u32, container: &mut Container) -> Result<(), Error> {
        match self {
            Self::None => Ok(()),
            Self::Cgroup(cgroup) => Ok(cgroup.attach(pid)?),
            Self::Scope { mut manager, privileged } => {
                manager.start(pid, container.id(), resources(&container.record.spec))?;
                let cgroup = Cgroup::of_process(pid)?;
                manager.check(&cgroup.record().path())?;
                container.record.cgroup = Some(cgroup.record().clone());
                container.write()?;
                limit(&cgroup, &container.record.spec, privileged)
            }
        }
    }
}

fn scope(creation: &Creation, privileged: bool) -> Result<Scope, Error> {
    Ok(Scope::plan(cgroups_path(creation).as_deref(), &creation.id, privileged)?)
}

fn place(creation: &Creation, privileged: bool) -> Result<Option<Place>, Error> {
    let path = cgroups_path(creation);
    Ok(Cgroup::place(path.as_deref(), &creation.id, resources(&creation.bundle.spec), privileged)?)
}

fn cgroups_path(creation: &Creation) -> Option<Cow<'_, str>> {
    let linux = creation.bundle.spec.linux().as_ref();
    linux.and_then(|linux| linux.cgroups_path().as_deref()).map(Path::to_string_lossy)
}

fn resources(spec: &Spec) -> Option<&LinuxResources> {
    spec.linux().as_ref().and_then(|linux| linux.resources().as_ref())
}

fn make_cgroup(container: &mut Container, place: Option<Place>, spec: &Spec, privileged: bool) -> Result<Home, Error> {
    let Some(place) = place else { return Ok(Home::None) };
    // Where this fails, it leaves nothing itself.
    container.record.cgroup = None;
    let cgroup = place.create()?;
    container.record.cgroup = Some(cgroup.record().clone());
    container.write()?;
    limit(&cgroup, spec, privileged)?;
    Ok(Home::Cgroup(cgroup))
}

fn limit(cgroup: &Cgroup, spec: &Spec, privileged: bool) -> Result<(), Error> {
    let resources = resources(spec);
    if let Some(resources) = resources {
        cgroup.apply(resources)?;
    }
    // Without rules too: a container of root's without a user namespace could open any device otherwise.
    let rules = resources.and_then(|resources| resources.devices().as_deref()).unwrap_or_default();
    cgroup.restrict_devices(rules, privileged)?;
    Ok(())
}

/// By rename: whoever waits for the file finds the number in it.
pub(super) fn write_pid(path: &Path, pid: u32) -> Result<(), Error> {
    let new = path.with_extension("new");
    fs::write(&new, pid.to_string()).and_then(|()| fs::rename(&new, path)).map_err(Error::io("write", path))
}
