//! `rbox cp`: files from a container and into one.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result};
use rbox_tests::attacker;
use rbox_tests::detached::Detached;
use rbox_tests::layer::Layer;
use rbox_tests::patience::until;
use rbox_tests::rbox::{Outcome, Rbox};

/// A container called `box`, running or not, and files in the home directory.
struct There {
    rbox: Rbox,
    image: String,
}

impl There {
    fn new() -> Result<Self> {
        let (rbox, image) = Rbox::with_small_image()?;
        let there = Self { rbox, image };
        fs::create_dir_all(there.at("dir/inner"))?;
        fs::write(there.at("dir/inner/x"), "x")?;
        fs::write(there.at("file"), "from outside\n")?;
        Ok(there)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.rbox.home().join(name)
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.at(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Starts it; the script has come to its end.
    fn start(&self, flags: &[&str], script: &str) -> Detached<'_> {
        let container =
            Detached::start(&self.rbox, &self.image, "box", flags, &format!("{script}; echo ready; exec sleep 1000"));
        until(|| container.logs(), |logs| logs.contains("ready"));
        container
    }

    fn cp(&self, from: &str, to: &str) -> Outcome {
        self.rbox.run(["cp", from, to])
    }

    #[track_caller]
    fn copied(&self, from: &str, to: &str) {
        assert_eq!(self.cp(from, to).success(), "");
    }

    /// What a script says in it, which runs.
    #[track_caller]
    fn says(&self, script: &str) -> String {
        self.rbox.run(["exec", "box", "sh", "-c", script]).success().trim_end().to_owned()
    }
}

const MAKE: &str = "mkdir -p /d/inner /into; echo one > /d/one; chown 5:6 /d/one; chmod 4750 /d/one; touch -d '2001-02-03 04:05:06' /d/one; \
    ln -s one /d/link; ln /d/one /d/inner/again; ln -s /d /to-d; mkfifo /d/fifo";

#[test]
fn out_of_one_that_runs_and_of_one_that_does_not() -> Result<()> {
    let there = There::new()?;
    let container = there.start(&[], MAKE);
    let own = fs::metadata(there.at("file"))?.uid();
    for state in ["running", "stopped"] {
        if state == "stopped" {
            there.rbox.run(["stop", "-t0", "box"]).success();
        }
        let into = |name: &str| format!("{state}/{name}");
        fs::create_dir(there.at(state))?;
        // A file to a new name, over another one, into a directory.
        there.copied("box:/d/one", &into("one"));
        let seen = fs::metadata(there.at(&into("one")))?;
        assert_eq!((there.text(&into("one")).as_str(), seen.uid(), seen.mtime()), ("one\n", own, 981_173_106));
        assert_eq!(seen.permissions().mode() & 0o7777, 0o750, "what is set-user-id in a container is not on the host");
        fs::write(there.at(&into("old")), "old")?;
        there.copied("box:d/one", &into("old"));
        assert_eq!(there.text(&into("old")), "one\n");
        there.copied("box:/d/one", &into("."));
        // A directory to a new name, into one, and what is in it.
        for (from, to, found) in [
            ("box:/d", "new", "new/one"),
            ("box:/d/", "new", "new/d/one"),
            ("box:/d/.", "new2", "new2/one"),
            ("box:/d/.", "new2", "new2/inner/again"),
            ("box:/to-d/", "new2", "new2/to-d/one"),
            ("box:/d/inner/..", "new2/inner", "new2/inner/one"),
        ] {
            there.copied(from, &into(to));
            assert_eq!(there.text(&into(found)), "one\n", "{from}");
        }
        assert_eq!(fs::read_link(there.at(&into("new/link")))?, PathBuf::from("one"));
        assert_eq!(
            fs::metadata(there.at(&into("new/one")))?.ino(),
            fs::metadata(there.at(&into("new/inner/again")))?.ino()
        );
        // A link itself, or what it leads to.
        there.copied("box:/d/link", &into("link"));
        assert!(there.at(&into("link")).is_symlink());
        there.rbox.run(["cp", "-L", "box:/d/link", &into("followed")]).success();
        assert_eq!(there.text(&into("followed")), "one\n");
        assert!(!there.at(&into("followed")).is_symlink());
        // As it is there; who is not root keeps what is his.
        there.rbox.run(["cp", "-a", "box:/d/one", &into("archived")]).success();
        let seen = fs::metadata(there.at(&into("archived")))?;
        assert_eq!((seen.permissions().mode() & 0o7777, seen.uid()), (0o4750, own));

        there.cp("box:/none", "x").refused(&["box:/none", "no such file or directory"]);
        there.cp("box:/d/one/", "x").refused(&["not a directory"]);
        there.cp("box:/d/one/.", "x").refused(&["not a directory"]);
        there.cp("box:/d", "file").refused(&["cannot copy a directory"]);
        there.cp("box:/d/one", "missing/").refused(&["no such directory"]);
        there.cp("box:/d/one", "missing/x").refused(&["no such file or directory"]);
        there.cp("box:/d/one", "file/").refused(&["not a directory"]);
        assert_eq!(there.text("file"), "from outside\n");
    }
    drop(container);
    Ok(())
}

#[test]
fn into_one_that_runs_and_into_one_that_does_not() -> Result<()> {
    let there = There::new()?;
    fs::set_permissions(there.at("file"), PermissionsExt::from_mode(0o640))?;
    let copy = |state: &str| {
        let to = |name: &str| format!("box:/{state}/{name}");
        there.copied("dir", &format!("box:/{state}"));
        there.copied("file", &to("new"));
        there.copied("file", &to(""));
        there.copied("dir", &to("sub"));
        there.copied("dir", &to("sub"));
        there.copied("dir/.", &to("all"));
        there.copied("dir/inner/.", &to("all"));
        there.rbox.run(["cp", "-a", "file", &to("archived")]).success();
        there.cp("dir", &to("new")).refused(&["cannot copy a directory"]);
        there.cp("file", &to("none/")).refused(&["no such directory"]);
        there.cp("file", &to("none/x")).refused(&["no such file or directory"]);
        there.cp("file", &to("new/")).refused(&["not a directory"]);
        there.cp("none", &to("x")).refused(&["none", "no such file or directory"]);
        // A file where a directory is, in the middle of what is copied.
        fs::create_dir_all(there.at("odd/inner/x")).expect("made");
        there.cp("odd/.", &to("sub")).refused(&["cannot overwrite non-directory"]);
    };
    let look = "cd /$0 && cat new file sub/inner/x sub/dir/inner/x all/inner/x all/x; stat -c '%u:%g %a' new; \
        stat -c %u:%g archived sub";
    let own = fs::metadata(there.at("file"))?;
    let wanted = format!("from outside\nfrom outside\nxxxx0:0 640\n{}:{}\n0:0", own.uid(), own.gid());
    let container = there.start(&[], ":");
    copy("running");
    let seen = |state: &str| there.rbox.run(["exec", "box", "sh", "-c", look, state]).success().trim_end().to_owned();
    assert_eq!(seen("running"), wanted);
    there.rbox.run(["pause", "box"]).success();
    there.copied("file", "box:/paused");
    there.rbox.run(["unpause", "box"]).success();
    assert_eq!(there.says("cat /paused"), "from outside");
    there.rbox.run(["stop", "-t0", "box"]).success();
    copy("stopped");
    there.rbox.run(["start", "box"]).success();
    assert_eq!(seen("stopped"), wanted);
    // One that has never run.
    there.rbox.run(["create", "--name=made", &there.image, "cat", "/etc/mine"]).success();
    there.copied("file", "made:/etc/mine");
    assert_eq!(there.rbox.run(["start", "-a", "made"]).success(), "from outside\n");
    there.rbox.run(["rm", "made"]).success();
    // One that was run in the foreground, and cannot be started again: as often as one likes.
    there.rbox.run(["run", "--name=ran", &there.image, "true"]).success();
    for number in 0..6 {
        there.copied("file", &format!("ran:/{number}"));
    }
    assert_eq!(there.rbox.run(["diff", "ran"]).success().lines().count(), 6);
    there.rbox.run(["rm", "ran"]).success();
    drop(container);
    Ok(())
}

#[test]
fn as_streams() -> Result<()> {
    let there = There::new()?;
    let container = there.start(&[], MAKE);
    let list = |from: &str| -> Result<Vec<String>> {
        let output = there.rbox.command(["cp", from, "-"]).stdin(Stdio::null()).output()?;
        assert!(output.status.success(), "{output:?}");
        let mut archive = tar::Archive::new(&output.stdout[..]);
        archive.entries()?.map(|entry| Ok(String::from_utf8_lossy(&entry?.path_bytes()).into_owned())).collect()
    };
    assert_eq!(list("box:/d/one")?, ["one"]);
    assert_eq!(list("box:/d/inner")?, ["inner/", "inner/again"]);
    assert_eq!(list("box:/d/inner/.")?, ["again"]);
    let archive = there.rbox.command(["cp", "-a", "box:/d", "-"]).output()?.stdout;
    let from = |flags: &[&str], to: &str| there.rbox.run_with_input([&["cp"], flags, &["-", to]].concat(), &archive);
    from(&[], "box:/tmp").success();
    from(&["-a"], "box:/into").success();
    assert_eq!(there.says("stat -c %u:%g /tmp/d/one /into/d/one; readlink /tmp/d/link"), "0:0\n5:6\none");
    from(&[], "box:/none").refused(&["box:/none", "must be a directory"]);
    there.rbox.run_with_input(["cp", "-", "box:/tmp"], b"nonsense").refused(&["not a tar archive"]);
    let layer = Layer::new().file("../out", 0o644, "x");
    there.rbox.run_with_input(["cp", "-", "box:/tmp/d"], &layer.to_tar()).refused(&["../out", "'..'"]);
    // What layers read otherwise is a name as any other.
    let layer = Layer::new().file(".wh.d", 0o644, "x").char_device("node", 0o666, 1, 3);
    let outcome = there.rbox.run_with_input(["cp", "-", "box:/tmp"], &layer.to_tar()).exits(0);
    assert!(outcome.stderr.contains("1 devices were left out"), "{}", outcome.stderr);
    assert_eq!(there.says("cat /tmp/.wh.d /tmp/d/one; test -e /tmp/node || echo none"), "xone\nnone");
    drop(container);
    Ok(())
}

#[test]
fn words_that_are_refused() -> Result<()> {
    let there = There::new()?;
    there.rbox.run(["create", "--name=box", &there.image, "true"]).success();
    there.cp("file", "other").refused(&["at least one container"]);
    there.cp("box:/a", "box:/b").refused(&["between containers"]);
    there.cp("nobody:/a", ".").refused(&["no such container", "nobody"]);
    there.cp("file", "nobody:/").refused(&["no such container", "nobody"]);
    there.rbox.run(["cp", "file"]).exits(125);
    // A path of the host's may have a colon.
    fs::write(there.at("a:b"), "colon")?;
    there.copied("./a:b", "box:/x");
    there.copied("box:x", "y");
    assert_eq!(there.text("y"), "colon");
    Ok(())
}

#[test]
fn what_is_mounted_in_a_container_that_runs() -> Result<()> {
    let there = There::new()?;
    fs::create_dir(there.at("volume"))?;
    fs::write(there.at("bound"), "bound\n")?;
    let volume = format!("--volume={}:/vol", there.at("volume").display());
    let read_only = format!("--volume={}:/ro:ro", there.at("dir").display());
    let bound = format!("--volume={}:/bound", there.at("bound").display());
    let container = there.start(&[&volume, &read_only, &bound, "--tmpfs=/tt"], "echo tmpfs > /tt/file");
    there.copied("box:/tt/file", "of-tmpfs");
    assert_eq!(there.text("of-tmpfs"), "tmpfs\n");
    there.copied("file", "box:/vol/new");
    assert_eq!(there.text("volume/new"), "from outside\n");
    there.cp("file", "box:/ro/new").refused(&["read-only file system"]);
    // What is mounted is not unmounted by a file that takes its name.
    let mounts = there.says("wc -l < /proc/self/mountinfo");
    there.copied("file", "box:/bound");
    assert_eq!((there.text("bound").as_str(), there.says("cat /bound").as_str()), ("from outside\n", "from outside"));
    there.copied("file", "box:/etc/hosts");
    assert_eq!(there.says("cat /etc/hosts"), "from outside");
    there.cp("file", "box:/dev/null").refused(&["busy"]);
    there.cp("file", "box:/proc/version").refused(&["version"]);
    assert_eq!(there.says("test -c /dev/null && wc -l < /proc/self/mountinfo"), mounts);
    // All of it, but not what the kernel shows of itself.
    let all = there.cp("box:/", "all").exits(0);
    assert!(all.stderr.contains("devices were left out"), "{}", all.stderr);
    assert_eq!(there.text("all/tt/file"), "tmpfs\n");
    assert_eq!(fs::read_dir(there.at("all/proc"))?.count() + fs::read_dir(there.at("all/sys"))?.count(), 0);
    drop(container);
    Ok(())
}

/// Links in a container lead nowhere else than in the container.
///
/// To see it fail: have `InRoot` (container) open paths with `beneath` joined to the root's path; or `Outside` follow links.
#[test]
fn cve_2019_10152_links_of_a_container_stay_in_it() -> Result<()> {
    let there = There::new()?;
    let home = there.rbox.home().display().to_string();
    let script = format!(
        "mkdir -p /d/x '{home}'; echo inside > '{home}/file'; ln -s '{home}/file' /out; ln -s /../../../..{home} /dir; \
         ln -s /proc/1/root /magic; ln -s /proc/self/cwd /cwd; ln -s '{home}' /d/x/link"
    );
    let container = there.start(&[], &script);
    for state in ["running", "stopped"] {
        if state == "stopped" {
            there.rbox.run(["stop", "-t0", "box"]).success();
        }
        // What was written there by way of a link, and inside.
        let wanted = if state == "running" { "inside\n" } else { "x" };
        for from in ["box:/dir/file", "box:/../../..{home}/file"] {
            there.copied(&from.replace("{home}", &home), "got");
            assert_eq!(there.text("got"), wanted, "{state} {from}");
        }
        there.rbox.run(["cp", "-L", "box:/out", "got"]).success();
        assert_eq!(there.text("got"), wanted);
        fs::remove_file(there.at("got"))?;
        for to in ["box:/out", "box:/dir/new", "box:/dir"] {
            there.copied("dir/inner/x", to);
        }
        there.cp("dir", "box:/magic/tmp").refused(&["cannot copy to box:/magic/tmp"]);
        there.cp("box:/magic/etc/passwd", "x").refused(&["cannot copy box:/magic/etc/passwd"]);
        there.cp("box:/cwd/file", "x").refused(&["cannot copy box:/cwd/file"]);
        assert_eq!(there.text("file"), "from outside\n");
        assert!(!there.at("new").exists() && !there.at("x").exists());
        // A link comes out as a link, and what comes after does not go through it.
        there.copied("box:/d", &format!("out-{state}"));
        assert!(there.at(&format!("out-{state}/x/link")).is_symlink());
        let copy = there.cp("box:/d/.", &format!("out-{state}"));
        assert_eq!(copy.status, 0, "{}", copy.stderr);
    }
    // What the caller has himself is followed where he says so, and not on the way.
    fs::create_dir_all(there.at("target"))?;
    symlink("target", there.at("to-target"))?;
    there.copied("box:/d/x", "to-target");
    assert!(there.at("target/x/link").is_symlink());
    fs::create_dir_all(there.at("into"))?;
    symlink("../target", there.at("into/x"))?;
    there.cp("box:/d/.", "into").refused(&["cannot overwrite non-directory x with directory"]);
    drop(container);
    Ok(())
}

/// The same as a race: a directory of the container is exchanged for a link to the host's for ever, while files come out of
/// it and go into it.
#[test]
fn cve_2018_15664_links_that_are_swapped_meanwhile() -> Result<()> {
    let there = There::new()?;
    fs::create_dir(there.at("kit"))?;
    attacker::install(&there.at("kit/kit"))?;
    fs::create_dir(there.at("secret"))?;
    fs::write(there.at("secret/file"), "secret")?;
    let secret = there.at("secret").display().to_string();
    let volume = format!("--volume={}:/kit", there.at("kit").display());
    let script = format!(
        "mkdir -p /d/real; echo inside > /d/real/file; ln -s '{secret}' /d/link; /kit/kit swap /d/real /d/link & :"
    );
    let container = there.start(&[&volume], &script);
    fs::create_dir(there.at("many"))?;
    for number in 0..50 {
        fs::write(there.at(&format!("many/{number}")), "mine")?;
    }
    let mut came = 0;
    for turn in 0..40 {
        let out = format!("out-{turn}");
        let copied = there.cp("box:/d/real/file", &out);
        assert!(!copied.stderr.contains("panicked"), "{}", copied.stderr);
        if copied.status == 0 {
            came += 1;
            assert_eq!(there.text(&out), "inside\n");
        }
        let _ = there.cp("box:/d", &format!("all-{turn}"));
        let _ = there.cp("many/.", "box:/d/real");
        assert_eq!(fs::read_dir(&secret)?.count(), 1, "something was written outside");
    }
    assert!(came > 0, "nothing came through");
    for turn in 0..40 {
        for name in ["real", "link"] {
            let path = there.at(&format!("all-{turn}/{name}"));
            assert!(
                path.is_symlink()
                    || fs::read_to_string(path.join("file")).is_ok_and(|text| text != "secret")
                    || !path.join("file").exists()
            );
        }
    }
    drop(container);
    Ok(())
}

/// To see it fail: have the placer (overlay) make files by their names.
#[test]
fn what_is_broken_off_leaves_the_file_that_was_there() -> Result<()> {
    let there = There::new()?;
    let container = there.start(&[], "dd if=/dev/zero of=/big bs=1M count=100 2>/dev/null; echo kept > /kept");
    fs::write(there.at("kept"), "kept\n")?;
    fs::write(there.at("big"), vec![0; 100 << 20])?;
    let before = fs::read_dir(there.rbox.home())?.count();
    let whole = 100 << 20;
    for (from, to) in [("box:/big", "kept"), ("big", "box:/kept")] {
        for signal in ["KILL", "TERM"] {
            let running = there.rbox.start(["cp", from, to]);
            std::thread::sleep(std::time::Duration::from_millis(60));
            running.signal(signal)?;
            drop(running);
            assert_eq!(fs::read_dir(there.rbox.home())?.count(), before, "{from} {signal}");
            assert!(
                matches!(fs::metadata(there.at("kept"))?.len(), 5) || fs::metadata(there.at("kept"))?.len() == whole
            );
            let size = || there.says("stat -c %s /kept; ls -a / | grep -c rbox-; :");
            until(size, |size| size == "5\n0" || *size == format!("{whole}\n0"));
            fs::write(there.at("kept"), "kept\n")?;
            there.says("echo kept > /kept");
        }
    }
    // On a disk that is full: one of the container's.
    there.rbox.run(["run", "-d", "--name=small", "--tmpfs=/tt:size=1m", &there.image, "sleep", "1000"]).success();
    let small = Detached::of(&there.rbox, "small");
    there.copied("file", "small:/tt/big");
    there.cp("big", "small:/tt").refused(&["no space left", "big"]);
    let left = there.rbox.run(["exec", "small", "sh", "-c", "ls -A /tt; cat /tt/big"]).success();
    assert_eq!(left, "big\nfrom outside\n");
    drop((small, container));
    Ok(())
}

#[test]
fn one_is_not_started_while_it_is_written_to() -> Result<()> {
    let there = There::new()?;
    there.rbox.run(["create", "--name=box", &there.image, "true"]).success();
    there.rbox.run(["start", "--attach", "box"]).success();
    let mut copying = there.rbox.command(["cp", "-", "box:/tmp"]);
    let mut copying = copying.stdin(Stdio::piped()).spawn()?;
    // The lock by which others are told.
    let written = || -> bool {
        let containers = fs::read_dir(there.rbox.store().join("containers")).into_iter().flatten().flatten();
        containers.into_iter().any(|container| container.path().join("written").exists())
    };
    until(written, |written| *written);
    let state = || there.rbox.run(["inspect", "-f", "{{.State.Status}} {{.State.Pid}}", "box"]).success();
    until(state, |state| state == "exited 0\n");
    // They wait, and so does another copy.
    let mut waiting =
        [["start", "-a", "box"].as_slice(), &["cp", "file", "box:/x"]].map(|words| there.rbox.start(words));
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(waiting.iter_mut().all(|running| !running.has_ended()));
    copying.stdin.take().context("piped")?.write_all(&Layer::new().file("y", 0o644, "y").to_tar())?;
    assert!(copying.wait()?.success());
    let [start, copy] = &mut waiting;
    assert_eq!(start.wait(), 0);
    // Of a container that has ended while this came to it, it may say so.
    copy.wait();
    there.copied("box:/tmp/y", "y");
    there.rbox.run(["rm", "box"]).success();
    Ok(())
}

/// To see it fail: have `join` (rootless) leave out `set_undumpable`.
#[test]
fn who_copies_is_not_traced() -> Result<()> {
    let there = There::new()?;
    let container = there.start(&["--privileged", "--pid=host"], ":");
    let mut copying = there.rbox.command(["cp", "-", "box:/tmp"]);
    let mut copying = copying.stdin(Stdio::piped()).spawn()?;
    // Its root is a door to the host's files, for who may trace it.
    let script = "for p in /proc/[0-9]*; do if grep -qs '__file[s]-join' $p/cmdline && grep -q '^CapEff:.*f$' $p/status; then \
        ls -d $p/root/ >/dev/null 2>&1 && echo open || echo closed; fi; done";
    let look = || there.rbox.run(["exec", "--privileged", "box", "sh", "-c", script]).success();
    // The host's processes are seen, those of the tests beside this one too.
    let seen = until(look, |seen| !seen.is_empty());
    assert!(seen.lines().all(|line| line == "closed"), "{seen}");
    drop(copying.stdin.take());
    assert!(copying.wait()?.success());
    drop(container);
    Ok(())
}
