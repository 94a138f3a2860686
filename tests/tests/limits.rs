//! Limits by cgroup: what is asked for, kept and shown, and what is said where a host cannot enforce them. What they do where
//! it can is in `limits_enforced.rs`.

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rbox_tests::rbox::Rbox;
use serde_json::{Value, json};

/// Whether this host has the controller in cgroup v1, so that nothing can be limited.
fn is_bound_to_v1(controller: &str) -> bool {
    let cgroups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    cgroups.lines().any(|line| line.split(':').nth(1).is_some_and(|list| list.split(',').any(|one| one == controller)))
}

fn host_config(rbox: &Rbox, container: &str) -> Result<Value> {
    let document: Value = serde_json::from_str(&rbox.run(["inspect", container]).success())?;
    document.pointer("/0/HostConfig").cloned().with_context(|| format!("no HostConfig in {document}"))
}

const LIMITS: [&str; 11] = [
    "--memory=100m",
    "--memory-reservation=50m",
    "--cpus=0.5",
    "--cpu-shares=512",
    "--cpuset-cpus=0",
    "--pids-limit=100",
    "--blkio-weight=300",
    "--cgroup-conf=memory.high=90000000",
    "--cgroup-parent=user.slice",
    "--cgroup-manager=systemd",
    "--best-effort-limits",
];

#[test]
fn what_is_asked_for_is_kept_and_shown() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    rbox.run([&["create", "--name", "box"], &LIMITS[..], &[&image, "true"]].concat()).success();
    let shown = host_config(&rbox, "box")?;
    for (field, value) in [
        ("Memory", json!(100 << 20)),
        ("MemorySwap", json!(200 << 20)),
        ("MemoryReservation", json!(50 << 20)),
        ("NanoCpus", json!(500_000_000)),
        ("CpuShares", json!(512)),
        ("CpusetCpus", json!("0")),
        ("PidsLimit", json!(100)),
        ("BlkioWeight", json!(300)),
        ("CgroupConf", json!({"memory.high": "90000000"})),
        ("CgroupParent", json!("user.slice")),
        ("CgroupManager", json!("systemd")),
        ("Cgroups", json!("default")),
    ] {
        assert_eq!(shown[field], value, "{field}");
    }
    assert_eq!(rbox.run(["update", "--memory=1g", "--cpu-quota=20000", "box"]).success(), "box\n");
    let shown = host_config(&rbox, "box")?;
    assert_eq!([&shown["Memory"], &shown["MemorySwap"]], [&json!(1 << 30), &json!(2_u64 << 30)]);
    assert_eq!([&shown["NanoCpus"], &shown["CpuQuota"], &shown["PidsLimit"]], [&json!(0), &json!(20_000), &json!(100)]);
    rbox.run(["update", "--memory=1m", "box"]).refused(&["--memory-reservation cannot be more than --memory"]);
    assert_eq!(host_config(&rbox, "box")?["Memory"], json!(1 << 30));
    rbox.run(["update", "box"]).refused(&["no limit to change"]);
    let events = rbox.run(["events", "--no-stream", "--filter", "event=update"]).success();
    assert_eq!(events.lines().count(), 1, "{events}");
    Ok(())
}

#[test]
fn what_cannot_be_meant_is_refused() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let refused = |flags: &[&str], words: &[&str]| {
        rbox.run([&["run", "--rm"], flags, &[&image, "true"]].concat()).refused(words);
    };
    refused(&["--memory=1x"], &["--memory", "1x"]);
    refused(&["--cpus=0"], &["--cpus", "0.01"]);
    refused(&["--cpus=1", "--cpu-quota=5000"], &["--cpus and --cpu-quota"]);
    refused(&["--cpu-shares=1"], &["--cpu-shares"]);
    refused(&["-c", "1"], &["--cpu-shares"]);
    refused(&["--cpu-quota=999"], &["--cpu-quota", "1000"]);
    refused(&["--cpu-period=1"], &["--cpu-period"]);
    refused(&["--cpu-weight=10001"], &["--cpu-weight"]);
    refused(&["--blkio-weight=5"], &["--blkio-weight"]);
    refused(&["--blkio-weight-device=/dev/null:5"], &["--blkio-weight-device", "10 to 1000"]);
    refused(&["--memory-swap=1g"], &["--memory-swap needs --memory"]);
    refused(&["--memory=2g", "--memory-swap=1g"], &["less than --memory"]);
    refused(&["--device-read-bps=/dev/null:1m"], &["/dev/null is not a block device"]);
    refused(&["--cgroup-conf=memory.high"], &["--cgroup-conf", "FILE=VALUE"]);
    refused(&["--cgroups=disabled", "--memory=1g"], &["--cgroups=disabled"]);
    refused(&["--cgroups=perhaps"], &["--cgroups", "enabled or disabled"]);
    refused(&["--cgroup-manager=upstart"], &["--cgroup-manager", "systemd or cgroupfs"]);
    // What version 2 has not.
    for (flag, why) in [
        ("--memory-swappiness=50", "no swappiness"),
        ("--oom-kill-disable", "cannot go without"),
        ("--kernel-memory=1g", "within --memory"),
        ("--cpu-rt-period=1000", "realtime"),
        ("--cpu-rt-runtime=1000", "realtime"),
        ("--device-cgroup-rule=c 1:3 mr", "--device"),
    ] {
        refused(&[flag], &[flag.split('=').next().unwrap_or_default(), why]);
    }
    assert_eq!(rbox.run(["ps", "-a", "--format", "json"]).success().trim(), "[]");
    Ok(())
}

#[test]
fn a_host_of_version_1_is_told_what_it_needs() -> Result<()> {
    if !is_bound_to_v1("memory") || !is_bound_to_v1("pids") {
        return Ok(());
    }
    let (rbox, image) = Rbox::with_small_image()?;
    let needs = "this host has it in cgroup v1, and limits take cgroup v2";
    let mend = "boot with cgroup v2 alone: systemd.unified_cgroup_hierarchy=1";
    for (flag, named) in [("--memory=1g", "--memory"), ("--pids-limit=9", "--pids-limit"), ("--cpus=1", "--cpus")] {
        let words = ["cannot enforce ", named, needs, "hint: ", mend, "--best-effort-limits does without"];
        rbox.run(["run", "--rm", flag, &image, "true"]).refused(&words);
        rbox.run(["run", "-d", flag, &image, "true"]).refused(&words);
    }
    rbox.run(["run", "--rm", "--cgroup-parent=/x", &image, "true"]).refused(&["cgroup v1", mend]);
    rbox.run(["create", "--name", "box", "--memory=1g", &image, "true"]).success();
    rbox.run(["start", "box"]).refused(&["cannot enforce --memory", needs, mend]);
    // What nobody asked for is no failure, and what is no limit needs nobody to enforce it.
    rbox.run(["run", "--rm", "--pids-limit=-1", "--memory=-1", &image, "true"]).success();
    rbox.run(["run", "--rm", "--cgroups=disabled", &image, "true"]).success();
    let doctor = rbox.run(["doctor"]).stdout;
    let limits = doctor.lines().skip_while(|line| !line.contains("limits of memory")).take(2).collect::<Vec<_>>();
    assert!(limits[0].starts_with("degraded") && limits[1].contains(mend), "{doctor}");
    Ok(())
}

#[test]
fn who_goes_without_limits_is_told_so() -> Result<()> {
    if !is_bound_to_v1("memory") {
        return Ok(());
    }
    let (rbox, image) = Rbox::with_small_image()?;
    let note = "note: cannot enforce --memory: ";
    let run = ["run", "--rm", "--best-effort-limits", "--memory=1g", &image, "echo", "ran"];
    let outcome = rbox.run(run).exits(0);
    assert!(outcome.stderr.contains(note) && outcome.stdout == "ran\n", "{outcome:?}");
    let words = ["run", "-d", "--name", "box", "--best-effort-limits", "--memory=1g", &image, "sleep", "1000"];
    let outcome = rbox.run(words).exits(0);
    assert!(outcome.stderr.contains(note), "{outcome:?}");
    // It has no cgroup to be limited in later.
    rbox.run(["update", "--memory=2g", "box"]).refused(&["box has no cgroup of its own", "hint"]);
    rbox.run(["rm", "-f", "box"]).success();
    Ok(())
}

#[test]
fn what_a_container_sends_takes_its_time() -> Result<()> {
    const LENGTH: usize = 384 << 10;
    let (rbox, image) = Rbox::with_small_image()?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let script = format!("echo ready; head -c {LENGTH} /dev/zero | nc 10.0.2.2 {port}");
    let network = "--network=slirp:allow_host_loopback=true";
    let words = ["run", "--rm", "--name", "box", network, "--network-rate=out=128k", &image, "sh", "-c", &script];
    let mut container = rbox.start(words);
    container.expect("ready");
    let (mut connection, _) = listener.accept()?;
    let begun = Instant::now();
    assert_eq!(host_config(&rbox, "box")?["NetworkRate"], "out=131072");
    let mut came = vec![0; LENGTH];
    connection.read_exact(&mut came)?;
    // Three seconds, of which one is let through at once.
    assert!(begun.elapsed() > Duration::from_millis(1500), "{:?}", begun.elapsed());
    drop(connection);
    assert_eq!(container.wait(), 0);
    let refused = |flags: &[&str], words: &[&str]| {
        rbox.run([&["run", "--rm"], flags, &[&image, "true"]].concat()).refused(words);
    };
    refused(&["--network=none", "--network-rate=in=1m"], &["--network-rate with --network none"]);
    refused(&["--network-rate=1m"], &["--network-rate", "in=RATE"]);
    refused(&["--network-rate=in=5"], &["--network-rate", "1 KiB a second"]);
    Ok(())
}
