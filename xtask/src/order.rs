//! `cargo xtask order`: which functions a start of a container runs.
//!
//! The linker puts them next to each other ([`build`](crate::build)): a start then touches a fifth fewer pages of the binary.
//! They are found by looking, very often, at where starts are. Names of functions have hashes of the compiler's version and of
//! the dependencies' in them; those that are gone only lose their place, and the list wants to be made anew.

use std::fs::{self, File};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Result, bail};
use rbox_tests::command::read;
use rbox_tests::registry::Registry;
use rbox_tests::{alpine, host, subids};

use crate::bench::with_stage;
use crate::stage::Disk;
use crate::{build, setup};

/// The list, which the linker reads.
pub(crate) const FILE: &str = "cli/start.order";

/// Makes the list.
pub(crate) fn run(starts: usize) -> Result<()> {
    setup::all()?;
    alpine::layout()?;
    build::release()?;
    let seen = with_stage("__order", starts, Disk::Memory, read)?;
    let functions: Vec<&str> = seen.lines().filter_map(|line| line.strip_prefix(FOUND)).collect();
    if functions.len() < 100 {
        bail!("only {} functions were seen; more starts would show more", functions.len());
    }
    let head = format!("# Made by `cargo xtask order`, for {}", build::compiler()?);
    fs::write(host::source_root().join(FILE), format!("{head}\n{}\n", functions.join("\n")))?;
    // cargo does not know that the linker reads it.
    File::options().append(true).open(host::source_root().join("cli/src/main.rs"))?.set_modified(SystemTime::now())?;
    println!("{} functions are in {FILE}", functions.len());
    Ok(())
}

/// Before each name.
const FOUND: &str = "function ";

/// The looking itself.
pub(crate) fn look(starts: usize) -> Result<()> {
    let scratch = tempfile::Builder::new().prefix("order.").tempdir_in(host::scratch_base())?;
    let layout = alpine::layout()?;
    let registry = Registry::offering(&layout, alpine::TAG, "library/alpine:3")?;
    let image = registry.reference("library/alpine:3");
    let (binary, data) = (host::rbox_binary(), scratch.path().join("perf.data"));
    let with_store = |command: &mut Command| {
        read(command.env("HOME", scratch.path()).env_remove("XDG_DATA_HOME").env("XDG_RUNTIME_DIR", scratch.path()))
    };
    with_store(Command::new(&binary).args(["pull", "-q", &image]))?;
    let script = "for start in $(seq \"$2\"); do \"$0\" run --rm \"$1\" true || exit; done";
    let mut perf = Command::new("perf");
    perf.args(["record", "--quiet", "--event=cpu-clock:u", "-F", "max", "--output"]).arg(&data);
    with_store(perf.args(["--", "sh", "-c", script]).arg(&binary).args([&image, &starts.to_string()]))?;
    let mut report = Command::new("perf");
    report.args(["report", "--stdio", "--quiet", "--no-children", "--no-demangle", "--sort=symbol", "--dsos=rbox"]);
    for line in read(report.arg("--input").arg(&data))?.lines() {
        // A column for what is counted in basic blocks follows, and is empty.
        if let Some(name) = line.split_once("[.] ").and_then(|(_, rest)| rest.split_whitespace().next()) {
            println!("{FOUND}{name}");
        }
    }
    drop(registry);
    subids::remove(&scratch.path().join(".local"))
}
