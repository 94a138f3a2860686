//! Run by root: a user namespace all the same.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use rbox_tests::bundle::Bundle;
use rbox_tests::detached::Detached;
use rbox_tests::patience::until;
use rbox_tests::rbox::{Rbox, finish};
use rbox_tests::{alpine, host};
use serde_json::json;

#[test]
fn root_outside_is_not_root_over_the_host() -> Result<()> {
    assert_eq!(host::uid(), 0, "run by cargo xtask test as root");
    let (rbox, name) = Rbox::with_small_image()?;
    let seen =
        rbox.run(["run", "--rm", &name, "sh", "-c", "id -u; readlink /proc/self/ns/user; cat /proc/self/uid_map"]);
    let seen = seen.success();
    let lines: Vec<&str> = seen.lines().collect();
    assert_eq!(lines[0], "0");
    let outside = std::fs::read_link("/proc/self/ns/user")?;
    assert_ne!(lines[1], outside.to_string_lossy());
    // The whole machine's ids, mapped to themselves, would be no namespace to speak of.
    assert!(!lines[2].ends_with("4294967295"), "{seen}");
    Ok(())
}

#[test]
fn alpine_runs_and_goes() -> Result<()> {
    let (rbox, name) = Rbox::with_image(&alpine::layout()?, alpine::TAG, "library/alpine:3.23")?;
    let script = "touch /f && chown 1000:2000 /f && stat -c '%u %g' /f; apk info -e musl";
    assert_eq!(rbox.run(["run", "--rm", &name, "sh", "-c", script]).success(), "1000 2000\nmusl\n");
    rbox.run(["rmi", &name]).success();
    rbox.run(["gc"]).success();
    assert_eq!(rbox.layers(), Vec::<String>::new());
    Ok(())
}

/// Such a container's mounts are the host's as well; `delete` takes them away.
#[test]
fn a_container_without_namespaces() -> Result<()> {
    let bundle =
        Bundle::new("for kind in mnt pid net uts; do readlink /proc/self/ns/$kind; done; touch /here; sleep 600")?;
    bundle.change(|config| {
        config["linux"] = json!({ "namespaces": [] });
        config["mounts"] = json!([{ "destination": "/proc", "type": "proc", "source": "proc" }]);
        config.as_object_mut().expect("an object").remove("hostname");
    })?;
    let mounted = || -> Result<usize> {
        let (place, mounts) = (bundle.inside(""), fs::read_to_string("/proc/self/mountinfo")?);
        let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
        Ok(points.filter(|point| Path::new(point).starts_with(&place)).count())
    };
    let before = mounted()?;
    bundle.create("no-namespaces", &[])?.exits(0);
    assert_eq!(mounted()?, before + 2, "the root filesystem and /proc");
    bundle.runtime(["start", "no-namespaces"]).success();
    let of_host = ["mnt", "pid", "net", "uts"].map(|kind| fs::read_link(format!("/proc/self/ns/{kind}")));
    let expected: Vec<_> = of_host.into_iter().map(|link| Ok(link?.display().to_string())).collect::<Result<_>>()?;
    until(|| bundle.output(), |output| output.lines().eq(&expected));
    let inside = bundle.runtime(["exec", "no-namespaces", "sh", "-c", "ls -d /here; readlink /proc/self/ns/mnt"]);
    assert_eq!(inside.success(), format!("/here\n{}\n", expected[0]));
    bundle.runtime(["delete", "--force", "no-namespaces"]).success();
    assert_eq!(mounted()?, before);
    bundle.change(|config| config["process"]["args"] = json!(["/no/such/program"]))?;
    assert_ne!(bundle.create("no-namespaces", &[])?.status, 0);
    assert_eq!(mounted()?, before, "a creation that fails leaves none");
    Ok(())
}

/// Nothing but its own nodes stands between this root and the host's.
#[test]
fn devices_are_the_containers_own_without_a_user_namespace() -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    let bundle = Bundle::new("chown 7:7 /dev/full; stat -c '%t:%T %u' /dev/full")?;
    bundle.change(|config| {
        config["linux"]["namespaces"] = json!([{ "type": "mount" }, { "type": "pid" }]);
        for key in ["uidMappings", "gidMappings"] {
            config["linux"].as_object_mut().expect("an object").remove(key);
        }
        config.as_object_mut().expect("an object").remove("hostname");
    })?;
    assert_eq!(bundle.runtime(["run", "own-devices"]).success(), "1:7 7\n");
    let of_host = fs::metadata("/dev/full")?;
    assert_eq!((of_host.uid(), of_host.mode() & 0o777), (0, 0o666), "the host's");
    Ok(())
}

/// Where no cgroup can be made, root's container fails, unless root is taken for an ordinary user or the spec asks for a
/// cgroup.
#[test]
fn root_is_rootless_by_flag() -> Result<()> {
    let bundle = Bundle::new("echo ran")?;
    let without_cgroups = |flag: &str| {
        let runtime = bundle.command([flag, "run", "rootless-by-flag"]);
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", "mount -o remount,bind,ro /sys/fs/cgroup && exec \"$@\"", "sh"]);
        command.arg(runtime.get_program()).args(runtime.get_args()).current_dir(bundle.path());
        finish(command.stdin(Stdio::null()))
    };
    assert_eq!(without_cgroups("--rootless=true").success(), "ran\n");
    for flag in ["--rootless=false", "--rootless=auto"] {
        let refused = without_cgroups(flag);
        assert!(refused.status == 1 && refused.stderr.contains("may not make the cgroup"), "{flag}: {refused:?}");
    }
    bundle.change(|config| config["linux"]["cgroupsPath"] = json!("/rbox-rootless-by-flag"))?;
    let refused = without_cgroups("--rootless=true");
    assert!(refused.status == 1 && refused.stderr.contains("/rbox-rootless-by-flag"), "{refused:?}");
    Ok(())
}

/// `PrivateUsers=full` of systemd and `unshare --map-users=all` map every id to itself. That root may do no more to the
/// host than another.
#[test]
fn root_of_a_namespace_with_every_id() -> Result<()> {
    let bundle = Bundle::new("echo ran")?;
    bundle.change(|config| {
        let linux = config["linux"].as_object_mut().expect("an object");
        linux["namespaces"].as_array_mut().expect("a list").retain(|namespace| namespace["type"] != "user");
        linux.remove("uidMappings");
        linux.remove("gidMappings");
    })?;
    let runtime = bundle.command(["run", "every-id"]);
    let mut command = Command::new("unshare");
    command.args(["--user", "--mount", "sh", "-c", "echo; read -r _ && exec \"$@\" </dev/null", "sh"]);
    command.arg(runtime.get_program()).args(runtime.get_args()).current_dir(bundle.path());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut out = BufReader::new(child.stdout.take().context("piped")?);
    out.read_line(&mut String::new())?;
    for map in ["uid_map", "gid_map"] {
        fs::write(format!("/proc/{}/{map}", child.id()), "0 0 4294967295")?;
    }
    child.stdin.take().context("piped")?.write_all(b"\n")?;
    let mut said = String::new();
    out.read_to_string(&mut said)?;
    let rest = child.wait_with_output()?;
    assert_eq!((said.as_str(), rest.status.code()), ("ran\n", Some(0)), "{}", String::from_utf8_lossy(&rest.stderr));
    Ok(())
}

/// A caller's groups are nobody in the container, and open what they open.
#[test]
fn the_callers_groups_are_kept() -> Result<()> {
    let (rbox, name) = Rbox::with_small_image()?;
    let groups = |flags: &[&str]| {
        let words = [&["run", "--rm"], flags, &[&name, "grep", "^Groups:", "/proc/self/status"]].concat();
        let mut command = rbox.command_under(&["setpriv", "--groups", "12345"], words);
        finish(command.stdin(Stdio::null())).success().split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(groups(&["--group-add=keep-groups"]), ["Groups:", "65534"]);
    assert_eq!(groups(&["--group-add=keep-groups", "-u", "5:6"]), ["Groups:", "65534"]);
    assert!(!groups(&[]).contains(&"65534".into()));
    Ok(())
}

#[test]
fn root_joins_the_namespaces_of_its_containers() -> Result<()> {
    let (rbox, name) = Rbox::with_small_image()?;
    let mut first = rbox.start(["run", "--rm", "--name", "one", &name, "sh", "-c", "echo ready; exec sleep 1000"]);
    first.expect("ready");
    until(|| rbox.run(["exec", "one", "true"]), |outcome| outcome.status == 0);
    let user = rbox.run(["exec", "one", "readlink", "/proc/self/ns/user"]).success();
    let dir = rbox.home().join("dir");
    fs::create_dir(&dir)?;
    fs::write(dir.join("file"), "of the host\n")?;
    let volume = format!("--volume={}:/mnt:ro", dir.display());
    let look =
        "readlink /proc/self/ns/user; ps | grep -c '[s]leep 1000'; cat /mnt/file; touch /dev/shm/x && echo written";
    let seen = rbox.sh(&name, &["--pid=container:one", "--ipc=container:one", &volume], look);
    assert_eq!(seen, format!("{user}1\nof the host\nwritten"));
    Ok(())
}

/// What the host mounts later appears where that was asked for, and nowhere else: also beside another container.
#[test]
fn mounts_of_the_host_come_through() -> Result<()> {
    let (rbox, name) = Rbox::with_small_image()?;
    let mounted = Mounted::at(&rbox.home().join("shared"))?;
    let mut first = rbox.start(["run", "--rm", "--name", "one", &name, "sh", "-c", "echo ready; exec sleep 1000"]);
    first.expect("ready");
    until(|| rbox.run(["exec", "one", "true"]), |outcome| outcome.status == 0);
    for flags in [&[][..], &["--pid=container:one"]] {
        for (word, comes) in [("rslave", true), ("rshared", true), ("rprivate", false)] {
            let volume = format!("--volume={}:/mnt:{word},bind", mounted.0.display());
            let script = "echo ready; until test -e /mnt/go; do sleep 0.05; done; ls /mnt/below; echo end";
            let mut running = rbox.start([&["run", "--rm", &volume], flags, &[&name, "sh", "-c", script]].concat());
            running.expect("ready");
            fs::create_dir_all(mounted.0.join("below"))?;
            let below = Mounted::at(&mounted.0.join("below"))?;
            fs::write(below.0.join("later"), "")?;
            fs::write(mounted.0.join("go"), "")?;
            assert_eq!(running.expect("end").contains("later"), comes, "{word} {flags:?}");
            assert_eq!(running.wait(), 0);
            fs::remove_file(mounted.0.join("go"))?;
        }
    }
    Ok(())
}

/// A tmpfs whose mounts are shared, until this is dropped.
struct Mounted(std::path::PathBuf);

impl Mounted {
    fn at(path: &Path) -> Result<Self> {
        fs::create_dir_all(path)?;
        rbox_tests::command::read(Command::new("mount").args(["-t", "tmpfs", "rbox-test"]).arg(path))?;
        let mounted = Self(path.to_owned());
        rbox_tests::command::read(Command::new("mount").arg("--make-shared").arg(path))?;
        Ok(mounted)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn it_runs_by_itself() -> Result<()> {
    let (rbox, name) = Rbox::with_small_image()?;
    let script = "echo out; trap 'exit 3' TERM; while :; do sleep 0.05; done";
    let container = Detached::start(&rbox, &name, "box", &[], script);
    until(|| container.logs(), |logs| logs == "out\n");
    assert_eq!(rbox.run(["exec", "box", "id", "-u"]).success(), "0\n");
    let (first, monitor) = (container.pid(), container.monitor());
    rbox.run(["stop", "box"]).success();
    assert_eq!(container.inspect(&["State", "ExitCode"]), 3);
    rbox.run(["start", "box"]).success();
    until(|| container.logs(), |logs| logs == "out\nout\n");
    assert!(container.pid() != first && container.monitor() != monitor);
    let (first, monitor) = (container.pid(), container.monitor());
    rbox_tests::processes::signal(monitor, "KILL")?;
    until(|| fs::exists(format!("/proc/{first}")).unwrap_or(true), |there| !there);
    Ok(())
}

#[test]
fn a_disk_that_is_full_loses_no_end() -> Result<()> {
    let (rbox, name) = Rbox::with_small_image()?;
    let small = rbox.home().join("small");
    let mounted = Mounted::at(&small)?;
    let store = small.join("rbox");
    rbox_tests::command::read(Command::new("cp").arg("-a").args([&rbox.store(), &store]))?;
    let size = rbox_tests::command::read(Command::new("du").args(["-sk"]).arg(&small))?;
    let size: u64 = size.split_whitespace().next().unwrap_or_default().parse()?;
    let size = format!("remount,size={}k", size + 4096);
    rbox_tests::command::read(Command::new("mount").args(["-o", &size]).arg(&small))?;
    let rbox = rbox.env("XDG_DATA_HOME", &small.display().to_string());

    let fill = "until test -e /go; do sleep 0.05; done; cat /dev/zero > /filler; cat /dev/zero >> /filler; echo full";
    let script = format!("{fill}; seq 1 20000; echo err >&2; exit 7");
    let container = Detached::start(&rbox, &name, "box", &[], &script);
    rbox.run(["exec", "box", "touch", "/go"]).success();
    until(|| container.status(), |status| status == "exited");
    let more = fs::write(small.join("more"), vec![1; 64 << 10]).expect_err("the disk is full");
    assert_eq!(more.kind(), std::io::ErrorKind::StorageFull);
    assert_eq!(container.inspect(&["State", "ExitCode"]), 7);
    let listed = rbox.run(["ps", "-a", "--format", "{{.Names}} {{.Status}}"]).success();
    assert!(listed.starts_with("box Exited (7) "), "{listed:?}");
    rbox.run(["logs", "box"]).success();
    assert_eq!(rbox.run(["wait", "box"]).success(), "7\n");
    rbox.run(["rm", "box"]).success();
    assert_eq!(fs::read_dir(store.join("containers"))?.count(), 0);
    let _ = fs::remove_file(small.join("more"));
    assert_eq!(rbox.run(["run", "--rm", &name, "echo", "room"]).success(), "room\n");
    drop(container);
    drop(mounted);
    Ok(())
}

/// Of a monitor without a user namespace of its own. The number that its pid namespace has for the check is some other
/// process's on the host, which is left alone.
#[test]
fn health_checks_of_a_container_of_roots() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let adjustments = || -> Vec<_> {
        (2..100).map(|pid| fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap_or_default()).collect()
    };
    assert!(!adjustments().contains(&"77\n".to_owned()), "as this test needs it");
    let command = "cat /proc/self/oom_score_adj; readlink /proc/self/ns/user";
    let flags = ["--health-interval=50ms", "--oom-score-adj=77", "--health-cmd", command];
    let container = Detached::start(&rbox, &image, "box", &flags, "readlink /proc/self/ns/user; exec sleep 1000");
    until(|| container.inspect(&["State", "Health", "Status"]), |word| word == "healthy");
    let own = until(|| container.logs(), |logs| logs.ends_with('\n'));
    assert_eq!(container.inspect(&["State", "Health", "Log"])[0]["Output"], format!("77\n{own}"));
    until(|| container.inspect(&["State", "Health", "Log"]).as_array().map(Vec::len), |length| *length == Some(5));
    assert!(!adjustments().contains(&"77\n".to_owned()), "a process of the host's was taken for the check");
    Ok(())
}

/// Whatever makes its root filesystem, the container's root is not the host's, who owns the store.
#[test]
fn each_storage_driver_and_kept_ids() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    assert_eq!(rbox.run(["info", "-f", "{{.Driver}}"]).success(), "overlay\n");
    for driver in ["overlay", "fuse", "copy"] {
        let words = ["--storage-driver", driver, "run", "--rm", &image, "sh", "-c"];
        let script = "chown 5:6 /etc/passwd; rm /etc/group; stat -c '%u %g' /etc/passwd /bin; id -u";
        assert_eq!(rbox.run([&words[..], &[script]].concat()).success(), "5 6\n0 0\n0\n", "{driver}");
    }
    let look = "id -u; touch /tmp/x; stat -c '%u %g' /tmp/x /bin; exec sleep 1000";
    let one = Detached::start(&rbox, &image, "one", &["--userns=keep-id:uid=5,gid=6"], look);
    until(|| one.logs(), |said| said == "5\n5 6\n0 0\n");
    assert_eq!(rbox.run(["exec", "one", "id", "-u"]).success(), "5\n");
    Ok(())
}
