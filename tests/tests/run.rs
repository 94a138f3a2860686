//! `rbox run`: what the workload finds, what its flags change, and how its end is told.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use rbox_tests::command::read;
use rbox_tests::fake::{Answer, FakeRegistry};
use rbox_tests::image::{Compression, Format};
use rbox_tests::layer::Layer;
use rbox_tests::layout::Layout;
use rbox_tests::patience::until;
use rbox_tests::rbox::Rbox;
use rbox_tests::running::Running;
use rbox_tests::{alpine, processes};
use serde_json::{Value, json};

/// A store with the small image, and its name.
fn small() -> Result<(Rbox, String)> {
    Rbox::with_small_image()
}

/// The small image with another configuration and a layer on top, in a store, and its name.
fn derived(fields: &[(&str, Value)], layer: &Layer) -> Result<(Rbox, String)> {
    let dir = tempfile::tempdir()?;
    let layout = Layout::create(dir.path())?;
    let mut image = alpine::on_small(&layout, Format::Oci)?;
    for (field, value) in fields {
        image = image.set(field, value.clone());
    }
    image.layer(layer, Compression::Gzip)?.finish_as("derived")?;
    Rbox::with_image(&layout, "derived", "t/derived:1")
}

/// An entry for a workload's environment by which its processes are told from those of all other tests.
fn mark(rbox: &Rbox) -> String {
    format!("TEST={}", rbox.home().display())
}

#[test]
fn the_issues_own_example() -> Result<()> {
    let (rbox, name) = Rbox::with_image(&alpine::layout()?, alpine::TAG, "library/alpine:3.23")?;
    let script = "id; hostname; ps; apk info; ls -la /; touch /x; cat /etc/os-release";
    let seen = rbox.sh(&name, &[], script);
    for expected in ["uid=0(root) gid=0(root)", "PID", "musl", "drwxrwxrwt", "Alpine Linux"] {
        assert!(seen.contains(expected), "no {expected:?} in:\n{seen}");
    }
    // Nothing of it stays: the next container is fresh.
    assert_eq!(rbox.sh(&name, &[], "ls / | grep -c '^x$' || true"), "0");
    Ok(())
}

#[test]
fn the_exit_status_is_the_workloads() -> Result<()> {
    let (rbox, name) = small()?;
    for (script, status) in
        [("exit 0", 0), ("exit 7", 7), ("exit 255", 255), ("kill -9 $$", 137), ("kill -TERM $$", 143)]
    {
        // A pid 1 is spared its own signals; so the shell that is killed is another one.
        let script = format!("sh -c '{script}'; exit $?");
        rbox.run(["run", "--rm", &name, "sh", "-c", &script]).exits(status);
    }
    Ok(())
}

#[test]
fn killed_itself_it_is_128_and_the_signal() -> Result<()> {
    let (rbox, name) = small()?;
    let mark = mark(&rbox);
    let mut running = rbox.start(["run", "--rm", "-e", &mark, &name, "sh", "-c", "echo ready; exec sleep 1000"]);
    running.expect("ready");
    // None can be read in the middle of its execve(2).
    let workload = until(|| processes::with_variable(&mark), |found| !found.is_empty());
    assert_eq!(workload.len(), 1, "{workload:?}");
    // From outside its pid namespace SIGKILL does reach a pid 1.
    processes::signal(workload[0], "KILL")?;
    assert_eq!(running.wait(), 137);
    Ok(())
}

#[test]
fn what_cannot_be_run() -> Result<()> {
    let (rbox, name) = small()?;
    rbox.run(["run", "--rm", &name, "no-such-program"]).exits(127);
    rbox.run(["run", "--rm", &name, "/no/such/program"]).exits(127);
    rbox.run(["run", "--rm", &name, "/etc/passwd"]).exits(126);
    rbox.run(["run", "--rm", &name, "/etc"]).exits(126);
    let outcome = rbox.run(["run", "--rm", &name, "no-such-program"]).exits(127);
    assert!(outcome.stderr.contains("no-such-program"), "{}", outcome.stderr);
    rbox.run(["run", "--rm", "--no-such-flag", &name, "true"]).exits(125);
    assert_eq!(rbox.run(["ps", "-a", "--format", "json"]).success().trim(), "[]", "nothing is left of those");
    Ok(())
}

#[test]
fn what_follows_the_image_is_the_commands() -> Result<()> {
    let (rbox, name) = small()?;
    let words = ["run", "--rm", "--entrypoint", "echo", &name, "--rm", "--help", "-x", "--", "--name=y"];
    assert_eq!(rbox.run(words).success(), "--rm --help -x -- --name=y\n");
    Ok(())
}

#[test]
fn three_interrupts_end_what_ignores_them() -> Result<()> {
    let (rbox, name) = small()?;
    // It would ignore them even without the trap, as pid 1 of a pid namespace does; but ash itself does not.
    let mut running = rbox.start(["run", "--rm", &name, "sh", "-c", "trap '' INT; echo ready; exec sleep 1000"]);
    running.expect("ready");
    // Two presses are one to an rbox that had no time to look in between (signal(7)); so there may be more than three.
    let mut presses = 0;
    while !running.has_ended() {
        assert!(presses < 200, "not ended by {presses} interrupts");
        running.signal("INT")?;
        presses += 1;
        thread::sleep(Duration::from_millis(200));
    }
    assert!(presses >= 3, "ended by {presses}");
    assert_eq!(running.wait(), 137);
    Ok(())
}

#[test]
fn signals_are_forwarded() -> Result<()> {
    let (rbox, name) = small()?;
    for (signal, status) in [("TERM", 40), ("INT", 41), ("HUP", 42), ("USR1", 43)] {
        let script = format!("trap 'exit {status}' {signal}; echo ready; while :; do sleep 0.05; done");
        // However the tests are started: a signal that rbox is to ignore is not handed on.
        let mut command = rbox.command_under(&["env", "--default-signal"], ["run", "--rm", &name, "sh", "-c", &script]);
        let mut running = Running::start(&mut command)?;
        running.expect("ready");
        running.signal(signal)?;
        assert_eq!(running.wait(), status, "{signal}");
    }
    Ok(())
}

#[test]
fn under_nohup_a_hang_up_ends_nothing_and_the_workload_is_spared_the_inheritance() -> Result<()> {
    let (rbox, name) = small()?;
    let script = "trap 'exit 7' HUP; echo ready; kill -HUP $$; sleep 600";
    let mut command = rbox.command_under(&["env", "--ignore-signal=HUP"], ["run", "--rm", &name, "sh", "-c", script]);
    assert_eq!(Running::start(&mut command)?.wait(), 7, "the workload can trap it");
    let script = "trap 'exit 7' HUP; echo ready; sleep 1; exit 0";
    let mut command = rbox.command_under(&["env", "--ignore-signal=HUP"], ["run", "--rm", &name, "sh", "-c", script]);
    let mut running = Running::start(&mut command)?;
    running.expect("ready");
    running.signal("HUP")?;
    assert_eq!(running.wait(), 0, "nobody told it of the hang-up");
    Ok(())
}

#[test]
fn the_images_configuration_is_followed() -> Result<()> {
    let layer = Layer::new().dir("work", 0o755).file(
        "etc/passwd",
        0o644,
        "root:x:0:0::/root:/bin/sh\nbob:x:1234:2345::/home/bob:/bin/sh\n",
    );
    let layer = layer.file("etc/group", 0o644, "root:x:0:\nbob:x:2345:\nwheel:x:3456:bob\n");
    let fields = [
        ("Entrypoint", json!(["sh", "-c"])),
        ("Cmd", json!(["id; pwd; echo $COLOUR $HOME"])),
        ("Env", json!(["PATH=/bin", "COLOUR=blue"])),
        ("WorkingDir", json!("/work")),
        ("User", json!("bob")),
    ];
    let (rbox, name) = derived(&fields, &layer)?;
    let seen = rbox.run(["run", "--rm", &name]).success();
    assert_eq!(seen, "uid=1234(bob) gid=2345(bob) groups=2345(bob),3456(wheel)\n/work\nblue /home/bob\n");

    // Arguments replace Cmd, --entrypoint both; the other flags replace the rest.
    assert_eq!(rbox.run(["run", "--rm", &name, "echo $0"]).success(), "sh\n");
    assert_eq!(rbox.run(["run", "--rm", "--entrypoint", "echo", &name, "a", "b"]).success(), "a b\n");
    let flags = ["run", "--rm", "-u", "0", "-w", "/tmp", "-e", "COLOUR=red", &name, "id -u; pwd; echo $COLOUR"];
    assert_eq!(rbox.run(flags).success(), "0\n/tmp\nred\n");
    for (user, expected) in [("1:2", "1 2"), ("bob:wheel", "1234 3456"), ("77", "77 0")] {
        let flags = ["run", "--rm", "-u", user, &name, "echo $(id -u) $(id -g)"];
        assert_eq!(rbox.run(flags).success().trim(), expected, "-u {user}");
    }
    rbox.run(["run", "--rm", "-u", "nobody-here", &name, "true"]).refused(&["nobody-here"]);
    Ok(())
}

#[test]
fn a_working_directory_is_made() -> Result<()> {
    let (rbox, name) = small()?;
    assert_eq!(rbox.sh(&name, &["-w", "/a/new/one"], "pwd"), "/a/new/one");
    Ok(())
}

#[test]
fn environment_from_the_caller() -> Result<()> {
    let (rbox, name) = small()?;
    let rbox = rbox.env("FROM_OUTSIDE", "seen").env("SECRET", "kept");
    let seen = rbox.sh(&name, &["-e", "FROM_OUTSIDE", "-e", "A=b=c", "-e", "NOT_SET"], "env | sort");
    assert!(seen.contains("FROM_OUTSIDE=seen") && seen.contains("A=b=c"), "{seen}");
    assert!(!seen.contains("SECRET") && !seen.contains("NOT_SET"), "{seen}");
    Ok(())
}

#[test]
fn names_and_files_of_the_host() -> Result<()> {
    let (rbox, name) = small()?;
    let seen =
        rbox.sh(&name, &["--hostname", "box"], "hostname; cat /etc/hostname; grep -c box /etc/hosts; cat /etc/hosts");
    let lines: Vec<&str> = seen.lines().collect();
    assert_eq!(&lines[..2], ["box", "box"], "{seen}");
    assert_ne!(lines[2], "0");
    assert!(seen.contains("127.0.0.1") && seen.contains("localhost"), "{seen}");
    let id = rbox.sh(&name, &[], "hostname");
    assert!(id.len() == 12 && id.chars().all(|c| c.is_ascii_hexdigit()), "{id}");
    // Without a network there is no resolver to wait for.
    rbox.sh(&name, &["--network=none"], "test -s /etc/resolv.conf && ! grep '^nameserver' /etc/resolv.conf");
    Ok(())
}

#[test]
fn volumes() -> Result<()> {
    let (rbox, name) = small()?;
    let dir = rbox.home().join("shared");
    fs::create_dir(&dir)?;
    fs::write(dir.join("from-host"), "hello")?;
    let read_write = format!("{}:/mnt/deep", dir.display());
    assert_eq!(rbox.sh(&name, &["-v", &read_write], "cat /mnt/deep/from-host; echo hi > /mnt/deep/new"), "hello");
    assert_eq!(fs::read_to_string(dir.join("new"))?, "hi\n");
    // The caller is root inside, so the file is the caller's.
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&fs::metadata(dir.join("new"))?), rbox_tests::host::uid());

    let read_only = format!("{}:/mnt:ro", dir.display());
    let seen = rbox.sh(&name, &["-v", &read_only], "echo x > /mnt/other || echo refused");
    assert_eq!(seen, "refused");
    let file = format!("{}:/etc/motd", dir.join("from-host").display());
    assert_eq!(rbox.sh(&name, &["-v", &file], "cat /etc/motd"), "hello");
    rbox.run(["run", "--rm", "-v", "/no/such/dir:/mnt:ro", &name, "true"]).refused(&["/no/such/dir"]);
    Ok(())
}

#[test]
fn read_only_and_tmpfs() -> Result<()> {
    let (rbox, name) = small()?;
    let script = "touch /x 2>/dev/null || echo refused; touch /scratch/x && echo written; touch /dev/shm/x && echo shm";
    let seen = rbox.sh(&name, &["--read-only", "--tmpfs", "/scratch"], script);
    assert_eq!(seen, "refused\nwritten\nshm");
    assert!(rbox.sh(&name, &["--tmpfs", "/scratch:size=1m"], "df -k /scratch").contains("1024"));
    Ok(())
}

#[test]
fn the_usual_devices() -> Result<()> {
    let (rbox, name) = small()?;
    let script = "for d in null zero full random urandom tty; do test -c /dev/$d || echo no $d; done; \
        for l in fd stdin stdout stderr ptmx; do test -L /dev/$l || echo no $l; done; \
        echo x > /dev/null; head -c 4 /dev/zero | wc -c; head -c 4 /dev/urandom | wc -c; \
        echo x > /dev/full 2>/dev/null || echo full; test -d /dev/pts -a -d /dev/mqueue && stat -c %a /dev/shm; \
        ls /dev | grep -E '^(sd|vd|loop|kvm|mem|kmsg|fuse)' || echo no others";
    assert_eq!(rbox.sh(&name, &[], script), "4\n4\nfull\n1777\nno others");
    Ok(())
}

#[test]
fn namespaces_of_its_own() -> Result<()> {
    let (rbox, name) = small()?;
    let kinds = ["user", "mnt", "pid", "uts", "ipc", "net", "cgroup"];
    let script = format!("for n in {}; do readlink /proc/self/ns/$n; done", kinds.join(" "));
    let inside = rbox.sh(&name, &[], &script);
    assert_eq!(inside.lines().count(), kinds.len());
    for (kind, inside) in kinds.iter().zip(inside.lines()) {
        let outside = fs::read_link(format!("/proc/self/ns/{kind}"))?;
        assert_ne!(outside.to_string_lossy(), inside, "{kind}");
    }
    let look = "echo $$; ip -o addr show lo | grep -c 127.0.0.1; ls /sys/class/net";
    assert_eq!(rbox.sh(&name, &["--network=none"], look), "1\n1\nlo");
    Ok(())
}

#[test]
fn capabilities_are_dockers() -> Result<()> {
    let (rbox, name) = small()?;
    // CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL
    // AUDIT_WRITE; capabilities(7) has the numbers.
    let default: u64 = [0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31].iter().map(|bit| 1_u64 << bit).sum();
    let value = |text: &str, field: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(field))?;
        u64::from_str_radix(line.trim(), 16).ok()
    };
    let root = rbox.sh(&name, &[], "cat /proc/self/status");
    for field in ["CapPrm:", "CapEff:", "CapBnd:"] {
        assert_eq!(value(&root, field), Some(default), "{field} {root}");
    }
    assert_eq!((value(&root, "CapInh:"), value(&root, "CapAmb:")), (Some(0), Some(0)));
    let user = rbox.sh(&name, &["-u", "1000"], "cat /proc/self/status");
    assert_eq!((value(&user, "CapEff:"), value(&user, "CapBnd:")), (Some(0), Some(default)));
    Ok(())
}

#[test]
fn kernel_interfaces_are_masked_and_read_only() -> Result<()> {
    let (rbox, name) = small()?;
    // Docker's and Podman's default masked and read-only paths; those that the kernel has at all.
    let script = "for f in kcore keys timer_list sched_debug; do \
            head -c 1 /proc/$f 2>/dev/null | grep -q . && echo readable $f; done; \
        for d in acpi scsi; do ls /proc/$d 2>/dev/null; done; ls /sys/firmware 2>/dev/null; \
        for f in /proc/sys/kernel/hostname /proc/sysrq-trigger /proc/irq/default_smp_affinity; do \
            test ! -e $f || (echo x > $f) 2>/dev/null && test -e $f && echo writable $f; done; \
        (echo x > /sys/kernel/profiling) 2>/dev/null && echo writable sys; mkdir /sys/fs/cgroup/x 2>/dev/null && echo cgroup; echo done";
    assert_eq!(rbox.sh(&name, &[], script), "done");
    Ok(())
}

#[test]
fn nothing_of_the_caller_leaks_in() -> Result<()> {
    let (rbox, name) = small()?;
    // Inherited descriptors: 3 to 9 are open in the caller, and the workload must see its own three only.
    let open = "exec 3</etc/passwd 4</ 9</; exec \"$@\"";
    let mut command =
        rbox.command_under(&["sh", "-c", open, "sh"], ["run", "--rm", &name, "sh", "-c", "ls /proc/self/fd"]);
    let seen = rbox_tests::rbox::finish(command.stdin(Stdio::null())).success();
    // The fourth is ls's own.
    assert_eq!(seen.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
    let home = rbox.home().display().to_string();
    let seen = rbox.sh(&name, &[], "cat /proc/self/mountinfo | cut -d' ' -f5; cat /proc/1/environ | tr '\\0' '\\n'");
    assert!(!seen.contains(&home), "{seen}");
    assert_eq!(rbox.sh(&name, &[], "umask"), "0022");
    Ok(())
}

#[test]
fn input_and_output_are_the_callers() -> Result<()> {
    let (rbox, name) = small()?;
    let outcome = rbox.run(["run", "--rm", &name, "sh", "-c", "echo out; echo err >&2"]).exits(0);
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("out\n", "err\n"));
    // Without -i there is nothing to read, with it all of it, unchanged.
    assert_eq!(rbox.run_with_input(["run", "--rm", &name, "cat"], b"x").success(), "");
    let bytes: Vec<u8> = (0..1_000_000_u32).map(|i| b'a' + (i % 26) as u8).collect();
    let outcome = rbox.run_with_input(["run", "--rm", "-i", &name, "cat"], &bytes);
    assert_eq!(outcome.success().as_bytes(), bytes);
    Ok(())
}

#[test]
fn a_container_that_is_kept() -> Result<()> {
    let (rbox, name) = small()?;
    rbox.run(["run", "--name", "kept", &name, "sh", "-c", "exit 3"]).exits(3);
    let list: Value = serde_json::from_str(&rbox.run(["ps", "-a", "--format", "json"]).success())?;
    assert_eq!(list.as_array().map(Vec::len), Some(1), "{list}");
    assert!(list.to_string().contains("kept"), "{list}");
    assert_eq!(rbox.run(["ps", "--format", "json"]).success().trim(), "[]");
    rbox.run(["run", "--name", "kept", &name, "true"]).refused(&["kept"]);
    assert!(rbox.run(["inspect", "kept"]).success().contains("kept"));
    rbox.run(["rm", "kept"]).success();
    assert_eq!(rbox.run(["ps", "-a", "--format", "json"]).success().trim(), "[]");
    rbox.run(["rm", "kept"]).refused_as(1, &["kept"]);
    Ok(())
}

#[test]
fn a_running_container_is_not_removed() -> Result<()> {
    let (rbox, name) = small()?;
    // A pid 1 that does not ask for SIGTERM would not get it.
    let script = "trap 'exit 0' TERM; echo ready; while :; do sleep 0.05; done";
    let mut running = rbox.start(["run", "--rm", "--name", "busy", &name, "sh", "-c", script]);
    running.expect("ready");
    assert!(rbox.run(["ps", "--format", "json"]).success().contains("busy"));
    rbox.run(["rm", "busy"]).refused_as(2, &["running"]);
    rbox.run(["rmi", &name]).refused(&["container"]);
    running.signal("TERM")?;
    assert_eq!(running.wait(), 0);
    assert_eq!(rbox.run(["ps", "-a", "--format", "json"]).success().trim(), "[]");
    Ok(())
}

#[test]
fn nothing_outlives_a_killed_rbox() -> Result<()> {
    let (rbox, name) = small()?;
    let mark = mark(&rbox);
    let script = "sleep 1000 & sleep 1000; exit";
    let running = rbox.start(["run", "--name", "orphan", "-e", &mark, &name, "sh", "-c", script]);
    // The shell and both that it waits for.
    until(|| processes::with_variable(&mark), |found| found.len() == 3);
    assert!(rbox.run(["ps", "--format", "json"]).success().contains("orphan"));
    running.kill();
    until(|| processes::with_variable(&mark), Vec::is_empty);
    assert_eq!(rbox.run(["ps", "--format", "json"]).success().trim(), "[]");
    rbox.run(["rm", "orphan"]).success();
    Ok(())
}

#[test]
fn the_pull_policy() -> Result<()> {
    let gone = Arc::new(AtomicBool::new(false));
    let is_gone = gone.clone();
    let registry = FakeRegistry::serve(alpine::small()?, move |_, answer| {
        if is_gone.load(Ordering::SeqCst) { Answer::status(404, "{}") } else { answer }
    })?;
    let (rbox, name) = (Rbox::new(), registry.reference("t/small:latest"));
    let asked = || registry.requests().len();
    rbox.run(["run", "--rm", "--pull", "never", &name, "true"]).refused(&[&name]);
    assert_eq!(asked(), 0);
    let outcome = rbox.run(["run", "--rm", &name, "echo", "pulled"]).exits(0);
    assert_eq!(outcome.stdout, "pulled\n");
    let before = asked();
    rbox.run(["run", "--rm", "--pull", "missing", &name, "true"]).success();
    assert_eq!(asked(), before);
    rbox.run(["run", "--rm", "--pull", "always", &name, "true"]).success();
    assert!(asked() > before);
    gone.store(true, Ordering::SeqCst);
    rbox.run(["run", "--rm", "--pull", "always", &name, "true"]).refused(&["not found"]);
    Ok(())
}

#[test]
fn explain_shows_the_plan_and_the_times() -> Result<()> {
    let (rbox, name) = small()?;
    let outcome = rbox.run(["run", "--rm", "--explain", &name, "echo", "ran"]).exits(0);
    assert_eq!(outcome.stdout, "ran\n", "the workload's stdout is its own");
    for word in ["maskedPaths", "newuidmap", "pivot_root", "µs"] {
        assert!(outcome.stderr.contains(word), "no {word:?} in:\n{}", outcome.stderr);
    }
    Ok(())
}

#[test]
fn what_comes_later_is_refused_and_not_ignored() -> Result<()> {
    let (rbox, name) = small()?;
    for flags in [&["--memory", "64m"][..], &["--cpus", "1"], &["--network", "bridge"]] {
        let arguments = [&["run", "--rm"], flags, &[name.as_str(), "true"]].concat();
        rbox.run(arguments).refused(&[flags[0].trim_start_matches('-')]);
    }
    Ok(())
}

#[test]
fn many_at_once() -> Result<()> {
    let (rbox, name) = small()?;
    let all: Vec<Running> =
        (0..20).map(|number| rbox.start(["run", "--rm", &name, "sh", "-c", &format!("exit {number}")])).collect();
    for (number, mut running) in (0..).zip(all) {
        assert_eq!(running.wait(), number);
    }
    assert_eq!(rbox.run(["ps", "-a", "--format", "json"]).success().trim(), "[]");
    assert_eq!(rbox.files("containers"), Vec::<String>::new());
    Ok(())
}

#[test]
fn a_program_without_execute_permission_and_a_script_without_interpreter() -> Result<()> {
    let layer = Layer::new().file("plain", 0o644, "#!/bin/sh\n").file("lost", 0o755, "#!/no/such/shell\n");
    let (rbox, name) = derived(&[], &layer.file("good", 0o755, "#!/bin/sh\necho good\n"))?;
    rbox.run(["run", "--rm", &name, "/plain"]).exits(126);
    rbox.run(["run", "--rm", &name, "/lost"]).exits(127);
    assert_eq!(rbox.run(["run", "--rm", &name, "/good"]).success(), "good\n");
    Ok(())
}

#[test]
fn the_binary_can_be_anywhere_and_of_any_mode() -> Result<()> {
    // Its clone is what is executed inside; a name that is gone, or a binary without read permission, must not matter.
    let (rbox, name) = small()?;
    let copy = rbox.home().join("copy");
    // By another process: what this one had open for writing, children that other tests start just then would have
    // open too, and it could not be executed (execve(2), ETXTBSY).
    read(Command::new("cp").arg(rbox_tests::host::rbox_binary()).arg(&copy))?;
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o555))?;
    let mut command = Command::new(&copy);
    command.args(["run", "--rm", &name, "echo", "moved"]).env("HOME", rbox.home());
    assert_eq!(rbox_tests::rbox::finish(command.stdin(Stdio::null())).success(), "moved\n");
    Ok(())
}
