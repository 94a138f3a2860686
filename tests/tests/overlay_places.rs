//! Overlays: layers that are on other file systems than each other, or on overlays themselves; and none to write to.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rbox_sys::mount;
use rbox_tests::calls::{self, Access, CWD, Errno, FileType, Mode, OFlags, refused};
use rbox_tests::cases;
use rbox_tests::command::read;
use rbox_tests::overlay::{Backend, Overlay, tree};

// The kernel refuses an upper layer on an overlay (EINVAL). fuse-overlayfs says that one may write where nobody can, and
// keeps half a copy where there is no room for all of it. rbox says that there is none when a file is written to.
cases! {
    a_lower_on_another_file_system: rbox kernel fuse_overlayfs;
    an_upper_on_a_tmpfs: rbox kernel fuse_overlayfs;
    a_file_for_whose_copy_there_is_no_room_stays_as_it_is: kernel;
    written_until_there_is_no_room: rbox kernel fuse_overlayfs;
    a_lower_that_is_an_overlay_itself: rbox kernel fuse_overlayfs;
    an_upper_on_another_overlay: rbox fuse_overlayfs;
    without_an_upper_layer_nothing_is_written: rbox kernel;
    what_was_left_unfinished_is_cleared: rbox kernel fuse_overlayfs;
    nothing_is_left_over_from_work: rbox kernel fuse_overlayfs;
}

/// Mounts in the overlay's own directory, which is the current one while nothing is mounted.
fn mounted(kind: &str, at: &str, options: &str) -> Result<()> {
    mount::mount_old(kind, Path::new(at), &CString::new(options)?).with_context(|| format!("a {kind} at {at}"))
}

/// Has the upper layer and its work directory in another directory.
fn moved_to(place: &str) -> Result<()> {
    for name in ["upper", "work"] {
        fs::remove_dir(name)?;
        fs::create_dir(format!("{place}/{name}"))?;
        symlink(format!("{place}/{name}"), name)?;
    }
    Ok(())
}

/// What a lower layer has.
const LOWER: &str = "file d/f text=1 mode=640 owner=1:2 user.a=b mtime=5.000000006
    file d/large fill=300000
    file d/gone
    symlink d/l f
    dir d/e mode=2750
    file d/e/f";

/// Changes of all kinds to [`LOWER`].
fn work() -> Result<()> {
    fs::write("d/f", "2")?;
    calls::chmod("d/large", Mode::RUSR)?;
    fs::remove_file("d/gone")?;
    fs::rename("d/l", "l")?;
    fs::remove_dir_all("d/e")?;
    fs::create_dir("d/e")?;
    fs::write("d/e/new", "")?;
    Ok(())
}

/// What is there after [`work`].
const WORKED: &str = "file d/f text=2 mode=640 owner=1:2 user.a=b
    file d/large fill=300000 mode=400
    symlink l f
    dir d/e OPAQUE
    file d/e/new";

fn worked(overlay: Overlay) -> Result<()> {
    work()?;
    let upper = format!("{WORKED}\n whiteout d/gone\n whiteout d/l").replace("OPAQUE", "opaque");
    overlay.ends_as(&WORKED.replace("OPAQUE", ""), &upper)
}

fn a_lower_on_another_file_system(backend: Backend) -> Result<()> {
    let overlay = Overlay::bare(backend, &["", "file d/e/below"], "")?;
    mounted("tmpfs", "0", "mode=755")?;
    tree::make(Path::new("0"), LOWER)?;
    worked(overlay.mounted()?)
}

fn an_upper_on_a_tmpfs(backend: Backend) -> Result<()> {
    let overlay = Overlay::bare(backend, &[LOWER], "")?;
    fs::create_dir("tmpfs")?;
    mounted("tmpfs", "tmpfs", "mode=755")?;
    moved_to("tmpfs")?;
    worked(overlay.mounted()?)
}

fn a_file_for_whose_copy_there_is_no_room_stays_as_it_is(backend: Backend) -> Result<()> {
    let lower = "file d/large fill=3000000 mode=600 user.a=b\n file d/small text=1";
    let overlay = Overlay::bare(backend, &[lower], "")?;
    fs::create_dir("tmpfs")?;
    mounted("tmpfs", "tmpfs", "mode=755,size=2m")?;
    moved_to("tmpfs")?;
    let overlay = overlay.mounted()?;
    for _ in 0..2 {
        refused(calls::opened("d/large", OFlags::RDWR), Errno::NOSPC)?;
        refused(calls::chmod("d/large", Mode::RUSR), Errno::NOSPC)?;
        refused(calls::rename("d/large", "moved"), Errno::NOSPC)?;
        overlay.shows(lower)?;
    }
    // What needs no copy of it goes on; and then there is room for what is small.
    fs::write("d/small", "2")?;
    drop(calls::opened("d/large", OFlags::WRONLY | OFlags::TRUNC)?);
    overlay.ends_as_in_upper("file d/large mode=600 user.a=b\n file d/small text=2")
}

fn written_until_there_is_no_room(backend: Backend) -> Result<()> {
    let overlay = Overlay::bare(backend, &["file f text=1"], "")?;
    fs::create_dir("tmpfs")?;
    mounted("tmpfs", "tmpfs", "mode=755,size=2m")?;
    moved_to("tmpfs")?;
    let overlay = overlay.mounted()?;
    let filled = (|| -> std::io::Result<()> {
        let mut file = File::create("filling")?;
        (0..64).try_for_each(|_| file.write_all(&[1; 65536]))?;
        file.sync_all()
    })();
    refused(filled, Errno::NOSPC)?;
    fs::remove_file("filling")?;
    fs::write("f", "2")?;
    overlay.ends_as_in_upper("file f text=2")
}

fn a_lower_that_is_an_overlay_itself(backend: Backend) -> Result<()> {
    let overlay = Overlay::bare(backend, &["", "file d/e/below"], "")?;
    for (name, layer) in [("a", "whiteout d/x\n file d/f text=above"), ("b", LOWER), ("c", "file d/x\n whiteout d/e")] {
        fs::create_dir(name)?;
        tree::make(Path::new(name), layer)?;
    }
    mounted("overlay", "0", "userxattr,lowerdir=a:b:c")?;
    let overlay = overlay.mounted()?;
    refused(calls::lstat("d/x"), Errno::NOENT)?;
    ensure!(fs::read("d/f")? == b"above" && fs::read_dir("d/e")?.count() == 2, "they are not merged");
    work()?;
    let end = WORKED.replace(" mode=640 owner=1:2 user.a=b", "");
    let upper = format!("{end}\n whiteout d/gone\n whiteout d/l").replace("OPAQUE", "opaque");
    overlay.ends_as(&end.replace("OPAQUE", ""), &upper)
}

/// As within a container that has one.
fn an_upper_on_another_overlay(backend: Backend) -> Result<()> {
    let overlay = Overlay::bare(backend, &[LOWER], "")?;
    for name in ["a", "b", "c", "outer"] {
        fs::create_dir(name)?;
    }
    mounted("overlay", "outer", "userxattr,lowerdir=a,upperdir=b,workdir=c")?;
    moved_to("outer")?;
    let overlay = overlay.mounted()?;
    work()?;
    // How the upper directory says it, where nobody can make whiteouts, is left open.
    let end = WORKED.replace("OPAQUE", "");
    overlay.shows(&end)?;
    overlay.remount()?;
    overlay.shows(&end)?;
    overlay.unmount()
}

fn without_an_upper_layer_nothing_is_written(backend: Backend) -> Result<()> {
    let lower = "file d/f text=1 user.a=b\n symlink d/l f";
    let overlay = Overlay::without_upper(backend, &[lower, "file d/below\n dir e"])?;
    refused(fs::write("d/f", "2"), Errno::ROFS)?;
    refused(calls::opened("d/f", OFlags::RDWR), Errno::ROFS)?;
    refused(fs::write("d/new", ""), Errno::ROFS)?;
    refused(calls::mkdir("new", Mode::RWXU), Errno::ROFS)?;
    refused(calls::mknodat(CWD, "new", FileType::Fifo, Mode::RWXU, 0), Errno::ROFS)?;
    refused(calls::unlink("d/f"), Errno::ROFS)?;
    refused(calls::rmdir("e"), Errno::ROFS)?;
    refused(calls::rename("d/f", "d/g"), Errno::ROFS)?;
    refused(calls::link("d/f", "d/g"), Errno::ROFS)?;
    refused(calls::symlink("x", "new"), Errno::ROFS)?;
    refused(calls::chmod("d/f", Mode::RWXU), Errno::ROFS)?;
    refused(calls::setxattr("d/f", "user.a", b"c", calls::XattrFlags::empty()), Errno::ROFS)?;
    refused(File::open("d/f")?.set_modified(std::time::SystemTime::UNIX_EPOCH), Errno::ROFS)?;
    refused(calls::access("d/f", Access::WRITE_OK), Errno::ROFS)?;
    refused(calls::unlink("none"), Errno::ROFS)?;
    refused(calls::mkdir("d", Mode::RWXU), Errno::EXIST)?;
    overlay.shows(&format!("{lower}\n file d/below\n dir e"))?;
    overlay.unmount()
}

/// The kernel leaves one whiteout, for the next time.
fn nothing_is_left() -> Result<()> {
    let left = read(Command::new("find").args(["work", "-type", "f", "-o", "-name", "#*", "-type", "d"]))?;
    ensure!(left.is_empty(), "there is left:\n{left}");
    Ok(())
}

/// By one who was ended in the midst of it.
fn what_was_left_unfinished_is_cleared(backend: Backend) -> Result<()> {
    let overlay = Overlay::bare(backend, &[LOWER], "")?;
    fs::create_dir_all("work/work/#1")?;
    fs::write("work/work/#1/f", "half")?;
    fs::write("work/work/#2", "half")?;
    let overlay = overlay.mounted()?;
    work()?;
    overlay.unmount()?;
    nothing_is_left()
}

fn nothing_is_left_over_from_work(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &[LOWER])?;
    work()?;
    refused(calls::rename("d/e", "d/f"), Errno::NOTDIR)?;
    refused(calls::rmdir("d"), Errno::NOTEMPTY)?;
    overlay.unmount()?;
    nothing_is_left()
}
