//! `rbox pause` and `rbox unpause`.

use anyhow::Result;
use rbox_tests::detached::Detached;
use rbox_tests::patience::until;
use rbox_tests::processes;
use rbox_tests::rbox::Rbox;

/// Prints the state of each process, as proc_pid_stat(5) has it.
fn states(rbox: &Rbox) -> Vec<String> {
    let text = rbox.run(["top", "box", "state"]).success();
    text.lines().skip(1).map(|line| line.trim().to_owned()).collect()
}

const FORKS: &str = "forks() { while :; do /bin/true; (:); done; }; ";

#[test]
fn every_process_stands_still_and_goes_on() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let script = format!("{FORKS} forks & forks & forks & echo ready; while :; do echo tick; sleep 0.01; done");
    let container = Detached::start(&rbox, &image, "box", &[], &script);
    // One whose parent is outside, and that has another user id.
    let forks = format!("{FORKS} forks");
    rbox.run(["exec", "-d", "-u", "1234", "box", "sh", "-c", &forks]).success();
    until(|| container.logs(), |logs| logs.contains("tick"));
    assert_eq!(rbox.run(["pause", "box"]).success(), "box\n");
    for _ in 0..2 {
        let states = states(&rbox);
        assert!(states.len() >= 5 && states.iter().all(|state| ["T", "Z", "D"].contains(&&**state)), "{states:?}");
    }
    assert_eq!(container.status(), "paused");
    assert_eq!(
        (container.inspect(&["State", "Paused"]), container.inspect(&["State", "Running"])),
        (true.into(), true.into())
    );
    let listed =
        rbox.run(["ps", "--filter", "status=paused", "--format", "{{.Names}} {{.State}} {{.Status}}"]).success();
    assert!(listed.starts_with("box paused Up ") && listed.ends_with(" (Paused)\n"), "{listed:?}");
    assert_eq!(rbox.run(["ps", "-q", "--filter", "status=running"]).success(), "");
    let refused: [&[&str]; 4] = [&["exec", "box", "true"], &["pause", "box"], &["attach", "box"], &["start", "box"]];
    for words in refused {
        let outcome = rbox.run(words.iter().copied()).exits(125);
        assert!(outcome.stderr.contains("is paused") && outcome.stderr.contains("rbox unpause"), "{outcome:?}");
    }
    let ticks = container.logs().len();
    assert_eq!(rbox.run(["unpause", "box"]).success(), "box\n");
    until(|| container.logs().len(), |length| *length > ticks);
    until(|| states(&rbox), |states| !states.iter().any(|state| state == "T"));
    rbox.run(["exec", "box", "true"]).success();
    let outcome = rbox.run(["unpause", "box"]).exits(125);
    assert!(outcome.stderr.contains("is not paused"), "{outcome:?}");
    let events = ["events", "--no-stream", "--filter", "event=pause", "--filter", "event=unpause"];
    assert_eq!(rbox.run(events).success().lines().count(), 2);
    Ok(())
}

#[test]
fn what_is_paused_can_be_ended() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let script = "trap 'wait; echo asked; exit 3' TERM; sleep 0.01 & echo ready; while :; do sleep 0.01; done";
    let container = Detached::start(&rbox, &image, "box", &[], script);
    let paused = |logs: &str| {
        until(|| container.logs(), |printed| printed == logs);
        rbox.run(["pause", "--all"]).success();
        assert_eq!(container.status(), "paused");
    };
    paused("ready\n");
    rbox.run(["stop", "-t", "-1", "box"]).success();
    assert_eq!(container.inspect(&["State", "ExitCode"]), 3, "it went on to do what it was asked for");
    rbox.run(["pause", "box"]).exits(125);
    rbox.run(["unpause", "box"]).exits(125);

    rbox.run(["start", "box"]).success();
    paused("ready\nasked\nready\n");
    rbox.run(["kill", "-s", "TERM", "box"]).success();
    until(|| container.status(), |status| status == "exited");
    assert_eq!(container.inspect(&["State", "ExitCode"]), 3);

    // A life that was paused at its end says nothing of the next one.
    rbox.run(["start", "box"]).success();
    paused("ready\nasked\nready\nasked\nready\n");
    processes::signal(container.monitor(), "KILL")?;
    until(|| container.status(), |status| status == "dead");
    rbox.run(["start", "box"]).success();
    assert_eq!(container.status(), "running");
    rbox.run(["pause", "box"]).success();
    rbox.run(["rm", "box"]).exits(2);
    rbox.run(["rm", "--force", "box"]).success();
    until(|| rbox.files("containers"), Vec::is_empty);
    Ok(())
}

#[test]
fn what_runs_in_front_and_what_is_not_alone() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let mut front = rbox.start(["run", "--rm", "--name", "box", &image, "sh", "-c", "echo ready; read x; sleep 1000"]);
    front.expect("ready");
    rbox.run(["pause", "box"]).success();
    assert_eq!(rbox.run(["unpause", "--all"]).success().lines().count(), 1);
    rbox.run(["exec", "box", "true"]).success();
    rbox.run(["pause", "box"]).success();
    rbox.run(["rm", "--force", "box"]).success();
    assert_eq!(front.wait(), 137);

    let words = ["run", "--rm", "--pid=host", "--name", "box", &image, "sh", "-c", "echo ready; exec sleep 1000"];
    let mut of_host = rbox.start(words);
    of_host.expect("ready");
    let outcome = rbox.run(["pause", "box"]).exits(125);
    assert!(outcome.stderr.contains("process ids are the host's"), "{outcome:?}");
    rbox.run(["rm", "--force", "box"]).success();
    of_host.wait();
    Ok(())
}

/// A service manager or a logout signals the monitor.
#[test]
fn what_is_paused_is_asked_to_end_with_its_monitor() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let script = "trap 'exit 3' TERM; echo ready; while :; do sleep 0.01; done";
    let container = Detached::start(&rbox, &image, "box", &["--stop-timeout=100"], script);
    until(|| container.logs(), |logs| logs == "ready\n");
    let monitor = container.monitor();
    rbox.run(["pause", "box"]).success();
    processes::signal(monitor, "TERM")?;
    until(|| container.status(), |status| status == "exited");
    assert_eq!(container.inspect(&["State", "ExitCode"]), 3);
    Ok(())
}
