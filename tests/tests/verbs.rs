//! What one does with containers besides running them: rename, kill, wait, top, stats, port, rm and prune.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result};
use rbox_tests::patience::until;
use rbox_tests::rbox::{Rbox, by_copies};
use rbox_tests::running::Running;

/// A container of the small image that runs, as `name`, with these flags.
fn running(rbox: &Rbox, image: &str, name: &str, flags: &[&str], script: &str) -> Running {
    let script = format!("echo ready; {script}");
    let words = [&["run", "--name", name], flags, &[image, "sh", "-c", &script]].concat();
    let mut running = rbox.start(words);
    running.expect("ready");
    // The supervisor learns of it a moment after the workload itself, and whoever comes in waits for that.
    rbox.run(["exec", name, "true"]);
    running
}

/// Does nothing, and ends when it is asked to.
const IDLE: &str = "trap 'exit 7' TERM; while :; do sleep 0.05; done";

/// How many wait for the end of a container: they have the file open that they are told in.
fn waiters(rbox: &Rbox, name: &str) -> usize {
    let id = rbox.run(["inspect", "-f", "{{.Id}}", name]).success();
    let file = rbox.store().join("containers").join(id.trim()).join("waiters.json");
    let list = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    let open = |process: &Path| list(&process.join("fd")).any(|fd| fs::read_link(fd).is_ok_and(|path| path == file));
    list(Path::new("/proc")).filter(|process| open(process)).count()
}

#[test]
fn a_container_gets_another_name() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    rbox.run(["run", "--name", "one", &image, "true"]).success();
    rbox.run(["run", "--name", "two", &image, "true"]).success();
    rbox.run(["rename", "one", "two"]).refused(&["two", "is taken"]);
    rbox.run(["rename", "one", "one"]).refused(&["one", "is taken"]);
    rbox.run(["rename", "nobody", "three"]).refused(&["no such container"]);
    rbox.run(["rename", "one", "a/b"]).refused(&["a/b"]);
    assert_eq!(rbox.run(["rename", "one", "three"]).success(), "");
    assert_eq!(rbox.run(["inspect", "-f", "{{.Name}}", "three"]).success(), "three\n");
    rbox.run(["inspect", "one"]).refused(&["one"]);
    // Its old name is free.
    rbox.run(["run", "--rm", "--name", "one", &image, "true"]).success();
    rbox.run(["rm", "two", "three"]).success();
    assert_eq!(rbox.run(["ps", "-aq"]).success(), "");
    Ok(())
}

#[test]
fn a_container_is_renamed_while_it_runs() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let mut running = running(&rbox, &image, "one", &["--rm"], IDLE);
    rbox.run(["rename", "one", "two"]).success();
    assert_eq!(rbox.run(["ps", "--format", "{{.Names}}"]).success(), "two\n");
    rbox.run(["exec", "two", "true"]).success();
    rbox.run(["kill", "-s", "TERM", "two"]).success();
    assert_eq!(running.wait(), 7);
    // Its supervisor took it away by the name that it has now.
    assert_eq!(rbox.run(["ps", "-aq"]).success(), "");
    assert_eq!(fs::read_dir(rbox.store().join("container-names"))?.count(), 0);
    Ok(())
}

#[test]
fn signals_by_name_and_number() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let script = "trap 'echo got usr1' USR1; trap 'echo got hup' HUP; while :; do sleep 0.05; done";
    let mut first = running(&rbox, &image, "one", &[], script);
    for (signal, answer) in [("USR1", "got usr1"), ("SIGHUP", "got hup"), ("10", "got usr1")] {
        assert_eq!(rbox.run(["kill", "--signal", signal, "one"]).success(), "one\n");
        first.expect(answer);
    }
    rbox.run(["kill", "-s", "NONE", "one"]).refused(&["NONE", "such as TERM"]);
    rbox.run(["kill", "nobody"]).refused(&["no such container"]);
    let mut second = running(&rbox, &image, "two", &[], IDLE);
    // KILL, and for all that run.
    let killed = rbox.run(["kill", "--all"]).success();
    assert_eq!(killed.lines().count(), 2, "{killed}");
    assert_eq!((first.wait(), second.wait()), (137, 137));
    rbox.run(["kill", "one"]).refused(&["one", "not running"]);
    Ok(())
}

#[test]
fn the_end_of_a_container_is_waited_for() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    rbox.run(["run", "--name", "over", &image, "sh", "-c", "exit 3"]).exits(3);
    // One that is over is not waited for; each has a line.
    assert_eq!(rbox.run(["wait", "over", "over"]).success(), "3\n3\n");
    for flags in [&[][..], &["--rm"]] {
        let mut container = running(&rbox, &image, "one", flags, IDLE);
        let mut waits = [rbox.start(["wait", "one"]), rbox.start(["wait", "--condition", "exited", "one"])];
        until(|| waiters(&rbox, "one"), |count| *count == 2);
        assert!(!waits.iter_mut().any(Running::has_ended));
        rbox.run(["kill", "-s", "TERM", "one"]).success();
        for mut wait in waits {
            assert_eq!((wait.expect("\n").as_str(), wait.wait()), ("7", 0), "{flags:?}");
        }
        assert_eq!(container.wait(), 7);
        rbox.run(["rm", "--ignore", "one"]).success();
    }
    rbox.run(["wait", "nobody"]).refused(&["no such container"]);
    assert_eq!(rbox.run(["wait", "--ignore", "nobody", "over"]).success(), "-1\n3\n");
    rbox.run(["wait", "--condition", "happy", "over"]).refused(&["happy", "expected stopped"]);
    Ok(())
}

#[test]
fn the_beginning_and_the_removal_are_waited_for() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let mut container = running(&rbox, &image, "one", &["--rm"], IDLE);
    assert_eq!(rbox.run(["wait", "--condition", "running", "one"]).success(), "-1\n");
    let mut wait = rbox.start(["wait", "--condition", "removed", "--interval", "10ms", "one"]);
    until(|| waiters(&rbox, "one"), |count| *count == 1);
    rbox.run(["kill", "-s", "TERM", "one"]).success();
    assert_eq!(wait.expect("\n"), "7");
    assert_eq!(rbox.run(["ps", "-aq"]).success(), "");
    assert_eq!((container.wait(), wait.wait()), (7, 0));
    Ok(())
}

#[test]
fn processes_of_a_container() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let flags = ["--user", "nobody"];
    let _container = running(&rbox, &image, "one", &flags, "sleep 1000 & exec sleep 2000");
    let top = |columns: &[&str]| {
        let printed = rbox.run([&["top", "one"], columns].concat()).success();
        printed.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
    };
    let all = top(&[]);
    assert_eq!(all[0], "USER PID PPID %CPU ELAPSED TTY TIME COMMAND");
    assert_eq!(all.len(), 3, "{all:?}");
    assert!(all[1].starts_with("nobody 1 0 ") && all[1].ends_with(" ? 0s sleep 2000"), "{all:?}");
    for columns in
        [&["pid", "ppid", "args"][..], &["pid,ppid,args"], &["-o", "pid,ppid,cmd"], &["-eo", "pid,ppid,args"]]
    {
        let lines = top(columns);
        assert_eq!(lines[..2], ["PID PPID COMMAND", "1 0 sleep 2000"], "{columns:?}");
        assert!(lines.len() == 3 && lines[2].ends_with(" 1 sleep 1000"), "{lines:?}");
    }
    // By the host's numbers, the first is the one that is recorded.
    let pid = rbox.run(["inspect", "-f", "{{.State.Pid}}", "one"]).success();
    assert_eq!(top(&["hpid", "uid", "comm"])[1], format!("{} 65534 sleep", pid.trim()));
    // A process that joined is one of them, and so is one in a pid namespace below.
    let mut joined = rbox.start(["exec", "one", "sh", "-c", "echo ready; exec sleep 3000"]);
    joined.expect("ready");
    until(|| top(&["args"]), |all| all.contains(&"sleep 3000".to_owned()));

    rbox.run(["top", "one", "nope"]).refused(&["no column \"nope\"", "args"]);
    rbox.run(["top", "one", "-ef"]).refused(&["-ef", "-o COLUMN"]);
    rbox.run(["top", "nobody"]).refused(&["no such container"]);
    rbox.run(["run", "--name", "over", &image, "true"]).success();
    rbox.run(["top", "over"]).refused(&["over", "not running"]);
    Ok(())
}

#[test]
fn a_process_cannot_draw_on_a_list() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let script = "exec sh -c 'while :; do sleep 1; done' \"$(printf '0\\n\\033[2Jroot 99')\"";
    let _container = running(&rbox, &image, "one", &[], script);
    let top = || rbox.run(["top", "one", "pid", "args"]).success();
    let printed = until(top, |printed| printed.contains("done 0??[2Jroot 99"));
    assert!(!printed.contains('\x1b') && !printed.contains("\nroot"), "{printed:?}");
    let begins_with_pid = |line: &str| line.starts_with(|c: char| c.is_ascii_digit());
    assert!(printed.lines().skip(1).all(begins_with_pid), "{printed:?}");
    Ok(())
}

#[test]
fn what_a_container_uses() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    // Memory of its own: the shell's variable.
    let script = "x=$(head -c 20000000 /dev/zero | tr '\\0' x); echo filled; while :; do :; done";
    let mut container = running(&rbox, &image, "one", &[], script);
    container.expect("filled");
    let says = |flags: &[&str]| {
        let words = [&["stats", "--no-stream", "--interval", "50ms"], flags].concat();
        rbox.run(words).success().trim_end().to_owned()
    };
    let table = says(&[]);
    let heading = "CONTAINER ID   NAME   CPU %";
    assert!(table.starts_with(heading) && table.contains("MEM USAGE / LIMIT") && table.lines().count() == 2, "{table}");
    let used = says(&["--format", "{{.Name}} {{.PIDs}} {{.MemUsage}}", "one"]);
    let words: Vec<&str> = used.split(' ').collect();
    let megabytes: f64 = words[2].parse().context("a number")?;
    assert!(words[..2] == ["one", "1"] && words[3] == "MB" && (20.0..200.0).contains(&megabytes), "{used}");
    // It does nothing but spend time: a moment's share is not nothing.
    until(|| says(&["--format", "{{.CPUPerc}}"]), |share| share != "0.00%" && share.ends_with('%'));
    let moved = says(&["--format", "{{.NetIO}}"]);
    assert!(moved.contains(" B / ") || moved.contains("kB"), "{moved}");
    let mut alone = running(&rbox, &image, "alone", &["--network=none"], "echo begun; exec sleep 1000");
    alone.expect("begun");
    assert_eq!(says(&["--format", "{{.NetIO}} {{.PIDsLimit}}", "alone"]), "-- / -- 0");
    rbox.run(["rm", "--force", "alone"]).success();
    rbox.run(["stats", "--no-stream", "nobody"]).refused(&["no such container"]);
    // Streaming goes on until it has ended.
    let mut stream = rbox.start(["stats", "--interval", "20ms", "--format", "{{.Name}}", "one"]);
    stream.expect("one\none\n");
    rbox.run(["kill", "one"]).success();
    assert_eq!((container.wait(), stream.wait()), (137, 0));
    rbox.run(["stats", "--no-stream", "one"]).refused(&["not running"]);
    // None runs.
    assert_eq!(says(&[]).lines().count(), 1);
    Ok(())
}

#[test]
fn no_port_is_published() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    rbox.run(["run", "--name", "one", &image, "true"]).success();
    assert_eq!(rbox.run(["port", "one"]).success(), "");
    assert_eq!(rbox.run(["port", "--all"]).success(), "");
    rbox.run(["port", "one", "80"]).refused(&["80/tcp", "one"]);
    rbox.run(["port", "one", "53/udp"]).refused(&["53/udp"]);
    rbox.run(["port", "one", "http"]).refused(&["expected a port"]);
    rbox.run(["port", "nobody"]).refused(&["no such container"]);
    Ok(())
}

#[test]
fn ways_to_remove_containers() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let make = |name: &str| rbox.run(["run", "--name", name, &image, "true"]).success();
    let left = || rbox.run(["ps", "-a", "--sort", "names", "--format", "{{.Names}}"]).success().replace('\n', " ");
    for name in ["a", "b", "c", "d", "e"] {
        make(name);
    }
    rbox.run(["rm", "nobody"]).refused_as(1, &["no such container"]);
    assert_eq!(rbox.run(["rm", "-i", "nobody", "a"]).success(), "a\n");
    let file = rbox.home().join("cid");
    fs::write(&file, rbox.run(["inspect", "-f", "{{.Id}}", "b"]).success())?;
    let file = file.to_str().context("UTF-8")?;
    rbox.run(["rm", "--cidfile", file]).success();
    assert_eq!(left(), "c d e ");
    rbox.run(["rm", "--cidfile", "/no/such/file"]).refused(&["/no/such/file"]);
    rbox.run(["rm", "-i", "--cidfile", "/no/such/file"]).success();
    rbox.run(["rm", "--filter", "name=^c$", "-v"]).success();
    assert_eq!(left(), "d e ");
    rbox.run(["rm"]).refused(&["required"]);
    rbox.run(["rm", "--all", "d"]).refused(&["cannot be used with"]);
    rbox.run(["rm", "-t", "5", "d"]).refused(&["--force"]);
    let mut running = running(&rbox, &image, "runs", &[], IDLE);
    rbox.run(["rm", "runs"]).refused_as(2, &["running"]);
    // Asked to end before it is killed, it ends by itself.
    rbox.run(["rm", "-f", "-t", "100", "runs"]).success();
    assert_eq!(running.wait(), 7);
    assert_eq!(rbox.run(["rm", "-a"]).success().lines().count(), 2);
    assert_eq!(left(), "");
    Ok(())
}

#[test]
fn ways_to_remove_images() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    rbox.run(["rmi", "nobody"]).refused(&["nobody"]);
    assert_eq!(rbox.run(["rmi", "-i", "nobody"]).success(), "");
    rbox.run(["run", "--name", "one", &image, "true"]).success();
    rbox.run(["rmi", "--all"]).refused(&["in use"]);
    rbox.run(["rmi", "--all", "--force"]).success();
    assert_eq!(rbox.run(["images", "-q"]).success() + &rbox.run(["ps", "-aq"]).success(), "");
    Ok(())
}

#[test]
fn containers_that_do_not_run_are_pruned() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let write = "head -c 100000 /dev/zero > /file; chown 5 /file";
    rbox.run(["run", "--name", "one", &image, "sh", "-c", write]).success();
    rbox.run(["create", "--name", "two", &image, "true"]).success();
    let mut runs = running(&rbox, &image, "runs", &[], IDLE);
    let ask = |answer: &str| rbox.run_with_input(["container", "prune"], answer.as_bytes());
    for no in ["", "n\n", "\n", "maybe\n"] {
        let outcome = ask(no).exits(0);
        assert_eq!(outcome.stdout, "");
        assert!(outcome.stderr.contains("WARNING!") && outcome.stderr.contains("[y/N]"), "{}", outcome.stderr);
    }
    rbox.run(["container", "prune", "-f", "--filter", "name=one"]).refused(&["name", "label until"]);
    assert_eq!(
        rbox.run(["container", "prune", "-f", "--filter", "until=1h"]).success(),
        "Total reclaimed space: 0 B\n"
    );
    let ids = rbox.run(["inspect", "-f", "{{.Id}}", "two", "one"]).success();
    // Two copies of the image, too, where containers have some.
    let freed = if by_copies() { "3.1 MB" } else { "100 kB" };
    assert_eq!(ask("y\n").success(), format!("Deleted Containers:\n{ids}\nTotal reclaimed space: {freed}\n"));
    assert_eq!(rbox.run(["ps", "-a", "--format", "{{.Names}}"]).success(), "runs\n");
    runs.signal("TERM")?;
    assert_eq!(runs.wait(), 7);
    Ok(())
}

#[test]
fn images_that_no_container_uses_are_pruned() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    rbox.run(["run", "--name", "one", &image, "true"]).success();
    rbox.run(["image", "prune", "-f"]).success();
    rbox.run(["image", "prune", "-af"]).success();
    assert_eq!(rbox.run(["images", "-q"]).success().lines().count(), 1, "a container uses it");
    rbox.run(["rm", "one"]).success();
    rbox.run(["image", "prune", "-f"]).success();
    assert_eq!(rbox.run(["images", "-q"]).success().lines().count(), 1, "it has a name");
    rbox.run(["image", "prune", "-af", "--filter", "label=none"]).success();
    assert_eq!(rbox.run(["images", "-q"]).success().lines().count(), 1, "it has no such label");
    rbox.run(["image", "prune", "-f", "--filter", "label=a"]).refused(&["--all"]);
    let printed = rbox.run(["image", "prune", "-af"]).success();
    assert!(printed.contains(&format!("Deleted Images:\n{image}\n")), "{printed}");
    assert_eq!((rbox.layers(), rbox.files("blobs")), (Vec::new(), Vec::new()));
    Ok(())
}

#[test]
fn a_reader_that_goes_away_is_no_failure_to_tell() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    rbox.run(["run", "--name", "one", &image, "true"]).success();
    let (reader, writer) = std::io::pipe()?;
    drop(reader);
    let mut command = rbox.command(["ps", "-a", "--format", "{{.Names}}"]);
    let output = command.stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped()).output()?;
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    Ok(())
}
