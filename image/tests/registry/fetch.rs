//! Blobs, over connections that break in every way.

use std::{
    cell::RefCell,
    fs::File,
    os::unix::fs::FileExt,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use crate::support::{Reply, Repository, Request, Server, client, digest, impatient_client};
use rbox_image::{Client, Error, VerifiedBlob, verify_file};
use rbox_types::Digest;

/// 700 kB: several buffers, and no multiple of any.
fn blob() -> Vec<u8> {
    (0..700_001u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

/// A registry that holds [`blob`] and answers the n-th request for it (from 0) by `answer`, which is given what an
/// honest registry would say.
fn registry(answer: impl Fn(u32, &Request, Reply) -> Reply + Send + Sync + 'static) -> Server {
    let mut repository = Repository::default();
    repository.add_blob(&blob());
    let count = AtomicU32::new(0);
    Server::start(move |request| answer(count.fetch_add(1, Ordering::SeqCst), request, repository.answer(request)))
}

fn fetch(server: &Server, dest: &File) -> Result<VerifiedBlob, Error> {
    fetch_by(&client(), server, dest)
}

fn fetch_by(client: &Client, server: &Server, dest: &File) -> Result<VerifiedBlob, Error> {
    let bytes = blob();
    client.fetch(&server.image("repo:tag"), &digest(&bytes), bytes.len() as u64, dest, &|_| ())
}

fn file() -> File {
    tempfile::tempfile().expect("a file")
}

fn content(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; file.metadata().expect("metadata").len() as usize];
    file.read_exact_at(&mut bytes, 0).expect("read");
    bytes
}

fn ranges(server: &Server) -> Vec<Option<String>> {
    server.requests().iter().map(|request| request.header("range").map(str::to_owned)).collect()
}

#[test]
fn whole() {
    for chunked in [false, true] {
        let server = registry(move |_, _, honest| if chunked { honest.chunked() } else { honest });
        let (dest, bytes) = (file(), blob());
        let told = RefCell::new(Vec::new());
        let progress = |count| {
            // Whoever follows finds these bytes in the file.
            let mut last = [0];
            dest.read_exact_at(&mut last, count - 1).expect("written already");
            assert_eq!(last[0], bytes[count as usize - 1]);
            told.borrow_mut().push(count);
        };
        let (name, size) = (digest(&bytes), bytes.len() as u64);
        let blob = client().fetch(&server.image("repo:tag"), &name, size, &dest, &progress).expect("fetched");
        assert_eq!((blob.digest(), blob.size()), (name, size));
        assert!(content(&dest) == bytes);
        assert!(told.borrow().is_sorted());
        assert_eq!(told.borrow().last(), Some(&size));
        assert_eq!(verify_file(&dest, &name).expect("verified"), blob);
    }
}

#[test]
fn nothing_is_fetched_for_an_empty_blob() {
    let server = registry(|_, _, honest| honest);
    let dest = file();
    let name = digest(b"");
    assert_eq!(client().fetch(&server.image("repo:tag"), &name, 0, &dest, &|_| ()).expect("empty").size(), 0);
}

#[test]
fn broken_connections_go_on_where_they_stopped() {
    let server = registry(|n, _, honest| match n {
        0 => honest.cut(300_000),
        1 => honest.cut(0),
        2 => Reply::new(500, ""),
        3 => honest.hang(100_000),
        _ => honest,
    });
    let dest = file();
    // Progress in between makes the tries count anew only from 1 MiB on: this is 4 failures, one too many.
    assert!(matches!(fetch_by(&impatient_client(), &server, &dest), Err(Error::TimedOut { .. })));

    let server = registry(|n, _, honest| match n {
        0 => honest.cut(300_000),
        1 => Reply::new(500, ""),
        2 => honest.hang(100_000),
        _ => honest,
    });
    let dest = file();
    fetch_by(&impatient_client(), &server, &dest).expect("fetched in the end");
    assert!(content(&dest) == blob());
    let range = |from: &str| Some(format!("bytes={from}-"));
    assert_eq!(ranges(&server), [None, range("300000"), range("300000"), range("400000")]);
}

#[test]
fn a_server_without_ranges() {
    let server = registry(|n, _, honest| match n {
        0 => honest.cut(300_000),
        _ => Reply::new(200, blob()),
    });
    let dest = file();
    fetch(&server, &dest).expect("fetched");
    assert!(content(&dest) == blob());
}

#[test]
fn a_range_that_was_not_asked_for() {
    let server = registry(|n, _, honest| match n {
        0 => honest.cut(300_000),
        _ => Reply::new(206, &blob()[1..]).header("Content-Range", "bytes 1-700000/700001"),
    });
    assert!(matches!(fetch(&server, &file()), Err(Error::Protocol { .. })));
}

#[test]
fn truncated() {
    let server = registry(|_, _, _| Reply::new(200, &blob()[..500_000]));
    let error = fetch(&server, &file()).expect_err("too short");
    assert!(error.to_string().ends_with("has 500000 bytes, not 700001: it is truncated"), "{error}");
    assert_eq!(server.requests().len(), 1, "it was asked again");

    // No announcement: it may be the connection, so it is asked again, and then given up.
    let server = registry(|_, request, _| match request.header("range") {
        None => Reply::new(200, &blob()[..500_000]).chunked(),
        Some(_) => Reply::new(416, ""),
    });
    let error = fetch(&server, &file()).expect_err("too short");
    assert!(matches!(error, Error::SizeMismatch { actual: 500_000, .. }), "{error}");
}

#[test]
fn too_long() {
    let mut longer = blob();
    longer.resize(1_700_001, 0);
    for chunked in [false, true] {
        let longer = longer.clone();
        let server = registry(move |_, _, _| {
            let reply = Reply::new(200, longer.as_slice());
            if chunked { reply.chunked() } else { reply }
        });
        let dest = file();
        assert!(matches!(fetch(&server, &dest), Err(Error::SizeMismatch { expected: 700_001, .. })));
        assert!(content(&dest).len() <= 700_001, "more was written than announced");
    }
}

#[test]
fn wrong_bytes() {
    let server = registry(|_, _, _| {
        let mut bytes = blob();
        bytes[650_000] ^= 1;
        Reply::new(200, bytes)
    });
    assert!(matches!(fetch(&server, &file()), Err(Error::DigestMismatch { .. })));
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn missing() {
    let server = registry(|_, _, _| Reply::new(404, ""));
    let error = fetch(&server, &file()).expect_err("not there");
    assert!(matches!(error, Error::BlobNotFound { .. }), "{error}");
}

#[test]
fn a_file_that_cannot_be_written() {
    let server = registry(|_, _, honest| honest);
    let full = File::options().write(true).open("/dev/full").expect("/dev/full");
    let error = fetch(&server, &full).expect_err("no space");
    assert!(matches!(&error, Error::Write { .. }), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("rbox gc")));
    assert_eq!(server.requests().len(), 1, "it was asked again");
}

#[test]
fn several_at_once() {
    let mut repository = Repository::default();
    let blobs: Vec<Vec<u8>> = (0..8u8).map(|n| vec![n; 300_000 + usize::from(n)]).collect();
    let names: Vec<Digest> = blobs.iter().map(|blob| repository.add_blob(blob)).collect();
    let count = AtomicU32::new(0);
    let server = Server::start(move |request| match count.fetch_add(1, Ordering::SeqCst) % 3 {
        0 => repository.answer(request).cut(100_000),
        _ => repository.answer(request),
    });
    let (client, reference) = (Arc::new(client()), server.image("repo:tag"));
    std::thread::scope(|scope| {
        for (name, blob) in names.iter().zip(&blobs) {
            let (client, reference) = (&client, &reference);
            scope.spawn(move || {
                let dest = file();
                client.fetch(reference, name, blob.len() as u64, &dest, &|_| ()).expect("fetched");
                assert!(content(&dest) == *blob);
            });
        }
    });
}
