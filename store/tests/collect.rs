//! What a collection takes and what it leaves.

mod common;

use std::{fs, io};

use common::{MAP, Other, container_id, container_name, put_blob, put_image, put_unnamed, reference, remove_tree};
use rbox_store::{ContainerRefs, Error, Staged, Store};
use rbox_types::{ChainId, DiffId};

#[test]
fn an_image_stays_while_it_has_a_name() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let store = common::store(directory.path());
    let lease = store.begin().expect("begin");
    let index = put_blob(&lease, b"an index");
    let mut kept = put_unnamed(&lease, "localhost/kept:1", &["base", "top"]);
    kept.record.index = Some(index);
    lease.name(&kept.record).expect("name");
    let gone = put_image(&lease, "localhost/gone:1", &["base", "other"]);
    drop(lease);

    let collected = store.gc(&remove_tree).expect("gc");
    assert_eq!((collected.blobs, collected.layers, collected.bytes), (0, 0, 0));

    assert!(store.untag(&gone.record.reference).expect("untag"));
    assert!(!store.untag(&gone.record.reference).expect("untag"), "it was there twice");
    let size = |digest| fs::metadata(store.blob_path(digest)).expect("there").len();
    let bytes = size(&gone.record.manifest.digest) + size(&gone.config) + size(&gone.layer_blobs[1]);
    let collected = store.gc(&remove_tree).expect("gc");
    // Its layer record says 7.
    assert_eq!((collected.blobs, collected.layers, collected.bytes), (3, 1, bytes + 7));
    for digest in kept.layer_blobs.iter().chain([&kept.config, &kept.record.manifest.digest, &index]) {
        assert!(store.has_blob(digest).expect("look"), "{digest}");
    }
    for chain in &kept.chains {
        assert!(store.layer(MAP, *chain).expect("look").is_some(), "{chain}");
    }
    assert!(store.layer(MAP, gone.chains[1]).expect("look").is_none());
}

#[test]
fn a_live_lease_keeps_what_it_wants_and_a_dead_one_does_not() {
    if let Some(store) = common::role() {
        let lease = store.begin().expect("begin");
        let image = put_unnamed(&lease, "localhost/x", &["layer"]);
        // Half of something more.
        let Staged::New(layer) = lease.stage_layer(MAP, ChainId(common::sha256(b"more"))).expect("stage") else {
            panic!("is there")
        };
        fs::write(layer.fs().join("half"), "").expect("write");
        common::say(&image.record.manifest.digest.to_string());
        common::wait();
        return;
    }
    let directory = tempfile::tempdir().expect("temporary directory");
    let store = common::store(directory.path());
    let mut other = Other::start("a_live_lease_keeps_what_it_wants_and_a_dead_one_does_not", &store);
    let manifest = other.hear().parse().expect("a digest");
    let before = common::tree(store.root());
    let collected = store.gc(&remove_tree).expect("gc");
    assert_eq!((collected.blobs, collected.layers, collected.leases), (0, 0, 0));
    // The marks may go: they are settled.
    let marks =
        |tree: Vec<String>| -> Vec<String> { tree.into_iter().filter(|path| !path.starts_with("unsettled")).collect() };
    assert_eq!(marks(common::tree(store.root())), marks(before));
    assert!(store.has_blob(&manifest).expect("look"));

    other.kill();
    let collected = store.gc(&remove_tree).expect("gc");
    assert_eq!((collected.blobs, collected.layers, collected.leases), (3, 1, 1));
    assert!(common::tree(&store.root().join("tmp")).is_empty());
    assert_eq!(common::tree(&store.root().join("locks")), ["gc", "index"]);
    assert!(common::tree(&store.root().join("unsettled")).is_empty());
}

#[test]
fn keep_alone_keeps() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let store = common::store(directory.path());
    let lease = store.begin().expect("begin");
    let image = put_unnamed(&lease, "localhost/x", &["layer"]);
    let second = store.begin().expect("begin");
    second.keep(&[image.config], &[(MAP.into(), image.chains[0])]).expect("keep");
    drop(lease);
    let collected = store.gc(&remove_tree).expect("gc");
    assert_eq!((collected.blobs, collected.layers), (2, 0));
    assert!(store.has_blob(&image.config).expect("look"));
    // Under other id maps it is another layer.
    second.keep(&[], &[("00000000000000bb".into(), ChainId(image.config))]).expect("keep");
    drop(second);
    let collected = store.gc(&remove_tree).expect("gc");
    assert_eq!((collected.blobs, collected.layers), (1, 1));
}

#[test]
fn a_container_keeps_its_image() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let store = common::store(directory.path());
    let image = put_image(&store.begin().expect("begin"), "localhost/x:1", &["a", "b"]);
    let refs = ContainerRefs {
        manifest: image.record.manifest.digest,
        map_key: MAP.into(),
        layers: image.chains.clone(),
        volumes: vec![],
        ids: None,
    };
    let container = store.create_container(&container_id(1), &container_name("c"), &refs).expect("create");
    // Not running any more: it is there all the same.
    drop(container);
    store.untag(&image.record.reference).expect("untag");
    let collected = store.gc(&remove_tree).expect("gc");
    assert_eq!((collected.blobs, collected.layers, collected.containers), (0, 0, 0));

    let entry = store.find_container("c").expect("there");
    store.claim_container(&entry).expect("claim").remove(&remove_tree).expect("remove");
    let collected = store.gc(&remove_tree).expect("gc");
    assert_eq!((collected.blobs, collected.layers, collected.containers), (4, 2, 0));
}

#[test]
fn half_made_containers_go() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let store = common::store(directory.path());
    let containers = store.root().join("containers");
    // Killed after mkdir, after the lock was made, after it was written; and in remove, after the link had gone.
    let [bare, empty, whole] = [1, 2, 3].map(|byte| containers.join(container_id(byte).as_str()));
    for path in [&bare, &empty, &whole] {
        fs::create_dir(path).expect("mkdir");
    }
    fs::write(empty.join("lock"), "").expect("write");
    let digest = common::sha256(b"");
    fs::write(whole.join("lock"), format!(r#"{{"manifest":"{digest}","map_key":"","layers":[]}}"#)).expect("write");
    fs::write(whole.join("log"), "").expect("write");
    assert!(store.containers().expect("list").is_empty());
    assert!(matches!(store.find_container(&container_id(3).to_string()), Err(Error::NoContainer(_))));
    assert_eq!(store.gc(&remove_tree).expect("gc").containers, 3);
    assert!(common::tree(&containers).is_empty());
}

#[test]
fn a_failed_removal_is_told_and_tried_again() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let store = common::store(directory.path());
    let image = put_unnamed(&store.begin().expect("begin"), "localhost/x:1", &["a"]);
    let refuse = |_: &std::path::Path| -> io::Result<()> { Err(io::ErrorKind::PermissionDenied.into()) };
    let collected = store.gc(&refuse).expect("gc");
    assert_eq!((collected.layers, collected.failures.len()), (1, 1));
    assert!(store.layer(MAP, image.chains[0]).expect("look").is_none(), "a condemned layer can still be used");
    let collected = store.gc(&remove_tree).expect("gc");
    assert_eq!((collected.layers, collected.failures.len()), (0, 0));
    assert!(common::tree(&store.root().join("tmp")).is_empty());
}

#[test]
fn a_half_removed_layer_is_none() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let store = common::store(directory.path());
    let lease = store.begin().expect("begin");
    let image = put_image(&lease, "localhost/x:1", &["a"]);
    let chain = image.chains[0];
    let layer = store.layer(MAP, chain).expect("look").expect("there");
    fs::remove_file(layer.fs().join("../layer.json")).expect("remove");
    assert!(store.layer(MAP, chain).expect("look").is_none());
    // It can be made again over the rest…
    common::put_layer(&lease, chain, DiffId(chain.0));
    let layer = store.layer(MAP, chain).expect("look").expect("there");
    assert_eq!(layer.record().expect("read").diff_id, DiffId(chain.0));
    // …and else goes, wanted or not.
    fs::remove_file(layer.fs().join("../layer.json")).expect("remove");
    assert_eq!(store.gc(&remove_tree).expect("gc").layers, 1);
    assert!(!layer.fs().exists());
}

#[test]
fn damaged_images_do_not_stop_it() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let store = common::store(directory.path());
    let image = put_image(&store.begin().expect("begin"), "localhost/x:1", &["a"]);
    let manifest = store.blob_path(&image.record.manifest.digest);
    fs::remove_file(&manifest).expect("remove");
    fs::write(&manifest, "{").expect("write");
    fs::write(store.root().join("names/localhost%2Ftorn:1"), "").expect("write");
    assert_eq!(store.image(&reference("localhost/torn:1")).expect("read"), None);
    assert_eq!(store.images().expect("list"), std::slice::from_ref(&image.record));
    let collected = store.gc(&remove_tree).expect("gc");
    assert_eq!((collected.blobs, collected.layers), (2, 1));
    assert!(manifest.exists(), "the name still refers to it");
    assert!(!store.root().join("names/localhost%2Ftorn:1").exists());
}

#[test]
fn an_image_must_be_whole_to_be_named() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let store = common::store(directory.path());
    let lease = store.begin().expect("begin");
    let image = put_unnamed(&lease, "localhost/x:1", &["a", "b"]);
    for digest in [image.layer_blobs[1], image.config, image.record.manifest.digest] {
        let path = store.blob_path(&digest);
        let aside = directory.path().join("aside");
        fs::rename(&path, &aside).expect("rename");
        let error = lease.name(&image.record).expect_err("incomplete");
        let expected = format!("the image localhost/x:1 needs the blob {digest}, which is not in the store");
        assert_eq!(error.to_string(), expected);
        assert_eq!(store.image(&image.record.reference).expect("read"), None);
        fs::rename(&aside, &path).expect("rename");
    }
    lease.name(&image.record).expect("name");
    assert_eq!(store.image(&image.record.reference).expect("read"), Some(image.record));
}

#[test]
fn reading_blobs() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let store: Store = common::store(directory.path());
    let lease = store.begin().expect("begin");
    let digest = put_blob(&lease, b"12345");
    assert_eq!(store.read_blob(&digest, 5).expect("read"), b"12345");
    let error = store.read_blob(&digest, 4).expect_err("too large");
    assert!(matches!(error, Error::TooLarge { size: 5, limit: 4, .. }), "{error:?}");
    let absent = common::sha256(b"absent");
    assert!(matches!(store.read_blob(&absent, 4), Err(Error::NoBlob(digest)) if digest == absent));
    // Dropped without commit: gone, and free for the next.
    let Staged::New(staged) = lease.stage_blob(absent).expect("stage") else { panic!("is there") };
    let path = staged.path().to_owned();
    drop(staged);
    assert!(!path.exists());
    assert!(matches!(lease.stage_blob(absent).expect("stage"), Staged::New(_)));
}
