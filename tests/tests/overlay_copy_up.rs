//! Overlays: a file of a lower layer becomes one of the upper, as it was, when it is first changed; and nobody notices.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, chown, lchown};
use std::time::{Duration, SystemTime};

use anyhow::{Result, ensure};
use rbox_tests::calls::{self, AtFlags, CWD, Errno, Mode, OFlags, Timespec, Timestamps, XattrFlags, refused};
use rbox_tests::cases;
use rbox_tests::overlay::{Backend, Overlay, tree};

// fuse-overlayfs gives copied directories neither times nor a setgid bit; keeps no owner of a symlink whose times are
// set; cannot copy fifos and sockets up (EIO); fills holes; takes hard links of a lower for one file when one of them
// is changed; counts links of removed files; and numbers a directory anew once it is in the upper layer.
//
// rbox copies a file up when it is first written to, and not when it is opened for that.
//
// The kernel, without privileges in the host, can keep no file handle of where a file came from: it has another inode
// number when it is mounted anew, and a second link of it at once.
cases! {
    a_file_that_is_opened_to_be_written_stays_as_it_was: kernel fuse_overlayfs;
    a_file_that_is_written_to_keeps_all_else: rbox kernel fuse_overlayfs;
    its_directories_come_with_it_as_they_were: rbox kernel;
    a_change_of_mode: rbox kernel fuse_overlayfs;
    a_change_of_owner: rbox kernel fuse_overlayfs;
    a_change_of_times: rbox kernel fuse_overlayfs;
    a_change_of_an_xattr: rbox kernel fuse_overlayfs;
    a_change_of_length: rbox kernel fuse_overlayfs;
    another_link: rbox kernel fuse_overlayfs;
    another_link_is_the_same_file_at_once: rbox fuse_overlayfs;
    a_file_that_is_appended_to: rbox kernel fuse_overlayfs;
    a_file_that_is_emptied_as_it_is_opened: rbox kernel fuse_overlayfs;
    a_directory_is_changed: rbox kernel fuse_overlayfs;
    a_symlink_gets_another_owner_and_time: rbox kernel;
    a_fifo_and_a_socket_get_another_mode: rbox kernel;
    a_large_file_is_the_same_to_the_last_byte: rbox kernel fuse_overlayfs;
    a_sparse_file_is_the_same_and_not_much_larger: kernel;
    the_acl_comes_too: rbox kernel fuse_overlayfs;
    hard_links_of_a_lower_part_when_one_is_changed: rbox kernel;
    hard_links_of_the_upper_stay_together: rbox kernel fuse_overlayfs;
    who_has_it_open_reads_what_another_writes: rbox kernel fuse_overlayfs;
    who_has_it_open_sees_its_new_length_and_mode: rbox kernel fuse_overlayfs;
    many_at_once_copy_the_same_file_up: rbox kernel fuse_overlayfs;
    a_file_keeps_its_inode_number: rbox kernel fuse_overlayfs;
    a_file_keeps_its_inode_number_over_a_remount: rbox fuse_overlayfs;
    a_directory_keeps_its_inode_number_and_over_a_remount: rbox kernel;
    all_are_on_one_device_with_an_inode_number_each: rbox kernel;
    a_count_of_links_that_goes_up_and_down: rbox kernel;
    a_file_without_rights_is_copied_up_by_root: rbox kernel fuse_overlayfs;
}

/// A file with all that there may be of it.
const RICH: &str = "dir d mode=711 owner=7:8 user.d=e
     file d/f text=lower mode=640 owner=5:6 user.a=b user.empty= mtime=1234567890.123456789";

/// [`RICH`], after its file was changed.
fn rich(file: &str) -> String {
    format!("dir d mode=711 owner=7:8 user.d=e\n file d/f {file}")
}

fn a_file_that_is_opened_to_be_written_stays_as_it_was(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &[RICH])?;
    drop(calls::opened("d/f", OFlags::RDWR)?);
    overlay.ends_as_in_upper(RICH)
}

fn a_file_that_is_written_to_keeps_all_else(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &[RICH])?;
    calls::opened("d/f", OFlags::WRONLY)?.write_all(b"upper")?;
    overlay.ends_as_in_upper(&rich("text=upper mode=640 owner=5:6 user.a=b user.empty="))
}

fn its_directories_come_with_it_as_they_were(backend: Backend) -> Result<()> {
    let lower = "dir a mode=700 owner=1:2 mtime=1.000000001
         dir a/b mode=1777 user.b=b mtime=2.000000002
         dir a/b/c mode=2755 owner=0:4 mtime=3.000000003
         file a/b/c/f
         file a/g";
    let overlay = Overlay::new(backend, &[lower])?;
    calls::chmod("a/b/c/f", Mode::RUSR)?;
    overlay
        .ends_as(&lower.replace("c/f", "c/f mode=400"), &lower.replace("c/f", "c/f mode=400").replace("file a/g", ""))
}

fn a_change_of_mode(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &[RICH])?;
    calls::chmod("d/f", Mode::from_raw_mode(0o4751))?;
    overlay.ends_as_in_upper(&RICH.replace("mode=640", "mode=4751"))
}

fn a_change_of_owner(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &[RICH])?;
    chown("d/f", Some(65535), None)?;
    overlay.ends_as_in_upper(&RICH.replace("owner=5:6", "owner=65535:6"))
}

fn a_change_of_times(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &[RICH])?;
    File::open("d/f")?.set_modified(SystemTime::UNIX_EPOCH + Duration::new(42, 987_654_321))?;
    overlay.ends_as_in_upper(&RICH.replace("mtime=1234567890.123456789", "mtime=42.987654321"))
}

fn a_change_of_an_xattr(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &[RICH])?;
    calls::setxattr("d/f", "user.a", b"c", XattrFlags::REPLACE)?;
    calls::removexattr("d/f", "user.empty")?;
    overlay.ends_as_in_upper(&RICH.replace("user.a=b user.empty=", "user.a=c"))
}

fn a_change_of_length(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["file shorter text=lower\n file longer text=lower\n file same text=lower"])?;
    for (name, length) in [("shorter", 2), ("longer", 7), ("same", 5)] {
        File::options().write(true).open(name)?.set_len(length)?;
    }
    overlay.ends_as_in_upper("file shorter text=lo\n file longer text=lower\\x00\\x00\n file same text=lower")
}

fn another_link(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &[RICH])?;
    fs::hard_link("d/f", "f")?;
    ensure!(fs::metadata("f")?.nlink() == 2 && fs::metadata("d/f")?.nlink() == 2, "two links");
    calls::opened("f", OFlags::WRONLY)?.write_all(b"upper")?;
    ensure!(fs::read("d/f")? == b"upper", "of two files");
    overlay.remount()?;
    overlay.ends_as_in_upper(&format!("{}\n link f d/f", rich("text=upper mode=640 owner=5:6 user.a=b user.empty=")))
}

fn another_link_is_the_same_file_at_once(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &[RICH])?;
    fs::hard_link("d/f", "f")?;
    overlay.ends_as_in_upper(&format!("{RICH}\n link f d/f"))
}

fn a_file_that_is_appended_to(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &[RICH])?;
    let mut file = calls::opened("d/f", OFlags::WRONLY | OFlags::APPEND)?;
    file.seek(SeekFrom::Start(0))?;
    file.write_all(b"+upper")?;
    drop(file);
    overlay.ends_as_in_upper(&rich("text=lower+upper mode=640 owner=5:6 user.a=b user.empty="))
}

fn a_file_that_is_emptied_as_it_is_opened(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &[RICH])?;
    let file = calls::opened("d/f", OFlags::WRONLY | OFlags::TRUNC)?;
    ensure!(file.metadata()?.len() == 0, "it is empty at once");
    drop(file);
    overlay.ends_as_in_upper(&rich("mode=640 owner=5:6 user.a=b user.empty="))
}

fn a_directory_is_changed(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["dir d owner=7:8 user.d=e mtime=2.000000003\n file d/f", "file d/g"])?;
    calls::chmod("d", Mode::from_raw_mode(0o3770))?;
    calls::setxattr("d", "user.new", b"1", XattrFlags::CREATE)?;
    let upper = "dir d mode=3770 owner=7:8 user.d=e user.new=1 mtime=2.000000003";
    overlay.ends_as(&format!("{upper}\n file d/f\n file d/g"), upper)
}

fn a_symlink_gets_another_owner_and_time(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["symlink l nowhere owner=1:1\n symlink t nowhere owner=1:1"])?;
    lchown("l", Some(5), Some(6))?;
    let time = Timespec { tv_sec: 3, tv_nsec: 4 };
    let times = Timestamps { last_access: time, last_modification: time };
    calls::utimensat(CWD, "t", &times, AtFlags::SYMLINK_NOFOLLOW)?;
    overlay.ends_as_in_upper("symlink l nowhere owner=5:6\n symlink t nowhere owner=1:1 mtime=3.000000004")
}

fn a_fifo_and_a_socket_get_another_mode(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["fifo p owner=1:2 mtime=1.000000002\n socket s mode=755"])?;
    calls::chmod("p", Mode::from_raw_mode(0o666))?;
    calls::chmod("s", Mode::from_raw_mode(0o666))?;
    overlay.ends_as_in_upper("fifo p owner=1:2 mode=666 mtime=1.000000002\n socket s mode=666")
}

/// More than what any server takes at once, and no multiple of a page.
const LARGE: usize = (9 << 20) + 4321;

fn a_large_file_is_the_same_to_the_last_byte(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &[&format!("file f fill={LARGE}")])?;
    calls::chmod("f", Mode::RUSR)?;
    overlay.ends_as_in_upper(&format!("file f fill={LARGE} mode=400"))
}

fn a_sparse_file_is_the_same_and_not_much_larger(backend: Backend) -> Result<()> {
    let overlay = Overlay::bare(backend, &["file f size=1000000000\n file hole size=50000000"], "")?;
    let lower = File::options().write(true).open("0/f")?;
    let places = [0, 5_000_000, 499_999_999, 999_999_000];
    places.iter().try_for_each(|at| lower.write_all_at(b"data", *at))?;
    drop(lower);
    let overlay = overlay.mounted()?;
    let file = calls::opened("f", OFlags::RDWR)?;
    drop(calls::opened("hole", OFlags::RDWR)?);
    for _ in 0..2 {
        for at in places {
            let mut found = [1; 12];
            file.read_at(&mut found, at)?;
            ensure!(found == *b"data\0\0\0\0\0\0\0\0", "at {at}: {found:?}");
        }
        file.sync_all()?;
    }
    ensure!(file.metadata()?.len() == 1_000_000_000, "its length");
    let blocks = fs::metadata(overlay.upper().join("f"))?.blocks();
    // What the upper file system has its holes in is its own affair: an eighth of it will do.
    ensure!(blocks < 1_000_000_000 / 512 / 8, "it takes {blocks} blocks");
    drop(file);
    overlay.unmount()
}

fn the_acl_comes_too(backend: Backend) -> Result<()> {
    let acl = "acl=u::rw-,u:7:r--,g::r--,m::r--,o::---";
    let default = "default=u::rwx,u:7:r-x,g::r-x,m::r-x,o::---";
    let lower = format!("dir d {acl} mode=640 {default}\n file d/f mode=640 text=1 {acl}");
    let overlay = Overlay::new(backend, &[&lower])?;
    fs::write("d/f", "2")?;
    overlay.ends_as_in_upper(&lower.replace("text=1", "text=2"))
}

fn hard_links_of_a_lower_part_when_one_is_changed(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["file a text=1\n link b a\n link c a"])?;
    fs::write("b", "2")?;
    overlay.ends_as("file a text=1\n link c a\n file b text=2", "file b text=2")
}

fn hard_links_of_the_upper_stay_together(backend: Backend) -> Result<()> {
    let overlay = Overlay::over(backend, &["dir d"], "file a text=1 user.a=b\n link d/b a")?;
    fs::hard_link("d/b", "c")?;
    fs::write("c", "2")?;
    calls::chmod("a", Mode::RWXU)?;
    overlay.ends_as_in_upper("file a text=2 user.a=b mode=700\n link d/b a\n link c a")
}

fn who_has_it_open_reads_what_another_writes(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["file f text=lower"])?;
    let mut reader = File::open("f")?;
    let mut text = String::new();
    reader.read_to_string(&mut text)?;
    let writer = calls::opened("f", OFlags::RDWR)?;
    writer.write_all_at(b"up", 0)?;
    let mut found = [0; 5];
    reader.read_exact_at(&mut found, 0)?;
    ensure!(&found == b"upwer", "it reads {:?}", found.escape_ascii().to_string());
    // And each of what the other appends.
    writer.write_all_at(b" and more", 5)?;
    reader.read_to_string(&mut text)?;
    ensure!(text == "lower and more", "it reads {text:?}");
    drop((reader, writer));
    overlay.ends_as_in_upper("file f text=upwer\\x20and\\x20more")
}

fn who_has_it_open_sees_its_new_length_and_mode(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["file f text=lower"])?;
    let reader = File::open("f")?;
    let before = reader.metadata()?;
    fs::write("f", "longer than it was")?;
    calls::chmod("f", Mode::RWXU)?;
    let after = reader.metadata()?;
    ensure!((after.len(), after.mode()) == (18, 0o100_700), "{after:?}");
    ensure!((after.ino(), after.dev()) == (before.ino(), before.dev()), "it is another file");
    drop(reader);
    overlay.ends_as_in_upper("file f text=longer\\x20than\\x20it\\x20was mode=700")
}

fn many_at_once_copy_the_same_file_up(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["file a/b/c/f fill=100000\n file a/b/c/g"])?;
    let write = |number: usize| -> Result<()> {
        let file = calls::opened("a/b/c/f", OFlags::RDWR)?;
        file.write_all_at(&[7], number as u64 * 1000)?;
        fs::write(format!("a/b/c/{number}"), "")?;
        Ok(())
    };
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..16).map(|number| scope.spawn(move || write(number))).collect();
        all.into_iter().try_for_each(|one| one.join().expect("it does not panic"))
    })?;
    let mut wanted = tree::filling(100_000);
    (0..16).for_each(|number| wanted[number * 1000] = 7);
    ensure!(fs::read("a/b/c/f")? == wanted, "something is lost");
    overlay.remount()?;
    ensure!(fs::read("a/b/c/f")? == wanted, "something is lost since");
    ensure!(fs::read_dir("a/b/c")?.count() == 18, "not all are there");
    overlay.unmount()
}

/// What tells a file from all others.
fn identity(path: &str) -> Result<(u64, u64)> {
    let status = fs::symlink_metadata(path)?;
    Ok((status.dev(), status.ino()))
}

/// The inode number of `path` is the same after what is done. A mount anew has another device.
fn keeps_its_number(path: &str, change: impl FnOnce() -> Result<()>, after: &str) -> Result<()> {
    let (_, before) = identity(path)?;
    change()?;
    let (_, after) = identity(after)?;
    ensure!(after == before, "it is {after} after, {before} before");
    Ok(())
}

fn a_file_keeps_its_inode_number(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["file d/f text=1\n file d/g"])?;
    keeps_its_number("d/f", || Ok(fs::write("d/f", "2")?), "d/f")?;
    keeps_its_number("d/g", || Ok(fs::rename("d/g", "moved")?), "moved")?;
    overlay.unmount()
}

fn a_file_keeps_its_inode_number_over_a_remount(backend: Backend) -> Result<()> {
    let overlay = Overlay::over(backend, &["file d/f text=1\n file d/g\n file d/h"], "file u")?;
    for (path, after) in [("d/h", "d/h"), ("u", "u"), ("d/f", "d/f"), ("d/g", "d/moved")] {
        let change = || -> Result<()> {
            match path {
                "d/f" => fs::write("d/f", "2")?,
                "d/g" => fs::rename("d/g", "d/moved")?,
                _ => {}
            }
            overlay.remount()
        };
        keeps_its_number(path, change, after)?;
    }
    overlay.unmount()
}

fn a_directory_keeps_its_inode_number_and_over_a_remount(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["file d/f", "file d/g"])?;
    keeps_its_number("d", || Ok(fs::write("d/new", "2")?), "d")?;
    keeps_its_number("d", || overlay.remount(), "d")?;
    overlay.unmount()
}

fn all_are_on_one_device_with_an_inode_number_each(backend: Backend) -> Result<()> {
    let lowers = ["file a\n fifo p\n symlink l a\n dir d", "file b\n link c b\n dir d/e", "file d/f"];
    let overlay = Overlay::over(backend, &lowers, "file u\n dir d/u")?;
    fs::write("b", "copied")?;
    let all = [".", "a", "p", "l", "d", "b", "c", "d/e", "d/f", "u", "d/u"];
    let identities = all.iter().map(|path| identity(path)).collect::<Result<Vec<_>>>()?;
    let devices: std::collections::BTreeSet<u64> = identities.iter().map(|(device, _)| *device).collect();
    let numbers: std::collections::BTreeSet<_> = identities.iter().collect();
    ensure!(devices.len() == 1, "{identities:?}");
    ensure!(numbers.len() == all.len(), "{identities:?}");
    overlay.unmount()
}

fn a_count_of_links_that_goes_up_and_down(backend: Backend) -> Result<()> {
    let overlay = Overlay::over(backend, &["file lower"], "file upper")?;
    for path in ["lower", "upper"] {
        let open = File::open(path)?;
        let links = || -> Result<u64> { Ok(open.metadata()?.nlink()) };
        ensure!(links()? == 1, "{path} has {} at first", links()?);
        fs::hard_link(path, "second")?;
        ensure!(links()? == 2 && fs::metadata(path)?.nlink() == 2, "{path} has {} with another", links()?);
        fs::remove_file(path)?;
        ensure!(links()? == 1 && fs::metadata("second")?.nlink() == 1, "{path} has {} with the other", links()?);
        fs::remove_file("second")?;
        ensure!(links()? == 0, "{path} has {} in the end", links()?);
    }
    overlay.ends_as("", "whiteout lower")
}

fn a_file_without_rights_is_copied_up_by_root(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["dir d mode=0 owner=9:9\n file d/f text=1 mode=0 owner=9:9 user.a=b"])?;
    fs::write("d/f", "2")?;
    refused(calls::opened("d/f", OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY), Errno::EXIST)?;
    overlay.ends_as_in_upper("dir d mode=0 owner=9:9\n file d/f text=2 mode=0 owner=9:9 user.a=b")
}
