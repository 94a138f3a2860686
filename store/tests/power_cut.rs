//! What is trusted after the machine went down without a word: marks are made to be another boot's.

mod common;

use std::{fs, path::Path};

use common::{MAP, put_blob, put_image, put_layer, remove_tree};
use rbox_store::{Staged, Store};
use rbox_types::DiffId;

/// As if the machine had been booted anew since.
fn reboot(store: &Store, boot_id: &str) {
    let unsettled = store.root().join("unsettled");
    let [now] = &common::tree(&unsettled).into_iter().filter(|path| !path.contains('/')).collect::<Vec<_>>()[..] else {
        panic!("marks of one boot")
    };
    fs::rename(unsettled.join(now), unsettled.join(boot_id)).expect("rename");
}

fn marks(store: &Store) -> usize {
    common::tree(&store.root().join("unsettled")).iter().filter(|path| path.contains('/')).count()
}

#[test]
fn settled_things_are_never_suspect() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let store = common::store(directory.path());
    let lease = store.begin().expect("begin");
    put_image(&lease, "localhost/x:1", &["a"]);
    assert_eq!(marks(&store), 4);
    assert!(store.suspects().expect("look").is_empty(), "this boot's are fine: the kernel has them");
    store.settle().expect("settle");
    assert!(common::tree(&store.root().join("unsettled")).is_empty());

    // Made after that, by the same lease.
    let late = put_blob(&lease, b"late");
    reboot(&store, "earlier");
    let suspects = store.suspects().expect("look");
    assert_eq!(suspects.blobs.into_iter().collect::<Vec<_>>(), [late]);
    assert!(suspects.layers.is_empty());
}

#[test]
fn suspects_are_listed_until_looked_at() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let store = common::store(directory.path());
    let lease = store.begin().expect("begin");
    let image = put_image(&lease, "localhost/x:1", &["a"]);
    reboot(&store, "earlier");
    let suspects = store.suspects().expect("look");
    let mut blobs = vec![image.record.manifest.digest, image.config, image.layer_blobs[0]];
    blobs.sort();
    assert_eq!(suspects.blobs.iter().copied().collect::<Vec<_>>(), blobs);
    assert_eq!(suspects.layers.iter().cloned().collect::<Vec<_>>(), [(MAP.to_owned(), image.chains[0])]);
    // A barrier says nothing of what an earlier boot lost.
    store.settle().expect("settle");
    store.gc(&remove_tree).expect("gc");
    assert_eq!(store.suspects().expect("look"), suspects);

    store.trust_blob(&image.config).expect("trust");
    store.trust_blob(&image.record.manifest.digest).expect("trust");
    store.discard_blob(&image.layer_blobs[0]).expect("discard");
    store.discard_layer(MAP, image.chains[0], &remove_tree).expect("discard");
    assert!(store.suspects().expect("look").is_empty());
    assert_eq!(marks(&store), 0);
    assert!(store.has_blob(&image.config).expect("look"));
    assert!(!store.has_blob(&image.layer_blobs[0]).expect("look"));
    assert!(store.layer(MAP, image.chains[0]).expect("look").is_none());
    assert!(matches!(lease.stage_blob(image.layer_blobs[0]).expect("stage"), Staged::New(_)));

    // Made again, it is not thrown away by somebody whose list is older.
    put_blob(&lease, b"a");
    put_layer(&lease, image.chains[0], DiffId(image.layer_blobs[0]));
    store.discard_blob(&image.layer_blobs[0]).expect("discard");
    store.discard_layer(MAP, image.chains[0], &remove_tree).expect("discard");
    assert!(store.has_blob(&image.layer_blobs[0]).expect("look"));
    assert!(store.layer(MAP, image.chains[0]).expect("look").is_some());
}

#[test]
fn a_mark_whose_thing_never_came_goes_with_its_lease() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let store = common::store(directory.path());
    let lease = store.begin().expect("begin");
    let digest = put_blob(&lease, b"a");
    // As if killed between the mark and the rename.
    let blob = store.blob_path(&digest);
    fs::remove_file(&blob).expect("remove");
    store.settle().expect("settle");
    assert_eq!(marks(&store), 1, "the barrier was too early for what is still to come");
    store.gc(&remove_tree).expect("gc");
    assert_eq!(marks(&store), 1, "its lease lives");
    drop(lease);
    store.gc(&remove_tree).expect("gc");
    assert!(common::tree(&store.root().join("unsettled")).is_empty());
}

#[test]
fn a_container_spoiled_by_the_cut_is_none() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let store = common::store(directory.path());
    let image = put_image(&store.begin().expect("begin"), "localhost/x:1", &["a"]);
    let refs = rbox_store::ContainerRefs {
        manifest: image.record.manifest.digest,
        map_key: MAP.into(),
        layers: image.chains,
        volumes: vec![],
        ids: None,
    };
    let (id, name) = (common::container_id(1), common::container_name("c"));
    let path = store.create_container(&id, &name, &refs).expect("create").path().to_owned();
    // The names reached the disk, the bytes did not.
    truncate(&path.join("lock"));
    assert!(store.containers().expect("list").is_empty());
    assert_eq!(store.gc(&remove_tree).expect("gc").containers, 1);
    assert!(common::tree(&store.root().join("containers")).is_empty());
    assert!(common::tree(&store.root().join("container-names")).is_empty());
}

fn truncate(path: &Path) {
    fs::File::options().write(true).truncate(true).open(path).expect("truncate");
}
