//! Flags of `rbox run` about the workload's variables and groups, and what is written down of a container.

use std::fs;

use anyhow::{Context, Result};
use rbox_tests::alpine;
use rbox_tests::image::{Compression, Format};
use rbox_tests::layer::Layer;
use rbox_tests::layout::Layout;
use rbox_tests::rbox::Rbox;
use serde_json::{Value, json};

/// What is kept of a container that was run with these flags.
fn inspected(rbox: &Rbox, image: &str, flags: &[&str]) -> Result<Value> {
    rbox.run([&["run", "--name", "box"], flags, &[image, "true"]].concat()).success();
    let text = rbox.run(["inspect", "box"]).success();
    rbox.run(["rm", "box"]).success();
    let document: Value = serde_json::from_str(&text)?;
    document.get(0).cloned().context("a list of one")
}

fn at(document: &Value, pointer: &str) -> Value {
    document.pointer(pointer).cloned().unwrap_or(Value::Null)
}

/// An image with these fields in its configuration, and a group `extra` of the number 4711.
fn derived(fields: &[(&str, Value)]) -> Result<(Rbox, String)> {
    let dir = tempfile::tempdir()?;
    let layout = Layout::create(dir.path())?;
    let layer = Layer::new().file("etc/group", 0o644, "root:x:0:\nextra:x:4711:\n");
    let mut image = alpine::on_small(&layout, Format::Oci)?;
    for (field, value) in fields {
        image = image.set(field, value.clone());
    }
    image.layer(&layer, Compression::Gzip)?.finish_as("derived")?;
    Rbox::with_image(&layout, "derived", "t/derived:1")
}

#[test]
fn variables_of_the_caller() -> Result<()> {
    let (rbox, image) = derived(&[("Env", json!(["OF_BOTH=image", "PATH=/bin:/sbin"]))])?;
    let rbox = rbox.env("OF_CALLER", "caller").env("OF_BOTH", "caller").env("OF_FLAG", "caller");
    let look = "echo $OF_CALLER $OF_BOTH $OF_FLAG $HOME $PATH";
    assert_eq!(rbox.sh(&image, &[], look), "image /root /bin:/sbin");
    let home = rbox.home().display().to_string();
    let seen = rbox.sh(&image, &["--env-host", "-e", "OF_FLAG=flag"], look);
    assert_eq!(seen, format!("caller image flag {home} /bin:/sbin"));
    Ok(())
}

#[test]
fn more_groups() -> Result<()> {
    let (rbox, image) = derived(&[])?;
    let flags = ["--group-add", "extra", "--group-add=77"];
    assert_eq!(rbox.sh(&image, &flags, "grep ^Groups: /proc/self/status | xargs"), "Groups: 0 77 4711");
    assert_eq!(
        rbox.sh(&image, &[&flags[..], &["-u", "5:6"]].concat(), "grep ^Groups: /proc/self/status | xargs"),
        "Groups: 6 77 4711"
    );
    rbox.run(["run", "--rm", "--group-add=nosuch", &image, "true"]).refused(&["nosuch", "/etc/group"]);
    let both = ["run", "--rm", "--group-add=keep-groups", "--group-add=5", &image, "true"];
    rbox.run(both).refused(&["keep-groups"]);
    Ok(())
}

#[test]
fn labels_and_annotations() -> Result<()> {
    let (rbox, image) = derived(&[("Labels", json!({"of.image": "image", "of.both": "image"}))])?;
    let file = rbox.home().join("labels");
    fs::write(&file, "# a comment\nof.file=a b\nof.both=file\nbare\n")?;
    let file = format!("--label-file={}", file.display());
    let flags = ["-l", "of.both=flag", "--label=empty", &file, "--annotation=a.b/c=d=e"];
    let document = inspected(&rbox, &image, &flags)?;
    assert_eq!(
        at(&document, "/Config/Labels"),
        json!({"bare": "", "empty": "", "of.both": "flag", "of.file": "a b", "of.image": "image"})
    );
    for place in ["Config", "HostConfig"] {
        assert_eq!(at(&document, &format!("/{place}/Annotations")), json!({"a.b/c": "d=e"}));
    }
    // The runtime's side of them.
    let explained = rbox.run(["run", "--rm", "--explain", "--annotation=a.b/c=d", &image, "true"]).exits(0).stderr;
    assert!(explained.contains(r#""a.b/c": "d""#), "{explained}");
    for (wrong, named) in [("--label==x", "--label"), ("--annotation=x", "--annotation"), ("--label-file=no", "no")] {
        rbox.run(["run", "--rm", wrong, &image, "true"]).refused(&[named]);
    }
    Ok(())
}

#[test]
fn how_it_is_asked_to_end() -> Result<()> {
    let (rbox, image) = derived(&[("StopSignal", json!("SIGQUIT"))])?;
    let stop = |flags: &[&str]| -> Result<_> {
        let document = inspected(&rbox, &image, flags)?;
        Ok((at(&document, "/Config/StopSignal"), at(&document, "/Config/StopTimeout")))
    };
    assert_eq!(stop(&[])?, (json!("SIGQUIT"), json!(10)));
    for signal in ["2", "int", "SIGINT"] {
        assert_eq!(stop(&["--stop-signal", signal])?.0, json!("SIGINT"));
    }
    assert_eq!(stop(&["--stop-signal=RTMIN+3", "--stop-timeout=-1"])?, (json!("SIGRTMIN+3"), json!(-1)));
    for wrong in ["--stop-signal=NO", "--stop-signal=0", "--stop-timeout=x", "--stop-timeout=-2"] {
        let flag = wrong.split('=').next().unwrap_or_default();
        rbox.run(["run", "--rm", wrong, &image, "true"]).refused(&[flag]);
    }
    let (rbox, image) = Rbox::with_small_image()?;
    assert_eq!(at(&inspected(&rbox, &image, &[])?, "/Config/StopSignal"), json!("SIGTERM"));
    Ok(())
}

#[test]
fn what_was_asked_for_is_told() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let host = at(&inspected(&rbox, &image, &[])?, "/HostConfig");
    for (field, default) in [
        ("IpcMode", json!("shareable")),
        ("PidMode", json!("private")),
        ("UTSMode", json!("private")),
        ("Ulimits", json!([])),
        ("ShmSize", json!(64 << 20)),
        ("Devices", json!([])),
        ("ExtraHosts", json!([])),
    ] {
        assert_eq!(host[field], default, "{field}");
    }
    let cid = rbox.home().join("cid").display().to_string();
    let flags = [
        "--ipc=private",
        "--pid=host",
        "--device=/dev/zero:/dev/x",
        "--add-host=a;b:1.2.3.4",
        "--dns=5.6.7.8",
        "--dns-search=c.org",
        "--dns-option=ndots:1",
        "--tz=UTC",
        "--cidfile",
        &cid,
    ];
    let document = inspected(&rbox, &image, &flags)?;
    let host = at(&document, "/HostConfig");
    let device = json!([{"PathOnHost": "/dev/zero", "PathInContainer": "/dev/x", "CgroupPermissions": "rwm"}]);
    for (field, value) in [
        ("IpcMode", json!("private")),
        ("PidMode", json!("host")),
        ("Devices", device),
        ("ExtraHosts", json!(["a;b:1.2.3.4"])),
        ("Dns", json!(["5.6.7.8"])),
        ("DnsSearch", json!(["c.org"])),
        ("DnsOptions", json!(["ndots:1"])),
        ("ContainerIDFile", json!(cid)),
    ] {
        assert_eq!(host[field], value, "{field}");
    }
    assert_eq!(at(&document, "/Config/Timezone"), json!("UTC"));
    Ok(())
}
