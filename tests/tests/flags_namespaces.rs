//! `rbox run --ipc --pid --uts`: namespaces of the host's, and of another container.

use std::fs;

use anyhow::Result;
use rbox_tests::command::read;
use rbox_tests::patience::until;
use rbox_tests::processes;
use rbox_tests::rbox::Rbox;
use rbox_tests::running::Running;
use serde_json::Value;

/// A container of this name, whose workload has begun.
fn start(rbox: &Rbox, image: &str, name: &str, flags: &[&str]) -> Running {
    let words = [&["run", "--rm", "--name", name], flags, &[image, "sh", "-c", "echo ready; exec sleep 1000"]];
    let mut running = rbox.start(words.concat());
    running.expect("ready");
    rbox.run(["exec", name, "true"]);
    running
}

fn of_host(kind: &str) -> Result<String> {
    Ok(fs::read_link(format!("/proc/self/ns/{kind}"))?.display().to_string())
}

#[test]
fn those_of_the_host() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    for kind in ["ipc", "pid", "uts"] {
        let (host, look) = (of_host(kind)?, format!("readlink /proc/self/ns/{kind}"));
        assert_eq!(rbox.sh(&image, &[&format!("--{kind}=host")], &look), host, "{kind}");
        assert_ne!(rbox.sh(&image, &[&format!("--{kind}=private")], &look), host, "{kind}");
    }
    // All at once, and as one does it in scripts.
    let all = ["--ipc=host", "--pid=host", "--uts=host"];
    let seen = rbox.sh(&image, &all, "hostname; cat /etc/hostname; echo $HOSTNAME");
    let hostname = fs::read_to_string("/proc/sys/kernel/hostname")?;
    assert_eq!(seen.lines().collect::<Vec<_>>(), [hostname.trim(); 3]);
    Ok(())
}

#[test]
fn processes_of_the_host_are_seen() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let own = std::process::id().to_string();
    let look =
        format!("test -d /proc/{own} && echo seen; kill -0 {own} && echo reached; cat /proc/{own}/environ || echo no");
    assert_eq!(rbox.sh(&image, &["--pid=host"], &look), "seen\nreached\nno", "as the user that it is on the host");
    assert_eq!(rbox.sh(&image, &[], &format!("test -d /proc/{own} || echo hidden")), "hidden");
    // What is masked stays so, in the host's /proc too.
    let look =
        "cat /proc/kcore; ls -A /proc/acpi 2>/dev/null; echo x 2>/dev/null > /proc/sys/kernel/hostname || echo no";
    assert_eq!(rbox.sh(&image, &["--pid=host"], look), "no");
    Ok(())
}

#[test]
fn shared_memory_of_the_host() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let file = tempfile::Builder::new().prefix("rbox-test.").tempfile_in("/dev/shm")?;
    fs::write(file.path(), "hello")?;
    assert_eq!(rbox.sh(&image, &["--ipc=host"], &format!("cat {}", file.path().display())), "hello");
    assert_eq!(rbox.sh(&image, &["--ipc=none"], "ls /dev | grep -x shm || echo none"), "none");
    let both = ["run", "--rm", "--ipc=host", "--shm-size=1m", &image, "true"];
    rbox.run(both).refused(&["--shm-size", "--ipc"]);
    Ok(())
}

#[test]
fn those_of_another_container() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let flags = ["--hostname=first", "--sysctl=kernel.msgmax=9000", "--shm-size=3m"];
    let _first = start(&rbox, &image, "one", &flags);
    let links = |kinds: &str| format!("for n in {kinds}; do readlink /proc/self/ns/$n; done");
    let first = rbox.run(["exec", "one", "sh", "-c", &links("user ipc pid uts")]).success();
    let joining = ["--ipc=container:one", "--pid=container:one", "--uts=container:one"];
    assert_eq!(rbox.sh(&image, &joining, &links("user ipc pid uts")), first.trim_end());
    let host = [of_host("mnt")?, of_host("net")?, of_host("cgroup")?];
    let own = |name: &str| rbox.run(["exec", name, "sh", "-c", &links("mnt net cgroup")]).success();
    let third = rbox.sh(&image, &joining, &links("mnt net cgroup"));
    for (number, link) in third.lines().enumerate() {
        assert!(link != host[number] && !own("one").contains(link), "{link} is not its own");
    }
    // Each alone.
    let hidden = "ps | grep -q '[s]leep 1000' || echo no process; cat /proc/sys/kernel/msgmax; hostname";
    assert_eq!(
        rbox.sh(
            &image,
            &["--pid=container:one", "--hostname=x"],
            &hidden.replace("|| echo no process", "&& echo there")
        ),
        "there\n8192\nx"
    );
    assert_eq!(rbox.sh(&image, &["--ipc=container:one", "--hostname=x"], hidden), "no process\n9000\nx");
    assert_eq!(rbox.sh(&image, &["--uts=container:one"], hidden), "no process\n8192\nfirst");
    let score = ["--pid=container:one", "--oom-score-adj=432", "--ulimit=nofile=100"];
    assert_eq!(rbox.sh(&image, &score, "cat /proc/self/oom_score_adj; ulimit -n"), "432\n100");
    // It is a signal away.
    assert_eq!(rbox.sh(&image, &["--pid=container:one"], "test $$ != 1 && kill -0 1 && echo reached"), "reached");
    Ok(())
}

#[test]
fn shared_memory_of_another_container() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let _one = start(&rbox, &image, "one", &["--shm-size=3m"]);
    rbox.run(["exec", "one", "sh", "-c", "echo from one > /dev/shm/a"]).success();
    let look = "cat /dev/shm/a; df -k /dev/shm | awk 'END { print $2 }'; echo from two > /dev/shm/b; grep -c ' /dev/shm ' /proc/mounts; \
        grep ' /dev/shm ' /proc/mounts | grep -o 'nosuid,nodev,noexec'";
    assert_eq!(rbox.sh(&image, &["--ipc=container:one"], look), "from one\n3072\n1\nnosuid,nodev,noexec");
    assert_eq!(rbox.run(["exec", "one", "cat", "/dev/shm/b"]).success(), "from two\n");
    let both = ["run", "--rm", "--ipc=container:one", "--shm-size=1m", &image, "true"];
    rbox.run(both).refused(&["--shm-size", "--ipc"]);
    Ok(())
}

/// Who joins has the other's user namespace; the rest of what confines it is its own.
#[test]
fn who_joins_is_as_confined() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let _one = start(&rbox, &image, "one", &["--privileged"]);
    let look = "grep -E '^(Cap|NoNewPrivs|Seccomp)' /proc/self/status; awk '{ print $1, $3 }' /proc/self/uid_map; \
        echo x 2>/dev/null > /proc/sys/kernel/msgmax || echo read-only; ls -A /proc/acpi 2>/dev/null; ls /proc/self/fd | wc -l";
    let joined = rbox.sh(&image, &["--pid=container:one", "--ipc=container:one"], look);
    assert_eq!(joined, rbox.sh(&image, &[], look));
    Ok(())
}

#[test]
fn who_joins_a_joiner_is_with_the_first() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let _one = start(&rbox, &image, "one", &["--uts=host"]);
    let _two = start(&rbox, &image, "two", &["--pid=container:one"]);
    let pid = rbox.run(["exec", "one", "readlink", "/proc/self/ns/pid"]).success();
    assert_eq!(rbox.run(["exec", "two", "readlink", "/proc/self/ns/pid"]).success(), pid);
    // What one has of the host's is the host's.
    let look = "readlink /proc/self/ns/pid; readlink /proc/self/ns/uts";
    let seen = rbox.sh(&image, &["--pid=container:two", "--uts=container:one"], look);
    assert_eq!(seen, format!("{pid}{}", of_host("uts")?));
    let inspected: Value = serde_json::from_str(&rbox.run(["inspect", "one", "two"]).success())?;
    let mode = inspected.pointer("/1/HostConfig/PidMode").and_then(Value::as_str);
    let id = inspected.pointer("/0/Id").and_then(Value::as_str).unwrap_or_default();
    assert_eq!(mode, Some(format!("container:{id}").as_str()));
    assert_eq!(inspected.pointer("/0/HostConfig/UTSMode").and_then(Value::as_str), Some("host"));
    Ok(())
}

#[test]
fn what_cannot_be_shared_is_refused() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let _one = start(&rbox, &image, "one", &["--ipc=private"]);
    let _two = start(&rbox, &image, "two", &[]);
    for (flags, words) in [
        (&["--ipc=container:one"][..], &["one", "private"][..]),
        (&["--ipc=container:two", "--pid=container:one"], &["one", "two", "user namespace"]),
        (&["--pid=container:none"], &["none"]),
        (&["--pid=container:"], &["--pid", "container:"]),
        (&["--pid=ns:/proc/1/ns/pid"], &["--pid", "path"]),
        (&["--pid=bogus"], &["--pid", "bogus"]),
        (&["--uts=host", "--hostname=x"], &["--hostname", "--uts"]),
        (&["--uts=container:two", "--hostname=x"], &["--hostname", "--uts"]),
        (&["--pid=host", "--init"], &["--init", "--pid"]),
    ] {
        rbox.run([&["run", "--rm"], flags, &[&image, "true"]].concat()).refused(words);
    }
    rbox.run(["run", "--name", "ended", &image, "true"]).success();
    rbox.run(["run", "--rm", "--pid=container:ended", &image, "true"]).refused(&["ended", "not running"]);
    Ok(())
}

#[test]
fn the_end_of_a_container_without_processes_of_its_own() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    for status in [0, 7] {
        let script = format!("exit {status}");
        rbox.run(["run", "--rm", "--pid=host", &image, "sh", "-c", &script]).exits(status);
    }
    // Its workload ends with its supervisor.
    let mark = format!("TEST={}", rbox.home().display());
    let flags = ["run", "--rm", "--pid=host", "-e", &mark, &image, "sh", "-c", "echo ready; exec sleep 1000"];
    let mut running = rbox.start(flags);
    running.expect("ready");
    until(|| processes::with_variable(&mark), |found| !found.is_empty());
    running.kill();
    until(|| processes::with_variable(&mark), Vec::is_empty);
    // With the first process of a pid namespace, all in it end.
    let mut one = start(&rbox, &image, "one", &[]);
    let mut two = rbox.start(["run", "--rm", "--pid=container:one", &image, "sh", "-c", "echo ready; exec sleep 1000"]);
    two.expect("ready");
    rbox.run(["rm", "--force", "one"]).success();
    assert_eq!((one.wait(), two.wait()), (137, 137));
    Ok(())
}

#[test]
fn exec_comes_into_the_same() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let _one = start(&rbox, &image, "one", &["--pid=host", "--ipc=host", "--uts=host"]);
    let look = "for n in pid ipc uts; do readlink /proc/self/ns/$n; done";
    let expected = [of_host("pid")?, of_host("ipc")?, of_host("uts")?].join("\n");
    assert_eq!(rbox.run(["exec", "one", "sh", "-c", look]).success().trim_end(), expected);
    let own = read(std::process::Command::new("readlink").arg("/proc/self/ns/mnt"))?;
    assert_ne!(rbox.run(["exec", "one", "readlink", "/proc/self/ns/mnt"]).success(), own);
    Ok(())
}
