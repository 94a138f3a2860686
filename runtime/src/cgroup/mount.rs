//! Where the cgroup2 filesystem is, and a process's place in it.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rbox_sys::cgroup;
use rbox_types::mountinfo::unescape;

use super::Error;

/// The cgroup2 filesystem, as it is mounted here.
#[derive(Debug)]
pub(super) struct Mount {
    /// Its topmost directory.
    pub dir: OwnedFd,
    /// The process's cgroup, below the mount and without a leading `/`; `None`: it is not below the mount.
    pub place: Option<String>,
}

impl Mount {
    /// Looks it up in /proc/thread-self/mountinfo, with this process's own place. On hybrid hosts that is the one at
    /// /sys/fs/cgroup/unified.
    pub(super) fn find() -> Result<Self, Error> {
        Self::find_with("thread-self")
    }

    /// As [`find`](Self::find), with the place of the process that /proc calls so.
    pub(super) fn find_with(process: &str) -> Result<Self, Error> {
        let none = |why: String| Error::NoMount(why);
        let mountinfo = read(Path::new("/proc/thread-self/mountinfo")).map_err(none)?;
        let cgroups = read(&Path::new("/proc").join(process).join("cgroup")).map_err(none)?;
        let mounts = parse(&mountinfo);
        // A mount may be covered by another one; what opens is what counts.
        for (root, point) in &mounts {
            if let Ok(dir) = cgroup::open_mount(point) {
                return Ok(Self { dir, place: place(&cgroups, root) });
            }
        }
        Err(none(if mounts.is_empty() {
            match v1_controllers(&cgroups).as_slice() {
                [] => "it is not mounted".into(),
                _ => "this host has cgroup v1 only, which is not supported".into(),
            }
        } else {
            "its mount is covered by another".into()
        }))
    }
}

/// Whether cgroup v1 has this controller, so that v2 cannot.
pub(super) fn is_bound_to_v1(controller: &str) -> bool {
    let name = if controller == "io" { "blkio" } else { controller };
    fs::read_to_string("/proc/thread-self/cgroup").is_ok_and(|text| v1_controllers(&text).contains(&name))
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

/// (root within the filesystem, mount point) of each cgroup2 mount (proc_pid_mountinfo(5)); /sys/fs/cgroup first, and
/// of several at one point the topmost.
fn parse(mountinfo: &str) -> Vec<(String, PathBuf)> {
    let mut mounts: Vec<(String, PathBuf)> = mountinfo
        .lines()
        .rev()
        .filter_map(|line| {
            let (mount, filesystem) = line.split_once(" - ")?;
            let mut fields = mount.split(' ').skip(3);
            let (root, point) = (fields.next()?, fields.next()?);
            (filesystem.split(' ').next() == Some("cgroup2")).then(|| (unescape(root), unescape(point).into()))
        })
        .collect();
    mounts.sort_by_key(|(_, point)| point != Path::new("/sys/fs/cgroup"));
    mounts
}

/// The path that /proc/PID/cgroup has for version 2: the line `0::` (cgroups(7)).
pub(super) fn v2_path(cgroups: &str) -> Option<&str> {
    cgroups.lines().find_map(|line| line.strip_prefix("0::"))
}

/// That path below a mount of `root`.
fn place(cgroups: &str, root: &str) -> Option<String> {
    let path = v2_path(cgroups)?;
    let below = if root == "/" { path } else { path.strip_prefix(root)? };
    // "/.." is what lies outside the cgroup namespace; a removed cgroup is marked so.
    let reachable = (below.is_empty() || below.starts_with('/'))
        && !below.split('/').any(|name| name == "..")
        && !below.ends_with(" (deleted)");
    reachable.then(|| below.trim_matches('/').to_owned())
}

/// The controllers of version 1 that /proc/thread-self/cgroup lists.
fn v1_controllers(cgroups: &str) -> Vec<&str> {
    let lists = cgroups.lines().filter_map(|line| line.split(':').nth(1));
    lists.flat_map(|list| list.split(',')).filter(|name| !name.is_empty() && !name.starts_with("name=")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:3 - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 master:1 - cgroup2 cgroup2 rw
90 31 0:38 /a /mnt/a\\040b rw,relatime - cgroup2 cgroup2 rw,nsdelegate
";

    #[test]
    fn mounts_are_found_in_mountinfo() {
        let mounts =
            |text| parse(text).into_iter().map(|(root, at)| format!("{root} {}", at.display())).collect::<Vec<_>>();
        assert_eq!(mounts(HYBRID), ["/a /mnt/a b", "/ /sys/fs/cgroup/unified"]);
        let plain = format!(
            "{HYBRID}99 31 0:38 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n100 99 0:38 /x /y rw - cgroup2 c rw\n"
        );
        assert_eq!(mounts(&plain)[0], "/ /sys/fs/cgroup");
    }

    #[test]
    fn the_own_cgroup_is_below_the_mount_or_unknown() {
        let own = "4:memory:/x\n1:cpu,cpuacct:/\n0::/user.slice/session-1.scope\n";
        assert_eq!(place(own, "/").as_deref(), Some("user.slice/session-1.scope"));
        assert_eq!(place(own, "/user.slice").as_deref(), Some("session-1.scope"));
        assert_eq!(place(own, "/user"), None);
        assert_eq!(place("0::/\n", "/").as_deref(), Some(""));
        assert_eq!(place("0::/../other\n", "/"), None);
        assert_eq!(place("4:memory:/x\n", "/"), None);
        assert_eq!(
            v1_controllers("4:memory:/x\n1:cpu,cpuacct:/\n9:name=systemd:/\n0::/\n"),
            ["memory", "cpu", "cpuacct"]
        );
    }
}
