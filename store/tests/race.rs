//! Several processes and threads at one thing.

mod common;

use std::{
    io::Write,
    sync::{
        Barrier,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use common::{MAP, Other, container_id, container_name, put_blob, put_image, reference, sha256};
use rbox_store::{ContainerRefs, Error, Staged};
use rbox_types::{ChainId, DiffId};

const BYTES: &[u8] = b"downloaded once";

#[test]
fn threads_download_a_blob_once() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let store = common::store(directory.path());
    let (downloads, barrier) = (AtomicUsize::new(0), Barrier::new(8));
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let lease = store.begin().expect("begin");
                barrier.wait();
                if let Staged::New(staged) = lease.stage_blob(sha256(BYTES)).expect("stage") {
                    downloads.fetch_add(1, Ordering::Relaxed);
                    thread::sleep(Duration::from_millis(20));
                    staged.file().write_all(BYTES).expect("write");
                    staged.commit().expect("commit");
                }
                assert_eq!(store.read_blob(&sha256(BYTES), 100).expect("there"), BYTES);
            });
        }
    });
    assert_eq!(downloads.into_inner(), 1);
    let left = common::tree(store.root());
    assert!(left.iter().all(|path| !path.starts_with("locks/blob") && !path.starts_with("tmp/")), "{left:?}");
}

#[test]
fn threads_unpack_a_layer_once() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let store = common::store(directory.path());
    let chain = ChainId(sha256(b"layer"));
    let (unpacked, barrier) = (AtomicUsize::new(0), Barrier::new(8));
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let lease = store.begin().expect("begin");
                barrier.wait();
                if let Staged::New(staged) = lease.stage_layer(MAP, chain).expect("stage") {
                    unpacked.fetch_add(1, Ordering::Relaxed);
                    let record =
                        rbox_store::LayerRecord { diff_id: DiffId(chain.0), size: 0, ids: 0, left_out: vec![] };
                    staged.commit(&record).expect("commit");
                }
                assert!(store.layer(MAP, chain).expect("look").expect("there").fs().is_dir());
            });
        }
    });
    assert_eq!(unpacked.into_inner(), 1);
}

/// The other process begins the blob and is killed in the middle of it, while we wait for it.
#[test]
fn takes_over_from_a_killed_process() {
    if let Some(store) = common::role() {
        let lease = store.begin().expect("begin");
        let Staged::New(staged) = lease.stage_blob(sha256(BYTES)).expect("stage") else { panic!("is there") };
        staged.file().write_all(&BYTES[..4]).expect("write");
        common::say("half");
        common::wait();
        return;
    }
    let directory = tempfile::tempdir().expect("temporary directory");
    let store = common::store(directory.path());
    let mut other = Other::start("takes_over_from_a_killed_process", &store);
    other.hear();
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(|| {
            let lease = store.begin().expect("begin");
            let staged = lease.stage_blob(sha256(BYTES)).expect("stage");
            sender.send(()).expect("send");
            let Staged::New(staged) = staged else { panic!("half a blob is there") };
            staged.file().write_all(BYTES).expect("write");
            staged.commit().expect("commit");
        });
        let waited = receiver.recv_timeout(Duration::from_millis(100));
        assert_eq!(waited, Err(mpsc::RecvTimeoutError::Timeout), "two processes write one blob");
        other.kill();
    });
    assert_eq!(store.read_blob(&sha256(BYTES), 100).expect("there"), BYTES);

    let collected = store.gc(&common::remove_tree).expect("gc");
    assert_eq!((collected.leases, collected.blobs), (1, 1));
    assert!(common::tree(&store.root().join("tmp")).is_empty());
    assert_eq!(common::tree(&store.root().join("locks")), ["gc", "index"]);
}

#[test]
fn waits_for_a_process_that_commits() {
    if let Some(store) = common::role() {
        let lease = store.begin().expect("begin");
        let Staged::New(staged) = lease.stage_blob(sha256(BYTES)).expect("stage") else { panic!("is there") };
        common::say("begun");
        common::wait();
        staged.file().write_all(BYTES).expect("write");
        staged.commit().expect("commit");
        return;
    }
    let directory = tempfile::tempdir().expect("temporary directory");
    let store = common::store(directory.path());
    let mut other = Other::start("waits_for_a_process_that_commits", &store);
    other.hear();
    thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let lease = store.begin().expect("begin");
            matches!(lease.stage_blob(sha256(BYTES)).expect("stage"), Staged::Present)
        });
        thread::sleep(Duration::from_millis(50));
        other.tell();
        assert!(waiter.join().expect("join"), "was to be downloaded a second time");
    });
    other.end();
}

#[test]
fn one_container_gets_the_name() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let store = common::store(directory.path());
    let lease = store.begin().expect("begin");
    let manifest = put_blob(&lease, b"manifest");
    let refs = ContainerRefs { manifest, map_key: MAP.into(), layers: vec![], volumes: vec![], ids: None };
    let barrier = Barrier::new(8);
    let results: Vec<_> = thread::scope(|scope| {
        let (store, refs, barrier) = (&store, &refs, &barrier);
        let clients: Vec<_> = (0..8)
            .map(|number| {
                scope.spawn(move || {
                    barrier.wait();
                    store.create_container(&container_id(number), &container_name("web"), refs)
                })
            })
            .collect();
        clients.into_iter().map(|client| client.join().expect("join")).collect()
    });
    let winners: Vec<_> = results.iter().filter_map(|result| result.as_ref().ok()).collect();
    let [winner] = winners[..] else { panic!("{} winners", winners.len()) };
    for error in results.iter().filter_map(|result| result.as_ref().err()) {
        assert!(matches!(error, Error::NameTaken { id, .. } if id == winner.id()), "{error:?}");
        assert_eq!(error.to_string(), format!("the container name web is taken by container {}", winner.id().short()));
    }
    assert_eq!(store.containers().expect("list").len(), 1);
    assert_eq!(std::fs::read_dir(store.root().join("containers")).expect("list").count(), 1);
}

/// Counts a client that ended, be it by a failed assertion.
struct Ended<'a>(&'a AtomicUsize);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Names come and go while collections run; whoever got an image named finds all of it.
#[test]
fn collections_never_take_what_is_named() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let store = common::store(directory.path());
    let done = AtomicUsize::new(0);
    thread::scope(|scope| {
        for client in 0..3 {
            let (store, done) = (&store, &done);
            scope.spawn(move || {
                let _ended = Ended(done);
                for round in 0..20 {
                    let name = format!("localhost/image{client}:latest");
                    let lease = store.begin().expect("begin");
                    // The layers are common to all clients: one's untag must not cost the other its image.
                    let image = put_image(&lease, &name, &["base", "middle", &format!("top{}", round % 2)]);
                    drop(lease);
                    for digest in image.layer_blobs.iter().chain([&image.config, &image.record.manifest.digest]) {
                        assert!(store.has_blob(digest).expect("look"), "{digest} of {name} is gone");
                    }
                    for chain in &image.chains {
                        assert!(store.layer(MAP, *chain).expect("look").is_some(), "{chain} of {name} is gone");
                    }
                    let refs = ContainerRefs {
                        manifest: image.record.manifest.digest,
                        map_key: MAP.into(),
                        layers: image.chains.clone(),
                        volumes: vec![],
                        ids: None,
                    };
                    let (id, called) = (container_id(client), container_name(&format!("c{client}")));
                    let container = store.create_container(&id, &called, &refs).expect("all is there");
                    assert!(store.untag(&reference(&name)).expect("untag"));
                    for chain in &image.chains {
                        assert!(store.layer(MAP, *chain).expect("look").is_some(), "{chain} of a container is gone");
                    }
                    container.remove(&common::remove_tree).expect("remove");
                }
            });
        }
        for _ in 0..2 {
            scope.spawn(|| {
                while done.load(Ordering::Relaxed) < 3 {
                    let collected = store.gc(&common::remove_tree).expect("gc");
                    assert!(collected.failures.is_empty(), "{:?}", collected.failures);
                }
            });
        }
    });
    store.gc(&common::remove_tree).expect("gc");
    let left = common::tree(store.root());
    let expected = [
        "blobs",
        "blobs/sha256",
        "container-names",
        "containers",
        "index.json",
        "layers",
        "layers/00000000000000aa",
        "locks",
        "locks/gc",
        "locks/index",
        "meta.json",
        "names",
        "oci-layout",
        "tmp",
        "unsettled",
        "volumes",
    ];
    assert_eq!(left, expected);
}
