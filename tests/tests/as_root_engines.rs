//! Podman and containerd, run by root, with rbox as their runtime.
//!
//! `RBOX_TEST_RUNTIME=runc` tries them on another runtime. runc 1.1 passes all but the pods, where it cannot open the
//! /dev/null of Podman's first container, and, on a host whose cgroup v2 has no cpu controller, containerd's, which asks for
//! the default weight. crun needs the right to raise RLIMIT_MEMLOCK (CAP_SYS_RESOURCE).

mod podman;

use anyhow::Result;
use rbox_tests::containerd::Containerd;
use rbox_tests::patience::until;
use rbox_tests::podman::Podman;
use rbox_tests::terminal::Terminal;

#[test]
#[ignore = "long: needs podman"]
fn podman_pauses() -> Result<()> {
    let podman = Podman::new()?;
    podman.says(podman::run(&["--detach", "--name=one"], &["sleep", "600"]));
    let status = || podman.says(["inspect", "--format={{.State.Status}}", "one"]);
    podman.says(["pause", "one"]);
    assert_eq!(status(), "paused");
    assert_ne!(podman.run(["exec", "one", "true"]).status, 0);
    podman.says(["unpause", "one"]);
    assert_eq!(status(), "running");
    podman.says(["exec", "one", "true"]);
    podman.says(["rm", "--force", "--time=0", "one"]);
    podman::assert_none_left(&podman);
    Ok(())
}

#[test]
#[ignore = "long: needs containerd"]
fn containerd_runs_in_the_foreground() -> Result<()> {
    let containerd = Containerd::start()?;
    let outcome = containerd.run(&["--rm"], "one", "echo out; echo err >&2; exit 3").exits(3);
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("out\n", "err\n"));
    // ctr gives the terminal its size when the workload may run already.
    let script = "tty; until stty size 2>/dev/null | grep -qx '30 100'; do sleep 0.1; done; stty size; exit 5";
    let mut terminal = Terminal::start(&containerd.run_command(&["--rm", "--tty"], "two", script), 30, 100)?;
    terminal.expect("/dev/pts/");
    terminal.expect("30 100");
    assert_eq!(terminal.wait(), 5);
    assert_eq!(containerd.left(), Vec::<std::path::PathBuf>::new());
    Ok(())
}

#[test]
#[ignore = "long: needs containerd"]
fn containerd_runs_in_the_background() -> Result<()> {
    let containerd = Containerd::start()?;
    let script = "trap 'exit 7' TERM; touch /trapped; while :; do sleep 0.1; done";
    containerd.run(&["--detach"], "one", script).success();
    until(|| containerd.exec("one", "test -e /trapped").status, |status| *status == 0);
    assert_eq!(containerd.exec("one", "echo inside; exit 4").exits(4).stdout, "inside\n");
    containerd.ctr(["task", "pause", "one"]).success();
    assert_eq!(containerd.status("one"), "PAUSED");
    containerd.ctr(["task", "resume", "one"]).success();
    assert_eq!(containerd.status("one"), "RUNNING");
    containerd.ctr(["task", "kill", "--signal=SIGTERM", "one"]).success();
    until(|| containerd.status("one"), |status| status == "STOPPED");
    let removed = containerd.ctr(["task", "rm", "one"]).exits(0);
    assert!(removed.stderr.contains("non-zero exit code 7"), "{removed:?}");
    containerd.ctr(["container", "rm", "one"]).success();
    assert_eq!(containerd.left(), Vec::<std::path::PathBuf>::new());
    Ok(())
}
