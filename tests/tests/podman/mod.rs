//! What one does with Podman, whoever one is: `engines.rs` and `as_root_engines.rs` have these tests. Nothing here is about
//! rbox: another runtime passes too.

use std::fs;
use std::process::Command;

use anyhow::Result;
use rbox_tests::patience::until;
use rbox_tests::podman::{IMAGE, Podman};
use rbox_tests::rbox::finish;
use rbox_tests::terminal::Terminal;

/// `podman run` of the small image: its flags, then the command.
pub(crate) fn run<'a>(flags: &[&'a str], command: &[&'a str]) -> Vec<&'a str> {
    [&["run", "--network=none"], flags, &[IMAGE], command].concat()
}

/// Asserts that the runtime has forgotten all containers, once the last ones' cleaning up has come to its end.
pub(crate) fn assert_none_left(podman: &Podman) {
    assert_eq!(podman.says(["ps", "--all", "--quiet"]), "");
    until(|| podman.states(), Vec::is_empty);
}

#[test]
#[ignore = "long: needs podman"]
fn podman_runs_in_the_foreground() -> Result<()> {
    let podman = Podman::new()?;
    let outcome = podman.run(run(&["--rm"], &["sh", "-c", "echo out; echo err >&2; exit 3"])).exits(3);
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("out\n", "err\n"));
    let input = tempfile::NamedTempFile::new()?;
    fs::write(input.path(), "input")?;
    let mut cat = podman.command(run(&["--rm", "--interactive"], &["cat"]));
    assert_eq!(finish(cat.stdin(fs::File::open(input.path())?)).success(), "input");
    // Podman tells these two by the words in the runtime's message.
    podman.run(run(&["--rm"], &["/no/such/program"])).exits(127);
    podman.run(run(&["--rm"], &["/etc"])).exits(126);
    assert_none_left(&podman);
    Ok(())
}

#[test]
#[ignore = "long: needs podman"]
fn podman_runs_in_the_background() -> Result<()> {
    let podman = Podman::new()?;
    let script = "trap 'echo bye; exit 7' TERM; echo began; while :; do sleep 0.1; done";
    podman.says(run(&["--detach", "--name=one"], &["sh", "-c", script]));
    let logs = || podman.says(["logs", "one"]);
    until(logs, |logs| logs == "began");
    let outcome = podman.run(["exec", "one", "sh", "-c", "echo inside; exit 4"]).exits(4);
    assert_eq!(outcome.stdout, "inside\n");
    podman.run(["exec", "one", "/no/such/program"]).exits(127);
    podman.says(["exec", "--detach", "one", "touch", "/tmp/touched"]);
    until(|| podman.run(["exec", "one", "test", "-e", "/tmp/touched"]).status, |status| *status == 0);
    let top = podman.says(["top", "one", "pid", "args"]);
    assert!(top.lines().any(|line| line.starts_with("1 ") && line.contains("sh -c trap")), "{top}");

    let state = || podman.says(["inspect", "--format={{.State.Status}} {{.State.ExitCode}}", "one"]);
    assert_eq!(state(), "running 0");
    podman.says(["stop", "one"]);
    assert_eq!((state().as_str(), logs().as_str()), ("exited 7", "began\nbye"));
    podman.says(["start", "one"]);
    podman.says(["kill", "--signal=KILL", "one"]);
    assert_eq!(podman.says(["wait", "one"]), "137");
    podman.says(["restart", "one"]);
    assert_eq!(state(), "running 0");
    podman.says(["rm", "--force", "--time=0", "one"]);
    assert_none_left(&podman);
    Ok(())
}

#[test]
#[ignore = "long: needs podman"]
fn podman_has_terminals() -> Result<()> {
    let podman = Podman::new()?;
    let script = "tty; read line; echo \"got $line\"; stty size; exit 5";
    let converse = |command: &Command| -> Result<()> {
        let mut terminal = Terminal::start(command, 30, 100)?;
        terminal.expect("/dev/pts/");
        terminal.send("typed\n")?;
        terminal.expect("got typed");
        terminal.expect("30 100");
        assert_eq!(terminal.wait(), 5);
        Ok(())
    };
    converse(&podman.command(run(&["--rm", "--interactive", "--tty"], &["sh", "-c", script])))?;
    podman.says(run(&["--detach", "--name=one"], &["sleep", "600"]));
    converse(&podman.command(["exec", "--interactive", "--tty", "one", "sh", "-c", script]))?;
    podman.says(["rm", "--force", "--time=0", "one"]);
    assert_none_left(&podman);
    Ok(())
}

#[test]
#[ignore = "long: needs podman"]
fn podman_checks_health() -> Result<()> {
    let podman = Podman::new()?;
    let health = ["--health-cmd=test -e /tmp/well", "--health-interval=disable"];
    podman.says(run(&[&["--detach", "--name=one"], &health[..]].concat(), &["sleep", "600"]));
    podman.run(["healthcheck", "run", "one"]).exits(1);
    podman.says(["exec", "one", "touch", "/tmp/well"]);
    podman.run(["healthcheck", "run", "one"]).exits(0);
    Ok(())
}

#[test]
#[ignore = "long: needs podman"]
fn podman_has_pods() -> Result<()> {
    let podman = Podman::new()?;
    podman.says(["pod", "create", "--network=none", "--name=pod"]);
    podman.says(["run", "--detach", "--pod=pod", "--name=one", IMAGE, "sleep", "600"]);
    let seen = "hostname; for kind in net ipc uts; do readlink /proc/self/ns/$kind; done";
    let one = podman.says(["exec", "one", "sh", "-c", seen]);
    assert_eq!(one.lines().next(), Some("pod"));
    assert_eq!(podman.says(["run", "--rm", "--pod=pod", IMAGE, "sh", "-c", seen]), one);
    let state = || podman.says(["pod", "inspect", "--format={{.State}}", "pod"]);
    podman.says(["pod", "stop", "--time=0", "pod"]);
    assert_eq!(state(), "Exited");
    podman.says(["pod", "start", "pod"]);
    assert_eq!(state(), "Running");
    podman.says(["pod", "rm", "--force", "--time=0", "pod"]);
    assert_none_left(&podman);
    Ok(())
}

#[test]
#[ignore = "long: needs podman"]
fn podman_builds() -> Result<()> {
    let podman = Podman::new()?;
    let context = podman.path().join("context");
    fs::create_dir(&context)?;
    let steps =
        format!("FROM {IMAGE}\nRUN id -u > /built && chown 7:8 /built\nCMD stat -c '%u %g' /built; cat /built\n");
    fs::write(context.join("Containerfile"), steps)?;
    // "oci": each RUN is a container of the runtime's.
    let build = ["build", "--network=none", "--isolation=oci", "--tag=localhost/built:1"];
    let mut build = podman.command(build);
    finish(build.arg(&context)).exits(0);
    assert_eq!(podman.says(["run", "--rm", "--network=none", "localhost/built:1"]), "7 8\n0");
    fs::write(context.join("Containerfile"), format!("FROM {IMAGE}\nRUN exit 9\n"))?;
    let failed = finish(&mut build);
    assert!(failed.status != 0 && failed.stderr.contains("exit status 9"), "{failed:?}");
    assert_none_left(&podman);
    Ok(())
}

#[test]
#[ignore = "long: needs podman"]
fn podman_passes_options_on() -> Result<()> {
    let podman = Podman::new()?;
    let volume = podman.path().join("volume");
    fs::create_dir(&volume)?;
    fs::write(volume.join("file"), "from outside\n")?;
    let volume = format!("--volume={}:/volume:ro", volume.display());
    let flags = ["--rm", "--read-only", "--tmpfs=/scratch", "--cap-drop=all", "--user=5:6", "--workdir=/tmp"];
    let more = ["--hostname=named", "--security-opt=no-new-privileges", "--env=NAME=value", &volume];
    let script = "echo $(id -u) $(id -g) $(pwd) $(hostname) $NAME; grep -E 'CapEff|NoNewPrivs' /proc/self/status; \
        cat /volume/file; touch /scratch/new && touch /new 2>&1 || touch /volume/new 2>&1";
    let outcome = podman.run(run(&[&flags[..], &more].concat(), &["sh", "-c", script])).exits(1);
    assert_eq!(
        outcome.stdout.lines().collect::<Vec<_>>(),
        [
            "5 6 /tmp named value",
            "CapEff:\t0000000000000000",
            "NoNewPrivs:\t1",
            "from outside",
            "touch: /new: Read-only file system",
            "touch: /volume/new: Read-only file system",
        ]
    );
    let flags = ["--rm", "--init", "--uidmap=0:1:1000", "--shm-size=1m", "--sysctl=kernel.msgmax=9000"];
    let script =
        "awk '{print $1, $3}' /proc/self/uid_map; cat /proc/sys/kernel/msgmax; df /dev/shm | awk 'END {print $2}'";
    assert_eq!(podman.says(run(&flags, &["sh", "-c", script])), "0 1000\n9000\n1024");
    assert_none_left(&podman);
    Ok(())
}
