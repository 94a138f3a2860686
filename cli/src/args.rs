//! The command line. Flags have Docker's and Podman's names wherever the thing is the same.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use rbox_rootless::Choice;

use crate::commands::{gc, images, info, inspect, ps, pull, rm, rmi, run};

/// Run containers without root, without a daemon.
#[derive(Debug, Parser)]
#[command(name = "rbox", version, max_term_width = 100)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags of every command.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Global {
    /// Where images and containers are kept [default: $XDG_DATA_HOME/rbox, ~/.local/share/rbox]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,

    /// Ids of containers: the ranges of /etc/subuid (subid), your own id alone (single), or whichever there is (auto)
    #[arg(long, global = true, value_name = "KIND", default_value = "auto", value_parser = parse_choice)]
    pub(crate) identity: Choice,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Download an image from a registry
    Pull(pull::Pull),
    /// Run a command in a new container
    Run(Box<run::Run>),
    /// List containers
    #[command(visible_alias = "list")]
    Ps(ps::Ps),
    /// List images
    Images(images::Images),
    /// Remove containers
    Rm(rm::Rm),
    /// Remove images
    Rmi(rmi::Rmi),
    /// Show all that is known of containers or images
    Inspect(inspect::Inspect),
    /// Remove what no image and no container needs
    Gc(gc::Gc),
    /// Show how rbox is set up for this user
    Info(info::Info),
    /// Check what this host lets rbox do, and say how to mend what it does not
    Doctor(info::Doctor),
    /// Show the version
    Version(info::Version),
}

fn parse_choice(text: &str) -> Result<Choice, String> {
    match text {
        "auto" => Ok(Choice::Auto),
        "subid" => Ok(Choice::Subid),
        "single" => Ok(Choice::Single),
        _ => Err("expected auto, subid or single".into()),
    }
}
