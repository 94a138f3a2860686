//! `cargo xtask bench start`: how long `rbox run --rm alpine true` takes from fork to exit.
//!
//! All contenders run the same root filesystem from the same disk as the same user. crun has its bundle ready, made by
//! `crun spec --rootless` with rbox's id maps and network namespace; it writes no overlay and asks for no cgroup.
//! bubblewrap maps one id and writes no overlay. The floors are `rbox-floor`: the system
//! calls of such a start and nothing else.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};
use rbox_tests::command::{exists, read};
use rbox_tests::patience::until;
use rbox_tests::registry::Registry;
use rbox_tests::{alpine, host, subids};
use serde_json::{Value, json};

use crate::bench::{Contender, Sample, compare, must, on_stage};
use crate::stage::Disk;
use crate::{build, setup};

/// The floor's binary in the target directory.
const FLOOR: &str = "rbox-floor";

/// Prepares all, then has [`measure`] run.
pub(crate) fn run(runs: usize) -> Result<()> {
    setup::all()?;
    alpine::layout()?;
    build::release()?;
    build::static_binary("rbox-tests", FLOOR, FLOOR)?;
    // rbox makes and removes a container's directory in its store each time; crun keeps its state in memory as a rule.
    [Disk::Ext4("1G"), Disk::Memory].into_iter().try_for_each(|disk| on_stage("__bench-start", runs, disk))
}

/// The benchmark itself.
pub(crate) fn measure(runs: usize) -> Result<()> {
    let scratch = tempfile::Builder::new().prefix("start.").tempdir_in(host::scratch_base())?;
    let dir = scratch.path();
    let layout = alpine::layout()?;
    let registry = Registry::offering(&layout, alpine::TAG, &format!("library/alpine:{}", alpine::TAG))?;
    let image = registry.reference(&format!("library/alpine:{}", alpine::TAG));

    let rootfs = dir.join("bundle/rootfs");
    fs::create_dir_all(&rootfs)?;
    let manifest: Value = serde_json::from_slice(&layout.read(&layout.find(alpine::TAG)?.digest)?)?;
    let layer = layout.blob_path(manifest["layers"][0]["digest"].as_str().context("Alpine has a layer")?);
    read(Command::new("tar").arg("-C").arg(&rootfs).arg("-xpzf").arg(layer))?;
    let rbox = |arguments: &[&str]| {
        let mut command = Command::new(host::rbox_binary());
        command.args(arguments).env("HOME", dir).env_remove("XDG_DATA_HOME").env("XDG_RUNTIME_DIR", dir);
        command
    };
    read(&mut rbox(&["pull", "-q", &image]))?;
    let info: Value = serde_json::from_str(&read(&mut rbox(&["info", "--format", "json"]))?)?;
    write_crun_config(&dir.join("bundle"), &info)?;

    let of_rbox =
        || contender("rbox run --rm alpine true", || rbox(&["run", "--rm", "--network=none", &image, "true"]));
    let mut contenders = vec![of_rbox()];
    let mut number = 0;
    let (bundle, state) = (dir.join("bundle"), dir.join("crun"));
    contenders.push(contender("crun run, bundle ready", move || {
        number += 1;
        let mut crun = Command::new("crun");
        crun.arg("--cgroup-manager=disabled").arg("--root").arg(&state).args(["run", "--bundle"]).arg(&bundle);
        crun.arg(format!("bench-{number}"));
        crun
    }));
    let of_bwrap = || {
        contender("bwrap --unshare-all", || {
            let mut bwrap = Command::new("bwrap");
            bwrap
                .args(["--unshare-all", "--bind"])
                .arg(&rootfs)
                .args(["/", "--proc", "/proc", "--dev", "/dev", "true"]);
            bwrap
        })
    };
    contenders.push(of_bwrap());
    let maps: &[&str] = if host::has_subordinate_ids() { &["ranges", "single"] } else { &["single"] };
    for map in maps {
        let (map, rootfs) = (*map, &rootfs);
        contenders.push(contender(&format!("floor, {map}"), move || {
            let mut floor = Command::new(host::target_dir().join(FLOOR));
            floor.arg(map).arg(rootfs).arg(dir).arg("/bin/true");
            floor
        }));
    }
    compare(contenders, 5, runs)?;
    println!("while another container runs, below whose supervisor's user namespace rbox makes the next ones:");
    let mut other = rbox(&["run", "--rm", &image, "sleep", "86400"]).spawn()?;
    let explained = || {
        let output = rbox(&["run", "--rm", "--explain", &image, "true"]).output();
        output.map_or_else(|error| error.to_string(), |output| String::from_utf8_lossy(&output.stderr).into_owned())
    };
    until(explained, |text| text.contains("clone into new namespaces") && !text.contains("newuidmap"));
    compare(vec![of_rbox(), of_bwrap()], 5, runs)?;
    other.kill()?;
    other.wait()?;
    if exists("podman") {
        // Its sockets' names would not fit below a longer path, for which it waits twenty seconds each time.
        let short = tempfile::Builder::new().prefix("rbox-bench.").tempdir_in("/tmp")?;
        let podman = |arguments: &[&str]| {
            let mut command = Command::new("podman");
            command.args(arguments).env("HOME", dir).env("XDG_RUNTIME_DIR", short.path()).env("TMPDIR", short.path());
            command
        };
        read(&mut podman(&["pull", "-q", "--tls-verify=false", &image]))?;
        let of_podman =
            contender("podman run --rm alpine true", || podman(&["run", "--rm", "--network=none", &image, "true"]));
        // By themselves, and less often: it takes as long as fifty of the others.
        compare(vec![of_rbox(), of_podman], 1, runs.div_ceil(10))?;
    }
    drop(registry);
    // What rbox unpacked belongs to subordinate ids.
    subids::remove(&dir.join(".local"))
}

/// A command that is timed from its start to its end.
pub(crate) fn contender<'a>(name: &str, mut command: impl FnMut() -> Command + 'a) -> Contender<'a> {
    let once = move || {
        let mut command = command();
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let started = Instant::now();
        let child = command.spawn().with_context(|| rbox_tests::command::shown(&command))?;
        let (status, peak) = rbox_sys::usage::wait_with_peak(child)?;
        let time = started.elapsed();
        must(status, &command)?;
        Ok(Sample { time, peak_kib: Some(peak) })
    };
    Contender { name: name.to_owned(), once: Box::new(once) }
}

/// crun's own example for users that are not root, running `true` without a terminal, and with the id maps and the
/// network namespace that rbox has too, as its `info` tells.
fn write_crun_config(bundle: &Path, info: &Value) -> Result<()> {
    read(Command::new("crun").args(["spec", "--rootless"]).current_dir(bundle))?;
    let path = bundle.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path)?)?;
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(["true"]);
    let namespaces = config["linux"]["namespaces"].as_array_mut().context("the example has namespaces")?;
    if namespaces.iter().all(|namespace| namespace["type"] != "network") {
        namespaces.push(json!({ "type": "network" }));
    }
    for (ours, theirs) in [("UidMap", "uidMappings"), ("GidMap", "gidMappings")] {
        let ranges = info[ours].as_array().context("rbox info shows the id maps")?.iter().map(
            |range| json!({ "containerID": range["inside"], "hostID": range["outside"], "size": range["length"] }),
        );
        config["linux"][theirs] = ranges.collect();
    }
    Ok(fs::write(&path, serde_json::to_vec(&config)?)?)
}
