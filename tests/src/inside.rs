//! A test that runs itself once more, inside namespaces of its own, and is judged by what it does there.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::command::read;

/// In a process that is inside.
pub(crate) const INSIDE: &str = "RBOX_TEST_INSIDE";

/// Runs a line: the test of this name, once more, by the command that enters with a program; and there the line itself.
#[track_caller]
pub(crate) fn judged(test: &str, enter: impl FnOnce(&Path) -> Command, line: impl FnOnce() -> Result<()>) {
    if std::env::var_os(INSIDE).is_some() {
        line().expect("the line holds");
        return;
    }
    let program = std::env::current_exe().expect("/proc is mounted");
    let test = test.split_once("::").map_or(test, |(_, test)| test);
    let mut command = enter(&program);
    command.args(["--exact", test, "--include-ignored", "--nocapture"]);
    if let Err(error) = ran_one(&mut command) {
        panic!("{error}");
    }
}

fn ran_one(command: &mut Command) -> Result<()> {
    let said = read(command)?;
    if !said.contains("test result: ok. 1 passed") {
        bail!("not one test:\n{said}");
    }
    Ok(())
}
