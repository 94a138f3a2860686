//! Containers that run at the same time: the next ones need no newuidmap, and none has power over another.

use std::collections::HashMap;
use std::process::Command;

use anyhow::Result;
use rbox_tests::command::read;
use rbox_tests::detached::Detached;
use rbox_tests::patience::until;
use rbox_tests::rbox::{Rbox, by_copies};
use rbox_tests::running::Running;

/// The small image, by a driver that needs no helpers itself, as to copy an image does.
fn small() -> Result<(Rbox, String)> {
    let (rbox, image) = Rbox::with_small_image()?;
    Ok((if by_copies() { rbox.by_best_driver() } else { rbox }, image))
}

/// A container that is there until the test ends.
fn stays(rbox: &Rbox, image: &str, name: &str) -> Running {
    let mut running = rbox.start(["run", "--rm", "--name", name, image, "sh", "-c", "echo ready; exec sleep 1000"]);
    running.expect("ready");
    running
}

/// Whether a container that is started now has its ids by newuidmap and newgidmap.
fn needs_helpers(rbox: &Rbox, image: &str) -> bool {
    let explained = rbox.run(["run", "--rm", "--explain", image, "true"]);
    assert_eq!(explained.status, 0, "{}", explained.stderr);
    explained.stderr.contains("newuidmap")
}

#[test]
fn siblings_need_no_helpers() -> Result<()> {
    let (rbox, image) = small()?;
    assert!(needs_helpers(&rbox, &image));
    let first = stays(&rbox, &image, "first");
    until(|| needs_helpers(&rbox, &image), |needs| !needs);
    let script = "cut -c1-11 /proc/self/uid_map; touch /f; chown 7:65536 /f; stat -c %u:%g /f; stat -c %u /bin/busybox";
    let ids = rbox.sh(&image, &[], script);
    assert_eq!(ids.split_whitespace().collect::<Vec<_>>(), ["0", "1", "7:65536", "0"]);
    // The files that it leaves have the ids that those of any other container have.
    rbox.run(["run", "--name", "left", &image, "sh", "-c", "echo it > /f; chown 7:7 /f; chmod 600 /f"]).success();
    first.kill();
    until(|| needs_helpers(&rbox, &image), |needs| *needs);
    rbox.run(["rm", "left"]).success();
    Ok(())
}

/// Of the supervisor's death by kill(2) nothing is left that a later start would stumble over.
#[test]
fn siblings_keep_their_ids() -> Result<()> {
    let (rbox, image) = small()?;
    let first = stays(&rbox, &image, "first");
    until(|| needs_helpers(&rbox, &image), |needs| !needs);
    let second = stays(&rbox, &image, "second");
    first.kill();
    let script = "touch /g && chown 9:9 /g && stat -c %u /g";
    // It may print before its supervisor has said that it can be joined.
    until(|| rbox.run(["exec", "second", "sh", "-c", script]).stdout, |owner| owner == "9\n");
    // It has lived longer than the one that it needed, and offers the same to others.
    until(|| needs_helpers(&rbox, &image), |needs| !needs);
    second.kill();
    Ok(())
}

#[test]
fn siblings_of_a_detached_container_need_no_helpers() -> Result<()> {
    let (rbox, image) = small()?;
    let _first = Detached::start(&rbox, &image, "first", &[], "exec sleep 1000");
    until(|| needs_helpers(&rbox, &image), |needs| !needs);
    let second = Detached::start(&rbox, &image, "second", &[], "exec sleep 1000");
    assert_eq!(
        rbox.run(["exec", "second", "cut", "-c1-11", "/proc/self/uid_map"]).success().split_whitespace().count(),
        2
    );
    assert_ne!(second.pid(), 0);
    Ok(())
}

/// Root in a user namespace has every capability in those below it (user_namespaces(7)).
#[test]
fn siblings_are_not_below_each_other() -> Result<()> {
    let (rbox, image) = small()?;
    let _first = stays(&rbox, &image, "first");
    until(|| needs_helpers(&rbox, &image), |needs| !needs);
    let _others = ["second", "third"].map(|name| stays(&rbox, &image, name));

    let listed = read(Command::new("lsns").args(["--noheadings", "--raw", "--type", "user", "--output", "NS,PNS"]))?;
    let parents: HashMap<&str, &str> = listed.lines().filter_map(|line| line.split_once(' ')).collect();
    let namespace = |name: &str| -> Result<String> {
        let pid = rbox.run(["inspect", name]).success();
        let pid = serde_json::from_str::<serde_json::Value>(&pid)?[0]["State"]["Pid"].to_string();
        let link = std::fs::read_link(format!("/proc/{pid}/ns/user"))?;
        Ok(link.to_string_lossy().trim_matches(|c: char| !c.is_ascii_digit()).to_owned())
    };
    let [first, second, third] = [namespace("first")?, namespace("second")?, namespace("third")?];
    assert!(first != second && second != third && first != third);
    assert_eq!(parents[&*second], parents[&*third], "both are below the same one");
    assert!([first, second.clone(), third].iter().all(|own| own != parents[&*second]), "which is no container's");
    Ok(())
}
