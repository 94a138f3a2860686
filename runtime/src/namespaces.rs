//! Which namespaces a container gets, and how it comes into those of others.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType};
use rbox_sys::clone::{self, Forked, Namespaces};
use rbox_sys::mount::{self, Propagation};
use rbox_sys::{dir, fd, in_root, process};

use crate::Error;
use crate::error::{During, Failure};
use crate::report::Report;

/// A spec's `linux.namespaces`: a kind that is not there is the caller's own.
#[derive(Debug, Default)]
pub struct NamespacePlan {
    /// Made for this container.
    pub(crate) new: Namespaces,
    /// Those of somebody else, each of one kind.
    pub(crate) joined: Vec<(Namespaces, PathBuf)>,
    /// Those that a process has.
    pub(crate) process: Option<Of>,
    /// Those that a process has, for a container that is built beside it.
    pub(crate) neighbour: Option<Neighbour>,
}

/// A process some of whose namespaces another container gets.
#[derive(Debug)]
pub(crate) struct Neighbour {
    of: Of,
    /// Whether its /dev/shm is to be had too.
    shm: bool,
}

/// A process by its pidfd, and which of its namespaces are meant.
#[derive(Debug)]
pub(crate) struct Of {
    pid: u32,
    pidfd: OwnedFd,
    kinds: Namespaces,
}

impl NamespacePlan {
    /// New ones of the kinds without which nothing could begin; [`InitPlan`](crate::InitPlan) says which others.
    pub fn new_container() -> Self {
        Self { new: AT_CLONE, ..Self::default() }
    }

    /// Checks and reduces what a spec says.
    pub fn of(asked: &[LinuxNamespace]) -> Result<Self, Error> {
        let refuse = |why: String| Err(Error::Refused { field: "linux.namespaces", why });
        let mut plan = Self::default();
        for namespace in asked {
            let kind = match namespace.typ() {
                LinuxNamespaceType::User => Namespaces::USER,
                LinuxNamespaceType::Pid => Namespaces::PID,
                LinuxNamespaceType::Mount => Namespaces::MOUNT,
                LinuxNamespaceType::Network => Namespaces::NET,
                LinuxNamespaceType::Uts => Namespaces::UTS,
                LinuxNamespaceType::Ipc => Namespaces::IPC,
                LinuxNamespaceType::Cgroup => Namespaces::CGROUP,
                LinuxNamespaceType::Time => Namespaces::TIME,
            };
            if plan.has(kind) {
                return refuse(format!("{} is there twice", namespace.typ()));
            }
            match namespace.path() {
                None => plan.new = plan.new.and(kind),
                Some(path) if path.is_absolute() => plan.joined.push((kind, path.clone())),
                Some(path) => return refuse(format!("{} is not an absolute path", path.display())),
            }
        }
        if plan.joined.iter().any(|(kind, _)| *kind == Namespaces::MOUNT) {
            return refuse("a new mount namespace, or the caller's: this version builds nothing in another's".into());
        }
        if !plan.has_own_mounts() && plan.new.has(Namespaces::USER) {
            return refuse("from a new user namespace nothing can be mounted in the caller's mount namespace".into());
        }
        Ok(plan)
    }

    /// Those of the process `pid` that `made` has made for its container, and which are therefore nobody else's. By its
    /// pidfd: if its number is another's by the time that they are joined, that fails.
    pub fn of_container(pid: u32, pidfd: OwnedFd, made: &Self) -> Self {
        Self { process: Some(Of { pid, pidfd, kinds: made.new }), ..Self::default() }
    }

    /// Those of the process `pid`, as far as they are not the caller's already: a container may have some of another's, or
    /// of the caller's. `expected` are those that it should not share with the caller; of time
    /// namespaces, which few have and not every kernel knows, only that says whether there is one.
    pub fn of_process(pid: u32, pidfd: OwnedFd, expected: &Self) -> Result<Self, Error> {
        let mut kinds = Namespaces::NONE;
        for (kind, name) in KINDS {
            if kind == Namespaces::TIME && !expected.has(kind) {
                continue;
            }
            let read = |path: PathBuf| fs::read_link(&path).map_err(|source| Error::Namespace { path, source });
            if read(format!("/proc/{pid}/ns/{name}").into())? != read(Path::new("/proc/self/ns").join(name))? {
                kinds = kinds.and(kind);
            }
        }
        if expected.has(Namespaces::MOUNT) && !kinds.has(Namespaces::MOUNT) {
            // What is run beside it would run on the host.
            return Err(Error::NotContained(pid));
        }
        Ok(Self { process: Some(Of { pid, pidfd, kinds }), ..Self::default() })
    }

    /// The same, with all that is joined by the pidfd of the process `pid`, whose namespaces they are, and not by their
    /// paths: what is joined then is that process's, or nothing. With `shm`, the bind mount whose source is
    /// [`shm_of`](Self::shm_of) that process is of what it has there.
    pub fn joining(self, pid: u32, pidfd: OwnedFd, shm: bool) -> Self {
        let kinds = self.joined.iter().fold(Namespaces::NONE, |kinds, (kind, _)| kinds.and(*kind));
        let neighbour = Neighbour { of: Of { pid, pidfd, kinds }, shm };
        Self { joined: Vec::new(), neighbour: Some(neighbour), ..self }
    }

    /// The name that a spec has for the /dev/shm of a process.
    pub fn shm_of(pid: u32) -> PathBuf {
        format!("/proc/{pid}/root{SHM}").into()
    }

    /// Whose /dev/shm is to be had.
    pub(crate) fn lender(&self) -> Option<u32> {
        self.neighbour.as_ref().filter(|neighbour| neighbour.shm).map(|neighbour| neighbour.of.pid)
    }

    /// Whether one of this kind is made or joined; else it is the caller's own.
    pub(crate) fn has(&self, kind: Namespaces) -> bool {
        self.new.has(kind) || self.joined.iter().any(|(joined, _)| *joined == kind)
    }

    /// Whether it comes into a container that is there, with its file tree.
    pub(crate) fn enters(&self) -> bool {
        self.process.is_some()
    }

    /// Whether what is mounted for the container is mounted for nobody else.
    pub(crate) fn has_own_mounts(&self) -> bool {
        self.new.has(Namespaces::MOUNT)
    }

    /// Opens those of others.
    pub(crate) fn open(&self) -> Result<Joins, Error> {
        let open = |(kind, path): &(Namespaces, PathBuf)| {
            let file = File::open(path).map_err(|source| Error::Namespace { path: path.clone(), source })?;
            Ok(Join { kind: *kind, path: path.clone(), file: file.into() })
        };
        let mut joins = self.joined.iter().map(open).collect::<Result<Vec<_>, Error>>()?;
        let of = self.process.as_ref().or(self.neighbour.as_ref().map(|neighbour| &neighbour.of));
        if let Some(Of { pid, pidfd, kinds }) = of.filter(|of| of.kinds != Namespaces::NONE) {
            let path = PathBuf::from(format!("/proc/{pid}/ns"));
            let file = fd::duplicate(pidfd).map_err(|source| Error::Namespace { path: path.clone(), source })?;
            joins.push(Join { kind: *kinds, path, file });
        }
        Ok(Joins { new: self.new.within(AT_CLONE), joins, shm: self.lender().is_some() })
    }
}

/// As /proc/self/ns calls them (namespaces(7)).
const KINDS: [(Namespaces, &str); 8] = [
    (Namespaces::USER, "user"),
    (Namespaces::PID, "pid"),
    (Namespaces::MOUNT, "mnt"),
    (Namespaces::NET, "net"),
    (Namespaces::UTS, "uts"),
    (Namespaces::IPC, "ipc"),
    (Namespaces::CGROUP, "cgroup"),
    (Namespaces::TIME, "time"),
];

/// The namespaces that clone3 makes; init makes the others when it knows what is asked for.
pub(crate) const AT_CLONE: Namespaces = Namespaces::USER.and(Namespaces::PID).and(Namespaces::MOUNT);

/// Where a container has the memory that its processes share (shm_overview(7)).
const SHM: &str = "/dev/shm";

/// Open namespaces that are to be joined, and those that are then to be made.
#[derive(Debug)]
pub(crate) struct Joins {
    new: Namespaces,
    joins: Vec<Join>,
    /// Whether the last one is a process whose /dev/shm is to be had too.
    shm: bool,
}

#[derive(Debug)]
struct Join {
    /// One kind; with a pidfd, perhaps several.
    kind: Namespaces,
    path: PathBuf,
    file: OwnedFd,
}

impl Joins {
    pub(crate) fn is_empty(&self) -> bool {
        self.joins.is_empty()
    }

    /// Whether this process's mount namespace is the container's own.
    pub(crate) fn have_new_mounts(&self) -> bool {
        self.is_empty() && self.new.has(Namespaces::MOUNT)
    }

    /// Keeps them open over the coming execve(2); gives the words for [`inherited`](Self::inherited).
    pub(crate) fn hand_on(&self) -> io::Result<Vec<String>> {
        if self.is_empty() {
            return Ok(Vec::new());
        }
        let mut words = vec![self.new.bits().to_string(), self.shm.to_string()];
        for join in &self.joins {
            fd::keep_over_exec(&join.file)?;
            words.push(format!("{}:{}:{}", join.kind.bits(), join.file.as_raw_fd(), join.path.display()));
        }
        Ok(words)
    }

    /// Takes over what the program before this one handed on; none where there are no words.
    pub(crate) fn inherited(mut words: impl Iterator<Item = String>) -> Option<Self> {
        let new = Namespaces::from_bits(words.next()?.parse().ok()?);
        let shm = words.next()?.parse().ok()?;
        let join = |word: String| {
            let mut fields = word.splitn(3, ':');
            let kind = Namespaces::from_bits(fields.next()?.parse().ok()?);
            let file = fd::inherited(fields.next()?.parse().ok()?).ok()?;
            Some(Join { kind, path: fields.next()?.into(), file })
        };
        Some(Self { new, joins: words.map(join).collect::<Option<_>>()?, shm })
    }

    /// Joins all of them and makes the new ones: this process goes on as a sibling of itself, because setns(2) into a
    /// pid namespace reaches only the children, and ends with `report` of that one, and of the memory that is shared.
    pub(crate) fn join(self, report: impl Fn(Report, BorrowedFd<'_>)) -> Result<(), Failure> {
        if !self.new.has(Namespaces::USER) {
            // Before a process of the container can see this one. With ids still to be mapped it would be too early:
            // newuidmap writes maps only for what is its caller's to look at.
            process::set_undumpable().during(|| "hide from the container")?;
        }
        let lender = self.joins.last().filter(|_| self.shm).map(|join| fd::duplicate(&join.file)).transpose();
        let lender = lender.during(|| BORROW)?;
        enter(self.joins)?;
        match clone::fork_sibling_into(self.new).during(|| "clone into new namespaces")? {
            Forked::Parent(child) => {
                report(Report::Cloned(child.pid()), child.as_fd());
                if let Some(lender) = lender {
                    // This process has nothing else to do; it cannot come back to the mounts that it came from.
                    let shm = borrow_shm(&lender).during(|| BORROW)?;
                    report(Report::Shm, shm.as_fd());
                }
                std::process::exit(0)
            }
            Forked::Child if self.new.has(Namespaces::MOUNT) => {
                // As in a container that joins nothing: bind sources may ask for what the host mounts later.
                mount::set_root_propagation(Propagation::Slave).during(|| "make the mounts slaves of the host's")
            }
            Forked::Child => Ok(()),
        }
    }
}

const BORROW: &str = "share the /dev/shm of the container whose IPC namespace is joined";

/// A detached clone of what a process has at /dev/shm, made in its own mount namespace, which this process then is in. What
/// lies there is under that container's control, and so are the links on the way, which lead nowhere else.
fn borrow_shm(lender: &OwnedFd) -> io::Result<OwnedFd> {
    clone::enter(lender, Namespaces::MOUNT)?;
    let root = dir::open(Path::new("/"))?;
    let shm = in_root::open_path(root.as_fd(), Path::new(SHM))?;
    mount::clone_tree(shm.as_fd(), Path::new(""), false)
}

/// Whether something may be joined before the user namespace is, or only by that one's root, depends on which of the two
/// owns it; so what is refused is tried again afterwards.
fn enter(mut joins: Vec<Join>) -> Result<(), Failure> {
    joins.sort_by_key(|join| join.kind == Namespaces::USER);
    let mut refused = Vec::new();
    for join in joins {
        match clone::enter(&join.file, join.kind) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && join.kind != Namespaces::USER => {
                refused.push(join);
            }
            result => result.during(|| format!("join the namespace {}", join.path.display()))?,
        }
    }
    refused.into_iter().try_for_each(|join| {
        clone::enter(&join.file, join.kind).during(|| format!("join the namespace {}", join.path.display()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespace(kind: LinuxNamespaceType, path: Option<&str>) -> LinuxNamespace {
        let mut namespace = LinuxNamespace::default();
        namespace.set_typ(kind).set_path(path.map(PathBuf::from));
        namespace
    }

    #[test]
    fn new_ones_and_those_of_others() {
        let asked = [
            namespace(LinuxNamespaceType::Mount, None),
            namespace(LinuxNamespaceType::Pid, None),
            namespace(LinuxNamespaceType::Network, Some("/proc/1/ns/net")),
        ];
        let plan = NamespacePlan::of(&asked).expect("valid");
        assert_eq!(plan.new, Namespaces::MOUNT.and(Namespaces::PID));
        assert_eq!(plan.joined, [(Namespaces::NET, PathBuf::from("/proc/1/ns/net"))]);
    }

    #[test]
    fn contradictions_are_refused() {
        let mount = || namespace(LinuxNamespaceType::Mount, None);
        assert!(NamespacePlan::of(&[namespace(LinuxNamespaceType::User, None)]).is_err());
        assert!(NamespacePlan::of(&[namespace(LinuxNamespaceType::Mount, Some("/proc/1/ns/mnt"))]).is_err());
        assert!(NamespacePlan::of(&[mount(), mount()]).is_err());
        assert!(NamespacePlan::of(&[mount(), namespace(LinuxNamespaceType::Network, Some("net"))]).is_err());
    }
}
