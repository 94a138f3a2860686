//! `rbox generate`

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{env, fs};

use clap::{Args, Subcommand};
use rbox_container::units::{Caller, RESTART_WORDS, ServiceOptions, Unit, UnitError, UnitOptions};
use rbox_container::{Engine, Error};
use rbox_rootless::Choice;

use crate::commands::environment::completed;
use crate::failure::Failure;
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct Generate {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Print a unit of systemd's that runs a container, or one that starts all containers which are to run after a boot
    Systemd(Box<Systemd>),
}

#[derive(Debug, Args)]
struct Systemd {
    /// Call the unit by the container's name, and not by its id
    #[arg(short, long)]
    name: bool,

    /// Write the unit to a file in the current directory, and print its path
    #[arg(short, long)]
    files: bool,

    /// How to print: json for an object with the unit's name and text, or path
    #[arg(long, value_name = "FORMAT")]
    format: Option<Json>,

    /// The unit rbox-restart.service, which starts the containers of --restart always, and those of unless-stopped that
    /// nobody has stopped
    #[arg(
        long,
        conflicts_with_all = [
            "name", "new", "stop_timeout", "restart_policy", "restart_sec", "container_prefix", "separator", "container",
        ]
    )]
    all: bool,

    /// Have each start make the container anew (not there yet)
    #[arg(long)]
    new: bool,

    /// Seconds until the container is killed, where that is not its own time
    #[arg(short = 't', long, visible_alias = "time", value_name = "SECONDS")]
    stop_timeout: Option<u32>,

    /// Seconds that the start may take
    #[arg(long, value_name = "SECONDS")]
    start_timeout: Option<u32>,

    /// When systemd starts it again
    #[arg(long, value_name = "WHEN", default_value = "on-failure", value_parser = RESTART_WORDS)]
    restart_policy: String,

    /// Seconds until it does
    #[arg(long, value_name = "SECONDS")]
    restart_sec: Option<u32>,

    /// What the unit's name begins with; empty for nothing
    #[arg(long, value_name = "PREFIX", default_value = "container")]
    container_prefix: String,

    /// What stands between that and the container's name or id
    #[arg(long, value_name = "TEXT", default_value = "-", allow_hyphen_values = true)]
    separator: String,

    /// Do not say in the unit what has made it
    #[arg(long)]
    no_header: bool,

    /// A unit that is started before
    #[arg(long, value_name = "UNIT")]
    after: Vec<String>,

    /// A unit that is started with it
    #[arg(long, value_name = "UNIT")]
    wants: Vec<String>,

    /// A unit that it cannot be without
    #[arg(long, value_name = "UNIT")]
    requires: Vec<String>,

    /// Set a variable for rbox; without a value, your own
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,

    /// The container's name or the beginning of its id
    #[arg(required_unless_present = "all")]
    container: Option<String>,
}

/// Of `--format` the one value that Podman has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Json {
    Json,
}

impl Generate {
    pub(crate) fn act(self, engine: &Engine, identity: Choice) -> Result<(), Failure> {
        let Verb::Systemd(systemd) = self.verb;
        systemd.act(engine, identity)
    }
}

impl Systemd {
    fn act(self, engine: &Engine, identity: Choice) -> Result<(), Failure> {
        if self.new {
            return Err(Failure::new(
                "--new is not there in this version: a unit starts a container that has been made, by run -d or create",
            ));
        }
        let caller = Caller {
            binary: env::current_exe().map_err(|error| Failure::new(format!("cannot find this program: {error}")))?,
            flags: flags(engine.store().root(), identity)?,
            version: (!self.no_header).then_some(env!("CARGO_PKG_VERSION")),
        };
        let options = UnitOptions {
            wants: self.wants,
            after: self.after,
            requires: self.requires,
            env: self.env.iter().filter_map(|variable| completed(variable)).collect(),
            start_timeout: self.start_timeout,
        };
        let unit = match self.container {
            None => engine.restart_unit(&options, &caller)?,
            Some(container) => {
                let service = ServiceOptions {
                    by_name: self.name,
                    prefix: self.container_prefix,
                    separator: self.separator,
                    restart: self.restart_policy,
                    restart_sec: self.restart_sec,
                    stop_timeout: self.stop_timeout,
                };
                engine.container_unit(&container, &service, &options, &caller)?
            }
        };
        let result = if self.files { written(&unit)?.display().to_string() } else { unit.text };
        match self.format {
            Some(Json::Json) => {
                let name = unit.name.trim_end_matches(".service");
                Ok(output::json(&BTreeMap::from([(name, result)]))?)
            }
            None if self.files => Ok(output::line(&result)?),
            None => Ok(output::text(&result)?),
        }
    }
}

/// Those by which rbox finds this store, called by a systemd that has other variables than this process: that of the
/// system has no HOME.
fn flags(root: &Path, identity: Choice) -> Result<Vec<String>, Failure> {
    let text = root.to_str().ok_or_else(|| Error::from(UnitError::Path(root.to_owned())))?;
    let mut flags = vec!["--root".to_owned(), text.to_owned()];
    if identity != Choice::Auto {
        flags.extend(["--identity".to_owned(), identity.to_string()]);
    }
    Ok(flags)
}

/// Writes the unit's file; gives its path.
fn written(unit: &Unit) -> Result<PathBuf, Failure> {
    let failed = |error| Failure::new(format!("cannot write {} in the current directory: {error}", unit.name));
    let path = env::current_dir().map_err(failed)?.join(&unit.name);
    fs::write(&path, &unit.text).map_err(failed)?;
    Ok(path)
}
