//! Files of subordinate ids, which only who is root over those ids can remove.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::command::read;
use crate::host;

/// Removes a tree, by unshare(1) of util-linux 2.38.
pub fn remove(tree: &Path) -> Result<()> {
    let mut remove = Command::new("unshare");
    remove.arg("--map-root-user");
    if host::has_subordinate_ids() {
        remove.arg("--map-auto");
    }
    read(remove.args(["--", "rm", "-rf"]).arg(tree)).map(drop)
}
