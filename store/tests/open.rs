//! Making and opening a store.

mod common;

use std::{
    fs,
    os::unix::{fs::MetadataExt, fs::PermissionsExt, process::CommandExt},
    process::Command,
};

use rbox_store::{Error, Store};

#[test]
fn makes_the_tree_and_opens_it_again() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let root = directory.path().join("share/rbox");
    let store = Store::open(&root).expect("make");
    assert_eq!(store.root(), root);
    assert_eq!(fs::metadata(&root).expect("there").mode() & 0o7777, 0o700);
    let made = common::tree(&root);
    let expected = [
        "blobs",
        "blobs/sha256",
        "container-names",
        "containers",
        "index.json",
        "layers",
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
    assert_eq!(made, expected);
    Store::open(&root).expect("open");
    assert_eq!(common::tree(&root), made);
}

#[test]
fn goes_on_where_making_it_was_cut_short() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let root = directory.path();
    fs::create_dir(root.join("blobs")).expect("mkdir");
    fs::write(root.join("meta.json.new"), "{").expect("write");
    // What a power cut leaves of a file that was written and renamed.
    fs::write(root.join("meta.json"), "").expect("write");
    Store::open(root).expect("make");
    assert_eq!(fs::read_to_string(root.join("meta.json")).expect("read"), r#"{"format":1}"#);
    assert!(!root.join("meta.json.new").exists());
}

#[test]
fn refuses_a_newer_format() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let store = common::store(directory.path());
    fs::write(store.root().join("meta.json"), r#"{"format":2,"other":[]}"#).expect("write");
    let error = Store::open(store.root()).expect_err("newer");
    assert!(matches!(error, Error::NewerFormat { found: 2, known: 1, .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.ends_with("has format 2; this rbox knows formats up to 1"), "{text}");
    assert!(error.hint().expect("a hint").contains("later"));
}

#[test]
fn refuses_a_directory_of_somebody_else() {
    let directory = tempfile::tempdir().expect("temporary directory");
    fs::write(directory.path().join("thesis.tex"), "").expect("write");
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
    let error = Store::open(directory.path()).expect_err("not a store");
    assert!(error.to_string().contains("is not a store: it holds \"thesis.tex\""), "{error}");
    assert_eq!(common::tree(directory.path()), ["thesis.tex"]);
    assert_eq!(fs::metadata(directory.path()).expect("there").mode() & 0o7777, 0o755);
}

/// Root may write whatever the modes say, so this runs as somebody else.
#[test]
fn says_what_is_not_writable() {
    if let Some(store) = common::role() {
        assert!(store.images().expect("reading needs no writing").is_empty());
        let error = store.begin().expect_err("read-only");
        let tmp = store.root().join("locks/gc");
        assert!(matches!(error, Error::NotWritable { .. }), "{error:?}");
        assert_eq!(error.to_string(), format!("the store is not writable: cannot open {}", tmp.display()));
        assert!(error.hint().expect("a hint").contains("belong to you"));

        let error = Store::open(store.root().join("below")).expect_err("read-only");
        assert!(matches!(error, Error::NotWritable { .. }), "{error:?}");
        return;
    }
    let directory = tempfile::tempdir().expect("temporary directory");
    let store = common::store(directory.path());
    let program = directory.path().join("test");
    fs::copy(std::env::current_exe().expect("own path"), &program).expect("copy");
    let everything = common::tree(directory.path());
    for path in everything.iter().map(|path| directory.path().join(path)).chain([directory.path().to_owned()]) {
        fs::set_permissions(path, fs::Permissions::from_mode(0o555)).expect("chmod");
    }
    let mut command = Command::new(&program);
    command.args(["says_what_is_not_writable", "--exact"]).env("RBOX_STORE_TEST_ROLE", store.root());
    if fs::metadata("/proc/self").expect("there").uid() == 0 {
        command.uid(65_534).gid(65_534);
    }
    let output = command.output().expect("start");
    for path in everything.iter().map(|path| directory.path().join(path)).chain([directory.path().to_owned()]) {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("chmod");
    }
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
}
