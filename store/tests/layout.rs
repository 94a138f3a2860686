//! The store as other people's tools see it: an OCI image layout.

mod common;

use std::{fs, process::Command};

use common::{put_image, reference};
use rbox_store::Error;
use serde_json::{Value, json};

#[test]
fn index_json_follows_the_names() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let store = common::store(directory.path());
    let index = || -> Value {
        serde_json::from_slice(&fs::read(store.root().join("index.json")).expect("read")).expect("JSON")
    };
    assert_eq!(index()["manifests"], json!([]));
    let lease = store.begin().expect("begin");
    let b = put_image(&lease, "127.0.0.1:5000/library/b:3.23", &["b"]).record;
    let a = put_image(&lease, "a", &["a"]).record;
    let expected = |record: &rbox_store::ImageRecord, name: &str| {
        json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": record.manifest.digest.to_string(),
            "size": record.manifest.size,
            "annotations": { "org.opencontainers.image.ref.name": name },
            "platform": { "os": "linux", "architecture": "amd64" },
        })
    };
    let (first, second) = (expected(&b, "127.0.0.1:5000/library/b:3.23"), expected(&a, "docker.io/library/a:latest"));
    assert_eq!(
        index(),
        json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [first, second],
        })
    );
    assert_eq!(store.images().expect("list"), [b, a.clone()]);
    store.untag(&reference("127.0.0.1:5000/library/b:3.23")).expect("untag");
    assert_eq!(index()["manifests"], json!([second]));
    assert_eq!(store.image(&reference("a")).expect("read"), Some(a));
    assert_eq!(common::tree(&store.root().join("names")), ["docker.io%2Flibrary%2Fa:latest"]);
}

#[test]
fn a_name_too_long_for_a_file_is_refused() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let store = common::store(directory.path());
    let name = reference(&format!("localhost/{}:{}", "a".repeat(200), "b".repeat(100)));
    let error = store.image(&name).expect_err("too long");
    assert!(matches!(error, Error::NameTooLong(_)), "{error:?}");
    assert!(error.to_string().contains("too long for the store"), "{error}");
}

#[test]
fn skopeo_and_umoci_read_it() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let store = common::store(directory.path());
    let name = "127.0.0.1:5000/library/alpine:3.23";
    let image = put_image(&store.begin().expect("begin"), name, &["not a tar, which they do not look at"]);
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().expect(program);
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    };
    let root = store.root().to_str().expect("UTF-8");
    let inspected = run("skopeo", &["inspect", &format!("oci:{root}:{name}")]);
    let inspected: Value = serde_json::from_str(&inspected).expect("JSON");
    assert_eq!(inspected["Digest"], json!(image.record.manifest.digest));
    assert_eq!(inspected["Layers"], json!(image.layer_blobs));
    assert_eq!(run("umoci", &["ls", "--layout", root]).trim(), name);
}
