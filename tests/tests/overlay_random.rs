//! Overlays: whatever is done to whatever layers, the kernel's overlay and rbox's say the same to each step, show the same then,
//! and leave the same to whoever mounts it next.
//!
//! A case that fails is said in words, as short as it can be made, and with the seed: `RBOX_TEST_SEED=N` has the same ones
//! tried. What failed once is below, in words, and stays there.

use std::env;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use proptest::array::uniform3;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use rbox_tests::calls;
use rbox_tests::overlay::steps::{self, Links, Steps};
use rbox_tests::overlay::{self, Backend, Overlay};
use rbox_tests::patience;

/// Layers, the upper one first, and what is done to them.
#[derive(Debug, Clone)]
struct Case {
    layers: Vec<String>,
    /// A user without capabilities, and not root.
    as_user: bool,
    steps: Vec<String>,
}

/// What came of a case.
#[derive(Debug)]
struct Seen {
    /// Of each step.
    said: Vec<String>,
    /// Through the mount; then through a new one.
    shown: String,
    shown_anew: String,
    /// What the kernel makes of the upper directory.
    left: String,
}

const WHO: u32 = 1;

fn seen(backend: Backend, case: &Case) -> Result<Seen> {
    let [upper, lowers @ ..] = &case.layers[..] else { bail!("no layers") };
    let lowers: Vec<&str> = lowers.iter().map(String::as_str).collect();
    // A user has somewhere to begin.
    let owner = if case.as_user { format!("dir . owner={WHO}:{WHO}\n") } else { String::new() };
    let mut overlay = Overlay::over(backend, &lowers, &(owner + upper))?;
    let (mut said, mut now) = (Vec::new(), backend);
    let is_break = |step: &String| step == "remount" || step == "hand-over";
    for steps in case.steps.split_inclusive(is_break) {
        let taken = || {
            let mut taker = Steps::default();
            let steps = steps.iter().filter(|step| !is_break(step));
            Ok(steps.map(|step| taker.take(step)).collect::<Vec<_>>())
        };
        said.extend(if case.as_user { calls::as_user(WHO, WHO, taken)? } else { taken()? });
        match steps.last().map(String::as_str) {
            Some("remount") => overlay.remount()?,
            // Of rbox's work the kernel goes on with, and the other way round.
            Some("hand-over") => {
                now = if now == backend { Backend::Kernel } else { backend };
                overlay = overlay.handed_to(now)?;
            }
            _ => continue,
        }
        said.push("done".to_owned());
    }
    let shown = steps::all(Links::Unseen)?;
    let overlay = overlay.handed_to(backend)?;
    let shown_anew = steps::all(Links::Seen)?;
    let overlay = overlay.handed_to(Backend::Kernel)?;
    let left = steps::all(Links::Seen)?;
    overlay.unmount()?;
    drop(overlay);
    overlay::reap()?;
    Ok(Seen { said, shown, shown_anew, left })
}

/// Whether a line of what is seen is the same. What rbox says otherwise than the kernel, and why
/// (docs/decisions/fuse-overlay.md), is here and nowhere else, but for what [`steps`] does without.
fn agree(by_kernel: &str, by_rbox: &str) -> bool {
    let (kernel, rbox): (Vec<&str>, Vec<&str>) = (by_kernel.split(' ').collect(), by_rbox.split(' ').collect());
    let mode = |words: &[&str]| words.iter().take(2).find_map(|word| u32::from_str_radix(word, 8).ok()).unwrap_or(0);
    let (of_kernel, of_rbox) = (mode(&kernel), mode(&rbox));
    let is_known = |(one, other): (&&str, &&str)| {
        // Of a directory that is there in several layers, the number of links is 1, which says that it is not known. A
        // directory comes into another layer when something far below it is changed, and the kernel, which rbox has told that
        // attributes hold, is not told that.
        let links = of_kernel & 0o170_000 == 0o040_000 && *one == "×1" && other.starts_with('×');
        // Who writes takes a set-group-id bit away that nobody can execute by, if he is not in the group, and rbox is not
        // told who is.
        let bits = of_rbox == of_kernel | 0o2000
            && of_rbox & 0o170_010 == 0o100_000
            && other.contains(&format!("{of_rbox:o}"));
        one == other || links || bits
    };
    kernel.len() == rbox.len() && kernel.iter().zip(&rbox).all(is_known)
}

fn is_as_by_the_kernel(case: &Case) -> Result<()> {
    let by_kernel = seen(Backend::Kernel, case).context("by the kernel")?;
    let by_rbox = seen(Backend::Rbox, case).context("by rbox")?;
    for ((step, kernel), rbox) in case.steps.iter().zip(&by_kernel.said).zip(&by_rbox.said) {
        ensure!(agree(kernel, rbox), "{step}\n  kernel: {kernel}\n  rbox:   {rbox}");
    }
    same("through the mount", &by_kernel.shown, &by_rbox.shown)?;
    same("mounted anew", &by_kernel.shown_anew, &by_rbox.shown_anew)?;
    same("mounted by the kernel", &by_kernel.left, &by_rbox.left)
}

fn same(what: &str, by_kernel: &str, by_rbox: &str) -> Result<()> {
    let unmatched = |one: &str, has: &dyn Fn(&str) -> bool| -> String {
        one.lines().filter(|line| !has(line)).map(|line| format!("\n    {line}")).collect()
    };
    let kernel = unmatched(by_kernel, &|line| by_rbox.lines().any(|other| agree(line, other)));
    let rbox = unmatched(by_rbox, &|line| by_kernel.lines().any(|other| agree(other, line)));
    ensure!(kernel.is_empty() && rbox.is_empty(), "{what}\n  kernel:{kernel}\n  rbox:{rbox}");
    Ok(())
}

/// What stands for what in [`LINES`] and [`STEPS`]. What is there twice comes twice as often.
const WORDS: [(&str, &[&str]); 11] = [
    ("BITS", &["644", "755", "600", "777", "2755", "4755", "2644", "1777", "0", "6777"]),
    ("OWNER", &["1:1", "1:1", "1:1", "0:0", "1:2", "2:2"]),
    ("ATTRIBUTE", &["user.a", "user.a", "user.b", "trusted.a", "user.overlay.a"]),
    ("FLAG", &["any", "any", "any", "new", "old"]),
    ("TIME", &["now", "same", "7", "123456789", "-1", "-1000000007"]),
    ("BYTE", &["x", "y", "z"]),
    ("HOW", &["plain", "keep", "punch", "zero"]),
    ("WHICH", &["access", "default"]),
    (
        "ACL",
        &["none", "u::rwx,g::r-x,o::---", "u::rw-,u:1:rwx,g::r--,m::rw-,o::r--", "u::rwx,u:2:r-x,g::rwx,m::rwx,o::r-x"],
    ),
    ("N", &["0", "1", "10", "700", "4096", "5000", "8192", "12288", "20000"]),
    ("SLOT", &["0", "1"]),
];

/// What layers have.
const LINES: &[&str] = &[
    "file PATH fill=N mtime=5.000000006",
    "file PATH fill=N owner=OWNER mtime=5.000000006",
    "file PATH fill=N mode=BITS user.a=1",
    "file PATH text=BYTE owner=OWNER mode=BITS mtime=6",
    "file PATH text=BYTE owner=1:1 user.b=2 mtime=7",
    "dir PATH mtime=5.000000006",
    "dir PATH owner=1:1 mtime=5.000000006",
    "dir PATH owner=1:1 mode=777 user.a=1",
    "dir PATH mode=BITS owner=OWNER",
    "dir PATH opaque mtime=5.000000006",
    "dir PATH opaque owner=1:1",
    "dir PATH owner=1:1 default=u::rwx,u:2:r-x,g::r-x,m::r-x,o::---",
    "symlink PATH PATH mtime=5",
    "fifo PATH mode=600 owner=1:1",
    "link PATH PATH",
    "link PATH PATH",
    "whiteout PATH",
    "whiteout PATH",
];

/// What is done.
const STEPS: &[&str] = &[
    "write PATH N N BYTE",
    "write PATH N N BYTE",
    "write PATH N N BYTE",
    "append PATH N BYTE",
    "truncate PATH N",
    "empty PATH",
    "map PATH N N BYTE",
    "map PATH N N BYTE",
    "allocate PATH HOW N N",
    "copy PATH N PATH N N",
    "create PATH BITS",
    "put PATH N BYTE",
    "put PATH N BYTE",
    "node PATH BITS",
    "fifo PATH BITS",
    "mkdir PATH BITS",
    "mkdir PATH 755",
    "mkdir PATH 755",
    "symlink PATH PATH",
    "link PATH PATH",
    "link PATH PATH",
    "rmdir PATH",
    "rmdir PATH",
    "unlink PATH",
    "unlink PATH",
    "unlink PATH",
    "rename PATH PATH",
    "rename PATH PATH",
    "rename PATH PATH",
    "rename PATH PATH",
    "rename-free PATH PATH",
    "exchange PATH PATH",
    "exchange PATH PATH",
    "chmod PATH BITS",
    "chmod PATH BITS",
    "chown PATH OWNER",
    "chown PATH 2:",
    "utimes PATH TIME TIME",
    "utimes PATH TIME TIME",
    "setxattr PATH ATTRIBUTE N FLAG",
    "setxattr PATH ATTRIBUTE N FLAG",
    "removexattr PATH ATTRIBUTE",
    "acl PATH WHICH ACL",
    "stat PATH",
    "read PATH",
    "list PATH",
    "list PATH",
    "readlink PATH",
    "open SLOT PATH",
    "open SLOT PATH",
    "open-write SLOT PATH",
    "open-write SLOT PATH",
    "close SLOT",
    "of SLOT stat",
    "of SLOT stat",
    "of SLOT read",
    "of SLOT read",
    "of SLOT list",
    "of SLOT list",
    "of SLOT write N N BYTE",
    "of SLOT write N N BYTE",
    "of SLOT truncate N",
    "of SLOT chmod BITS",
    "of SLOT chown OWNER",
    "of SLOT utimes TIME TIME",
    "of SLOT setxattr ATTRIBUTE N any",
    "of SLOT allocate HOW N N",
    "of SLOT map N N BYTE",
    "of SLOT sync",
    "of SLOT make NAME",
    "of SLOT look NAME",
    "remount",
    "remount",
    "hand-over",
    "hand-over",
];

/// So few names that most steps meet something.
const NAMES: &[&str] = &["a", "a", "b", "b", "c"];

/// One of these, with a word for each that stands for others.
fn filled(lines: &'static [&'static str]) -> BoxedStrategy<String> {
    let words = proptest::collection::vec((0..60usize, 1..4usize, uniform3(0..NAMES.len())), 5);
    (select(lines), words)
        .prop_map(|(line, words)| {
            let mut words = words.into_iter();
            let mut fill = |word: &str| -> String {
                let is_path = word == "PATH" || word == "NAME";
                let choices = WORDS.iter().find(|(stands, _)| *stands == word).map(|(_, choices)| *choices);
                if !is_path && choices.is_none() {
                    return word.to_owned();
                }
                let (choice, depth, names) = words.next().unwrap_or_default();
                let depth = if word == "NAME" { 1 } else { depth };
                let path: Vec<&str> = names.iter().take(depth).map(|at| NAMES[*at]).collect();
                choices.map_or_else(|| path.join("/"), |choices| choices[choice % choices.len()].to_owned())
            };
            let words: Vec<String> = line
                .split(' ')
                .map(|word| match word.split_once('=') {
                    Some((key, value)) => format!("{key}={}", fill(value)),
                    None => fill(word),
                })
                .collect();
            words.join(" ")
        })
        .boxed()
}

/// Layers, the upper one first, as overlays leave them: there is no whiteout where there is nothing to be hidden.
fn layers() -> BoxedStrategy<Vec<String>> {
    let lines = proptest::collection::vec(proptest::collection::vec(filled(LINES), 0..12), 2..5);
    lines.prop_map(|all| (0..all.len()).map(|number| fitting(&all, number)).collect()).boxed()
}

/// Those lines of a layer that the ones before them leave room for.
fn fitting(all: &[Vec<String>], number: usize) -> String {
    let below: Vec<String> = (number + 1..all.len()).map(|below| fitting(all, below)).collect();
    let mut taken: Vec<(&str, &str)> = Vec::new();
    let mut text = String::new();
    for line in &all[number] {
        let words: Vec<&str> = line.split(' ').collect();
        let (kind, path) = (words[0], words[1]);
        let is = |at: &str| taken.iter().find(|(_, path)| *path == at).map(|(kind, _)| *kind);
        let above = path.match_indices('/').map(|(end, _)| &path[..end]);
        let is_below = taken.iter().any(|(_, other)| is_in(other, path));
        let fits = is(path).is_none()
            && above.clone().all(|parent| is(parent).is_none_or(|kind| kind == "dir"))
            && (kind == "dir" || !is_below)
            && (kind != "link" || is(words[2]) == Some("file"))
            && (kind != "whiteout" || shows(&text, &below, path));
        if fits {
            taken.extend(above.filter(|parent| is(parent).is_none()).map(|parent| ("dir", parent)).collect::<Vec<_>>());
            taken.push((kind, path));
            text += line;
            text += "\n";
        }
    }
    text
}

fn is_in(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/'))
}

/// Whether layers below show something in a layer by this name.
fn shows(layer: &str, below: &[String], path: &str) -> bool {
    for layer in std::iter::once(layer).chain(below.iter().map(String::as_str)) {
        for line in layer.lines() {
            let mut words = line.split(' ');
            let (kind, here) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            if kind != "whiteout" && (here == path || is_in(here, path)) {
                return true;
            }
            let hides = kind != "dir" || words.any(|word| word == "opaque");
            if hides && (here == path || is_in(path, here)) {
                return false;
            }
        }
    }
    false
}

fn cases() -> BoxedStrategy<Case> {
    let steps = proptest::collection::vec(filled(STEPS), 1..40);
    (layers(), proptest::bool::weighted(0.3), steps)
        .prop_map(|(layers, as_user, steps)| Case { layers, as_user, steps })
        .boxed()
}

fn try_many(cases_tried: u32) -> Result<()> {
    let seed = match env::var("RBOX_TEST_SEED") {
        Ok(seed) => seed.parse()?,
        Err(_) => SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos() as u64,
    };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = ProptestConfig { cases: cases_tried, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let outcome = runner
        .run(&cases(), |case| is_as_by_the_kernel(&case).map_err(|error| TestCaseError::fail(format!("{error:#}"))));
    match outcome {
        Ok(()) => Ok(()),
        Err(TestError::Fail(why, case)) => bail!("RBOX_TEST_SEED={seed}\n{why}\n{case:#?}"),
        Err(other) => bail!("RBOX_TEST_SEED={seed}: {other}"),
    }
}

fn inside(test: &str, limit: Duration, case: fn(Backend) -> Result<()>) {
    overlay::judged_within(limit, &format!("{}::{test}", module_path!()), Backend::Rbox, case);
}

#[test]
fn random_steps() {
    inside("random_steps", patience::LIMIT * 4, |_| try_many(200));
}

#[test]
#[ignore = "takes minutes"]
fn random_steps_of_very_many() {
    inside("random_steps_of_very_many", patience::LIMIT * 30, |_| try_many(5000));
}

/// What the random ones have found once.
#[test]
fn steps_that_failed_once() {
    inside("steps_that_failed_once", patience::LIMIT, |_| {
        // What there is not may be removed, where it is an ACL and the file is in the upper layer.
        failed_once(&["file a", ""], "acl a access none")?;
        failed_once(&["", "file a"], "acl a access none")?;
        // A default ACL says what others may, whatever bits there are besides.
        failed_once(&["dir c default=u::rwx,u:2:r-x,g::r-x,m::r-x,o::---", ""], "create c/a 2755\nmkdir c/b 1777")?;
        // What is removed and open may be no regular file.
        let all = "chown 1:2\nof 0 chmod 640\nof 0 utimes 7 -1\nof 0 stat";
        failed_once(&["", ""], &format!("fifo f 600\nopen 0 f\nunlink f\nof 0 {all}"))?;
        failed_once(&["fifo f mode=600", ""], &format!("open 0 f\nunlink f\nof 0 {all}"))?;
        failed_once(&["dir d", ""], &format!("open 0 d\nrmdir d\nof 0 {all}"))
    });
}

fn failed_once(layers: &[&str], steps: &str) -> Result<()> {
    let owned = |words: &str| words.to_owned();
    let layers = layers.iter().copied().map(owned).collect();
    let case = Case { layers, as_user: false, steps: steps.lines().map(owned).collect() };
    is_as_by_the_kernel(&case).with_context(|| format!("{case:#?}"))
}
