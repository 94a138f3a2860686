//! The spec reduced to what init does, checked before anything exists.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;
use rbox_sys::caps::Sets;
use rbox_sys::clone::Namespaces;
use rbox_sys::mount::Attributes;
use serde::{Deserialize, Serialize};

use crate::attributes::ProcessAttributes;
use crate::devices::{self, Device};
use crate::hooks::{Hook, Subject};
use crate::mount_ids::MountIds;
use crate::mount_options::MountOptions;
use crate::namespaces::NamespacePlan;
use crate::network::TapPlan;
use crate::propagation::Propagation;
use crate::seccomp::{self, Program};
use crate::sysctl::{self, Sysctl};
use crate::volume::VolumePlan;
use crate::{Error, capability, dev, time_offsets};

/// The annotation by which a workload is in its caller's supplementary groups: crun's, which Podman sets.
pub const KEEP_GROUPS: &str = "run.oci.keep_original_groups";

/// All that init needs to know.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct InitPlan {
    pub(crate) root_read_only: bool,
    pub(crate) root_propagation: Option<Propagation>,
    pub(crate) mounts: Vec<MountStep>,
    pub(crate) masked_paths: Vec<PathBuf>,
    pub(crate) read_only_paths: Vec<PathBuf>,
    pub(crate) hostname: Option<String>,
    pub(crate) domainname: Option<String>,
    /// A pseudo-terminal of this many rows and columns.
    pub(crate) terminal: Option<(u16, u16)>,
    /// Whether the user namespace has one id.
    pub(crate) single_id: bool,
    /// Where the standard streams lead, unless to a terminal.
    pub(crate) streams: Streams,
    /// Whether init stays, and the workload is its child.
    pub(crate) reaper: bool,
    pub(crate) user: User,
    /// Whether the workload is in the caller's supplementary groups, and in no others.
    pub(crate) keeps_groups: bool,
    pub(crate) umask: u32,
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<String>,
    pub(crate) cwd: PathBuf,
    #[serde(with = "sets")]
    pub(crate) capabilities: Sets,
    pub(crate) no_new_privileges: bool,
    pub(crate) confinement: Confinement,
    pub(crate) attributes: ProcessAttributes,
    pub(crate) sysctls: Vec<Sysctl>,
    /// For a new time namespace.
    pub(crate) time_offsets: String,
    /// Whether the workload gets a session keyring of the container's.
    pub(crate) new_keyring: bool,
    /// Whether the container has a user namespace, new or not.
    pub(crate) in_user_namespace: bool,
    /// Whether init is to say what its steps took.
    pub(crate) traced: bool,
    /// Whether the file tree is there already, and only a process comes into it.
    pub(crate) enters: bool,
    /// Whether the workload waits for somebody to connect to a socket.
    pub(crate) held: bool,
    /// Whether it goes on when the launcher dies.
    pub(crate) outlives: bool,
    /// Where the root filesystem is mounted, and the root is changed to, in a mount namespace that is not the container's
    /// own; none: over the old root.
    pub(crate) place: Option<PathBuf>,
    /// Whether the root is changed by chroot(2).
    pub(crate) no_pivot: bool,
    /// How many descriptors of the caller's, from 3 on, are the workload's too.
    pub(crate) preserved: u32,
    /// Whether the launcher runs hooks while init waits.
    pub(crate) waits_for_hooks: bool,
    /// Hooks that init runs before the root changes, and after the word to go.
    pub(crate) create_container: Vec<Hook>,
    pub(crate) start_container: Vec<Hook>,
    /// What they are told.
    pub(crate) subject: Subject,
    /// The network device of a new network namespace, besides its loopback.
    pub(crate) tap: Option<TapPlan>,
    /// Those that are new.
    #[serde(with = "kinds")]
    pub(crate) namespaces: Namespaces,
}

/// The filter on the workload's system calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Confinement {
    None,
    /// That of nearly every container.
    BuiltIn,
    /// It comes after the plan.
    Sent,
}

/// The standard streams of a workload without a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Streams {
    /// The caller's.
    Inherit,
    /// The caller's standard output and error; nothing is read.
    NoInput,
    /// /dev/null.
    None,
}

/// Who the workload runs as, in the container's ids.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups.
    pub additional_gids: Vec<u32>,
}

/// One mount.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct MountStep {
    pub(crate) destination: PathBuf,
    pub(crate) source: MountSource,
    pub(crate) options: MountOptions,
    /// The ids that its files are shown with, where those are not the container's.
    pub(crate) ids: Option<MountIds>,
    /// Whether the source is another container's, and the launcher has it.
    pub(crate) lent: bool,
    /// What is to be done with its files before anybody sees them.
    pub(crate) volume: Option<VolumePlan>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum MountSource {
    /// A new instance of a filesystem of this type.
    New(String),
    /// A file or directory of the host.
    Bind(PathBuf),
    /// A device node.
    Device(Device),
    /// What is mounted there already.
    Remount,
}

impl MountStep {
    /// The source, where the launcher sends it: it is another container's, or to be seen with the container's ids.
    pub(crate) fn sent_source(&self) -> Option<&Path> {
        match &self.source {
            MountSource::Bind(path) if self.options.idmap || self.lent => Some(path),
            MountSource::Bind(_) | MountSource::New(_) | MountSource::Device(_) | MountSource::Remount => None,
        }
    }

    /// Whether it shows a volume.
    pub(crate) fn is_volume(&self) -> bool {
        self.volume.as_ref().is_some_and(|volume| volume.first_use.is_some())
    }

    /// Whether it shows `path`.
    pub(crate) fn binds(&self, path: &Path) -> bool {
        matches!(&self.source, MountSource::Bind(source) if source == path)
    }

    /// Whether it is to be read-only, but not before all is there that belongs into it.
    pub(crate) fn read_only_late(&self) -> bool {
        let filled = match &self.source {
            MountSource::New(kind) => kind == "tmpfs" || self.destination == Path::new(dev::PATH),
            MountSource::Bind(_) | MountSource::Device(_) | MountSource::Remount => false,
        };
        filled && self.options.set_attributes().has(Attributes::READ_ONLY)
    }

    /// The attributes that it has from the beginning.
    pub(crate) fn early_attributes(&self) -> Attributes {
        let all = self.options.set_attributes();
        if self.read_only_late() { all.without(Attributes::READ_ONLY) } else { all }
    }
}

impl InitPlan {
    /// Checks and reduces a spec. What this runtime does not do is refused by name, never passed over.
    pub fn new(spec: &Spec) -> Result<Self, Error> {
        let refuse = |field, why: &str| Err(Error::Refused { field, why: why.into() });
        let Some(process) = spec.process() else { return refuse("process", "there is none") };
        let Some(linux) = spec.linux() else { return refuse("linux", "there is none") };
        let args = process.args().clone().unwrap_or_default();
        if args.is_empty() {
            return refuse("process.args", "it is empty");
        }
        if !process.cwd().is_absolute() {
            return refuse("process.cwd", "it is not an absolute path");
        }
        for (field, asked) in [
            ("linux.intelRdt", linux.intel_rdt().is_some()),
            ("linux.netDevices", linux.net_devices().as_ref().is_some_and(|devices| !devices.is_empty())),
        ] {
            if asked {
                return refuse(field, "this version does not do that yet");
            }
        }
        let capabilities = capability::sets(process.capabilities().as_ref());
        if capabilities.inheritable.0 & !capabilities.bounding.0 != 0 {
            let why = "it has what is not in the bounding set: operation not permitted (capabilities(7))";
            return refuse("process.capabilities.inheritable", why);
        }
        let namespaces = NamespacePlan::of(linux.namespaces().as_deref().unwrap_or_default())?;
        for (field, name) in [("hostname", spec.hostname()), ("domainname", spec.domainname())] {
            if name.is_some() && !namespaces.has(Namespaces::UTS) {
                return refuse(field, "without a UTS namespace it would be the host's");
            }
        }
        let time_offsets = time_offsets::plan(linux, &namespaces)?;
        let sysctls = sysctl::plan(linux.sysctl().as_ref().unwrap_or(&HashMap::new()), &namespaces)?;
        let user = process.user();
        let size = process.console_size();
        let side = |side: u64| u16::try_from(side).unwrap_or(u16::MAX);
        let mut mounts = spec.mounts().iter().flatten().map(mount_step).collect::<Result<Vec<_>, _>>()?;
        let in_user_namespace = namespaces.has(Namespaces::USER);
        let devices = devices::plan(linux.devices().as_deref().unwrap_or_default())?;
        if mounts.iter().any(|mount| mount.destination == Path::new(dev::PATH)) {
            let nodes = dev::nodes(in_user_namespace);
            mounts.extend(nodes.filter(|node| devices.iter().all(|own| own.path != node.destination)));
        }
        mounts.extend(devices.into_iter().map(|device| MountStep {
            destination: device.path.clone(),
            source: MountSource::Device(device),
            options: MountOptions::default(),
            ids: None,
            lent: false,
            volume: None,
        }));
        Ok(Self {
            root_read_only: spec.root().as_ref().and_then(oci_spec::runtime::Root::readonly).unwrap_or(false),
            mounts,
            root_propagation: Propagation::of_root(linux.rootfs_propagation().as_deref())?,
            masked_paths: linux.masked_paths().iter().flatten().map(PathBuf::from).collect(),
            read_only_paths: linux.readonly_paths().iter().flatten().map(PathBuf::from).collect(),
            hostname: spec.hostname().clone(),
            domainname: spec.domainname().clone(),
            terminal: process
                .terminal()
                .unwrap_or(false)
                .then(|| size.map_or((0, 0), |size| (side(size.height()), side(size.width())))),
            single_id: false,
            streams: Streams::Inherit,
            reaper: false,
            user: User {
                uid: user.uid(),
                gid: user.gid(),
                additional_gids: user.additional_gids().clone().unwrap_or_default(),
            },
            keeps_groups: spec.annotations().as_ref().and_then(|all| all.get(KEEP_GROUPS)).is_some_and(|on| on == "1"),
            umask: user.umask().unwrap_or(0o022),
            args,
            env: process.env().clone().unwrap_or_default(),
            cwd: process.cwd().clone(),
            capabilities,
            no_new_privileges: process.no_new_privileges().unwrap_or(false),
            confinement: if linux.seccomp().is_some() { Confinement::Sent } else { Confinement::None },
            traced: false,
            enters: false,
            held: false,
            outlives: false,
            place: None,
            no_pivot: false,
            preserved: 0,
            waits_for_hooks: false,
            create_container: Vec::new(),
            start_container: Vec::new(),
            subject: Subject::default(),
            attributes: ProcessAttributes::of(process, linux)?,
            sysctls,
            time_offsets,
            new_keyring: true,
            in_user_namespace,
            tap: None,
            namespaces: namespaces.new,
        })
    }

    /// Whether the capabilities are limited while there is time, and not at the end: what hooks of init execute must have
    /// them all.
    pub(crate) fn limits_early(&self) -> bool {
        !self.enters && self.create_container.is_empty()
    }

    /// Says what is to be done with the files of some of the bind mounts.
    pub(crate) fn prepare_volumes(&mut self, volumes: &[VolumePlan]) {
        for step in self.mounts.iter_mut().filter(|step| matches!(step.source, MountSource::Bind(_))) {
            step.volume = volumes.iter().find(|volume| volume.destination == step.destination).cloned();
        }
    }

    /// Takes over what only the root filesystem tells.
    pub(crate) fn find(&mut self, user: Option<User>, env: Vec<String>) {
        if let Some(user) = user {
            self.user = user;
        }
        if self.single_id {
            // There is no other group to be in, and setgroups(2) is forbidden (user_namespaces(7)).
            self.user.additional_gids.clear();
        }
        self.env.extend(env);
    }
}

/// The filter on system calls that a spec asks for. It takes longest to prepare and is needed last, so it is no part of
/// the plan.
pub(crate) fn filter(spec: &Spec) -> Result<Option<Program>, Error> {
    let refuse = |why| Error::Refused { field: "linux.seccomp", why };
    let Some(profile) = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref()) else { return Ok(None) };
    let program = seccomp::compile(profile).map_err(|error| refuse(error.to_string()))?;
    match (profile.listener_path(), profile.listener_metadata()) {
        // Nobody would answer, and the workload would wait for ever.
        (None, _) if program.notifies() => Err(refuse("SCMP_ACT_NOTIFY needs listenerPath, where an agent is".into())),
        (None, Some(_)) => Err(refuse("listenerMetadata is for the agent at listenerPath, and there is none".into())),
        _ => Ok(Some(program)),
    }
}

fn mount_step(mount: &oci_spec::runtime::Mount) -> Result<MountStep, Error> {
    let refuse = |why: String| Error::Refused { field: "mounts", why };
    // Specs of before 1.0 have relative ones.
    let destination = Path::new("/").join(mount.destination());
    let mut options = MountOptions::parse(mount.options().as_deref().unwrap_or_default())
        .map_err(|option| refuse(format!("{}: option {option:?} is not supported", destination.display())))?;
    let kind = mount.typ().as_deref().unwrap_or_default();
    if options.copy_up && (kind != "tmpfs" || options.bind) {
        return Err(refuse(format!("{}: tmpcopyup is for tmpfs", destination.display())));
    }
    let ids = MountIds::of(mount).map_err(|why| refuse(format!("{}: {why}", destination.display())))?;
    options.idmap |= ids.is_some();
    let source = match (options.bind || kind == "bind", mount.source()) {
        _ if options.remount => match options.data.first() {
            Some((key, _)) => {
                return Err(refuse(format!("{}: remount changes no {key:?}", destination.display())));
            }
            None => MountSource::Remount,
        },
        (true, Some(source)) if source.is_absolute() => {
            if let Some((key, _)) = options.data.first() {
                return Err(refuse(format!("{}: option {key:?} is not one of a bind mount", destination.display())));
            }
            MountSource::Bind(source.clone())
        }
        (true, _) => {
            return Err(refuse(format!("{}: a bind mount needs an absolute source", destination.display())));
        }
        (false, _) if options.idmap => {
            return Err(refuse(format!("{}: idmap is for bind mounts", destination.display())));
        }
        (false, _) if kind.is_empty() => return Err(refuse(format!("{}: no type", destination.display()))),
        (false, _) => MountSource::New(kind.into()),
    };
    Ok(MountStep { destination, source, options, ids, lent: false, volume: None })
}

/// The capability sets on their way to init: five numbers.
mod sets {
    use rbox_sys::caps::{Capabilities, Sets};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(sets: &Sets, serializer: S) -> Result<S::Ok, S::Error> {
        [sets.bounding, sets.effective, sets.permitted, sets.inheritable, sets.ambient]
            .map(|set| set.0)
            .serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Sets, D::Error> {
        let [bounding, effective, permitted, inheritable, ambient] =
            <[u64; 5]>::deserialize(deserializer)?.map(Capabilities);
        Ok(Sets { bounding, effective, permitted, inheritable, ambient })
    }
}

/// Kinds of namespaces on their way to init: the bits that clone(2) has for them.
mod kinds {
    use rbox_sys::clone::Namespaces;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(kinds: &Namespaces, serializer: S) -> Result<S::Ok, S::Error> {
        kinds.bits().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Namespaces, D::Error> {
        u32::deserialize(deserializer).map(Namespaces::from_bits)
    }
}
