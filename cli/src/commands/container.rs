//! `rbox container`: the verbs of containers by their long names.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use rbox_container::{Engine, Kind};

use super::{
    attach, create, exec, exists, inspect, kill, logs, pause, port, prune, ps, rename, rm, run, start, stats, stop,
    top, wait,
};
use crate::failure::Failure;

#[derive(Debug, Args)]
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
    pub(crate) fn act(
        self,
        root: Option<PathBuf>,
        engine: impl FnOnce() -> Result<Engine, rbox_container::Error>,
    ) -> Result<u8, Failure> {
        match self.verb {
            Verb::Run(run) => return run.act(&engine()?),
            Verb::Create(create) => create.act(&engine()?)?,
            Verb::Start(start) => return start.act(&engine()?),
            Verb::Stop(stop) => return stop.act(&engine()?),
            Verb::Restart(restart) => return restart.act(&engine()?),
            Verb::Pause(pause) => return pause.act(&engine()?),
            Verb::Unpause(unpause) => return unpause.act(&engine()?),
            Verb::Attach(attach) => return attach.act(&engine()?),
            Verb::Exec(exec) => return exec.act(root),
            Verb::Logs(logs) => return logs.act(&engine()?),
            Verb::Ls(ps) => ps.act(&engine()?)?,
            Verb::Inspect(inspect) => return inspect.act(&engine()?, Kind::Container),
            Verb::Exists(exists) => return exists.act(&engine()?, Kind::Container),
            Verb::Top(top) => top.act(&engine()?)?,
            Verb::Stats(stats) => stats.act(&engine()?)?,
            Verb::Port(port) => port.act(&engine()?)?,
            Verb::Wait(wait) => return wait.act(&engine()?),
            Verb::Kill(kill) => return kill.act(&engine()?),
            Verb::Rename(rename) => rename.act(&engine()?)?,
            Verb::Rm(rm) => return rm.act(&engine()?),
            Verb::Prune(prune) => return prune.act(&engine()?),
        }
        Ok(0)
    }
}
