//! Overlays: the times of files, and what moves them.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, chown, symlink};

use anyhow::{Result, ensure};
use rbox_tests::calls::{self, AtFlags, CWD, Errno, Mode, OFlags, Timespec, Timestamps, refused};
use rbox_tests::cases;
use rbox_tests::overlay::{Backend, Overlay};

// fuse-overlayfs leaves whiteouts where there is nothing to be hidden, and cannot copy fifos up (EIO).
cases! {
    what_is_written_is_newer: rbox kernel fuse_overlayfs;
    what_is_read_is_not: rbox kernel fuse_overlayfs;
    a_change_of_what_is_not_content: rbox kernel fuse_overlayfs;
    another_link_or_one_less_is_a_change_of_status: rbox kernel;
    a_directory_is_newer_when_its_entries_change: rbox kernel fuse_overlayfs;
    times_of_an_open_file: rbox kernel fuse_overlayfs;
    set_to_the_nanosecond: rbox kernel;
    one_of_two_and_now: rbox kernel fuse_overlayfs;
    before_1970_and_after_2038: rbox kernel fuse_overlayfs;
    times_never_go_back_while_a_file_is_written: rbox kernel fuse_overlayfs;
}

/// When the content and when anything was changed last.
type Times = ((i64, i64), (i64, i64));

fn times(path: &str) -> Result<Times> {
    let status = fs::symlink_metadata(path)?;
    Ok(((status.mtime(), status.mtime_nsec()), (status.ctime(), status.ctime_nsec())))
}

/// What is done moves these times of this path on, and not the others.
fn moves<T>(path: &str, content: bool, status: bool, act: impl FnOnce() -> Result<T>) -> Result<()> {
    let before = times(path)?;
    // Longer than a tick of the kernel's clock.
    std::thread::sleep(std::time::Duration::from_millis(12));
    drop(act()?);
    let after = times(path)?;
    ensure!((after.0 > before.0) == content, "content of {path}: {:?}, then {:?}", before.0, after.0);
    ensure!((after.1 > before.1) == status, "status of {path}: {:?}, then {:?}", before.1, after.1);
    ensure!(content || after.0 == before.0, "content of {path} went back");
    Ok(())
}

fn what_is_written_is_newer(backend: Backend) -> Result<()> {
    let overlay = Overlay::over(backend, &["file l text=1 mtime=5.000000000"], "file u text=1 mtime=5.000000000")?;
    for path in ["l", "u"] {
        moves(path, true, true, || Ok(fs::write(path, "2")?))?;
        moves(path, true, true, || Ok(calls::opened(path, OFlags::WRONLY | OFlags::APPEND)?.write_all(b"3")?))?;
        moves(path, true, true, || Ok(calls::opened(path, OFlags::WRONLY)?.set_len(1)?))?;
        // Truncated, if to what it was; opened, and no more.
        moves(path, true, true, || Ok(calls::opened(path, OFlags::WRONLY | OFlags::TRUNC)?))?;
        moves(path, false, false, || Ok(calls::opened(path, OFlags::RDWR)?))?;
    }
    overlay.unmount()
}

fn what_is_read_is_not(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["file d/f text=1 mtime=5.000000006"])?;
    moves("d/f", false, false, || Ok(fs::read("d/f")?))?;
    moves("d", false, false, || Ok(fs::read_dir("d")?.count()))?;
    overlay.ends_as("file d/f text=1 mtime=5.000000006", "")
}

fn a_change_of_what_is_not_content(backend: Backend) -> Result<()> {
    let lower = "file l mtime=5.000000006\n dir d mtime=5.000000006";
    let overlay = Overlay::over(backend, &[lower], "file u mtime=5.000000006")?;
    for path in ["l", "d", "u"] {
        moves(path, false, true, || Ok(calls::chmod(path, Mode::RWXU)?))?;
        moves(path, false, true, || Ok(chown(path, Some(7), None)?))?;
        moves(path, false, true, || Ok(calls::setxattr(path, "user.a", b"1", calls::XattrFlags::empty())?))?;
        moves(path, false, true, || Ok(calls::removexattr(path, "user.a")?))?;
    }
    overlay.ends_as_in_upper(
        "file l mode=700 owner=7:0 mtime=5.000000006\n dir d mode=700 owner=7:0 mtime=5.000000006
         file u mode=700 owner=7:0 mtime=5.000000006",
    )
}

fn another_link_or_one_less_is_a_change_of_status(backend: Backend) -> Result<()> {
    let overlay = Overlay::over(backend, &["dir d"], "file u mtime=5.000000006")?;
    moves("u", false, true, || Ok(fs::hard_link("u", "d/second")?))?;
    moves("u", false, true, || Ok(fs::remove_file("d/second")?))?;
    moves("d", true, true, || Ok(fs::rename("u", "d/moved")?))?;
    overlay.ends_as_in_upper("file d/moved mtime=5.000000006")
}

fn a_directory_is_newer_when_its_entries_change(backend: Backend) -> Result<()> {
    let lower = "file d/f\n file d/g\n dir d/e\n file other/x\n dir d mtime=5.000000006
         dir same mtime=5.000000006\n file same/f text=1";
    let overlay = Overlay::new(backend, &[lower])?;
    // A file's own change is none of its directory's; that the directory is copied up is one of its status.
    fs::write("same/f", "2")?;
    ensure!(times("same")?.0 == (5, 6), "it is newer now");
    moves("same", false, false, || Ok(fs::write("same/f", "2")?))?;
    moves("d", true, true, || Ok(fs::write("d/new", "")?))?;
    moves("d", true, true, || Ok(fs::remove_file("d/f")?))?;
    moves("d", true, true, || Ok(fs::write("d/f", "again")?))?;
    moves("d", true, true, || Ok(fs::create_dir("d/dir")?))?;
    moves("d", true, true, || Ok(fs::remove_dir("d/e")?))?;
    moves("d", true, true, || Ok(symlink("x", "d/l")?))?;
    moves("d", true, true, || Ok(fs::hard_link("d/f", "d/linked")?))?;
    moves("d", true, true, || Ok(fs::rename("d/g", "d/h")?))?;
    moves("d", true, true, || Ok(fs::rename("d/h", "other/h")?))?;
    moves("other", true, true, || Ok(fs::rename("d/new", "other/x")?))?;
    overlay.unmount()
}

fn times_of_an_open_file(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["file f text=1 mtime=5.000000006"])?;
    let mut file = calls::opened("f", OFlags::RDWR)?;
    moves("f", false, false, || Ok(file.read(&mut [0])?))?;
    moves("f", true, true, || Ok(file.write_all(b"2")?))?;
    ensure!((file.metadata()?.mtime(), file.metadata()?.mtime_nsec()) == times("f")?.0, "by name and by descriptor");
    drop(file);
    let before = times("f")?;
    overlay.remount()?;
    // That of the status may be when the last was written to the upper file, which may be after the call.
    ensure!(times("f")?.0 == before.0, "they are {:?} after a remount, {before:?} before", times("f")?);
    overlay.unmount()
}

fn set_to_the_nanosecond(backend: Backend) -> Result<()> {
    let overlay = Overlay::over(backend, &["file l\n dir d\n symlink s x\n fifo p"], "file u")?;
    let modified = Timespec { tv_sec: 1_000_000_000, tv_nsec: 123_456_789 };
    let accessed = Timespec { tv_sec: 1, tv_nsec: 999_999_999 };
    let both = Timestamps { last_access: accessed, last_modification: modified };
    for path in ["l", "d", "s", "p", "u"] {
        calls::utimensat(CWD, path, &both, AtFlags::SYMLINK_NOFOLLOW)?;
        let status = fs::symlink_metadata(path)?;
        ensure!((status.atime(), status.atime_nsec()) == (1, 999_999_999), "{path}: {status:?}");
        ensure!(times(path)?.0 == (1_000_000_000, 123_456_789), "{path}: {status:?}");
    }
    let time = "mtime=1000000000.123456789";
    overlay
        .ends_as_in_upper(&format!("file l {time}\n dir d {time}\n symlink s x {time}\n fifo p {time}\n file u {time}"))
}

fn one_of_two_and_now(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["file f mtime=5.000000006"])?;
    let omit = Timespec { tv_sec: 0, tv_nsec: calls::UTIME_OMIT };
    let now = Timespec { tv_sec: 0, tv_nsec: calls::UTIME_NOW };
    let other = Timespec { tv_sec: 7, tv_nsec: 8 };
    let set = |last_access, last_modification| -> Result<()> {
        Ok(calls::utimensat(CWD, "f", &Timestamps { last_access, last_modification }, AtFlags::empty())?)
    };
    set(other, omit)?;
    ensure!(times("f")?.0 == (5, 6) && fs::metadata("f")?.atime() == 7, "the first alone");
    set(omit, other)?;
    ensure!(times("f")?.0 == (7, 8) && fs::metadata("f")?.atime() == 7, "the second alone");
    moves("f", true, true, || set(omit, now))?;
    let started = fs::metadata("f")?.mtime();
    ensure!(started > 1_600_000_000, "now is {started}");
    moves("f", false, false, || set(omit, omit))?;
    refused(
        calls::utimensat(CWD, "none", &Timestamps { last_access: now, last_modification: now }, AtFlags::empty()),
        Errno::NOENT,
    )?;
    File::open("f")?.set_modified(std::time::SystemTime::UNIX_EPOCH)?;
    overlay.ends_as_in_upper("file f mtime=0.000000000")
}

fn before_1970_and_after_2038(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["file l mtime=4294967296.000000001\n file old\n file new"])?;
    for (path, second) in [("old", -5), ("new", 5_000_000_000)] {
        let time = Timespec { tv_sec: second, tv_nsec: 7 };
        calls::utimensat(CWD, path, &Timestamps { last_access: time, last_modification: time }, AtFlags::empty())?;
    }
    calls::chmod("l", Mode::RUSR)?;
    overlay.ends_as_in_upper(
        "file l mode=400 mtime=4294967296.000000001\n file old mtime=-5.000000007
         file new mtime=5000000000.000000007",
    )
}

fn times_never_go_back_while_a_file_is_written(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["file f text=1"])?;
    let mut file = calls::opened("f", OFlags::WRONLY)?;
    let mut last = times("f")?;
    for _ in 0..100 {
        file.write_all(b"more")?;
        let next = times("f")?;
        ensure!(next.0 >= last.0 && next.1 >= last.1, "{last:?}, then {next:?}");
        last = next;
    }
    file.sync_all()?;
    drop(file);
    ensure!(times("f")?.0 == last.0, "closed, they are {:?}, and not {last:?}", times("f")?);
    overlay.unmount()
}
