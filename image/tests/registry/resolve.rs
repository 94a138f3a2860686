//! Names to images, against registries that behave well and badly.

use std::time::{Duration, Instant};

use crate::support::{INDEX, MANIFEST, Reply, Repository, Server, client, closed_port, digest, mute_server, options};
use rbox_image::{Client, ClientOptions, Error, Image, LARGEST_DOCUMENT, Proxies};
use rbox_types::Platform;
use serde_json::json;

fn amd64() -> Platform {
    "linux/amd64".parse().expect("a platform")
}

fn failure(server: &Server) -> Error {
    client().resolve(&server.image("repo:tag"), &amd64()).expect_err("it cannot be resolved")
}

#[test]
fn a_single_image() {
    let mut repository = Repository::default();
    let manifest = repository.add_image(Some("tag"), "amd64", &[b"one", b"two"]);
    let server = Server::start(move |request| repository.answer(request));
    let client = client();
    let image = client.resolve(&server.image("repo:tag"), &amd64()).expect("resolved");
    assert_eq!((image.digest(), image.manifest.digest, image.index.is_none()), (manifest, manifest, true));
    assert_eq!(digest(&image.manifest.bytes), manifest);
    assert_eq!(image.layers.iter().map(|layer| layer.size).collect::<Vec<_>>(), [3, 3]);
    assert_eq!(image.layers[0].chain_id.0, digest(b"one"));
    let config = |_: &_| Ok::<_, rbox_image::Error>(image.config.bytes.clone());
    let loaded = Image::load("x", manifest, &image.manifest.bytes, config).expect("loaded");
    assert_eq!((loaded.manifest, loaded.layers), (manifest, image.layers));
    assert_eq!(loaded.config_digest, image.config.digest);
    assert_eq!(client.head(&server.image("repo:tag")).expect("a digest"), manifest);
    // One question how to speak, however many requests follow.
    assert_eq!((server.probes(), server.requests().len()), (1, 3));
    assert_eq!(server.connections(), 1);
}

#[test]
fn an_index() {
    let mut repository = Repository::default();
    let mut entry = |architecture: &str| {
        let name = repository.add_image(None, architecture, &[architecture.as_bytes()]);
        let size = repository.manifests[&name.to_string()].1.len();
        json!({"mediaType": MANIFEST, "digest": name, "size": size,
               "platform": {"os": "linux", "architecture": architecture}})
    };
    let mut wrong_size = entry("riscv64");
    wrong_size["size"] = 1.into();
    let entries = [entry("arm64"), entry("amd64"), wrong_size];
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries});
    let index = repository.add_manifest(Some("tag"), INDEX, &index);
    let server = Server::start(move |request| repository.answer(request));
    let resolve =
        |name: &str, platform: &str| client().resolve(&server.image(name), &platform.parse().expect("a platform"));
    for name in ["repo:tag".to_owned(), format!("repo@{index}"), format!("repo:other@{index}")] {
        let image = resolve(&name, "linux/arm64").expect("resolved");
        assert_eq!(image.digest(), index, "{name}");
        assert_eq!(digest(&image.index.expect("kept").bytes), index, "{name}");
        assert_eq!(image.layers[0].digest, digest(b"arm64"), "{name}");
    }
    let error = resolve("repo:tag", "linux/s390x").expect_err("not offered");
    assert!(error.to_string().contains("linux/arm64, linux/amd64, linux/riscv64"), "{error}");
    assert!(matches!(resolve("repo:tag", "linux/riscv64"), Err(Error::SizeMismatch { expected: 1, .. })));
}

#[test]
fn the_wrong_platform() {
    let mut repository = Repository::default();
    repository.add_image(Some("tag"), "arm64", &[b"one"]);
    let server = Server::start(move |request| repository.answer(request));
    let error = failure(&server);
    assert!(error.to_string().ends_with("is an image for linux/arm64, not linux/amd64"), "{error}");
    assert_eq!(error.hint().as_deref(), Some("to use it all the same, give --platform linux/arm64"));
}

#[test]
fn nobody_there() {
    let image = format!("{}/repo", closed_port()).parse().expect("a name");
    let error = client().resolve(&image, &amd64()).expect_err("refused");
    assert!(matches!(&error, Error::Connect { .. }), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.starts_with("nothing listens there")));

    let image = format!("{}/repo", mute_server()).parse().expect("a name");
    let error = client().resolve(&image, &amd64()).expect_err("no answer");
    assert!(matches!(&error, Error::Broken { .. }), "{error}");

    // RFC 6761 §6.4: no such name ever exists; without any name server there is no answer at all.
    let error = client().resolve(&"registry.invalid/repo".parse().expect("a name"), &amd64()).expect_err("unknown");
    assert!(matches!(&error, Error::UnknownHost { .. } | Error::Lookup { .. }), "{error}");
    assert!(error.to_string().contains("registry.invalid"), "{error}");
}

#[test]
fn not_found() {
    let server = Server::start(|request| Repository::default().answer(request));
    let error = failure(&server);
    assert!(matches!(&error, Error::NotFound { .. }), "{error}");
    assert!(error.to_string().ends_with(": manifest unknown"), "{error}");
    assert_eq!(server.requests().len(), 1, "it was asked again");
}

#[test]
fn a_missing_config() {
    let mut repository = Repository::default();
    repository.add_image(Some("tag"), "amd64", &[]);
    repository.blobs.clear();
    let server = Server::start(move |request| repository.answer(request));
    assert!(matches!(failure(&server), Error::BlobNotFound { .. }));
}

#[test]
fn statuses() {
    for (status, expected) in [(403, "forbids access: words"), (400, "answered 400"), (418, "answered 418")] {
        let server = Server::start(move |_| Reply::new(status, r#"{"errors":[{"code":"X","message":"words"}]}"#));
        let error = failure(&server);
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(server.requests().len(), 1, "it was asked again");
    }
}

#[test]
fn a_registry_cannot_drive_the_terminal() {
    let server = Server::start(|_| Reply::new(403, "{\"errors\":[{\"message\":\"\\u001b[2J\"}]}"));
    assert!(!failure(&server).to_string().contains('\x1b'));
}

#[test]
fn changed_bytes() {
    let mut repository = Repository::default();
    let honest = repository.add_image(Some("tag"), "amd64", &[b"one"]);
    let other = repository.add_image(Some("other"), "amd64", &[b"two"]);
    // Under the one's digest lies the other.
    let swapped = repository.manifests[&other.to_string()].clone();
    repository.manifests.insert(honest.to_string(), swapped);
    let answers = repository.clone();
    let server = Server::start(move |request| answers.answer(request));
    let error = client().resolve(&server.image(&format!("repo@{honest}")), &amd64()).expect_err("not those bytes");
    assert!(
        matches!(&error, Error::DigestMismatch { expected, actual, .. } if (*expected, *actual) == (honest, other))
    );
    let error = client().head(&server.image(&format!("repo@{honest}"))).expect_err("not that digest");
    assert!(matches!(error, Error::DigestMismatch { .. }));

    // For a tag the registry's own header is what there is.
    let answers = repository.clone();
    let server = Server::start(move |request| {
        let mut reply = answers.answer(request);
        if request.path.ends_with("/tag") {
            reply = Reply::new(200, answers.manifests["tag"].1.as_slice())
                .header("Content-Type", MANIFEST)
                .header("Docker-Content-Digest", &other.to_string());
        }
        reply
    });
    assert!(matches!(failure(&server), Error::DigestMismatch { .. }));

    // The config too is checked.
    for blob in repository.blobs.values_mut() {
        *blob = vec![b' '; blob.len()];
    }
    let server = Server::start(move |request| repository.answer(request));
    let error = failure(&server);
    assert!(error.to_string().starts_with("the config of"), "{error}");
    assert!(matches!(error, Error::DigestMismatch { .. }));
}

#[test]
fn too_large() {
    // Announced: nothing is waited for.
    let server = Server::start(|_| Reply::new(200, vec![b' '; LARGEST_DOCUMENT as usize + 1]).hang(0));
    assert!(matches!(failure(&server), Error::TooLarge { limit: LARGEST_DOCUMENT, .. }));
    let server = Server::start(|_| Reply::new(200, vec![b' '; LARGEST_DOCUMENT as usize + 1]).chunked());
    assert!(matches!(failure(&server), Error::TooLarge { limit: LARGEST_DOCUMENT, .. }));
}

#[test]
fn other_things_than_images() {
    for (document, says) in [
        (r#"{"schemaVersion": 1, "fsLayers": []}"#, "schema 1"),
        ("<html>", "media type \"text/html\""),
        ("{}", "not a container image"),
    ] {
        let server = Server::start(move |_| Reply::new(200, document).header("Content-Type", "text/html"));
        let error = failure(&server);
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[test]
fn a_registry_that_stumbles() {
    let mut repository = Repository::default();
    let manifest = repository.add_image(Some("tag"), "amd64", &[b"one"]);
    let count = std::sync::atomic::AtomicU32::new(0);
    let server = Server::start(move |request| match count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
        0 => Reply::new(503, ""),
        1 => Reply::new(429, "").header("Retry-After", "1"),
        2 => repository.answer(request).cut(5),
        _ => repository.answer(request),
    });
    let start = Instant::now();
    let image = client().resolve(&server.image("repo:tag"), &amd64()).expect("resolved in the end");
    assert_eq!(image.manifest.digest, manifest);
    assert!(start.elapsed() >= Duration::from_secs(1), "Retry-After was not honoured");
    assert_eq!(server.requests().len(), 5);
}

#[test]
fn limits() {
    let server = Server::start(|_| Reply::new(429, ""));
    assert!(matches!(failure(&server), Error::RateLimited { retry_after: None, .. }));
    assert_eq!(server.requests().len(), 4);

    // Longer than anybody waits.
    let server = Server::start(|_| Reply::new(429, "").header("Retry-After", "21600"));
    let error = failure(&server);
    assert!(error.to_string().ends_with("(it says to come back in 21600 s)"), "{error}");
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn tls() {
    let mut repository = Repository::default();
    let manifest = repository.add_image(Some("tag"), "amd64", &[b"one"]);
    let server = Server::start_tls(move |request| repository.answer(request));
    let resolve = |tls_verify| {
        let client = Client::new(ClientOptions { tls_verify, ..options() });
        client.resolve(&server.image("repo:tag"), &amd64())
    };
    for tls_verify in [None, Some(false)] {
        assert_eq!(resolve(tls_verify).expect("resolved").digest(), manifest, "{tls_verify:?}");
    }
    let error = resolve(Some(true)).expect_err("nobody vouches for this certificate");
    assert!(matches!(&error, Error::Tls { .. }), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("--tls-verify=false") && hint.contains("SSL_CERT_FILE")));

    let plain = Server::start(|request| Repository::default().answer(request));
    let client = Client::new(ClientOptions { tls_verify: Some(true), ..options() });
    let error = client.resolve(&plain.image("repo:tag"), &amd64()).expect_err("it has no TLS");
    assert!(matches!(&error, Error::Tls { .. } | Error::Broken { .. } | Error::TimedOut { .. }), "{error}");
    assert!(plain.requests().is_empty(), "it was asked in plain HTTP");
}

#[test]
fn nothing_goes_from_https_to_http() {
    let plain = Server::start(|_| Reply::new(200, "{}"));
    let to = format!("http://{}/x", plain.address);
    let server = Server::start_tls(move |_| Reply::new(307, "").header("Location", &to));
    let error = failure(&server);
    assert!(error.to_string().contains("from https to plain http"), "{error}");
    assert!(plain.requests().is_empty());
}

/// The proxy looks up the name, not we; loopback is reached without it.
#[test]
fn through_a_proxy() {
    let mut repository = Repository::default();
    let manifest = repository.add_image(Some("tag"), "amd64", &[b"one"]);
    // Once it has answered CONNECT, this server plays the registry behind it.
    let server = Server::start(move |request| match request.method.as_str() {
        "CONNECT" => Reply::new(200, ""),
        _ => repository.answer(request),
    });
    let proxies = Proxies { http: Some(format!("http://{}", server.address)), ..Proxies::default() };
    let options = || ClientOptions { tls_verify: Some(false), proxies: proxies.clone(), ..options() };
    let reference = "registry.invalid:5000/repo:tag".parse().expect("a name");
    let image = Client::new(options()).resolve(&reference, &amd64()).expect("resolved");
    assert_eq!(image.digest(), manifest);
    let through = || server.requests().iter().filter(|request| request.path == "registry.invalid:5000").count();
    assert_eq!(through(), 1);

    Client::new(options()).resolve(&server.image("repo:tag"), &amd64()).expect("resolved");
    assert_eq!(through(), 1);

    let refused = Proxies { http: Some("socks5://user:secret@127.0.0.1:1".into()), ..Proxies::default() };
    let error = Client::new(ClientOptions { proxies: refused, ..options() }).head(&reference).expect_err("socks");
    assert!(matches!(&error, Error::Proxy { .. }) && !error.to_string().contains("secret"), "{error}");
}
