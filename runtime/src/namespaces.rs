//! Which namespaces a container gets, and how it comes into those of others.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType};
use rbox_sys::clone::{self, Namespaces};

use crate::Error;

/// A spec's `linux.namespaces`: a kind that is not there is the caller's own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NamespacePlan {
    /// Made for this container.
    pub(crate) new: Namespaces,
    /// Those of somebody else, each of one kind.
    pub(crate) joined: Vec<(Namespaces, PathBuf)>,
}

impl NamespacePlan {
    /// New ones of the kinds without which nothing could begin; [`InitPlan`](crate::InitPlan) says which others.
    pub fn new_container() -> Self {
        Self { new: AT_CLONE, joined: Vec::new() }
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
                LinuxNamespaceType::Time => return refuse("this version makes no time namespace yet".into()),
            };
            if plan.new.has(kind) || plan.joined.iter().any(|(other, _)| *other == kind) {
                return refuse(format!("{} is there twice", namespace.typ()));
            }
            match namespace.path() {
                None => plan.new = plan.new.and(kind),
                Some(path) if path.is_absolute() => plan.joined.push((kind, path.clone())),
                Some(path) => return refuse(format!("{} is not an absolute path", path.display())),
            }
        }
        if !plan.new.has(Namespaces::MOUNT) {
            return refuse("a mount namespace of its own is needed".into());
        }
        Ok(plan)
    }

    /// Opens those of others.
    pub(crate) fn open(&self) -> Result<Joins, Error> {
        let open = |(kind, path): &(Namespaces, PathBuf)| {
            let file = File::open(path).map_err(|source| Error::Namespace { path: path.clone(), source })?;
            Ok(Join { kind: *kind, path: path.clone(), file })
        };
        self.joined.iter().map(open).collect::<Result<_, _>>().map(Joins)
    }
}

/// The namespaces that clone3 makes; init makes the others when it knows what is asked for.
pub(crate) const AT_CLONE: Namespaces = Namespaces::USER.and(Namespaces::PID).and(Namespaces::MOUNT);

/// Open namespaces that are to be joined.
#[derive(Debug)]
pub(crate) struct Joins(Vec<Join>);

#[derive(Debug)]
struct Join {
    kind: Namespaces,
    path: PathBuf,
    file: File,
}

impl Joins {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Joins all of them, in a process of one thread. Whether that may be done before the user namespace is joined or
    /// only by its root depends on which of the two owns the others; so what is refused is tried again afterwards.
    pub(crate) fn join(mut self) -> Result<(), (PathBuf, io::Error)> {
        self.0.sort_by_key(|join| join.kind == Namespaces::USER);
        let mut refused = Vec::new();
        for join in self.0 {
            match clone::enter(&join.file, join.kind) {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied && join.kind != Namespaces::USER => {
                    refused.push(join);
                }
                result => result.map_err(|error| (join.path, error))?,
            }
        }
        refused.into_iter().try_for_each(|join| clone::enter(&join.file, join.kind).map_err(|error| (join.path, error)))
    }
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
        assert!(NamespacePlan::of(&[]).is_err());
        assert!(NamespacePlan::of(&[mount(), mount()]).is_err());
        assert!(NamespacePlan::of(&[mount(), namespace(LinuxNamespaceType::Network, Some("net"))]).is_err());
    }
}
