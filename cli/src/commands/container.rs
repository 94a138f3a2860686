//! `rbox container`: the verbs of containers by their long names.

use clap::Subcommand;
use rbox_container::{Engine, Kind};

use super::{
    attach, cp, create, diff, exec, exists, export, inspect, kill, logs, pause, port, prune, ps, rename, rm, run,
    start, stats, stop, top, wait,
};
use crate::args::{Args, Command, Global};
use crate::failure::Failure;

#[derive(Debug, clap::Args)]
pub(crate) struct Container {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run a command in a new container
    Run(Box<run::Run>),
    /// Make a container that can be started
    Create(Box<create::Create>),
    /// Start containers that do not run
    Start(Box<start::Start>),
    /// Have containers end, and wait for that
    Stop(Box<stop::Stop>),
    /// Stop containers where they run, and start them
    Restart(Box<stop::Restart>),
    /// Have all processes of containers stand still
    Pause(Box<pause::Pause>),
    /// Let paused containers go on
    Unpause(Box<pause::Unpause>),
    /// Show what a container that runs prints, and let it have standard input
    Attach(Box<attach::Attach>),
    /// Run one more command in a container that runs
    Exec(Box<exec::Exec>),
    /// Show what containers have printed
    Logs(Box<logs::Logs>),
    /// List containers
    #[command(visible_aliases = ["ps", "list"])]
    Ls(Box<ps::Ps>),
    /// Show all that is known of containers
    Inspect(Box<inspect::What>),
    /// Say by the exit status whether a container is there: 0, or 1
    Exists(Box<exists::Exists>),
    /// Show the processes of a container
    Top(Box<top::Top>),
    /// Show what containers use
    Stats(Box<stats::Stats>),
    /// Show the ports of a container that are published
    Port(Box<port::Port>),
    /// Copy files from a container or into one
    Cp(Box<cp::Cp>),
    /// Show which files a container has added, changed and deleted
    Diff(Box<diff::Diff>),
    /// Write all files of a container to a tar archive
    Export(Box<export::Export>),
    /// Wait until containers have ended, and print how
    Wait(Box<wait::Wait>),
    /// Send a signal to containers
    Kill(Box<kill::Kill>),
    /// Give a container another name
    Rename(Box<rename::Rename>),
    /// Remove containers
    Rm(Box<rm::Rm>),
    /// Remove all containers that do not run
    Prune(Box<prune::PruneContainers>),
}

impl Container {
    pub(crate) fn act(self, global: Global) -> Result<u8, Failure> {
        let driver = global.driver()?;
        let engine = |global: Global| Engine::open(global.root, global.identity, driver);
        let command = match self.verb {
            Verb::Run(run) => Command::Run(run),
            Verb::Create(create) => Command::Create(create),
            Verb::Start(start) => Command::Start(start),
            Verb::Stop(stop) => Command::Stop(stop),
            Verb::Restart(restart) => Command::Restart(restart),
            Verb::Pause(pause) => Command::Pause(pause),
            Verb::Unpause(unpause) => Command::Unpause(unpause),
            Verb::Attach(attach) => Command::Attach(attach),
            Verb::Exec(exec) => Command::Exec(exec),
            Verb::Logs(logs) => Command::Logs(logs),
            Verb::Ls(ps) => Command::Ps(ps),
            Verb::Top(top) => Command::Top(top),
            Verb::Stats(stats) => Command::Stats(stats),
            Verb::Port(port) => Command::Port(port),
            Verb::Cp(cp) => Command::Cp(cp),
            Verb::Diff(diff) => Command::Diff(diff),
            Verb::Export(export) => Command::Export(export),
            Verb::Wait(wait) => Command::Wait(wait),
            Verb::Kill(kill) => Command::Kill(kill),
            Verb::Rename(rename) => Command::Rename(rename),
            Verb::Rm(rm) => Command::Rm(rm),
            // What there is for containers alone.
            Verb::Inspect(inspect) => return inspect.act(&engine(global)?, Kind::Container),
            Verb::Exists(exists) => return exists.act(&engine(global)?, Kind::Container),
            Verb::Prune(prune) => return prune.act(&engine(global)?),
        };
        super::act(Args { global, command })
    }
}
