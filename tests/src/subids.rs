//! Files of subordinate ids, which only who is root over those ids can remove.

use std::path::Path;
use std::process::{Command, Stdio};

/// Removes a tree, by unshare(1) of util-linux 2.38. Where that is not to be had, whoever made the scratch directory
/// cleans up.
pub(crate) fn remove(tree: &Path) {
    let mut remove = Command::new("unshare");
    remove.args(["--map-root-user", "--map-auto", "--", "rm", "-rf"]).arg(tree);
    let _ = remove.stdin(Stdio::null()).stderr(Stdio::null()).status();
}
