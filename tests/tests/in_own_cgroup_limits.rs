//! Containers of a user who has been given a cgroup: each gets one in there by itself, whatever controllers there are.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;
use rbox_tests::detached::Detached;
use rbox_tests::host;
use rbox_tests::patience::until;
use rbox_tests::processes;
use rbox_tests::rbox::Rbox;

/// The directory of a container's cgroup.
fn cgroup_of(container: &Detached) -> PathBuf {
    let path = container.inspect(&["State", "CgroupPath"]);
    PathBuf::from(format!("/sys/fs/cgroup{}", path.as_str().unwrap_or_default()))
}

/// The names of all that containers have there.
fn all() -> Vec<String> {
    let names = fs::read_dir(host::cgroup()).into_iter().flatten().flatten();
    let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("rbox-") && name.len() > 64).collect()
}

fn of_process(pid: u32) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    text.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default().to_owned()
}

#[test]
fn each_container_has_one_that_goes_with_it() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let container = Detached::start(&rbox, &image, "box", &["--restart=on-failure"], "exec sleep 1000");
    let first = cgroup_of(&container);
    assert_eq!(first.parent(), Some(&*host::cgroup()));
    assert_eq!(format!("/sys/fs/cgroup{}", of_process(container.pid())), first.display().to_string());
    // Last, where the host has version 1 as well.
    let its_own = |text: String| assert_eq!(text.lines().last(), Some("0::/"), "{text}");
    its_own(rbox.run(["exec", "box", "cat", "/proc/self/cgroup"]).success());
    // Of a life that its policy begins anew, it is another one of the same name.
    let before = container.pid();
    processes::signal(before, "KILL")?;
    until(|| container.pid(), |pid| ![0, before].contains(pid));
    assert_eq!(format!("/sys/fs/cgroup{}", of_process(container.pid())), cgroup_of(&container).display().to_string());
    rbox.run(["stop", "-t", "0", "box"]).success();
    assert!(!first.exists());
    rbox.run(["start", "box"]).success();
    assert!(cgroup_of(&container).is_dir());
    rbox.run(["rm", "--force", "box"]).success();
    until(|| first.exists(), |there| !there);
    // In front, and of one that never ran.
    its_own(rbox.run(["run", "--rm", &image, "cat", "/proc/self/cgroup"]).success());
    rbox.run(["run", "--rm", &image, "/no/such/program"]).exits(127);
    let none = Detached::start(&rbox, &image, "none", &["--cgroups=disabled"], "exec sleep 1000");
    assert_eq!(none.inspect(&["State", "CgroupPath"]), "");
    Ok(())
}

#[test]
fn a_paused_container_is_frozen() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let container = Detached::start(&rbox, &image, "box", &["--pid=host"], "while :; do sleep 0.01; done");
    let frozen = || {
        let events = fs::read_to_string(cgroup_of(&container).join("cgroup.events")).unwrap_or_default();
        events.lines().find_map(|line| line.strip_prefix("frozen ")).map(str::to_owned)
    };
    assert_eq!(rbox.run(["pause", "box"]).success(), "box\n");
    assert_eq!((frozen().as_deref(), container.status()), (Some("1"), "paused".into()));
    rbox.run(["exec", "box", "true"]).refused(&["is paused"]);
    assert_eq!(rbox.run(["unpause", "box"]).success(), "box\n");
    assert_eq!(frozen().as_deref(), Some("0"));
    rbox.run(["exec", "box", "true"]).success();
    rbox.run(["pause", "box"]).success();
    rbox.run(["stop", "-t", "1", "box"]).success();
    assert_eq!(container.status(), "exited");
    Ok(())
}

#[test]
fn what_is_killed_is_killed_whole() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let mark = format!("TEST={}", rbox.home().display());
    // Nothing else would end what is left in the host's pid namespace.
    let script = "sleep 1000 & sleep 1000 & echo ready; wait";
    let container = Detached::start(&rbox, &image, "box", &["--pid=host", "-e", &mark], script);
    until(|| container.logs(), |logs| logs == "ready\n");
    assert!(processes::with_variable(&mark).len() >= 3);
    rbox.run(["kill", "box"]).success();
    until(|| processes::with_variable(&mark), Vec::is_empty);
    until(|| container.status(), |status| status == "exited");
    Ok(())
}

#[test]
fn what_a_killed_monitor_leaves_is_found() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let kill = |container: &Detached| {
        let cgroup = cgroup_of(container);
        processes::signal(container.monitor(), "KILL")?;
        until(|| container.status(), |status| status == "dead");
        anyhow::Ok(cgroup)
    };
    let container = Detached::start(&rbox, &image, "box", &[], "exec sleep 1000");
    let left = kill(&container)?;
    assert!(left.exists());
    // By its next start, by its removal, and by gc.
    rbox.run(["start", "box"]).success();
    let left = kill(&container)?;
    rbox.run(["rm", "box"]).success();
    assert!(!left.exists());
    let container = Detached::start(&rbox, &image, "box", &[], "exec sleep 1000");
    let left = kill(&container)?;
    until(
        || {
            rbox.run(["gc"]).success();
            left.exists()
        },
        |there| !there,
    );
    assert!(!all().contains(&left.file_name().unwrap_or_default().to_string_lossy().into_owned()));
    Ok(())
}
