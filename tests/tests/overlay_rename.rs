//! Overlays: names that are given to something else, rename(2) and renameat2(2).

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;

use anyhow::{Result, ensure};
use rbox_tests::calls::{self, Errno, OFlags, RenameFlags, refused, rename, rename2};
use rbox_tests::cases;
use rbox_tests::overlay::{Backend, Overlay};

// fuse-overlayfs leaves whiteouts where there is nothing to be hidden; cannot rename a socket of a lower layer
// (ENXIO); and lets everybody make whiteouts.
cases! {
    a_file_of_the_upper: rbox kernel fuse_overlayfs;
    a_file_of_a_lower: rbox kernel fuse_overlayfs;
    a_file_that_is_both_in_the_upper_and_a_lower: rbox kernel fuse_overlayfs;
    there_and_back: rbox kernel;
    over_a_file_of_a_lower: rbox kernel fuse_overlayfs;
    over_a_file_of_the_upper: rbox kernel;
    over_a_whiteout: rbox kernel fuse_overlayfs;
    into_a_merged_directory: rbox kernel fuse_overlayfs;
    a_name_for_itself_changes_nothing: rbox kernel fuse_overlayfs;
    a_name_that_is_free_again_is_taken_anew: rbox kernel fuse_overlayfs;
    symlinks_fifos_and_sockets: rbox kernel;
    a_file_that_is_open: rbox kernel fuse_overlayfs;
    not_over_what_is_there_with_noreplace: rbox kernel fuse_overlayfs;
    two_files_are_exchanged: rbox kernel fuse_overlayfs;
    a_file_and_a_directory_are_exchanged: rbox kernel fuse_overlayfs;
    two_directories_of_the_upper_are_exchanged: rbox kernel fuse_overlayfs;
    no_exchange_with_what_is_not_there_or_below: rbox kernel fuse_overlayfs;
    flags_that_make_no_sense: rbox kernel;
    a_directory_of_a_lower_is_on_another_device: rbox kernel fuse_overlayfs;
    mv_moves_a_directory_of_a_lower_all_the_same: rbox kernel fuse_overlayfs;
    a_directory_of_the_upper: rbox kernel fuse_overlayfs;
    a_directory_of_the_upper_over_where_a_lower_had_something: rbox kernel;
    a_directory_over_an_empty_one: rbox kernel;
    no_directory_over_one_that_has_something_in_it: rbox kernel fuse_overlayfs;
    no_directory_over_a_file_nor_a_file_over_a_directory: rbox kernel fuse_overlayfs;
    no_directory_into_itself: rbox kernel fuse_overlayfs;
    what_is_in_a_renamed_directory_is_still_in_use: rbox kernel fuse_overlayfs;
    a_directory_renamed_many_times_holds_a_file_of_a_lower: rbox kernel fuse_overlayfs;
    a_file_is_saved_as_editors_do: rbox kernel fuse_overlayfs;
}

fn a_file_of_the_upper(backend: Backend) -> Result<()> {
    let overlay = Overlay::over(backend, &["dir d"], "file f text=1 mode=600 owner=1:2 user.a=b mtime=5.000000006")?;
    rename("f", "d/g")?;
    overlay.ends_as_in_upper("file d/g text=1 mode=600 owner=1:2 user.a=b mtime=5.000000006")
}

fn a_file_of_a_lower(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["dir d\n file f text=1 mode=600 owner=1:2 user.a=b mtime=5.000000006"])?;
    rename("f", "d/g")?;
    refused(fs::read("f"), Errno::NOENT)?;
    let file = "file d/g text=1 mode=600 owner=1:2 user.a=b mtime=5.000000006";
    overlay.ends_as(file, &format!("{file}\n whiteout f"))
}

fn a_file_that_is_both_in_the_upper_and_a_lower(backend: Backend) -> Result<()> {
    let overlay = Overlay::over(backend, &["file f text=lower"], "file f text=upper")?;
    rename("f", "g")?;
    overlay.ends_as("file g text=upper", "file g text=upper\n whiteout f")
}

fn there_and_back(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["file d/f text=1"])?;
    rename("d/f", "g")?;
    rename("g", "d/f")?;
    overlay.ends_as_in_upper("file d/f text=1")
}

fn over_a_file_of_a_lower(backend: Backend) -> Result<()> {
    let overlay = Overlay::over(backend, &["file f text=1\n file g text=2\n file h text=3"], "file u text=4")?;
    rename("f", "g")?;
    rename("u", "h")?;
    overlay.ends_as("file g text=1\n file h text=4", "file g text=1\n file h text=4\n whiteout f")
}

fn over_a_file_of_the_upper(backend: Backend) -> Result<()> {
    let overlay = Overlay::over(backend, &["file f text=1"], "file g text=2\n file h text=3")?;
    rename("f", "g")?;
    rename("g", "h")?;
    overlay.ends_as("file h text=1", "file h text=1\n whiteout f")
}

fn over_a_whiteout(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["file f text=1\n file gone text=2\n file d/gone"])?;
    fs::remove_file("gone")?;
    fs::remove_file("d/gone")?;
    rename("f", "gone")?;
    rename("gone", "d/gone")?;
    overlay.ends_as("file d/gone text=1", "file d/gone text=1\n whiteout f\n whiteout gone")
}

fn into_a_merged_directory(backend: Backend) -> Result<()> {
    let overlay = Overlay::over(backend, &["file d/1\n file e/f", "file d/2\n file e/g text=1"], "file d/3")?;
    rename("e/g", "d/g")?;
    overlay.ends_as(
        "file d/1\n file d/2\n file d/3\n file d/g text=1\n file e/f",
        "file d/3\n file d/g text=1\n whiteout e/g",
    )
}

fn a_name_for_itself_changes_nothing(backend: Backend) -> Result<()> {
    let overlay = Overlay::over(backend, &["file f text=1\n dir d"], "file a text=2\n link b a\n dir u")?;
    for name in ["f", "d", "a", "u"] {
        rename(name, name)?;
    }
    // Of two names of one file, both stay (rename(2)).
    rename("a", "b")?;
    overlay.ends_as("file f text=1\n dir d\n file a text=2\n link b a\n dir u", "file a text=2\n link b a\n dir u")
}

fn a_name_that_is_free_again_is_taken_anew(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["file f text=1\n file d/g"])?;
    rename("f", "moved")?;
    fs::write("f", "new")?;
    rename("d/g", "moved2")?;
    fs::create_dir("d/g")?;
    let end = "file moved text=1\n file f text=new\n file moved2";
    overlay.ends_as(&format!("{end}\n dir d/g"), &format!("{end}\n dir d/g opaque"))
}

fn symlinks_fifos_and_sockets(backend: Backend) -> Result<()> {
    let overlay =
        Overlay::new(backend, &["symlink l no/where owner=1:1\n fifo p mode=600\n socket s\n dir d\n file f"])?;
    rename("l", "d/l")?;
    rename("p", "f")?;
    rename("s", "d/s")?;
    let moved = "symlink d/l no/where owner=1:1\n fifo f mode=600\n socket d/s";
    overlay.ends_as(moved, &format!("{moved}\n whiteout l\n whiteout p\n whiteout s"))
}

fn a_file_that_is_open(backend: Backend) -> Result<()> {
    let overlay = Overlay::over(backend, &["file f text=1\n file over text=over"], "file u text=2")?;
    let (mut lower, upper) = (File::open("f")?, calls::opened("u", OFlags::RDWR)?);
    let mut over = File::open("over")?;
    rename("f", "moved")?;
    rename("u", "over")?;
    let mut text = String::new();
    lower.read_to_string(&mut text)?;
    over.read_to_string(&mut text)?;
    (&upper).write_all(b"3")?;
    ensure!(text == "1over", "it reads {text:?}");
    drop((lower, upper, over));
    overlay.ends_as("file moved text=1\n file over text=3", "file moved text=1\n file over text=3\n whiteout f")
}

fn not_over_what_is_there_with_noreplace(backend: Backend) -> Result<()> {
    let overlay =
        Overlay::over(backend, &["file f text=1\n file g text=2\n dir d\n file gone"], "file u text=3\n dir v")?;
    fs::remove_file("gone")?;
    for to in ["g", "d", "u", "v"] {
        refused(rename2("f", to, RenameFlags::NOREPLACE), Errno::EXIST)?;
    }
    refused(rename2("u", "f", RenameFlags::NOREPLACE), Errno::EXIST)?;
    refused(rename2("none", "x", RenameFlags::NOREPLACE), Errno::NOENT)?;
    rename2("f", "gone", RenameFlags::NOREPLACE)?;
    rename2("u", "d/u", RenameFlags::NOREPLACE)?;
    rename2("v", "f", RenameFlags::NOREPLACE)?;
    overlay.ends_as(
        "file gone text=1\n file g text=2\n file d/u text=3\n dir f",
        "file gone text=1\n file d/u text=3\n dir f opaque",
    )
}

fn two_files_are_exchanged(backend: Backend) -> Result<()> {
    let lower = "file a text=a user.a=a\n file b text=b mode=600\n file c text=c\n file d/e text=e";
    let overlay = Overlay::over(backend, &[lower], "file u text=u\n file v text=v")?;
    rename2("a", "b", RenameFlags::EXCHANGE)?;
    rename2("c", "u", RenameFlags::EXCHANGE)?;
    rename2("v", "d/e", RenameFlags::EXCHANGE)?;
    overlay.ends_as_in_upper(
        "file a text=b mode=600\n file b text=a user.a=a\n file c text=u\n file u text=c\n file v text=e
         file d/e text=v",
    )
}

fn a_file_and_a_directory_are_exchanged(backend: Backend) -> Result<()> {
    let overlay = Overlay::over(backend, &["file f text=1\n file g text=2"], "file d/x text=3\n symlink l x\n dir e")?;
    rename2("f", "d", RenameFlags::EXCHANGE)?;
    rename2("e", "l", RenameFlags::EXCHANGE)?;
    overlay.ends_as(
        "file d text=1\n file f/x text=3\n file g text=2\n symlink e x\n dir l",
        "file d text=1\n dir f opaque\n file f/x text=3\n symlink e x\n dir l opaque",
    )
}

fn two_directories_of_the_upper_are_exchanged(backend: Backend) -> Result<()> {
    let overlay = Overlay::over(backend, &["dir m/n"], "file d/1\n file m/e/2")?;
    rename2("d", "m/e", RenameFlags::EXCHANGE)?;
    overlay.ends_as("file d/2\n file m/e/1\n dir m/n", "dir d opaque\n file d/2\n dir m/e opaque\n file m/e/1")
}

fn no_exchange_with_what_is_not_there_or_below(backend: Backend) -> Result<()> {
    let overlay = Overlay::over(backend, &["file f\n file gone"], "file d/e/f")?;
    fs::remove_file("gone")?;
    refused(rename2("f", "none", RenameFlags::EXCHANGE), Errno::NOENT)?;
    refused(rename2("f", "gone", RenameFlags::EXCHANGE), Errno::NOENT)?;
    refused(rename2("gone", "f", RenameFlags::EXCHANGE), Errno::NOENT)?;
    refused(rename2("d", "d/e", RenameFlags::EXCHANGE), Errno::INVAL)?;
    refused(rename2("d/e", "d", RenameFlags::EXCHANGE), Errno::INVAL)?;
    overlay.ends_as("file f\n file d/e/f", "file d/e/f\n whiteout gone")
}

fn flags_that_make_no_sense(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["file f\n file g"])?;
    refused(rename2("f", "g", RenameFlags::EXCHANGE | RenameFlags::NOREPLACE), Errno::INVAL)?;
    // Else anybody could make whiteouts.
    refused(rename2("f", "x", RenameFlags::WHITEOUT), Errno::INVAL)?;
    overlay.ends_as("file f\n file g", "")
}

fn a_directory_of_a_lower_is_on_another_device(backend: Backend) -> Result<()> {
    let lowers = ["file d/f\n file merged/1\n dir empty", "file merged/2"];
    let overlay = Overlay::over(backend, &lowers, "file merged/3\n dir over\n dir u")?;
    for from in ["d", "merged", "empty"] {
        refused(rename(from, "new"), Errno::XDEV)?;
        refused(rename(from, "over"), Errno::XDEV)?;
        refused(rename2(from, "u", RenameFlags::EXCHANGE), Errno::XDEV)?;
        refused(rename2("u", from, RenameFlags::EXCHANGE), Errno::XDEV)?;
    }
    let upper = "file merged/3\n dir over\n dir u";
    overlay.ends_as(&format!("file d/f\n file merged/1\n file merged/2\n dir empty\n {upper}"), upper)
}

fn mv_moves_a_directory_of_a_lower_all_the_same(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["file d/f text=1 mode=600\n symlink d/l f\n dir d/e mode=700", "file d/g"])?;
    rbox_tests::command::read(std::process::Command::new("mv").args(["d", "moved"]))?;
    let moved = "file moved/f text=1 mode=600\n symlink moved/l f\n dir moved/e mode=700\n file moved/g";
    overlay.ends_as(moved, &format!("{moved}\n whiteout d"))
}

fn a_directory_of_the_upper(backend: Backend) -> Result<()> {
    let overlay = Overlay::over(backend, &["dir m"], "dir d mode=2700 owner=1:2 user.a=b\n file d/e/f text=1")?;
    rename("d", "moved")?;
    rename("moved", "m/d")?;
    let moved = "dir m/d mode=2700 owner=1:2 user.a=b OPAQUE\n file m/d/e/f text=1";
    overlay.ends_as(&moved.replace("OPAQUE", ""), &moved.replace("OPAQUE", "opaque"))
}

fn a_directory_of_the_upper_over_where_a_lower_had_something(backend: Backend) -> Result<()> {
    let overlay = Overlay::over(backend, &["file gone/f\n file file text=1"], "file d/1\n file e/2")?;
    fs::remove_dir_all("gone")?;
    fs::remove_file("file")?;
    rename("d", "gone")?;
    rename("e", "file")?;
    overlay.ends_as("file gone/1\n file file/2", "dir gone opaque\n file gone/1\n dir file opaque\n file file/2")
}

fn a_directory_over_an_empty_one(backend: Backend) -> Result<()> {
    let overlay = Overlay::over(backend, &["file m/f\n dir lower"], "file d/1\n file e/2\n file g/3\n dir upper")?;
    fs::remove_file("m/f")?;
    rename("d", "m")?;
    rename("e", "lower")?;
    rename("g", "upper")?;
    overlay.ends_as(
        "file m/1\n file lower/2\n file upper/3",
        "dir m opaque\n file m/1\n dir lower opaque\n file lower/2\n dir upper opaque\n file upper/3",
    )
}

fn no_directory_over_one_that_has_something_in_it(backend: Backend) -> Result<()> {
    let overlay =
        Overlay::over(backend, &["file lower/f\n file m/1"], "dir d opaque\n file d/f\n file m/2\n file upper/f")?;
    for to in ["lower", "m", "upper"] {
        refused(rename("d", to), Errno::NOTEMPTY)?;
    }
    let upper = "dir d OPAQUE\n file d/f\n file m/2\n file upper/f";
    overlay.ends_as(
        &format!("file lower/f\n file m/1\n {}", upper.replace("OPAQUE", "")),
        &upper.replace("OPAQUE", "opaque"),
    )
}

fn no_directory_over_a_file_nor_a_file_over_a_directory(backend: Backend) -> Result<()> {
    let overlay = Overlay::over(backend, &["file f\n dir d"], "file u\n dir e")?;
    for (from, to) in [("e", "f"), ("e", "u")] {
        refused(rename(from, to), Errno::NOTDIR)?;
    }
    for (from, to) in [("f", "d"), ("f", "e"), ("u", "d"), ("u", "e")] {
        refused(rename(from, to), Errno::ISDIR)?;
    }
    refused(rename("f", "x/"), Errno::NOTDIR)?;
    refused(rename("none", "x"), Errno::NOENT)?;
    refused(rename("f", "none/x"), Errno::NOENT)?;
    overlay.ends_as("file f\n dir d\n file u\n dir e", "file u\n dir e")
}

fn no_directory_into_itself(backend: Backend) -> Result<()> {
    let overlay = Overlay::over(backend, &["dir l/m"], "dir d/e")?;
    refused(rename("d", "d/e/f"), Errno::INVAL)?;
    refused(rename("d", "d/x"), Errno::INVAL)?;
    refused(rename("d/e", "d"), Errno::NOTEMPTY)?;
    refused(rename("l", "l/m/x"), Errno::INVAL)?;
    overlay.ends_as("dir l/m\n dir d/e", "dir d/e")
}

fn what_is_in_a_renamed_directory_is_still_in_use(backend: Backend) -> Result<()> {
    let overlay = Overlay::over(backend, &["dir m"], "file d/e/f text=1")?;
    let file = calls::opened("d/e/f", OFlags::RDWR)?;
    let listing = fs::read_dir("d/e")?;
    rename("d", "m/d")?;
    (&file).write_all(b"2")?;
    ensure!(listing.count() == 1, "its listing");
    fs::write("m/d/e/g", "")?;
    refused(calls::lstat("d/e"), Errno::NOENT)?;
    ensure!(file.metadata()?.ino() == fs::metadata("m/d/e/f")?.ino(), "another file");
    drop(file);
    overlay.ends_as("file m/d/e/f text=2\n file m/d/e/g", "dir m/d opaque\n file m/d/e/f text=2\n file m/d/e/g")
}

fn a_directory_renamed_many_times_holds_a_file_of_a_lower(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["file f text=1\n file a/x\n file b/x"])?;
    fs::create_dir("new")?;
    rename("f", "new/f")?;
    for (from, to) in [("new", "a/new"), ("a/new", "b/new"), ("b/new", "new2"), ("new2", "a/new")] {
        rename(from, to)?;
        ensure!(fs::read(format!("{to}/f"))? == b"1", "lost in {to}");
        overlay.remount()?;
    }
    overlay.ends_as(
        "file a/x\n file b/x\n file a/new/f text=1",
        "dir b\n dir a/new opaque\n file a/new/f text=1\n whiteout f",
    )
}

fn a_file_is_saved_as_editors_do(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["file f text=old mode=600 owner=1:2"])?;
    for round in 0..20 {
        let mut new = File::create_new("f.tmp")?;
        write!(new, "{round}")?;
        new.sync_all()?;
        fs::rename("f.tmp", "f")?;
        File::open(".")?.sync_all()?;
        ensure!(fs::read_to_string("f")? == round.to_string(), "round {round}");
    }
    // And with a copy of it kept.
    fs::hard_link("f", "f~")?;
    fs::write("f.tmp", "last")?;
    fs::rename("f.tmp", "f")?;
    overlay.ends_as_in_upper("file f text=last\n file f~ text=19")
}
