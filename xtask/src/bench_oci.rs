//! `cargo xtask bench oci`: the OCI runtime interface beside crun's, with the same bundle of one id and no cgroup.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Result;
use rbox_tests::alpine;
use rbox_tests::bundle::Bundle;
use rbox_tests::command::run as run_command;
use rbox_tests::host;
use rbox_tests::rbox::Rbox;

use crate::bench::{compare, on_stage};
use crate::bench_start::contender;
use crate::stage::Disk;
use crate::{build, setup};

/// Prepares all, then has [`measure`] run.
pub(crate) fn run(runs: usize) -> Result<()> {
    setup::all()?;
    alpine::small()?;
    build::release()?;
    on_stage("__bench-oci", runs, Disk::Memory)
}

/// The benchmark itself.
pub(crate) fn measure(runs: usize) -> Result<()> {
    let bundle = Bundle::new("exit 0")?;
    bundle.change(|config| config["process"]["args"] = serde_json::json!(["true"]))?;
    println!("\nrun");
    let next = |prefix: &'static str| {
        let mut number = 0;
        move || {
            number += 1;
            format!("{prefix}-{number}")
        }
    };
    let (mut ours, mut theirs) = (next("rbox"), next("crun"));
    let of_rbox = contender("rbox oci run", || words(rbox(bundle.path()), &["run", &ours()]));
    let of_crun = contender("crun run", || words(crun(bundle.path()), &["run", &theirs()]));
    compare(vec![of_rbox, of_crun], 5, runs)?;

    println!("\nexec");
    bundle.change(|config| config["process"]["args"] = serde_json::json!(["sleep", "1000000"]))?;
    for runtime in [rbox, crun] {
        for verb in ["create", "start"] {
            let mut command = words(runtime(bundle.path()), &[verb, "there"]);
            run_command(command.stdin(Stdio::null()).stdout(Stdio::null()))?;
        }
    }
    let of_rbox = contender("rbox oci exec", || words(rbox(bundle.path()), &["exec", "there", "true"]));
    let of_crun = contender("crun exec", || words(crun(bundle.path()), &["exec", "there", "true"]));
    // In a container of `run`, which has an overlay, many ids and a filter.
    let (user, image) = Rbox::with_small_image()?;
    let mut running =
        user.start(["run", "--rm", "--name", "there", &image, "sh", "-c", "echo ready; exec sleep 1000000"]);
    running.expect("ready");
    let of_run = contender("rbox exec", || user.command(["exec", "there", "true"]));
    let compared = compare(vec![of_run, of_rbox, of_crun], 5, runs);
    running.kill();
    for runtime in [rbox, crun] {
        run_command(&mut words(runtime(bundle.path()), &["delete", "--force", "there"]))?;
    }
    compared
}

fn rbox(bundle: &Path) -> Command {
    let mut rbox = Command::new(host::rbox_binary());
    rbox.arg("--root").arg(bundle.join("rbox")).arg("oci").current_dir(bundle);
    rbox
}

fn crun(bundle: &Path) -> Command {
    let mut crun = Command::new("crun");
    crun.arg("--cgroup-manager=disabled").arg("--root").arg(bundle.join("crun")).current_dir(bundle);
    crun
}

fn words(mut command: Command, words: &[&str]) -> Command {
    command.args(words);
    command
}
