//! `rbox run --init`: rbox stays as the container's first process, and the workload is its child.

use anyhow::Result;
use rbox_tests::patience::until;
use rbox_tests::processes;
use rbox_tests::rbox::Rbox;
use rbox_tests::running::Running;
use rbox_tests::terminal::Terminal;

#[test]
fn the_workload_is_not_the_first_process() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let script = "test $$ != 1 && echo $PPID; cat /proc/1/comm; set -- /proc/[0-9]*; echo $#";
    assert_eq!(rbox.sh(&image, &["--init"], script), "1\nrbox-init\n2");
    assert_eq!(rbox.sh(&image, &[], "echo $$"), "1");
    Ok(())
}

/// Without `--init` the same orphan is seen to stay a zombie: nobody but its parent could reap it, and `sleep` does not.
#[test]
fn orphans_are_reaped() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let orphan = "(sh -c 'echo $$ > /orphan' &); until test -s /orphan; do sleep 0.05; done; cat /orphan";
    for (flags, left) in [(&["--init"][..], ""), (&[], "Z")] {
        let words = [&["run", "--rm", "--name", "box"], flags, &[&image, "sh", "-c", "echo ready; exec sleep 1000"]];
        let mut running = rbox.start(words.concat());
        running.expect("ready");
        let exec = |script: &str| rbox.run(["exec", "box", "sh", "-c", script]);
        let pid = until(|| exec(orphan), |outcome| outcome.status == 0).stdout;
        let look = format!("cut -d' ' -f3 /proc/{}/stat 2>/dev/null; :", pid.trim());
        until(|| exec(&look).success().trim().to_owned(), |state| state == left);
        rbox.run(["rm", "--force", "box"]).success();
        running.wait();
    }
    Ok(())
}

#[test]
fn the_exit_status_is_the_workloads() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    for (script, status) in [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill -TERM $$", 143)] {
        rbox.run(["run", "--rm", "--init", &image, "sh", "-c", script]).exits(status);
    }
    let outcome = rbox.run(["run", "--rm", "--init", &image, "no-such-program"]).exits(127);
    assert!(outcome.stderr.contains("no-such-program"), "{}", outcome.stderr);
    rbox.run(["run", "--rm", "--init", &image, "/etc/passwd"]).exits(126);
    Ok(())
}

#[test]
fn what_the_workload_leaves_behind_ends_with_it() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    // The sleep would keep neither the container nor, by its output, the test.
    assert_eq!(rbox.sh(&image, &["--init"], "sleep 1000 & echo done"), "done");
    Ok(())
}

#[test]
fn signals_are_handed_on() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let start = |script: &str| {
        let words = ["run", "--rm", "--init", &image, "sh", "-c", script];
        let mut running = Running::start(&mut rbox.command_under(&["env", "--default-signal"], words))?;
        running.expect("ready");
        anyhow::Ok(running)
    };
    for (signal, status) in [("TERM", 40), ("INT", 41), ("HUP", 42), ("USR1", 43), ("QUIT", 44)] {
        let mut running = start(&format!("trap 'exit {status}' {signal}; echo ready; while :; do sleep 0.05; done"))?;
        running.signal(signal)?;
        assert_eq!(running.wait(), status, "{signal}");
    }
    // It is no first process, and so its signals act by default too.
    let mut running = start("echo ready; exec sleep 1000")?;
    running.signal("TERM")?;
    assert_eq!(running.wait(), 143);
    Ok(())
}

#[test]
fn keys_at_a_terminal_reach_the_workload_once() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let command = rbox.command(["run", "--rm", "-it", "--init", "-e", "PS1=ready> ", &image, "sh"]);
    let mut terminal = Terminal::start(&command, 30, 100)?;
    let said = terminal.expect("ready> ");
    assert!(!said.contains("job control"), "{said}");
    terminal.send("stty size; sh -c 'echo running $((40 + 2)); sleep 1000'\r")?;
    terminal.expect("30 100");
    terminal.expect("running 42");
    terminal.send("\x03")?;
    terminal.expect("ready> ");
    terminal.send("sh -c 'echo running $((40 + 3)); exec sleep 1000'\r")?;
    terminal.expect("running 43");
    terminal.send("\x1a")?;
    terminal.expect("Stopped");
    terminal.send("kill -KILL %1; wait; n=0; trap 'n=$((n + 1)); echo caught $n' INT; echo trap''ped\r")?;
    terminal.expect("trapped");
    terminal.expect("ready> ");
    terminal.send("\x03")?;
    terminal.send("sleep 0.5; echo in all $n\r")?;
    terminal.expect("in all 1");
    terminal.send("exit 5\r")?;
    assert_eq!(terminal.wait(), 5);
    assert_eq!(terminal.modes()?, terminal.modes_at_start());
    Ok(())
}

/// Who took it over would gain nothing, and nobody looks into it.
///
/// To see it fail: take `caps::set` or `process::keep_only` out of `reaper::begin` (runtime), or have `init::run` begin it
/// before `Program::limit`.
#[test]
fn it_may_do_no_more_than_the_workload() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let confinement = "grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp)' /proc/";
    let script = format!("{confinement}1/status; echo; {confinement}self/status");
    for flags in [
        &[][..],
        &["--cap-drop", "ALL", "--cap-add", "SYS_PTRACE"],
        &["-u", "77:88", "--cap-add", "NET_ADMIN"],
        &["--security-opt", "no-new-privileges"],
        &["--privileged"],
    ] {
        let seen = rbox.sh(&image, &[&["--init"], flags].concat(), &script);
        let (first, workload) = seen.split_once("\n\n").expect("two of them");
        assert_eq!(first, workload, "{flags:?}");
    }
    let look = "readlink /proc/1/exe /proc/1/cwd /proc/1/root; ls /proc/1/fd 2>/dev/null | wc -l; \
        echo x 2>/dev/null > /proc/1/mem || echo hidden";
    assert_eq!(rbox.sh(&image, &["--init"], look), "0\nhidden");
    // With the right to look: nothing is open, and the binary cannot be written.
    let look = "ls /proc/1/fd | wc -l; echo x 2>/dev/null > /proc/1/exe || echo refused";
    assert_eq!(rbox.sh(&image, &["--init", "--privileged"], look), "0\nrefused");
    Ok(())
}

#[test]
fn it_ends_with_its_supervisor() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let mark = format!("TEST={}", rbox.home().display());
    let mut running = rbox.start(["run", "--rm", "--init", "-e", &mark, &image, "sh", "-c", "echo ready; sleep 1000"]);
    running.expect("ready");
    // In the middle of an execve(2) a process has no environment.
    until(|| processes::with_variable(&mark), |found| !found.is_empty());
    running.kill();
    until(|| processes::with_variable(&mark), Vec::is_empty);
    Ok(())
}
