//! Overlays: many at once, much at random, and layers that go from one to another who mounts them.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use rbox_fuzz::Random;
use rbox_tests::calls::{self, Errno, Mode, OFlags, RenameFlags, rename2};
use rbox_tests::cases;
use rbox_tests::overlay::tree::{self, View};
use rbox_tests::overlay::{Backend, Overlay};

// fuse-overlayfs cannot copy fifos up (EIO), its marks are no marks to the kernel, and when it is asked to end it leaves a mount
// that nobody serves. The kernel is served by nobody.
cases! {
    one_of_many_makes_a_file: rbox kernel fuse_overlayfs;
    one_of_many_makes_a_directory: rbox kernel fuse_overlayfs;
    many_rename_over_the_same_name: rbox kernel fuse_overlayfs;
    what_a_crowd_leaves_is_there_when_it_is_mounted_anew: rbox kernel fuse_overlayfs;
    what_the_kernel_left_is_gone_on_with: rbox kernel fuse_overlayfs;
    what_is_left_to_the_kernel_is_the_same: rbox kernel;
    nobody_hangs_when_who_serves_is_killed: rbox fuse_overlayfs;
    who_serves_is_asked_to_end: rbox;
}

/// Has this many threads do something, each with its number.
fn at_once<T: Send>(threads: usize, act: impl Fn(usize) -> Result<T> + Sync) -> Result<Vec<T>> {
    std::thread::scope(|scope| {
        let act = &act;
        let all: Vec<_> = (0..threads).map(|number| scope.spawn(move || act(number))).collect();
        all.into_iter().map(|one| one.join().expect("it does not panic")).collect()
    })
}

fn one_of_many_makes_a_file(backend: Backend) -> Result<()> {
    let names = || (0..40).map(|number| format!("d/{number}"));
    let lower: String = names().map(|name| format!("file {name} text=old\n")).collect();
    let overlay = Overlay::new(backend, &[&lower])?;
    names().try_for_each(fs::remove_file)?;
    let made = at_once(4, |_| {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY;
        names().map(|name| made(calls::opened(&name, flags))).sum::<Result<usize>>()
    })?;
    ensure!(made.iter().sum::<usize>() == 40, "{made:?} were made");
    let end: String = names().map(|name| format!("file {name}\n")).collect();
    overlay.ends_as_in_upper(&end)
}

fn one_of_many_makes_a_directory(backend: Backend) -> Result<()> {
    let names = || (0..40).map(|number| format!("d/{number}"));
    let lower: String = names().map(|name| format!("file {name}/old\n")).collect();
    let overlay = Overlay::new(backend, &[&lower])?;
    names().try_for_each(fs::remove_dir_all)?;
    let made = at_once(4, |_| {
        names().map(|name| made(calls::mkdir(&name, Mode::from_raw_mode(0o755)))).sum::<Result<usize>>()
    })?;
    ensure!(made.iter().sum::<usize>() == 40, "{made:?} were made");
    let end: String = names().map(|name| format!("dir {name} OPAQUE\n")).collect();
    overlay.ends_as(&end.replace("OPAQUE", ""), &end.replace("OPAQUE", "opaque"))
}

/// Whether it was this one that made it.
fn made<T, E: Into<std::io::Error>>(result: Result<T, E>) -> Result<usize> {
    match result.map_err(Into::into) {
        Ok(_) => Ok(1),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(0),
        Err(error) => Err(error.into()),
    }
}

fn many_rename_over_the_same_name(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["file target text=old\n file d/x"])?;
    at_once(4, |who| {
        for round in 0..100 {
            let own = format!("d/{who}");
            fs::write(&own, "whole")?;
            fs::rename(own, "target")?;
            let found = fs::read("target")?;
            ensure!(found == b"whole", "round {round}: {found:?}");
        }
        Ok(())
    })?;
    overlay.ends_as("file target text=whole\n file d/x", "file target text=whole\n dir d")
}

/// What a crowd may meet with, as the others are at work.
const EXPECTED: [Errno; 10] = [
    Errno::NOENT,
    Errno::EXIST,
    Errno::NOTEMPTY,
    Errno::ISDIR,
    Errno::NOTDIR,
    Errno::XDEV,
    Errno::INVAL,
    Errno::STALE,
    Errno::PERM,
    Errno::BUSY,
];

fn what_a_crowd_leaves_is_there_when_it_is_mounted_anew(backend: Backend) -> Result<()> {
    let paths: Vec<String> = (0..4).flat_map(|dir| (0..6).map(move |file| format!("d{dir}/{file}"))).collect();
    let layer = |from: usize| -> String {
        paths.iter().skip(from).step_by(2).map(|path| format!("file {path} text={from}\n file sub/{path}\n")).collect()
    };
    let overlay = Overlay::over(backend, &[&layer(0), &layer(1)], &layer(3))?;
    at_once(4, |who| {
        let mut random = Random::new(who as u64 + 1);
        let mut pick = |below: usize| random.below(below);
        for _ in 0..500 {
            let (one, other) = (paths[pick(paths.len())].as_str(), paths[pick(paths.len())].as_str());
            let result: std::io::Result<()> = match pick(9) {
                0 => fs::write(one, format!("{who}")),
                1 => fs::remove_file(one),
                2 => fs::rename(one, other),
                3 => rename2(one, other, RenameFlags::EXCHANGE).map_err(Into::into),
                4 => fs::create_dir(one),
                5 => fs::remove_dir(one),
                6 => fs::hard_link(one, other),
                7 => calls::chmod(one, Mode::from_raw_mode(0o600)).map_err(Into::into),
                _ => fs::read_dir("d0").and_then(|mut entries| entries.try_for_each(|entry| entry.map(drop))),
            }
            .or_else(|error| {
                let expected = EXPECTED.iter().any(|expected| error.raw_os_error() == Some(expected.raw_os_error()));
                if expected { Ok(()) } else { Err(error) }
            });
            result.with_context(|| format!("{one} and {other}"))?;
        }
        Ok(())
    })?;
    // Links of what was copied up have one number only when it is mounted anew.
    overlay.remount()?;
    let shown = tree::in_words(Path::new("."), View::Merged)?;
    overlay.remount()?;
    overlay.shows(&shown)?;
    for entry in fs::read_dir(".")? {
        let path = entry?.path();
        fs::remove_dir_all(&path).with_context(|| format!("{path:?}"))?;
    }
    overlay.shows("")?;
    overlay.remount()?;
    overlay.shows("")?;
    overlay.unmount()
}

/// What is below those that are handed over.
const LOWERS: [&str; 2] = [
    "file d/changed text=old user.a=b mode=640\n file d/gone\n dir d/e mode=2750\n file d/e/f\n symlink l d/changed",
    "file d/below\n file d/moved text=moved\n file gone/f\n file gone/g\n fifo p mode=600\n file linked text=1",
];

/// Changes of all kinds to [`LOWERS`].
fn work() -> Result<()> {
    fs::write("d/changed", "new")?;
    fs::remove_file("d/gone")?;
    fs::rename("d/moved", "moved")?;
    fs::remove_dir_all("gone")?;
    fs::create_dir("gone")?;
    fs::write("gone/new", "1")?;
    fs::remove_dir_all("d/e")?;
    fs::create_dir_all("made/sub")?;
    fs::rename("made", "d/made")?;
    fs::hard_link("linked", "d/second")?;
    calls::chmod("p", Mode::from_raw_mode(0o666))?;
    calls::setxattr("d", "user.d", b"1", calls::XattrFlags::empty())?;
    Ok(())
}

/// What is there then.
const WORKED: &str = "dir d user.d=1
    file d/changed text=new user.a=b mode=640
    file d/below
    dir d/made/sub
    file d/second text=1
    link linked d/second
    file gone/new text=1
    symlink l d/changed
    file moved text=moved
    fifo p mode=666";

fn what_the_kernel_left_is_gone_on_with(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(Backend::Kernel, &LOWERS)?;
    work()?;
    let overlay = overlay.handed_to(backend)?;
    overlay.shows(WORKED)?;
    fs::write("gone/f", "again")?;
    fs::write("d/e", "a file now")?;
    fs::remove_file("d/below")?;
    fs::rename("d/made", "made")?;
    calls::chmod("linked", Mode::RUSR)?;
    let end = WORKED.replace("file d/below", "file gone/f text=again\n file d/e text=a\\x20file\\x20now");
    let end = end.replace("d/made", "made").replace("d/second text=1", "d/second text=1 mode=400");
    overlay.shows(&end)?;
    overlay.remount()?;
    overlay.shows(&end)
}

fn what_is_left_to_the_kernel_is_the_same(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &LOWERS)?;
    work()?;
    let overlay = overlay.handed_to(Backend::Kernel)?;
    overlay.ends_as(
        WORKED,
        &WORKED
            .replace(
                "dir d/made/sub",
                "dir d/made opaque\n dir d/made/sub\n whiteout d/e\n whiteout d/gone\n whiteout d/moved",
            )
            .replace("file gone/new", "dir gone opaque\n file gone/new")
            .replace("file d/below", "")
            .replace("symlink l d/changed", ""),
    )
}

fn who_serves_is_asked_to_end(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["file f text=1"])?;
    fs::write("f", "2")?;
    overlay.restart_server()?;
    overlay.ends_as_in_upper("file f text=2")
}

fn nobody_hangs_when_who_serves_is_killed(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["file f text=1\n file d/g text=1", "file d/h"])?;
    fs::write("f", "2")?;
    let open = File::open("d/g")?;
    overlay.kill_server()?;
    // What was under way when it was killed is said to be broken off.
    let gone = [Errno::NOTCONN, Errno::CONNABORTED].map(|errno| Some(errno.raw_os_error()));
    let told = |what: &str, result: std::io::Result<()>| match result {
        Err(error) if gone.contains(&error.raw_os_error()) => Ok(()),
        other => bail!("{what} gave {other:?}"),
    };
    // What the kernel has of a file it may give without asking.
    let told_or_known =
        |what: &str, result: std::io::Result<()>| if result.is_ok() { Ok(()) } else { told(what, result) };
    told("a name", calls::lstat("d/other").map(drop).map_err(Into::into))?;
    told("a new file", fs::write("new", ""))?;
    told_or_known("a file", fs::read("f").map(drop))?;
    told_or_known("a listing", fs::read_dir("d").map(drop))?;
    told_or_known("an open file", open.read_at(&mut [0], 0).map(drop))?;
    drop(open);
    overlay.remount()?;
    overlay.ends_as("file f text=2\n file d/g text=1\n file d/h", "file f text=2")
}
