//! A person at a terminal: a pseudo-terminal, with a program of its own session on it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rbox_sys::tty::{self, Winsize};

use crate::rbox::{code, wait};

/// How long a text may take to appear.
const LIMIT: Duration = Duration::from_secs(20);

/// A terminal and the program on it.
pub struct Terminal {
    master: File,
    slave: OwnedFd,
    child: Child,
    seen: Arc<Mutex<Vec<u8>>>,
    read_up_to: usize,
}

impl Terminal {
    /// Starts `command` on a new terminal of this size, which is its stdin, stdout, stderr and controlling terminal.
    pub fn start(command: &Command, rows: u16, columns: u16) -> Result<Self> {
        let dev = File::open("/dev")?;
        let (master, slave) = tty::open_pty_at(dev.as_fd(), "ptmx").context("cannot make a terminal")?;
        tty::set_size(master.as_fd(), size(rows, columns))?;

        // setsid(1) makes its stdin the controlling terminal and then becomes the program.
        let mut on_terminal = Command::new("setsid");
        on_terminal.arg("--ctty").arg(command.get_program()).args(command.get_args()).env_clear();
        on_terminal.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        if let Some(dir) = command.get_current_dir() {
            on_terminal.current_dir(dir);
        }
        let end = || slave.try_clone().map(Stdio::from);
        let child = on_terminal.stdin(end()?).stdout(end()?).stderr(end()?).spawn()?;

        let seen = Arc::new(Mutex::new(Vec::new()));
        let (mut output, shared) = (File::from(master.try_clone()?), seen.clone());
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = output.read(&mut buffer) {
                shared.lock().expect("no holder panics").extend_from_slice(&buffer[..length]);
            }
        });
        Ok(Self { master: master.into(), slave, child, seen, read_up_to: 0 })
    }

    /// Types this text.
    pub fn send(&mut self, text: &str) -> Result<()> {
        Ok(self.master.write_all(text.as_bytes())?)
    }

    /// Waits until this text appears after all that was waited for before; gives what stood before it.
    #[track_caller]
    pub fn expect(&mut self, text: &str) -> String {
        let started = Instant::now();
        loop {
            let all = self.seen.lock().expect("no holder panics").clone();
            let new = &all[self.read_up_to..];
            if let Some(at) = new.windows(text.len()).position(|window| window == text.as_bytes()) {
                let before = String::from_utf8_lossy(&new[..at]).into_owned();
                self.read_up_to += at + text.len();
                return before;
            }
            let shown = String::from_utf8_lossy(new);
            assert!(started.elapsed() < LIMIT, "{text:?} did not appear; seen since: {shown:?}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Changes the terminal's size; the program gets SIGWINCH.
    pub fn resize(&self, rows: u16, columns: u16) -> Result<()> {
        Ok(tty::set_size(self.master.as_fd(), size(rows, columns))?)
    }

    /// The terminal's modes, in stty(1)'s form for programs.
    pub fn modes(&self) -> Result<String> {
        let mut stty = Command::new("stty");
        stty.arg("-g").stdin(Stdio::from(self.slave.try_clone()?));
        let output = stty.output().context("cannot start stty")?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Sends a signal, by name, to the program (not to its process group).
    pub fn signal(&self, name: &str) -> Result<()> {
        crate::command::run(Command::new("kill").args(["-s", name]).arg(self.child.id().to_string()))
    }

    /// Waits for the program's end; gives its exit status as a shell shows it.
    pub fn wait(&mut self) -> i32 {
        code(wait(&mut self.child, "the program on the terminal"))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_on_a_terminal() -> Result<()> {
        let mut command = Command::new("sh");
        command.env("PATH", "/usr/bin:/bin").env("PS1", "ready> ");
        let mut terminal = Terminal::start(&command, 30, 100)?;
        terminal.expect("ready> ");
        let before = terminal.modes()?;
        terminal.send("stty size; tty >/dev/null && echo ter''minal\n")?;
        terminal.expect("30 100");
        terminal.expect("terminal");
        terminal.resize(12, 34)?;
        terminal.send("stty size; stty raw; echo ra''w\n")?;
        terminal.expect("12 34");
        terminal.expect("raw");
        assert_ne!(terminal.modes()?, before);
        terminal.send("exit 7\r\n")?;
        assert_eq!(terminal.wait(), 7);
        Ok(())
    }
}
