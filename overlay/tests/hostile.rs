//! Archives that mean harm, or are broken: a clear error each, and nothing outside the layer changes.

mod support;

use support::{Header, Layer, Tar};

/// Unpacks beside a victim and gives the error's text.
fn refused(tar: Tar) -> String {
    refused_bytes(&tar.end())
}

fn refused_bytes(tar: &[u8]) -> String {
    let outer = Layer::empty();
    std::fs::write(outer.path("victim"), "safe").expect("write");
    std::fs::create_dir(outer.path("fs")).expect("mkdir");
    let root = std::fs::File::open(outer.path("fs")).expect("open");
    let unpacked = rbox_overlay::unpack(
        tar,
        rbox_overlay::Compression::None,
        std::os::fd::AsFd::as_fd(&root),
        rbox_overlay::Options { single_id: true, ..Default::default() },
    );
    assert_eq!(outer.text("victim"), "safe");
    let mut around: Vec<_> = std::fs::read_dir(outer.dir.path())
        .expect("readdir")
        .map(|entry| entry.expect("readdir").file_name())
        .collect();
    around.sort();
    assert_eq!(around, ["fs", "victim"]);
    unpacked.expect_err("must be refused").to_string()
}

#[test]
fn names_that_lead_elsewhere() {
    let long = "n".repeat(256);
    let deep = "d/".repeat(2100);
    for (tar, expected) in [
        (Tar::new().file("../victim", "x"), "the layer's entry ../victim: its name contains '..'"),
        (Tar::new().file("a/../../victim", "x"), "the layer's entry a/../../victim: its name contains '..'"),
        (Tar::new().dir("..", 0o777), "the layer's entry ..: its name contains '..'"),
        (Tar::new().file("/etc/rbox-victim", "x"), "the layer's entry /etc/rbox-victim: its name is an absolute path"),
        (
            Tar::new().pax(&[("path", b"/etc/x")]).file("x", ""),
            "the layer's entry /etc/x: its name is an absolute path",
        ),
        (
            Tar::new().pax(&[("path", b"a\0b")]).file("x", ""),
            "the layer's entry a\\u{0}b: its name contains a NUL byte",
        ),
        (Tar::new().file("", "x"), "the layer's entry (the layer's root): its name is empty"),
        (
            Tar::new().pax(&[("path", long.as_bytes())]).file("x", ""),
            "a component of its name is longer than 255 bytes",
        ),
        (Tar::new().pax(&[("path", deep.as_bytes())]).file("x", ""), "its name is longer than 4095 bytes"),
        (Tar::new().file("./", "x"), "the layer's entry (the layer's root): it would replace the layer's root"),
        (Tar::new().symlink(".", "/"), "it would replace the layer's root"),
        (Tar::new().file("a/.wh...", ""), "the layer's entry a/.wh...: it is a whiteout of nothing"),
        (Tar::new().file(".wh.", ""), "it is a whiteout of nothing"),
        (Tar::new().file(".wh..", ""), "it is a whiteout of nothing"),
    ] {
        let error = refused(tar);
        assert!(error.contains(expected), "{error}\nexpected: {expected}");
    }
}

#[test]
fn paths_through_links_and_files() {
    let through = |tar: Tar| tar.symlink("dir/link", "../..");
    for (tar, expected) in [
        (
            through(Tar::new()).file("dir/link/victim", "x"),
            "the layer's entry dir/link/victim: it goes through the symbolic link dir/link",
        ),
        (through(Tar::new()).file("dir/link/new/x", "x"), "it goes through the symbolic link dir/link"),
        (through(Tar::new()).dir("dir/link/d", 0o755), "it goes through the symbolic link dir/link"),
        (through(Tar::new()).symlink("dir/link/d", "x"), "it goes through the symbolic link dir/link"),
        (through(Tar::new()).file("dir/link/.wh.victim", ""), "it goes through the symbolic link dir/link"),
        (through(Tar::new()).file("dir/link/.wh..wh..opq", ""), "it goes through the symbolic link dir/link"),
        (
            through(Tar::new()).hard_link("stolen", "dir/link/victim"),
            "the layer's entry stolen: it goes through the symbolic link dir/link",
        ),
        (
            through(Tar::new()).with("dir/link/dev", b'3', |h| h.device = (1, 1)),
            "it goes through the symbolic link dir/link",
        ),
        (Tar::new().symlink("abs", "/etc").file("abs/x", "x"), "it goes through the symbolic link abs"),
        (Tar::new().symlink("self", "self").file("self/x", "x"), "it goes through the symbolic link self"),
        (
            Tar::new().file("file", "").file("file/x", "x"),
            "the layer's entry file/x: it goes through file, which is not a directory",
        ),
        (Tar::new().file("file", "").file("file/.wh..wh..opq", ""), "it goes through file, which is not a directory"),
        (Tar::new().with("pipe", b'6', |_| {}).file("pipe/x", "x"), "it goes through pipe, which is not a directory"),
    ] {
        let error = refused(tar);
        assert!(error.contains(expected), "{error}\nexpected: {expected}");
    }
}

#[test]
fn links() {
    for (tar, expected) in [
        (
            Tar::new().hard_link("x", "../victim"),
            "the layer's entry x: the name that it is a hard link to is refused: its name contains '..'",
        ),
        (
            Tar::new().hard_link("x", "/etc/passwd"),
            "the name that it is a hard link to is refused: its name is an absolute path",
        ),
        (Tar::new().hard_link("x", ""), "the name that it is a hard link to is refused: its name is empty"),
        (Tar::new().hard_link("x", "x"), "the layer's entry x: it is a hard link to itself"),
        (Tar::new().dir("d", 0o755).hard_link("x", "d"), "the layer's entry x: it is a hard link to the directory d"),
        (Tar::new().hard_link("x", "."), "it is a hard link to the directory"),
        (Tar::new().file(".wh.gone", "").hard_link("x", "gone"), "it is a hard link to gone, which does not exist"),
        (
            Tar::new().symlink("x", ""),
            "the layer's entry x: it is a symbolic link to an empty, binary or overlong name",
        ),
        (Tar::new().pax(&[("linkpath", &[b'a'; 5000])]).symlink("x", ""), "overlong name"),
        (Tar::new().pax(&[("linkpath", b"a\0b")]).symlink("x", ""), "overlong name"),
    ] {
        let error = refused(tar);
        assert!(error.contains(expected), "{error}\nexpected: {expected}");
    }
}

#[test]
fn headers_that_are_none() {
    let archive = |text: &str| format!("the layer is not a tar archive: {text}");
    let mut bad_sum = Tar::new().file("x", "").end();
    bad_sum[0] = b'y';
    let mut bad_size = Header::new("x", b'0');
    bad_size.size = Some(u64::MAX);
    let header = |change: &dyn Fn(&mut [u8])| {
        let mut bytes = Header::new("x", b'0').bytes();
        change(&mut bytes);
        bytes[148..156].fill(b' ');
        let sum: u32 = bytes.iter().map(|byte| u32::from(*byte)).sum();
        bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        bytes.to_vec()
    };
    let mut lone = vec![0; 512];
    lone.extend(Header::new("x", b'0').bytes());
    for (bytes, expected) in [
        (bad_sum, archive("a header's checksum is wrong (byte 0 of the archive)")),
        (b"hello".to_vec(), archive("it ends in the middle of an entry (byte 5 of the archive)")),
        (vec![b'x'; 4096], archive("a header's checksum is wrong")),
        (Tar::new().file("x", "data").0[..514].to_vec(), archive("it ends in the middle of an entry (byte 514")),
        (Tar::new().file("x", "data").0[..600].to_vec(), archive("it ends in the middle of an entry")),
        (lone, archive("a single block of zeros stands between entries (byte 0")),
        (Tar::new().add(&bad_size).end(), archive("a header's size is not a number or out of range")),
        (Tar::new().pax(&[("size", b"9223372036854775807")]).file("x", "").end(), archive("a header's size")),
        (header(&|h| h[124] = b'9'), archive("a header's size is not a number")),
        (header(&|h| h[100..103].copy_from_slice(b"rwx")), archive("a header's mode is not a number")),
        (header(&|h| h[108..116].fill(0xff)), archive("a header's uid is not a number or out of range")),
        (
            header(&|h| h[136..148].copy_from_slice(b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")),
            archive("a header's mtime"),
        ),
        (Tar::new().pax(&[("path", b"y")]).end(), archive("an extended header has no entry after it")),
        (Tar::new().pax(&[("path", b"y")]).0, archive("an extended header has no entry after it")),
        (
            Tar::new().with("x", b'x', |h| h.data = b"nonsense".to_vec()).file("x", "").end(),
            archive("a PAX extended header is malformed"),
        ),
        (
            Tar::new().with("x", b'x', |h| h.size = Some(1 << 30)).end(),
            archive("an extended header or long name is larger than 1 MiB"),
        ),
        (
            Tar::new().with("x", b'L', |h| h.size = Some(1 << 40)).end(),
            archive("an extended header or long name is larger than 1 MiB"),
        ),
        (Tar::new().with("x", b'M', |_| {}).end(), "the layer's entry x: its type 'M' is unknown".into()),
        (
            Tar::new().pax(&[("GNU.sparse.map", b"0,5,2,1"), ("GNU.sparse.size", b"9")]).file("x", "sixsix").end(),
            archive("the map of a sparse file is malformed"),
        ),
        (
            Tar::new().pax(&[("GNU.sparse.map", b"0,5"), ("GNU.sparse.size", b"4")]).file("x", "fives").end(),
            archive("the map of a sparse file is malformed"),
        ),
        (
            Tar::new()
                .pax(&[("GNU.sparse.map", b"0,18446744073709551615"), ("GNU.sparse.size", b"4")])
                .file("x", "fives")
                .end(),
            archive("the map of a sparse file is malformed"),
        ),
        (
            Tar::new()
                .pax(&[("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0"), ("GNU.sparse.realsize", b"4")])
                .file("x", "99999999999999")
                .end(),
            archive("the map of a sparse file is malformed"),
        ),
    ] {
        let error = refused_bytes(&bytes);
        assert!(error.contains(&expected), "{error}\nexpected: {expected}");
    }
}

#[test]
fn a_size_beyond_the_archive_takes_no_memory() {
    // A terabyte that is not there.
    let mut header = Header::new("x", b'0');
    header.size = Some(1 << 40);
    let error = refused_bytes(&Tar::new().add(&header).end());
    assert!(error.contains("it ends in the middle of an entry"), "{error}");
}

#[test]
fn depth_and_number_are_bounded_by_memory_not_descriptors() {
    // 2000 directories deep, files at each depth, more directories than descriptors.
    let mut tar = Tar::new();
    let deep = "d/".repeat(2000);
    for depth in (0..2000).step_by(40) {
        let path = format!("{}f", &deep[..depth * 2]);
        tar = tar.pax(&[("path", path.as_bytes())]).file("x", "");
    }
    for n in 0..1200 {
        tar = tar.file(format!("wide/{n}/f"), "");
    }
    let layer = Layer::on(&[], tar, true).expect("unpacked");
    assert!(layer.path("wide/1199/f").exists());
    assert!(layer.path(&format!("{}f", &deep[..1960 * 2])).exists());
}

/// The same bytes again and again, so many times.
struct Again {
    bytes: Vec<u8>,
    at: usize,
    times: usize,
}

impl std::io::Read for Again {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.at == self.bytes.len() {
            self.at = 0;
            self.times -= 1;
        }
        if self.times == 0 {
            return Ok(0);
        }
        let length = std::io::Read::read(&mut &self.bytes[self.at..], buffer)?;
        self.at += length;
        Ok(length)
    }
}

#[test]
fn what_must_be_remembered_is_bounded() {
    // A link of 8 KiB to what may come later: 20 000 of them are 160 MB of names.
    let name = "d/".repeat(2000);
    let records = [("path", format!("{name}p")), ("linkpath", format!("{name}l"))];
    let records = records.each_ref().map(|(key, value)| (*key, value.as_bytes()));
    let bytes = Tar::new().pax(&records).hard_link("x", "x").0;
    let layer = Layer::empty();
    let error = rbox_overlay::unpack(
        Again { bytes, at: 0, times: 20_000 },
        rbox_overlay::Compression::None,
        std::os::fd::AsFd::as_fd(&layer.root),
        rbox_overlay::Options { single_id: true, ..Default::default() },
    );
    let error = error.expect_err("must be refused").to_string();
    assert!(error.contains("more directories and links than can be kept in memory"), "{error}");
}
