//! `type: cgroup`: the hierarchy that the container sees.
//!
//! Only who owns the cgroup namespace may mount cgroup2 (cgroup_namespaces(7)). A container without one of its own sees
//! the cgroup that it is in, bound, as if that were all.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rbox_sys::{cgroup, dir, mount};

use crate::plan::MountStep;

/// Where cgroup2 is mounted, on hosts with it alone and on those that have version 1 as well.
const PLACES: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];

/// Instead of a filesystem of this kind, which the kernel has refused with this error.
pub(crate) fn or_bind(kind: &str, step: &MountStep, refused: io::Error) -> io::Result<OwnedFd> {
    // EBUSY: with version 1 besides, its controllers may be in use.
    let is_refused = matches!(refused.kind(), ErrorKind::PermissionDenied | ErrorKind::ResourceBusy);
    if kind != "cgroup2" || !is_refused {
        return Err(refused);
    }
    let Some(path) = own_cgroup() else { return Err(refused) };
    let clone = mount::clone_tree(dir::cwd(), &path, false)?;
    mount::set_attributes(clone.as_fd(), step.early_attributes(), step.options.clear_attributes(), false)?;
    Ok(clone)
}

/// The directory of this process's own cgroup.
fn own_cgroup() -> Option<PathBuf> {
    let text = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = path_in_hierarchy(&text)?;
    let place = PLACES.map(Path::new).into_iter().find(|place| cgroup::open_mount(place).is_ok())?;
    Some(place.join(path))
}

/// From the text of /proc/self/cgroup (cgroups(7)), relative. One outside this process's cgroup namespace is none.
fn path_in_hierarchy(text: &str) -> Option<&str> {
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    path.split('/').all(|part| part != "..").then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_this_process_is() {
        assert_eq!(path_in_hierarchy("12:cpu:/x\n0::/a b/c\n"), Some("a b/c"));
        assert_eq!(path_in_hierarchy("0::/\n"), Some(""));
        assert_eq!(path_in_hierarchy("0::/../other\n"), None);
        assert_eq!(path_in_hierarchy("3:memory:/\n"), None);
    }
}
