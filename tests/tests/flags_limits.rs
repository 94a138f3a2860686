//! Flags of `rbox run` that limit what a workload may use, or set what the kernel keeps for it.

use std::process::Command;

use anyhow::{Context, Result};
use rbox_tests::command::read;
use rbox_tests::rbox::Rbox;
use rbox_tests::running::Running;
use serde_json::{Value, json};

/// A container called `box`, whose workload has begun.
fn start(rbox: &Rbox, image: &str, flags: &[&str]) -> Running {
    let words = [&["run", "--rm", "--name", "box"], flags, &[image, "sh", "-c", "echo ready; exec sleep 1000"]];
    let mut running = rbox.start(words.concat());
    running.expect("ready");
    rbox.run(["exec", "box", "true"]);
    running
}

fn inspected(rbox: &Rbox, pointer: &str) -> Result<Value> {
    let document: Value = serde_json::from_str(&rbox.run(["inspect", "box"]).success())?;
    document.pointer(&format!("/0/{pointer}")).cloned().with_context(|| format!("no {pointer} in {document}"))
}

#[test]
fn limits_of_processes() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let look = "ulimit -Sn; ulimit -Hn; ulimit -Sc; ulimit -Hc";
    let host = read(Command::new("sh").args(["-c", look]))?;
    let host: Vec<&str> = host.split_whitespace().collect();
    let seen = |flags: &[&str]| rbox.sh(&image, flags, look).split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(seen(&[]), host);
    assert_eq!(seen(&["--ulimit", "host"]), host);
    // The last one of a name counts.
    let flags = ["--ulimit", "nofile=5", "--ulimit", "nofile=100:200", "--ulimit", "core=0"];
    assert_eq!(seen(&flags), ["100", "200", "0", "0"]);
    // -1 is the most that the caller may have.
    assert_eq!(seen(&["--ulimit", "nofile=50:-1"])[..2], ["50", host[1]]);
    assert_eq!(seen(&["--ulimit=nofile=-1"])[..2], [host[1], host[1]]);
    let too_much = ["run", "--rm", "--ulimit", "nofile=9:1000000000", &image, "true"];
    rbox.run(too_much).refused(&["RLIMIT_NOFILE", "hint"]);
    for wrong in ["nofile", "nofile=2:1", "files=1", "nofile=-1:5"] {
        rbox.run(["run", "--rm", "--ulimit", wrong, &image, "true"]).refused(&["--ulimit", wrong]);
    }
    Ok(())
}

#[test]
fn the_mask_of_new_files() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    assert_eq!(rbox.sh(&image, &[], "umask"), "0022");
    assert_eq!(rbox.sh(&image, &["--umask", "077"], "umask; touch /x; stat -c %a /x"), "0077\n600");
    rbox.run(["run", "--rm", "--umask", "8", &image, "true"]).refused(&["--umask", "octal"]);
    Ok(())
}

#[test]
fn who_goes_first_when_memory_runs_out() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let look = "cat /proc/self/oom_score_adj";
    let host = read(Command::new("sh").args(["-c", look]))?;
    assert_eq!(rbox.sh(&image, &[], look), host.trim());
    assert_eq!(rbox.sh(&image, &["--oom-score-adj", "765"], look), "765");
    // An ordinary user's stays where it is (Podman).
    assert_eq!(rbox.sh(&image, &["--oom-score-adj", "-999"], look), host.trim());
    rbox.run(["run", "--rm", "--oom-score-adj=1001", &image, "true"]).refused(&["--oom-score-adj", "1000"]);
    Ok(())
}

#[test]
fn the_size_of_shared_memory() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let look = "df -k /dev/shm | awk 'END { print $2 }'";
    assert_eq!(rbox.sh(&image, &[], look), "65536");
    for (size, kib) in [("1m", "1024"), ("8192", "8"), ("1.5M", "1536"), ("2kb", "4"), ("0", "0")] {
        assert_eq!(rbox.sh(&image, &["--shm-size", size], look), kib, "{size}");
    }
    rbox.run(["run", "--rm", "--shm-size=1x", &image, "true"]).refused(&["--shm-size", "1x"]);
    Ok(())
}

#[test]
fn settings_of_the_kernel() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let flags =
        ["--sysctl", "net.core.somaxconn=77", "--sysctl", "kernel.msgmax=9000", "--sysctl=kernel.shm_rmid_forced=1"];
    let look = "cd /proc/sys; cat net/core/somaxconn kernel/msgmax kernel/shm_rmid_forced";
    assert_eq!(rbox.sh(&image, &flags, look), "77\n9000\n1");
    for wrong in ["vm.swappiness=1", "kernel.pid_max=1000", "kernel.hostname=x"] {
        let name = wrong.split('=').next().unwrap_or_default();
        rbox.run(["run", "--rm", "--sysctl", wrong, &image, "true"]).refused(&["--sysctl", name]);
    }
    rbox.run(["run", "--rm", "--sysctl", "net.core.somaxconn", &image, "true"]).refused(&["--sysctl", "NAME=VALUE"]);
    let of_hosts = ["run", "--rm", "--ipc=host", "--sysctl=kernel.msgmax=1", &image, "true"];
    rbox.run(of_hosts).refused(&["kernel.msgmax", "the host's ipc namespace"]);
    assert_eq!(rbox.run(["ps", "-a", "--format", "json"]).success().trim(), "[]");
    Ok(())
}

#[test]
fn who_comes_later_has_the_same() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let flags = ["--ulimit=nofile=100:200", "--umask=0077", "--oom-score-adj=321", "--group-add=77", "--shm-size=1m"];
    let _running = start(&rbox, &image, &[&flags[..], &["--sysctl=net.core.somaxconn=9"]].concat());
    let look = "ulimit -Sn; ulimit -Hn; umask; cat /proc/self/oom_score_adj; id -G | tr ' ' '\n' | grep -x 77";
    let seen = rbox.run(["exec", "box", "sh", "-c", look]).success();
    assert_eq!(seen, "100\n200\n0077\n321\n77\n");
    assert_eq!(inspected(&rbox, "HostConfig/Ulimits")?, json!([{"Name": "nofile", "Soft": 100, "Hard": 200}]));
    assert_eq!(inspected(&rbox, "HostConfig/ShmSize")?, json!(1 << 20));
    assert_eq!(inspected(&rbox, "HostConfig/OomScoreAdj")?, json!(321));
    assert_eq!(inspected(&rbox, "HostConfig/Sysctls")?, json!({"net.core.somaxconn": "9"}));
    assert_eq!(inspected(&rbox, "HostConfig/GroupAdd")?, json!(["77"]));
    assert_eq!(inspected(&rbox, "Config/Umask")?, json!("0077"));
    Ok(())
}
