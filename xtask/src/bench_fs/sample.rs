//! One sample: an overlay that is mounted, and what programs do in it.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rbox_sys::rlimit::{self, Resource};
use rbox_sys::syncfs::syncfs;
use rbox_tests::command::shown;
use rbox_tests::overlay::{Backend, Overlay};

use super::tree;

pub(super) const FIND_COLD: &str = "find, cold";
pub(super) const FIND_WARM: &str = "find, warm";
pub(super) const LIST_COLD: &str = "ls -lR, cold";
pub(super) const CAT_COLD: &str = "cat of all, cold";
pub(super) const CAT_WARM: &str = "cat of all, warm";
pub(super) const UNTAR: &str = "tar -x of a layer";
pub(super) const TOUCH: &str = "touch of 393 files";
pub(super) const CHMOD: &str = "chmod -R";
pub(super) const REMOVE: &str = "rm -r";
pub(super) const CREATE: &str = "2000 files made";
pub(super) const RENAME: &str = "2000 files renamed";
pub(super) const UNLINK: &str = "2000 files removed";
pub(super) const WRITE: &str = "512 MB written";
pub(super) const READ_COLD: &str = "512 MB read, cold";
pub(super) const READ_WARM: &str = "512 MB read, cached";
pub(super) const READ_NATIVE: &str = "512 MB read, on the disk itself";

const TOUCHED: usize = 393;
const MADE: usize = 2000;
const PIECE: usize = 1 << 20;
const PIECES: usize = 512;
/// A row that is over soon is done so often, and the least is taken.
const TIMES: usize = 5;

/// Does all of it, in namespaces that are this process's own, and prints how long each row took.
pub(crate) fn one(backend: &str, layers: &str) -> Result<()> {
    let (backend, layers) = (Backend::ALL.into_iter().find(|known| known.name() == backend), Path::new(layers));
    let backend = backend.context("no such overlay")?;
    rlimit::raise(Resource::NOFILE)?;
    let overlay = Overlay::bare(backend, &[""; tree::LAYERS], "")?;
    for layer in 0..tree::LAYERS {
        overlay.put_lower(layer, &layers.join(layer.to_string()))?;
    }
    let overlay = overlay.mounted()?;
    let find = || program(Command::new("find").args([".", "-size", "-1c"]));

    row(FIND_COLD, find)?;
    quick_row(FIND_WARM, find)?;
    overlay.remount()?;
    row(LIST_COLD, || program(Command::new("ls").args(["-lR", "."])))?;

    let files = tempfile::NamedTempFile::new_in(layers)?;
    let mut find = Command::new("find");
    find.args([".", "-type", "f", "-print0"]).stdout(files.reopen()?);
    ensure!(find.status()?.success(), "find");
    let names = fs::read(files.path())?;
    let touched = tempfile::NamedTempFile::new_in(layers)?;
    let every = names.split_inclusive(|byte| *byte == 0).count() / TOUCHED;
    let some: Vec<&[u8]> = names.split_inclusive(|byte| *byte == 0).step_by(every).take(TOUCHED).collect();
    fs::write(touched.path(), some.concat())?;
    let of_each = |names: &Path, words: &[&str]| program(Command::new("xargs").arg("-0a").arg(names).args(words));

    overlay.remount()?;
    row(CAT_COLD, || of_each(files.path(), &["cat"]))?;
    quick_row(CAT_WARM, || of_each(files.path(), &["cat"]))?;
    overlay.remount()?;
    let archive = layers.join(tree::ARCHIVE);
    fs::create_dir("new")?;
    row(UNTAR, || program(Command::new("tar").args(["-C", "new", "-xf"]).arg(&archive)))?;
    row(TOUCH, || of_each(touched.path(), &["touch"]))?;
    row(CHMOD, || program(Command::new("chmod").args(["-R", "g+w", "."])))?;
    overlay.remount()?;
    row(REMOVE, || program(Command::new("rm").args(["-r", "usr", "new"])))?;

    fs::create_dir("dir")?;
    let path = |letter: char, number: usize| format!("dir/{letter}{number}");
    row(CREATE, || (0..MADE).try_for_each(|number| Ok(File::create(path('a', number)).map(drop)?)))?;
    row(RENAME, || (0..MADE).try_for_each(|number| Ok(fs::rename(path('a', number), path('b', number))?)))?;
    row(UNLINK, || (0..MADE).try_for_each(|number| Ok(fs::remove_file(path('b', number))?)))?;

    let mut piece = vec![b'x'; PIECE];
    row(WRITE, || {
        let mut file = File::create("large")?;
        (0..PIECES).try_for_each(|_| Ok(file.write_all(&piece)?))
    })?;
    overlay.remount()?;
    row(READ_COLD, || read(Path::new("large"), &mut piece))?;
    quick_row(READ_WARM, || read(Path::new("large"), &mut piece))?;
    let native = overlay.upper().join("large");
    read(&native, &mut piece)?;
    quick_row(READ_NATIVE, || read(&native, &mut piece))?;
    overlay.unmount()
}

fn read(path: &Path, piece: &mut [u8]) -> Result<()> {
    let mut file = File::open(path)?;
    let mut length = 0;
    loop {
        match file.read(piece)? {
            0 => break,
            more => length += more,
        }
    }
    ensure!(length == PIECE * PIECES, "{length} bytes");
    Ok(())
}

/// Times something, when the disk has written what was before it.
fn row(name: &str, mut act: impl FnMut() -> Result<()>) -> Result<()> {
    print(name, timed(&mut act).context(name.to_owned())?);
    Ok(())
}

fn quick_row(name: &str, mut act: impl FnMut() -> Result<()>) -> Result<()> {
    let times: Result<Vec<Duration>> = (0..TIMES).map(|_| timed(&mut act)).collect();
    print(name, times.context(name.to_owned())?.into_iter().min().unwrap_or_default());
    Ok(())
}

fn timed(act: &mut impl FnMut() -> Result<()>) -> Result<Duration> {
    syncfs(File::open(".")?)?;
    let began = Instant::now();
    act()?;
    Ok(began.elapsed())
}

fn print(name: &str, time: Duration) {
    println!("{name}\t{}", time.as_secs_f64());
}

fn program(command: &mut Command) -> Result<()> {
    // /dev/null, for which cat(1) reads as for any other.
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status()?;
    ensure!(status.success(), "{} ended with {status}", shown(command));
    Ok(())
}
