//! Client and worker in one process.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use rbox_types::{DiffId, Digest};
use sha2::{Digest as _, Sha256};

use super::*;
use crate::Compression;

/// A file with this content, in an archive, gzipped.
fn layer(name: &str, length: usize) -> (Vec<u8>, DiffId) {
    let mut header = [0; 512];
    let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, "0000644");
    put(108, "0000000");
    put(116, "0000000");
    put(124, &format!("{length:011o}"));
    put(136, "00000000000");
    put(148, "        ");
    put(156, "0");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    let mut tar = header.to_vec();
    tar.extend((0..length).map(|n| ((n * n) >> 7) as u8));
    tar.resize(tar.len().next_multiple_of(512) + 1024, 0);
    let diff_id = DiffId(Digest::from_sha256(Sha256::digest(&tar).into()));
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&tar).expect("in memory");
    (encoder.finish().expect("in memory"), diff_id)
}

fn job(diff_id: DiffId) -> Job {
    Job { compression: Compression::Gzip, diff_id, single_id: true }
}

struct Place {
    dir: tempfile::TempDir,
    root: File,
    blob: tempfile::NamedTempFile,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let root = File::open(dir.path()).expect("open");
        Self { dir, root, blob: tempfile::NamedTempFile::new().expect("a temporary file") }
    }

    fn blob(&self) -> File {
        File::open(self.blob.path()).expect("open")
    }
}

/// Runs `client` against a worker; says whether the worker was aborted.
fn with_worker(client: impl FnOnce(&Channel)) -> bool {
    let (ours, theirs) = Channel::pair().expect("a socketpair");
    let aborted = AtomicBool::new(false);
    thread::scope(|scope| {
        let worker = scope.spawn(|| serve(&theirs, || aborted.store(true, Ordering::SeqCst)));
        client(&ours);
        drop(ours);
        worker.join().expect("no panic").expect("no trouble with the channel");
    });
    aborted.load(Ordering::SeqCst)
}

#[test]
fn a_layer_that_arrives_in_pieces() {
    let (bytes, diff_id) = layer("tmp/file", 3_000_000);
    let mut place = Place::new();
    let aborted = with_worker(|channel| {
        let blob = place.blob();
        let mut client = Client::begin(channel, &job(diff_id), blob.as_fd(), place.root.as_fd()).expect("begun");
        let mut total = 0;
        for piece in bytes.chunks(50_000) {
            place.blob.write_all(piece).expect("write");
            total += piece.len() as u64;
            client.available(total).expect("the worker listens");
        }
        let report = client.report(total).expect("unpacked");
        assert_eq!((report.diff_id, report.size), (diff_id, 3_000_000));
        // More parents than one message carries; only the last has /tmp.
        let parents: Vec<_> = (0..6).map(|_| Place::new()).collect();
        let tmp = parents[5].dir.path().join("tmp");
        std::fs::create_dir(&tmp).expect("mkdir");
        std::fs::set_permissions(tmp, std::os::unix::fs::PermissionsExt::from_mode(0o1777)).expect("chmod");
        let fds: Vec<_> = parents.iter().map(|place| place.root.as_fd()).collect();
        client.settle(&fds).expect("settled");
        assert_eq!(place.dir.path().join("tmp").metadata().expect("stat").mode() & 0o7777, 0o1777);
        assert_eq!(place.dir.path().join("tmp/file").metadata().expect("stat").len(), 3_000_000);
    });
    assert!(!aborted);
}

#[test]
fn a_layer_without_parents() {
    let (bytes, diff_id) = layer("file", 10);
    let mut place = Place::new();
    place.blob.write_all(&bytes).expect("write");
    with_worker(|channel| {
        let blob = place.blob();
        let mut client = Client::begin(channel, &job(diff_id), blob.as_fd(), place.root.as_fd()).expect("begun");
        client.report(bytes.len() as u64).expect("unpacked");
        client.settle(&[]).expect("settled");
    });
}

#[test]
fn errors_cross_with_their_causes_and_hints() {
    let (bytes, diff_id) = layer("file", 1000);
    let (_, other) = layer("other", 1000);
    for (bytes, expected_id, text) in [
        (&bytes[..bytes.len() - 3], diff_id, "cannot decompress the layer: "),
        (&bytes[..], other, "but the image's configuration says sha256:"),
    ] {
        let mut place = Place::new();
        place.blob.write_all(bytes).expect("write");
        with_worker(|channel| {
            let blob = place.blob();
            let mut client =
                Client::begin(channel, &job(expected_id), blob.as_fd(), place.root.as_fd()).expect("begun");
            let error = client.report(bytes.len() as u64).expect_err("refused");
            assert!(error.to_string().contains(text), "{error}");
            assert!(error.hint().is_some());
        });
    }
}

#[test]
fn a_failure_is_told_while_the_blob_still_arrives() {
    let (bytes, diff_id) = layer("../file", 3_000_000);
    let mut place = Place::new();
    place.blob.write_all(&bytes).expect("write");
    with_worker(|channel| {
        let blob = place.blob();
        let mut client = Client::begin(channel, &job(diff_id), blob.as_fd(), place.root.as_fd()).expect("begun");
        let begun = Instant::now();
        let mut total = 1 << 20;
        let error = loop {
            if let Err(error) = client.available(total) {
                break error;
            }
            assert!(begun.elapsed().as_secs() < 30, "the worker says nothing");
            // Never all of it.
            total += 256 << 10;
            thread::sleep(std::time::Duration::from_millis(5));
        };
        assert!(error.to_string().contains("../file: its name contains '..'"), "{error}");
    });
    assert_eq!(std::fs::read_dir(place.dir.path()).expect("readdir").count(), 0);
}

#[test]
fn a_client_that_gives_up_ends_the_work() {
    let (bytes, diff_id) = layer("file", 3_000_000);
    let mut place = Place::new();
    place.blob.write_all(&bytes).expect("write");
    let half = bytes.len() as u64 / 2;
    assert!(with_worker(|channel| {
        let blob = place.blob();
        let mut client = Client::begin(channel, &job(diff_id), blob.as_fd(), place.root.as_fd()).expect("begun");
        client.available(half).expect("the worker listens");
    }));
    // Between unpacking and settling too.
    let place = Place { blob: place.blob, ..Place::new() };
    assert!(with_worker(|channel| {
        let blob = place.blob();
        let mut client = Client::begin(channel, &job(diff_id), blob.as_fd(), place.root.as_fd()).expect("begun");
        client.report(bytes.len() as u64).expect("unpacked");
    }));
}

#[test]
fn a_blob_shorter_than_announced() {
    let (bytes, diff_id) = layer("file", 3_000_000);
    let mut place = Place::new();
    place.blob.write_all(&bytes[..1000]).expect("write");
    with_worker(|channel| {
        let blob = place.blob();
        let mut client = Client::begin(channel, &job(diff_id), blob.as_fd(), place.root.as_fd()).expect("begun");
        let error = client.report(bytes.len() as u64).expect_err("too short");
        assert!(error.to_string().contains("shorter than was announced"), "{error}");
    });
}

#[test]
fn a_long_answer_takes_several_packets() {
    let (ours, theirs) = Channel::pair().expect("a socketpair");
    let message = "x".repeat(300_000);
    thread::scope(|scope| {
        scope.spawn(|| protocol::reply(&theirs, &Reply::Failed { message: message.clone(), hint: None }));
        let root = Place::new();
        let error = remove(&ours, root.root.as_fd(), b"x").expect_err("failed");
        assert_eq!(error.to_string(), message);
    });
}

#[test]
fn removing() {
    let place = Place::new();
    std::fs::create_dir_all(place.dir.path().join("a/b")).expect("mkdir");
    let (ours, theirs) = Channel::pair().expect("a socketpair");
    thread::scope(|scope| {
        scope.spawn(|| serve_once(&theirs));
        remove(&ours, place.root.as_fd(), b"a").expect("removed");
    });
    assert!(!place.dir.path().join("a").exists());
}
