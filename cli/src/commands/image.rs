//! `rbox image`: the verbs of images by their long names.

use clap::{Args, Subcommand};
use rbox_container::{Engine, Kind};

use super::{exists, history, images, inspect, prune, pull, rmi, tag};
use crate::failure::Failure;

#[derive(Debug, Args)]
pub(crate) struct Image {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Download an image from a registry
    Pull(Box<pull::Pull>),
    /// List images
    #[command(visible_alias = "list")]
    Ls(Box<images::Images>),
    /// Show all that is known of images
    Inspect(Box<inspect::What>),
    /// Say by the exit status whether an image is there: 0, or 1
    Exists(Box<exists::Exists>),
    /// Give an image more names
    Tag(tag::Tag),
    /// Take names away from an image
    Untag(tag::Untag),
    /// Show what an image was made by
    History(history::History),
    /// Remove images
    #[command(visible_alias = "remove")]
    Rm(Box<rmi::Rmi>),
    /// Remove what no image needs, or all images that no container uses
    Prune(Box<prune::PruneImages>),
}

impl Image {
    pub(crate) fn act(self, engine: &Engine) -> Result<u8, Failure> {
        match self.verb {
            Verb::Pull(pull) => pull.act(engine)?,
            Verb::Ls(images) => images.act(engine)?,
            Verb::Inspect(inspect) => return inspect.act(engine, Kind::Image),
            Verb::Exists(exists) => return exists.act(engine, Kind::Image),
            Verb::Tag(tag) => tag.act(engine)?,
            Verb::Untag(untag) => untag.act(engine)?,
            Verb::History(history) => history.act(engine)?,
            Verb::Rm(rmi) => return rmi.act(engine),
            Verb::Prune(prune) => return prune.act(engine),
        }
        Ok(0)
    }
}
