//! Tokens, and who gets to see them.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::support::{Reply, Repository, Request, Server, client, digest};
use rbox_image::Error;
use rbox_types::Platform;

fn amd64() -> Platform {
    "linux/amd64".parse().expect("a platform")
}

fn repository() -> Repository {
    let mut repository = Repository::default();
    repository.add_image(Some("tag"), "amd64", &[b"one"]);
    repository
}

fn challenge(request: &Request) -> Reply {
    let host = request.header("host").unwrap_or_default();
    let value = format!(r#"Bearer realm="http://{host}/token?a=b",service="the service",scope="repository:repo:pull""#);
    Reply::new(401, "").header("WWW-Authenticate", r#"Basic realm="x""#).header("WWW-Authenticate", &value)
}

/// A registry whose token server gives out `token1`, `token2`, …, each for `life` seconds, and where a token is good
/// for `uses` requests.
fn registry(life: u32, uses: u32) -> Server {
    let (given, used) = (AtomicU32::new(0), AtomicU32::new(0));
    let repository = repository();
    Server::start(move |request| {
        if request.path.starts_with("/token") {
            used.store(0, Ordering::SeqCst);
            let number = given.fetch_add(1, Ordering::SeqCst) + 1;
            return Reply::new(200, format!(r#"{{"token": "token{number}", "expires_in": {life}}}"#));
        }
        let good = format!("Bearer token{}", given.load(Ordering::SeqCst));
        if request.header("authorization") != Some(&good) || used.fetch_add(1, Ordering::SeqCst) >= uses {
            return challenge(request);
        }
        repository.answer(request)
    })
}

fn paths(server: &Server) -> Vec<String> {
    let last = |path: String| path.rsplit('/').next().unwrap_or_default().chars().take(5).collect();
    server.requests().into_iter().map(|request| last(request.path)).collect()
}

#[test]
fn one_token_serves_many_requests() {
    let server = registry(300, 99);
    let client = client();
    client.resolve(&server.image("repo:tag"), &amd64()).expect("resolved");
    client.head(&server.image("repo:tag")).expect("a digest");
    assert_eq!(paths(&server), ["tag", "token", "tag", "sha25", "tag"]);
    assert_eq!(server.connections(), 1);
    let token = &server.requests()[1];
    assert_eq!(token.path, "/token?a=b&service=the%20service&scope=repository:repo:pull");
    assert_eq!(token.header("authorization"), None);
}

#[test]
fn a_token_that_ran_out_is_replaced() {
    let server = registry(0, 99);
    client().resolve(&server.image("repo:tag"), &amd64()).expect("resolved");
    assert_eq!(paths(&server), ["tag", "token", "tag", "sha25", "token", "sha25"]);
}

#[test]
fn a_token_that_was_revoked_is_replaced() {
    let server = registry(300, 1);
    client().resolve(&server.image("repo:tag"), &amd64()).expect("resolved");
    assert_eq!(paths(&server), ["tag", "token", "tag", "sha25", "token", "sha25"]);
}

#[test]
fn what_needs_a_login_says_so() {
    let basic = Server::start(|_| Reply::new(401, "").header("WWW-Authenticate", r#"Basic realm="x""#));
    let mute = Server::start(|_| Reply::new(401, ""));
    // The token is given, but grants nothing: so Docker Hub answers for images that don't exist.
    let empty = Server::start(|request| match request.path.starts_with("/token") {
        true => Reply::new(200, r#"{"access_token": "t"}"#),
        false => challenge(request),
    });
    let refused = Server::start(|request| match request.path.starts_with("/token") {
        true => Reply::new(401, ""),
        false => challenge(request),
    });
    let failure =
        |server: &Server| client().resolve(&server.image("repo:tag"), &amd64()).expect_err("a login is needed");
    let error = failure(&basic);
    assert!(matches!(&error, Error::LoginUnsupported { .. }), "{error}");
    assert!(error.to_string().contains("needs a login, which this version does not have yet"), "{error}");
    for server in [mute, empty, refused] {
        let error = failure(&server);
        assert!(matches!(&error, Error::NeedsLogin { .. }), "{error}");
        assert!(server.requests().len() <= 3, "it was asked again");
    }
}

#[test]
fn tokens_that_are_none() {
    for token in ["{}", r#"{"token": ""}"#, r#"{"token": "a\r\nX-Evil: 1"}"#, "[]", "token"] {
        let server = Server::start(move |request| match request.path.starts_with("/token") {
            true => Reply::new(200, token),
            false => challenge(request),
        });
        let error = client().resolve(&server.image("repo:tag"), &amd64()).expect_err("no token");
        assert!(matches!(&error, Error::Malformed { .. }), "{token}: {error}");
    }
}

/// A registry's challenge must not send a token request, and with it a later login, in clear over the network.
#[test]
fn the_token_server_of_a_secure_registry_is_secure() {
    let server = Server::start_tls(challenge);
    let error = client().resolve(&server.image("repo:tag"), &amd64()).expect_err("a plain token server");
    assert!(error.to_string().contains("is not https"), "{error}");
}

#[test]
fn a_redirect_takes_the_token_nowhere_else() {
    let layers = repository();
    let cdn = Server::start(move |request| {
        // Storage services refuse a second authorization beside the one in the URL.
        match request.header("authorization") {
            Some(_) => Reply::new(400, ""),
            None => layers.answer(request),
        }
    });
    let elsewhere = format!("http://{}", cdn.address);
    let images = repository();
    let server = Server::start(move |request| {
        if request.path.starts_with("/token") {
            return Reply::new(200, r#"{"token": "t"}"#);
        }
        if request.header("authorization") != Some("Bearer t") {
            return challenge(request);
        }
        match request.path.strip_prefix("/v2/repo/blobs/") {
            // First within the registry, which still sees the token, then to another host.
            Some(_) => Reply::new(307, "moved").header("Location", &format!("/moved{}", request.path)),
            None => match request.path.strip_prefix("/moved") {
                Some(path) => Reply::new(302, "").header("Location", &format!("{elsewhere}{path}")),
                None => images.answer(request),
            },
        }
    });
    let client = client();
    let reference = server.image("repo:tag");
    let image = client.resolve(&reference, &amd64()).expect("resolved");
    let file = tempfile::tempfile().expect("a file");
    client.fetch(&reference, &image.layers[0].digest, 3, &file, &|_| ()).expect("fetched");
    assert_eq!(cdn.requests().len(), 2);
    assert_eq!(image.layers[0].digest, digest(b"one"));
}

#[test]
fn redirects_end() {
    let server = Server::start(|request| Reply::new(302, "").header("Location", &request.path));
    let error = client().resolve(&server.image("repo:tag"), &amd64()).expect_err("round and round");
    assert!(error.to_string().contains("redirects"), "{error}");
    assert!(server.requests().len() < 12);
}
