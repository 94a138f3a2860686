//! `rbox pull`: what comes from a registry, and what other programs see of it then.

use std::process::Command;

use anyhow::Result;
use rbox_tests::command::read;
use rbox_tests::fake::FakeRegistry;
use rbox_tests::image::{Compression, Format, ImageBuilder, index};
use rbox_tests::layer::Layer;
use rbox_tests::layout::{Descriptor, Layout};
use rbox_tests::rbox::Rbox;
use rbox_tests::registry::Registry;
use rbox_tests::{alpine, debian};
use serde_json::{Value, json};

/// The small image with one more layer on top.
fn with_layer(layout: &Layout, layer: &Layer, compression: Compression, format: Format) -> Result<Descriptor> {
    alpine::on_small(layout, format)?.layer(layer, compression)?.finish()
}

#[test]
fn a_real_alpine_from_a_real_registry() -> Result<()> {
    let layout = alpine::layout()?;
    let registry = Registry::offering(&layout, alpine::TAG, "library/alpine:3.23")?;
    let rbox = Rbox::new();
    let name = registry.reference("library/alpine:3.23");
    let shown = rbox.run(["pull", &name]).success();
    let digest = layout.find(alpine::TAG)?.digest;
    assert!(shown.contains(&digest), "{shown}");

    let quiet = rbox.run(["pull", "-q", &name]);
    assert_eq!(quiet.stdout.trim(), digest);
    assert_eq!(quiet.stderr, "");
    let packages = rbox.run(["run", "--rm", &name, "apk", "info", "-e", "musl", "busybox"]).success();
    assert_eq!(packages.split_whitespace().count(), 2, "{packages}");
    Ok(())
}

#[test]
fn every_kind_of_layer_and_manifest() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let layout = Layout::create(dir.path())?;
    let registry = Registry::start()?;
    let rbox = Rbox::new();
    let cases = [
        ("oci-plain", Compression::Plain, Format::Oci),
        ("oci-gzip", Compression::Gzip, Format::Oci),
        ("oci-zstd", Compression::Zstd, Format::Oci),
        ("docker-gzip", Compression::Gzip, Format::Docker),
    ];
    for (tag, compression, format) in cases {
        let layer = Layer::new().file("made-by", 0o644, tag);
        let image = with_layer(&layout, &layer, compression, format)?;
        let platform = |architecture| json!({ "os": "linux", "architecture": architecture });
        let list = index(&layout, format, &[(image.clone(), platform("amd64"))])?;
        registry.place(&layout, &image, &format!("t/one:{tag}"))?;
        registry.place(&layout, &list, &format!("t/list:{tag}"))?;
        for repository in ["one", "list"] {
            let name = registry.reference(&format!("t/{repository}:{tag}"));
            rbox.pull(&name);
            assert_eq!(rbox.run(["run", "--rm", &name, "cat", "/made-by"]).success(), tag);
        }
    }
    Ok(())
}

#[test]
fn the_platform_is_chosen_and_can_be_asked_for() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let layout = Layout::create(dir.path())?;
    let registry = Registry::start()?;
    let mut images = Vec::new();
    for (architecture, variant) in [("arm", Some("v7")), ("arm64", None), ("amd64", None)] {
        let mut platform = json!({ "os": "linux", "architecture": architecture });
        if let Some(variant) = variant {
            platform["variant"] = json!(variant);
        }
        let image = ImageBuilder::new(&layout).platform(platform.clone());
        let image = image.layer(&Layer::new().file("arch", 0o644, architecture), Compression::Gzip)?.finish()?;
        images.push((image, platform));
    }
    let list = index(&layout, Format::Oci, &images)?;
    registry.place(&layout, &list, "t/multi:1")?;
    let name = registry.reference("t/multi:1");

    let rbox = Rbox::new();
    rbox.pull(&name);
    let inspected = rbox.run(["inspect", &name]).success();
    assert!(inspected.contains("amd64") && !inspected.contains("arm64"), "{inspected}");
    rbox.run(["pull", "-q", "--platform", "linux/arm64", &name]).success();
    let inspected = rbox.run(["inspect", &name]).success();
    assert!(inspected.contains("arm64"), "{inspected}");
    rbox.run(["pull", "-q", "--platform", "linux/s390x", &name]).refused(&["linux/s390x", "linux/arm64"]);
    Ok(())
}

#[test]
fn over_https_with_an_authority_of_ones_own() -> Result<()> {
    let layout = alpine::small()?;
    let registry = Registry::start_tls()?;
    registry.place(&layout, &layout.find("latest")?, "t/small:1")?;
    Rbox::new().run(["pull", "-q", "--tls-verify=false", &registry.reference("t/small:1")]).success();

    // A loopback registry is trusted as Docker does it, so this one needs a name that does not say where it is.
    let name = registry.reference("t/small:1").replace("127.0.0.1", "registry.test");
    let authority = registry.authority().map(|path| path.display().to_string()).unwrap_or_default();
    let pull = |rbox: Rbox| {
        let hosts = rbox.home().join("hosts");
        let script = format!(
            "echo 127.0.0.1 registry.test > {0} && mount --bind {0} /etc/hosts && exec \"$@\"",
            hosts.display()
        );
        let under = ["unshare", "--map-root-user", "--mount", "sh", "-c", &script, "sh"];
        rbox_tests::rbox::finish(&mut rbox.command_under(&under, ["pull", "-q", &name]))
    };
    pull(Rbox::new()).refused(&["certificate"]);
    pull(Rbox::new().env("SSL_CERT_FILE", &authority)).success();
    Ok(())
}

#[test]
fn by_digest() -> Result<()> {
    let layout = alpine::small()?;
    let registry = Registry::offering(&layout, "latest", "t/small:1")?;
    let digest = layout.find("latest")?.digest;
    let rbox = Rbox::new();
    let name = registry.reference(&format!("t/small@{digest}"));
    assert_eq!(rbox.pull(&name), digest);
    rbox.run(["run", "--rm", &name, "true"]).success();
    let other = "0".repeat(64);
    rbox.run(["pull", "-q", &registry.reference(&format!("t/small@sha256:{other}"))]).refused(&["not found"]);
    Ok(())
}

#[test]
fn no_blob_is_fetched_twice() -> Result<()> {
    let layout = alpine::small()?;
    let manifest: Value = serde_json::from_slice(&layout.read(&layout.find("latest")?.digest)?)?;
    let digest = manifest["layers"][0]["digest"].as_str().unwrap_or_default().to_owned();
    let registry = FakeRegistry::serve(layout, |_, answer| answer)?;
    let rbox = Rbox::new();
    for name in ["a/one:latest", "a/one:latest", "b/two:latest"] {
        rbox.pull(&registry.reference(name));
    }
    let requests = registry.requests();
    let fetched = requests.iter().filter(|request| request.method == "GET" && request.is_blob(&digest)).count();
    assert_eq!(fetched, 1, "{requests:#?}");
    Ok(())
}

#[test]
fn a_broken_connection_is_taken_up_again() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let layout = Layout::create(dir.path())?;
    // Does not compress, so that the blob is long enough to be cut.
    let noise: Vec<u8> = (0..400_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let image = ImageBuilder::new(&layout).layer(&Layer::new().file("noise", 0o644, noise), Compression::Plain)?;
    image.finish_as("1")?;
    let registry = FakeRegistry::serve(layout, |request, mut answer| {
        if request.path.contains("/blobs/") && answer.body.len() > 200_000 {
            answer.cut_after = Some(150_000);
        }
        answer
    })?;
    let rbox = Rbox::new();
    rbox.pull(&registry.reference("t/cut:1"));
    let resumed = registry.requests().iter().filter(|request| request.header("range").is_some()).count();
    assert!(resumed >= 1);
    Ok(())
}

#[test]
fn a_token_is_fetched_where_one_is_asked_for() -> Result<()> {
    let registry = FakeRegistry::serve(alpine::small()?, |request, answer| {
        use rbox_tests::fake::Answer;
        let host = request.header("host").unwrap_or_default();
        if request.path.starts_with("/token?") {
            let scoped = request.path.contains("scope=repository%3At%2Fsmall%3Apull")
                || request.path.contains("scope=repository:t/small:pull");
            return if scoped { Answer::status(200, r#"{"token":"abc"}"#) } else { Answer::status(400, "no scope") };
        }
        if request.header("authorization") == Some("Bearer abc") {
            return answer;
        }
        let challenge = format!(r#"Bearer realm="http://{host}/token",service="fake",scope="repository:t/small:pull""#);
        Answer::status(401, "{}").header("WWW-Authenticate", &challenge)
    })?;
    let rbox = Rbox::new();
    rbox.pull(&registry.reference("t/small:latest"));
    Ok(())
}

#[test]
fn too_many_requests_are_waited_out() -> Result<()> {
    let first = std::sync::atomic::AtomicBool::new(true);
    let registry = FakeRegistry::serve(alpine::small()?, move |request, answer| {
        use rbox_tests::fake::Answer;
        if request.is_manifest() && first.swap(false, std::sync::atomic::Ordering::SeqCst) {
            return Answer::status(429, "{}").header("Retry-After", "1");
        }
        answer
    })?;
    Rbox::new().pull(&registry.reference("t/small:latest"));
    Ok(())
}

#[test]
fn an_image_that_others_built() -> Result<()> {
    // umoci makes the second layer, with its own whiteout; skopeo pushes, converting to Docker's format.
    let dir = tempfile::tempdir()?;
    let image = format!("{}:1", dir.path().join("oci").display());
    let bundle = dir.path().join("bundle");
    let small = format!("oci:{}:latest", alpine::small()?.dir().display());
    read(Command::new("skopeo").args(["--insecure-policy", "copy", &small, &format!("oci:{image}")]))?;
    read(Command::new("umoci").args(["unpack", "--rootless", "--image", &image]).arg(&bundle))?;
    std::fs::remove_file(bundle.join("rootfs/etc/group"))?;
    std::fs::write(bundle.join("rootfs/etc/made-by"), "umoci")?;
    read(Command::new("umoci").args(["repack", "--image", &image]).arg(&bundle))?;

    let registry = Registry::start()?;
    let name = registry.reference("t/others:1");
    let mut push = Command::new("skopeo");
    push.args(["--insecure-policy", "copy", "--dest-tls-verify=false", "--format", "v2s2"]);
    // Or it asks for credentials below /run/containers, which is root's alone where root has used Podman.
    push.env("XDG_RUNTIME_DIR", dir.path());
    read(push.args([&format!("oci:{image}"), &format!("docker://{name}")]))?;
    let rbox = Rbox::new();
    rbox.pull(&name);
    let seen = rbox.run(["run", "--rm", &name, "sh", "-c", "cat /etc/made-by; ls /etc"]).success();
    assert!(seen.starts_with("umoci") && seen.contains("passwd") && !seen.contains("group"), "{seen}");
    Ok(())
}

#[test]
fn a_debian_of_four_layers_with_deletions() -> Result<()> {
    let (rbox, name) = Rbox::with_image(&debian::layout()?, debian::TAG, "library/debian:bookworm")?;
    let script = format!(
        "test ! -e /{} && ls -A /{} && gcc --version | head -1 && python3 -c 'print(6*7)' && dpkg --audit && git --version",
        debian::DELETED,
        debian::REPLACED
    );
    let seen = rbox.run(["run", "--rm", &name, "sh", "-c", &script]).success();
    let lines: Vec<&str> = seen.lines().collect();
    assert_eq!((lines[0], lines[2]), ("new", "42"), "{seen}");
    Ok(())
}

#[test]
fn short_names_are_docker_hubs() {
    // In a network namespace that is empty, on a machine with any network or none: the error names what was tried.
    let rbox = Rbox::new();
    let mut command = rbox.command_under(&["unshare", "--map-current-user", "--net"], ["pull", "alpine"]);
    rbox_tests::rbox::finish(&mut command).refused(&["registry-1.docker.io"]);
}

#[test]
fn progress_is_for_terminals() -> Result<()> {
    let layout = alpine::layout()?;
    let registry = Registry::offering(&layout, alpine::TAG, "library/alpine:3.23")?;
    let rbox = Rbox::new();
    let name = registry.reference("library/alpine:3.23");
    let plain = rbox.run(["pull", &name]).exits(0);
    assert!(!plain.stderr.contains('\x1b') && !plain.stderr.contains('\r'), "{:?}", plain.stderr);

    let fresh = Rbox::new();
    let mut command = fresh.command(["pull", &name]);
    command.env("TERM", "xterm");
    let mut terminal = rbox_tests::terminal::Terminal::start(&command, 24, 100)?;
    terminal.expect("\x1b[");
    assert_eq!(terminal.wait(), 0);
    Ok(())
}
