//! `rbox run -d` and what follows: a container with a monitor of its own.

use std::path::Path;
use std::process::Command;

use anyhow::Result;
use rbox_tests::detached::Detached;
use rbox_tests::patience::until;
use rbox_tests::processes;
use rbox_tests::rbox::Rbox;
use rbox_tests::terminal::Terminal;

fn lives(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[test]
fn it_runs_by_itself_and_its_end_is_written_down() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let script = "echo out; echo err >&2; until test -e /go; do sleep 0.05; done; exit 7";
    let container = Detached::start(&rbox, &image, "box", &[], script);
    until(|| rbox.run(["logs", "box"]), |logs| logs.stdout == "out\n" && logs.stderr == "err\n");
    assert_eq!(container.status(), "running");
    rbox.run(["exec", "box", "touch", "/go"]).success();
    until(|| container.status(), |status| status == "exited");
    assert_eq!(container.inspect(&["State", "ExitCode"]), 7);
    assert_eq!(rbox.run(["logs", "box"]).stdout, "out\n", "the log stays");
    Ok(())
}

#[test]
fn what_does_not_start_says_why() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    for (command, status) in [("no-such-program", 127), ("/etc/passwd", 126)] {
        let outcome = rbox.run(["run", "-d", "--name", "box", &image, command]).exits(status);
        assert!(outcome.stderr.contains(command) && outcome.stdout.is_empty(), "{outcome:?}");
        rbox.run(["rm", "box"]).success();
        rbox.run(["run", "-d", "--rm", "--name", "box", &image, command]).exits(status);
        rbox.run(["rm", "box"]).exits(1);
    }
    Ok(())
}

#[test]
fn rm_removes_it_at_its_end() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let script = "touch /f; chown 5:5 /f; until test -e /go; do sleep 0.05; done";
    let container = Detached::start(&rbox, &image, "box", &["--rm"], script);
    rbox.run(["exec", "box", "touch", "/go"]).success();
    until(|| rbox.run(["ps", "-a"]).success().lines().count(), |lines| *lines == 1);
    drop(container);
    until(|| rbox.files("containers"), Vec::is_empty);
    Ok(())
}

#[test]
fn stop_asks_and_then_kills() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let script = "trap 'echo asked; exit 3' TERM; echo ready; while :; do sleep 0.05; done";
    let polite = Detached::start(&rbox, &image, "polite", &["--restart", "always"], script);
    until(|| polite.logs(), |logs| logs == "ready\n");
    assert_eq!(rbox.run(["stop", "polite"]).success(), "polite\n");
    assert_eq!((polite.status(), polite.logs()), ("exited".into(), "ready\nasked\n".into()));
    assert_eq!(polite.inspect(&["State", "ExitCode"]), 3, "and it was not started again");

    // The first process of a pid namespace ignores what it has no handler for.
    let stubborn = Detached::start(&rbox, &image, "stubborn", &[], "exec sleep 1000");
    rbox.run(["stop", "-t", "0", "stubborn"]).success();
    assert_eq!(stubborn.inspect(&["State", "ExitCode"]), 137);
    rbox.run(["stop", "stubborn"]).success();
    rbox.run(["stop", "nobody"]).exits(125);
    Ok(())
}

#[test]
fn start_and_restart_begin_again_with_what_it_wrote() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let script = "echo life >> /lives; wc -l < /lives; exec sleep 1000";
    let container = Detached::start(&rbox, &image, "box", &[], script);
    until(|| container.logs(), |logs| logs == "1\n");
    rbox.run(["restart", "-t", "0", "box"]).success();
    until(|| container.logs(), |logs| logs == "1\n2\n");
    rbox.run(["stop", "-t", "0", "box"]).success();
    assert_eq!(rbox.run(["start", "box"]).success(), "box\n");
    until(|| container.logs(), |logs| logs == "1\n2\n3\n");
    let pid = container.pid();
    rbox.run(["start", "box"]).success();
    assert_eq!(container.pid(), pid, "one that runs is left alone");
    Ok(())
}

#[test]
fn it_is_started_again_by_its_policy() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let failing = Detached::start(&rbox, &image, "failing", &["--restart", "on-failure:2"], "echo life; exit 4");
    until(|| failing.logs(), |logs| logs == "life\nlife\nlife\n");
    until(|| failing.status(), |status| status == "exited");
    assert_eq!(failing.inspect(&["RestartCount"]), 2);
    assert_eq!(failing.inspect(&["HostConfig", "RestartPolicy", "MaximumRetryCount"]), 2);
    assert_eq!(failing.inspect(&["HostConfig", "LogConfig", "Type"]), "k8s-file");
    let good = Detached::start(&rbox, &image, "good", &["--restart", "on-failure"], "echo life");
    until(|| good.status(), |status| status == "exited");
    assert_eq!(good.logs(), "life\n");
    let always = Detached::start(&rbox, &image, "always", &["--restart", "always"], "echo life");
    until(|| always.logs(), |logs| logs.lines().count() >= 3);
    rbox.run(["stop", "always"]).success();
    let lives = always.logs();
    assert_eq!(always.status(), "exited");
    assert_eq!(always.logs(), lives, "whether it lived or was waiting to: stopped is stopped");
    Ok(())
}

/// The kernel ends what is below the first process of a pid namespace, whatever has become of its death signal.
#[test]
fn nothing_outlives_the_monitor() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let container = Detached::start(&rbox, &image, "box", &[], "echo ready; sleep 1000 & exec sleep 1000");
    until(|| container.logs(), |logs| logs == "ready\n");
    let (first, monitor) = (container.pid(), container.monitor());
    let children = std::fs::read_to_string(format!("/proc/{first}/task/{first}/children"))?;
    let second: u32 = children.trim().parse()?;
    processes::signal(monitor, "KILL")?;
    until(|| (lives(first), lives(second)), |(first, second)| !first && !second);
    until(|| container.status(), |status| status == "dead");
    rbox.run(["start", "box"]).success();
    until(|| container.logs(), |logs| logs == "ready\nready\n");
    rbox.run(["rm", "--force", "box"]).success();
    until(|| rbox.files("containers"), Vec::is_empty);
    Ok(())
}

/// From outside, and from inside where somebody shares its user id.
#[test]
fn the_monitor_is_nobodys_to_look_into() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let container = Detached::start(&rbox, &image, "box", &[], "exec sleep 1000");
    let monitor = container.monitor();
    let status = std::fs::read_to_string(format!("/proc/{monitor}/status"))?;
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
    assert_eq!(numbers.split_whitespace().nth(1), Some("1"), "the first process of a pid namespace: {numbers:?}");
    assert_eq!(std::fs::read_to_string(format!("/proc/{monitor}/comm"))?, "rbox-monitor\n");
    let environment = std::fs::read(format!("/proc/{monitor}/environ")).unwrap_or_default();
    assert!(environment.is_empty(), "nothing of the starter's");
    let streams = [0, 1, 2].map(|stream| std::fs::read_link(format!("/proc/{monitor}/fd/{stream}")));
    assert!(streams.into_iter().flatten().all(|path| path == Path::new("/dev/null")));
    Ok(())
}

/// A login that ends: its processes are hung up, its terminal and its runtime directory go.
#[test]
fn it_outlives_its_login() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let mut login = Command::new("sh");
    login.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("PS1", "ready> ");
    let mut terminal = Terminal::start(&login, 24, 80)?;
    terminal.expect("ready> ");
    let command = rbox.command(["run", "-d", "--name", "box", &image, "sh", "-c", "echo begun; exec sleep 1000"]);
    let variables = command.get_envs().filter_map(|(name, value)| Some((name.to_str()?, value?.to_str()?)));
    let variables: Vec<String> = variables.map(|(name, value)| format!("{name}='{value}'")).collect();
    let words = command.get_args().map(|word| format!("'{}'", word.display()));
    let words: Vec<String> = words.collect();
    let program = command.get_program().display().to_string();
    terminal.send(&format!("env {} {program} {}; echo do''ne\r", variables.join(" "), words.join(" ")))?;
    terminal.expect("done");
    terminal.signal("HUP")?;
    terminal.wait();
    drop(terminal);
    std::fs::remove_dir_all(rbox.home().join("run"))?;

    until(|| rbox.run(["logs", "box"]).success(), |printed| printed == "begun\n");
    assert_eq!(rbox.run(["ps", "-q"]).success().lines().count(), 1);
    rbox.run(["stop", "-t", "0", "box"]).success();
    rbox.run(["rm", "box"]).success();
    Ok(())
}

#[test]
fn fifty_at_once_have_one_winner() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let started: Vec<_> =
        (0..50).map(|_| rbox.start(["run", "-d", "--name", "one", &image, "sleep", "1000"])).collect();
    let statuses: Vec<i32> = started.into_iter().map(|mut running| running.wait()).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 0).count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| [0, 125].contains(status)), "{statuses:?}");
    assert_eq!(rbox.run(["ps", "-a"]).success().lines().count(), 2);
    rbox.run(["rm", "--force", "one"]).success();
    Ok(())
}

#[test]
fn output_is_kept_whole() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let container = Detached::start(&rbox, &image, "box", &[], "seq 1 300000");
    until(|| container.status(), |status| status == "exited");
    let logs = container.logs();
    let expected: String = (1..=300_000).map(|number| format!("{number}\n")).collect();
    assert!(logs == expected, "{} bytes of {}", logs.len(), expected.len());
    Ok(())
}

#[test]
fn a_run_replaces_what_has_its_name() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let script = "trap 'exit 0' TERM; echo ready; while :; do sleep 0.05; done";
    let old = Detached::start(&rbox, &image, "box", &["--replace", "--rm"], script);
    until(|| old.logs(), |logs| logs == "ready\n");
    let id = old.inspect(&["Id"]);
    // One with an id that begins so is another one, whatever its name.
    let short = id.as_str().unwrap_or_default()[..12].to_owned();
    rbox.run(["run", "--rm", "--replace", "--name", &short, &image, "true"]).success();
    assert_eq!(old.inspect(&["Id"]), id);

    let new = Detached::start(&rbox, &image, "box", &["--replace"], script);
    assert_ne!(new.inspect(&["Id"]), id);
    assert_eq!(rbox.run(["run", "--rm", "--replace", "--name", "box", &image, "echo", "hi"]).success(), "hi\n");
    assert_eq!(rbox.run(["ps", "-aq"]).success(), "");
    rbox.run(["create", "--name", "box", &image, "true"]).success();
    rbox.run(["create", "--name", "box", &image, "true"]).exits(125);
    rbox.run(["create", "--replace", "--name", "box", &image, "true"]).success();
    rbox.run(["run", "--replace", &image, "true"]).exits(125);
    Ok(())
}

#[test]
fn a_run_has_its_time() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let outcome =
        rbox.run(["run", "--name", "front", "--timeout", "1", &image, "sh", "-c", "echo hi; exec sleep 1000"]);
    assert_eq!(outcome.exits(137).stdout, "hi\n");
    let behind = Detached::start(&rbox, &image, "behind", &["--timeout", "1"], "trap '' TERM; exec sleep 1000");
    until(|| behind.status(), |status| status == "exited");
    assert_eq!(
        (behind.inspect(&["State", "ExitCode"]), behind.inspect(&["Config", "Timeout"])),
        (137.into(), 1.into())
    );
    let quick = ["run", "--rm", "--timeout", "100", &image, "true"];
    rbox.run(quick).success();
    rbox.run(["rm", "front"]).success();
    Ok(())
}

#[test]
fn a_run_in_front_is_left_out_of_all() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let script = "echo life >> /lives; wc -l < /lives; exec sleep 1000";
    let mut front = rbox.start(["run", "--name", "front", &image, "sh", "-c", "echo ready; exec sleep 1000"]);
    front.expect("ready");
    let [one, two] = ["one", "two"].map(|name| Detached::start(&rbox, &image, name, &[], script));
    until(|| (one.logs(), two.logs()), |logs| logs.0 == "1\n" && logs.1 == "1\n");
    rbox.run(["stop", "-t", "0", "two"]).success();
    assert_eq!(rbox.run(["restart", "-t", "0", "--running"]).success().lines().count(), 1);
    until(|| one.logs(), |logs| logs == "1\n2\n");
    assert_eq!(two.status(), "exited");
    assert_eq!(rbox.run(["start", "--all"]).success().lines().count(), 1);
    until(|| two.logs(), |logs| logs == "1\n2\n");
    rbox.run(["stop", "-t", "0", "two"]).success();
    assert_eq!(rbox.run(["restart", "-t", "0", "--all"]).success().lines().count(), 2);
    until(|| (one.logs(), two.logs()), |logs| logs.0 == "1\n2\n3\n" && logs.1 == "1\n2\n3\n");
    let outcome = rbox.run(["restart", "front"]).exits(125);
    assert!(outcome.stderr.contains("foreground"), "{}", outcome.stderr);
    rbox.run(["exec", "front", "true"]).success();
    rbox.run(["stop", "-t", "0", "front"]).success();
    front.wait();
    Ok(())
}

#[test]
fn followers_lose_no_line_where_files_are_continued_in_new_ones() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    // Room for all of it, in some twenty files.
    let flags = ["--log-opt", "max-size=64k", "--log-opt", "max-file=60"];
    let script = "until test -e /go; do sleep 0.05; done; seq 1 20000; echo the end; exec sleep 1000";
    let container = Detached::start(&rbox, &image, "box", &flags, script);
    let followers = [(); 2].map(|()| rbox.start(["logs", "--follow", "box"]));
    rbox.run(["exec", "box", "touch", "/go"]).success();
    let expected: String = (1..=20_000).map(|number| format!("{number}\n")).collect();
    let id = container.inspect(&["Id"]);
    let newest_but_nine = format!("containers/{}/log.9", id.as_str().unwrap_or_default());
    for mut follower in followers {
        let lines = follower.expect("the end\n");
        assert!(lines == expected, "{} bytes of {}", lines.len(), expected.len());
        assert!(rbox.store().join(&newest_but_nine).exists());
        follower.signal("TERM")?;
        follower.wait();
    }
    Ok(())
}
