//! Overlays: which of the layers a name leads to, and what each layer hides of those below it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use anyhow::{Context, Result, ensure};
use rbox_tests::calls::{self, CWD, Errno, Mode, OFlags, refused};
use rbox_tests::cases;
use rbox_tests::overlay::{Backend, Overlay};

// fuse-overlayfs 1.10 knows no xattr whiteouts; ends when a name of 255 bytes is to be hidden; and works by paths,
// which are no longer than others'.
//
// rbox does not look for the marks of redirects and metacopies, which would cost a call for each name: nobody makes them in
// a user namespace.
//
// fuse-overlayfs also heeds the marks of archives, and takes what is marked a redirect or a metacopy for a directory or a file.
cases! {
    the_topmost_layer_with_a_name_has_it: rbox kernel fuse_overlayfs;
    a_directory_has_what_all_layers_have_in_it: rbox kernel fuse_overlayfs;
    a_directory_is_as_the_topmost_layer_has_it: rbox kernel fuse_overlayfs;
    the_root_is_as_the_upper_layer_has_it: rbox kernel fuse_overlayfs;
    a_hundred_and_twenty_seven_lowers: rbox kernel fuse_overlayfs;
    a_whiteout_hides_what_is_below_and_itself: rbox kernel fuse_overlayfs;
    a_whiteout_hides_nothing_above_it: rbox kernel fuse_overlayfs;
    a_whiteout_in_the_upper_layer_from_before: rbox kernel fuse_overlayfs;
    an_xattr_whiteout_hides_what_is_below_and_itself: rbox kernel;
    a_name_that_begins_as_whiteouts_of_archives_do: rbox kernel;
    a_redirect_and_a_metacopy_are_not_followed: kernel;
    an_opaque_directory_hides_what_is_below: rbox kernel fuse_overlayfs;
    an_opaque_directory_in_the_upper_layer_from_before: rbox kernel fuse_overlayfs;
    a_file_hides_a_directory_below_and_all_of_it_further_down: rbox kernel fuse_overlayfs;
    a_directory_hides_a_file_below: rbox kernel fuse_overlayfs;
    a_symlink_hides_a_directory_below: rbox kernel fuse_overlayfs;
    names_that_differ_in_case_only: rbox kernel fuse_overlayfs;
    a_name_that_is_not_utf8: rbox kernel fuse_overlayfs;
    a_name_that_was_missing_is_there_when_it_is_made: rbox kernel fuse_overlayfs;
    a_name_of_255_bytes_and_none_longer: rbox kernel;
    a_file_is_no_directory: rbox kernel fuse_overlayfs;
    a_loop_of_symlinks: rbox kernel fuse_overlayfs;
    a_path_beyond_path_max: rbox kernel;
    a_deep_directory_of_a_lower_is_written_to: rbox kernel fuse_overlayfs;
    dot_and_dot_dot: rbox kernel fuse_overlayfs;
    what_is_read_is_not_copied_up: rbox kernel fuse_overlayfs;
    no_lower_is_ever_changed: rbox kernel fuse_overlayfs;
}

fn the_topmost_layer_with_a_name_has_it(backend: Backend) -> Result<()> {
    let lowers = [
        "file both text=1 mode=600 owner=1:2\n file one text=1",
        "file both text=2\n file two text=2\n file all text=2",
        "file all text=3 user.a=b\n file three text=3",
    ];
    let overlay = Overlay::over(backend, &lowers, "file all text=upper\n file upper text=upper")?;
    overlay.ends_as(
        "file both text=1 mode=600 owner=1:2
         file one text=1
         file two text=2
         file three text=3
         file all text=upper
         file upper text=upper",
        "file all text=upper\n file upper text=upper",
    )
}

fn a_directory_has_what_all_layers_have_in_it(backend: Backend) -> Result<()> {
    let overlay = Overlay::over(backend, &["file d/e/1", "file d/e/2\n dir d/f"], "file d/e/upper\n dir d/g")?;
    overlay.ends_as("file d/e/1\n file d/e/2\n file d/e/upper\n dir d/f\n dir d/g", "file d/e/upper\n dir d/g")
}

fn a_directory_is_as_the_topmost_layer_has_it(backend: Backend) -> Result<()> {
    let lowers =
        ["dir d mode=1770 owner=1:2 user.a=1 mtime=1.000000001", "file d/f\n dir d mode=700 user.a=2 user.b=2"];
    let overlay = Overlay::new(backend, &lowers)?;
    overlay.ends_as("dir d mode=1770 owner=1:2 user.a=1 mtime=1.000000001\n file d/f", "")
}

fn the_root_is_as_the_upper_layer_has_it(backend: Backend) -> Result<()> {
    let overlay = Overlay::over(backend, &["dir . mode=700 owner=3:3"], "dir . mode=751 owner=1:2 user.a=b")?;
    overlay.ends_as_in_upper("dir . mode=751 owner=1:2 user.a=b")
}

fn a_hundred_and_twenty_seven_lowers(backend: Backend) -> Result<()> {
    // A whiteout of what the next but one has, too.
    let layer =
        |number: usize| format!("file d/{number} text={number}\n file same text={number}\n whiteout w{}", number + 2);
    let layers: Vec<String> = (0..127).map(|number| format!("{}\n file w{number}", layer(number))).collect();
    let layers: Vec<&str> = layers.iter().map(String::as_str).collect();
    let overlay = Overlay::new(backend, &layers)?;
    let all: String = (0..127).map(|number| format!("file d/{number} text={number}\n")).collect();
    let shown = format!("{all} file same text=0\n file w0\n file w1");
    overlay.shows(&shown)?;
    fs::write("same", "upper")?;
    fs::write("d/126", "upper")?;
    overlay.ends_as(
        &shown.replace("text=0\n file w0", "text=upper\n file w0").replace("text=126", "text=upper").replacen(
            "d/0 text=upper",
            "d/0 text=0",
            1,
        ),
        "file same text=upper\n file d/126 text=upper",
    )
}

fn a_whiteout_hides_what_is_below_and_itself(backend: Backend) -> Result<()> {
    let lowers = ["whiteout f\n whiteout d/f\n whiteout e\n whiteout none", "file f\n file d/f\n file d/g\n file e/f"];
    let overlay = Overlay::new(backend, &lowers)?;
    refused(fs::read("f"), Errno::NOENT)?;
    refused(calls::lstat("e"), Errno::NOENT)?;
    refused(calls::lstat("e/f"), Errno::NOENT)?;
    refused(calls::unlink("none"), Errno::NOENT)?;
    overlay.ends_as("file d/g", "")
}

fn a_whiteout_hides_nothing_above_it(backend: Backend) -> Result<()> {
    let overlay =
        Overlay::new(backend, &["file f text=1\n file d/1", "whiteout f\n whiteout d", "file f text=3\n file d/3"])?;
    overlay.ends_as("file f text=1\n file d/1", "")
}

fn a_whiteout_in_the_upper_layer_from_before(backend: Backend) -> Result<()> {
    let upper = "whiteout f\n whiteout d/f\n whiteout e";
    let overlay = Overlay::over(backend, &["file f\n file d/f\n file d/g\n file e/f"], upper)?;
    fs::write("f", "new")?;
    overlay.ends_as("file f text=new\n file d/g", "file f text=new\n whiteout d/f\n whiteout e")
}

fn an_xattr_whiteout_hides_what_is_below_and_itself(backend: Backend) -> Result<()> {
    let lowers = ["xwhiteout d/f\n xwhiteout d/e", "file d/f\n file d/g\n file d/e/f"];
    let overlay = Overlay::new(backend, &lowers)?;
    refused(fs::read("d/f"), Errno::NOENT)?;
    refused(calls::lstat("d/e"), Errno::NOENT)?;
    overlay.ends_as("file d/g", "")
}

/// The marks of archives (image-spec, layer.md) are no marks of an overlay.
fn a_name_that_begins_as_whiteouts_of_archives_do(backend: Backend) -> Result<()> {
    let lowers = ["file .wh.f text=1\n file d/.wh..wh..opq\n file .wh.only", "file f text=2\n file d/f"];
    let overlay = Overlay::new(backend, &lowers)?;
    fs::write(".wh.new", "3")?;
    fs::remove_file(".wh.only")?;
    let end = "file .wh.f text=1\n file f text=2\n file d/.wh..wh..opq\n file d/f\n file .wh.new text=3";
    overlay.ends_as(end, "file .wh.new text=3\n whiteout .wh.only")
}

/// Whoever makes layers would say where the content is. Without privileges in the host, the kernel refuses.
fn a_redirect_and_a_metacopy_are_not_followed(backend: Backend) -> Result<()> {
    let upper = "dir d user.overlay.redirect=/other\n file f user.overlay.metacopy=";
    let lower = "file other/secret\n file m text=1 user.overlay.metacopy=\n file f text=2
         file l/x\n dir l user.overlay.redirect=/other";
    let overlay = Overlay::over(backend, &[lower, "file m text=3"], upper)?;
    for path in ["d", "d/secret", "f", "m", "l", "l/x", "l/secret"] {
        refused(calls::lstat(path), Errno::PERM)?;
    }
    overlay.unmount()
}

fn an_opaque_directory_hides_what_is_below(backend: Backend) -> Result<()> {
    let lowers = ["file d/1", "dir d opaque\n file d/2\n dir e opaque", "file d/3\n file e/3\n file f/3"];
    let overlay = Overlay::new(backend, &lowers)?;
    refused(calls::lstat("d/3"), Errno::NOENT)?;
    overlay.ends_as("file d/1\n file d/2\n dir e\n file f/3", "")
}

fn an_opaque_directory_in_the_upper_layer_from_before(backend: Backend) -> Result<()> {
    let upper = "dir d opaque\n file d/upper";
    let overlay = Overlay::over(backend, &["file d/f\n file d/g"], upper)?;
    fs::write("d/f", "new")?;
    overlay.ends_as("file d/f text=new\n file d/upper", "dir d opaque\n file d/f text=new\n file d/upper")
}

fn a_file_hides_a_directory_below_and_all_of_it_further_down(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["file d/1\n file e text=1", "file d", "file d/3\n file e/3"])?;
    refused(calls::lstat("e/3"), Errno::NOTDIR)?;
    overlay.ends_as("file d/1\n file e text=1", "")
}

fn a_directory_hides_a_file_below(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["file d/1", "file d text=2 user.a=b"])?;
    refused(fs::read("d"), Errno::ISDIR)?;
    fs::write("d/new", "")?;
    overlay.ends_as("file d/1\n file d/new", "file d/new")
}

fn a_symlink_hides_a_directory_below(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["symlink d e\n file e/f text=1", "file d/f text=2\n file d/g"])?;
    ensure!(fs::read("d/f")? == b"1", "it is not followed");
    refused(fs::read("d/g"), Errno::NOENT)?;
    fs::write("d/g", "new")?;
    overlay.ends_as("symlink d e\n file e/f text=1\n file e/g text=new", "file e/g text=new")
}

fn names_that_differ_in_case_only(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["file File text=1", "file file text=2"])?;
    fs::write("FILE", "3")?;
    overlay.ends_as("file File text=1\n file file text=2\n file FILE text=3", "file FILE text=3")
}

fn a_name_that_is_not_utf8(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["file \\xff\\xfe text=1\n dir \\x80\n file gone\\xc3"])?;
    let name = |bytes: &'static [u8]| OsStr::from_bytes(bytes);
    ensure!(fs::read(name(b"\xff\xfe"))? == b"1", "its content");
    fs::write(name(b"\x80/new\n \xc3"), "2")?;
    fs::rename(name(b"\xff\xfe"), name(b"\xfe\xff"))?;
    fs::remove_file(name(b"gone\xc3"))?;
    overlay.ends_as(
        "file \\xfe\\xff text=1\n file \\x80/new\\n\\x20\\xc3 text=2",
        "file \\xfe\\xff text=1\n file \\x80/new\\n\\x20\\xc3 text=2\n whiteout \\xff\\xfe\n whiteout gone\\xc3",
    )
}

fn a_name_that_was_missing_is_there_when_it_is_made(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["dir d"])?;
    for made in ["f", "d/f"] {
        refused(calls::lstat(made), Errno::NOENT)?;
        fs::write(made, "")?;
        calls::lstat(made)?;
        fs::remove_file(made)?;
        refused(calls::lstat(made), Errno::NOENT)?;
        fs::create_dir(made)?;
        calls::lstat(made)?;
    }
    overlay.ends_as_in_upper("dir f\n dir d/f")
}

fn a_name_of_255_bytes_and_none_longer(backend: Backend) -> Result<()> {
    let (long, longer) = ("n".repeat(255), "n".repeat(256));
    let overlay = Overlay::new(backend, &[&format!("file {} text=1", "l".repeat(255))])?;
    fs::remove_file("l".repeat(255))?;
    fs::write(&long, "new")?;
    refused(fs::write(&longer, ""), Errno::NAMETOOLONG)?;
    refused(calls::mkdir(&longer, Mode::RWXU), Errno::NAMETOOLONG)?;
    refused(calls::lstat(&longer), Errno::NAMETOOLONG)?;
    refused(calls::rename(&long, &longer), Errno::NAMETOOLONG)?;
    refused(calls::lstat("d/".repeat(2048)), Errno::NAMETOOLONG)?;
    overlay.ends_as(&format!("file {long} text=new"), &format!("file {long} text=new\n whiteout {}", "l".repeat(255)))
}

fn a_file_is_no_directory(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["file f\n dir d\n symlink l f"])?;
    refused(calls::lstat("f/g"), Errno::NOTDIR)?;
    refused(fs::write("f/g", ""), Errno::NOTDIR)?;
    refused(calls::stat("l/"), Errno::NOTDIR)?;
    refused(calls::opened("f", OFlags::DIRECTORY), Errno::NOTDIR)?;
    refused(calls::opened("l", OFlags::DIRECTORY | OFlags::NOFOLLOW), Errno::NOTDIR)?;
    refused(calls::opened("d", OFlags::WRONLY), Errno::ISDIR)?;
    refused(calls::opened("d", OFlags::RDWR), Errno::ISDIR)?;
    refused(calls::opened("d", OFlags::RDONLY | OFlags::CREATE), Errno::ISDIR)?;
    refused(calls::mkdir("f/", Mode::RWXU), Errno::EXIST)?;
    refused(calls::mkdir("missing/d", Mode::RWXU), Errno::NOENT)?;
    overlay.ends_as("file f\n dir d\n symlink l f", "")
}

fn a_loop_of_symlinks(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["symlink a b\n symlink self self", "symlink b a\n symlink l a"])?;
    refused(fs::read("a"), Errno::LOOP)?;
    refused(calls::stat("self/x"), Errno::LOOP)?;
    refused(calls::opened("l", OFlags::NOFOLLOW), Errno::LOOP)?;
    // Made in one go, and followed up to forty of them (path_resolution(7)).
    for number in 0..41 {
        calls::symlink(format!("{}", number + 1), format!("{number}"))?;
    }
    fs::write("41", "end")?;
    ensure!(fs::read("1")? == b"end", "forty of them");
    refused(fs::read("0"), Errno::LOOP)?;
    (0..42).try_for_each(|number| fs::remove_file(number.to_string()))?;
    overlay.ends_as("symlink a b\n symlink self self\n symlink b a\n symlink l a", "")
}

/// As many directories of 200 bytes as one path cannot name.
const DEEP: usize = 30;

fn a_path_beyond_path_max(backend: Backend) -> Result<()> {
    let overlay = Overlay::new(backend, &["dir d"])?;
    let name = "n".repeat(200);
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let descend = |make: bool| -> Result<OwnedFd> {
        let mut dir = calls::open("d", flags, Mode::empty())?;
        for level in 0..DEEP {
            if make {
                calls::mkdirat(&dir, &name, Mode::RWXU).with_context(|| format!("level {level}"))?;
            }
            dir = calls::openat(&dir, &name, flags, Mode::empty())?;
        }
        Ok(dir)
    };
    let deepest = descend(true)?;
    let file = calls::openat(&deepest, "f", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR)?;
    calls::write(&file, b"deep")?;
    drop((deepest, file));
    overlay.remount()?;
    let mut content = [0; 9];
    let deepest = descend(false)?;
    let length = calls::read(calls::openat(&deepest, "f", OFlags::RDONLY, Mode::empty())?, &mut content)?;
    ensure!(&content[..length] == b"deep", "its content is {content:?}");
    calls::unlinkat(&deepest, "f", calls::AtFlags::empty())?;
    drop(deepest);
    fs::remove_dir_all(format!("d/{name}"))?;
    overlay.ends_as_in_upper("dir d")
}

fn a_deep_directory_of_a_lower_is_written_to(backend: Backend) -> Result<()> {
    let deep = "d/".repeat(100);
    let overlay = Overlay::new(backend, &[&format!("file {deep}f text=old mode=600\n file {deep}g")])?;
    fs::write(format!("{deep}f"), "new")?;
    fs::remove_file(format!("{deep}g"))?;
    fs::create_dir_all(format!("{deep}{deep}"))?;
    overlay.ends_as(
        &format!("file {deep}f text=new mode=600\n dir {deep}{deep}"),
        &format!("file {deep}f text=new mode=600\n dir {deep}{deep}\n whiteout {deep}g"),
    )
}

fn dot_and_dot_dot(backend: Backend) -> Result<()> {
    let overlay = Overlay::over(backend, &["file d/e/f text=1\n dir merged"], "dir upper\n dir merged")?;
    let root = calls::stat(".")?.st_ino;
    for directory in ["d", "upper", "merged"] {
        ensure!(calls::stat(format!("{directory}/.."))?.st_ino == root, "{directory}/..");
        ensure!(calls::stat(format!("{directory}/."))?.st_ino == calls::stat(directory)?.st_ino, "{directory}/.");
    }
    ensure!(fs::read("d/./e/../../d/e/f")? == b"1", "round about");
    refused(calls::rmdir("d/."), Errno::INVAL)?;
    refused(calls::rmdir("d/.."), Errno::NOTEMPTY)?;
    refused(calls::rename("d/.", "x"), Errno::BUSY)?;
    // By a descriptor, after the path to it has changed.
    let upper = calls::open("upper", OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    fs::rename("upper", "d/e/moved")?;
    ensure!(calls::statat(&upper, "..", calls::AtFlags::empty())?.st_ino == calls::stat("d/e")?.st_ino, "moved");
    drop(upper);
    overlay.ends_as("file d/e/f text=1\n dir merged\n dir d/e/moved", "dir merged\n dir d/e/moved opaque")
}

fn what_is_read_is_not_copied_up(backend: Backend) -> Result<()> {
    let lower = "dir d user.a=b\n file d/f text=1 user.a=b\n symlink d/l f";
    let overlay = Overlay::new(backend, &[lower])?;
    fs::read_dir("d")?.try_for_each(|entry| entry.map(drop))?;
    fs::read("d/l")?;
    calls::xattr("d/f", "user.a")?;
    calls::access("d/f", calls::Access::WRITE_OK | calls::Access::READ_OK)?;
    calls::accessat(CWD, "d", calls::Access::WRITE_OK, calls::AtFlags::empty())?;
    refused(calls::mkdir("d/f", Mode::RWXU), Errno::EXIST)?;
    refused(calls::opened("d/f", OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY), Errno::EXIST)?;
    File::open("d/f")?.sync_all()?;
    overlay.ends_as(lower, "")
}

fn no_lower_is_ever_changed(backend: Backend) -> Result<()> {
    let lower = "dir d mtime=1\n file d/f text=1 mtime=1 mode=640 user.a=b\n link d/g d/f\n symlink d/l f\n file e/f";
    let overlay = Overlay::new(backend, &[lower, "file e/below mtime=3"])?;
    fs::write("d/f", "2")?;
    calls::chmod("d/g", Mode::RWXU)?;
    fs::remove_file("d/l")?;
    fs::remove_dir_all("e")?;
    fs::rename("d/f", "moved")?;
    calls::setxattr("moved", "user.a", b"c", calls::XattrFlags::empty())?;
    overlay.unmount()?;
    overlay.lower_is(0, lower)?;
    overlay.lower_is(1, "file e/below mtime=3")
}
