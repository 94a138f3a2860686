//! `rbox attach` and `rbox start -a`: what a detached container prints, and what it reads.

use std::fs::{self, File};

use anyhow::Result;
use rbox_tests::detached::Detached;
use rbox_tests::patience::until;
use rbox_tests::rbox::Rbox;
use rbox_tests::running::Running;
use rbox_tests::terminal::Terminal;

/// It prints `begin` when it may, so that who is attached by then misses nothing.
const WAITS: &str = "until test -e /go; do sleep 0.05; done; ";

#[test]
fn several_see_the_same_and_its_status() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let script = format!("{WAITS} echo out; echo err >&2; until test -e /end; do sleep 0.05; done; exit 9");
    let _container = Detached::start(&rbox, &image, "box", &[], &script);
    let mut clients: Vec<_> = (0..3).map(|_| rbox.start(["attach", "--no-stdin", "box"])).collect();
    // There is no sign of being attached but what comes through.
    let attached = || rbox.run(["exec", "box", "sh", "-c", "echo ping > /proc/1/fd/1"]);
    for client in &mut clients {
        until(
            || {
                attached();
                client.has_printed("ping")
            },
            |seen| *seen,
        );
    }
    rbox.run(["exec", "box", "touch", "/go"]).success();
    for client in &mut clients {
        client.expect("out\n");
    }
    rbox.run(["exec", "box", "touch", "/end"]).success();
    for client in &mut clients {
        assert_eq!(client.wait(), 9);
    }
    Ok(())
}

#[test]
fn start_attached_misses_nothing() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let container = Detached::start(&rbox, &image, "box", &["-i"], "cat; echo end >&2; exit 5");
    rbox.run(["stop", "-t", "0", "box"]).success();
    let outcome = rbox.run_with_input(["start", "-a", "-i", "box"], b"in and out\n").exits(5);
    assert_eq!((&*outcome.stdout, &*outcome.stderr), ("in and out\n", "end\n"));
    assert_eq!(container.logs(), "in and out\n", "and the log has it too");
    Ok(())
}

/// More than all buffers on the way hold, and out comes twice what goes in: a client that would wait until its input is
/// taken, before it takes any output, would wait for ever.
#[test]
fn much_goes_through_whole() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let _container = Detached::start(&rbox, &image, "box", &["--log-driver", "none", "-i"], "tee /dev/stderr");
    rbox.run(["stop", "-t", "0", "box"]).success();
    let input: String =
        (0..2_000_000_u32).map(|number| format!("{:x}\n", number.wrapping_mul(2_654_435_761))).collect();
    let outcome = rbox.run_with_input(["start", "-ai", "box"], input.as_bytes()).exits(0);
    for output in [outcome.stdout, outcome.stderr] {
        assert!(output == input, "{} bytes of {}", output.len(), input.len());
    }
    Ok(())
}

#[test]
fn one_leaves_a_terminal_and_comes_back() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let container = Detached::start(&rbox, &image, "box", &["-it", "-e", "PS1=ready> "], "exec sh");
    let attach = || Terminal::start(&rbox.command(["attach", "box"]), 30, 100);
    let mut first = attach()?;
    first.send("echo $((40 + 2))\r")?;
    first.expect("42");
    first.send("until stty size | grep '^30 100$'; do sleep 0.1; done\r")?;
    first.expect("30 100");
    assert_ne!(first.modes()?, first.modes_at_start(), "raw while one is attached");
    first.send("kept=$((40 + 3))\r\x10\x11")?;
    assert_eq!(first.wait(), 0);
    assert_eq!(first.modes()?, first.modes_at_start());
    assert_eq!(container.status(), "running");

    let mut second = attach()?;
    second.send("echo =$kept=\r")?;
    second.expect("=43=");
    second.resize(12, 34)?;
    second.send("until stty size | grep '^12 34$'; do sleep 0.1; done\r")?;
    second.expect("12 34");
    second.send("exit 6\r")?;
    assert_eq!(second.wait(), 6);
    until(|| container.status(), |status| status == "exited");
    Ok(())
}

#[test]
fn a_run_at_a_terminal_is_left_and_come_back_to() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    for (flags, keys) in [(&[][..], "\x10\x11"), (&["--detach-keys", "ctrl-a,d"][..], "\x01d")] {
        let words = [&["run", "--rm", "-it", "--name", "box", "-e", "PS1=ready> "], flags, &[&image, "sh"]].concat();
        let mut run = Terminal::start(&rbox.command(words), 24, 80)?;
        run.expect("ready> ");
        run.send(&format!("kept=$((40 + 2))\r{keys}"))?;
        assert_eq!(run.wait(), 0);
        assert_eq!(run.modes()?, run.modes_at_start());
        let mut back = Terminal::start(&rbox.command(["attach", "box"]), 24, 80)?;
        back.send("echo =$kept=\r")?;
        back.expect("=42=");
        back.send("exit 6\r")?;
        assert_eq!(back.wait(), 6);
        assert!(rbox.files("containers").is_empty(), "whoever waits for it finds it gone");
    }
    // None to leave by.
    let words = ["run", "--rm", "-it", "--detach-keys", "", "-e", "PS1=ready> ", &image, "sh"];
    let mut run = Terminal::start(&rbox.command(words), 24, 80)?;
    run.expect("ready> ");
    run.send("\x10\x11exit $((3 + 2))\r")?;
    assert_eq!(run.wait(), 5);
    assert!(rbox.files("containers").is_empty());
    Ok(())
}

#[test]
fn a_run_shows_what_it_is_attached_to() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let script = "cat; echo out; echo err >&2; exit 3";
    let run = |flags: &[&str], input: &[u8]| {
        rbox.run_with_input([&["run", "-i", "--name", "box"], flags, &[&image, "sh", "-c", script]].concat(), input)
    };
    let again = || rbox.run(["rm", "--force", "box"]).success();
    let outcome = run(&["-a", "stdin", "-a", "stdout"], b"in\n").exits(3);
    assert_eq!((&*outcome.stdout, &*outcome.stderr), ("in\nout\n", ""));
    again();
    let outcome = run(&["--attach=stdin,STDERR"], b"in\n").exits(3);
    assert_eq!((&*outcome.stdout, &*outcome.stderr), ("", "err\n"));
    again();
    // It has all of its input, and goes on by itself.
    let id = run(&["-a", "stdin"], b"in\n").success();
    assert_eq!(id.len(), 65, "{id:?}");
    until(|| rbox.run(["logs", "box"]), |logs| (&*logs.stdout, &*logs.stderr) == ("in\nout\n", "err\n"));
    until(|| rbox.run(["ps"]).success().lines().count(), |lines| *lines == 1);
    again();
    // Nobody gives it input, and nobody takes that away from it.
    let words = ["run", "-i", "-a", "stdout", "--name", "box", &image, "sh", "-c", "echo begun; cat"];
    let mut running = rbox.start(words);
    running.expect("begun");
    assert_eq!(rbox.run(["ps"]).success().lines().count(), 2);
    again();
    assert_eq!(running.wait(), 137);

    rbox.run(["run", "-d", "-a", "stdout", &image, "true"]).exits(125);
    rbox.run(["run", "-a", "stdnone", &image, "true"]).exits(125);
    rbox.run(["run", "-a", "stdout", "--explain", &image, "true"]).exits(125);
    Ok(())
}

#[test]
fn a_run_hands_on_signals_or_keeps_them() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let script = "trap 'exit 4' INT; echo ready; while :; do sleep 0.05; done";
    let run = |flag| rbox.start(["run", "--name", "box", flag, &image, "sh", "-c", script]);
    let mut handed_on = run("--sig-proxy=true");
    handed_on.expect("ready");
    handed_on.signal("INT")?;
    assert_eq!(handed_on.wait(), 4);
    rbox.run(["rm", "box"]).success();
    let mut kept = run("--sig-proxy=false");
    kept.expect("ready");
    kept.signal("INT")?;
    kept.wait();
    assert_eq!(rbox.run(["ps"]).success().lines().count(), 2, "it goes on by itself");
    rbox.run(["rm", "--force", "box"]).success();
    Ok(())
}

#[test]
fn a_client_that_is_killed_or_reads_nothing_harms_nobody() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let script = format!("{WAITS} seq 1 200000; echo the end; exec sleep 1000");
    let container = Detached::start(&rbox, &image, "box", &[], &script);
    let killed = rbox.start(["attach", "--no-stdin", "box"]);
    let said = rbox.home().join("said");
    let mut stopped = Running::start(rbox.command(["attach", "--no-stdin", "box"]).stderr(File::create(&said)?))?;
    // There is no sign of being attached but what comes through.
    let ping = || rbox.run(["exec", "box", "sh", "-c", "echo ping > /proc/1/fd/1"]);
    until(|| [ping().status, stopped.has_printed("ping").into()], |seen| *seen == [0, 1]);
    stopped.signal("STOP")?;
    killed.kill();
    rbox.run(["exec", "box", "touch", "/go"]).success();
    until(|| container.logs(), |logs| logs.ends_with("200000\nthe end\n"));
    // It does not say that it has all, and does not wait for an end that may never come.
    stopped.signal("CONT")?;
    assert_eq!(stopped.wait(), 125);
    let said = fs::read_to_string(said)?;
    assert!(said.contains("was not taken for too long") && said.contains("hint: rbox logs box"), "{said}");
    assert_eq!(container.status(), "running");
    Ok(())
}

#[test]
fn who_has_no_monitor_cannot_be_attached_to() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let mut running = rbox.start(["run", "--rm", "--name", "box", &image, "sh", "-c", "echo ready; exec sleep 1000"]);
    running.expect("ready");
    let outcome = rbox.run(["attach", "box"]).exits(125);
    assert!(outcome.stderr.contains("foreground") && outcome.stderr.contains("hint:"), "{}", outcome.stderr);
    rbox.run(["attach", "nobody"]).exits(125);
    Ok(())
}
