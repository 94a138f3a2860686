//! Containers' names, owners and directories.

mod common;

use std::{fs, os::fd::OwnedFd};

use common::{MAP, Other, container_id, container_name, put_image, remove_tree};
use rbox_store::{ContainerRefs, Error, Store};
use rbox_types::ContainerId;

fn refs(store: &Store) -> ContainerRefs {
    let image = put_image(&store.begin().expect("begin"), "localhost/x:1", &["a"]);
    ContainerRefs {
        manifest: image.record.manifest.digest,
        map_key: MAP.into(),
        layers: image.chains,
        volumes: vec![],
        ids: None,
    }
}

#[test]
fn an_owner_lives_as_long_as_its_lock() {
    if let Some(store) = common::role() {
        let refs = refs(&store);
        let _owner = store.create_container(&container_id(1), &container_name("c"), &refs).expect("create");
        common::say("created");
        common::wait();
        return;
    }
    let directory = tempfile::tempdir().expect("temporary directory");
    let store = common::store(directory.path());
    let mut other = Other::start("an_owner_lives_as_long_as_its_lock", &store);
    other.hear();
    let entry = store.find_container("c").expect("there");
    assert!(entry.running);
    assert_eq!((&entry.id, entry.name.as_str()), (&container_id(1), "c"));
    let error = store.claim_container(&entry).expect_err("owned");
    assert!(matches!(&error, Error::Running(id) if *id == container_id(1)), "{error:?}");

    other.kill();
    let entry = store.find_container("c").expect("there");
    assert!(!entry.running);
    let claimed = store.claim_container(&entry).expect("claim");
    assert!(store.find_container("c").expect("there").running);
    claimed.remove(&remove_tree).expect("remove");
    assert!(matches!(store.find_container("c"), Err(Error::NoContainer(_))));
    assert!(matches!(store.claim_container(&entry), Err(Error::NoContainer(_))));
    assert!(!entry.path.exists());
}

#[test]
fn the_lock_can_be_handed_down() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let store = common::store(directory.path());
    let (id, name) = (container_id(1), container_name("c"));
    let made = store.create_container(&id, &name, &refs(&store)).expect("create");
    let path = made.path().to_owned();
    let lock: OwnedFd = made.into_lock();
    assert!(store.find_container("c").expect("there").running);
    let adopted = store.adopt_container(&id, &name, lock);
    assert_eq!(adopted.path(), path);
    drop(adopted);
    assert!(!store.find_container("c").expect("there").running);
}

#[test]
fn found_by_name_or_beginning_of_id() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let store = common::store(directory.path());
    let refs = refs(&store);
    let id = |text: &str| -> ContainerId { format!("{text:0<64}").parse().expect("valid") };
    for (digits, name) in [("abc1", "one"), ("abc2", "two"), ("def", "abc1")] {
        store.create_container(&id(digits), &container_name(name), &refs).expect("create");
    }
    let found = |text: &str| store.find_container(text).map(|entry| entry.id);
    assert_eq!(found("two").expect("name"), id("abc2"));
    assert_eq!(found("abc2").expect("prefix"), id("abc2"));
    assert_eq!(found("abc1").expect("a name goes before a prefix"), id("def"));
    assert_eq!(found(id("abc1").as_str()).expect("whole id"), id("abc1"));
    let error = found("abc").expect_err("ambiguous");
    assert_eq!(error.to_string(), "abc is ambiguous: it is the beginning of abc100000000, abc200000000");
    for none in ["", "..", "/", "ab/c", "x", "abc3"] {
        assert!(matches!(found(none), Err(Error::NoContainer(text)) if text == none), "{none:?}");
    }
    let names: Vec<_> = store.containers().expect("list").into_iter().map(|entry| entry.name).collect();
    assert_eq!(names, ["abc1", "one", "two"].map(container_name));
}

#[test]
fn a_refused_one_leaves_nothing() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let store = common::store(directory.path());
    let good = refs(&store);
    let absent = common::sha256(b"absent");
    let no_manifest = ContainerRefs { manifest: absent, ..good.clone() };
    let no_layer = ContainerRefs { map_key: "00000000000000bb".into(), ..good.clone() };
    let create = |refs: &ContainerRefs, id| store.create_container(&container_id(id), &container_name("c"), refs);
    let error = create(&no_manifest, 1).expect_err("no manifest");
    let expected = format!("the container c needs the blob {absent}, which is not in the store");
    assert_eq!(error.to_string(), expected);
    assert!(matches!(create(&no_layer, 1), Err(Error::Incomplete { .. })));
    let _first = create(&good, 1).expect("create");
    assert!(matches!(create(&good, 2), Err(Error::NameTaken { .. })));
    assert_eq!(store.containers().expect("list").len(), 1);
    assert_eq!(fs::read_dir(store.root().join("containers")).expect("list").count(), 1);
}

#[test]
fn a_name_whose_container_was_removed_by_hand_is_free() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let store = common::store(directory.path());
    let refs = refs(&store);
    let first = store.create_container(&container_id(1), &container_name("c"), &refs).expect("create");
    fs::remove_dir_all(first.path()).expect("remove");
    assert!(store.containers().expect("list").is_empty());
    let second = store.create_container(&container_id(2), &container_name("c"), &refs).expect("create");
    assert_eq!(store.find_container("c").expect("there").id, container_id(2));
    // The first one's owner, late, does not take the second one's name.
    first.remove(&remove_tree).expect("what is gone is removed");
    assert_eq!(store.find_container("c").expect("there").id, container_id(2));
    drop(second);
}

#[test]
fn a_failed_removal_frees_the_name() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let store = common::store(directory.path());
    let refs = refs(&store);
    let first = store.create_container(&container_id(1), &container_name("c"), &refs).expect("create");
    let error = first.remove(&|_| Err(std::io::ErrorKind::PermissionDenied.into())).expect_err("refused");
    assert!(error.to_string().contains("cannot remove"), "{error}");
    store.create_container(&container_id(2), &container_name("c"), &refs).expect("create");
    assert_eq!(store.gc(&remove_tree).expect("gc").failures.len(), 0);
    assert!(common::tree(&store.root().join("tmp")).is_empty());
}

#[test]
fn another_name() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let store = common::store(directory.path());
    let refs = refs(&store);
    let owner = store.create_container(&container_id(1), &container_name("one"), &refs).expect("create");
    store.create_container(&container_id(2), &container_name("two"), &refs).expect("create");
    let entry = store.find_container("one").expect("there");
    for taken in ["one", "two"] {
        let error = store.rename_container(&entry, &container_name(taken)).expect_err("taken");
        assert!(matches!(&error, Error::NameTaken { .. }), "{error:?}");
    }
    store.rename_container(&entry, &container_name("three")).expect("rename");
    assert!(matches!(store.find_container("one"), Err(Error::NoContainer(_))));
    assert_eq!(store.find_container("three").expect("there").id, container_id(1));
    assert!(matches!(store.rename_container(&entry, &container_name("four")), Err(Error::NoContainer(_))));
    // A name that a container has left which somebody removed by hand.
    fs::remove_dir_all(store.find_container("two").expect("there").path).expect("removed");
    let entry = store.find_container("three").expect("there");
    store.rename_container(&entry, &container_name("two")).expect("rename");
    // The owner knows only the name that it gave.
    owner.remove(&remove_tree).expect("remove");
    assert!(store.containers().expect("listed").is_empty());
    assert_eq!(fs::read_dir(directory.path().join("store/container-names")).expect("there").count(), 0);
}

#[test]
fn the_end_of_an_owner_is_waited_for() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let store = common::store(directory.path());
    let owner = store.create_container(&container_id(1), &container_name("c"), &refs(&store)).expect("create");
    let entry = store.find_container("c").expect("there");
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| store.wait_for_owner(&entry).map(|()| entry.path.exists()));
        // Written down before the owner goes, and with it the directory.
        owner.remove(&remove_tree).expect("remove");
        assert!(!waits.join().expect("no panic").expect("waited"));
    });
    store.wait_for_owner(&entry).expect("there is nobody to wait for");
}

#[test]
fn what_one_container_leaves_empty_is_the_next_ones() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let store = common::store(directory.path());
    let refs = refs(&store);
    let create = |number, name: &str| {
        store.create_container(&container_id(number), &container_name(name), &refs).expect("create")
    };
    let names = |path: &std::path::Path| -> Vec<_> {
        let mut names: Vec<_> =
            fs::read_dir(path).expect("list").map(|entry| entry.expect("entry").file_name()).collect();
        names.sort();
        names
    };
    let filled = |number, name: &str| {
        let made = create(number, name);
        for directory in ["work", "upper", "upper/full"] {
            fs::create_dir_all(made.path().join(directory)).expect("make");
        }
        fs::write(made.path().join("upper/full/file"), "written").expect("write");
        fs::write(made.path().join("record"), "written").expect("write");
        made
    };
    filled(1, "one").recycle(&["work"], &remove_tree).expect("recycle");
    assert!(matches!(store.find_container("one"), Err(Error::NoContainer(_))));
    let next = create(2, "two");
    assert_eq!(names(next.path()), ["lock", "work"]);
    assert!(store.find_container("two").expect("there").running);

    // One waits at a time, with nothing else in it.
    let (third, fourth) = (filled(3, "three"), filled(4, "four"));
    fs::remove_dir(third.path().join("work")).and_then(|()| fs::write(third.path().join("work"), "")).expect("write");
    for made in [third, fourth, filled(5, "five")] {
        let path = made.path().to_owned();
        made.recycle(&["work"], &remove_tree).expect("recycle");
        assert!(!path.exists());
    }
    let collected = store.gc(&remove_tree).expect("collect");
    assert_eq!((collected.containers, collected.leases, collected.failures.len()), (0, 0, 0));
    assert_eq!(names(&store.root().join("tmp")), Vec::<std::ffi::OsString>::new());
    next.recycle(&["work"], &remove_tree).expect("recycle");
    let six = create(6, "six");
    assert_eq!(names(six.path()), ["lock", "work"]);

    // Who is refused leaves it to the next one: here, to itself by another name.
    six.recycle(&["work"], &remove_tree).expect("recycle");
    let _seven = create(7, "seven");
    filled(8, "eight").recycle(&["work"], &remove_tree).expect("recycle");
    let refused = store.create_container(&container_id(9), &container_name("seven"), &refs);
    assert!(matches!(refused, Err(Error::NameTaken { .. })));
    assert_eq!(names(create(9, "nine").path()), ["lock", "work"]);
}
