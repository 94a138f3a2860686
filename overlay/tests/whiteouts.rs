//! What a layer removes from those below it.

mod support;

use std::os::fd::AsFd;

use rbox_overlay::settle;
use support::{Layer, Tar};

/// Something below for each name that the layers here remove.
fn below() -> Layer {
    let tar = ["x", "dir/x", "a/b/c/x", "d/keep", "d/x"].iter().fold(Tar::new(), |tar, path| tar.file(path, "below"));
    Layer::on(&[], tar, true).expect("unpacked")
}

#[test]
fn a_name() {
    let layer = Layer::on(&[&below()], Tar::new().file(".wh.x", "").file("a/b/c/.wh.x", ""), true).expect("unpacked");
    assert!(layer.is_whiteout("x"));
    assert!(layer.is_whiteout("a/b/c/x"), "no directory is listed");
    assert_eq!(layer.names(), ["a", "a/b", "a/b/c", "a/b/c/x", "x"]);
}

#[test]
fn a_whole_directory() {
    let tar = Tar::new().file("d/new", "new").file("d/.wh..wh..opq", "").file("dir/.wh..wh..opq", "");
    let layer = Layer::on(&[&below()], tar, true).expect("unpacked");
    assert!(layer.is_opaque("d") && layer.is_opaque("dir"));
    assert_eq!(layer.names(), ["d", "d/new", "dir"]);
}

#[test]
fn the_root() {
    let layer = Layer::empty();
    let tar = Tar::new().file(".wh..wh..opq", "").file("f", "").file("dir/mine", "");
    let unpacked = layer.unpack(&tar.end(), true).expect("unpacked");
    assert!(unpacked.report.opaque_root);
    assert!(layer.is_opaque("."));
    settle(layer.root.as_fd(), &[below().root.as_fd()], &unpacked).expect("settled");
    // overlayfs does not look for the mark on a root, so everything is hidden by itself.
    assert!(layer.is_whiteout("x"));
    assert!(layer.is_opaque("dir") && !layer.is_whiteout("dir"));
    // And a layer on top sees nothing of what is below.
    let top = Layer::on(&[&layer, &below()], Tar::new().file(".wh.x", ""), true).expect("unpacked");
    assert!(top.names().is_empty());
}

/// A whiteout is about the layers below, so what this layer has of that name stays, whichever comes first.
#[test]
fn beside_the_same_name() {
    for order in [[0, 1], [1, 0]] {
        let pick = |parts: [&dyn Fn(Tar) -> Tar; 2]| order.iter().fold(Tar::new(), |tar, part| parts[*part](tar));
        let hide = |tar: Tar| tar.file(".wh.x", "");
        let on = |tar: Tar| Layer::on(&[&below()], tar, true).expect("unpacked");

        let layer = on(pick([&hide, &|tar| tar.file("x", "new")]));
        assert_eq!((layer.names(), layer.text("x")), (vec!["x".into()], "new".into()));

        let layer = on(pick([&hide, &|tar| tar.dir("x", 0o711).file("x/f", "")]));
        assert_eq!(layer.names(), ["x", "x/f"]);
        assert!(layer.is_opaque("x"));

        let layer = on(pick([&hide, &|tar| tar.symlink("x", "to")]));
        assert!(layer.stat("x").is_symlink());

        let hide_d = |tar: Tar| tar.file(".wh.d", "");
        let layer = on(pick([&hide_d, &|tar| tar.file("d/new", "")]));
        assert_eq!(layer.names(), ["d", "d/new"]);
        assert!(layer.is_opaque("d"), "an implied directory is made anew too");

        let layer = on(pick([&hide, &|tar| tar.hard_link("x", "d/keep")]));
        assert_eq!(layer.text("x"), "below");

        let layer = on(pick([&hide, &|tar| tar.file("x/f", "").file("x", "a file after all")]));
        assert_eq!(layer.text("x"), "a file after all");
    }
}

#[test]
fn a_file_hides_a_whole_directory() {
    let layer = Layer::on(&[&below()], Tar::new().file("d", "file").file("dir/.wh.x", ""), true).expect("unpacked");
    assert_eq!(layer.names(), ["d", "dir", "dir/x"]);
}

#[test]
fn what_hides_nothing_is_not_kept() {
    let below = below();
    let tar = Tar::new().file(".wh.nothing", "").file("none/.wh.x", "").file("d/.wh..wh..opq", "").file("d/.wh.x", "");
    let layer = Layer::on(&[&below], tar.with("dir", b'5', |h| h.mtime = 99).file("dir/.wh.no", ""), true);
    let layer = layer.expect("unpacked");
    assert_eq!(layer.names(), ["d", "dir", "none"]);
    assert_eq!(std::os::unix::fs::MetadataExt::mtime(&layer.stat("dir")), 99);
    // Removed already.
    let first = Layer::on(&[&below], Tar::new().file(".wh.d", ""), true).expect("unpacked");
    let second = Layer::on(&[&first, &below], Tar::new().file(".wh.d", "").file(".wh.x", ""), true).expect("unpacked");
    assert_eq!(second.names(), ["x"]);
}

#[test]
fn the_books_of_aufs_are_ignored() {
    let tar = Tar::new().dir(".wh..wh.plnk", 0o700).file(".wh..wh.plnk/1.2", "").file(".wh..wh.aufs", "").file("f", "");
    let layer = Layer::on(&[], tar.file("d/.wh..wh.orph/.wh..wh..opq", ""), true).expect("unpacked");
    assert_eq!(layer.names(), ["f"]);
}
