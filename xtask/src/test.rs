//! `cargo xtask test`: every test there is.
//!
//! Unit tests run as whoever calls. The end-to-end tests are programs of their own, and what they test depends on who
//! runs them: most are an ordinary user's, some a user's in a cgroup of his own or without subordinate ids, some root's.
//! Where we can be root, such users are made, and removed at the end with whatever they left. Where we cannot, the caller
//! runs what fits them, and the rest is named; under `CI=true` that is a failure.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rbox_tests::command::{exists, run as run_command, shown};
use rbox_tests::patience::ended_within;
use rbox_tests::rbox::DRIVER;
use rbox_tests::{alpine, debian, host, slirp};
use serde_json::Value;

use crate::admin::Admin;
use crate::beside::Beside;
use crate::build::{self, cargo};
use crate::filter;
use crate::setup;
use crate::stage::{Runner, Stage, cgroup_is_plain};
use crate::users::{User, Users};

/// Who runs a test program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    /// A user with ranges in /etc/subuid and /etc/subgid.
    Ordinary,
    /// Such a user, in a cgroup of his own.
    OrdinaryInOwnCgroup,
    /// A user without.
    WithoutRanges,
    /// root.
    Root,
}

impl Who {
    /// Told by the name of the file in `tests/tests/`.
    fn of(test: &str) -> Self {
        match test {
            "single_id" => Self::WithoutRanges,
            _ if test.starts_with("as_root") => Self::Root,
            _ if test.starts_with("in_own_cgroup") => Self::OrdinaryInOwnCgroup,
            _ => Self::Ordinary,
        }
    }
}

/// This takes an hour with `--long`, of which it leaves most to others: it runs beside them, as a user of its own.
const BESIDE: &str = "slirp_soak";

/// These have containers with root filesystems: what they test must be so by each storage driver.
const BY_EACH_DRIVER: [&str; 38] = [
    "agent",
    "attach",
    "audit",
    "cp",
    "detached",
    "diff",
    "egress",
    "escapes",
    "events",
    "exec",
    "export",
    "flags_files",
    "flags_limits",
    "flags_namespaces",
    "flags_records",
    "health",
    "hostile",
    "identity",
    "init",
    "killed",
    "leaks",
    "list",
    "logs",
    "network",
    "pause",
    "publish",
    "reaching_out",
    "run",
    "seccomp",
    "security",
    "siblings",
    "storage",
    "terminal",
    "units",
    "unshare",
    "userns",
    "verbs",
    "volumes",
];

/// What can be forced.
const DRIVERS: [&str; 3] = ["overlay", "fuse", "copy"];

/// What is asked for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Asked<'a> {
    long: bool,
    only_end_to_end: bool,
    /// Only what needs a virtual machine with systemd: few tests, which take long enough to be a lane of their own.
    vm: bool,
    /// The one storage driver.
    driver: Option<&'a str>,
    filter: Option<&'a str>,
}

impl<'a> Asked<'a> {
    fn parse(arguments: &[&'a str]) -> Result<Self> {
        const USAGE: &str =
            "usage: cargo xtask test [--long] [--e2e] [--vm] [--storage-driver fuse|copy|overlay] [FILTER]";
        let mut asked = Self::default();
        let mut words = arguments.iter().copied();
        while let Some(word) = words.next() {
            match word {
                "--long" => asked.long = true,
                "--e2e" => asked.only_end_to_end = true,
                "--vm" => (asked.vm, asked.only_end_to_end) = (true, true),
                "--storage-driver" => {
                    let driver = words.next().filter(|driver| DRIVERS.contains(driver));
                    asked.driver = Some(driver.context(USAGE)?);
                }
                filter if asked.filter.is_none() && !filter.starts_with('-') => asked.filter = Some(filter),
                _ => bail!(USAGE),
            }
        }
        Ok(asked)
    }

    /// By which drivers tests are run one after the other: first by the best one, unless another one is asked for.
    fn drivers(&self) -> Vec<Option<&'a str>> {
        match self.driver {
            Some(driver) => vec![Some(driver)],
            None if self.long => vec![None, Some("fuse"), Some("copy")],
            None => vec![None],
        }
    }
}

/// A program that is run once.
struct Turn<'a> {
    test: &'a str,
    program: &'a Path,
    /// By the one that is forced, if one is.
    driver: Option<&'a str>,
    options: Vec<&'a str>,
}

impl Turn<'_> {
    fn name(&self) -> String {
        let by = self.driver.map(|driver| format!(", by {driver}"));
        format!("{}{}", self.test, by.unwrap_or_default())
    }

    /// For env(1).
    fn variable(&self) -> Option<String> {
        self.driver.map(|driver| format!("{DRIVER}={driver}"))
    }
}

/// What the names of those begin with that need a virtual machine with systemd, and are a lane of their own.
const IN_MACHINES: &str = "vm_";

/// The verb, with its arguments.
pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    let asked = Asked::parse(arguments)?;
    let Asked { long, only_end_to_end, vm, filter, .. } = asked;

    if long {
        setup::all_and_long()?
    } else {
        setup::all()?
    }
    if vm {
        setup::machines()?;
    }
    step("Fixtures");
    alpine::layout()?;
    alpine::small()?;
    if !vm {
        debian::layout()?;
    }
    step("Release binary");
    build::release()?;
    build::static_binary("rbox-net-slirp", slirp::DRIVER, slirp::DRIVER)?;
    let mut programs = test_programs()?;
    if vm {
        programs.retain(|name, _| name.starts_with(IN_MACHINES));
    }
    if let Some(filter) = filter {
        filter::check(filter, long || vm, &mut listings(filter, only_end_to_end, &programs))?;
    }

    let mut failed = Vec::new();
    // The others know nothing of drivers.
    if !only_end_to_end && asked.driver.is_none() {
        step("Unit tests");
        for (whose, mut tests) in unit_tests(long, filter) {
            if run_command(&mut tests).is_err() {
                failed.push(format!("tests of {whose}"));
            }
        }
    }
    let minutes = match (long, vm) {
        (true, _) => 90,
        (false, true) => 30,
        (false, false) => 10,
    };
    let limit = Duration::from_secs(60 * minutes);
    let options = [(long || vm).then_some("--include-ignored"), filter];
    let options: Vec<&str> = options.into_iter().flatten().collect();
    let beside = (long && asked.driver.is_none()).then(|| programs.remove(BESIDE)).flatten();
    let mut turns = Vec::new();
    for driver in asked.drivers() {
        for (test, program) in &programs {
            // What takes long is about other things.
            let options = if driver.is_some() { filter.into_iter().collect() } else { options.clone() };
            if driver.is_none() || BY_EACH_DRIVER.contains(&test.as_str()) {
                turns.push(Turn { test, program, driver, options });
            }
        }
    }
    let beside =
        beside.as_deref().map(|program| Turn { test: BESIDE, program, driver: None, options: options.clone() });
    match Admin::find() {
        Admin::No => failed.extend(as_caller(&turns, beside.as_ref(), limit)?),
        admin => failed.extend(as_users(admin, &turns, beside.as_ref(), limit)?),
    }
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    println!("\nAll passed");
    Ok(())
}

/// Which unit tests there are, and what cargo builds for them: those of the crates, and those inside the harness.
const UNIT_TESTS: [(&str, &[&str]); 2] = [
    ("the crates", &["--workspace", "--exclude=rbox-tests", "--lib", "--bins", "--tests"]),
    ("the harness", &["--package=rbox-tests", "--lib", "--bins"]),
];

/// All unit tests.
fn unit_tests(long: bool, filter: Option<&str>) -> [(&'static str, Command); 2] {
    UNIT_TESTS.map(|(whose, targets)| {
        let mut command = cargo();
        let nextest = exists("cargo-nextest");
        if nextest {
            command.args(["nextest", "run", "--no-tests=pass", "--cargo-quiet", "--status-level=fail"]);
        } else {
            command.args(["test", "--quiet"]);
        }
        command.args(targets);
        match (nextest, long) {
            (true, true) => command.args(["--run-ignored", "all"]).args(filter),
            (true, false) => command.args(filter),
            (false, true) => command.args(filter).args(["--", "--include-ignored"]),
            (false, false) => command.args(filter),
        };
        (whose, command)
    })
}

/// What lists the tests that the filter stands for.
fn listings(filter: &str, only_end_to_end: bool, programs: &BTreeMap<String, PathBuf>) -> Vec<Command> {
    let of_units = UNIT_TESTS.iter().filter(|_| !only_end_to_end).map(|(_, targets)| {
        let mut command = cargo();
        command.args(["test", "--quiet"]).args(*targets).args([filter, "--"]);
        command
    });
    let end_to_end = programs.values().map(|program| {
        let mut command = Command::new(program);
        command.arg(filter);
        command
    });
    of_units.chain(end_to_end).collect()
}

/// Builds the end-to-end tests; gives the program of each file in `tests/tests/`.
fn test_programs() -> Result<BTreeMap<String, PathBuf>> {
    let mut command = cargo();
    command.args([
        "test",
        "--package",
        "rbox-tests",
        "--test",
        "*",
        "--no-run",
        "--message-format=json-render-diagnostics",
    ]);
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().context("cannot start cargo")?;
    if !output.status.success() {
        bail!("the end-to-end tests do not compile");
    }
    let mut programs = BTreeMap::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let message: Value = serde_json::from_str(line)?;
        let is_test = message["target"]["kind"] == serde_json::json!(["test"]);
        if let (true, Some(name), Some(path)) =
            (is_test, message["target"]["name"].as_str(), message["executable"].as_str())
        {
            programs.insert(name.to_owned(), PathBuf::from(path));
        }
    }
    Ok(programs)
}

/// Runs each program as the user it is for; gives the names of those that failed.
fn as_users(admin: Admin, turns: &[Turn<'_>], beside: Option<&Turn<'_>>, limit: Duration) -> Result<Vec<String>> {
    // Dropped last: nothing can be removed while the users' processes write to it.
    let stage = Stage::new(admin)?;
    let mut users = Users::lock(admin)?;
    let ordinary = users.add("rbox-test", &stage.home("rbox-test"))?;
    let without_ranges = users.add_without_ranges("rbox-nosub", &stage.home("rbox-nosub"))?;
    let beside = match beside {
        Some(Turn { program, options, .. }) => {
            let apart = users.add("rbox-soak", &stage.home("rbox-soak"))?;
            step(&format!("End to end: {BESIDE}, as {}, beside all others", apart.name));
            Some((Beside::start(stage.command(program, Runner::User(&apart), None)?.args(options))?, apart))
        }
        None => None,
    };
    let mut failed = Vec::new();
    for turn in turns {
        let runner = match Who::of(turn.test) {
            Who::Ordinary => Runner::User(&ordinary),
            Who::OrdinaryInOwnCgroup => Runner::InOwnCgroup(&ordinary),
            Who::WithoutRanges => Runner::User(&without_ranges),
            Who::Root => Runner::Root,
        };
        let name = turn.name();
        step(&format!("End to end: {name}, as {}", runner.name()));
        let mut command = stage.command(turn.program, runner, turn.variable().as_deref())?;
        if !passes(command.args(&turn.options), limit) {
            failed.push(name.clone());
        }
        failed.extend(leaves_processes(&name, &users, &[&ordinary, &without_ranges]));
    }
    if let Some((beside, apart)) = beside {
        failed.extend(fails(beside, limit));
        failed.extend(leaves_processes(BESIDE, &users, &[&apart]));
    }
    Ok(failed)
}

fn leaves_processes(name: &str, all: &Users, users: &[&User]) -> Option<String> {
    let left = all.end_processes(users);
    if left.is_empty() {
        return None;
    }
    println!("processes left behind:\n  {}", left.join("\n  "));
    Some(format!("{name} (left processes behind)"))
}

/// Waits for what runs beside the others.
fn fails(beside: Beside, limit: Duration) -> Option<String> {
    step(&format!("End to end: {BESIDE}"));
    (!beside.passes(limit)).then(|| BESIDE.to_owned())
}

/// Runs those programs that are for the likes of the caller; gives the names of those that failed.
fn as_caller(turns: &[Turn<'_>], beside: Option<&Turn<'_>>, limit: Duration) -> Result<Vec<String>> {
    let command = |turn: &Turn<'_>| {
        let mut command = Command::new("env");
        command.arg("--default-signal").args(turn.variable()).arg(turn.program).args(&turn.options);
        command.current_dir(source_of_tests());
        command
    };
    let who = if host::has_subordinate_ids() { Who::Ordinary } else { Who::WithoutRanges };
    let mut failed = Vec::new();
    let mut not_run: Vec<String> =
        beside.filter(|_| Who::of(BESIDE) != who).map(|_| BESIDE.to_owned()).into_iter().collect();
    let beside = beside.filter(|_| not_run.is_empty()).map(|turn| Beside::start(&command(turn))).transpose()?;
    for turn in turns {
        let name = turn.name();
        if Who::of(turn.test) != who {
            not_run.push(name);
            continue;
        }
        step(&format!("End to end: {name}"));
        if !passes(&mut command(turn), limit) {
            failed.push(name);
        }
    }
    failed.extend(beside.and_then(|beside| fails(beside, limit)));
    let in_ci = std::env::var("CI").is_ok_and(|value| value == "true" || value == "1");
    if !cgroup_is_plain()? {
        println!("note: /sys/fs/cgroup is not a plain cgroup2 here, and only root can give the tests one");
    }
    if !not_run.is_empty() {
        println!("NOT RUN, for want of root or sudo to become other users: {}", not_run.join(", "));
        if in_ci {
            failed.extend(not_run.iter().map(|name| format!("{name} (not run)")));
        }
    }
    Ok(failed)
}

fn source_of_tests() -> PathBuf {
    host::source_root().join(Path::new("tests"))
}

/// Whether it ends well, and before `limit`: one that hangs is to be a failure that has a name.
fn passes(command: &mut Command, limit: Duration) -> bool {
    let started = Instant::now();
    let ended = command.stdin(Stdio::null()).spawn().and_then(|mut child| ended_within(&mut child, limit));
    ended_well(&shown(command), started, ended)
}

/// Tells how a program has ended; whether that was well.
pub(crate) fn ended_well(program: &str, started: Instant, ended: io::Result<Option<ExitStatus>>) -> bool {
    let seconds = started.elapsed().as_secs_f64();
    match ended {
        Ok(Some(status)) => {
            println!("({seconds:.1} s)");
            status.success()
        }
        Ok(None) => {
            println!("not done after {:.0} minutes, and killed", seconds / 60.0);
            false
        }
        Err(error) => {
            println!("cannot run {program}: {error}");
            false
        }
    }
}

fn step(name: &str) {
    println!("\n── {name}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments() {
        let asked = |words: &[&'static str]| Asked::parse(words);
        let long = asked(&["--long", "exec"]).expect("valid");
        assert_eq!(long, Asked { long: true, filter: Some("exec"), ..Asked::default() });
        assert_eq!(long.drivers(), [None, Some("fuse"), Some("copy")]);
        let one = asked(&["--storage-driver", "copy", "--e2e"]).expect("valid");
        assert_eq!(one, Asked { only_end_to_end: true, driver: Some("copy"), ..Asked::default() });
        assert_eq!(one.drivers(), [Some("copy")]);
        assert_eq!(asked(&[]).expect("valid").drivers(), [None]);
        for wrong in [&["--storage-driver"][..], &["--storage-driver", "zfs"], &["--short"], &["one", "two"]] {
            asked(wrong).expect_err("no such thing");
        }
    }

    #[test]
    fn what_each_driver_is_to_run_is_there() {
        for test in BY_EACH_DRIVER {
            let path = source_of_tests().join(format!("tests/{test}.rs"));
            assert!(path.exists() && Who::of(test) == Who::Ordinary, "{}", path.display());
        }
    }
}
