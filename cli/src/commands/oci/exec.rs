//! `rbox oci exec`: one more process in a container.

use std::path::PathBuf;

use clap::Args;
use oci_spec::runtime::{Capabilities, Capability, Process};
use rbox_container::{Terminal, console_size};
use rbox_runtime::oci::{Execution, States};

use super::foreground::Foreground;
use super::{Ties, console};
use crate::failure::Failure;

#[derive(Debug, Args)]
pub(super) struct Exec {
    /// Where the command starts
    #[arg(long, value_name = "DIR")]
    cwd: Option<PathBuf>,

    /// Set a variable
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,

    /// Give the command a terminal
    #[arg(short, long)]
    tty: bool,

    /// Who the command runs as, by number
    #[arg(short, long, value_name = "UID[:GID]")]
    user: Option<String>,

    /// Supplementary groups, by number
    #[arg(short = 'g', long, value_name = "GID")]
    additional_gids: Vec<u32>,

    /// Read all of this from a file: the process object of a config.json
    #[arg(short, long, value_name = "FILE")]
    process: Option<PathBuf>,

    /// Give the command a capability more
    #[arg(short, long, value_name = "CAP")]
    cap: Vec<String>,

    /// Keep the command from gaining privileges
    #[arg(long)]
    no_new_privs: bool,

    /// Do not wait for the end
    #[arg(short, long)]
    detach: bool,

    #[command(flatten)]
    ties: Ties,

    /// The cgroup of the command, below the container's own: this version has none but that one, which is `/`
    #[arg(long, value_name = "PATH", value_parser = parse_cgroup)]
    #[allow(dead_code, reason = "there is one; the parser refuses all others")]
    cgroup: Option<ContainersOwn>,

    /// Also in a container that is paused
    #[arg(long)]
    ignore_paused: bool,

    /// The container's id, the command and its arguments
    #[arg(trailing_var_arg = true, required = true, num_args = 1.., value_names = ["ID", "COMMAND"])]
    words: Vec<String>,
}

impl Exec {
    pub(super) fn act(mut self, states: &States, debug: bool) -> Result<u8, Failure> {
        let id = self.words.remove(0);
        let container = states.find(&id)?;
        let process = match &self.process {
            Some(path) => read(path)?,
            None => self.process(container.process())?,
        };
        let foreground = Foreground::begin()?;
        let execution = Execution {
            process,
            pid_file: self.ties.pid_file,
            preserve_fds: self.ties.preserve_fds,
            ignore_paused: self.ignore_paused,
        };
        let mut running = container.exec(&execution)?;
        if debug {
            tell_affinity()?;
        }
        if let Some(socket) = self.ties.console_socket {
            console::send(&socket, &mut running)?;
        } else if self.detach && running.has_console() {
            return Err(Failure::new("a terminal without --console-socket needs this one: leave out --detach"));
        }
        if self.detach {
            running.release();
            return Ok(0);
        }
        foreground.wait(running)
    }

    /// The container's own process, with what the flags change.
    fn process(&self, mut process: Process) -> Result<Process, Failure> {
        if self.words.is_empty() {
            return Err(Failure::new("which command? Neither one nor --process was given"));
        }
        process.set_args(Some(self.words.clone())).set_terminal(Some(self.tty));
        let size = Terminal::of_caller()?.size();
        if self.tty && size.0 != 0 {
            process.set_console_size(console_size(size));
        }
        if let Some(cwd) = &self.cwd {
            process.set_cwd(cwd.clone());
        }
        let mut env = process.env().clone().unwrap_or_default();
        for variable in &self.env {
            let name = variable.split_once('=').map_or(variable.as_str(), |(name, _)| name);
            env.retain(|known| known.split_once('=').is_none_or(|(known, _)| known != name));
            env.push(variable.clone());
        }
        process.set_env(Some(env));
        if let Some(user) = &self.user {
            let (uid, gid) = user.split_once(':').unwrap_or((user, "0"));
            let number = |text: &str| {
                text.parse().map_err(|_| Failure::new(format!("--user {user:?}: expected numbers, UID or UID:GID")))
            };
            process.user_mut().set_uid(number(uid)?).set_gid(number(gid)?);
        }
        if !self.additional_gids.is_empty() {
            process.user_mut().set_additional_gids(Some(self.additional_gids.clone()));
        }
        if self.no_new_privs {
            process.set_no_new_privileges(Some(true));
        }
        let more = self.cap.iter().map(|name| capability(name)).collect::<Result<Capabilities, _>>()?;
        if !more.is_empty() {
            let mut sets = process.capabilities().clone().unwrap_or_default();
            let with = |set: &Option<Capabilities>| Some(set.iter().flatten().chain(&more).copied().collect());
            let (bounding, effective, permitted) =
                (with(sets.bounding()), with(sets.effective()), with(sets.permitted()));
            sets.set_bounding(bounding).set_effective(effective).set_permitted(permitted);
            process.set_capabilities(Some(sets));
        }
        Ok(process)
    }
}

/// The processors of this process, which the command began with: in youki's words, a bit each.
fn tell_affinity() -> Result<(), Failure> {
    let failed = |error| Failure::new(format!("cannot ask for the CPU affinity: {error}"));
    let processors = rbox_sys::sched::affinity().map_err(failed)?;
    let mut digits = vec![0_u32; processors.last().map_or(0, |last| last / 4) + 1];
    for processor in processors {
        digits[processor / 4] |= 1 << (processor % 4);
    }
    let digits: String = digits.iter().rev().filter_map(|digit| char::from_digit(*digit, 16)).collect();
    eprintln!("rbox: CPU affinity: 0x{digits}");
    Ok(())
}

/// `--cgroup /`.
#[derive(Debug, Clone, Copy)]
struct ContainersOwn;

fn parse_cgroup(path: &str) -> Result<ContainersOwn, &'static str> {
    match path {
        "/" => Ok(ContainersOwn),
        _ => Err("this version starts no command in a cgroup below the container's own"),
    }
}

fn capability(name: &str) -> Result<Capability, Failure> {
    let upper = name.to_ascii_uppercase();
    serde_json::from_value(upper.into())
        .map_err(|_| Failure::new(format!("--cap {name:?} is no capability (capabilities(7))")))
}

fn read(path: &PathBuf) -> Result<Process, Failure> {
    let failed = |error: std::io::Error| Failure::new(format!("cannot read {}: {error}", path.display()));
    rbox_runtime::oci::parse(&std::fs::read(path).map_err(failed)?).map_err(|error| failed(error.into()))
}
