//! Detached containers that have what is somebody else's: process ids of the host's, namespaces of another container,
//! descriptors and streams of whoever starts them.

use std::fs::{self, File};
use std::process::Stdio;

use anyhow::Result;
use rbox_tests::detached::Detached;
use rbox_tests::patience::until;
use rbox_tests::processes;
use rbox_tests::rbox::{Outcome, Rbox, finish};
use rbox_tests::terminal::Terminal;

const STAYS: &str = "exec sleep 1000";

fn of_host(kind: &str) -> Result<String> {
    Ok(fs::read_link(format!("/proc/self/ns/{kind}"))?.display().to_string())
}

fn namespaces(rbox: &Rbox, name: &str, kinds: &str) -> String {
    let look = format!("for n in {kinds}; do readlink /proc/self/ns/$n; done");
    rbox.run(["exec", name, "sh", "-c", &look]).success().trim_end().to_owned()
}

#[test]
fn detached_with_process_ids_of_the_host() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let mark = format!("TEST={}", rbox.home().display());
    let flags = ["--pid=host", "--restart=on-failure", "-e", &mark];
    let script = "trap 'exit 0' TERM; echo $$; while :; do sleep 0.05; done";
    let container = Detached::start(&rbox, &image, "box", &flags, script);
    assert_eq!(namespaces(&rbox, "box", "pid"), of_host("pid")?);
    let first = container.pid();
    until(|| container.logs(), |logs| *logs == format!("{first}\n"));

    // As any other: restarted by its policy, stopped, started again.
    rbox.run(["exec", "box", "kill", "-KILL", &first.to_string()]).success();
    let second = until(|| container.pid(), |pid| ![0, first].contains(pid));
    until(|| container.logs(), |logs| *logs == format!("{first}\n{second}\n"));
    rbox.run(["stop", "box"]).success();
    assert_eq!((container.status(), container.inspect(&["State", "ExitCode"])), ("exited".into(), 0.into()));
    until(|| processes::with_variable(&mark), Vec::is_empty);
    rbox.run(["start", "box"]).success();

    // With its monitor it ends, and that is found.
    processes::signal(container.monitor(), "KILL")?;
    until(|| processes::with_variable(&mark), Vec::is_empty);
    until(|| container.status(), |status| status == "dead");
    rbox.run(["start", "box"]).success();
    rbox.run(["rm", "--force", "box"]).success();
    until(|| processes::with_variable(&mark), Vec::is_empty);
    assert_eq!(rbox.files("containers"), Vec::<String>::new());

    // Files of other ids go with it as well.
    let script = "touch /f; chown 5:5 /f; until test -e /go; do sleep 0.05; done";
    let _gone = Detached::start(&rbox, &image, "gone", &["--pid=host", "--rm"], script);
    until(|| rbox.run(["exec", "gone", "stat", "-c", "%u", "/f"]).stdout, |owner| owner == "5\n");
    rbox.run(["exec", "gone", "touch", "/go"]).success();
    until(|| rbox.files("containers"), Vec::is_empty);
    Ok(())
}

#[test]
fn detached_in_namespaces_of_another_container() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let one = Detached::start(&rbox, &image, "one", &["--hostname=first", "--shm-size=3m"], STAYS);
    let kinds = "user pid ipc uts";
    let joining = ["--pid=container:one", "--ipc=container:one", "--uts=container:one", "--restart=always"];
    let two = Detached::start(&rbox, &image, "two", &joining, STAYS);
    assert_eq!(namespaces(&rbox, "two", kinds), namespaces(&rbox, "one", kinds));
    rbox.run(["exec", "one", "sh", "-c", "echo here > /dev/shm/a"]).success();
    assert_eq!(rbox.run(["exec", "two", "cat", "/dev/shm/a", "/etc/hostname"]).success(), "here\nfirst\n");
    assert!(rbox.run(["exec", "two", "df", "-k", "/dev/shm"]).success().contains("3072"));

    // It ends with the other's first process; and comes back when the other one is there again, and joins that.
    rbox.run(["stop", "-t", "0", "one"]).success();
    until(|| two.status(), |status| status != "running");
    rbox.run(["stop", "-t", "0", "two"]).success();
    rbox.run(["start", "two"]).refused(&["one", "not running"]);
    rbox.run(["start", "one"]).success();
    rbox.run(["start", "two"]).success();
    assert_eq!(namespaces(&rbox, "two", kinds), namespaces(&rbox, "one", kinds));
    assert_eq!((one.status(), two.status()), ("running".into(), "running".into()));
    Ok(())
}

#[test]
fn made_before_the_container_that_it_joins_runs() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    rbox.run(["run", "-d", "--name", "two", "--ipc=container:one", &image, "true"]).refused(&["one"]);
    rbox.run(["create", "--name", "one", &image, "sleep", "1000"]).success();
    rbox.run(["run", "-d", "--name", "two", "--ipc=container:one", &image, "true"]).refused(&["one", "not running"]);
    rbox.run(["create", "--name", "two", "--ipc=container:one", &image, "sleep", "1000"]).success();
    rbox.run(["start", "two"]).refused(&["one", "not running"]);
    rbox.run(["start", "one"]).success();
    rbox.run(["start", "two"]).success();
    assert_eq!(namespaces(&rbox, "two", "ipc"), namespaces(&rbox, "one", "ipc"));
    assert_ne!(namespaces(&rbox, "two", "pid"), namespaces(&rbox, "one", "pid"));
    let monitors = ["one", "two"].map(|name| rbox.run(["rm", "--force", name]).status);
    assert_eq!(monitors, [0, 0]);
    Ok(())
}

/// rbox with these words, and descriptor 3 to `file`.
fn with_three(rbox: &Rbox, file: &str, words: &[&str]) -> Outcome {
    let script = format!("exec 3>>{file}; exec \"$0\" \"$@\"");
    finish(rbox.command_under(&["sh", "-c", &script], words).stdin(Stdio::null()))
}

#[test]
fn descriptors_of_who_starts_it() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let file = |name: &str| rbox.home().join(name).display().to_string();
    let what = ["--name", "box", "--preserve-fds=1", &image, "sh", "-c", "echo life >&3; exit 1"];
    let run = [&["run", "-d", "--restart=on-failure:1"], &what[..]].concat();
    let create = [&["create"], &what[..]].concat();
    rbox.run(&run).refused(&["--preserve-fds", "3"]);
    with_three(&rbox, &file("a"), &run).success();
    // The second life has them too.
    until(|| fs::read_to_string(file("a")).unwrap_or_default(), |text| text == "life\nlife\n");
    until(|| rbox.run(["rm", "box"]).status, |status| *status == 0);

    rbox.run(&create).success();
    rbox.run(["start", "box"]).refused(&["--preserve-fds", "3"]);
    with_three(&rbox, &file("b"), &["start", "--attach", "box"]).exits(1);
    assert_eq!(fs::read_to_string(file("b"))?, "life\n");
    rbox.run(["rm", "box"]).success();
    Ok(())
}

#[test]
fn streams_of_who_starts_it() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let script = "echo out; echo err >&2; cat; until test -e /go; do sleep 0.05; done; exit 4";
    let run = |flags: &[&str], name: &str| -> Result<_> {
        fs::write(rbox.home().join("input"), "typed\n")?;
        let paths = ["input", "out", "err"].map(|stream| rbox.home().join(stream));
        let words = [&["--log-driver=passthrough", "--name", name], flags, &[&image, "sh", "-c", script]].concat();
        let mut command = rbox.command([&["run"], &words[..]].concat());
        command.stdin(File::open(&paths[0])?).stdout(File::create(&paths[1])?).stderr(File::create(&paths[2])?);
        Ok((command.status()?, paths))
    };
    let (status, [_, out, err]) = run(&["-d", "-i"], "box")?;
    assert!(status.success());
    until(|| fs::read_to_string(&err).unwrap_or_default(), |text| text == "err\n");
    // Among it is the id, which rbox prints there too.
    until(|| fs::read_to_string(&out).unwrap_or_default(), |text| text.contains("out\n") && text.contains("typed\n"));
    rbox.run(["logs", "box"]).refused(&["does not support reading", "passthrough"]);
    rbox.run(["attach", "box"]).refused(&["passthrough"]);
    assert!(rbox.run(["inspect", "box"]).success().contains("\"passthrough\""));
    rbox.run(["exec", "box", "touch", "/go"]).success();
    assert_eq!(rbox.run(["wait", "box"]).success(), "4\n");
    // Those of another start are that one's.
    let again = rbox.run(["start", "--attach", "box"]).exits(4);
    assert_eq!((again.stdout.as_str(), again.stderr.as_str()), ("out\n", "err\n"));
    rbox.run(["rm", "box"]).success();

    // In the foreground likewise, with or without a monitor; without -i there is no input.
    for flags in [&["--rm"][..], &["--timeout=100"]] {
        let script = "echo out; echo err >&2; cat; exit 5";
        let words = [&["run", "--log-driver=passthrough"], flags, &[&image, "sh", "-c", script]].concat();
        let outcome = rbox.run_with_input(&words, b"typed\n").exits(5);
        assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("out\n", "err\n"));
    }

    for flags in [&["-t"][..], &["--log-opt=max-size=1m"]] {
        let words = [&["run", "--rm", "--log-driver=passthrough"], flags, &[&image, "true"]].concat();
        rbox.run(words).refused(&["passthrough"]);
    }
    let command = rbox.command(["run", "-d", "--name", "box", "--log-driver=passthrough", &image, "true"]);
    let mut terminal = Terminal::start(&command, 24, 80)?;
    terminal.expect("is a terminal");
    assert_eq!(terminal.wait(), 125);
    rbox.run(["inspect", "box"]).exits(125);
    Ok(())
}
