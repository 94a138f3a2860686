//! A test that runs itself once more, inside namespaces of its own, and is judged by what it does there.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::command::read;

/// In a process that is inside.
pub(crate) const INSIDE: &str = "RBOX_TEST_INSIDE";

/// How often a line is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tries {
    /// Once: it holds, or it does not.
    One,
    /// Up to three times. That a line holds for somebody else proves the line; that he fails it now and then (pasta resets
    /// connections where the machine is busy) is his affair.
    OfPeer,
}

/// Runs a line: the test of this name, once more, by the command that enters with a program; and there the line itself.
#[track_caller]
pub(crate) fn judged(test: &str, tries: Tries, enter: impl Fn(&Path) -> Command, line: impl FnOnce() -> Result<()>) {
    if std::env::var_os(INSIDE).is_some() {
        line().expect("the line holds");
        return;
    }
    let program = std::env::current_exe().expect("/proc is mounted");
    let test = test.split_once("::").map_or(test, |(_, test)| test);
    let run = || ran_one(enter(&program).args(["--exact", test, "--include-ignored", "--nocapture"]));
    let again = if tries == Tries::OfPeer { 2 } else { 0 };
    if let Err(error) = (0..again).find_map(|_| run().ok()).map_or_else(run, Ok) {
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
