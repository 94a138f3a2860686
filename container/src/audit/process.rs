//! What /proc tells of a running workload (proc_pid_status(5), proc_pid_mountinfo(5)).

use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::MetadataExt;
use std::{fs, io};

use oci_spec::runtime::Capability;
use rbox_runtime::capabilities_of;
use rbox_types::mountinfo::unescape;
use rbox_types::{IdMap, IdRange};

use super::{Ids, MountPoint, Namespace, Posture, Seccomp, SeccompMode, Sets};

/// Of the process with this number, as the caller of rbox sees it.
pub(super) fn posture(pid: u32) -> io::Result<Posture> {
    let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}"));
    let status = read("status")?;
    let fields: HashMap<&str, &str> = status.lines().filter_map(|line| line.split_once(":\t")).collect();
    let mounts = Mounts::parse(&read("mountinfo")?);
    Ok(Posture {
        capabilities: sets(&fields),
        seccomp: seccomp(&fields),
        no_new_privileges: fields.get("NoNewPrivs") == Some(&"1"),
        label: label_of(&read("attr/current").unwrap_or_default(), &fs::read_to_string(OWN_LABEL).unwrap_or_default()),
        masked_paths: mounts.masked,
        readonly_paths: mounts.read_only,
        mounts: mounts.others,
        namespaces: namespaces(pid)?,
        ids: ids(&fields, map(&read("uid_map")?), map(&read("gid_map")?)),
    })
}

fn sets(fields: &HashMap<&str, &str>) -> Sets {
    let set = |name| -> Vec<Capability> {
        let bits = fields.get(name).and_then(|bits| u64::from_str_radix(bits, 16).ok());
        capabilities_of(bits.unwrap_or_default()).collect()
    };
    Sets {
        effective: set("CapEff"),
        permitted: set("CapPrm"),
        inheritable: set("CapInh"),
        bounding: set("CapBnd"),
        ambient: set("CapAmb"),
    }
}

fn seccomp(fields: &HashMap<&str, &str>) -> Seccomp {
    let mode = match fields.get("Seccomp") {
        Some(&"2") => SeccompMode::Filter,
        Some(&"1") => SeccompMode::Strict,
        _ => SeccompMode::Disabled,
    };
    Seccomp { mode, filters: fields.get("Seccomp_filters").and_then(|count| count.parse().ok()), profile: None }
}

/// Of this process.
const OWN_LABEL: &str = "/proc/self/attr/current";

/// AppArmor says "unconfined" of what it leaves alone, if need be after the name of a profile that leaves it so, and other
/// modules end their label with a NUL byte. SELinux has a context for everybody: who has rbox's `own` has none of a
/// container's.
fn label_of(text: &str, own: &str) -> Option<String> {
    let label = text.trim_end_matches(['\0', '\n']);
    let free = label.is_empty() || label == "unconfined" || label.ends_with(" (unconfined)") || text == own;
    (!free).then(|| label.to_owned())
}

fn namespaces(pid: u32) -> io::Result<BTreeMap<String, Namespace>> {
    let mut found = BTreeMap::new();
    for kind in ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"] {
        let inode = |whose: &str| fs::metadata(format!("/proc/{whose}/ns/{kind}")).map(|file| file.ino());
        // Kernels may be built without some kinds.
        let Ok(callers) = inode("self") else { continue };
        let inode = inode(&pid.to_string())?;
        found.insert(kind.to_owned(), Namespace { own: inode != callers, inode: Some(inode) });
    }
    Ok(found)
}

fn ids(fields: &HashMap<&str, &str>, uids: Option<IdMap>, gids: Option<IdMap>) -> Ids {
    // /proc shows the reader's ids, which the maps are from too.
    let inside = |map: &Option<IdMap>, outside: u32| map.as_ref()?.inside(outside);
    let numbers = |name| fields.get(name).into_iter().flat_map(|text| text.split_whitespace()).flat_map(str::parse);
    // Real, effective, saved, filesystem: the second one is who it acts as.
    let effective = |name| numbers(name).nth(1);
    Ids {
        user: None,
        uid: effective("Uid").and_then(|uid| inside(&uids, uid)),
        gid: effective("Gid").and_then(|gid| inside(&gids, gid)),
        groups: numbers("Groups").filter_map(|gid| inside(&gids, gid)).collect(),
        uid_map: uids,
        gid_map: gids,
    }
}

fn map(text: &str) -> Option<IdMap> {
    let range = |line: &str| {
        let mut numbers = line.split_whitespace().map(str::parse);
        let mut next = || numbers.next()?.ok();
        Some(IdRange { inside: next()?, outside: next()?, length: next()? })
    };
    IdMap::new(text.lines().map(range).collect::<Option<_>>()?).ok()
}

/// What is mounted, told apart by what it is for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Mounts {
    masked: Vec<String>,
    read_only: Vec<String>,
    others: Vec<MountPoint>,
}

/// A line of mountinfo.
struct Line<'a> {
    id: &'a str,
    parent: &'a str,
    device: &'a str,
    mount: MountPoint,
    /// Of the filesystem.
    options: &'a str,
}

impl<'a> Line<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (mount, filesystem) = line.split_once(" - ")?;
        let mut mount = mount.split(' ');
        let (id, parent, device, root) = (mount.next()?, mount.next()?, mount.next()?, mount.next()?);
        let (destination, options) = (mount.next()?, mount.next()?);
        let mut filesystem = filesystem.split(' ');
        let (kind, options_of_filesystem) = (filesystem.next()?, filesystem.nth(1)?);
        let mount = MountPoint {
            destination: unescape(destination),
            kind: kind.into(),
            root: unescape(root),
            options: options.split(',').map(Into::into).collect(),
        };
        Some(Self { id, parent, device, mount, options: options_of_filesystem })
    }

    /// Whether it is what rbox covers a path with: the null device over a file, a directory that can hold nothing over
    /// another.
    fn masks(&self) -> bool {
        let is_null = self.mount.root.ends_with("/null") && self.mount.destination != "/dev/null";
        let is_empty = self.mount.kind == "tmpfs" && self.options.split(',').any(|option| option == "nr_inodes=1");
        is_null || is_empty && self.mount.is_read_only()
    }

    /// Whether it shows what was there before, but read-only.
    fn makes_read_only(&self, parent: Option<&Self>) -> bool {
        let same = parent.is_some_and(|parent| {
            let below = self.mount.destination.strip_prefix(parent.mount.destination.trim_end_matches('/'));
            let place = below.map(|below| format!("{}{below}", parent.mount.root.trim_end_matches('/')));
            parent.device == self.device && place.as_ref() == Some(&self.mount.root)
        });
        same && self.mount.is_read_only()
    }
}

impl Mounts {
    fn parse(mountinfo: &str) -> Self {
        let lines: Vec<Line<'_>> = mountinfo.lines().filter_map(Line::parse).collect();
        let mut mounts = Self::default();
        for (at, line) in lines.iter().enumerate() {
            let destination = &line.mount.destination;
            // What another mount lies upon is not to be seen.
            if lines[at + 1..].iter().any(|later| later.mount.destination == *destination) {
                continue;
            }
            if line.masks() {
                mounts.masked.push(destination.clone());
            } else if line.makes_read_only(lines.iter().find(|other| other.id == line.parent)) {
                mounts.read_only.push(destination.clone());
            } else {
                mounts.others.push(line.mount.clone());
            }
        }
        mounts.masked.sort();
        mounts.read_only.sort();
        mounts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTINFO: &str = "\
900 800 0:50 / / rw,relatime - overlay none rw,lowerdir=/a
901 900 0:51 / /proc rw,nosuid - tmpfs none rw,size=1024k
902 901 0:52 / /proc rw,nosuid,nodev,noexec,relatime - proc proc rw
903 900 0:53 / /dev rw,nosuid - tmpfs tmpfs rw,size=65536k
904 903 0:6 /null /dev/null rw,nosuid - devtmpfs devtmpfs rw
905 902 0:52 /bus /proc/bus ro,nosuid,nodev,noexec,relatime - proc proc rw
906 902 0:6 /null /proc/keys rw,nosuid - devtmpfs devtmpfs rw
907 902 0:54 / /proc/acpi ro,relatime - tmpfs none ro,nr_inodes=1,mode=755
908 900 8:1 /home/me /a\\040dir ro,relatime master:1 - ext4 /dev/sda1 rw
909 900 0:55 / /empty ro - tmpfs none ro,nr_inodes=100
";

    #[test]
    fn mounts_by_what_they_are_for() {
        let mounts = Mounts::parse(MOUNTINFO);
        assert_eq!(mounts.masked, ["/proc/acpi", "/proc/keys"]);
        assert_eq!(mounts.read_only, ["/proc/bus"]);
        let seen: Vec<_> = mounts.others.iter().map(|mount| (&*mount.destination, &*mount.kind)).collect();
        let expected = [("/", "overlay"), ("/proc", "proc"), ("/dev", "tmpfs"), ("/dev/null", "devtmpfs")];
        assert_eq!(seen[..4], expected);
        assert_eq!(seen[4..], [("/a dir", "ext4"), ("/empty", "tmpfs")]);
        assert_eq!(mounts.others[4].root, "/home/me");
        assert!(mounts.others[4].is_read_only() && !mounts.others[0].is_read_only());
    }

    #[test]
    fn who_it_is() {
        let status = "Uid:\t100006\t100007\t100007\t100007\nGid:\t1000\t1000\t1000\t1000\nGroups:\t1000 100004 5 \n";
        let fields = status.lines().filter_map(|line| line.split_once(":\t")).collect();
        let maps = || map("         0       1000          1\n         1     100000      65536\n");
        let ids = ids(&fields, maps(), maps());
        assert_eq!((ids.uid, ids.gid, &*ids.groups, ids.outside()), (Some(8), Some(0), &[0, 5][..], Some(100_007)));
        assert_eq!(map("0 1000\n"), None);
    }

    #[test]
    fn of_this_process() {
        let posture = posture(std::process::id()).expect("its own");
        assert!(posture.namespaces.len() >= 7 && posture.namespaces.values().all(|namespace| !namespace.own));
        assert!(posture.mounts.iter().any(|mount| mount.destination == "/proc"));
        const CONTEXT: &str = "system_u:system_r:container_t:s0\0";
        for free in ["", "unconfined\n", "rbox (unconfined)\n"] {
            assert_eq!(label_of(free, "other"), None, "{free:?}");
        }
        assert_eq!(label_of(CONTEXT, CONTEXT), None);
        assert_eq!(label_of(CONTEXT, "other"), Some("system_u:system_r:container_t:s0".into()));
        assert_eq!(label_of("shut (enforce)\n", "unconfined\n"), Some("shut (enforce)".into()));
    }
}
