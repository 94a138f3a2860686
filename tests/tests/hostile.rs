//! Registries and images that are broken or mean harm: a clear error, 125, nothing left behind and nothing lost.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result};
use rbox_tests::fake::{Answer, FakeRegistry, Request};
use rbox_tests::hash::digest;
use rbox_tests::image::{Compression, Format, ImageBuilder};
use rbox_tests::layer::Layer;
use rbox_tests::layout::{Descriptor, Layout};
use rbox_tests::patience::until;
use rbox_tests::rbox::{Outcome, Rbox, finish};
use rbox_tests::registry::Registry;
use rbox_tests::{alpine, processes};
use serde_json::{Value, json};

/// Pulls the small image from a registry with this script into an empty store.
fn pull_from(script: impl Fn(&Request, Answer) -> Answer + Send + Sync + 'static) -> Result<(Rbox, Outcome)> {
    let registry = FakeRegistry::serve(alpine::small()?, script)?;
    let rbox = Rbox::new();
    let outcome = rbox.run(["pull", &registry.reference("t/small:latest")]);
    Ok((rbox, outcome))
}

/// Pulls an image of one layer, given as the bytes of a plain tar archive, into an empty store.
fn pull_layer(layer: &Layer) -> Result<(Rbox, Outcome)> {
    let dir = tempfile::tempdir()?;
    let layout = Layout::create(dir.path())?;
    ImageBuilder::new(&layout).layer(layer, Compression::Gzip)?.finish_as("bad")?;
    let registry = Registry::offering(&layout, "bad", "t/bad:1")?;
    let rbox = Rbox::new();
    let outcome = rbox.run(["pull", &registry.reference("t/bad:1")]);
    Ok((rbox, outcome))
}

/// The digest of the small image's only layer.
fn small_layer() -> Result<String> {
    let layout = alpine::small()?;
    let manifest: Value = serde_json::from_slice(&layout.read(&layout.find("latest")?.digest)?)?;
    Ok(manifest["layers"][0]["digest"].as_str().context("a layer")?.to_owned())
}

#[test]
fn an_unknown_host() {
    let rbox = Rbox::new();
    rbox.run(["pull", "no-such-host.invalid/x:1"]).refused(&["no-such-host.invalid"]);
    rbox.assert_nothing_left();
}

#[test]
fn a_refused_connection() {
    // Nobody listens there, and no test's registry ever will: free ports are given out of the higher ones.
    let rbox = Rbox::new();
    rbox.run(["pull", "127.0.0.1:1/x:1"]).refused(&["127.0.0.1:1", "refused"]);
    rbox.assert_nothing_left();
}

#[test]
fn a_name_or_tag_that_is_not_there() -> Result<()> {
    let registry = Registry::offering(&alpine::small()?, "latest", "t/small:1")?;
    let rbox = Rbox::new();
    rbox.run(["pull", &registry.reference("t/none:1")]).refused(&["t/none", "not found"]);
    rbox.run(["pull", &registry.reference("t/small:2")]).refused(&["t/small:2", "not found"]);
    rbox.assert_nothing_left();
    Ok(())
}

#[test]
fn not_allowed() -> Result<()> {
    let (rbox, outcome) = pull_from(|_, _| {
        let body = r#"{"errors":[{"code":"UNAUTHORIZED","message":"who are you"}]}"#;
        Answer::status(401, body).header("WWW-Authenticate", r#"Basic realm="members""#)
    })?;
    outcome.refused(&["login"]);
    rbox.assert_nothing_left();
    Ok(())
}

#[test]
fn a_blob_of_other_bytes() -> Result<()> {
    let layer = small_layer()?;
    let expected = layer.clone();
    let (rbox, outcome) = pull_from(move |request, mut answer| {
        if request.is_blob(&layer) {
            // One bit, in the middle: the length is right.
            let middle = answer.body.len() / 2;
            answer.body[middle] ^= 1;
        }
        answer
    })?;
    outcome.refused(&["digest", expected.trim_start_matches("sha256:").get(..12).unwrap_or_default()]);
    rbox.assert_nothing_left();
    assert_eq!(rbox.layers(), Vec::<String>::new());
    Ok(())
}

#[test]
fn a_blob_that_ends_too_soon() -> Result<()> {
    let layer = small_layer()?;
    let (rbox, outcome) = pull_from(move |request, mut answer| {
        if request.is_blob(&layer) && request.header("range").is_none() {
            answer.body.truncate(1000);
        } else if request.is_blob(&layer) {
            answer = Answer::status(416, "");
        }
        answer
    })?;
    outcome.refused(&["1000"]);
    rbox.assert_nothing_left();
    Ok(())
}

#[test]
fn a_blob_that_never_ends() -> Result<()> {
    let layer = small_layer()?;
    let (rbox, outcome) = pull_from(move |request, mut answer| {
        if request.is_blob(&layer) {
            answer.body.resize(50 << 20, b'x');
        }
        answer
    })?;
    outcome.refused(&[]);
    rbox.assert_nothing_left();
    Ok(())
}

#[test]
fn a_gzip_that_ends_too_soon() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let layout = Layout::create(dir.path())?;
    let whole = alpine::small()?.read(&small_layer()?)?;
    // The blob's own digest is right; what is in it is half a stream.
    let half = layout.put(Format::Oci.layer_type(Compression::Gzip), &whole[..whole.len() / 2])?;
    ImageBuilder::new(&layout).layer_blob(half, &digest(b"whatever")).finish_as("half")?;
    let registry = Registry::offering(&layout, "half", "t/half:1")?;
    let rbox = Rbox::new();
    rbox.run(["pull", &registry.reference("t/half:1")]).refused(&["layer"]);
    rbox.assert_nothing_left();
    assert_eq!(rbox.layers(), Vec::<String>::new());
    Ok(())
}

#[test]
fn a_layer_that_is_not_the_configurations() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let layout = Layout::create(dir.path())?;
    let tar = Layer::new().file("f", 0o644, "x").to_tar();
    let blob = layout.put(Format::Oci.layer_type(Compression::Plain), &tar)?;
    ImageBuilder::new(&layout).layer_blob(blob, &digest(b"something else")).finish_as("bad")?;
    let registry = Registry::offering(&layout, "bad", "t/bad:1")?;
    let rbox = Rbox::new();
    rbox.run(["pull", &registry.reference("t/bad:1")]).refused(&["content", "configuration"]);
    rbox.assert_nothing_left();
    assert_eq!(rbox.layers(), Vec::<String>::new());
    Ok(())
}

/// Each of these would write, or make a link to, something outside the layer if it were followed as it stands.
#[test]
fn entries_that_lead_outside() -> Result<()> {
    let victim = tempfile::Builder::new().prefix("victim.").tempdir_in(rbox_tests::host::scratch_base())?;
    let outside = victim.path().to_str().context("a plain path")?;
    let up = format!("{}{}", "../".repeat(20), outside.trim_start_matches('/'));
    fs::write(victim.path().join("file"), "untouched")?;
    let layers = [
        ("dot-dot", Layer::new().file(&format!("{up}/new"), 0o644, "x")),
        ("absolute", Layer::new().file(&format!("{outside}/new"), 0o644, "x")),
        ("symlink-absolute", Layer::new().symlink("d", outside).file("d/new", 0o644, "x")),
        ("symlink-relative", Layer::new().symlink("d", &up).file("d/new", 0o644, "x")),
        ("symlink-file", Layer::new().symlink("f", &format!("{outside}/file")).file("f", 0o644, "x")),
        ("hardlink-absolute", Layer::new().hardlink("h", &format!("{outside}/file"))),
        ("hardlink-dot-dot", Layer::new().hardlink("h", &format!("{up}/file"))),
        ("hardlink-through", Layer::new().symlink("d", outside).hardlink("h", "d/file")),
        ("whiteout", Layer::new().symlink("d", outside).whiteout("d/file")),
        ("opaque", Layer::new().symlink("d", outside).opaque("d")),
    ];
    for (name, layer) in layers {
        let (rbox, outcome) = pull_layer(&layer)?;
        // Some of these names have a harmless meaning inside the root; refused or confined, both will do.
        assert!([0, 125].contains(&outcome.status), "{name}: {outcome:?}");
        assert!(!outcome.stderr.contains("panicked"), "{name}: {outcome:?}");
        if outcome.status == 125 {
            rbox.assert_nothing_left();
            assert_eq!(rbox.layers(), Vec::<String>::new(), "{name}");
        } else {
            assert_eq!(rbox.files("blobs").len(), 3, "{name}: manifest, configuration and layer");
        }
        let found: Vec<_> = fs::read_dir(victim.path())?.flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(found, ["file"], "{name}");
        assert_eq!(fs::read_to_string(victim.path().join("file"))?, "untouched", "{name}");
        let links = std::os::unix::fs::MetadataExt::nlink(&fs::metadata(victim.path().join("file"))?);
        assert_eq!(links, 1, "{name}");
    }
    Ok(())
}

#[test]
fn entries_with_parent_components_and_links_to_outside_are_refused() -> Result<()> {
    for (layer, word) in [
        (Layer::new().file("../evil", 0o644, "x"), "../evil"),
        (Layer::new().dir("a", 0o755).file("a/../../evil", 0o644, "x"), "a/../../evil"),
        (Layer::new().hardlink("h", "../outside"), "entry h: "),
        (Layer::new().hardlink("h", "not-there"), "entry h: "),
    ] {
        let (rbox, outcome) = pull_layer(&layer)?;
        outcome.refused(&[word]);
        rbox.assert_nothing_left();
    }
    Ok(())
}

#[test]
fn a_manifest_of_the_wrong_type() -> Result<()> {
    let (rbox, outcome) = pull_from(|request, answer| match request.is_manifest() {
        true => Answer::status(200, "<html>log in first</html>").header("Content-Type", "text/html"),
        false => answer,
    })?;
    outcome.refused(&["text/html"]);
    rbox.assert_nothing_left();

    let (rbox, outcome) = pull_from(|request, answer| match request.is_manifest() {
        true => {
            let old = "application/vnd.docker.distribution.manifest.v1+prettyjws";
            Answer::status(200, r#"{"schemaVersion":1,"name":"x","fsLayers":[]}"#).header("Content-Type", old)
        }
        false => answer,
    })?;
    outcome.refused(&["manifest.v1"]);
    rbox.assert_nothing_left();
    Ok(())
}

#[test]
fn a_manifest_that_is_too_large() -> Result<()> {
    let (rbox, outcome) = pull_from(|request, mut answer| {
        if request.is_manifest() {
            answer.body.resize((4 << 20) + 1, b' ');
        }
        answer
    })?;
    outcome.refused(&["manifest", "larger than"]);
    rbox.assert_nothing_left();
    Ok(())
}

#[test]
fn a_manifest_that_is_not_the_one_asked_for() -> Result<()> {
    let digest = alpine::small()?.find("latest")?.digest;
    let registry = FakeRegistry::serve(alpine::small()?, |request, mut answer| {
        if request.is_manifest() {
            answer.body.push(b'\n');
        }
        answer
    })?;
    let rbox = Rbox::new();
    rbox.run(["pull", &registry.reference(&format!("t/small@{digest}"))]).refused(&["digest"]);
    rbox.assert_nothing_left();
    Ok(())
}

#[test]
fn a_configuration_that_is_no_json() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let layout = Layout::create(dir.path())?;
    let config = layout.put(Format::Oci.config_type(), b"{not json")?;
    let manifest = json!({
        "schemaVersion": 2, "mediaType": Format::Oci.manifest_type(), "config": config.to_json(), "layers": [],
    });
    let manifest: Descriptor = layout.put_json(Format::Oci.manifest_type(), &manifest)?;
    layout.tag("bad", &manifest)?;
    let registry = Registry::offering(&layout, "bad", "t/bad:1")?;
    let rbox = Rbox::new();
    rbox.run(["pull", &registry.reference("t/bad:1")]).refused(&["config"]);
    rbox.assert_nothing_left();
    Ok(())
}

#[test]
fn what_was_there_before_a_failed_pull_is_there_after() -> Result<()> {
    let (rbox, name) = Rbox::with_small_image()?;
    let images = rbox.run(["images", "--format", "json"]).success();
    let address = name.split('/').next().unwrap_or_default().to_owned();
    rbox.run(["pull", &name]).refused(&[&address]);
    assert_eq!(rbox.run(["images", "--format", "json"]).success(), images);
    rbox.run(["run", "--rm", &name, "true"]).success();
    Ok(())
}

#[test]
fn a_store_that_cannot_be_written() -> Result<()> {
    let registry = Registry::offering(&alpine::small()?, "latest", "t/small:1")?;
    let rbox = Rbox::new();
    let above = rbox.home().join(".local/share");
    fs::create_dir_all(&above)?;
    fs::set_permissions(&above, fs::Permissions::from_mode(0o555))?;
    let outcome = rbox.run(["pull", &registry.reference("t/small:1")]);
    fs::set_permissions(&above, fs::Permissions::from_mode(0o755))?;
    outcome.refused(&["permission denied", above.to_str().context("a plain path")?]);
    Ok(())
}

#[test]
fn newuidmap_is_missing() -> Result<()> {
    // It still works, with one id. The whole of /usr/bin is hidden: rbox needs nothing else of it.
    let registry = Registry::offering(&alpine::small()?, "latest", "t/small:1")?;
    let empty = tempfile::tempdir()?;
    let rbox = Rbox::new();
    let name = registry.reference("t/small:1");
    let hide = format!("mount --bind {} /usr/bin && exec \"$@\"", empty.path().display());
    let run = |arguments: &[&str]| {
        let under = ["unshare", "--map-root-user", "--mount", "sh", "-c", &hide, "sh"];
        finish(rbox.command_under(&under, arguments).stdin(Stdio::null()))
    };
    run(&["pull", "-q", &name]).exits(0);
    let outcome = run(&["run", "--rm", &name, "cat", "/proc/self/uid_map"]).exits(0);
    assert_eq!(outcome.stdout.split_whitespace().last(), Some("1"), "{}", outcome.stdout);
    Ok(())
}

#[test]
fn user_namespaces_are_forbidden() -> Result<()> {
    // A user namespace in which no further one may be made: user.max_user_namespaces (namespaces(7)) is per namespace.
    let registry = Registry::offering(&alpine::small()?, "latest", "t/small:1")?;
    let rbox = Rbox::new();
    let name = registry.reference("t/small:1");
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$@\"";
    let under = ["unshare", "--map-root-user", "sh", "-c", script, "sh"];
    let mut command = rbox.command_under(&under, ["pull", "-q", &name]);
    let outcome = finish(command.stdin(Stdio::null())).refused(&["user namespace", "max_user_namespaces"]);
    assert!(outcome.stderr.contains("hint:"), "{}", outcome.stderr);
    rbox.assert_nothing_left();
    Ok(())
}

#[test]
fn killed_at_any_point_of_a_pull() -> Result<()> {
    kill_at_points(12)
}

#[test]
#[ignore = "long: some hundred pulls"]
fn killed_at_very_many_points_of_a_pull() -> Result<()> {
    kill_at_points(400)
}

/// Kills pulls of Alpine after evenly spread times; the next one must succeed, and nothing stray be left after `gc`.
fn kill_at_points(points: u32) -> Result<()> {
    let layout = alpine::layout()?;
    let registry = Registry::offering(&layout, alpine::TAG, "library/alpine:3.23")?;
    let name = registry.reference("library/alpine:3.23");
    let whole = Rbox::new();
    let started = Instant::now();
    whole.pull(&name);
    let time = started.elapsed();
    let expected = whole.files("blobs");
    assert_eq!(expected.len(), 3, "manifest, configuration and layer: {expected:?}");

    let rbox = Rbox::new();
    for point in 0..points {
        let pull = rbox.start(["pull", "-q", &name]);
        thread::sleep(time * point / points);
        pull.kill();
        if point % 4 == 3 {
            rbox.pull(&name);
            rbox.run(["run", "--rm", &name, "apk", "--version"]).success();
            rbox.run(["gc"]).success();
            assert_eq!(rbox.files("tmp"), Vec::<String>::new(), "after killing at {point} of {points}");
            assert_eq!(rbox.files("blobs"), expected, "after killing at {point} of {points}");
            rbox.run(["rmi", &name]).success();
            rbox.run(["gc"]).success();
            assert_eq!(rbox.files("blobs"), Vec::<String>::new());
        }
    }
    // Nobody goes on working for a pull that is gone.
    until(|| processes::with_variable(&format!("HOME={}", rbox.home().display())), Vec::is_empty);
    Ok(())
}
