//! Overlays: what is removed is gone from below too, until something new is there; who has it open has it still.

use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::os::unix::net::UnixListener;

use anyhow::{Result, ensure};
use rbox_tests::calls::{self, AtFlags, CWD, Errno, FileType, Mode, OFlags, refused, rmdir, unlink};
use rbox_tests::cases;
use rbox_tests::overlay::{Backend, Overlay};

// fuse-overlayfs cannot remove a socket of a lower layer (ENXIO); does to the file's name what is done to an open one
// that has none; and leaves another link of a lower file copied up.
cases! {
    a_file_of_the_upper_leaves_nothing: rbox kernel fuse_overlayfs;
    a_file_of_a_lower_leaves_a_whiteout: rbox kernel;
    a_file_that_is_in_both_leaves_a_whiteout: rbox kernel fuse_overlayfs;
    a_file_in_an_opaque_directory_leaves_nothing: rbox kernel fuse_overlayfs;
    what_only_a_whiteout_hid_before_stays_hidden: rbox kernel fuse_overlayfs;
    all_kinds_are_made_where_a_whiteout_is: rbox kernel fuse_overlayfs;
    a_directory_made_where_one_was_removed_is_empty: rbox kernel fuse_overlayfs;
    an_empty_directory_of_a_lower: rbox kernel fuse_overlayfs;
    a_merged_directory_when_all_in_it_is_gone: rbox kernel fuse_overlayfs;
    a_directory_of_which_a_lower_has_but_whiteouts: rbox kernel fuse_overlayfs;
    no_directory_with_anything_in_it: rbox kernel fuse_overlayfs;
    a_file_is_not_removed_as_a_directory_nor_the_reverse: rbox kernel fuse_overlayfs;
    a_whole_tree_of_three_layers: rbox kernel fuse_overlayfs;
    removed_and_made_again_many_times: rbox kernel fuse_overlayfs;
    a_file_of_the_upper_that_is_open_can_be_used: rbox kernel;
    a_file_of_a_lower_that_is_open_to_be_written_can_be_used: rbox kernel;
    a_file_of_a_lower_that_is_open_is_read: rbox kernel fuse_overlayfs;
    one_of_two_links: rbox kernel fuse_overlayfs;
    one_of_two_links_of_a_lower: rbox kernel;
    nothing_is_made_in_a_directory_that_is_gone: rbox kernel fuse_overlayfs;
    the_root_stays: rbox kernel fuse_overlayfs;
}

fn a_file_of_the_upper_leaves_nothing(backend: Backend) -> Result<()> {
    let overlay = Overlay::over(backend, &["dir d"], "file f\n file d/f\n symlink l x\n fifo p")?;
    ["f", "d/f", "l", "p"].iter().try_for_each(|name| unlink(*name))?;
    overlay.ends_as("dir d", "dir d")
}

fn a_file_of_a_lower_leaves_a_whiteout(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["file f\n symlink l x\n fifo d/p\n file all", "file all\n socket s"])?;
    for name in ["f", "l", "d/p", "all", "s"] {
        unlink(name)?;
        refused(calls::lstat(name), Errno::NOENT)?;
        refused(unlink(name), Errno::NOENT)?;
    }
    overlay.ends_as("dir d", "whiteout f\n whiteout l\n whiteout d/p\n whiteout all\n whiteout s")
}

fn a_file_that_is_in_both_leaves_a_whiteout(backend: Backend) -> Result<()> {
    let overlay = Overlay::over(backend, &["file f\n file g"], "file f text=1")?;
    fs::write("g", "new")?;
    unlink("f")?;
    unlink("g")?;
    overlay.ends_as("", "whiteout f\n whiteout g")
}

fn a_file_in_an_opaque_directory_leaves_nothing(backend: Backend) -> Result<()> {
    let overlay = Overlay::over(backend, &["file d/f"], "dir d opaque\n file d/f")?;
    unlink("d/f")?;
    overlay.ends_as("dir d", "dir d opaque")
}

fn what_only_a_whiteout_hid_before_stays_hidden(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["whiteout f", "file f"])?;
    fs::write("f", "new")?;
    unlink("f")?;
    overlay.shows("")?;
    overlay.remount()?;
    overlay.shows("")
}

fn all_kinds_are_made_where_a_whiteout_is(backend: Backend) -> Result<()> {
    let names = ["file", "dir", "symlink", "link", "fifo", "socket", "node", "renamed"];
    let lower: String = names.iter().map(|name| format!("file {name} text=old user.old=1 mode=600\n")).collect();
    let overlay = Overlay::over(backend, &[&lower], "file other text=1\n file another text=2")?;
    names.iter().try_for_each(|name| unlink(*name))?;
    fs::write("file", "new")?;
    fs::create_dir("dir")?;
    symlink("where", "symlink")?;
    fs::hard_link("other", "link")?;
    calls::mknodat(CWD, "fifo", FileType::Fifo, Mode::from_raw_mode(0o600), 0)?;
    drop(UnixListener::bind("socket")?);
    calls::mknodat(CWD, "node", FileType::RegularFile, Mode::from_raw_mode(0o640), 0)?;
    fs::rename("another", "renamed")?;
    let end = "file file text=new\n dir dir OPAQUE\n symlink symlink where\n file link text=1\n link other link
         fifo fifo mode=600\n socket socket mode=755\n file node mode=640\n file renamed text=2";
    overlay.ends_as(&end.replace("OPAQUE", ""), &end.replace("OPAQUE", "opaque"))
}

fn a_directory_made_where_one_was_removed_is_empty(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["file d/f\n file d/e/g\n dir d mode=700 user.a=b", "file d/h"])?;
    fs::remove_dir_all("d")?;
    fs::create_dir("d")?;
    overlay.shows("dir d")?;
    fs::create_dir("d/e")?;
    fs::write("d/e/new", "")?;
    overlay.ends_as("file d/e/new", "dir d opaque\n file d/e/new")
}

fn an_empty_directory_of_a_lower(backend: Backend) -> Result<()> {
    let overlay = Overlay::over(backend, &["dir d\n dir e/d", "dir d"], "dir u\n dir e/u")?;
    ["d", "e/d", "u", "e/u"].iter().try_for_each(|name| rmdir(*name))?;
    overlay.ends_as("dir e", "dir e\n whiteout d\n whiteout e/d")
}

fn a_merged_directory_when_all_in_it_is_gone(backend: Backend) -> Result<()> {
    let overlay = Overlay::over(backend, &["file d/1\n whiteout d/2", "file d/2"], "file d/3")?;
    refused(rmdir("d"), Errno::NOTEMPTY)?;
    unlink("d/1")?;
    refused(rmdir("d"), Errno::NOTEMPTY)?;
    unlink("d/3")?;
    overlay.shows("dir d")?;
    rmdir("d")?;
    refused(calls::lstat("d"), Errno::NOENT)?;
    overlay.ends_as("", "whiteout d")
}

fn a_directory_of_which_a_lower_has_but_whiteouts(backend: Backend) -> Result<()> {
    let overlay = Overlay::over(backend, &["whiteout d/1\n whiteout e/x", "file e/x"], "dir e")?;
    rmdir("d")?;
    rmdir("e")?;
    overlay.ends_as("", "whiteout d\n whiteout e")
}

fn no_directory_with_anything_in_it(backend: Backend) -> Result<()> {
    let overlay = Overlay::over(backend, &["file l/f\n file m/1\n dir n/d", "file m/2"], "file u/f\n file n/f")?;
    unlink("m/1")?;
    unlink("n/f")?;
    for name in ["l", "m", "n", "u"] {
        refused(rmdir(name), Errno::NOTEMPTY)?;
    }
    overlay.ends_as("file l/f\n file m/2\n dir n/d\n file u/f", "file u/f\n whiteout m/1\n dir n")
}

fn a_file_is_not_removed_as_a_directory_nor_the_reverse(backend: Backend) -> Result<()> {
    let overlay = Overlay::over(backend, &["file f\n dir d\n symlink l d"], "file u\n dir e")?;
    for name in ["f", "u", "l"] {
        refused(rmdir(name), Errno::NOTDIR)?;
    }
    for name in ["d", "e"] {
        refused(unlink(name), Errno::ISDIR)?;
    }
    refused(unlink("f/"), Errno::NOTDIR)?;
    refused(unlink("none"), Errno::NOENT)?;
    refused(rmdir("none"), Errno::NOENT)?;
    overlay.ends_as("file f\n dir d\n symlink l d\n file u\n dir e", "file u\n dir e")
}

fn a_whole_tree_of_three_layers(backend: Backend) -> Result<()> {
    let lowers = [
        "file t/a/1\n whiteout t/b\n file t/c/1\n symlink t/l a",
        "file t/a/2\n file t/b/2\n fifo t/c/p\n link t/x t/a/2",
    ];
    let overlay = Overlay::over(backend, &lowers, "file t/a/3\n file t/d/e/f/3\n dir t/c opaque")?;
    fs::write("t/a/2", "copied")?;
    fs::remove_dir_all("t")?;
    overlay.shows("")?;
    fs::create_dir_all("t/a")?;
    overlay.ends_as("dir t/a", "dir t opaque\n dir t/a")
}

fn removed_and_made_again_many_times(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["file d/f text=old\n file g text=old"])?;
    for round in 0..30 {
        fs::remove_dir_all("d")?;
        fs::remove_file("g")?;
        fs::create_dir("d")?;
        fs::write("d/f", round.to_string())?;
        fs::write("g", round.to_string())?;
    }
    overlay.ends_as("file d/f text=29\n file g text=29", "dir d opaque\n file d/f text=29\n file g text=29")
}

fn a_file_of_the_upper_that_is_open_can_be_used(backend: Backend) -> Result<()> {
    let overlay = Overlay::over(backend, &["dir d"], "file f text=before mode=640 user.a=b")?;
    let mut file = calls::opened("f", OFlags::RDWR)?;
    unlink("f")?;
    used_on(&mut file)?;
    drop(file);
    overlay.ends_as("dir d", "")
}

fn a_file_of_a_lower_that_is_open_to_be_written_can_be_used(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["file f text=before mode=640 user.a=b"])?;
    let mut file = calls::opened("f", OFlags::RDWR)?;
    unlink("f")?;
    used_on(&mut file)?;
    drop(file);
    overlay.ends_as("", "whiteout f")
}

/// All that may be done with an open file that has no name any more.
fn used_on(file: &mut File) -> Result<()> {
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    ensure!(text == "before", "it reads {text:?}");
    file.write_all(b" and after")?;
    file.set_len(12)?;
    ensure!(file.metadata()?.nlink() == 0 && file.metadata()?.len() == 12, "{:?}", file.metadata()?);
    calls::fchmod(&*file, Mode::from_raw_mode(0o604))?;
    calls::fchown(&*file, Some(calls::Uid::from_raw(3)), None)?;
    file.set_modified(std::time::SystemTime::UNIX_EPOCH)?;
    calls::fsetxattr(&*file, "user.a", b"c", calls::XattrFlags::REPLACE)?;
    let mut value = [0; 1];
    calls::fgetxattr(&*file, "user.a", &mut value)?;
    let status = file.metadata()?;
    ensure!((status.mode() & 0o7777, status.uid(), status.mtime(), value) == (0o604, 3, 0, *b"c"), "{status:?}");
    file.sync_all()?;
    file.rewind()?;
    text.clear();
    file.read_to_string(&mut text)?;
    ensure!(text == "before and a", "it reads {text:?}");
    Ok(())
}

fn a_file_of_a_lower_that_is_open_is_read(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["file f text=before\n file g text=second"])?;
    let (mut file, second) = (File::open("f")?, File::open("g")?);
    unlink("f")?;
    fs::write("f", "another")?;
    fs::rename("f", "g")?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    ensure!(text == "before", "it reads {text:?}");
    let mut found = [0; 6];
    second.read_exact_at(&mut found, 0)?;
    ensure!(&found == b"second", "it reads {found:?}");
    ensure!(file.metadata()?.len() == 6, "{:?}", file.metadata()?);
    drop((file, second));
    overlay.ends_as("file g text=another", "file g text=another\n whiteout f")
}

fn one_of_two_links(backend: Backend) -> Result<()> {
    let overlay = Overlay::over(backend, &["dir d"], "file a text=1\n link b a\n link d/c a")?;
    unlink("a")?;
    fs::write("b", "2")?;
    overlay.ends_as_in_upper("file b text=2\n link d/c b")
}

fn one_of_two_links_of_a_lower(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["file a text=1\n link b a"])?;
    unlink("a")?;
    ensure!(fs::read("b")? == b"1", "the other");
    overlay.ends_as("file b text=1", "whiteout a")
}

fn nothing_is_made_in_a_directory_that_is_gone(backend: Backend) -> Result<()> {
    let overlay = Overlay::over(backend, &["dir lower"], "dir upper")?;
    for name in ["lower", "upper"] {
        let dir = calls::open(name, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        rmdir(name)?;
        refused(calls::openat(&dir, "f", OFlags::CREATE | OFlags::WRONLY, Mode::RWXU), Errno::NOENT)?;
        refused(calls::mkdirat(&dir, "d", Mode::RWXU), Errno::NOENT)?;
        refused(calls::statat(&dir, "f", AtFlags::empty()), Errno::NOENT)?;
        let mut listing = calls::Dir::read_from(&dir)?;
        let first =
            listing.find(|entry| entry.as_ref().is_ok_and(|entry| !entry.file_name().to_bytes().starts_with(b".")));
        ensure!(first.is_none(), "{name} has {first:?}");
        // Another of that name is another.
        fs::create_dir(name)?;
        fs::write(format!("{name}/f"), "")?;
        refused(calls::statat(&dir, "f", AtFlags::empty()), Errno::NOENT)?;
    }
    overlay.ends_as("file lower/f\n file upper/f", "dir lower opaque\n file lower/f\n file upper/f")
}

fn the_root_stays(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["file f"])?;
    refused(rmdir("."), Errno::INVAL)?;
    unlink("f")?;
    refused(rmdir("../merged"), Errno::BUSY)?;
    overlay.ends_as("", "whiteout f")
}
