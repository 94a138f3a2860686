//! `rbox exec`: one more command in a container that `rbox run` made, and what it shares with the first one.

use std::fs;
use std::process::Stdio;

use anyhow::{Context, Result};
use rbox_tests::patience::until;
use rbox_tests::rbox::{Outcome, Rbox};
use rbox_tests::running::Running;
use rbox_tests::terminal::Terminal;
use serde_json::{Value, json};

/// A container called `box`, whose workload has begun.
struct There {
    rbox: Rbox,
    image: String,
    running: Running,
}

impl There {
    /// One of the small image that does nothing, with these flags.
    fn with(flags: &[&str]) -> Result<Self> {
        let (rbox, image) = Rbox::with_small_image()?;
        let words = [&["run", "--rm", "--name", "box"], flags, &[&image, "sh", "-c", "echo ready; exec sleep 1000"]];
        let mut running = rbox.start(words.concat());
        running.expect("ready");
        // The supervisor learns of it a moment after the workload itself, and whoever comes in waits for that.
        let outcome = rbox.run(["exec", "box", "true"]);
        assert!(!outcome.stderr.contains("still being started"), "{outcome:?}");
        Ok(Self { rbox, image, running })
    }

    fn exec(&self, flags: &[&str], command: &[&str]) -> Outcome {
        self.rbox.run([&["exec"], flags, &["box"], command].concat())
    }

    /// What a script prints, which must succeed.
    #[track_caller]
    fn sh(&self, flags: &[&str], script: &str) -> String {
        self.exec(flags, &["sh", "-c", script]).success().trim_end().to_owned()
    }

    /// Its id.
    fn id(&self) -> Result<String> {
        let inspected: Value = serde_json::from_str(&self.rbox.run(["inspect", "box"]).success())?;
        Ok(inspected.pointer("/0/Id").and_then(Value::as_str).context("an id")?.to_owned())
    }

    /// `exec -it` on a terminal, of a shell at its prompt.
    fn shell(&self, flags: &[&str]) -> Result<Terminal> {
        let words = [&["exec", "-it", "-e", "PS1=ready> "], flags, &["box", "sh"]].concat();
        let mut terminal = Terminal::start(&self.rbox.command(words), 30, 100)?;
        terminal.expect("ready> ");
        Ok(terminal)
    }

    /// Changes the record of the container, in a new file of the same name.
    fn change_record(&self, change: impl FnOnce(&mut Value)) -> Result<()> {
        let directory = self.rbox.store().join("containers").join(self.id()?);
        let path = directory.join("container.json");
        let mut record = serde_json::from_slice(&fs::read(&path)?)?;
        change(&mut record);
        fs::write(directory.join("new"), serde_json::to_vec(&record)?)?;
        Ok(fs::rename(directory.join("new"), path)?)
    }
}

/// Prints what confines the process of this number: sets of capabilities, no_new_privs, filters.
const CONFINEMENT: &str = "grep -E '^(Cap|NoNewPrivs|Seccomp)' /proc/$1/status";

#[test]
fn by_name_by_id_and_by_the_beginning_of_an_id() -> Result<()> {
    let there = There::with(&[])?;
    let id = there.id()?;
    for called in ["box", &id, &id[..12], &id[..4]] {
        assert_eq!(there.rbox.run(["exec", called, "echo", "in"]).success(), "in\n", "{called}");
    }
    there.rbox.run(["exec", "nobody", "true"]).refused(&["no such container", "nobody"]);
    Ok(())
}

#[test]
fn the_exit_status_is_the_commands() -> Result<()> {
    let there = There::with(&[])?;
    for (script, status) in [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill -TERM $$", 143)] {
        there.exec(&[], &["sh", "-c", script]).exits(status);
    }
    let outcome = there.exec(&[], &["no-such-program"]).exits(127);
    assert!(outcome.stderr.contains("no-such-program"), "{}", outcome.stderr);
    there.exec(&[], &["/etc/passwd"]).exits(126);
    there.exec(&["--no-such-flag"], &["true"]).exits(125);
    there.rbox.run(["exec", "box"]).exits(125);
    // What follows the container is the command's own.
    assert_eq!(there.exec(&[], &["echo", "-it", "--help", "--", "-u=x"]).success(), "-it --help -- -u=x\n");
    Ok(())
}

#[test]
fn it_is_in_every_namespace_and_in_the_cgroup_of_the_first_process() -> Result<()> {
    let there = There::with(&[])?;
    let look = "for n in cgroup ipc mnt net pid user uts; do readlink /proc/$1/ns/$n; done; cat /proc/$1/cgroup";
    let of = |pid: &str| there.exec(&["--privileged"], &["sh", "-c", look, "sh", pid]).success();
    let first = of("1");
    assert_eq!(first.lines().filter(|line| line.contains(":[")).count(), 7, "{first}");
    assert_eq!(of("self"), first);
    assert_eq!(there.sh(&[], "hostname; cat /etc/hostname"), format!("{0}\n{0}", &there.id()?[..12]));
    // Seen from there, it has no parent, and none of rbox is beside it.
    assert_eq!(there.sh(&[], "cut -d' ' -f4 /proc/$$/stat; ps | grep -c '[r]box'; :"), "0\n0");
    Ok(())
}

/// To see it fail: have `plan::exec::plan` (container) leave out `set_seccomp`, or `exec::exec` the built-in filter.
#[test]
fn it_is_confined_as_the_first_process_is() -> Result<()> {
    let profile = json!({ "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 30 }] });
    let dir = tempfile::tempdir_in(rbox_tests::host::scratch_base())?;
    let path = dir.path().join("profile.json");
    fs::write(&path, profile.to_string())?;
    let from_file = format!("seccomp={}", path.display());
    for flags in [
        &[][..],
        &["--cap-drop", "ALL", "--cap-add", "CHOWN,SETUID", "--security-opt", "no-new-privileges"],
        &["-u", "77:88", "--cap-add", "NET_ADMIN"],
        &["--security-opt", "seccomp=unconfined"],
        &["--security-opt", &from_file],
        &["--privileged"],
        &["--explain-denied"],
    ] {
        let there = There::with(flags)?;
        // The profile counts as it was.
        fs::write(&path, "{}")?;
        let of = |pid: &str| there.exec(&[], &["sh", "-c", CONFINEMENT, "sh", pid]).success();
        assert_eq!(of("self"), of("1"), "{flags:?}");
        if flags.contains(&from_file.as_str()) {
            assert_eq!(there.sh(&[], "mkdir /x 2>&1; :"), "mkdir: can't create directory '/x': Read-only file system");
        }
        fs::write(&path, profile.to_string())?;
    }
    Ok(())
}

#[test]
fn privileged_is_every_capability_and_nothing_else() -> Result<()> {
    let there = There::with(&["--cap-drop", "ALL"])?;
    let seen = there.exec(&["--privileged"], &["sh", "-c", CONFINEMENT, "sh", "self"]).success();
    let (ours, first) = (seen, there.exec(&[], &["sh", "-c", CONFINEMENT, "sh", "1"]).success());
    let line = |text: &str, name: &str| text.lines().find(|line| line.starts_with(name)).map(str::to_owned);
    assert_eq!(line(&first, "CapEff").as_deref(), Some("CapEff:\t0000000000000000"));
    assert!(line(&ours, "CapEff").is_some_and(|set| set.ends_with("ffffffffff")), "{ours}");
    assert_eq!(line(&ours, "Seccomp:"), line(&first, "Seccomp:"));
    assert_eq!(there.sh(&["--privileged"], "cat /proc/keys; echo x > /proc/sysrq-trigger || echo refused"), "refused");
    Ok(())
}

/// To see it fail: have `plan::exec::plan` (container) leave the user to the record's `user`.
#[test]
fn users_are_those_of_the_containers_own_files() -> Result<()> {
    let there = There::with(&[])?;
    let more = "echo bob:x:1234:2345::/home/bob:/bin/sh >> /etc/passwd; echo bob:x:2345: >> /etc/group; \
        echo wheel2:x:3456:bob >> /etc/group";
    there.sh(&[], more);
    let who = "id -u; id -g; id -G; echo $HOME";
    for (user, expected) in [
        ("bob", "1234\n2345\n2345 3456\n/home/bob"),
        ("bob:wheel2", "1234\n3456\n3456\n/home/bob"),
        ("1234", "1234\n2345\n2345 3456\n/home/bob"),
        ("77:88", "77\n88\n88\n/"),
    ] {
        assert_eq!(there.sh(&["-u", user], who), expected, "{user}");
    }
    assert!(there.sh(&[], who).starts_with("0\n0\n"));
    there.exec(&["-u", "nobody-here"], &["true"]).refused(&["nobody-here", "/etc/passwd"]);
    there.exec(&["-u", "bob:nobody-here"], &["true"]).refused(&["nobody-here", "/etc/group"]);
    Ok(())
}

#[test]
fn variables() -> Result<()> {
    let there = There::with(&["-e", "OF_RUN=1", "-e", "BOTH=run"])?;
    let seen = there.sh(&["-e", "BOTH=exec", "-e", "OF_EXEC=a b=c"], "env");
    for expected in ["OF_RUN=1", "BOTH=exec", "OF_EXEC=a b=c", "HOME=/root", "container=rbox"] {
        assert!(seen.lines().any(|line| line == expected), "no {expected:?} in {seen}");
    }
    assert!(seen.contains("PATH=") && !seen.contains("TERM="), "{seen}");
    assert!(seen.contains(&format!("HOSTNAME={}", &there.id()?[..12])), "{seen}");
    assert_eq!(there.sh(&["-t"], "echo $TERM"), "xterm");
    assert_eq!(there.sh(&["-t", "-e", "TERM=vt100", "-e", "HOME=/tmp"], "echo $TERM $HOME"), "vt100 /tmp");
    Ok(())
}

#[test]
fn variables_from_a_file() -> Result<()> {
    let there = There::with(&[])?;
    let rbox = &there.rbox;
    let (good, bad) = (rbox.home().join("good"), rbox.home().join("bad"));
    fs::write(&good, "# comment\nA=1 # no comment\n  B=\"quoted\"\nPATH\nNOT_SET\nC=file\n")?;
    fs::write(&bad, "A=1\n\nwith a blank=1\n")?;
    let good = good.display().to_string();
    let script = "echo \"$A|$B|$C|${NOT_SET-none}\"";
    let expected = "1 # no comment|\"quoted\"|flag|none";
    // A flag counts more than the file, wherever it stands.
    assert_eq!(there.sh(&["-e", "C=flag", "--env-file", &good], script), expected);
    assert_eq!(rbox.sh(&there.image, &["-e", "C=flag", "--env-file", &good], script), expected);
    rbox.run(["run", "--rm", "--env-file", "bad", &there.image, "true"]).refused(&["bad, line 3", "with a blank"]);
    assert_eq!(there.sh(&["--env-file", &good], "echo $PATH"), std::env::var("PATH")?);
    there.exec(&["--env-file", "bad"], &["true"]).refused(&["bad, line 3", "with a blank"]);
    there.exec(&["--env-file", "no-such-file"], &["true"]).refused(&["no-such-file"]);
    Ok(())
}

/// To see it fail: take `NO_MAGICLINKS` out of `process::change_directory` (sys).
#[test]
fn where_it_starts() -> Result<()> {
    let there = There::with(&["-w", "/of/run"])?;
    assert_eq!(there.sh(&[], "pwd"), "/of/run");
    assert_eq!(there.sh(&["-w", "/tmp"], "pwd"), "/tmp");
    there.exec(&["-w", "relative"], &["true"]).refused(&["relative", "absolute"]);
    there.exec(&["-w", "/no/such/dir"], &["true"]).refused(&["/no/such/dir"]);
    there.exec(&["-w", "/etc/passwd"], &["true"]).refused(&["/etc/passwd"]);
    // CVE-2024-21626: by way of what rbox has open.
    for number in 0..10 {
        there.exec(&["-w", &format!("/proc/self/fd/{number}")], &["true"]).refused(&["/proc/self/fd"]);
    }
    Ok(())
}

#[test]
fn standard_input_is_read_only_with_i() -> Result<()> {
    let there = There::with(&[])?;
    let cat = |flags: &[&str]| there.rbox.run_with_input([&["exec"], flags, &["box", "cat"]].concat(), b"in and out");
    assert_eq!(cat(&["-i"]).success(), "in and out");
    assert_eq!(cat(&[]).success(), "");
    // Nothing else that the caller has open comes in.
    // The last one is that of ls.
    let open = there.exec(&[], &["ls", "/proc/self/fd"]).success();
    assert_eq!(open.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
    Ok(())
}

#[test]
fn detached_it_is_not_waited_for() -> Result<()> {
    let there = There::with(&[])?;
    for flags in [&["-d"][..], &["-d", "-t"]] {
        // With its output it would keep the pipe open, and the test waiting.
        let outcome =
            there.exec(flags, &["sh", "-c", "echo lost; until test -e /go; do sleep 0.05; done; touch /went"]);
        assert_eq!((outcome.status, &*outcome.stdout, &*outcome.stderr), (0, "", ""), "{flags:?}");
        assert_eq!(there.sh(&[], "test -e /went || touch /go"), "");
        until(|| there.exec(&[], &["test", "-e", "/went"]).status, |status| *status == 0);
        there.sh(&[], "rm /go /went");
    }
    there.exec(&["-d"], &["no-such-program"]).exits(127);
    Ok(())
}

#[test]
fn a_shell_on_a_terminal() -> Result<()> {
    let there = There::with(&[])?;
    let mut terminal = there.shell(&[])?;
    assert_ne!(terminal.modes()?, terminal.modes_at_start(), "raw while the shell runs");
    terminal.send("tty; stty size; test -t 0 -a -t 1 -a -t 2 && echo all''three\r")?;
    terminal.expect("/dev/pts/");
    terminal.expect("30 100");
    terminal.expect("allthree");
    terminal.resize(12, 34)?;
    terminal.send("until stty size | grep '^12 34$'; do sleep 0.1; done; echo re''sized\r")?;
    terminal.expect("resized");
    terminal.send("sh -c 'echo running $((40 + 2)); sleep 1000'\r")?;
    terminal.expect("running 42");
    terminal.send("\x03")?;
    terminal.expect("ready> ");
    terminal.send("exit 7\r")?;
    assert_eq!(terminal.wait(), 7);
    assert_eq!(terminal.modes()?, terminal.modes_at_start());
    let mut failing = Terminal::start(&there.rbox.command(["exec", "-it", "box", "no-such-program"]), 24, 80)?;
    assert_eq!(failing.wait(), 127);
    assert_eq!(failing.modes()?, failing.modes_at_start());
    Ok(())
}

/// To see it fail: have `held::hold` (container) release the process and close the terminal.
#[test]
fn the_detach_keys_leave_the_command_to_itself() -> Result<()> {
    let there = There::with(&[])?;
    for (flags, keys) in [(&[][..], "\x10\x11"), (&["--detach-keys", "ctrl-a,x"], "\x01x")] {
        let mut terminal = there.shell(flags)?;
        // What it prints afterwards, more than a terminal holds, must not stop it.
        terminal
            .send("sh -c 'echo begun $((40 + 2)); until test -e /go; do sleep 0.05; done; seq 20000; touch /went'\r")?;
        terminal.expect("begun 42");
        terminal.send(keys)?;
        assert_eq!(terminal.wait(), 0);
        assert_eq!(terminal.modes()?, terminal.modes_at_start());
        there.sh(&[], "touch /go");
        until(|| there.exec(&[], &["test", "-e", "/went"]).status, |status| *status == 0);
        there.sh(&[], "rm /go /went");
    }
    let mut terminal = there.shell(&["--detach-keys", ""])?;
    // To the shell they are keys like others, that change the line.
    terminal.send("\x10\x11\x03")?;
    terminal.expect("ready> ");
    terminal.send("echo still $((40 + 3))\r")?;
    terminal.expect("still 43");
    terminal.send("exit\r")?;
    assert_eq!(terminal.wait(), 0);
    there.exec(&["--detach-keys", "ctrl-p,F1"], &["true"]).refused(&["F1"]);
    Ok(())
}

#[test]
fn signals_are_handed_on() -> Result<()> {
    let there = There::with(&[])?;
    for (signal, status) in [("TERM", 40), ("INT", 41), ("HUP", 42), ("USR1", 43)] {
        let script = format!("trap 'exit {status}' {signal}; echo ready; while :; do sleep 0.05; done");
        let words = ["exec", "box", "sh", "-c", &script];
        let mut running = Running::start(&mut there.rbox.command_under(&["env", "--default-signal"], words))?;
        running.expect("ready");
        running.signal(signal)?;
        assert_eq!(running.wait(), status, "{signal}");
    }
    Ok(())
}

#[test]
fn it_ends_with_the_container() -> Result<()> {
    let mut there = There::with(&[])?;
    let mut running = there.rbox.start(["exec", "box", "sh", "-c", "echo in; sleep 1000"]);
    running.expect("in");
    there.rbox.run(["rm", "--force", "box"]).success();
    assert_eq!(running.wait(), 137);
    assert_eq!(there.running.wait(), 137);
    Ok(())
}

#[test]
fn a_container_that_does_not_run_is_refused() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    rbox.run(["run", "--name", "ended", &image, "true"]).success();
    rbox.run(["exec", "ended", "true"]).refused(&["container ended is not running"]);
    let mut killed = rbox.start(["run", "--name", "killed", &image, "sh", "-c", "echo ready; sleep 1000"]);
    killed.expect("ready");
    killed.kill();
    rbox.run(["exec", "killed", "true"]).refused(&["container killed is not running"]);
    Ok(())
}

/// A number that is another process's by now is not joined, and a container whose init still builds it, with the host's
/// files before its eyes and no mask, neither.
///
/// To see it fail: have `ProcessId::lives` (runtime) compare nothing; have `Made::read_begun` (container) say true.
#[test]
fn what_is_not_the_containers_process_is_not_joined() -> Result<()> {
    let there = There::with(&[])?;
    // A new file, which nobody has locked.
    there.change_record(|_| {})?;
    there.exec(&[], &["true"]).refused(&["container box is still being started"]);
    // Who comes in a moment too early does not fail.
    let mut early = there.rbox.start(["exec", "box", "echo", "in"]);
    let record = there.rbox.store().join("containers").join(there.id()?).join("container.json");
    let mut locks = std::process::Command::new("flock");
    let _locked = Running::start(locks.args(["--no-fork"]).arg(record).args(["sleep", "1000"]))?;
    early.expect("in\n");

    let other = There::with(&[])?;
    // The time of a start is known to a hundredth of a second (proc_pid_stat(5)).
    std::thread::sleep(std::time::Duration::from_millis(20));
    let mut sleeping = std::process::Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn()?;
    let directory = other.rbox.store().join("containers").join(other.id()?);
    let record = directory.join("container.json");
    let mut changed: Value = serde_json::from_slice(&fs::read(&record)?)?;
    // In place: the lock is on this file.
    let mut with = |pid: Value, started: Value| -> Result<Outcome> {
        (changed["pid"], changed["joining"]["started"]) = (pid, started);
        fs::write(&record, changed.to_string())?;
        Ok(other.exec(&[], &["true"]))
    };
    let (pid, started): (Value, Value) = {
        let made: Value = serde_json::from_slice(&fs::read(&record)?)?;
        (made["pid"].clone(), made["joining"]["started"].clone())
    };
    with(json!(sleeping.id()), started.clone())?.refused(&["container box is not running"]);
    with(json!(sleeping.id()), json!(0))?.refused(&["container box is not running"]);
    with(pid, started)?.success();
    sleeping.kill()?;
    sleeping.wait()?;
    Ok(())
}

#[test]
fn a_store_of_another_user_is_refused() -> Result<()> {
    let rbox = Rbox::new();
    let store = rbox.home().join("closed");
    fs::create_dir(&store)?;
    fs::set_permissions(&store, std::os::unix::fs::PermissionsExt::from_mode(0o000))?;
    let outcome = rbox.run(["--root", &store.display().to_string(), "exec", "box", "true"]);
    outcome.refused(&["permission denied", &store.display().to_string()]);
    Ok(())
}
