//! Overlays: what is listed of a directory, also while it changes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use rbox_tests::calls::{self, Dir, FileType};
use rbox_tests::cases;
use rbox_tests::overlay::{Backend, Overlay};

// fuse-overlayfs keeps four bytes of each name for itself.
cases! {
    each_name_once_whichever_layers_have_it: rbox kernel fuse_overlayfs;
    every_kind_is_told: rbox kernel fuse_overlayfs;
    inode_numbers_are_those_of_the_files: rbox kernel fuse_overlayfs;
    changes_are_seen_when_it_is_listed_again: rbox kernel fuse_overlayfs;
    ten_thousand_entries: rbox kernel fuse_overlayfs;
    what_stays_is_listed_once_while_others_come_and_go: rbox kernel fuse_overlayfs;
    listed_and_removed_one_by_one: rbox kernel fuse_overlayfs;
    a_place_in_the_listing_is_found_again: rbox kernel fuse_overlayfs;
    two_list_the_same_directory: rbox kernel fuse_overlayfs;
    long_names_and_many_of_them: rbox kernel;
    a_tree_is_walked_by_find_and_du: rbox kernel fuse_overlayfs;
}

/// The names, as often as they are listed, without `.` and `..`.
fn names(path: impl AsRef<Path>) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// An open directory, to be listed by getdents64(2).
fn opened(path: &str) -> Result<Dir> {
    Ok(Dir::new(File::open(path)?)?)
}

/// The next entry: its name, kind, inode number and the offset behind it.
fn next(dir: &mut Dir) -> Option<(String, FileType, u64, i64)> {
    let entry = dir.read()?.expect("readable");
    Some((entry.file_name().to_string_lossy().into_owned(), entry.file_type(), entry.ino(), entry.offset()))
}

fn each_name_once_whichever_layers_have_it(backend: Backend) -> Result<()> {
    let lowers =
        ["file d/all\n file d/1\n whiteout d/gone\n dir d/e", "file d/all\n file d/2\n file d/gone\n file d/e/f"];
    let overlay = Overlay::over(backend, &lowers, "file d/all\n file d/upper\n whiteout d/2")?;
    for _ in 0..2 {
        ensure!(names("d")? == ["1", "all", "e", "upper"], "{:?}", names("d")?);
        overlay.remount()?;
    }
    overlay.unmount()
}

fn every_kind_is_told(backend: Backend) -> Result<()> {
    let lower = "file d/file\n dir d/dir\n symlink d/symlink x\n fifo d/fifo\n socket d/socket";
    let overlay = Overlay::over(backend, &[lower, "dir d/merged"], "file d/u-file\n fifo d/u-fifo\n dir d/merged")?;
    fs::hard_link("d/file", "d/u-link")?;
    let mut dir = opened("d")?;
    let mut seen = BTreeSet::new();
    while let Some((name, kind, ..)) = next(&mut dir) {
        let of_status = FileType::from_raw_mode(calls::lstat(format!("d/{name}"))?.st_mode);
        ensure!(kind == of_status, "{name} is {of_status:?}, and listed as {kind:?}");
        seen.insert(name);
    }
    ensure!(seen.len() == 11 && seen.contains(".") && seen.contains(".."), "{seen:?}");
    drop(dir);
    overlay.unmount()
}

fn inode_numbers_are_those_of_the_files(backend: Backend) -> Result<()> {
    let lowers = ["file d/1\n dir d/m", "file d/2\n file d/changed\n dir d/m"];
    let overlay = Overlay::over(backend, &lowers, "file d/upper\n dir d/u")?;
    fs::write("d/changed", "copied up")?;
    fs::rename("d/1", "d/renamed")?;
    let mut dir = opened("d")?;
    while let Some((name, _, number, _)) = next(&mut dir) {
        let of_status = fs::symlink_metadata(format!("d/{name}"))?.ino();
        ensure!(number == of_status, "{name} is {of_status}, and listed as {number}");
    }
    drop(dir);
    overlay.unmount()
}

fn changes_are_seen_when_it_is_listed_again(backend: Backend) -> Result<()> {
    let overlay = Overlay::over(backend, &["file d/lower\n file d/gone"], "file d/upper")?;
    let mut dir = opened("d")?;
    let mut listed = || -> Vec<String> {
        dir.rewind();
        let names = std::iter::from_fn(|| next(&mut dir)).map(|(name, ..)| name);
        let mut names: Vec<String> = names.filter(|name| !name.starts_with('.')).collect();
        names.sort();
        names
    };
    ensure!(listed() == ["gone", "lower", "upper"], "at first");
    fs::remove_file("d/gone")?;
    fs::write("d/new", "")?;
    let after = listed();
    ensure!(after == ["lower", "new", "upper"], "then: {after:?}");
    fs::rename("d/lower", "d/renamed")?;
    fs::write("d/gone", "again")?;
    let after = listed();
    ensure!(after == ["gone", "new", "renamed", "upper"], "at last: {after:?}");
    ensure!(names("d")? == after, "another has {:?}", names("d")?);
    drop(dir);
    overlay.unmount()
}

fn ten_thousand_entries(backend: Backend) -> Result<()> {
    let range = |from: usize, to: usize| (from..to).map(|number| format!("file d/{number:05}\n")).collect::<String>();
    let overlay = Overlay::over(backend, &[&range(0, 4000), &range(3000, 7000)], &range(6000, 9000))?;
    for number in 9000..10_000 {
        File::create_new(format!("d/{number:05}"))?;
    }
    let wanted = |skipped: usize| (0..10_000).filter(move |number| skipped == 0 || number % skipped != 0);
    let compare = |skipped: usize| -> Result<()> {
        let wanted: Vec<String> = wanted(skipped).map(|number| format!("{number:05}")).collect();
        let found = names("d")?;
        ensure!(found == wanted, "{} entries of {}", found.len(), wanted.len());
        Ok(())
    };
    compare(0)?;
    overlay.remount()?;
    compare(0)?;
    (0..10_000).step_by(3).try_for_each(|number| fs::remove_file(format!("d/{number:05}")))?;
    compare(3)?;
    overlay.remount()?;
    compare(3)?;
    fs::remove_dir_all("d")?;
    overlay.ends_as("", "whiteout d")
}

/// What POSIX says of readdir(): what is neither made nor removed meanwhile is listed once.
fn what_stays_is_listed_once_while_others_come_and_go(backend: Backend) -> Result<()> {
    let lower: String = (0..1000).map(|number| format!("file d/lower{number}\n file d/old{number}\n")).collect();
    let upper: String = (0..1000).map(|number| format!("file d/upper{number}\n")).collect();
    let overlay = Overlay::over(backend, &[&lower], &upper)?;
    let over = AtomicBool::new(false);
    let change = || -> Result<()> {
        for number in 0.. {
            if over.load(Ordering::Relaxed) {
                break;
            }
            let (path, old) = (format!("d/new{}", number % 500), format!("d/old{}", number % 1000));
            fs::write(&path, "")?;
            match number % 3 {
                0 => fs::remove_file(path)?,
                1 => fs::rename(path, "d/renamed")?,
                _ => {}
            }
            if number < 1000 {
                fs::remove_file(old)?;
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| -> Result<()> {
        let changing = scope.spawn(change);
        let look = || -> Result<()> {
            for _ in 0..30 {
                let mut counts = BTreeMap::new();
                names("d")?.into_iter().for_each(|name| *counts.entry(name).or_insert(0) += 1);
                let stay = (0..1000).flat_map(|number| [format!("lower{number}"), format!("upper{number}")]);
                let counts = stay.map(|name| (counts.get(&name).copied().unwrap_or_default(), name));
                let wrong: Vec<(i32, String)> = counts.filter(|(count, _)| *count != 1).collect();
                ensure!(wrong.is_empty(), "so often are: {wrong:?}");
            }
            Ok(())
        };
        let looked = look();
        over.store(true, Ordering::Relaxed);
        changing.join().expect("it does not panic")?;
        looked
    })?;
    overlay.unmount()
}

fn listed_and_removed_one_by_one(backend: Backend) -> Result<()> {
    let lower: String = (0..700).map(|number| format!("file d/{number}\n")).collect();
    let upper: String = (700..1400).map(|number| format!("file d/{number}\n")).collect();
    let overlay = Overlay::over(backend, &[&lower], &upper)?;
    let mut removed = 0;
    for entry in fs::read_dir("d")? {
        fs::remove_file(entry?.path())?;
        removed += 1;
    }
    ensure!(removed == 1400, "{removed} were listed");
    fs::remove_dir("d")?;
    overlay.ends_as("", "whiteout d")
}

fn a_place_in_the_listing_is_found_again(backend: Backend) -> Result<()> {
    let lower: String = (0..500).map(|number| format!("file d/lower{number}\n")).collect();
    let upper: String = (0..500).map(|number| format!("file u/upper{number}\n file d/upper{number}\n")).collect();
    let overlay = Overlay::over(backend, &[&lower], &upper)?;
    for (path, count) in [("d", 1002), ("u", 502)] {
        let mut dir = opened(path)?;
        let all: Vec<_> = std::iter::from_fn(|| next(&mut dir)).collect();
        ensure!(all.len() == count, "{path} has {}", all.len());
        let offsets: BTreeSet<i64> = all.iter().map(|(.., offset)| *offset).collect();
        ensure!(offsets.len() == count, "offsets of {path} are the same");
        for at in [count - 2, 0, 7, count / 2, count / 2 - 1, count - 3] {
            dir.seek(all[at].3)?;
            let found = next(&mut dir).context("the end")?;
            ensure!(found.0 == all[at + 1].0, "after {} comes {}, and not {}", all[at].0, found.0, all[at + 1].0);
        }
        dir.seek(0)?;
        ensure!(next(&mut dir).context("the end")?.0 == all[0].0, "the beginning of {path}");
        dir.seek(all[count - 1].3)?;
        ensure!(next(&mut dir).is_none(), "the end of {path}");
    }
    overlay.unmount()
}

fn two_list_the_same_directory(backend: Backend) -> Result<()> {
    let lower: String = (0..300).map(|number| format!("file d/{number}\n")).collect();
    let overlay = Overlay::over(backend, &[&lower], "file d/upper")?;
    let (mut one, mut other) = (opened("d")?, opened("d")?);
    let mut counts = (0, 0);
    loop {
        let both = (next(&mut one), next(&mut other));
        counts = (counts.0 + i32::from(both.0.is_some()), counts.1 + i32::from(both.1.is_some()));
        if both.0.is_none() && both.1.is_none() {
            break;
        }
    }
    ensure!(counts == (303, 303), "{counts:?}");
    drop((one, other));
    overlay.unmount()
}

fn long_names_and_many_of_them(backend: Backend) -> Result<()> {
    let name = |number: usize| format!("{number:03}{}", "n".repeat(252));
    let lower: String = (0..300).map(|number| format!("file d/{}\n", name(number))).collect();
    let overlay = Overlay::new(backend, &[&lower])?;
    (300..600).try_for_each(|number| fs::create_dir(format!("d/{}", name(number))))?;
    ensure!(names("d")? == (0..600).map(name).collect::<Vec<_>>(), "{} are listed", names("d")?.len());
    overlay.unmount()
}

fn a_tree_is_walked_by_find_and_du(backend: Backend) -> Result<()> {
    let layer = |layer: usize| -> String {
        let paths = (0..400).map(|number| format!("file d{}/e{}/{layer}-{number} text=x\n", number % 7, number % 11));
        paths.collect()
    };
    let overlay = Overlay::over(backend, &[&layer(0), &layer(1)], &layer(2))?;
    let find = |what: &str| -> Result<usize> {
        // It relies on the kinds that are listed, and on counts of links.
        let mut find = std::process::Command::new("find");
        Ok(rbox_tests::command::read(find.args([".", "-type", what]))?.lines().count())
    };
    ensure!(find("f")? == 1200 && find("d")? == 1 + 7 + 77, "{} files, {} directories", find("f")?, find("d")?);
    let du = rbox_tests::command::read(std::process::Command::new("du").args(["--inodes", "--summarize", "."]))?;
    ensure!(du.starts_with("1285\t"), "{du}");
    overlay.unmount()
}
