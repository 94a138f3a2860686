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
const SHORT: [u8; 6] = *b"lmvhpP";

/// `T`'s flags, or what `T` is without any.
#[derive(Debug, Default)]
pub(super) struct Described<T>(pub(super) T);

/// Whether they may be among this program's arguments.
fn may_be_given() -> bool {
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    let next = words.iter().skip(1).map(|word| word.as_os_str()).chain([OsStr::new("")]);
    words.iter().zip(next).any(|(word, next)| is_uncommon(word) || is_shares(word, next))
}

/// Whether this is `-c` with a number. Nearly every `-c` is a shell's.
fn is_shares(word: &OsStr, next: &OsStr) -> bool {
    let is_number = |word: &[u8]| !word.is_empty() && word.iter().all(u8::is_ascii_digit);
    let [b'-', letters @ ..] = word.as_encoded_bytes() else { return false };
    let Some(at) = letters.iter().position(|letter| *letter == b'c').filter(|_| !letters.starts_with(b"-")) else {
        return false;
    };
    match &letters[at + 1..] {
        [] => is_number(next.as_encoded_bytes()),
        [b'=', number @ ..] | number => is_number(number),
    }
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
            ["--ulimit", "--ulimit=host", "-l", "-m1g", "-itv", "-v/a:/b", "--help", "-h", "help", "--bogus", "--rmm"]
        {
            assert!(is_uncommon(OsStr::new(uncommon)), "{uncommon}");
        }
        let shares = |word: &str, next: &str| is_shares(OsStr::new(word), OsStr::new(next));
        assert!(shares("-c", "512") && shares("-c512", "") && shares("-itc=512", "x") && shares("-itc", "5"));
        assert!(!shares("-c", "echo 1") && !shares("-c", "") && !shares("-i", "5") && !shares("--cpus", "5"));
    }
}
