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

/// The verb, with its arguments.
pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    let given = |flag: &str| arguments.contains(&flag);
    let (long, only_end_to_end) = (given("--long"), given("--e2e"));
    let filters: Vec<&str> = arguments.iter().copied().filter(|word| !["--long", "--e2e"].contains(word)).collect();
    let filter = match filters[..] {
        [] => None,
        [filter] if !filter.starts_with('-') => Some(filter),
        _ => bail!("usage: cargo xtask test [--long] [--e2e] [FILTER]"),
    };

    if long {
        setup::all_and_long()?
    } else {
        setup::all()?
    }
    step("Fixtures");
    alpine::layout()?;
    alpine::small()?;
    debian::layout()?;
    step("Release binary");
    build::release()?;
    build::static_binary("rbox-net-slirp", slirp::DRIVER, slirp::DRIVER)?;
    let mut programs = test_programs()?;
    if let Some(filter) = filter {
        filter::check(filter, long, &mut listings(filter, only_end_to_end, &programs))?;
    }

    let mut failed = Vec::new();
    if !only_end_to_end {
        step("Unit tests");
        for (whose, mut tests) in unit_tests(long, filter) {
            if run_command(&mut tests).is_err() {
                failed.push(format!("tests of {whose}"));
            }
        }
    }
    let limit = Duration::from_secs(60 * if long { 90 } else { 10 });
    let options = [long.then_some("--include-ignored"), filter];
    let options: Vec<&str> = options.into_iter().flatten().collect();
    let beside = long.then(|| programs.remove(BESIDE)).flatten();
    match Admin::find() {
        Admin::No => failed.extend(as_caller(&programs, beside.as_deref(), &options, limit)?),
        admin => failed.extend(as_users(admin, &programs, beside.as_deref(), &options, limit)?),
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
fn as_users(
    admin: Admin,
    programs: &BTreeMap<String, PathBuf>,
    beside: Option<&Path>,
    options: &[&str],
    limit: Duration,
) -> Result<Vec<String>> {
    // Dropped last: nothing can be removed while the users' processes write to it.
    let stage = Stage::new(admin)?;
    let mut users = Users::lock(admin)?;
    let ordinary = users.add("rbox-test", &stage.home("rbox-test"))?;
    let without_ranges = users.add_without_ranges("rbox-nosub", &stage.home("rbox-nosub"))?;
    let beside = match beside {
        Some(program) => {
            let apart = users.add("rbox-soak", &stage.home("rbox-soak"))?;
            step(&format!("End to end: {BESIDE}, as {}, beside all others", apart.name));
            Some((Beside::start(stage.command(program, Runner::User(&apart))?.args(options))?, apart))
        }
        None => None,
    };
    let mut failed = Vec::new();
    for (name, program) in programs {
        let runner = match Who::of(name) {
            Who::Ordinary => Runner::User(&ordinary),
            Who::OrdinaryInOwnCgroup => Runner::InOwnCgroup(&ordinary),
            Who::WithoutRanges => Runner::User(&without_ranges),
            Who::Root => Runner::Root,
        };
        step(&format!("End to end: {name}, as {}", runner.name()));
        if !passes(stage.command(program, runner)?.args(options), limit) {
            failed.push(name.clone());
        }
        failed.extend(leaves_processes(name, &users, &[&ordinary, &without_ranges]));
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
fn as_caller(
    programs: &BTreeMap<String, PathBuf>,
    beside: Option<&Path>,
    options: &[&str],
    limit: Duration,
) -> Result<Vec<String>> {
    let command = |program: &Path| {
        let mut command = Command::new("env");
        command.arg("--default-signal").arg(program).args(options).current_dir(source_of_tests());
        command
    };
    let who = if host::has_subordinate_ids() { Who::Ordinary } else { Who::WithoutRanges };
    let mut failed = Vec::new();
    let mut not_run: Vec<&str> = beside.filter(|_| Who::of(BESIDE) != who).map(|_| BESIDE).into_iter().collect();
    let beside = beside.filter(|_| not_run.is_empty()).map(|program| Beside::start(&command(program))).transpose()?;
    for (name, program) in programs {
        if Who::of(name) != who {
            not_run.push(name.as_str());
            continue;
        }
        step(&format!("End to end: {name}"));
        if !passes(&mut command(program), limit) {
            failed.push(name.clone());
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
