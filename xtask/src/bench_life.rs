//! `cargo xtask bench life`: containers that run by themselves, from `run -d` to `stop`.
//!
//! rbox and Podman each start containers one after another that stay, with the same image, as the same user, without a
//! network. Podman's runtime is crun. Then: what each container costs in memory, what a list of many stored ones costs in
//! time, and how long it takes to end all of them at once.

use std::fs;
use std::process::Command;
use std::time::Instant;

use anyhow::Result;
use rbox_sys::syncfs::syncfs;
use rbox_tests::command::{exists, read};
use rbox_tests::registry::Registry;
use rbox_tests::{alpine, held, host, subids};

use crate::bench::{compare, on_stage};
use crate::bench_start::contender;
use crate::stage::Disk;
use crate::{build, setup};

/// How many containers each starts, if nothing else is said: Podman takes a session keyring of the user's for each, and a
/// user may have 200 (kernel.keys.maxkeys).
pub(crate) const CONTAINERS: usize = 90;

/// How many stored containers the list is of.
const STORED: usize = 1000;

/// Prepares all, then has [`measure`] run.
pub(crate) fn run(runs: usize) -> Result<()> {
    setup::all()?;
    alpine::layout()?;
    build::release()?;
    on_stage("__bench-life", runs, Disk::Ext4("8G"))
}

/// The benchmark itself.
pub(crate) fn measure(runs: usize) -> Result<()> {
    let scratch = tempfile::Builder::new().prefix("life.").tempdir_in(host::scratch_base())?;
    // Podman's sockets' names would not fit below a longer path.
    let short = tempfile::Builder::new().prefix("rbox-bench.").tempdir_in("/tmp")?;
    let dir = scratch.path();
    let layout = alpine::layout()?;
    let registry = Registry::offering(&layout, alpine::TAG, &format!("library/alpine:{}", alpine::TAG))?;
    let image = registry.reference(&format!("library/alpine:{}", alpine::TAG));
    let command = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        command.args(arguments).env("HOME", dir).env_remove("XDG_DATA_HOME");
        command.env("XDG_RUNTIME_DIR", short.path()).env("TMPDIR", short.path());
        command
    };
    let binary = host::rbox_binary();
    let rbox = |arguments: &[&str]| command(&binary.to_string_lossy(), arguments);
    read(&mut rbox(&["pull", "-q", &image]))?;
    let of_rbox =
        contender("rbox run -d alpine sleep", || rbox(&["run", "-d", "--network=none", &image, "sleep", "86400"]));
    let mut contenders = vec![of_rbox];
    if exists("podman") {
        read(&mut command("podman", &["pull", "-q", "--tls-verify=false", &image]))?;
        contenders.push(contender("podman run -d alpine sleep", || {
            command("podman", &["run", "-d", "--network=none", &image, "sleep", "86400"])
        }));
    }
    let measured = compare(contenders, 1, runs).and_then(|()| {
        for name in ["rbox-monitor", "conmon"] {
            let (count, kib) = memory_of(name)?;
            if count > 0 {
                println!("{name}: {count} processes, {:.3} MB each (PSS)", kib as f64 / 1024.0 / count as f64);
            }
        }
        // The end of an overlay that is kept writes all of its disk out, whoever has written that.
        let stop = |name: &str, stop: &mut Command| -> Result<()> {
            syncfs(fs::File::open(dir)?)?;
            let began = Instant::now();
            read(stop)?;
            println!("{name} stop -t 0 of {} at once: {:.0} ms", runs + 1, began.elapsed().as_secs_f64() * 1000.0);
            Ok(())
        };
        stop("rbox", &mut rbox(&["stop", "-t", "0", "--all"]))?;
        if exists("podman") {
            stop("podman", &mut command("podman", &["stop", "-t", "0", "--all"]))?;
        }
        read(&mut rbox(&["container", "prune", "--force"]))?;
        for _ in 0..STORED {
            read(&mut rbox(&["create", &image, "true"]))?;
        }
        println!("{STORED} stored containers:");
        compare(
            vec![contender("rbox ps", || rbox(&["ps"])), contender("rbox ps -a", || rbox(&["ps", "-a"]))],
            2,
            runs.min(50),
        )
    });
    if exists("podman") {
        read(&mut command("podman", &["rm", "--all", "--force", "--time", "0"]))?;
    }
    drop(registry);
    // What was unpacked and written belongs to subordinate ids.
    subids::remove(&dir.join(".local"))?;
    measured
}

/// How many processes of this user have this name, and their proportional set size, in KiB (proc_pid_smaps(5)).
fn memory_of(name: &str) -> Result<(usize, u64)> {
    let (mut count, mut sum) = (0, 0);
    for process in fs::read_dir("/proc")?.flatten() {
        let path = process.path();
        if fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim() == name) {
            sum += held::memory(process.file_name().to_string_lossy().parse()?, "Pss")? as u64;
            count += 1;
        }
    }
    Ok((count, sum))
}
