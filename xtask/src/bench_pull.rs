//! `cargo xtask bench pull`: how long `rbox pull` of a Debian image of four layers takes from a registry on loopback.
//!
//! It is compared with `curl | igzip -dc | tar -x`, two layers at a time, which verifies nothing, maps no ids and
//! records nothing. Each run has a fresh target on the same disk; what the run before left is deleted, and written
//! back, outside the time that is taken. The blobs are in the page cache for both.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};
use rbox_tests::command::read;
use rbox_tests::layout::Descriptor;
use rbox_tests::registry::Registry;
use rbox_tests::{debian, host, subids};
use serde_json::Value;

use crate::bench::{Contender, Sample, compare, must, on_stage};
use crate::stage::Disk;
use crate::{build, setup};

/// Prepares all, then has [`measure`] run.
pub(crate) fn run(runs: usize) -> Result<()> {
    setup::all()?;
    debian::layout()?;
    build::release()?;
    on_stage("__bench-pull", runs, Disk::Ext4("6G"))
}

/// The benchmark itself.
pub(crate) fn measure(runs: usize) -> Result<()> {
    let scratch = tempfile::Builder::new().prefix("pull.").tempdir_in(host::scratch_base())?;
    let layout = debian::layout()?;
    let name = format!("library/debian:{}", debian::TAG);
    let registry = Registry::offering(&layout, debian::TAG, &name)?;
    let manifest: Value = serde_json::from_slice(&layout.read(&layout.find(debian::TAG)?.digest)?)?;
    let layers: Vec<Descriptor> =
        manifest["layers"].as_array().into_iter().flatten().filter_map(Descriptor::from_json).collect();
    let megabytes = layers.iter().map(|layer| layer.size).sum::<u64>() as f64 / 1e6;
    println!("{} layers, {megabytes:.0} MB compressed", layers.len());

    let image = registry.reference(&name);
    let target = scratch.path().join("target");
    let rbox = || {
        let mut command = Command::new(host::rbox_binary());
        command.args(["pull", "-q", &image]).env("HOME", &target).env_remove("XDG_DATA_HOME");
        command.env("XDG_RUNTIME_DIR", scratch.path());
        command
    };
    let pipeline = || {
        let each = format!(
            "mkdir {{}} && curl -sSf http://{}/v2/library/debian/blobs/{{}} | igzip -dc | tar -x -C {{}}",
            registry.address()
        );
        let digests: Vec<&str> = layers.iter().map(|layer| layer.digest.as_str()).collect();
        let script = format!("printf '%s\\n' {} | xargs -P2 -I{{}} bash -ec -o pipefail '{each}'", digests.join(" "));
        let mut command = Command::new("bash");
        command.args(["-o", "pipefail", "-ec", &script]).current_dir(&target);
        command
    };
    let once = |command: &dyn Fn() -> Command| -> Result<Sample> {
        subids::remove(&target)?;
        fs::create_dir(&target)?;
        read(Command::new("sync").arg("-f").arg(scratch.path()))?;
        let mut command = command();
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let started = Instant::now();
        let child = command.spawn().with_context(|| rbox_tests::command::shown(&command))?;
        let (status, peak) = rbox_sys::usage::wait_with_peak(child)?;
        let time = started.elapsed();
        must(status, &command)?;
        Ok(Sample { time, peak_kib: Some(peak) })
    };
    let contenders = vec![
        Contender { name: "rbox pull".to_owned(), once: Box::new(|| once(&rbox)) },
        Contender { name: "curl | igzip -dc | tar -x, -P2".to_owned(), once: Box::new(|| once(&pipeline)) },
    ];
    compare(contenders, 1, runs)?;
    subids::remove(&target)
}
