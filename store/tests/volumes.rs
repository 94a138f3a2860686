//! Volumes: made once, whoever else tries; kept while a container uses them, and by every collection.

mod common;

use std::{collections::BTreeMap, fs, sync::Barrier, thread};

use common::{MAP, container_id, container_name, put_image, remove_tree};
use rbox_store::{ContainerRefs, Error, VolumeRecord};
use rbox_types::VolumeName;

fn name(text: &str) -> VolumeName {
    text.parse().expect("a name")
}

fn record() -> VolumeRecord {
    VolumeRecord::new(BTreeMap::from([("a".to_owned(), "b".to_owned())]), false)
}

#[test]
fn made_found_and_removed() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let store = common::store(directory.path());
    let made = store.create_volume(&name("one"), &record(), None).expect("made");
    assert!(made.data().is_dir());
    assert_eq!(store.volume(&name("one")).expect("read"), Some(made.clone()));
    assert_eq!(store.volumes().expect("listed"), std::slice::from_ref(&made));
    assert!(matches!(store.create_volume(&name("one"), &record(), None), Err(Error::VolumeExists(_))));
    assert!(matches!(store.find_volume("../one"), Err(Error::NoVolume(_))));
    fs::write(made.data().join("file"), "kept").expect("written");
    let collected = store.gc(&remove_tree).expect("collected");
    assert_eq!(collected.leases, 0);
    assert!(made.data().join("file").exists());
    store.remove_volume(&name("one"), &remove_tree).expect("removed");
    assert!(matches!(store.remove_volume(&name("one"), &remove_tree), Err(Error::NoVolume(_))));
    assert_eq!(fs::read_dir(store.root().join("tmp")).expect("listed").count(), 0);
}

#[test]
fn a_container_keeps_its_volumes() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let store = common::store(directory.path());
    let image = put_image(&store.begin().expect("begin"), "localhost/x:1", &["a"]);
    let refs = ContainerRefs {
        manifest: image.record.manifest.digest,
        map_key: MAP.into(),
        layers: image.chains,
        volumes: vec![name("one"), name("one")],
        ids: None,
    };
    let container = store.create_container(&container_id(1), &container_name("box"), &refs).expect("made");
    store.create_volume(&name("one"), &record(), None).expect("made");
    assert_eq!(container.volumes().expect("read"), refs.volumes);
    match store.remove_volume(&name("one"), &remove_tree) {
        Err(Error::VolumeInUse { containers, .. }) => assert_eq!(containers, [container_name("box")]),
        other => panic!("{other:?}"),
    }
    container.remove(&remove_tree).expect("removed");
    store.remove_volume(&name("one"), &remove_tree).expect("nobody has it any more");
}

#[test]
fn one_of_many_makes_it() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let store = common::store(directory.path());
    for round in 0..20 {
        let name = name(&format!("v{round}"));
        let barrier = Barrier::new(4);
        let made = thread::scope(|scope| {
            let tries: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        barrier.wait();
                        match store.create_volume(&name, &record(), None) {
                            Ok(_) => 1,
                            Err(Error::VolumeExists(_)) => 0,
                            Err(error) => panic!("{error}"),
                        }
                    })
                })
                .collect();
            tries.into_iter().map(|made| made.join().expect("no panic")).sum::<u32>()
        });
        assert_eq!(made, 1);
    }
    assert_eq!(store.volumes().expect("listed").len(), 20);
}

#[test]
fn a_spoiled_record_costs_no_content() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let store = common::store(directory.path());
    let made = store.create_volume(&name("one"), &record(), None).expect("made");
    fs::write(made.data().join("../volume.json"), "").expect("spoiled");
    let found = store.find_volume("one").expect("still there");
    assert_eq!((found.record.driver.as_str(), found.data()), ("local", made.data()));
}
