//! `kill -9` at any moment: each process of rbox is killed after each of its system calls that change something, one at a
//! time. Whatever that left, rbox goes on with it: containers are listed and removed, a new one of the same name runs, a
//! collection removes the rest, and nothing else remains.
#![cfg(target_arch = "x86_64")]

mod tracer;

use std::io::Read;
use std::process::Command;

use anyhow::{Context, Result};
use rbox_tests::alpine;
use rbox_tests::command::output;
use rbox_tests::image::{Compression, ImageBuilder};
use rbox_tests::layer::Layer;
use rbox_tests::layout::Layout;
use rbox_tests::rbox::Rbox;
use rbox_tests::registry::Registry;
use serde_json::Value;

use tracer::{HERE_AND_THERE, each_point, follow};

#[test]
fn run_is_killed_here_and_there() -> Result<()> {
    run_is_killed(HERE_AND_THERE)
}

#[test]
#[ignore = "takes minutes"]
fn run_is_killed_everywhere() -> Result<()> {
    run_is_killed(1)
}

#[test]
fn run_detached_is_killed_here_and_there() -> Result<()> {
    run_detached_is_killed(HERE_AND_THERE)
}

#[test]
#[ignore = "takes minutes"]
fn run_detached_is_killed_everywhere() -> Result<()> {
    run_detached_is_killed(1)
}

#[test]
fn rm_is_killed_here_and_there() -> Result<()> {
    rm_is_killed(HERE_AND_THERE)
}

#[test]
#[ignore = "takes minutes"]
fn rm_is_killed_everywhere() -> Result<()> {
    rm_is_killed(1)
}

#[test]
fn pull_is_killed_here_and_there() -> Result<()> {
    pull_is_killed(HERE_AND_THERE)
}

#[test]
#[ignore = "takes minutes"]
fn pull_is_killed_everywhere() -> Result<()> {
    pull_is_killed(1)
}

/// Leaves what is not the caller's own to remove, which takes a process of its own.
const WRITES: &str = "mkdir -p /a/b && echo > /a/b/file && chown 5:6 /a/b";

/// And is started once more for that.
const FAILS: &str = "mkdir -p /a/b && echo > /a/b/file && chown 5:6 /a/b; test -e /none";

fn run_is_killed(step: usize) -> Result<()> {
    let (_dir, layout) = tiny()?;
    let (rbox, image) = Rbox::with_image(&layout, "latest", "t/tiny:1")?;
    let run = rbox.command(["run", "--rm", "--name", "victim", &image, "sh", "-c", WRITES]);
    each_point(
        "rbox run",
        step,
        |point| follow(&run, None, point),
        || {
            recover(&rbox, &image);
            tree(&rbox)
        },
    )
}

/// The starter, the monitor from its first step to its last, and init.
fn run_detached_is_killed(step: usize) -> Result<()> {
    let (_dir, layout) = tiny()?;
    let (rbox, image) = Rbox::with_image(&layout, "latest", "t/tiny:1")?;
    let run = rbox.command(["run", "-d", "--restart", "on-failure:1", "--name", "victim", &image, "sh", "-c", FAILS]);
    each_point(
        "rbox run -d",
        step,
        |point| follow(&run, None, point),
        || {
            recover(&rbox, &image);
            tree(&rbox)
        },
    )
}

fn rm_is_killed(step: usize) -> Result<()> {
    let (_dir, layout) = tiny()?;
    let (rbox, image) = Rbox::with_image(&layout, "latest", "t/tiny:1")?;
    let rm = rbox.command(["rm", "victim"]);
    each_point(
        "rbox rm",
        step,
        |point| {
            rbox.run(["run", "--name", "victim", &image, "sh", "-c", WRITES]).success();
            follow(&rm, None, point)
        },
        || {
            recover(&rbox, &image);
            tree(&rbox)
        },
    )
}

fn pull_is_killed(step: usize) -> Result<()> {
    let (_dir, layout) = tiny()?;
    let registry = Registry::offering(&layout, "latest", "t/tiny:1")?;
    let image = registry.reference("t/tiny:1");
    let rbox = Rbox::new();
    // The store itself, once.
    rbox.run(["images"]).success();
    let pull = rbox.command(["pull", "-q", &image]);
    each_point(
        "rbox pull",
        step,
        |point| follow(&pull, None, point),
        || {
            rbox.run(["images"]).success();
            rbox.pull(&image);
            recover(&rbox, &image);
            rbox.run(["rmi", &image]).success();
            rbox.run(["gc"]).success();
            tree(&rbox)
        },
    )
}

/// What a person does after an accident: all of it works.
#[track_caller]
fn recover(rbox: &Rbox, image: &str) {
    rbox.run(["ps", "-a"]).success();
    for id in rbox.run(["ps", "-a", "-q"]).success().lines() {
        rbox.run(["rm", "-f", id]).success();
    }
    assert_eq!(rbox.run(["ps", "-a", "-q"]).success(), "");
    let script = "test ! -e /a && cat /etc/name";
    assert_eq!(rbox.run(["run", "--rm", "--name", "victim", image, "sh", "-c", script]).success(), "tiny\n");
    rbox.run(["gc"]).success();
}

/// All that is in the store, but for what is in layers.
fn tree(rbox: &Rbox) -> Result<String> {
    let mut find = Command::new("find");
    find.arg(rbox.store()).args(["-path", "*/fs/*", "-prune", "-o", "-printf", "%P %y\n"]);
    let mut lines: Vec<String> =
        String::from_utf8_lossy(&output(&mut find)?.stdout).lines().map(str::to_owned).collect();
    lines.sort();
    Ok(lines.join("\n"))
}

/// A shell in one layer, and over it one that has an entry of each kind.
fn tiny() -> Result<(tempfile::TempDir, Layout)> {
    let small = alpine::small()?;
    let manifest: Value = serde_json::from_slice(&small.read(&small.find("latest")?.digest)?)?;
    let blob = small.read(manifest["layers"][0]["digest"].as_str().context("the image has a layer")?)?;
    let mut base = Layer::new().dir("bin", 0o755).dir("etc", 0o755).dir("lib", 0o755).dir("tmp", 0o1777);
    for entry in tar::Archive::new(flate2::read::GzDecoder::new(&*blob)).entries()? {
        let mut entry = entry?;
        let path = entry.path()?.to_string_lossy().into_owned();
        if path == "bin/busybox" || path.starts_with("lib/ld-musl") {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes)?;
            base = base.file(&path, 0o755, bytes);
        }
    }
    for name in ["sh", "cat", "chown", "mkdir", "test"] {
        base = base.symlink(&format!("bin/{name}"), "/bin/busybox");
    }
    let base = base.file("etc/name", 0o644, "base\n").file("etc/gone", 0o644, "").dir("etc/full", 0o755);
    let over = Layer::new().dir("etc", 0o755).file("etc/name", 0o640, "tiny\n").owner(5, 6);
    let over = over.hardlink("etc/again", "etc/name").whiteout("etc/gone").opaque("etc/full").fifo("tmp/fifo", 0o600);
    let dir = tempfile::tempdir()?;
    let layout = Layout::create(dir.path())?;
    let image = ImageBuilder::new(&layout).layer(&base, Compression::Gzip)?.layer(&over, Compression::Gzip)?;
    image.finish_as("latest")?;
    Ok((dir, layout))
}
