//! `cargo xtask bench fs`: what a container's root filesystem costs that rbox serves by FUSE, beside the kernel's overlay
//! (`userxattr`), which is the limit, and fuse-overlayfs.
//!
//! Each sample is an overlay of the same four layers with an upper one of its own, in namespaces of its own, where an ordinary
//! user mounts. *Cold* is a fresh mount: it has no names, attributes or data in the kernel yet. The layers' own blocks are
//! in the page cache for all alike; to drop them is root's. In turn, A B C A B C; medians.

mod sample;
mod tree;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use rbox_tests::command::{output, read};
use rbox_tests::host;
use rbox_tests::overlay::{self, Backend};

use crate::bench::on_stage;
use crate::stage::Disk;
use crate::{build, setup};
pub(crate) use sample::one;

/// How long one sample may take.
const LIMIT: Duration = Duration::from_secs(900);

/// What is asked of a row.
#[derive(Debug, Clone, Copy)]
enum Goal {
    /// The time that it takes above the kernel's overlay is a third of what fuse-overlayfs takes above it, or less.
    Third,
    /// That, and it takes at most so many times what the kernel's overlay takes.
    Within(f64),
    /// It takes at most so many times what the same takes on the disk itself.
    OfNative(f64),
}

/// In the order in which they are done.
const ROWS: &[(&str, Goal)] = &[
    (sample::FIND_COLD, Goal::Third),
    (sample::FIND_WARM, Goal::Within(1.2)),
    (sample::LIST_COLD, Goal::Third),
    (sample::CAT_COLD, Goal::Third),
    (sample::CAT_WARM, Goal::Within(1.2)),
    (sample::UNTAR, Goal::Third),
    (sample::TOUCH, Goal::Third),
    (sample::CHMOD, Goal::Third),
    (sample::REMOVE, Goal::Third),
    (sample::CREATE, Goal::Third),
    (sample::RENAME, Goal::Third),
    (sample::UNLINK, Goal::Third),
    (sample::WRITE, Goal::Third),
    (sample::READ_COLD, Goal::Third),
    (sample::READ_WARM, Goal::OfNative(1.05)),
];

/// Prepares all, then has [`measure`] run.
pub(crate) fn run(runs: usize) -> Result<()> {
    setup::install(setup::TO_RUN)?;
    overlay::peer()?;
    build::release()?;
    on_stage("__bench-fs", runs, Disk::Ext4("6G"))
}

/// The benchmark itself.
pub(crate) fn measure(runs: usize) -> Result<()> {
    let scratch = tempfile::Builder::new().prefix("fs.").tempdir_in(host::scratch_base())?;
    tell_of_disk(scratch.path())?;
    println!("{}", version()?);
    let layers = scratch.path().join("layers");
    let (files, megabytes) = tree::make(&layers)?;
    println!("{files} files of {megabytes:.0} MB in {} layers", tree::LAYERS);
    let mut samples: BTreeMap<(String, &str), Vec<f64>> = BTreeMap::new();
    for _ in 0..runs {
        for backend in Backend::ALL {
            let mut one = overlay::inside(&std::env::current_exe()?, LIMIT);
            one.args(["__bench-fs-one", backend.name()]).arg(&layers);
            let said = read(&mut one).with_context(|| backend.name())?;
            for (row, value) in said.lines().filter_map(|line| line.split_once('\t')) {
                samples.entry((row.to_owned(), backend.name())).or_default().push(value.parse()?);
            }
        }
    }
    let median = |row: &str, backend: Backend| {
        let mut values = samples.get(&(row.to_owned(), backend.name())).cloned().with_context(|| row.to_owned())?;
        values.sort_by(f64::total_cmp);
        anyhow::Ok(values[values.len() / 2])
    };
    println!("{:36}  kernel, ms  fuse-overlayfs, times  ours, times  above the kernel's", "");
    for (row, goal) in ROWS {
        let [kernel, peer, ours] = [Backend::Kernel, Backend::FuseOverlayfs, Backend::Rbox].map(|who| median(row, who));
        let (kernel, peer, ours) = (kernel?, peer?, ours?);
        let above = (peer > kernel).then(|| (ours - kernel) / (peer - kernel));
        let misses_third = above.is_some_and(|above| above > 1.0 / 3.0);
        let (misses, more) = match goal {
            Goal::Third => (misses_third, String::new()),
            Goal::Within(most) => {
                (misses_third || ours > kernel * most, format!(", {most} times the kernel's are allowed"))
            }
            Goal::OfNative(most) => {
                let native = ours / median(sample::READ_NATIVE, Backend::Rbox)?;
                (misses_third || native > *most, format!(", {native:.2} times the disk's own; {most} are allowed"))
            }
        };
        println!(
            "{row:36}  {:>10.1}  {:>21.2}  {:>11.2}  {:>18}{}{more}",
            kernel * 1e3,
            peer / kernel,
            ours / kernel,
            above.map_or_else(|| "-".to_owned(), |above| format!("{above:.2}")),
            if misses { "  MISSES" } else { "" },
        );
    }
    println!(
        "medians of {runs}, in turn; in the last column, the time above the kernel's overlay, of fuse-overlayfs's: at most 0.33"
    );
    Ok(())
}

/// Says what the disk is, where it is not one with a journal, which is what the figures are for.
fn tell_of_disk(path: &Path) -> Result<()> {
    let kind = read(Command::new("stat").args(["--file-system", "--format=%T"]).arg(path))?;
    let device = fs::metadata(path)?.dev();
    let (major, minor) = (device >> 8 & 0xfff, device & 0xff | device >> 12 & 0xfff00);
    let name = fs::read_link(format!("/sys/dev/block/{major}:{minor}"));
    let name = name.ok().and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned())).unwrap_or_default();
    // Each journal of an ext4 has a directory there.
    let journals = fs::read_dir("/proc/fs/jbd2").into_iter().flatten().flatten();
    let has_journal = journals.map(|entry| entry.file_name().to_string_lossy().into_owned());
    if kind.trim() != "ext2/ext3" || !has_journal.into_iter().any(|journal| journal.starts_with(&format!("{name}-"))) {
        println!("note: {} is no ext4 with a journal ({})", path.display(), kind.trim());
    }
    Ok(())
}

fn version() -> Result<String> {
    let said = output(overlay::peer()?.arg("--version"))?;
    let said = [said.stdout, said.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    Ok(said.lines().find(|line| line.starts_with("fuse-overlayfs")).unwrap_or("fuse-overlayfs").to_owned())
}
