//! Each kind of entry becomes what it says.

mod support;

use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use rbox_overlay::{Error, Problem, settle};
use rbox_types::NodeKind;
use support::{Layer, MTIME, Tar, in_namespace};

#[test]
fn metadata() {
    if !in_namespace("metadata") {
        return;
    }
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let tar = Tar::new()
        .with("./", b'5', |h| (h.mode, h.mtime) = (0o751, 77))
        .with("etc/", b'5', |h| (h.mode, h.uid, h.gid, h.mtime) = (0o2550, 12, 34, 1000))
        .with("etc/shadow", b'0', |h| (h.mode, h.uid, h.gid, h.data) = (0o640, 0, 42, b"x".to_vec()))
        .with("su", b'0', |h| (h.mode, h.uid, h.gid, h.data) = (0o6755, 0, 7, b"su".to_vec()))
        .with("tmp", b'5', |h| h.mode = 0o1777)
        .pax(&[("mtime", b"1234567890.123456789")])
        .file("precise", "")
        .pax(&[("SCHILY.xattr.security.capability", &capability), ("SCHILY.xattr.user.note", b"a\nb\0c")])
        .with("ping", b'0', |h| (h.mode, h.uid, h.gid) = (0o755, 0, 5))
        .pax(&[("SCHILY.xattr.user.of", b"dir")])
        .dir("noted", 0o700)
        .pax(&[("SCHILY.xattr.trusted.x", b"1"), ("SCHILY.xattr.user.overlay.opaque", b"y")])
        .dir("tricky", 0o755)
        .with("link", b'2', |h| (h.link, h.uid, h.gid, h.mtime) = (b"/etc/../shadow".to_vec(), 65534, 65534, 5))
        .with("pipe", b'6', |h| (h.mode, h.uid, h.gid, h.mtime) = (0o622, 9, 10, 6))
        .hard_link("etc/shadow-", "./etc/shadow")
        .with("secret/", b'5', |h| h.mode = 0o000)
        .file("secret/inside", "in")
        .with("old\u{e9}", b'0', |h| h.mtime = (-2_i64) as u64)
        .with("far", b'0', |h| (h.uid, h.gid, h.mtime) = (65535, 65535, 1 << 33));
    let layer = Layer::empty();
    let unpacked = layer.unpack(&tar.end(), false).expect("unpacked");
    settle(layer.root.as_fd(), &[], &unpacked).expect("settled");
    let all = |path: &str| {
        let stat = layer.stat(path);
        (stat.mode() & 0o7777, stat.uid(), stat.gid(), stat.mtime(), stat.mtime_nsec())
    };
    let time = MTIME as i64;
    for (path, expected) in [
        (".", (0o751, 0, 0, 77, 0)),
        ("etc", (0o2550, 12, 34, 1000, 0)),
        ("etc/shadow", (0o640, 0, 42, time, 0)),
        ("su", (0o6755, 0, 7, time, 0)),
        ("tmp", (0o1777, 0, 0, time, 0)),
        ("precise", (0o644, 0, 0, 1_234_567_890, 123_456_789)),
        ("link", (0o777, 65534, 65534, 5, 0)),
        ("pipe", (0o622, 9, 10, 6, 0)),
        ("secret", (0, 0, 0, time, 0)),
        ("secret/inside", (0o644, 0, 0, time, 0)),
        ("old\u{e9}", (0o644, 0, 0, -2, 0)),
        ("far", (0o644, 65535, 65535, 1 << 33, 0)),
    ] {
        assert_eq!(all(path), expected, "{path}");
    }
    assert_eq!(layer.stat("etc/shadow").ino(), layer.stat("etc/shadow-").ino());
    assert_eq!(std::fs::read_link(layer.path("link")).expect("a link").as_os_str(), "/etc/../shadow");
    assert!(layer.stat("pipe").file_type().is_fifo());
    assert_eq!(layer.xattr("ping", "security.capability").as_deref(), Some(&capability[..]));
    assert_eq!(layer.xattr("ping", "user.note").as_deref(), Some(&b"a\nb\0c"[..]));
    assert_eq!(layer.xattr("noted", "user.of").as_deref(), Some(&b"dir"[..]));
    assert!(!layer.is_opaque("tricky"));
    let dropped: Vec<_> = unpacked.report.dropped_xattrs.iter().map(|(name, n)| (name.as_str(), *n)).collect();
    assert_eq!(dropped, [("trusted.x", 1), ("user.overlay.opaque", 1)]);
    assert_eq!(unpacked.report.size, 1 + 2 + 2);
}

#[test]
fn long_names() {
    let name = |n: usize| format!("{}/{}", "d".repeat(120), "f".repeat(n));
    let long =
        |tar: Tar, flag, text: &str| tar.with("././@LongLink", flag, |h| h.data = [text.as_bytes(), b"\0"].concat());
    let tar = long(Tar::new(), b'L', &name(200)).file("cut", "gnu");
    let tar = long(tar, b'K', &name(200));
    let tar = long(tar, b'L', &name(201)).hard_link("cut", "cut");
    let tar = tar.pax(&[("path", name(202).as_bytes()), ("linkpath", name(200).as_bytes())]).symlink("cut", "cut");
    let layer = Layer::on(&[], tar, true).expect("unpacked");
    assert_eq!(layer.text(&name(200)), "gnu");
    assert_eq!(layer.stat(&name(200)).ino(), layer.stat(&name(201)).ino());
    assert_eq!(std::fs::read_link(layer.path(&name(202))).expect("a link").as_os_str(), name(200).as_str());
}

#[test]
fn the_prefix_of_ustar_and_types_of_old() {
    let mut header = support::Header::new("name", b'0').bytes();
    header[345..348].copy_from_slice(b"a/b");
    let sum: u32 =
        header.iter().enumerate().map(|(at, b)| if (148..156).contains(&at) { 32 } else { u32::from(*b) }).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let tar = Tar(header.to_vec()).with("v7/", 0, |_| {}).with("v7/file", 0, |h| h.data = b"7".to_vec());
    let tar = tar.with("contiguous", b'7', |h| h.data = b"c".to_vec());
    // Said to have data, but of a type that has none.
    let tar = tar.with("d", b'5', |h| h.size = Some(512)).with("global", b'g', |h| h.data = b"13 path=evil\n".to_vec());
    let layer = Layer::on(&[], tar, true).expect("unpacked");
    assert_eq!(layer.names(), ["a", "a/b", "a/b/name", "contiguous", "d", "v7", "v7/file"]);
}

#[test]
fn later_entries_replace_earlier_ones() {
    let tar = Tar::new()
        .file("a", "first")
        .hard_link("a2", "a")
        .file("a", "second")
        .dir("b", 0o755)
        .file("b/c/d", "deep")
        .file("b", "now a file")
        .file("e", "file")
        .dir("e", 0o711)
        .file("e/f", "in it")
        .dir("e", 0o700)
        .symlink("g", "nowhere")
        .file("g", "not through the link")
        .file("h/i", "")
        .symlink("h", "e")
        .with("k", b'3', |h| h.device = (1, 3))
        .file("k", "no device");
    let layer = Layer::empty();
    let unpacked = layer.unpack(&tar.end(), true).expect("unpacked");
    settle(layer.root.as_fd(), &[], &unpacked).expect("settled");
    assert_eq!(layer.names(), ["a", "a2", "b", "e", "e/f", "g", "h", "k"]);
    assert_eq!((layer.text("a"), layer.text("a2")), ("second".into(), "first".into()));
    assert_eq!(layer.text("b"), "now a file");
    assert_eq!(layer.stat("e").mode() & 0o777, 0o700);
    assert_eq!(layer.text("g"), "not through the link");
    assert!(layer.stat("h").is_symlink());
    assert!(unpacked.report.left_out.is_empty());
}

#[test]
fn devices_are_left_out() {
    let tar = Tar::new()
        .with("dev/null", b'3', |h| (h.device, h.mode, h.gid) = ((1, 3), 0o666, 5))
        .with("dev/sda", b'4', |h| (h.device, h.mode) = ((8, 0), 0o660))
        .hard_link("dev/zero", "dev/null");
    let below = Layer::on(&[], Tar::new().file("dev/null", "a file that the device replaces"), true).expect("unpacked");
    let layer = Layer::empty();
    let unpacked = layer.unpack(&tar.end(), true).expect("unpacked");
    settle(layer.root.as_fd(), &[below.root.as_fd()], &unpacked).expect("settled");
    let seen: Vec<_> = unpacked
        .report
        .left_out
        .iter()
        .map(|d| (d.path.to_str().expect("ASCII"), d.kind, d.major, d.minor, d.mode, d.gid))
        .collect();
    assert_eq!(
        seen,
        [
            ("dev/null", NodeKind::Char, 1, 3, 0o666, 5),
            ("dev/sda", NodeKind::Block, 8, 0, 0o660, 0),
            ("dev/zero", NodeKind::Char, 1, 3, 0o666, 5)
        ]
    );
    assert!(layer.is_whiteout("dev/null"));
    assert_eq!(layer.names(), ["dev", "dev/null"]);
    let json = serde_json::to_string(&unpacked.report).expect("JSON");
    assert_eq!(serde_json::from_str::<rbox_overlay::Report>(&json).expect("the same"), unpacked.report);
}

#[test]
fn owners_beyond_the_map() {
    if !in_namespace("owners_beyond_the_map") {
        return;
    }
    for (uid, gid, flag) in [(70_000, 0, b'0'), (0, 70_000, b'5'), (70_000, 70_000, b'2'), (70_000, 1, b'6')] {
        let tar = Tar::new().with("x", flag, |h| (h.uid, h.gid, h.link) = (uid, gid, b"to".to_vec()));
        let error = Layer::empty().unpack(&tar.clone().end(), false).expect_err("not mapped");
        assert_eq!(
            error.to_string(),
            format!("the layer's entry x: its owner {uid}:{gid} is not among the ids that this user may give out")
        );
        assert!(error.hint().expect("a hint").contains("/etc/subuid"));
        let layer = Layer::on(&[], tar, true).expect("one id takes all");
        assert_eq!((layer.stat("x").uid(), layer.stat("x").gid()), (0, 0));
    }
    let tar = Tar::new().with("x", b'0', |h| h.uid = 1 << 32);
    let error = Layer::empty().unpack(&tar.end(), false).expect_err("out of range");
    assert!(matches!(error, Error::Entry { problem: Problem::OwnerRange { .. }, .. }), "{error}");
}

#[test]
fn an_umask_changes_nothing() {
    if !in_namespace("an_umask_changes_nothing") {
        return;
    }
    rbox_sys::process::set_umask(0o077);
    let tar = Tar::new().with("f", b'0', |h| h.mode = 0o666).dir("d", 0o777).with("p", b'6', |h| h.mode = 0o666);
    let layer = Layer::on(&[], tar.file("implied/x", ""), false).expect("unpacked");
    for (path, mode) in [("f", 0o666), ("d", 0o777), ("p", 0o666), ("implied", 0o755), (".", 0o755)] {
        assert_eq!(layer.stat(path).mode() & 0o777, mode, "{path}");
    }
}
