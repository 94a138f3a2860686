//! The cgroup of a container that has none of its own: the one that it was started in.

use std::fs;

use super::{Cgroup, mount};

/// Moves the process `pid`, which is in this process's cgroup, to the container's process `first`, where the user may.
///
/// Nothing is limited there for the container's sake, and between sessions that systemd made nobody but root moves
/// processes (cgroups(7), "Cgroup delegation containment"); so what is refused is left undone.
pub fn follow(pid: u32, first: u32) {
    let path = |of: &str| {
        let text = fs::read_to_string(format!("/proc/{of}/cgroup")).ok()?;
        mount::v2_path(&text).map(str::to_owned)
    };
    if path(&first.to_string()) != path("self") {
        let _ = Cgroup::of_process(first).and_then(|there| there.attach(pid));
    }
}
