//! Fuzzing: hostile inputs for what reads bytes that somebody else wrote.
//!
//! A target is a function that must not panic, hang or exhaust memory, whatever it is given; what else must hold, it
//! asserts. It stands beside the code that it tries, as two tests that [`target!`] makes: `bounded`, a fixed number of
//! inputs that are the same each time, which takes a moment; and `long`, other inputs each time for a minute, or for as
//! many as the target says, which is ignored unless asked for (`cargo xtask test --long`, or `cargo test -p CRATE NAME
//! -- --include-ignored`).
//!
//! Inputs are made from seeds, which are good ones, by changing a few things at once. JSON is changed as JSON, or nearly
//! nothing would get past the first parser; where what is read keeps something in mind, an input is several messages.
//! Coverage is not measured, so this needs no compiler of its own.
//!
//! An input that fails is written to a file, whose name the failure says. Put into `fuzz/corpus/NAME/`, it is tried first
//! from then on.

mod bytes;
mod json;
mod messages;
mod random;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

pub use messages::{join, split};
pub use random::Random;

/// What inputs look like, and so how they are changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Anything.
    Bytes,
    /// A JSON document; each seed is one.
    Json,
    /// Messages one after the other, which [`join`] makes an input and [`split`] takes out of it.
    Messages,
}

/// For how long inputs are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// A fixed number of them, the same each time.
    Bounded,
    /// So many minutes' worth, others each time.
    Long(u32),
}

/// Of a bounded run.
const INPUTS: u32 = 1000;
const MINUTE: Duration = Duration::from_secs(60);
/// One input that takes longer counts as a hang. Builds for tests are slow, and machines may be busy.
const PATIENCE: Duration = Duration::from_secs(20);

/// Makes the tests `NAME::bounded` and `NAME::long`: `target!(NAME, Shape::…, [seeds], |input: &[u8]| …)`. The long
/// one takes a minute, or ten where that is `target!(ten_minutes NAME, …)`.
#[macro_export]
macro_rules! target {
    ($name:ident, $($rest:tt)*) => {
        $crate::target!(@ $name, 1, "long: a minute", $($rest)*);
    };
    (ten_minutes $name:ident, $($rest:tt)*) => {
        $crate::target!(@ $name, 10, "long: ten minutes", $($rest)*);
    };
    (@ $name:ident, $minutes:literal, $reason:literal, $shape:expr, $seeds:expr, $target:expr) => {
        mod $name {
            use super::*;

            #[test]
            fn bounded() {
                $crate::run(stringify!($name), $shape, &$seeds, $crate::Length::Bounded, $target);
            }

            #[test]
            #[ignore = $reason]
            fn long() {
                $crate::run(stringify!($name), $shape, &$seeds, $crate::Length::Long($minutes), $target);
            }
        }
    };
}

/// Gives the target the corpus called `name`, the seeds, and what is made of them.
pub fn run(name: &str, shape: Shape, seeds: &[impl AsRef<[u8]>], length: Length, target: impl Fn(&[u8])) {
    let mut seeds: Vec<Vec<u8>> = seeds.iter().map(|seed| seed.as_ref().to_vec()).collect();
    seeds.extend(corpus(name));
    let mut random = Random::new(match length {
        Length::Bounded => 1,
        Length::Long(_) => SystemTime::UNIX_EPOCH.elapsed().map_or(1, |time| time.as_nanos() as u64),
    });
    for seed in &seeds {
        give(name, &target, seed);
    }
    let documents = if shape == Shape::Json { json::parse(&seeds) } else { Vec::new() };
    let sequences: Vec<_> = seeds.iter().map(|seed| split(seed)).collect();
    let started = Instant::now();
    for made in 0.. {
        let done = match length {
            Length::Bounded => made == INPUTS,
            Length::Long(minutes) => started.elapsed() > minutes * MINUTE,
        };
        if done {
            break;
        }
        // Also what is no JSON any more.
        let input = match shape {
            Shape::Json if !random.one_in(8) => json::change(&documents, &mut random),
            Shape::Messages => messages::change(&sequences, &mut random),
            _ => bytes::change(&seeds, &mut random),
        };
        give(name, &target, &input);
    }
}

fn give(name: &str, target: &impl Fn(&[u8]), input: &[u8]) {
    let started = Instant::now();
    let panicked = catch_unwind(AssertUnwindSafe(|| target(input))).is_err();
    let took = started.elapsed();
    if panicked || took > PATIENCE {
        let path = std::env::temp_dir().join(format!("fuzz-{name}-{}", std::process::id()));
        let kept = std::fs::write(&path, input).map(|()| path.display().to_string());
        let how = if panicked { "panicked".to_owned() } else { format!("took {took:?}") };
        panic!("the target {name} {how}; the input is in {}", kept.unwrap_or_else(|error| error.to_string()));
    }
}

/// Inputs that have failed once.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    let source = std::env::var_os("RBOX_SOURCE").map(|root| PathBuf::from(root).join("fuzz"));
    let directory = source.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).to_owned());
    let entries = std::fs::read_dir(directory.join("corpus").join(name)).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths.iter().filter_map(|path| std::fs::read(path).ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn bounded_runs_are_all_the_same_and_their_inputs_are_not() {
        let inputs = |shape, seed: &str| {
            let seen = RefCell::new(Vec::new());
            run("none", shape, &[seed], Length::Bounded, |input| seen.borrow_mut().push(input.to_vec()));
            seen.into_inner()
        };
        for (shape, seed) in [
            (Shape::Bytes, "a:b:c\n"),
            (Shape::Json, r#"{"a": [1, "two", {"b": null}]}"#),
            (Shape::Messages, "\0\x03one\0\x05other\0\x0aand others\0\x06of all"),
        ] {
            let (once, again) = (inputs(shape, seed), inputs(shape, seed));
            assert!(once == again);
            assert!(once.iter().collect::<HashSet<_>>().len() > once.len() / 2, "{shape:?}");
        }
        let messages = join(&["one", "", "three"]);
        assert_eq!(split(&messages), [&b"one"[..], b"", b"three"]);
        assert_eq!(split(&messages[..messages.len() - 2]).last().map(Vec::len), Some(3), "it ends early");
        let documents = inputs(Shape::Json, r#"{"a": [1, "two", {"b": null}]}"#);
        let valid = documents.iter().filter(|input| serde_json::from_slice::<serde_json::Value>(input).is_ok()).count();
        assert!(valid > documents.len() * 3 / 4, "{valid} of {}", documents.len());
    }

    #[test]
    fn what_is_not_stood_is_found_and_kept() {
        let target = |input: &[u8]| assert!(!input.windows(2).any(|pair| pair == b"!!"), "two of them");
        let found = catch_unwind(|| run("test-of-itself", Shape::Bytes, &["one! and !two"], Length::Bounded, target));
        let message = *found.expect_err("it is found").downcast::<String>().expect("a message");
        let path = message.rsplit(' ').next().expect("a path");
        let input = std::fs::read(path).expect("kept");
        std::fs::remove_file(path).expect("there");
        assert!(input.windows(2).any(|pair| pair == b"!!"));
    }
}
