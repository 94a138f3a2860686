//! What the benchmarks share: contenders run in turn, A B C A B C, so that whatever else the machine does meets all
//! of them alike; and a table of what was measured.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rbox_tests::host;

use crate::admin::Admin;
use crate::stage::{Disk, Runner, Stage};
use crate::users::Users;

/// One of those that are compared.
pub(crate) struct Contender<'a> {
    pub(crate) name: String,
    /// Does the thing once and says how long that took.
    pub(crate) once: Box<dyn FnMut() -> Result<Sample> + 'a>,
}

/// What one run has shown.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) time: Duration,
    /// The most memory that one of its processes held, in KiB.
    pub(crate) peak_kib: Option<u64>,
}

/// Runs each contender `warm_up` times unmeasured and then `runs` times, in turn, and prints the table. Ratios are of
/// the first contender's median to the others'.
pub(crate) fn compare(mut contenders: Vec<Contender<'_>>, warm_up: usize, runs: usize) -> Result<()> {
    let mut samples: Vec<Vec<Sample>> = vec![Vec::new(); contenders.len()];
    for round in 0..warm_up + runs {
        // Each round begins with another one: whoever leaves the caches cold does so to all of them alike.
        for turn in 0..contenders.len() {
            let turn = (round + turn) % contenders.len();
            let contender = &mut contenders[turn];
            let sample = (contender.once)().with_context(|| format!("{} failed", contender.name))?;
            if round >= warm_up {
                samples[turn].push(sample);
            }
        }
    }
    let first = median(&samples[0]);
    let width = contenders.iter().map(|contender| contender.name.chars().count()).max().unwrap_or(0);
    println!("{:width$}  median ms     min ms  ratio to it   peak MB", "");
    for (contender, samples) in contenders.iter().zip(&samples) {
        let least = samples.iter().map(|sample| sample.time).min().unwrap_or_default();
        let peak = samples.iter().filter_map(|sample| sample.peak_kib).max();
        let peak = peak.map_or_else(String::new, |kib| format!("{:.1}", kib as f64 / 1024.0));
        let median = median(samples);
        let ratio = first.as_secs_f64() / median.as_secs_f64();
        println!("{:width$}  {:9.2}  {:9.2}  {ratio:11.2}  {peak:>8}", contender.name, ms(median), ms(least));
    }
    println!("{runs} runs of each, in turn, after {warm_up} to warm up");
    Ok(())
}

/// Runs a benchmark: `cargo xtask <verb> <runs>` [on a stage](with_stage).
pub(crate) fn on_stage(verb: &str, runs: usize, disk: Disk) -> Result<()> {
    with_stage(verb, runs, disk, |command| {
        let status = command.status()?;
        must(status, command)
    })
}

/// Has `cargo xtask <verb> <runs>` run as an unprivileged user with a filesystem of its own for scratch space where we can
/// be root; else in this process's own name, in the directory for temporary files.
pub(crate) fn with_stage<T>(
    verb: &str,
    runs: usize,
    disk: Disk,
    run: impl FnOnce(&mut Command) -> Result<T>,
) -> Result<T> {
    let program = std::env::current_exe()?;
    let admin = Admin::find();
    if admin == Admin::No {
        println!("note: without root there is no filesystem of our own; writing to {}", host::scratch_base().display());
        return run(Command::new(program).args([verb, &runs.to_string()]));
    }
    let mut stage = Stage::new(admin)?;
    stage.add_disk(disk)?;
    let mut users = Users::lock(admin)?;
    let user = users.add("rbox-test", &stage.home("rbox-test"))?;
    println!("as an unprivileged user, on {disk}");
    let result = run(stage.command(&program, Runner::User(&user), None)?.args([verb, &runs.to_string()]));
    // Podman leaves a process that keeps its user namespace.
    users.end_processes(&[&user]);
    result
}

/// Fails unless the command was a success.
pub(crate) fn must(status: std::process::ExitStatus, command: &Command) -> Result<()> {
    if !status.success() {
        bail!("{} ended with {status}", rbox_tests::command::shown(command));
    }
    Ok(())
}

fn median(samples: &[Sample]) -> Duration {
    let mut times: Vec<Duration> = samples.iter().map(|sample| sample.time).collect();
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
