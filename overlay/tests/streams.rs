//! Compression, the diff id, and what other people's tar writes.

mod support;

use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use rbox_overlay::{Compression, Error, Options, Report, unpack};
use sha2::{Digest, Sha256};
use support::{Layer, Tar};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).expect("in memory");
    encoder.finish().expect("in memory")
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(bytes, 3).expect("in memory")
}

/// Some MiB that do not compress well.
fn noise() -> Vec<u8> {
    let mut state = 1_u32;
    (0..3_000_000)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 28) as u8
        })
        .collect()
}

fn unpacked(bytes: &[u8], compression: Compression) -> Result<(Report, Layer), Error> {
    let layer = Layer::empty();
    let unpacked = unpack(bytes, compression, layer.root.as_fd(), Options { single_id: true, ..Default::default() })?;
    Ok((unpacked.report, layer))
}

#[test]
fn all_compressions_give_the_same() {
    let noise = noise();
    let tar = Tar::new().file("noise", &noise).file("small", "s").end();
    let (half, rest) = tar.split_at(1_234_567);
    let joined = |compress: fn(&[u8]) -> Vec<u8>| [compress(half), compress(b""), compress(rest)].concat();
    let digest: [u8; 32] = Sha256::digest(&tar).into();
    for (bytes, compression) in [
        (tar.clone(), Compression::None),
        (gzip(&tar), Compression::Gzip),
        (joined(gzip), Compression::Gzip),
        (zstd(&tar), Compression::Zstd),
        (joined(zstd), Compression::Zstd),
    ] {
        let (report, layer) = unpacked(&bytes, compression).expect("unpacked");
        assert_eq!(report.diff_id.0, rbox_types::Digest::from_sha256(digest));
        assert_eq!((report.tar_size, report.size), (tar.len() as u64, noise.len() as u64 + 1));
        assert!(std::fs::read(layer.path("noise")).expect("read") == noise);
    }
}

#[test]
fn what_follows_the_end_counts() {
    for tail in [0, 1, 9 * 1024, 2_000_000] {
        let mut tar = Tar::new().file("f", "f").end();
        tar.resize(tar.len() + tail, 0xaa);
        let digest: [u8; 32] = Sha256::digest(&tar).into();
        let (report, _) = unpacked(&gzip(&tar), Compression::Gzip).expect("unpacked");
        assert_eq!(report.diff_id.0, rbox_types::Digest::from_sha256(digest), "{tail}");
        assert_eq!(report.tar_size, tar.len() as u64);
    }
    let mut tar = Tar::new().file("f", "f").end();
    tar.resize(tar.len() + (65 << 20), 0);
    let error = unpacked(&tar, Compression::None).err().expect("refused");
    assert!(matches!(error, Error::Trailing { .. }), "{error}");
    // No block of zeros at the end, and no entry at all.
    unpacked(&Tar::new().file("f", "f").0, Compression::None).expect("unpacked");
    unpacked(b"", Compression::None).expect("unpacked");
}

#[test]
fn broken_streams() {
    let tar = Tar::new().file("noise", noise()).end();
    let (gzip, zstd) = (gzip(&tar), zstd(&tar));
    let mut flipped = gzip.clone();
    let checksum = flipped.len() - 8;
    flipped[checksum] ^= 1;
    let cut = |bytes: &[u8], by: usize| bytes[..bytes.len() - by].to_vec();
    let tail = |bytes: &[u8], tail: &[u8]| [bytes, tail].concat();
    for (what, bytes, compression) in [
        ("half a gzip", cut(&gzip, gzip.len() / 2), Compression::Gzip),
        ("gzip without its trailer", cut(&gzip, 8), Compression::Gzip),
        ("gzip without its last byte", cut(&gzip, 1), Compression::Gzip),
        ("a wrong checksum", flipped, Compression::Gzip),
        ("gzip and garbage", tail(&gzip, b"garbage"), Compression::Gzip),
        ("gzip and a zero", tail(&gzip, b"\0"), Compression::Gzip),
        ("gzip and half a header", tail(&gzip, b"\x1f\x8b\x08"), Compression::Gzip),
        ("no gzip", tar.clone(), Compression::Gzip),
        ("nothing", Vec::new(), Compression::Gzip),
        ("half a zstd", cut(&zstd, zstd.len() / 2), Compression::Zstd),
        ("zstd without its last byte", cut(&zstd, 1), Compression::Zstd),
        ("zstd and garbage", tail(&zstd, b"garbage"), Compression::Zstd),
        ("no zstd", tar.clone(), Compression::Zstd),
    ] {
        match unpacked(&bytes, compression) {
            Err(error @ Error::Decompress(_)) => assert!(error.hint().is_some()),
            Err(error) => panic!("{what}: {error}"),
            Ok(_) => panic!("{what}: unpacked"),
        }
    }
}

/// GNU tar's own files, in each of its formats, holes and attributes too.
#[test]
fn gnu_tar() {
    let source = Layer::empty();
    let sparse = std::fs::File::create(source.path("sparse")).expect("create");
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"begin", 0).expect("write");
    // More pieces than a header and one extension block hold.
    for piece in 1..=60_u64 {
        std::os::unix::fs::FileExt::write_all_at(&sparse, format!("piece {piece}").as_bytes(), piece << 20)
            .expect("write");
    }
    sparse.set_len(200 << 20).expect("truncate");
    std::fs::File::create(source.path("hole")).and_then(|file| file.set_len(5_000_000)).expect("create");
    let long = format!("{}/{}", "d".repeat(150), "f".repeat(150));
    std::fs::create_dir(source.path(&"d".repeat(150))).expect("mkdir");
    std::fs::write(source.path(&long), "long").expect("write");
    std::fs::hard_link(source.path(&long), source.path("linked")).expect("link");
    std::os::unix::fs::symlink("l".repeat(120), source.path("symlink")).expect("symlink");
    for format in [
        &["--format=gnu"][..],
        &["--format=gnu", "--sparse"],
        &["--format=pax", "--sparse", "--sparse-version=0.0"],
        &["--format=pax", "--sparse", "--sparse-version=0.1"],
        &["--format=pax", "--sparse", "--sparse-version=1.0"],
    ] {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let mut tar = Command::new("tar");
        tar.args(["-c", "-f"]).arg(file.path()).args(format).arg("-C").arg(source.dir.path()).arg(".");
        assert!(tar.status().expect("tar(1) starts").success());
        let bytes = std::fs::read(file.path()).expect("read");
        let (_, layer) = unpacked(&bytes, Compression::None).unwrap_or_else(|error| panic!("{format:?}: {error}"));
        assert_eq!(layer.names(), source.names());
        for path in ["sparse", "hole", &long] {
            let same =
                std::fs::read(layer.path(path)).expect("read") == std::fs::read(source.path(path)).expect("read");
            assert!(same, "{format:?}: {path}");
            let (ours, theirs) = (layer.stat(path), source.stat(path));
            assert_eq!(ours.mtime(), theirs.mtime());
            if format.contains(&"--sparse") {
                assert!(ours.blocks() <= theirs.blocks() + 64, "{format:?}: {path} has its holes");
            }
        }
        assert_eq!(layer.stat("linked").ino(), layer.stat(&long).ino());
        assert_eq!(std::fs::read_link(layer.path("symlink")).expect("a link"), std::path::Path::new(&"l".repeat(120)));
    }
}
