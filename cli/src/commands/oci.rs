//! `rbox oci`: the OCI runtime interface, with the verbs and flags that engines use with runc and crun.

mod console;
mod exec;
mod foreground;
mod log;
mod resources;
mod run;
mod spec;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use rbox_runtime::oci::{Bundle, Container, Creation, Rootless, States, features, parse_signal};
use serde_json::json;

use crate::commands::oci::log::{Format, Log};
use crate::failure::Failure;
use crate::output;

/// Flags before the verb, and the verb.
#[derive(Debug, Args)]
#[command(version = concat!(env!("CARGO_PKG_VERSION"), "\nspec: 1.3.0"))]
pub(crate) struct Oci {
    /// Also write failures to this file
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,

    /// How failures stand there
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: Format,

    /// Tell more, on standard error: of `exec`, the processors that it began on. Failures tell all without this
    #[arg(long)]
    debug: bool,

    #[command(flatten)]
    cgroups: Cgroups,

    #[command(subcommand)]
    verb: Verb,
}

/// How a container gets its cgroup.
#[derive(Debug, Clone, Copy, Args)]
struct Cgroups {
    /// Do without a cgroup and a device filter where none can be had and nothing asks for a cgroup: true, false, or unless
    /// the caller is the host's root (auto)
    #[arg(long, value_name = "WHEN", default_value = "auto", value_parser = parse_rootless)]
    rootless: Rootless,

    /// Have systemd make the container's cgroup, a scope: linux.cgroupsPath is then slice:prefix:name
    #[arg(long)]
    systemd_cgroup: bool,
}

fn parse_rootless(text: &str) -> Result<Rootless, &'static str> {
    match text {
        "true" => Ok(Rootless::Yes),
        "false" => Ok(Rootless::No),
        "auto" => Ok(Rootless::Auto),
        _ => Err("expected true, false or auto"),
    }
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Create a container from a bundle; its workload waits for `start`
    Create(Create),
    /// Run the workload of a container that was created
    Start(OneId),
    /// Create and start
    Run(run::Run),
    /// Print a container's state
    State(OneId),
    /// Run one more process in a container
    Exec(exec::Exec),
    /// Send a signal to a container's first process
    Kill(Kill),
    /// Remove a container
    Delete(Delete),
    /// Stop all processes of a container for a while
    Pause(OneId),
    /// Let them go on
    Resume(OneId),
    /// Change the limits of a container
    Update(Box<resources::Update>),
    /// Print what a container uses
    Events(resources::Events),
    /// List the processes of a container
    Ps(resources::Ps),
    /// Print all containers
    List(List),
    /// Print what this runtime recognizes
    Features,
    /// Write an example of a bundle's config.json
    Spec(spec::Example),
}

/// How to create.
#[derive(Debug, Args)]
struct Create {
    /// The container's id
    id: String,

    /// The bundle's directory
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    bundle: PathBuf,

    #[command(flatten)]
    ties: Ties,

    /// Change the root by chroot(2): where the old one cannot be pivoted away from, as on an initramfs
    #[arg(long)]
    no_pivot: bool,

    /// Leave the workload the session keyring of the caller
    #[arg(long)]
    no_new_keyring: bool,
}

/// What ties a process to the engine.
#[derive(Debug, Args)]
struct Ties {
    /// Write the process's id to this file
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,

    /// Send the terminal's master to this socket
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,

    /// Hand this many descriptors, from 3 on, to the process
    #[arg(long, value_name = "N", default_value_t = 0)]
    preserve_fds: u32,
}

#[derive(Debug, Args)]
struct OneId {
    /// The container's id
    id: String,
}

#[derive(Debug, Args)]
struct Kill {
    /// The container's id
    id: String,

    /// A signal's name or number
    #[arg(default_value = "TERM")]
    signal: String,

    /// Send it to every process
    #[arg(short, long)]
    all: bool,
}

impl Kill {
    fn act(self, states: &States) -> Result<(), Failure> {
        let (container, signal) = (states.find(&self.id)?, parse_signal(&self.signal)?);
        let killed = if self.all { container.kill_all(signal) } else { container.kill(signal) };
        Ok(killed?)
    }
}

#[derive(Debug, Args)]
struct Delete {
    /// The container's id
    id: String,

    /// Kill it if it runs; that there is none is no failure
    #[arg(short, long)]
    force: bool,
}

#[derive(Debug, Args)]
struct List {
    /// table or json
    #[arg(short, long, default_value = "table")]
    format: output::Format,

    /// Print ids alone
    #[arg(short, long)]
    quiet: bool,
}

/// runc's and crun's status for a failure of their own.
const FAILED: u8 = 1;

impl Oci {
    /// `root` is where the states are.
    pub(crate) fn act(self, root: Option<PathBuf>) -> Result<u8, Failure> {
        let log = Log::new(self.log, self.log_format);
        let states = root.map_or_else(States::of_this_user, |root| Ok(States::at(root))).map_err(Failure::from);
        states.and_then(|states| self.verb.act(&states, self.cgroups, self.debug)).map_err(|mut failure| {
            failure.status = FAILED;
            log.write(&failure);
            failure.into_error()
        })
    }
}

impl Verb {
    fn act(self, states: &States, cgroups: Cgroups, debug: bool) -> Result<u8, Failure> {
        match self {
            Self::Create(create) => {
                let (created, console) = create.act(states, cgroups)?;
                console::hand_over(console, created)?.running.release();
            }
            Self::Start(one) => states.find(&one.id)?.start()?,
            Self::Run(run) => return run.act(states, cgroups),
            Self::Exec(exec) => return exec.act(states, debug),
            Self::State(one) => output::json(&states.find(&one.id)?.state())?,
            Self::Kill(kill) => kill.act(states)?,
            Self::Pause(one) => states.find(&one.id)?.pause()?,
            Self::Resume(one) => states.find(&one.id)?.resume()?,
            Self::Update(update) => update.act(states)?,
            Self::Events(events) => events.act(states)?,
            Self::Ps(ps) => ps.act(states)?,
            Self::Delete(delete) => match states.find(&delete.id) {
                Err(rbox_runtime::oci::Error::Missing(_)) if delete.force => _ = states.clear(&delete.id)?,
                container => container?.delete(delete.force)?,
            },
            Self::Features => output::json(&features())?,
            Self::Spec(example) => example.act()?,
            Self::List(list) => list.print(&states.list()?)?,
        }
        Ok(0)
    }
}

impl Create {
    /// Gives also the socket that waits for a terminal.
    fn act(self, states: &States, cgroups: Cgroups) -> Result<(rbox_runtime::oci::Created, Option<PathBuf>), Failure> {
        let bundle = Bundle::read(&self.bundle)?;
        let terminal = bundle.spec.process().as_ref().and_then(|process| process.terminal()).unwrap_or(false);
        if !terminal && self.ties.console_socket.is_some() {
            return Err(Failure::new("--console-socket is for a bundle whose process has a terminal"));
        }
        let creation = Creation {
            id: self.id,
            bundle,
            pid_file: self.ties.pid_file,
            preserve_fds: self.ties.preserve_fds,
            no_pivot: self.no_pivot,
            new_keyring: !self.no_new_keyring,
            rootless: cgroups.rootless,
            systemd_cgroup: cgroups.systemd_cgroup,
            now: Timestamp::now().to_string(),
        };
        Ok((states.create(&creation)?, self.ties.console_socket))
    }
}

impl List {
    fn print(&self, containers: &[Container]) -> Result<(), Failure> {
        if self.quiet {
            return Ok(containers.iter().try_for_each(|container| output::line(container.id()))?);
        }
        if self.format == output::Format::Json {
            let states: Vec<_> = containers.iter().map(Container::state).collect();
            return Ok(output::json(&json!(states))?);
        }
        let rows = containers.iter().map(|container| {
            [
                container.id().to_owned(),
                container.pid().unwrap_or(0).to_string(),
                container.status().to_string(),
                container.bundle().display().to_string(),
                container.created().to_owned(),
                container.owner().to_string(),
            ]
        });
        Ok(output::table(["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"], &rows.collect::<Vec<_>>())?)
    }
}
