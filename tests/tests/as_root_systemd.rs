//! `rbox oci --systemd-cgroup`: a container's cgroup is a scope that systemd makes. By root, who can give a systemd of
//! its own a cgroup; `--rootless=true` has rbox ask that one, and not the system's.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::Result;
use rbox_tests::bundle::Bundle;
use rbox_tests::command::run;
use rbox_tests::patience::until;
use rbox_tests::systemd::Systemd;
use serde_json::json;

const FLAGS: [&str; 2] = ["--rootless=true", "--systemd-cgroup"];

/// A bundle whose containers are units of `systemd`'s.
fn bundle(systemd: &Systemd, script: &str) -> Result<Bundle> {
    let bus = format!("unix:path={}", systemd.runtime_dir().join("bus").display());
    Ok(Bundle::new(script)?.env("DBUS_SESSION_BUS_ADDRESS", &bus))
}

fn with<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    [&FLAGS[..], arguments].concat()
}

/// Leaves a container running, which must not have an output that is waited for.
fn detach(bundle: &Bundle, id: &str) -> Result<()> {
    run(bundle.command(with(&["run", "--detach", id])).stdout(Stdio::null()))
}

#[test]
#[ignore = "long: needs systemd"]
fn a_container_is_a_scope() -> Result<()> {
    let systemd = Systemd::start()?;
    let bundle = bundle(&systemd, "sleep 600")?;
    bundle.change(|config| {
        config["linux"]["cgroupsPath"] = json!("a-b.slice:pre:one");
        config["linux"]["resources"] = json!({ "cpu": { "shares": 1024 }, "pids": { "limit": -1 } });
    })?;
    detach(&bundle, "one")?;
    assert_eq!(systemd.scopes(), [PathBuf::from("a.slice/a-b.slice/pre-one.scope")]);
    for (property, value) in [
        ("Slice", "s \"a-b.slice\""),
        ("Delegate", "b true"),
        ("CPUWeight", "t 100"),
        ("TasksMax", "t 18446744073709551615"),
    ] {
        assert_eq!(systemd.property("pre-one.scope", property)?, value);
    }
    // Processes that come later are in it too.
    let seen = bundle.runtime(with(&["exec", "one", "grep", "0::", "/proc/self/cgroup"])).success();
    assert!(seen.trim_end().ends_with("/a.slice/a-b.slice/pre-one.scope"), "{seen}");
    bundle.runtime(with(&["pause", "one"])).success();
    assert_eq!(bundle.status("one"), "paused");
    bundle.runtime(with(&["resume", "one"])).success();
    bundle.runtime(with(&["kill", "one", "KILL"])).success();
    until(|| bundle.status("one"), |status| status == "stopped");
    bundle.runtime(with(&["delete", "one"])).success();
    assert_eq!(systemd.scopes(), Vec::<PathBuf>::new());
    until(|| systemd.knows("pre-one.scope"), |known| !known);
    Ok(())
}

#[test]
#[ignore = "long: needs systemd"]
fn a_scope_goes_with_its_container_whatever_becomes_of_that() -> Result<()> {
    let systemd = Systemd::start()?;
    let bundle = bundle(&systemd, "true")?;
    // Without a path it has a name of its own; in the foreground it is deleted at once.
    bundle.runtime(with(&["run", "one"])).success();
    bundle.change(|config| config["process"]["args"] = json!(["/no/such/program"]))?;
    assert_ne!(bundle.runtime(with(&["run", "two"])).status, 0);
    bundle.change(|config| config["process"]["args"] = json!(["sleep", "600"]))?;
    detach(&bundle, "three")?;
    assert_eq!(systemd.scopes(), [PathBuf::from("user.slice/rbox-three.scope")]);
    let taken = bundle.runtime(with(&["run", "--detach", "three"]));
    assert!(taken.status != 0 && taken.stderr.contains("exists already"), "{taken:?}");
    bundle.runtime(with(&["update", "--pids-limit=-1", "--cpu-share=1024", "three"])).success();
    assert_eq!(systemd.property("rbox-three.scope", "CPUWeight")?, "t 100");
    bundle.runtime(with(&["delete", "--force", "three"])).success();
    for unit in ["rbox-one.scope", "rbox-two.scope", "rbox-three.scope"] {
        until(|| systemd.knows(unit), |known| !known);
    }
    assert_eq!(systemd.scopes(), Vec::<PathBuf>::new());
    Ok(())
}

#[test]
#[ignore = "long: needs systemd"]
fn what_systemd_refuses_is_told() -> Result<()> {
    let systemd = Systemd::start()?;
    let bundle = bundle(&systemd, "true")?;
    for (path, words) in [
        ("a.slice:pre:o ne", "systemd refuses to start pre-o ne.scope"),
        ("/a/b", "is not slice:prefix:name"),
        ("a--b.slice:c:d", "begins with no name of a slice"),
    ] {
        bundle.change(|config| config["linux"]["cgroupsPath"] = json!(path))?;
        let refused = bundle.runtime(with(&["run", "one"]));
        assert!(refused.status == 1 && refused.stderr.contains(words), "{refused:?}");
        assert_eq!(bundle.runtime(["list", "-q"]).success(), "");
    }
    Ok(())
}
