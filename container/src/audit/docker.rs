//! Docker's default container, run by its daemon as root, and how another one differs from it.

use std::path::Path;

use oci_spec::runtime::Capability;
use rbox_runtime::DEFAULT_CAPABILITIES;
use serde::Serialize;

use super::{MountPoint, Posture, SeccompMode};
use crate::plan::security::{MASKED, READ_ONLY};

/// One thing that is not as with Docker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Difference {
    /// Which part of the answer.
    pub aspect: &'static str,
    /// What it comes to.
    pub effect: Effect,
    /// What Docker's default is.
    pub docker: String,
    /// What it is here.
    pub here: String,
}

/// What a difference comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// The workload may do or see more.
    Looser,
    /// It may do or see less.
    Stricter,
    /// Neither.
    Other,
}

impl Effect {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Looser => "looser",
            Self::Stricter => "stricter",
            Self::Other => "other",
        }
    }
}

/// The namespaces that Docker makes; all others are the host's.
const NAMESPACES: [&str; 6] = ["cgroup", "ipc", "mnt", "net", "pid", "uts"];

/// What Docker mounts, device nodes included, which it makes where a user namespace has the host's bound.
const MOUNTS: [&str; 18] = [
    "/",
    "/dev",
    "/dev/console",
    "/dev/full",
    "/dev/mqueue",
    "/dev/null",
    "/dev/pts",
    "/dev/random",
    "/dev/shm",
    "/dev/tty",
    "/dev/urandom",
    "/dev/zero",
    "/etc/hostname",
    "/etc/hosts",
    "/etc/resolv.conf",
    "/proc",
    "/sys",
    "/sys/fs/cgroup",
];

pub(super) fn differences(posture: &Posture) -> Vec<Difference> {
    let mut list = List::default();
    list.capabilities(posture);
    list.seccomp(posture);
    if posture.no_new_privileges {
        list.add("NoNewPrivileges", Effect::Stricter, "false", "true");
    }
    if let Some(label) = &posture.label {
        list.add("Label", Effect::Stricter, "what the host's security module has for containers", label);
    }
    list.paths("MaskedPaths", "masked", &MASKED, &posture.masked_paths);
    list.paths("ReadonlyPaths", "read-only", &READ_ONLY, &posture.readonly_paths);
    list.mounts(&posture.mounts);
    list.namespaces(posture);
    match posture.ids.outside() {
        Some(0) | None => {}
        Some(outside) => {
            let who = posture.ids.uid.unwrap_or(0);
            let same = if who == 0 { "root, on the host too".to_owned() } else { format!("{who}, on the host too") };
            list.add("Ids", Effect::Stricter, &same, &format!("{who}, on the host {outside}"));
        }
    }
    list.0
}

#[derive(Default)]
struct List(Vec<Difference>);

impl List {
    fn add(&mut self, aspect: &'static str, effect: Effect, docker: &str, here: &str) {
        self.0.push(Difference { aspect, effect, docker: docker.into(), here: here.into() });
    }

    fn capabilities(&mut self, posture: &Posture) {
        let sets = &posture.capabilities;
        let is_root = posture
            .ids
            .uid
            .map_or_else(|| posture.ids.user.as_deref().is_none_or(crate::security::is_root), |uid| uid == 0);
        // Docker's other users have none in force.
        let in_force: &[Capability] = if is_root { &DEFAULT_CAPABILITIES } else { &[] };
        for (aspect, default, here) in [
            ("Capabilities.Effective", in_force, &sets.effective),
            ("Capabilities.Bounding", &DEFAULT_CAPABILITIES, &sets.bounding),
        ] {
            let beyond = |these: &[Capability], those: &[Capability]| -> String {
                let beyond = these.iter().filter(|one| !those.contains(one));
                beyond.map(ToString::to_string).collect::<Vec<_>>().join(" ")
            };
            let (more, fewer) = (beyond(here, default), beyond(default, here));
            if !more.is_empty() {
                self.add(aspect, Effect::Looser, &format!("without {more}"), &format!("with {more}"));
            }
            if !fewer.is_empty() {
                self.add(aspect, Effect::Stricter, &format!("with {fewer}"), &format!("without {fewer}"));
            }
        }
    }

    fn seccomp(&mut self, posture: &Posture) {
        let docker = "the default profile";
        match (posture.seccomp.mode, posture.seccomp.profile.as_deref()) {
            (SeccompMode::Disabled, _) => self.add("Seccomp", Effect::Looser, docker, "every system call"),
            (SeccompMode::Strict, _) => self.add("Seccomp", Effect::Stricter, docker, "read, write and exit"),
            (SeccompMode::Filter, Some("default") | None) => {}
            (SeccompMode::Filter, Some(profile)) => self.add("Seccomp", Effect::Other, docker, profile),
        }
    }

    /// Paths that the host does not have need no protection.
    fn paths(&mut self, aspect: &'static str, how: &str, default: &[&str], here: &[String]) {
        for path in default.iter().filter(|path| Path::new(path).exists() && here.iter().all(|one| one != *path)) {
            self.add(aspect, Effect::Looser, &format!("{path} {how}"), &format!("{path} not {how}"));
        }
        for path in here.iter().filter(|path| !default.contains(&path.as_str())) {
            self.add(aspect, Effect::Stricter, &format!("{path} not {how}"), &format!("{path} {how}"));
        }
    }

    fn mounts(&mut self, mounts: &[MountPoint]) {
        for mount in mounts {
            let (at, read_only) = (&*mount.destination, mount.is_read_only());
            match at {
                "/sys" | "/sys/fs/cgroup" if !read_only => {
                    self.add("Mounts", Effect::Looser, &format!("{at} read-only"), &format!("{at} writable"));
                }
                "/" if read_only => self.add("Mounts", Effect::Stricter, "/ writable", "/ read-only"),
                _ if MOUNTS.contains(&at) => {}
                _ => {
                    let what =
                        if mount.root == "/" { mount.kind.clone() } else { format!("{}:{}", mount.kind, mount.root) };
                    let how = if read_only { "read-only" } else { "writable" };
                    // An empty filesystem in memory shows nothing of the host's.
                    let effect =
                        if mount.kind == "tmpfs" && mount.root == "/" { Effect::Other } else { Effect::Looser };
                    self.add("Mounts", effect, &format!("no {at}"), &format!("{at} ({what}, {how})"));
                }
            }
        }
    }

    fn namespaces(&mut self, posture: &Posture) {
        for (kind, namespace) in &posture.namespaces {
            let (here, docker) = (namespace.own, NAMESPACES.contains(&kind.as_str()));
            let words = |own| format!("{kind}: {}", if own { "its own" } else { "the host's" });
            if here != docker {
                let effect = if here { Effect::Stricter } else { Effect::Looser };
                self.add("Namespaces", effect, &words(docker), &words(here));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{Ids, Namespace, Seccomp, Sets};

    fn like_docker() -> Posture {
        let there =
            |paths: &[&str]| paths.iter().filter(|path| Path::new(path).exists()).map(|path| (*path).into()).collect();
        Posture {
            capabilities: Sets {
                effective: DEFAULT_CAPABILITIES.into(),
                bounding: DEFAULT_CAPABILITIES.into(),
                ..Sets::default()
            },
            seccomp: Seccomp { mode: SeccompMode::Filter, ..Seccomp::default() },
            masked_paths: there(&MASKED),
            readonly_paths: there(&READ_ONLY),
            mounts: vec![mount("/sys", "sysfs", "/", "ro"), mount("/", "overlay", "/", "rw")],
            namespaces: NAMESPACES.map(|kind| (kind.into(), Namespace { own: true, inode: None })).into(),
            ids: Ids { uid: Some(0), ..Ids::default() },
            ..Posture::default()
        }
    }

    fn mount(destination: &str, kind: &str, root: &str, how: &str) -> MountPoint {
        MountPoint { destination: destination.into(), kind: kind.into(), root: root.into(), options: vec![how.into()] }
    }

    #[test]
    fn docker_does_not_differ_from_itself() {
        assert_eq!(differences(&like_docker()), []);
    }

    #[test]
    fn each_difference_is_told() {
        use Effect::{Looser, Other, Stricter};
        type Change = fn(&mut Posture);
        let cases: [(&str, Effect, &str, Change); 12] = [
            ("Capabilities.Bounding", Looser, "SYS_ADMIN", |it| it.capabilities.bounding.push(Capability::SysAdmin)),
            ("Capabilities.Effective", Stricter, "CHOWN", |it| {
                it.capabilities.effective.retain(|one| *one != Capability::Chown)
            }),
            ("Capabilities.Effective", Looser, "KILL", |it| it.ids.uid = Some(7)),
            ("Seccomp", Looser, "every", |it| it.seccomp.mode = SeccompMode::Disabled),
            ("Seccomp", Other, "mine.json", |it| it.seccomp.profile = Some("mine.json".into())),
            ("NoNewPrivileges", Stricter, "true", |it| it.no_new_privileges = true),
            ("MaskedPaths", Stricter, "/etc/shadow", |it| it.masked_paths.push("/etc/shadow".into())),
            ("ReadonlyPaths", Looser, "/proc/sys not", |it| it.readonly_paths.retain(|path| path != "/proc/sys")),
            ("Mounts", Looser, "/sys writable", |it| it.mounts[0].options = vec!["rw".into()]),
            ("Mounts", Looser, "/home/me", |it| it.mounts.push(mount("/a", "ext4", "/home/me", "ro"))),
            ("Mounts", Other, "tmpfs", |it| it.mounts.push(mount("/run", "tmpfs", "/", "rw"))),
            ("Namespaces", Looser, "net: the host's", |it| {
                it.namespaces.insert("net".into(), Namespace { own: false, inode: None });
            }),
        ];
        for (aspect, effect, word, change) in cases {
            let mut posture = like_docker();
            change(&mut posture);
            let found = differences(&posture);
            let first = found.first().unwrap_or_else(|| panic!("{aspect} {word}"));
            assert_eq!((first.aspect, first.effect), (aspect, effect), "{found:?}");
            assert!(first.here.contains(word), "{found:?}");
        }
    }
}
