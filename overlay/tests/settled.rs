//! What a layer takes from those below it.

mod support;

use std::os::unix::fs::MetadataExt;

use support::{Layer, Tar, in_namespace};

type Attributes = (u32, u32, u32, i64);

fn attributes(layer: &Layer, path: &str) -> Attributes {
    let stat = layer.stat(path);
    (stat.mode() & 0o7777, stat.uid(), stat.gid(), stat.mtime())
}

fn dir(tar: Tar, path: &str, (mode, uid, gid, mtime): Attributes) -> Tar {
    tar.with(path, b'5', |h| (h.mode, h.uid, h.gid, h.mtime) = (mode, uid.into(), gid.into(), mtime.unsigned_abs()))
}

#[test]
fn implied_directories() {
    if !in_namespace("implied_directories") {
        return;
    }
    let tmp = (0o1777, 3, 4, 5);
    let tar = dir(dir(Tar::new(), ".", (0o750, 1, 2, 3)), "tmp", tmp);
    let tar = dir(tar.pax(&[("SCHILY.xattr.user.k", b"v")]), "var", (0o2775, 6, 7, 8));
    let bottom = Layer::on(&[], dir(tar, "var/mail", (0o700, 8, 8, 9)), false).expect("unpacked");
    let middle = Layer::on(&[&bottom], Tar::new().file("tmp/x", "").file("var/mail/m", ""), false).expect("unpacked");
    let top = Layer::on(&[&middle, &bottom], Tar::new().file("tmp/y", "").file("new/z", ""), false).expect("unpacked");
    for layer in [&middle, &top] {
        assert_eq!(attributes(layer, "tmp"), tmp);
        assert_eq!(attributes(layer, "."), (0o750, 1, 2, 3));
    }
    assert_eq!(attributes(&middle, "var"), (0o2775, 6, 7, 8));
    assert_eq!(middle.xattr("var", "user.k").as_deref(), Some(&b"v"[..]));
    assert_eq!(attributes(&middle, "var/mail"), (0o700, 8, 8, 9));
    let (mode, uid, gid, _) = attributes(&top, "new");
    assert_eq!((mode, uid, gid), (0o755, 0, 0));
    // Removed below, or made anew here: nothing is taken.
    let removed = Layer::on(&[&bottom], Tar::new().file(".wh.tmp", ""), false).expect("unpacked");
    let again = Layer::on(&[&removed, &bottom], Tar::new().file("tmp/x", ""), false).expect("unpacked");
    let both = Layer::on(&[&bottom], Tar::new().file(".wh.tmp", "").file("tmp/x", ""), false).expect("unpacked");
    let opaque = Layer::on(&[&bottom], Tar::new().file("var/.wh..wh..opq", ""), false).expect("unpacked");
    let below_opaque = Layer::on(&[&opaque, &bottom], Tar::new().file("var/mail/x", ""), false).expect("unpacked");
    for (layer, path) in [(&again, "tmp"), (&both, "tmp"), (&below_opaque, "var/mail")] {
        let (mode, uid, gid, _) = attributes(layer, path);
        assert_eq!((mode, uid, gid), (0o755, 0, 0), "{path}");
    }
    assert_eq!(attributes(&opaque, "var"), (0o2775, 6, 7, 8), "its own attributes are not hidden");
    assert_eq!(attributes(&below_opaque, "var"), (0o2775, 6, 7, 8));
}

#[test]
fn implied_directories_that_are_something_else_below() {
    let below = Layer::on(&[], Tar::new().symlink("lib", "usr/lib").file("f", "").dir("usr/lib", 0o755), true);
    let below = below.expect("unpacked");
    for (path, shown) in [("lib/x", "lib"), ("lib/y/z", "lib")] {
        let error = Layer::on(&[&below], Tar::new().file(path, ""), true).err().expect("refused").to_string();
        assert!(error.contains(&format!("it goes through the symbolic link {shown}")), "{error}");
    }
    // Listed, it replaces the link, and a file is replaced by what takes its name.
    let layer = Layer::on(&[&below], Tar::new().dir("lib", 0o700).file("lib/x", "").file("f/x", ""), true);
    let layer = layer.expect("unpacked");
    assert_eq!((attributes(&layer, "lib").0, attributes(&layer, "f").0), (0o700, 0o755));
}

#[test]
fn links_to_files_below() {
    if !in_namespace("links_to_files_below") {
        return;
    }
    let tar = dir(Tar::new(), "bin", (0o711, 1, 1, 7));
    let tar = tar
        .pax(&[("SCHILY.xattr.user.k", b"v")])
        .with("bin/a", b'0', |h| (h.mode, h.uid, h.gid, h.mtime, h.data) = (0o4755, 5, 6, 7, b"text".to_vec()))
        .symlink("bin/s", "a");
    let bottom = Layer::on(&[], tar, false).expect("unpacked");
    let middle = Layer::on(&[&bottom], Tar::new().file("other", ""), false).expect("unpacked");
    let tar = Tar::new()
        .hard_link("b", "bin/a")
        // To one that waits itself, before and after it in the order of names.
        .hard_link("a", "b")
        .hard_link("c", "b")
        .hard_link("bin/t", "bin/s")
        // In this layer, but later.
        .hard_link("early", "late")
        .file("late", "late");
    let top = Layer::on(&[&middle, &bottom], tar, false).expect("unpacked");
    assert_eq!(top.names(), ["a", "b", "bin", "bin/a", "bin/s", "bin/t", "c", "early", "late"]);
    for path in ["a", "b", "c", "bin/a"] {
        assert_eq!(attributes(&top, path), (0o4755, 5, 6, 7), "{path}");
        assert_eq!(top.stat(path).nlink(), 4);
        assert_eq!(top.text(path), "text");
    }
    assert_eq!(top.xattr("a", "user.k").as_deref(), Some(&b"v"[..]));
    assert_eq!(attributes(&top, "bin"), (0o711, 1, 1, 7));
    assert_eq!(top.stat("bin/s").ino(), top.stat("bin/t").ino());
    assert_eq!(top.stat("early").ino(), top.stat("late").ino());
}

#[test]
fn links_to_nothing() {
    let below = Layer::on(&[], Tar::new().file("d/f", "").symlink("l", "d").file("g", ""), true).expect("unpacked");
    let hidden = Layer::on(&[&below], Tar::new().file(".wh.g", ""), true).expect("unpacked");
    for (tar, expected) in [
        (Tar::new().hard_link("x", "none"), "the layer's entry x: it is a hard link to none, which does not exist"),
        (Tar::new().hard_link("x", "g"), "it is a hard link to g, which does not exist"),
        (Tar::new().hard_link("x", "d"), "it is a hard link to the directory d"),
        (Tar::new().hard_link("x", "l/f"), "it goes through the symbolic link l"),
        (Tar::new().hard_link("x", "y").hard_link("y", "x"), "it is a hard link to itself"),
        (Tar::new().file("d/.wh..wh..opq", "").hard_link("x", "d/f"), "it is a hard link to d/f, which does not exist"),
        (Tar::new().hard_link("x", "y").hard_link("y", "z").hard_link("z", "y"), "it is a hard link to itself"),
    ] {
        let error = Layer::on(&[&hidden, &below], tar, true).err().expect("refused").to_string();
        assert!(error.contains(expected), "{error}\nexpected: {expected}");
    }
}
