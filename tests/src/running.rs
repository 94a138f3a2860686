//! A program in the background: what it prints is waited for, and it never outlives its test.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::command::shown;
use crate::patience::LIMIT;
use crate::processes;
use crate::rbox::{code, wait};

/// The program, killed and reaped when this is dropped.
pub struct Running {
    child: Child,
    /// The command line, for messages.
    name: String,
    output: Receiver<Vec<u8>>,
    /// What it has printed after all that was waited for.
    printed: Vec<u8>,
}

impl Running {
    /// Starts `command` with nothing on stdin and its stdout for [`Running::expect`].
    pub fn start(command: &mut Command) -> Result<Self> {
        let name = shown(command);
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut child = child.with_context(|| format!("cannot start {name}"))?;
        let stdout = child.stdout.take().expect("piped");
        Ok(Self::new(child, name, stdout))
    }

    /// `child`, whose output is read from `stream`.
    pub(crate) fn new(child: Child, name: String, mut stream: impl Read + Send + 'static) -> Self {
        let (sender, output) = mpsc::channel();
        // Reads on when nobody waits for anything: the program must not be stopped by a full pipe.
        thread::spawn(move || {
            let mut buffer = [0; 1 << 14];
            while let Ok(length @ 1..) = stream.read(&mut buffer) {
                if sender.send(buffer[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { child, name, output, printed: Vec::new() }
    }

    /// Waits until this text appears after all that was waited for before; gives what stood before it.
    #[track_caller]
    pub fn expect(&mut self, text: &str) -> String {
        self.expect_within(LIMIT, text)
    }

    /// As [`Running::expect`], for what takes longer than anything else.
    #[track_caller]
    pub fn expect_within(&mut self, limit: Duration, text: &str) -> String {
        let started = Instant::now();
        let mut looked_at = 0;
        loop {
            let found = self.printed[looked_at..].windows(text.len()).position(|window| window == text.as_bytes());
            if let Some(at) = found {
                let before = String::from_utf8_lossy(&self.printed[..looked_at + at]).into_owned();
                self.printed.drain(..looked_at + at + text.len());
                return before;
            }
            // It may have begun in what is there and end in what comes.
            looked_at = (self.printed.len() + 1).saturating_sub(text.len());
            let why = match self.output.recv_timeout(limit.saturating_sub(started.elapsed())) {
                Ok(more) => {
                    self.printed.extend(more);
                    continue;
                }
                Err(RecvTimeoutError::Timeout) => format!("within {limit:?}"),
                Err(RecvTimeoutError::Disconnected) => "to the end".to_owned(),
            };
            let printed = String::from_utf8_lossy(&self.printed);
            panic!("{text:?} did not appear {why}; {} printed since: {printed:?}", self.name);
        }
    }

    /// Whether this text has come by now, after all that was waited for before; it still can be waited for.
    pub fn has_printed(&mut self, text: &str) -> bool {
        self.printed.extend(self.output.try_iter().flatten());
        self.printed.windows(text.len()).any(|window| window == text.as_bytes())
    }

    /// Sends a signal, by name, to the program (not to its process group).
    pub fn signal(&self, name: &str) -> Result<()> {
        processes::signal(self.child.id(), name)
    }

    /// The program's process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether the program has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("our own child can be waited for").is_some()
    }

    /// Ends the program by SIGKILL, as dropping this does.
    pub fn kill(self) {}

    /// Waits for the program's end; gives its exit status as a shell shows it.
    pub fn wait(&mut self) -> i32 {
        code(wait(&mut self.child, &self.name))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Running {
        Running::start(Command::new("sh").args(["-c", script])).expect("a shell")
    }

    #[test]
    fn texts_are_found_in_order_and_across_pieces() -> Result<()> {
        let mut running = shell("printf 'one tw'; sleep 0.2; printf 'o three'; exit 4");
        assert_eq!(running.expect("one"), "");
        assert_eq!(running.expect("two"), " ");
        assert_eq!(running.expect("three"), " ");
        assert_eq!(running.wait(), 4);
        assert!(running.has_ended());
        Ok(())
    }

    #[test]
    #[should_panic(expected = "\"two\" did not appear to the end; sh -c 'echo one' printed since: \"one\\n\"")]
    fn what_does_not_come_is_told_with_what_came() {
        shell("echo one").expect("two");
    }

    #[test]
    fn signals_and_the_status() -> Result<()> {
        let mut running = shell("trap 'exit 5' USR1; echo ready; while :; do sleep 0.05; done");
        running.expect("ready");
        assert!(!running.has_ended());
        running.signal("USR1")?;
        assert_eq!(running.wait(), 5);
        Ok(())
    }

    #[test]
    fn it_ends_when_dropped() {
        let entry = format!("RUNNING_TEST={}", std::process::id());
        let (name, value) = entry.split_once('=').expect("just made");
        let running = Running::start(Command::new("sleep").arg("1000").env(name, value)).expect("sleep");
        assert_eq!(crate::patience::until(|| processes::with_variable(&entry), |found| !found.is_empty()).len(), 1);
        running.kill();
        assert_eq!(processes::with_variable(&entry), Vec::<u32>::new());
    }
}
