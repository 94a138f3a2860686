//! `rbox diff`: what a container has changed of its image.

use anyhow::Result;
use rbox_tests::alpine;
use rbox_tests::detached::Detached;
use rbox_tests::image::{Compression, Format};
use rbox_tests::layer::Layer;
use rbox_tests::layout::Layout;
use rbox_tests::rbox::Rbox;
use serde_json::{Value, json};

/// The small image with a layer on it that has something to change.
fn with_image() -> Result<(Rbox, String)> {
    let dir = tempfile::tempdir_in(rbox_tests::host::scratch_base())?;
    let layout = Layout::create(&dir.path().join("oci"))?;
    let layer = Layer::new().dir("d", 0o755).file("d/kept", 0o644, "kept").file("d/gone", 0o644, "");
    let layer = layer.dir("d/deep", 0o755).file("d/deep/x", 0o644, "").file("d/same", 0o644, "same");
    let layer = layer.dir("whole", 0o755).dir("whole/a", 0o755).file("whole/a/b", 0o644, "").file("owned", 0o644, "");
    alpine::on_small(&layout, Format::Oci)?.layer(&layer, Compression::Gzip)?.finish_as("t")?;
    Rbox::with_image(&layout, "t", "t/changed:1")
}

const CHANGES: &str = "echo more >> /d/kept; rm /d/gone; rm -r /d/deep; mkdir /d/deep; touch /d/deep/y; rm -r /whole; \
    mkdir -p /new/in; ln -s x /new/link; chown 5:6 /owned; chmod 700 /d/same; chmod 644 /d/same; mkfifo /fifo; \
    touch /d/same -r /d/same; echo in volume > /vol/x; echo in tmpfs > /tt/x; rm -f /etc/hosts; ";

/// To see it fail: have `changes` (overlay) take no notice of opaque directories, or of owners; or leave out its mount
/// points.
#[test]
fn added_changed_and_deleted() -> Result<()> {
    let (rbox, image) = with_image()?;
    let volume = rbox.home().join("volume");
    std::fs::create_dir(&volume)?;
    let flags = [&format!("--volume={}:/vol", volume.display()), "--tmpfs=/tt"];
    let container = Detached::start(&rbox, &image, "box", &flags, &format!("{CHANGES} echo done; exec sleep 1000"));
    rbox_tests::patience::until(|| container.logs(), |logs| logs.contains("done"));
    let lines = |text: String| -> Vec<String> { text.lines().map(str::to_owned).collect() };
    let running = lines(rbox.run(["diff", "box"]).success());
    let wanted = [
        "C /d",
        "C /d/deep",
        "D /d/deep/x",
        "A /d/deep/y",
        "D /d/gone",
        "C /d/kept",
        "A /fifo",
        "A /new",
        "A /new/in",
        "A /new/link",
        "C /owned",
        // As with Docker and Podman: these are the container's own.
        "A /tt",
        "A /vol",
        "D /whole",
    ];
    assert_eq!(running, wanted);
    let report: Value = serde_json::from_str(&rbox.run(["diff", "--format", "json", "box"]).success())?;
    assert_eq!(report["changed"], json!(["/d", "/d/deep", "/d/kept", "/owned"]));
    assert_eq!(report["deleted"], json!(["/d/deep/x", "/d/gone", "/whole"]));
    assert_eq!(report["added"].as_array().map(Vec::len), Some(7));
    rbox.run(["stop", "-t0", "box"]).success();
    assert_eq!(lines(rbox.run(["container", "diff", "box"]).success()), wanted);
    drop(container);
    Ok(())
}

#[test]
fn nothing_is_told_of_what_has_changed_nothing() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    rbox.run(["create", "--name=made", &image, "true"]).success();
    assert_eq!(rbox.run(["diff", "made"]).success(), "");
    rbox.run(["run", "--name=ran", &image, "sh", "-c", "cat /etc/hosts /etc/hostname /etc/resolv.conf"]).success();
    assert_eq!(rbox.run(["diff", "ran"]).success(), "");
    assert_eq!(rbox.run(["diff", "--format=json", "ran"]).success().trim(), "{}");
    rbox.run(["diff", "nobody"]).refused(&["no such container", "nobody"]);
    rbox.run(["diff", "--format=bogus", "ran"]).exits(125);
    Ok(())
}

/// Names are the container's: a terminal is not told what to do, and a line is a path.
#[test]
fn names_of_any_bytes() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let script = "mkdir \"$(printf '/a\\nD ')\"; touch \"$(printf '/a\\nD /passwd')\" \"$(printf '/b\\377')\"";
    rbox.run(["run", "--name=box", &image, "sh", "-c", script]).success();
    let lines = rbox.run(["diff", "box"]).success();
    assert!(!lines.lines().any(|line| line.starts_with('D')) && lines.contains("A /a\\nD /passwd"), "{lines}");
    assert!(lines.lines().any(|line| line.starts_with("A /b")), "{lines}");
    Ok(())
}
