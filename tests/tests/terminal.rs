//! `rbox run -it`: a person at a terminal.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};

use anyhow::Result;
use rbox_sys::tty;
use rbox_tests::rbox::Rbox;
use rbox_tests::terminal::Terminal;

/// An interactive shell in the small image, at its prompt.
fn shell(rbox: &Rbox, name: &str) -> Result<Terminal> {
    let mut command = rbox.command(["run", "--rm", "-it", "-e", "PS1=ready> ", name, "sh"]);
    command.env("TERM", "xterm-256color");
    Terminal::start(&command, 30, 100)
}

#[test]
fn a_shell_and_its_size() -> Result<()> {
    let (rbox, name) = Rbox::with_small_image()?;
    let mut terminal = shell(&rbox, &name)?;
    terminal.expect("ready> ");
    terminal.send("tty; stty size\r")?;
    terminal.expect("/dev/pts/0");
    terminal.expect("30 100");
    terminal.resize(12, 34)?;
    // The new size arrives by a signal; ask until it is there.
    terminal.send("until stty size | grep '^12 34$'; do sleep 0.1; done; echo re''sized\r")?;
    terminal.expect("resized");
    terminal.send("echo $TERM; test -t 0 -a -t 1 -a -t 2 && echo all''three\r")?;
    terminal.expect("xterm");
    terminal.expect("allthree");
    terminal.send("exit 7\r")?;
    assert_eq!(terminal.wait(), 7);
    Ok(())
}

#[test]
fn keys_are_the_containers() -> Result<()> {
    let (rbox, name) = Rbox::with_small_image()?;
    let mut terminal = shell(&rbox, &name)?;
    terminal.expect("ready> ");
    // What the programs print is computed, so that it is not in what the terminal echoes.
    // ^C ends what runs in front, not rbox.
    terminal.send("sh -c 'echo running $((40 + 2)); sleep 1000'\r")?;
    terminal.expect("running 42");
    terminal.send("\x03")?;
    terminal.expect("ready> ");
    // ^Z is job control inside, and does not stop rbox.
    let job = "trap \"echo continued \\$((40 + 4))\" CONT; echo running $((40 + 3)); while :; do sleep 0.1; done";
    terminal.send(&format!("sh -c '{job}'\r"))?;
    terminal.expect("running 43");
    terminal.send("\x1a")?;
    terminal.expect("ready> ");
    terminal.send("jobs\r")?;
    terminal.expect("Stopped");
    // A stopped job would keep the shell from leaving, and so would one that it has not seen the end of.
    terminal.send("fg\r")?;
    terminal.expect("continued 44");
    terminal.send("\x03")?;
    // ^D ends the shell. Before the prompt the line discipline would take it.
    terminal.expect("ready> ");
    terminal.send("\x04")?;
    terminal.wait();
    Ok(())
}

#[test]
fn the_modes_come_back_on_every_exit() -> Result<()> {
    let (rbox, name) = Rbox::with_small_image()?;
    for ending in ["exit 0\r", "exit 3\r", "exec sh -c 'exit 9'\r", "exec sleep 0\r"] {
        let mut command = rbox.command(["run", "--rm", "-it", "-e", "PS1=ready> ", &name, "sh"]);
        command.env("TERM", "xterm");
        let mut terminal = Terminal::start(&command, 24, 80)?;
        terminal.expect("ready> ");
        assert_ne!(terminal.modes()?, terminal.modes_at_start(), "raw while the shell runs");
        terminal.send(ending)?;
        terminal.wait();
        assert_eq!(terminal.modes()?, terminal.modes_at_start(), "after {ending:?}");
    }
    Ok(())
}

#[test]
fn the_modes_come_back_after_a_signal_and_an_error() -> Result<()> {
    let (rbox, name) = Rbox::with_small_image()?;
    for signal in ["HUP", "TERM"] {
        let mut terminal = shell(&rbox, &name)?;
        terminal.expect("ready> ");
        terminal.signal(signal)?;
        terminal.wait();
        assert_eq!(terminal.modes()?, terminal.modes_at_start());
        // As in Docker, it goes on, and one can come back to it.
        let id = rbox.run(["ps", "-q"]).success();
        rbox.run(["rm", "--force", id.trim()]).success();
    }

    let mut failing = Terminal::start(&rbox.command(["run", "--rm", "-it", &name, "no-such-program"]), 24, 80)?;
    assert_eq!(failing.wait(), 127);
    assert_eq!(failing.modes()?, failing.modes_at_start());
    Ok(())
}

/// The terminal itself goes: whoever leads its session is hung up, and rbox finds that there is nothing to be read.
#[test]
fn a_run_outlives_its_terminal() -> Result<()> {
    let (rbox, name) = Rbox::with_small_image()?;
    let (mut master, slave) = {
        let (master, slave) = tty::open_pty_at(File::open("/dev")?.as_fd(), "ptmx")?;
        (File::from(master), slave)
    };
    let run = rbox.command(["run", "--rm", "-it", "--name", "box", &name, "sh", "-c", "echo ready; cat; exit 9"]);
    let mut on_terminal = Command::new("setsid");
    on_terminal
        .args(["--ctty", "sh", "-c", "trap '' HUP; \"$@\"; exit", "sh"])
        .arg(run.get_program())
        .args(run.get_args())
        .env_clear();
    on_terminal.envs(run.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let end = || slave.try_clone().map(Stdio::from);
    let mut child = on_terminal.stdin(end()?).stdout(end()?).stderr(end()?).spawn()?;
    drop((on_terminal, slave));
    let mut printed = Vec::new();
    while !printed.windows(5).any(|bytes| bytes == b"ready") {
        let mut byte = [0];
        master.read_exact(&mut byte)?;
        printed.extend(byte);
    }
    drop(master);
    child.wait()?;
    let mut back = Terminal::start(&rbox.command(["attach", "box"]), 24, 80)?;
    back.send("still here\r")?;
    back.expect("still here");
    // Once from the terminal, and once from what reads it.
    back.expect("still here");
    back.send("\x04")?;
    assert_eq!(back.wait(), 9);
    Ok(())
}

/// What is explained is supervised by its caller.
#[test]
fn a_run_that_cannot_be_left() -> Result<()> {
    let (rbox, name) = Rbox::with_small_image()?;
    let run = ["run", "--rm", "-it", "--name", "box", "--explain-denied", "-e", "PS1=ready> "];
    let mut terminal = Terminal::start(&rbox.command([&run[..], &[&name, "sh"]].concat()), 24, 80)?;
    terminal.expect("ready> ");
    terminal.send("\x10\x11echo $((40 + 2)); exit 3\r")?;
    terminal.expect("42");
    assert_eq!(terminal.wait(), 3);
    let outcome = rbox.run([&run[..], &["--detach-keys", "x", &name, "true"]].concat()).exits(125);
    assert!(outcome.stderr.contains("--explain-denied"), "{}", outcome.stderr);
    rbox.run([&run[..], &["--detach-keys", "", &name, "true"]].concat()).success();
    Ok(())
}

#[test]
fn much_output_is_not_lost() -> Result<()> {
    let (rbox, name) = Rbox::with_small_image()?;
    let command = rbox.command(["run", "--rm", "-t", &name, "sh", "-c", "seq 1 200000; echo the-end"]);
    let mut terminal = Terminal::start(&command, 24, 80)?;
    let all = terminal.expect("the-end");
    assert_eq!(terminal.wait(), 0);
    let lines: Vec<&str> = all.split("\r\n").filter(|line| !line.is_empty()).collect();
    assert_eq!(lines.len(), 200_000);
    assert_eq!(lines.last(), Some(&"200000"));
    Ok(())
}

#[test]
fn a_terminal_that_is_not_there() -> Result<()> {
    let (rbox, name) = Rbox::with_small_image()?;
    // -t gives the container a terminal of its own, even where rbox has none; -i alone gives it a pipe.
    let inside = ["run", "--rm", "-t", &name, "sh", "-c", "test -t 1 && echo terminal"];
    assert_eq!(rbox.run(inside).success().trim(), "terminal");
    let input = rbox.run_with_input(["run", "--rm", "-i", &name, "cat"], b"in and out");
    assert_eq!(input.success(), "in and out");
    Ok(())
}

#[test]
fn what_is_typed_and_never_read_is_in_nobodys_way() -> Result<()> {
    let (rbox, name) = Rbox::with_small_image()?;
    // More than the terminal holds, each way.
    let typed = "line\n".repeat(200_000);
    for flag in [None, Some("--explain")] {
        let words = ["run", "--rm", "-it"].into_iter().chain(flag);
        let words = words.chain([&*name, "sh", "-c", "stty -echo; yes printed | head -n 100000; exit 3"]);
        let outcome = rbox.run_with_input(words, typed.as_bytes()).exits(3);
        assert_eq!(outcome.stdout.matches("printed\r\n").count(), 100_000, "{flag:?}");
    }
    Ok(())
}
