//! The command line. Flags have Docker's and Podman's names wherever the thing is the same.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser};
use rbox_rootless::Choice;
use rbox_types::StorageDriver;

use crate::commands::{
    attach, audit, container, cp, create, diff, events, exec, export, gc, generate, healthcheck, history, image,
    images, info, inspect, kill, logs, oci, pause, port, ps, pull, rename, rm, rmi, run, start, stats, stop, tag, top,
    unshare, update, volume, wait,
};
use crate::failure::Failure;

/// What was said.
#[derive(Debug)]
pub(crate) struct Args {
    pub(crate) global: Global,
    pub(crate) command: Command,
}

/// Run containers without root, without a daemon.
#[derive(Debug, Parser)]
#[command(name = "rbox", version, max_term_width = 100, subcommand_required = true, arg_required_else_help = true)]
struct Head {
    #[command(flatten)]
    global: Global,
}

impl Args {
    /// The words, of which the first is the program.
    pub(crate) fn parse(words: Vec<OsString>) -> Result<Self, clap::Error> {
        let mut line = Self::line(words.get(1));
        let mut matches = line.try_get_matches_from_mut(words)?;
        Self::of(&mut matches).map_err(|error| error.format(&mut line))
    }

    /// The line that begins with this word.
    fn line(first: Option<&OsString>) -> clap::Command {
        Command::describe(Head::command(), first.and_then(|word| word.to_str()))
    }

    fn of(matches: &mut ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self { command: Command::of(matches)?, global: Global::from_arg_matches_mut(matches)? })
    }
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

    /// What makes one tree of an image's layers: the kernel's overlay (overlay), rbox's own (fuse), or a copy of the image for
    /// each container (copy) [default: $RBOX_STORAGE_DRIVER, the best one that works]
    #[arg(long, global = true, value_name = "DRIVER")]
    pub(crate) storage_driver: Option<StorageDriver>,
}

impl Global {
    /// What the line says, or the environment.
    pub(crate) fn driver(&self) -> Result<Option<StorageDriver>, Failure> {
        const NAME: &str = "RBOX_STORAGE_DRIVER";
        let said = std::env::var(NAME).ok().filter(|_| self.storage_driver.is_none());
        let of_environment = said.filter(|word| !word.is_empty()).map(|word| word.parse()).transpose();
        let of_environment = of_environment.map_err(|error: String| Failure::new(format!("{NAME}: {error}")))?;
        Ok(self.storage_driver.or(of_environment))
    }
}

/// Declares the verbs: what each is for, its name, its other name, and its flags.
///
/// Where the line begins with a verb, clap hears of that verb alone, else of all, and of the flags of that one which is asked
/// for. All of it would cost every start of a container two tenths of a millisecond, and that is why this is not clap's own
/// derive.
macro_rules! verbs {
    ($($(#[doc = $about:literal])+ $name:literal $(| $alias:literal)? => $verb:ident($flags:ty),)+) => {
        #[derive(Debug)]
        pub(crate) enum Command {
            $($(#[doc = $about])+ $verb(Box<$flags>),)+
        }

        impl Command {
            /// Adds the verbs that may follow: the one that the line begins with, or all.
            fn describe(mut line: clap::Command, first: Option<&str>) -> clap::Command {
                let first = first.filter(|word| matches!(*word, $($name $(| $alias)?)|+));
                $(if first.is_none_or(|word| matches!(word, $name $(| $alias)?)) {
                    line = line.subcommand(
                        clap::Command::new($name)
                            .about(concat!($($about),+).trim_start())
                            $(.visible_alias($alias))?
                            // Again: clap takes what is said of the flags for what the verb does.
                            .defer(|verb| {
                                <$flags as clap::Args>::augment_args(verb).about(concat!($($about),+).trim_start())
                            }),
                    );
                })+
                line
            }

            fn of(matches: &mut ArgMatches) -> Result<Self, clap::Error> {
                let (name, mut flags) =
                    matches.remove_subcommand().ok_or_else(|| clap::Error::new(ErrorKind::MissingSubcommand))?;
                match &*name {
                    $($name => Ok(Self::$verb(Box::new(<$flags>::from_arg_matches_mut(&mut flags)?))),)+
                    _ => Err(clap::Error::new(ErrorKind::InvalidSubcommand)),
                }
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
    /// Change what containers may use
    "update" => Update(update::Update),
    /// Show what containers use
    "stats" => Stats(stats::Stats),
    /// Show the ports of a container that are published
    "port" => Port(port::Port),
    /// Copy files from a container or into one
    "cp" => Cp(cp::Cp),
    /// Show which files a container has added, changed and deleted
    "diff" => Diff(diff::Diff),
    /// Write all files of a container to a tar archive
    "export" => Export(export::Export),
    /// Run a program of this host as root of the ids that containers have
    "unshare" => Unshare(unshare::Unshare),
    /// Wait until containers have ended, and print how
    "wait" => Wait(wait::Wait),
    /// Send a signal to containers
    "kill" => Kill(kill::Kill),
    /// Give a container another name
    "rename" => Rename(rename::Rename),
    /// Remove containers
    "rm" => Rm(rm::Rm),
    /// Give an image more names
    "tag" => Tag(tag::Tag),
    /// Take names away from an image
    "untag" => Untag(tag::Untag),
    /// Show what an image was made by
    "history" => History(history::History),
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
    /// Deal with volumes: make, list, show, remove, export and import them
    "volume" => Volume(volume::Volume),
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
    if is_called(words.first(), "rbox-oci") {
        // In messages too, which show how a command is used: there is no `rbox-oci oci`.
        words.splice(0..1, ["rbox".into(), "oci".into()]);
    }
    words
}

/// Whether the program, which its first word says, is called so.
pub(crate) fn is_called(program: Option<&OsString>, name: &str) -> bool {
    program.and_then(|path| Path::new(path).file_name()).is_some_and(|called| called == name)
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
        let wrong = Args::parse(words(&["rbox-oci", "state", "--wrong"])).expect_err("no such flag").to_string();
        assert!(wrong.contains("Usage: rbox oci state"), "{wrong}");
    }

    #[test]
    fn every_verb_is_described_without_contradiction() {
        let mut all = Args::line(None);
        let verbs: Vec<String> = all.get_subcommands().map(|verb| verb.get_name().to_owned()).collect();
        assert!(verbs.len() >= 30);
        let abouts = |all: &clap::Command| -> Vec<String> {
            all.get_subcommands().filter_map(|verb| Some(verb.get_about()?.to_string())).collect()
        };
        let listed = abouts(&all);
        all.build();
        // Of `help` nothing is listed before.
        assert_eq!(abouts(&all)[..verbs.len()], listed);
        all.debug_assert();
    }

    #[test]
    fn the_verb_that_the_line_begins_with_is_as_it_is_among_all() {
        let help = |line: &mut clap::Command, verb: &str| -> String {
            line.build();
            line.find_subcommand_mut(verb).expect("described").render_long_help().to_string()
        };
        let verbs: Vec<String> = Args::line(None).get_subcommands().map(|verb| verb.get_name().to_owned()).collect();
        for verb in verbs {
            let mut alone = Args::line(Some(&verb.clone().into()));
            assert_eq!(alone.get_subcommands().count(), 1, "{verb}");
            assert_eq!(help(&mut alone, &verb), help(&mut Args::line(None), &verb));
        }
        assert_eq!(Args::line(Some(&"list".into())).get_subcommands().count(), 1);
        for word in ["--root", "help", "rn", "-h", ""] {
            assert!(Args::line(Some(&word.into())).get_subcommands().count() > 1, "{word}");
        }
    }

    #[test]
    fn flags_of_every_command_on_either_side_of_the_verb() {
        let parse = |line: &str| Args::parse(line.split(' ').map(OsString::from).collect());
        for line in ["rbox --root /x ps -q", "rbox ps --root /x -q", "rbox list -q --root=/x"] {
            let args = parse(line).expect("a good line");
            assert_eq!(args.global.root.as_deref(), Some(Path::new("/x")), "{line}");
            assert!(matches!(args.command, Command::Ps(_)));
        }
        for (line, words) in [
            ("rbox rn alpine", "a similar subcommand exists"),
            ("rbox --root /x", "rbox [OPTIONS] <COMMAND>"),
            ("rbox run", "Usage: rbox run <IMAGE>"),
        ] {
            let error = parse(line).expect_err(line).to_string();
            assert!(error.contains(words), "{line}: {error}");
        }
    }
}
