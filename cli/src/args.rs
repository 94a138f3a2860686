//! The command line. Flags have Docker's and Podman's names wherever the thing is the same.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{ArgMatches, FromArgMatches, Parser, Subcommand};
use rbox_rootless::Choice;

use crate::commands::{
    attach, audit, container, create, events, exec, gc, generate, healthcheck, image, images, info, inspect, kill,
    logs, oci, pause, port, ps, pull, rename, rm, rmi, run, start, stats, stop, top, wait,
};

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

/// Declares the verbs: what each is for, its name, its other name, and its flags.
///
/// The flags of a verb are described to clap only when that verb is asked for. All of them would cost every start of a
/// container a tenth of a millisecond, and that is why this is not clap's own derive.
macro_rules! verbs {
    ($($(#[doc = $about:literal])+ $name:literal $(| $alias:literal)? => $verb:ident($flags:ty),)+) => {
        #[derive(Debug)]
        pub(crate) enum Command {
            $($(#[doc = $about])+ $verb(Box<$flags>),)+
        }

        impl Subcommand for Command {
            fn augment_subcommands(command: clap::Command) -> clap::Command {
                command$(.subcommand(
                    clap::Command::new($name)
                        .about(concat!($($about),+).trim_start())
                        $(.visible_alias($alias))?
                        // Again: clap takes what is said of the flags for what the verb does.
                        .defer(|verb| {
                            <$flags as clap::Args>::augment_args(verb).about(concat!($($about),+).trim_start())
                        }),
                ))+
            }

            fn augment_subcommands_for_update(command: clap::Command) -> clap::Command {
                Self::augment_subcommands(command)
            }

            fn has_subcommand(name: &str) -> bool {
                matches!(name, $($name)|+)
            }
        }

        impl FromArgMatches for Command {
            fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
                match matches.subcommand() {
                    $(Some(($name, flags)) => Ok(Self::$verb(Box::new(<$flags>::from_arg_matches(flags)?))),)+
                    _ => Err(clap::Error::new(ErrorKind::MissingSubcommand)),
                }
            }

            fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
                *self = Self::from_arg_matches(matches)?;
                Ok(())
            }
        }
    };
}

verbs! {
    /// Download an image from a registry
    "pull" => Pull(pull::Pull),
    /// Run a command in a new container
    "run" => Run(run::Run),
    /// Run one more command in a container that runs
    "exec" => Exec(exec::Exec),
    /// Show what containers have printed
    "logs" => Logs(logs::Logs),
    /// Make a container that can be started
    "create" => Create(create::Create),
    /// Start containers that do not run
    "start" => Start(start::Start),
    /// Have containers end, and wait for that
    "stop" => Stop(stop::Stop),
    /// Stop containers where they run, and start them
    "restart" => Restart(stop::Restart),
    /// Have all processes of containers stand still
    "pause" => Pause(pause::Pause),
    /// Let paused containers go on
    "unpause" => Unpause(pause::Unpause),
    /// Show what a container that runs prints, and let it have standard input
    "attach" => Attach(attach::Attach),
    /// List containers
    "ps" | "list" => Ps(ps::Ps),
    /// List images
    "images" => Images(images::Images),
    /// Show the processes of a container
    "top" => Top(top::Top),
    /// Show what containers use
    "stats" => Stats(stats::Stats),
    /// Show the ports of a container that are published
    "port" => Port(port::Port),
    /// Wait until containers have ended, and print how
    "wait" => Wait(wait::Wait),
    /// Send a signal to containers
    "kill" => Kill(kill::Kill),
    /// Give a container another name
    "rename" => Rename(rename::Rename),
    /// Remove containers
    "rm" => Rm(rm::Rm),
    /// Remove images
    "rmi" => Rmi(rmi::Rmi),
    /// Check the health of a container
    "healthcheck" => Healthcheck(healthcheck::Healthcheck),
    /// Show what happens to containers and images
    "events" => Events(events::Events),
    /// Show all that is known of containers or images
    "inspect" => Inspect(inspect::Inspect),
    /// Deal with containers: the verbs above by their long names, and prune
    "container" => Container(container::Container),
    /// Deal with images: the verbs above by their long names, and prune
    "image" => Image(image::Image),
    /// Show what a container may do and see, and how that differs from Docker's default
    "audit" => Audit(audit::Audit),
    /// Generate units of systemd's that start containers
    "generate" => Generate(generate::Generate),
    /// Remove what no image and no container needs
    "gc" => Gc(gc::Gc),
    /// Show how rbox is set up for this user
    "info" => Info(info::Info),
    /// Check what this host lets rbox do, and say how to mend what it does not
    "doctor" => Doctor(info::Doctor),
    /// Be a container runtime for an engine: the OCI runtime interface
    "oci" => Oci(oci::Oci),
    /// Show the version
    "version" => Version(info::Version),
}

/// Engines call a runtime by its path, with the runtime's own verbs right behind it: called `rbox-oci`, this binary
/// understands that.
pub(crate) fn words(given: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut words: Vec<OsString> = given.collect();
    let name = words.first().and_then(|path| Path::new(path).file_name());
    if name.is_some_and(|name| name == "rbox-oci") {
        // In messages too, which show how a command is used: there is no `rbox-oci oci`.
        words.splice(0..1, ["rbox".into(), "oci".into()]);
    }
    words
}

fn parse_choice(text: &str) -> Result<Choice, String> {
    match text {
        "auto" => Ok(Choice::Auto),
        "subid" => Ok(Choice::Subid),
        "single" => Ok(Choice::Single),
        _ => Err("expected auto, subid or single".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn called_by_a_runtimes_name() {
        let words = |given: &[&str]| super::words(given.iter().map(OsString::from));
        assert_eq!(words(&["/usr/bin/rbox-oci", "state", "x"]), ["rbox", "oci", "state", "x"]);
        assert_eq!(words(&["/usr/bin/rbox", "state"]), ["/usr/bin/rbox", "state"]);
        let wrong =
            Args::try_parse_from(words(&["rbox-oci", "state", "--wrong"])).expect_err("no such flag").to_string();
        assert!(wrong.contains("Usage: rbox oci state"), "{wrong}");
    }

    #[test]
    fn every_verb_is_described_without_contradiction() {
        use clap::CommandFactory;
        let mut all = Args::command();
        let verbs: Vec<String> = all.get_subcommands().map(|verb| verb.get_name().to_owned()).collect();
        assert!(verbs.len() >= 11 && verbs.iter().all(|verb| Command::has_subcommand(verb)));
        let abouts = |all: &clap::Command| -> Vec<String> {
            all.get_subcommands().filter_map(|verb| Some(verb.get_about()?.to_string())).collect()
        };
        let listed = abouts(&all);
        all.build();
        // Of `help` nothing is listed before.
        assert_eq!(abouts(&all)[..verbs.len()], listed);
        all.debug_assert();
    }
}
