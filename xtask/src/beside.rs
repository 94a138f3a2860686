//! A program that runs while others do: one that takes an hour however fast the machine is, and measures no time.

use std::fs::File;
use std::io::{self, Seek};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rbox_tests::command::shown;
use rbox_tests::patience::ended_within;

use crate::test::ended_well;

/// The program, which is ended when this is dropped.
pub(crate) struct Beside {
    child: Child,
    program: String,
    started: Instant,
    said: File,
}

impl Beside {
    /// Starts it; on the processors all others go first. What it says is kept.
    pub(crate) fn start(command: &Command) -> Result<Self> {
        let mut nice = Command::new("nice");
        nice.arg(command.get_program()).args(command.get_args()).stdin(Stdio::null());
        if let Some(dir) = command.get_current_dir() {
            nice.current_dir(dir);
        }
        let said = tempfile::tempfile()?;
        nice.stdout(said.try_clone()?).stderr(said.try_clone()?);
        let program = shown(&nice);
        let child = nice.spawn().with_context(|| format!("cannot run {program}"))?;
        Ok(Self { child, program, started: Instant::now(), said })
    }

    /// Waits for its end and prints what it has said; whether it ended well, and before `limit`.
    pub(crate) fn passes(mut self, limit: Duration) -> bool {
        // Perhaps it was done long ago.
        let left = limit.saturating_sub(self.started.elapsed()).max(Duration::from_secs(1));
        let ended = ended_within(&mut self.child, left);
        if let Err(error) = self.said.rewind().and_then(|()| io::copy(&mut self.said, &mut io::stdout())) {
            println!("what it has said cannot be read: {error}");
        }
        ended_well(&self.program, self.started, ended)
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        // Unless it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
