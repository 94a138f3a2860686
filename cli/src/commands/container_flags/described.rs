//! Flags that are described to clap only where they may have been given.
//!
//! Each description costs the start of a container two microseconds, and most runs have none of these flags.

use std::ffi::OsStr;

use clap::{ArgMatches, Args, Command, FromArgMatches};

/// Options after `run` with which none of the flags of `T` need be known. Any other word that looks like an option, even if
/// it is the workload's, makes them known: so that they are understood, or that clap has all names to say which one might
/// have been meant.
const COMMON: [&str; 10] =
    ["--rm", "--interactive", "--tty", "--init", "--env", "--name", "--user", "--workdir", "--root", "--pull"];

/// Letters of the short flags that are not described; and of -h, which shows all.
const SHORT: [u8; 5] = *b"lvhpP";

/// `T`'s flags, or what `T` is without any.
#[derive(Debug, Default)]
pub(super) struct Described<T>(pub(super) T);

/// Whether they may be among this program's arguments.
fn may_be_given() -> bool {
    std::env::args_os().skip(1).any(|word| is_uncommon(&word))
}

fn is_uncommon(word: &OsStr) -> bool {
    let word = word.as_encoded_bytes();
    match (word, word.strip_prefix(b"--")) {
        (b"help" | b"--help", _) => true,
        (_, Some(b"")) => false,
        (_, Some(_)) => {
            let name = word.split(|byte| *byte == b'=').next().unwrap_or(word);
            COMMON.iter().all(|common| common.as_bytes() != name)
        }
        ([b'-', letters @ ..], None) => letters.iter().any(|letter| SHORT.contains(letter)),
        _ => false,
    }
}

impl<T: Args + Default> Args for Described<T> {
    fn augment_args(command: Command) -> Command {
        if may_be_given() { T::augment_args(command) } else { command }
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<T: Args + Default> FromArgMatches for Described<T> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        if may_be_given() { T::from_arg_matches(matches).map(Self) } else { Ok(Self::default()) }
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_need_no_description() {
        for common in ["run", "alpine", "true", "--rm", "-it", "-e", "--env=A=--label", "-c", "--", "-", "--name=x"] {
            assert!(!is_uncommon(OsStr::new(common)), "{common}");
        }
        for uncommon in
            ["--ulimit", "--ulimit=host", "-l", "-itv", "-v/a:/b", "--help", "-h", "help", "--bogus", "--rmm"]
        {
            assert!(is_uncommon(OsStr::new(uncommon)), "{uncommon}");
        }
    }
}
