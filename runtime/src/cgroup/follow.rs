//! The cgroup of a container that has none of its own: the one that it was started in.

use std::fs;
use std::os::fd::AsFd;

use rbox_sys::cgroup;

use super::mount::{self, Mount};
use super::write;

/// Moves the process `pid`, which is in this process's cgroup, to the container's process `first`, where the user may.
///
/// Nothing is limited there for the container's sake, and between sessions that systemd made nobody but root moves
/// processes (cgroups(7), "Cgroup delegation containment"); so what is refused is left undone.
pub fn follow(pid: u32, first: u32) {
    let path = |of: &str| {
        let text = fs::read_to_string(format!("/proc/{of}/cgroup")).ok()?;
        mount::v2_path(&text).map(str::to_owned)
    };
    let first = first.to_string();
    if path(&first) == path("self") {
        return;
    }
    let Ok(Mount { dir, place: Some(place) }) = Mount::find_with(&first) else { return };
    if let Ok(there) = cgroup::open(dir.as_fd(), &place) {
        let _ = write(there.as_fd(), "cgroup.procs", &pid.to_string());
    }
}
