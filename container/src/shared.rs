//! Whose namespaces a container gets, once the containers that were named are found.
//!
//! A namespace belongs to the user namespace that it was made in, and only who has power there may join it. So a container
//! that joins another's shares its user namespace too, and has the same ids.

use std::borrow::Cow;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType};
use rbox_rootless::Identity;
use rbox_runtime::NamespacePlan;
use rbox_store::{ContainerEntry, Store};
use rbox_sys::process;
use rbox_types::{ContainerName, IdMaps};

use crate::etc_files::Etc;
use crate::life::begun::Begun;
use crate::record::{Made, Record};
use crate::request::RunRequest;
use crate::settings::{Ipc, NetworkMode, Resolver, Settings, Sharing, Userns, Whose};
use crate::{Engine, Error, network};

/// Whose they are.
#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) ipc: Source,
    pub(crate) pid: Source,
    pub(crate) uts: Source,
    pub(crate) net: Source,
    /// The network, with all that was left open filled in.
    pub(crate) network: NetworkMode,
    /// Whether there is no /dev/shm.
    pub(crate) without_shm: bool,
    /// The host name that the container finds, where it has not its own.
    pub(crate) hostname: Option<String>,
    /// Whose ids it has.
    pub(crate) userns: Userns,
    /// Whose are joined.
    neighbour: Option<Neighbour>,
}

/// A container whose namespaces are another's too.
struct Neighbour {
    entry: ContainerEntry,
    made: Made,
    /// Its first process; none while the other one is only planned.
    first: Option<(u32, OwnedFd)>,
}

/// The number of the neighbour's first process in the plan of a container that is to be started later. It is another one
/// each time that the neighbour is started.
pub(crate) const LATER: u32 = 0;

/// Whose one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Source {
    /// The container's own.
    #[default]
    Own,
    /// The host's.
    Host,
    /// The other container's.
    Joined,
}

/// Why a container's namespaces cannot be shared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CannotShare {
    /// Two containers, and so two user namespaces.
    #[error("namespaces of {0} and of {1} cannot both be joined: each belongs to a user namespace of its own")]
    Two(ContainerName, ContainerName),
    /// `--ipc=private` or `none`.
    #[error("container {0} shares its IPC namespace with nobody (--ipc={1})")]
    Private(ContainerName, Ipc),
    /// `--userns`, and another's.
    #[error("--userns: who joins namespaces of the container {0} has its ids")]
    Ids(ContainerName),
    /// Ids are mapped otherwise.
    #[error("container {0} has other ids than this one would have, and whoever joins it shares its user namespace")]
    OtherIds(ContainerName),
}

impl Neighbour {
    /// The one that runs.
    fn running(store: &Store, name: &str) -> Result<Self, Error> {
        let Begun { entry, made, first, pidfd, .. } = Begun::find(store, name)?;
        Ok(Self { entry, made, first: Some((first.pid, pidfd)) })
    }

    /// One that need not run yet.
    fn known(store: &Store, name: &str) -> Result<Self, Error> {
        let entry = store.find_container(name)?;
        let made = Made::read(&entry.path).map_err(Error::io("read the records in", entry.path.display()))?;
        let made = made.ok_or_else(|| Error::Starting(entry.name.clone()))?;
        Ok(Self { entry, made, first: None })
    }

    /// Of what it has in /etc for its network.
    fn as_etc(&self) -> Etc {
        let Settings { resolver, sharing, .. } = &self.made.settings;
        Etc {
            hostname: self.made.hostname.clone(),
            name: self.entry.name.to_string(),
            resolver: resolver.clone(),
            network: sharing.network.clone(),
        }
    }

    fn pid(&self) -> u32 {
        self.first.as_ref().map_or(LATER, |(pid, _)| *pid)
    }
}

impl Engine {
    /// Finds whose they are.
    pub(crate) fn shared(&self, asked: &Sharing) -> Result<Shared, Error> {
        self.find_shared(asked, Neighbour::running)
    }

    /// The same for a container that is started later, with a neighbour that need not run before.
    pub(crate) fn shared_later(&self, asked: &Sharing) -> Result<Shared, Error> {
        self.find_shared(asked, Neighbour::known)
    }

    fn find_shared(&self, asked: &Sharing, find: Find) -> Result<Shared, Error> {
        let network = network::settle(&asked.network);
        let mut found = Found { engine: self, find, neighbour: None };
        let ipc = match &asked.ipc {
            Ipc::Shareable | Ipc::Private | Ipc::None => Source::Own,
            Ipc::Host => Source::Host,
            Ipc::Container(name) => found.source(name, |theirs| theirs.ipc == Ipc::Host)?,
        };
        if let (Source::Joined, Some(of)) = (ipc, &found.neighbour)
            && let kind @ (Ipc::Private | Ipc::None) = &of.made.settings.sharing.ipc
        {
            return Err(CannotShare::Private(of.entry.name.clone(), kind.clone()).into());
        }
        let mut source = |asked: &Whose, is_hosts: fn(&Sharing) -> bool| match asked {
            Whose::Private => Ok(Source::Own),
            Whose::Host => Ok(Source::Host),
            Whose::Container(name) => found.source(name, is_hosts),
        };
        let pid = source(&asked.pid, |theirs| theirs.pid == Whose::Host)?;
        let uts = source(&asked.uts, |theirs| theirs.uts == Whose::Host)?;
        let net = match &network {
            NetworkMode::Unsaid | NetworkMode::None | NetworkMode::Slirp(_) => Source::Own,
            NetworkMode::Host => Source::Host,
            NetworkMode::Container(name) => found.source(name, |theirs| theirs.network == NetworkMode::Host)?,
        };
        let hostname = match uts {
            // As in Podman and Docker: who has the host's network goes by the host's name in it.
            Source::Own if network == NetworkMode::Host => Some(process::hostname()),
            Source::Own => None,
            Source::Host => Some(process::hostname()),
            Source::Joined => found.neighbour.as_ref().map(|of| of.made.hostname.clone()),
        };
        let network = if net == Source::Host { NetworkMode::Host } else { network };
        let without_shm = asked.ipc == Ipc::None;
        let userns = match &found.neighbour {
            Some(of) if asked.userns != Userns::Own && asked.userns != of.made.settings.sharing.userns => {
                return Err(CannotShare::Ids(of.entry.name.clone()).into());
            }
            Some(of) => of.made.settings.sharing.userns.clone(),
            None => asked.userns.settle(&self.identity),
        };
        Ok(Shared { ipc, pid, uts, net, network, without_shm, hostname, userns, neighbour: found.neighbour })
    }
}

type Find = fn(&Store, &str) -> Result<Neighbour, Error>;

/// The container that is joined, as soon as one is.
struct Found<'a> {
    engine: &'a Engine,
    find: Find,
    neighbour: Option<Neighbour>,
}

impl Found<'_> {
    /// Whose a namespace is that is to be a container's: what that one has of the host's is the host's.
    fn source(&mut self, name: &str, is_hosts: fn(&Sharing) -> bool) -> Result<Source, Error> {
        let found = (self.find)(&self.engine.store, name)?;
        if is_hosts(&found.made.settings.sharing) {
            return Ok(Source::Host);
        }
        if found.entry.refs.map_key != self.engine.identity.maps.key() {
            return Err(CannotShare::OtherIds(found.entry.name.clone()).into());
        }
        match &self.neighbour {
            Some(before) if before.entry.id != found.entry.id => {
                Err(CannotShare::Two(before.entry.name.clone(), found.entry.name.clone()).into())
            }
            _ => {
                self.neighbour = Some(found);
                Ok(Source::Joined)
            }
        }
    }
}

impl Shared {
    /// What others who come into a container find, by its record: what is not the host's is the container's, or of one
    /// whose user namespace it shares.
    pub(crate) fn recorded(sharing: &Sharing) -> Self {
        let source = |host: bool| if host { Source::Host } else { Source::Own };
        Self {
            ipc: source(sharing.ipc == Ipc::Host),
            pid: source(sharing.pid == Whose::Host),
            uts: source(sharing.uts == Whose::Host),
            net: source(sharing.network == NetworkMode::Host),
            network: sharing.network.clone(),
            userns: sharing.userns.clone(),
            ..Self::default()
        }
    }

    /// As asked for, with ids in place of names, and the host's where a container that was named has the host's: what the
    /// container's own record tells those who come later.
    pub(crate) fn words(&self, asked: &Sharing) -> Sharing {
        let id = || self.neighbour.as_ref().map(|found| found.entry.id.to_string()).unwrap_or_default();
        let whose = |source, asked: &Whose| match source {
            Source::Own => asked.clone(),
            Source::Host => Whose::Host,
            Source::Joined => Whose::Container(id()),
        };
        Sharing {
            ipc: match self.ipc {
                Source::Own => asked.ipc.clone(),
                Source::Host => Ipc::Host,
                Source::Joined => Ipc::Container(id()),
            },
            pid: whose(self.pid, &asked.pid),
            uts: whose(self.uts, &asked.uts),
            network: match self.net {
                Source::Own | Source::Host => self.network.clone(),
                Source::Joined => NetworkMode::Container(id()),
            },
            userns: self.userns.clone(),
        }
    }

    /// The container's namespaces as a spec has them. Those of time are the host's; all others that are not named here
    /// are the container's own.
    pub(crate) fn namespaces(&self) -> Vec<LinuxNamespace> {
        let user = if self.neighbour.is_some() { Source::Joined } else { Source::Own };
        [
            (LinuxNamespaceType::User, "user", user),
            (LinuxNamespaceType::Mount, "mnt", Source::Own),
            (LinuxNamespaceType::Pid, "pid", self.pid),
            (LinuxNamespaceType::Uts, "uts", self.uts),
            (LinuxNamespaceType::Ipc, "ipc", self.ipc),
            (LinuxNamespaceType::Network, "net", self.net),
            (LinuxNamespaceType::Cgroup, "cgroup", Source::Own),
        ]
        .into_iter()
        .filter(|(.., source)| *source != Source::Host)
        .map(|(kind, name, source)| {
            let joined = self.neighbour.as_ref().filter(|_| source == Source::Joined);
            let mut namespace = LinuxNamespace::default();
            namespace.set_typ(kind).set_path(joined.map(|of| format!("/proc/{}/ns/{name}", of.pid()).into()));
            namespace
        })
        .collect()
    }

    /// What the launch of the container begins with.
    pub(crate) fn plan(&self) -> Result<NamespacePlan, Error> {
        let plan = NamespacePlan::of(&self.namespaces())?;
        let shm = self.ipc == Source::Joined;
        let Some(found) = &self.neighbour else { return Ok(plan) };
        let Some((pid, pidfd)) = &found.first else { return Err(Error::NotRunning(found.entry.name.clone())) };
        let pidfd = pidfd.try_clone().map_err(Error::io("join", &found.entry.name))?;
        Ok(plan.joining(*pid, pidfd, shm))
    }

    /// Who the user himself is to be inside, where he has asked for that: not everybody who joins is.
    pub(crate) fn kept(&self, request: &RunRequest) -> Option<(u32, u32)> {
        self.userns.kept().filter(|_| request.settings.sharing.userns != Userns::Own)
    }

    /// The ids to be mapped, of all that containers may have: none where the user namespace is another's.
    pub(crate) fn maps<'a>(&self, identity: &'a Identity) -> Result<Option<Cow<'a, Identity>>, Error> {
        if self.neighbour.is_some() {
            return Ok(None);
        }
        Ok(Some(self.userns.ids(identity)?.map_or(Cow::Borrowed(identity), Cow::Owned)))
    }

    /// The same, where they are only some of those.
    pub(crate) fn distinct(&self, identity: &Identity) -> Result<Option<IdMaps>, Error> {
        match (&self.neighbour, &self.userns) {
            (None, Userns::Mapped { .. }) => Ok(self.userns.ids(identity)?.map(|identity| identity.maps)),
            _ => Ok(None),
        }
    }

    /// What the files are made of that tell a container of its network: what is said of this container where it is its own.
    pub(crate) fn etc(
        &self,
        store: &Store,
        hostname: &str,
        name: &ContainerName,
        resolver: &Resolver,
    ) -> Result<Etc, Error> {
        let mut next = self.neighbour.as_ref().filter(|_| self.net == Source::Joined).map(|of| of.as_etc());
        let mut etc = Etc {
            hostname: hostname.to_owned(),
            name: name.to_string(),
            resolver: resolver.clone(),
            network: self.network.clone(),
        };
        // One that is joined may have joined another. None can be its own neighbour's: it was there before.
        while let Some(theirs) = next {
            next = match &theirs.network {
                NetworkMode::Container(id) => Some(Neighbour::known(store, id)?.as_etc()),
                _ => None,
            };
            etc = theirs;
        }
        Ok(etc)
    }

    /// The source of /dev/shm, where it is not the container's own.
    pub(crate) fn shm(&self) -> Option<PathBuf> {
        match (self.ipc, &self.neighbour) {
            (Source::Host, _) => Some("/dev/shm".into()),
            (Source::Joined, Some(found)) => Some(NamespacePlan::shm_of(found.pid())),
            _ => None,
        }
    }
}
