//! A user without subordinate ids: one id is mapped, and what needs only one works.

use anyhow::Result;
use rbox_tests::detached::Detached;
use rbox_tests::patience::until;
use rbox_tests::rbox::Rbox;
use rbox_tests::{alpine, host};

#[test]
fn alpine_runs() -> Result<()> {
    assert!(host::uid() != 0 && !host::has_subordinate_ids(), "run by cargo xtask test as a user without ranges");
    let (rbox, name) = Rbox::with_image(&alpine::layout()?, alpine::TAG, "library/alpine:3.23")?;
    let seen = rbox.run(["run", "--rm", &name, "cat", "/proc/self/uid_map", "/proc/self/gid_map"]).success();
    let words: Vec<&str> = seen.split_whitespace().collect();
    assert_eq!((words[0], words[2], words.len()), ("0", "1", 6), "{seen}");
    assert_eq!(words[1], host::uid().to_string());

    let script =
        "id -u; apk info -e musl; touch /x /root/y /etc/z && rm /x; cat /etc/os-release | head -1; ls / | wc -l";
    let seen = rbox.run(["run", "--rm", &name, "sh", "-c", script]).success();
    assert!(seen.starts_with("0\nmusl\nNAME=\"Alpine Linux\""), "{seen}");
    Ok(())
}

#[test]
fn another_id_than_the_one_is_refused() -> Result<()> {
    let (rbox, name) = Rbox::with_small_image()?;
    let outcome = rbox.run(["run", "--rm", "-u", "1000", &name, "true"]).refused(&["1000"]);
    assert!(outcome.stderr.contains("hint:") && outcome.stderr.contains("subuid"), "{}", outcome.stderr);
    Ok(())
}

#[test]
fn the_store_is_the_users_own_to_the_last_file() -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    let (rbox, name) = Rbox::with_image(&alpine::layout()?, alpine::TAG, "library/alpine:3.23")?;
    rbox.run(["run", "--name", "kept", &name, "touch", "/x"]).success();
    let files = rbox.files("");
    assert!(files.len() > 500, "{}", files.len());
    for file in files {
        assert_eq!(std::fs::symlink_metadata(rbox.store().join(&file))?.uid(), host::uid(), "{file}");
    }
    rbox.run(["rm", "kept"]).success();
    rbox.run(["rmi", &name]).success();
    rbox.run(["gc"]).success();
    assert_eq!(rbox.layers(), Vec::<String>::new());
    Ok(())
}

#[test]
fn doctor_says_what_is_degraded_and_the_remedy() {
    let outcome = Rbox::new().run(["doctor"]);
    assert!(outcome.stdout.contains("usermod --add-subuids"), "{}", outcome.stdout);
}

#[test]
fn there_is_no_other_group_to_be_in() -> Result<()> {
    let (rbox, name) = Rbox::with_small_image()?;
    rbox.run(["run", "--rm", "--group-add", "5", &name, "true"]).refused(&["--group-add", "one group"]);
    // One's own are there anyway.
    rbox.run(["run", "--rm", "--group-add", "keep-groups", &name, "true"]).success();
    Ok(())
}

#[test]
fn namespaces_of_another_container_are_joined() -> Result<()> {
    let (rbox, name) = Rbox::with_small_image()?;
    let mut first = rbox.start(["run", "--rm", "--name", "one", &name, "sh", "-c", "echo ready; exec sleep 1000"]);
    first.expect("ready");
    rbox_tests::patience::until(|| rbox.run(["exec", "one", "true"]), |outcome| outcome.status == 0);
    let joining = ["--pid=container:one", "--ipc=container:one"];
    assert_eq!(rbox.sh(&name, &joining, "ps | grep -c '[s]leep 1000'; touch /dev/shm/x && echo written"), "1\nwritten");
    Ok(())
}

#[test]
fn it_runs_by_itself() -> Result<()> {
    let (rbox, name) = Rbox::with_small_image()?;
    let container =
        Detached::start(&rbox, &name, "box", &[], "echo out; trap 'exit 3' TERM; while :; do sleep 0.05; done");
    until(|| container.logs(), |logs| logs == "out\n");
    rbox.run(["stop", "box"]).success();
    assert_eq!(container.inspect(&["State", "ExitCode"]), 3);
    rbox.run(["start", "box"]).success();
    until(|| container.logs(), |logs| logs == "out\nout\n");
    Ok(())
}

#[test]
fn health_checks_with_one_id() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let flags = ["--health-interval=50ms", "--health-cmd=id -u", "--init"];
    let container = Detached::start(&rbox, &image, "box", &flags, "exec sleep 1000");
    until(|| container.inspect(&["State", "Health", "Status"]), |word| word == "healthy");
    assert_eq!(container.inspect(&["State", "Health", "Log"])[0]["Output"], "0\n");
    Ok(())
}
