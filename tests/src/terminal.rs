//! A person at a terminal: a pseudo-terminal, with a program of its own session on it.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use rbox_sys::tty;

use crate::command::shown;
use crate::running::Running;

/// A terminal and the program on it.
pub struct Terminal {
    program: Running,
    master: File,
    slave: OwnedFd,
    modes_at_start: String,
}

impl Terminal {
    /// Starts `command` on a new terminal of this size, which is its stdin, stdout, stderr and controlling terminal.
    pub fn start(command: &Command, rows: u16, columns: u16) -> Result<Self> {
        let dev = File::open("/dev")?;
        let (master, slave) = tty::open_pty_at(dev.as_fd(), "ptmx").context("cannot make a terminal")?;
        tty::set_size(master.as_fd(), tty::winsize(rows, columns))?;

        // setsid(1) makes its stdin the controlling terminal and then becomes the program.
        let mut on_terminal = Command::new("setsid");
        on_terminal.arg("--ctty").arg(command.get_program()).args(command.get_args()).env_clear();
        on_terminal.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        if let Some(dir) = command.get_current_dir() {
            on_terminal.current_dir(dir);
        }
        let modes_at_start = modes(&slave)?;
        let end = || slave.try_clone().map(Stdio::from);
        let output = File::from(master.try_clone()?);
        let child = on_terminal.stdin(end()?).stdout(end()?).stderr(end()?).spawn()?;
        let program = Running::new(child, shown(command), output);
        Ok(Self { program, master: master.into(), slave, modes_at_start })
    }

    /// Types this text.
    pub fn send(&mut self, text: &str) -> Result<()> {
        Ok(self.master.write_all(text.as_bytes())?)
    }

    /// Waits until this text appears after all that was waited for before; gives what stood before it.
    #[track_caller]
    pub fn expect(&mut self, text: &str) -> String {
        self.program.expect(text)
    }

    /// Changes the terminal's size; the program gets SIGWINCH.
    pub fn resize(&self, rows: u16, columns: u16) -> Result<()> {
        Ok(tty::set_size(self.master.as_fd(), tty::winsize(rows, columns))?)
    }

    /// The terminal's modes, in stty(1)'s form for programs.
    pub fn modes(&self) -> Result<String> {
        modes(&self.slave)
    }

    /// The modes from before the program was there to change them.
    pub fn modes_at_start(&self) -> &str {
        &self.modes_at_start
    }

    /// Sends a signal, by name, to the program (not to its process group).
    pub fn signal(&self, name: &str) -> Result<()> {
        self.program.signal(name)
    }

    /// Waits for the program's end; gives its exit status as a shell shows it.
    pub fn wait(&mut self) -> i32 {
        self.program.wait()
    }
}

fn modes(slave: &OwnedFd) -> Result<String> {
    let mut stty = Command::new("stty");
    stty.arg("-g").stdin(Stdio::from(slave.try_clone()?));
    let output = stty.output().context("cannot start stty")?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
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
        terminal.send("stty size; tty >/dev/null && echo ter''minal\n")?;
        terminal.expect("30 100");
        terminal.expect("terminal");
        terminal.resize(12, 34)?;
        terminal.send("stty size; stty raw; echo ra''w\n")?;
        terminal.expect("12 34");
        terminal.expect("raw");
        assert_ne!(terminal.modes()?, terminal.modes_at_start());
        terminal.send("exit 7\r\n")?;
        assert_eq!(terminal.wait(), 7);
        Ok(())
    }
}
