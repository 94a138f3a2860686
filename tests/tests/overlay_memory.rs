//! Overlays: how much memory the server needs, of which the kernel may want to know all that there is.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Result, ensure};
use rbox_sys::mount;
use rbox_tests::calls::{self, CWD, FileType, Mode};
use rbox_tests::cases;
use rbox_tests::overlay::{Backend, Overlay, judged_within};
use rbox_tests::patience::until;

cases! {
    a_walk_costs_few_bytes_for_each_file: rbox;
    what_was_removed_is_forgotten: rbox;
}

#[test]
#[ignore = "long: a million files"]
fn a_million_files_are_walked_in_64_mb() {
    let name = concat!(module_path!(), "::a_million_files_are_walked_in_64_mb");
    judged_within(Duration::from_secs(1200), name, Backend::Rbox, |backend| {
        let overlay = overlay_of(backend, 1000)?;
        walk("find", &[".", "-size", "+1"])?;
        walk("ls", &["-lR"])?;
        let memory = overlay.server_memory("Rss")?;
        ensure!(memory <= 64 << 10, "{memory} KiB");
        overlay.unmount()
    });
}

/// For what does not depend on how many files there are: what names were read last, and buffers.
const SOME: usize = 4 << 10;

const FILES: usize = 1000;

/// So many directories of 1000 files, in memory.
fn overlay_of(backend: Backend, directories: usize) -> Result<Overlay> {
    let overlay = Overlay::bare(backend, &[""], "")?;
    mount::mount_old("tmpfs", Path::new("0"), c"nr_inodes=0")?;
    for directory in 0..directories {
        let directory = format!("0/directory{directory}");
        fs::create_dir(&directory)?;
        for file in 0..FILES {
            let path = format!("{directory}/file{file}.txt");
            calls::mknodat(CWD, path.as_str(), FileType::RegularFile, Mode::from_raw_mode(0o644), 0)?;
        }
    }
    overlay.mounted()
}

fn walk(program: &str, words: &[&str]) -> Result<()> {
    let status = Command::new(program).args(words).stdout(Stdio::null()).status()?;
    ensure!(status.success(), "{program} ended with {status}");
    Ok(())
}

fn a_walk_costs_few_bytes_for_each_file(backend: Backend) -> Result<()> {
    let overlay = overlay_of(backend, 100)?;
    let before = overlay.server_memory("Anonymous")?;
    walk("find", &[".", "-size", "+1"])?;
    let more = overlay.server_memory("Anonymous")? - before;
    ensure!(more <= 100 * FILES * 60 / 1024 + SOME, "{more} KiB more");
    overlay.unmount()
}

fn what_was_removed_is_forgotten(backend: Backend) -> Result<()> {
    const DIRECTORIES: usize = 20;
    let overlay = overlay_of(backend, DIRECTORIES)?;
    let before = overlay.server_memory("Anonymous")?;
    walk("find", &[".", "-size", "+1"])?;
    let walked = overlay.server_memory("Anonymous")? - before;
    for directory in 0..DIRECTORIES {
        fs::remove_dir_all(format!("directory{directory}"))?;
    }
    // The kernel says later that it has forgotten them. The allocator keeps some of it.
    let more = || overlay.server_memory("Anonymous").unwrap_or_default().saturating_sub(before);
    until(more, |more| *more <= walked / 3 * 2);
    overlay.unmount()
}
