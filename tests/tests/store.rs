//! The store: what is on disk after a pull, who else can read it, and what goes away again.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use anyhow::{Context, Result};
use rbox_tests::alpine;
use rbox_tests::command::read;
use rbox_tests::hash::digest_of_file;
use rbox_tests::image::{Compression, Format};
use rbox_tests::layer::Layer;
use rbox_tests::layout::Layout;
use rbox_tests::rbox::{Rbox, finish};
use rbox_tests::registry::Registry;
use rbox_tests::running::Running;
use serde_json::{Value, json};

/// An image of these layers over the small one; gives a store that has it, and its name.
fn image_of(layers: &[Layer]) -> Result<(Rbox, String)> {
    let dir = tempfile::tempdir()?;
    let layout = Layout::create(dir.path())?;
    let mut image = alpine::on_small(&layout, Format::Oci)?;
    for layer in layers {
        image = image.layer(layer, Compression::Gzip)?;
    }
    image.finish_as("i")?;
    Rbox::with_image(&layout, "i", "t/i:1")
}

#[test]
fn others_read_it_as_an_image_layout() -> Result<()> {
    let (rbox, name) = Rbox::with_image(&alpine::layout()?, alpine::TAG, "library/alpine:3.23")?;
    let layout = Layout::open(&rbox.store())?;
    let index: Value = serde_json::from_slice(&std::fs::read(layout.dir().join("index.json"))?)?;
    let entry = &index["manifests"][0];
    assert_eq!(entry["digest"].as_str(), Some(alpine::layout()?.find(alpine::TAG)?.digest.as_str()), "{index}");

    // A name with a slash or colon cannot be given to skopeo; by index it can (containers-transports(5)).
    let copy = tempfile::tempdir()?;
    let to = copy.path().join("copy");
    let from = format!("oci:{}:@0", rbox.store().display());
    let skopeo = |arguments: &[&str]| read(Command::new("skopeo").arg("--insecure-policy").args(arguments));
    let reference = entry["annotations"]["org.opencontainers.image.ref.name"].as_str().unwrap_or_default();
    assert!(reference.ends_with("library/alpine:3.23") || name.ends_with(reference), "{index}");
    let plain = format!("oci:{}", rbox.store().display());
    let seen = skopeo(&["inspect", &plain]).or_else(|_| skopeo(&["inspect", &from]))?;
    assert!(seen.contains("amd64"), "{seen}");
    skopeo(&["copy", &plain, &format!("oci:{}:x", to.display())])
        .or_else(|_| skopeo(&["copy", &from, &format!("oci:{}:x", to.display())]))?;
    let bundle = copy.path().join("bundle");
    read(
        Command::new("umoci").args(["unpack", "--rootless", "--image"]).arg(format!("{}:x", to.display())).arg(&bundle),
    )?;
    assert!(bundle.join("rootfs/etc/alpine-release").is_file());
    Ok(())
}

#[test]
fn it_is_its_owners_alone_and_every_blob_is_what_it_is_called() -> Result<()> {
    let (rbox, _) = Rbox::with_image(&alpine::layout()?, alpine::TAG, "library/alpine:3.23")?;
    assert_eq!(std::fs::metadata(rbox.store())?.mode() & 0o7777, 0o700);
    let blobs = rbox.files("blobs");
    assert_eq!(blobs.len(), 3, "manifest, configuration and one layer: {blobs:?}");
    for blob in blobs {
        let expected = blob.replace("blobs/sha256/", "sha256:");
        assert_eq!(digest_of_file(&rbox.store().join(&blob))?, expected);
    }
    let meta: Value = serde_json::from_slice(&std::fs::read(rbox.store().join("meta.json"))?)?;
    assert!(meta.is_object());
    Ok(())
}

#[test]
fn a_newer_format_is_refused() -> Result<()> {
    let (rbox, name) = Rbox::with_small_image()?;
    let path = rbox.store().join("meta.json");
    let before = std::fs::read_to_string(&path)?;
    let mut meta: Value = serde_json::from_str(&before)?;
    let version = meta.as_object_mut().and_then(|meta| meta.values_mut().find(|value| value.is_u64()));
    *version.context("meta.json has a version number")? = json!(1_000_000);
    std::fs::write(&path, meta.to_string())?;
    rbox.run(["run", "--rm", &name, "true"]).refused(&["format", "1000000"]);
    rbox.run(["images"]).refused(&["format"]);
    std::fs::write(&path, before)?;
    rbox.run(["run", "--rm", &name, "true"]).success();
    Ok(())
}

#[test]
fn metadata_is_unpacked_as_it_is() -> Result<()> {
    let layer = Layer::new()
        .dir("m", 0o2750)
        .owner(12, 34)
        .file("m/setuid", 0o4711, "x")
        .owner(56, 78)
        .file("m/large-ids", 0o600, "x")
        .owner(60_000, 60_001)
        .hardlink("m/again", "m/setuid")
        .symlink("m/link", "../nowhere")
        .fifo("m/pipe", 0o622)
        .file("m/old", 0o644, "x")
        .with(|entry| entry.mtime = 86_400)
        .file("m/tagged", 0o644, "x")
        .with(|entry| entry.xattrs.push(("user.colour".to_owned(), b"blue".to_vec())));
    let (rbox, name) = image_of(&[layer])?;
    let seen = rbox.sh(
        &name,
        &[],
        "cd /m; stat -c '%n %a %u %g %h' . setuid large-ids again pipe; stat -c '%n %Y' old setuid; readlink link; stat -c %F pipe",
    );
    let expected = ". 2750 12 34 2\nsetuid 4711 56 78 2\nlarge-ids 600 60000 60001 1\nagain 4711 56 78 2\npipe 622 0 0 1\n\
        old 86400\nsetuid 1704067200\n../nowhere\nfifo";
    assert_eq!(seen, expected);
    Ok(())
}

#[test]
fn device_nodes_are_left_out_and_the_rest_is_there() -> Result<()> {
    let layer = Layer::new().dir("d", 0o755).char_device("d/mem", 0o600, 1, 1).file("d/file", 0o644, "here");
    let (rbox, name) = image_of(&[layer])?;
    assert_eq!(rbox.sh(&name, &[], "cat /d/file; ls /d"), "herefile");
    Ok(())
}

#[test]
fn implied_directories_are_those_of_the_layers_below() -> Result<()> {
    // tmp is 1777 below; a layer that holds tmp/x only must not make it 755.
    let below = Layer::new().dir("deep", 0o700).owner(5, 6).dir("deep/er", 0o711).owner(7, 8);
    let above = Layer::new().file("tmp/x", 0o644, "x").file("deep/er/y", 0o644, "y").file("new/z", 0o644, "z");
    let (rbox, name) = image_of(&[below, above])?;
    let seen = rbox.sh(&name, &[], "stat -c '%n %a %u %g' /tmp /deep /deep/er /new; cat /tmp/x /deep/er/y /new/z");
    assert_eq!(seen, "/tmp 1777 0 0\n/deep 700 5 6\n/deep/er 711 7 8\n/new 755 0 0\nxyz");
    Ok(())
}

#[test]
fn whiteouts_and_opaque_directories() -> Result<()> {
    let first = Layer::new().dir("a", 0o755).file("a/1", 0o644, "1").file("a/2", 0o644, "2").dir("b", 0o755);
    let first = first.file("b/1", 0o644, "1").dir("b/c", 0o755).file("b/c/2", 0o644, "2").file("gone", 0o644, "x");
    let first = first.dir("tree", 0o755).file("tree/leaf", 0o644, "x").dir("o", 0o755).file("o/1", 0o644, "1");
    // The opaque marker may stand after what it must not hide.
    let second = Layer::new()
        .whiteout("a/1")
        .whiteout("gone")
        .whiteout("tree")
        .dir("b", 0o700)
        .file("b/new", 0o644, "n")
        .opaque("b");
    let third =
        Layer::new().file("gone", 0o644, "back").dir("tree", 0o755).file("tree/new", 0o644, "x").whiteout("o/1");
    let (rbox, name) = image_of(&[first, second, third])?;
    let seen = rbox.sh(&name, &[], "ls /a; ls -A /b; stat -c %a /b; cat /gone; echo; ls -A /tree; ls -A /o | wc -l");
    assert_eq!(seen, "2\nnew\n700\nback\nnew\n0");
    // What is removed in a container is removed for that container.
    assert_eq!(rbox.sh(&name, &[], "rm -r /tree /a/2; ls -A /a | wc -l; test -e /tree || echo gone"), "0\ngone");
    assert_eq!(rbox.sh(&name, &[], "ls /a"), "2");
    Ok(())
}

#[test]
fn a_whiteout_without_its_directory_and_a_hard_link_to_below() -> Result<()> {
    let below = Layer::new().dir("d", 0o750).file("d/gone", 0o644, "x").file("d/stays", 0o640, "linked").owner(3, 4);
    let above = Layer::new().whiteout("d/gone").hardlink("link", "d/stays");
    let (rbox, name) = image_of(&[below, above])?;
    let seen = rbox.sh(&name, &[], "ls /d; stat -c %a /d; cat /link; stat -c ' %a %u %g' /link");
    assert_eq!(seen, "stays\n750\nlinked 640 3 4");
    Ok(())
}

#[test]
fn kinds_change_between_layers() -> Result<()> {
    let below = Layer::new().file("f", 0o644, "x").dir("d", 0o755).file("d/x", 0o644, "x").symlink("l", "/etc");
    let above = Layer::new()
        .dir("f", 0o755)
        .file("f/y", 0o644, "y")
        .file("d", 0o644, "file")
        .dir("l", 0o755)
        .file("l/z", 0o644, "z");
    let (rbox, name) = image_of(&[below, above])?;
    assert_eq!(rbox.sh(&name, &[], "cat /f/y /d /l/z; test -e /etc/z || echo ' apart'"), "yfilez apart");
    Ok(())
}

#[test]
fn very_many_layers() -> Result<()> {
    // 127 is what Docker makes at most; mount(2)'s options are one page.
    let layers: Vec<Layer> = (0..126).map(|n| Layer::new().file(&format!("n/{n}"), 0o644, n.to_string())).collect();
    let (rbox, name) = image_of(&layers)?;
    assert_eq!(rbox.sh(&name, &[], "ls /n | wc -l; cat /n/0 /n/125"), "126\n0125");
    Ok(())
}

#[test]
fn layers_are_shared_and_removed_with_their_last_image() -> Result<()> {
    let registry = Registry::start()?;
    let base = alpine::small()?;
    registry.place(&base, &base.find("latest")?, "t/one:1")?;
    registry.place(&base, &base.find("latest")?, "t/two:1")?;
    let rbox = Rbox::new();
    let names = ["t/one:1", "t/two:1"].map(|name| registry.reference(name));
    for name in &names {
        rbox.pull(name);
    }
    assert_eq!(rbox.files("blobs").len(), 3);
    rbox.run(["rmi", &names[0]]).success();
    rbox.run(["gc"]).success();
    rbox.run(["run", "--rm", &names[1], "true"]).success();
    rbox.run(["rmi", &names[1]]).success();
    rbox.run(["gc"]).success();
    for below in ["blobs", "names", "tmp", "containers"] {
        assert_eq!(rbox.files(below), Vec::<String>::new(), "{below}");
    }
    assert_eq!(rbox.layers(), Vec::<String>::new());
    Ok(())
}

#[test]
fn tables_and_json() -> Result<()> {
    let (rbox, name) = Rbox::with_small_image()?;
    let table = rbox.run(["images"]).success();
    assert!(table.lines().count() == 2 && table.contains("t/small") && !table.contains('\x1b'), "{table}");
    let list: Value = serde_json::from_str(&rbox.run(["images", "--format", "json"]).success())?;
    assert_eq!(list.as_array().map(Vec::len), Some(1));
    for verb in ["info", "version"] {
        let value: Value = serde_json::from_str(&rbox.run([verb, "--format", "json"]).success())?;
        assert!(value.is_object(), "{verb}: {value}");
        assert!(!rbox.run([verb]).success().is_empty());
    }
    let value: Value = serde_json::from_str(&rbox.run(["inspect", &name]).success())?;
    let digest = alpine::small()?.find("latest")?.digest;
    assert!(value.to_string().contains(&digest), "{value}");
    rbox.run(["inspect", "nothing-of-this-name"]).refused(&["nothing-of-this-name"]);
    rbox.run(["rmi", "nothing-of-this-name"]).refused(&["nothing-of-this-name"]);
    Ok(())
}

#[test]
fn pulls_of_the_same_image_at_once() -> Result<()> {
    let layout = alpine::layout()?;
    let registry = Registry::offering(&layout, alpine::TAG, "library/alpine:3.23")?;
    let (rbox, name) = (Rbox::new(), registry.reference("library/alpine:3.23"));
    let pulls: Vec<Running> = (0..4).map(|_| rbox.start(["pull", "-q", &name])).collect();
    for mut pull in pulls {
        assert_eq!(pull.wait(), 0);
    }
    let blobs: BTreeSet<String> = rbox.files("blobs").into_iter().collect();
    assert_eq!(blobs.len(), 3);
    assert_eq!(rbox.files("tmp"), Vec::<String>::new());
    rbox.run(["run", "--rm", &name, "apk", "--version"]).success();
    Ok(())
}

#[test]
fn the_root_is_the_images_whatever_the_callers_umask() -> Result<()> {
    for (layer, mode) in [(Layer::new().dir("./", 0o555), "555"), (Layer::new().file("x", 0o644, "x"), "755")] {
        let (rbox, image) = image_of(&[layer])?;
        let under = |words: &[&str]| {
            let umask = ["sh", "-c", "umask 077 && exec \"$0\" \"$@\""];
            finish(&mut rbox.command_under(&umask, words)).success().trim_end().to_owned()
        };
        // As the second time shows, nothing is left of one for the next.
        for _ in 0..2 {
            assert_eq!(
                under(&["run", "--rm", "--user", "5", &image, "sh", "-c", "stat -c %a / && ls /bin/sh"]),
                format!("{mode}\n/bin/sh")
            );
            rbox.run(["run", "--rm", &image, "chmod", "700", "/"]).success();
        }
        under(&["create", "--name", "kept", "--user", "5", &image, "stat", "-c", "%a", "/"]);
        assert_eq!(under(&["start", "--attach", "kept"]), mode);
        // What the workload has made of it, it finds again.
        under(&["create", "--name", "other", &image, "sh", "-c", "stat -c %a / && chmod 700 /"]);
        assert_eq!(["start"; 2].map(|verb| under(&[verb, "--attach", "other"])), [mode, "700"]);
    }
    Ok(())
}
