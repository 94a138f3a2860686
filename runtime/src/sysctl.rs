//! `linux.sysctl`: settings of the kernel that each namespace has for itself.
//!
//! A name that belongs to no namespace of the container's own is refused: it would change the host's.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxNamespaceType;
use rbox_sys::clone::Namespaces;
use rbox_sys::process;
use rbox_sys::procfs::Procfs;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::error::{During, Failure};
use crate::namespaces::NamespacePlan;

/// One setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sysctl {
    name: String,
    /// Beneath /proc/sys.
    path: PathBuf,
    value: String,
}

/// Of System V IPC; POSIX message queues have a directory.
const OF_IPC: [&str; 8] = [
    "kernel/msgmax",
    "kernel/msgmnb",
    "kernel/msgmni",
    "kernel/sem",
    "kernel/shmall",
    "kernel/shmmax",
    "kernel/shmmni",
    "kernel/shm_rmid_forced",
];

const DOMAINNAME: &str = "kernel/domainname";

/// Checks and reduces those of a spec; by name, so that a failure is always the same one.
pub(crate) fn plan(asked: &HashMap<String, String>, namespaces: &NamespacePlan) -> Result<Vec<Sysctl>, Error> {
    let asked: BTreeMap<_, _> = asked.iter().collect();
    asked
        .into_iter()
        .map(|(name, value)| {
            let refuse = |why: &str| Error::Refused { field: "linux.sysctl", why: format!("{name}: {why}") };
            let path = path(name).ok_or_else(|| refuse("that is no name"))?;
            let (kind, of) = namespace_of(&path).map_err(refuse)?;
            if !is_own(kind, namespaces) {
                return Err(refuse(&format!("the container has no {of} namespace of its own")));
            }
            Ok(Sysctl { name: name.clone(), path: path.into(), value: value.clone() })
        })
        .collect()
}

/// Writes them, in the namespaces that they are for.
pub(crate) fn write(settings: &[Sysctl]) -> Result<(), Failure> {
    if settings.is_empty() {
        return Ok(());
    }
    let procfs = Procfs::open().during(|| "open procfs for linux.sysctl")?;
    settings.iter().try_for_each(|Sysctl { name, path, value }| {
        let written = if path == Path::new(DOMAINNAME) {
            // The file is the initial user namespace's root's alone.
            process::set_domainname(value)
        } else {
            procfs.write(&Path::new("sys").join(path), value.as_bytes())
        };
        written.during(|| format!("set the sysctl {name} to {value:?}"))
    })
}

/// Whichever of `.` and `/` is first is what separates, and the other is a part of the names (sysctl.d(5)):
/// `net.ipv4.conf.eth0/1.forwarding` and `net/ipv4/conf/eth0.1/forwarding` are one.
fn path(name: &str) -> Option<String> {
    let path: String = match name.find(['.', '/']) {
        Some(first) if name[first..].starts_with('.') => name
            .chars()
            .map(|c| {
                if c == '.' {
                    '/'
                } else if c == '/' {
                    '.'
                } else {
                    c
                }
            })
            .collect(),
        _ => name.into(),
    };
    path.split('/').all(|part| !matches!(part, "" | "." | "..")).then_some(path)
}

/// The kind of namespace that a setting belongs to; or why a container can have none of its own.
pub fn namespace_of_sysctl(name: &str) -> Result<LinuxNamespaceType, &'static str> {
    let path = path(name).ok_or("that is no name")?;
    Ok(match namespace_of(&path)?.0 {
        Namespaces::IPC => LinuxNamespaceType::Ipc,
        Namespaces::NET => LinuxNamespaceType::Network,
        Namespaces::USER => LinuxNamespaceType::User,
        _ => LinuxNamespaceType::Uts,
    })
}

fn namespace_of(path: &str) -> Result<(Namespaces, &'static str), &'static str> {
    if OF_IPC.contains(&path) || path.starts_with("fs/mqueue/") {
        Ok((Namespaces::IPC, "ipc"))
    } else if path.starts_with("net/") {
        Ok((Namespaces::NET, "network"))
    } else if path.starts_with("user/") {
        Ok((Namespaces::USER, "user"))
    } else if path == DOMAINNAME {
        Ok((Namespaces::UTS, "uts"))
    } else if path == "kernel/hostname" {
        Err("that is what the field hostname is for")
    } else {
        Err("that belongs to no namespace: it would change the host's")
    }
}

/// Whether the container has one that is not the caller's.
fn is_own(kind: Namespaces, namespaces: &NamespacePlan) -> bool {
    let joined = namespaces.joined.iter().find(|(other, _)| *other == kind);
    namespaces.new.has(kind) || joined.is_some_and(|(kind, path)| !is_callers(*kind, path))
}

fn is_callers(kind: Namespaces, path: &Path) -> bool {
    let callers = match kind {
        Namespaces::IPC => "ipc",
        Namespaces::NET => "net",
        Namespaces::USER => "user",
        _ => "uts",
    };
    let inode = |path: &Path| fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino()));
    match (inode(path), inode(&Path::new("/proc/self/ns").join(callers))) {
        (Ok(joined), Ok(callers)) => joined == callers,
        // It cannot be joined either.
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, new: Namespaces, joined: Option<&str>) -> Result<String, String> {
        let joined = joined.map(|path| (Namespaces::NET, path.into())).into_iter().collect();
        let asked = HashMap::from([(name.to_owned(), "1".to_owned())]);
        let planned = plan(&asked, &NamespacePlan { new, joined, ..NamespacePlan::default() })
            .map_err(|error| error.to_string())?;
        Ok(planned[0].path.display().to_string())
    }

    #[test]
    fn each_belongs_to_a_namespace() {
        let all = Namespaces::IPC.and(Namespaces::NET).and(Namespaces::UTS).and(Namespaces::USER);
        for (name, kind) in [
            ("kernel.shm_rmid_forced", Namespaces::IPC),
            ("fs.mqueue.msg_max", Namespaces::IPC),
            ("net.core.somaxconn", Namespaces::NET),
            ("kernel.domainname", Namespaces::UTS),
            ("user.max_net_namespaces", Namespaces::USER),
        ] {
            assert_eq!(check(name, kind, None), Ok(name.replace('.', "/")));
            let error = check(name, all.without(kind), None).expect_err(name);
            assert!(error.starts_with(&format!("config: linux.sysctl: {name}: the container has no")), "{error}");
        }
        for name in
            ["kernel.hostname", "kernel.core_pattern", "vm.swappiness", "fs.file-max", "kernel.sem_next_id", "net"]
        {
            check(name, all, None).expect_err(name);
        }
    }

    #[test]
    fn nothing_leads_elsewhere() {
        for name in ["net/../kernel/core_pattern", "/net/x", "net.", "", "net/./x"] {
            check(name, Namespaces::NET, None).expect_err(name);
        }
        // A dot in a name, not a way up.
        assert_eq!(
            check("net.ipv4.conf.eth0/1.forwarding", Namespaces::NET, None),
            Ok("net/ipv4/conf/eth0.1/forwarding".into())
        );
        assert_eq!(
            check("net/ipv4/conf/eth0.1/forwarding", Namespaces::NET, None),
            Ok("net/ipv4/conf/eth0.1/forwarding".into())
        );
    }

    #[test]
    fn the_callers_own_namespace_is_not_the_containers() {
        check("net.core.somaxconn", Namespaces::NONE, Some("/proc/self/ns/net")).expect_err("the caller's own");
        check("net.core.somaxconn", Namespaces::NONE, Some("/proc/self/ns/mnt")).expect("some other");
    }
}
