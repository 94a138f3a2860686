//! Overlays: what is open, what watches, and what is used by no name.

use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::{Duration, SystemTime};

use anyhow::{Result, ensure};
use rbox_sys::inotify::Watch;
use rbox_sys::poll::{self, Interest};
use rbox_tests::calls::{self, AtFlags, CWD, Errno, Mode, OFlags, XattrFlags, refused};
use rbox_tests::cases;
use rbox_tests::overlay::{Backend, Overlay};

// fuse-overlayfs leaves whiteouts where there is nothing to be hidden.
cases! {
    changed_by_one_that_may_only_read: rbox kernel fuse_overlayfs;
    a_directory_changed_by_a_descriptor: rbox kernel fuse_overlayfs;
    opened_anew_by_a_descriptor: rbox kernel fuse_overlayfs;
    linked_by_a_descriptor: rbox kernel;
    within_a_directory_that_is_copied_up_meanwhile: rbox kernel fuse_overlayfs;
    within_the_working_directory_wherever_it_goes: rbox kernel fuse_overlayfs;
    one_description_is_shared_by_its_duplicates: rbox kernel fuse_overlayfs;
    who_watches_is_told: rbox kernel fuse_overlayfs;
    a_hundred_open_files: rbox kernel fuse_overlayfs;
}

/// A descriptor that is a path and no more.
fn path_only(path: &str) -> Result<OwnedFd> {
    Ok(calls::open(path, OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())?)
}

/// Another name of what a descriptor is of.
fn name_of(fd: &impl AsRawFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

fn changed_by_one_that_may_only_read(backend: Backend) -> Result<()> {
    let overlay = Overlay::over(backend, &["file l text=1 user.b=2"], "file u text=1 user.b=2")?;
    for path in ["l", "u"] {
        let file = File::open(path)?;
        calls::fchmod(&file, Mode::from_raw_mode(0o600))?;
        calls::fchown(&file, Some(calls::Uid::from_raw(1)), Some(calls::Gid::from_raw(2)))?;
        calls::fsetxattr(&file, "user.a", b"1", XattrFlags::empty())?;
        calls::fremovexattr(&file, "user.b")?;
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::new(5, 6))?;
        ensure!(file.metadata()?.mode() == 0o100_600, "{:?}", file.metadata()?);
    }
    let file = "text=1 mode=600 owner=1:2 user.a=1 mtime=5.000000006";
    overlay.ends_as_in_upper(&format!("file l {file}\n file u {file}"))
}

fn a_directory_changed_by_a_descriptor(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["file d/f", "file d/g"])?;
    let dir = File::open("d")?;
    calls::fchmod(&dir, Mode::from_raw_mode(0o700))?;
    calls::fsetxattr(&dir, "user.a", b"1", XattrFlags::empty())?;
    ensure!(fs::metadata("d")?.mode() == 0o40_700, "by name");
    drop(dir);
    overlay.ends_as("dir d mode=700 user.a=1\n file d/f\n file d/g", "dir d mode=700 user.a=1")
}

fn opened_anew_by_a_descriptor(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["file f text=1\n file g text=2"])?;
    let (path, reader) = (path_only("f")?, File::open("g")?);
    calls::opened(&name_of(&path), OFlags::WRONLY)?.write_all_at(b"3", 0)?;
    calls::opened(&name_of(&reader), OFlags::WRONLY | OFlags::APPEND)?.write_at(b"4", 0)?;
    let mut found = [0; 2];
    ensure!(reader.read_at(&mut found, 0)? == 2 && &found == b"24", "it reads {found:?}");
    ensure!(calls::fstat(&path)?.st_ino == calls::stat("f")?.st_ino, "another file");
    drop((path, reader));
    overlay.ends_as_in_upper("file f text=3\n file g text=24")
}

fn linked_by_a_descriptor(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["file f text=1\n dir d"])?;
    let file = File::open("f")?;
    calls::linkat(CWD, name_of(&file), CWD, "d/g", AtFlags::SYMLINK_FOLLOW)?;
    calls::unlink("f")?;
    // What has lost its last name gets no other.
    calls::unlink("d/g")?;
    refused(calls::linkat(CWD, name_of(&file), CWD, "h", AtFlags::SYMLINK_FOLLOW), Errno::NOENT)?;
    drop(file);
    overlay.ends_as("dir d", "dir d\n whiteout f")
}

fn within_a_directory_that_is_copied_up_meanwhile(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["file d/e/f text=1\n file d/e/g", "file d/e/below"])?;
    let dir = calls::open("d/e", OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    fs::write("d/e/new", "")?;
    ensure!(calls::statat(&dir, "new", AtFlags::empty())?.st_size == 0, "what is new");
    calls::mkdirat(&dir, "sub", Mode::RWXU)?;
    calls::unlinkat(&dir, "f", AtFlags::empty())?;
    calls::renameat(&dir, "g", &dir, "h")?;
    let listed = calls::Dir::read_from(&dir)?.filter_map(|entry| Some(entry.ok()?.file_name().to_owned()));
    let mut listed: Vec<_> = listed.filter(|name| !name.to_bytes().starts_with(b".")).collect();
    listed.sort();
    ensure!(listed == [c"below", c"h", c"new", c"sub"].map(ToOwned::to_owned), "{listed:?}");
    drop(dir);
    overlay.ends_as(
        "file d/e/new\n dir d/e/sub mode=700\n file d/e/h\n file d/e/below",
        "file d/e/new\n dir d/e/sub mode=700\n file d/e/h\n whiteout d/e/f\n whiteout d/e/g",
    )
}

fn within_the_working_directory_wherever_it_goes(backend: Backend) -> Result<()> {
    let overlay = Overlay::over(backend, &["dir m\n file l/f text=1"], "dir d/e")?;
    std::env::set_current_dir("d/e")?;
    fs::rename("../../d", "../../m/moved")?;
    fs::write("f", "1")?;
    fs::write("../../../l/f", "2")?;
    // Its name is told by the kernel alone (getcwd(2)).
    ensure!(std::env::current_dir()?.ends_with("merged/m/moved/e"), "{:?}", std::env::current_dir()?);
    std::env::set_current_dir("../../..")?;
    overlay.ends_as(
        "file m/moved/e/f text=1\n file l/f text=2",
        "dir m/moved opaque\n file m/moved/e/f text=1\n file l/f text=2",
    )
}

fn one_description_is_shared_by_its_duplicates(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["file f text=abcdef"])?;
    let one = calls::opened("f", OFlags::RDWR)?;
    let other = one.try_clone()?;
    let mut found = [0; 2];
    calls::read(one.as_fd(), &mut found)?;
    calls::write(other.as_fd(), b"CD")?;
    calls::read(one.as_fd(), &mut found)?;
    ensure!(&found == b"ef", "it reads {found:?}");
    drop((one, other));
    overlay.ends_as_in_upper("file f text=abCDef")
}

fn who_watches_is_told(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["file d/f text=1\n file d/gone", "file d/below"])?;
    let watch = Watch::of_directory("d".as_ref())?;
    let told = |what: &str| -> Result<()> {
        let [ready] = poll::wait([(watch.as_fd(), Interest::Read)], Some(Duration::from_secs(10)))?;
        ensure!(ready, "nothing is told of {what}");
        Ok(watch.clear()?)
    };
    fs::write("d/f", "2")?;
    told("a file of a lower that is written")?;
    fs::write("d/new", "")?;
    told("a new file")?;
    fs::remove_file("d/gone")?;
    told("one removed")?;
    fs::rename("d/below", "moved")?;
    told("one moved away")?;
    drop(watch);
    overlay.unmount()
}

fn a_hundred_open_files(backend: Backend) -> Result<()> {
    let lower: String = (0..100).map(|number| format!("file d/{number} text={number}\n")).collect();
    let overlay = Overlay::new(backend, &[&lower])?;
    let open = |number: usize| calls::opened(&format!("d/{number}"), OFlags::RDWR);
    let files: Vec<File> = (0..100).map(open).collect::<std::io::Result<_>>()?;
    fs::remove_dir_all("d")?;
    for (number, file) in files.iter().enumerate() {
        file.write_all_at(b"+", 2)?;
        let mut found = [0; 3];
        let length = file.read_at(&mut found, 0)?;
        let wanted = format!("{number:\0<2}+");
        ensure!(found[..length] == *wanted.as_bytes(), "{number} has {found:?}");
    }
    drop(files);
    overlay.ends_as("", "whiteout d")
}
