//! Ways out of a container that were found in other runtimes, each tried here.
//!
//! Each test says what to take out of the code to see it fail, and what it then shows. That was done for all of them.
//! docs/security.md says what they are to prove.
//!
//! Where an attack is a race, the attacker is a second container that shares the first one's root filesystem and swaps
//! two names in it for ever; the first one is started again and again.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::{Command, Stdio};

use anyhow::Result;
use rbox_tests::bundle::Bundle;
use rbox_tests::command::read;
use rbox_tests::host;
use rbox_tests::patience::until;
use rbox_tests::rbox::{Outcome, Rbox, finish};
use rbox_tests::running::Running;
use rbox_tests::terminal::Terminal;
use serde_json::{Value, json};

/// How many runs must go through in a race; with the defence gone one in ten or more of them is lost. And how often it is
/// tried for that: others fail, for what was swapped.
const RUNS: u32 = 25;
const TRIES: u32 = 400;

/// A second container on the root filesystem of `bundle`, that swaps these two names until it is dropped.
struct Swapping {
    _running: Running,
    _bundle: Bundle,
}

fn swapping(bundle: &Bundle, one: &str, other: &str) -> Result<Swapping> {
    let racer = Bundle::new("")?;
    racer.change(|config| {
        config["root"]["path"] = json!(bundle.inside("/"));
        config["process"]["args"] = json!(["/kit", "swap", one, other]);
        config["mounts"] = json!([]);
    })?;
    let mut running = racer.begin(["run", "racer"])?;
    running.expect("swapping");
    Ok(Swapping { _running: running, _bundle: racer })
}

/// Runs a container over and over, which must never panic, until enough of the runs went through.
fn race(run: impl Fn() -> Outcome, check: impl Fn(&Outcome)) {
    let mut ran = 0;
    for _ in 0..TRIES {
        let outcome = run();
        assert!(!outcome.stderr.contains("panicked"), "{}", outcome.stderr);
        check(&outcome);
        ran += u32::from(outcome.status == 0);
        if ran == RUNS {
            return;
        }
    }
    panic!("{ran} of {TRIES} runs went through");
}

fn raced(bundle: &Bundle) -> Outcome {
    bundle.runtime(["run", "raced"])
}

fn without_mount(config: &mut Value, destination: &str) {
    config["mounts"].as_array_mut().expect("a list").retain(|mount| mount["destination"] != destination);
}

/// A workload that is the runtime's own binary lets others in the container open it. They must not be able to write it.
///
/// To see it fail: have `own_exe::read_only` (runtime) give `File::open("/proc/self/exe")`. Both attempts then say
/// "Text file busy": it is the binary itself, and writable as soon as nobody runs it.
#[test]
fn cve_2019_5736_the_binary_is_read_only_inside() -> Result<()> {
    let bundle = Bundle::new("exec sleep 600")?;
    let binary = bundle.path().join("binary");
    // By another process: see run.rs, `the_binary_can_be_anywhere_and_of_any_mode`.
    read(Command::new("cp").arg(host::rbox_binary()).arg(&binary))?;
    let runtime = |arguments: &[&str]| {
        let command = bundle.command(arguments);
        let mut copy = Command::new(&binary);
        copy.args(command.get_args()).current_dir(bundle.path()).stdin(Stdio::null());
        copy
    };
    // rbox waits in there until somebody writes its configuration.
    read(Command::new("mkfifo").arg(bundle.inside("/config.json")))?;
    let itself = ["/proc/self/exe", "--root", "/tmp/states", "oci", "run", "--bundle", "/", "victim"];
    // With nothing of this test's open, which would be waited for.
    let start = |id| runtime(&["run", "--detach", id]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(start("one")?.success());
    let mut victim = Running::start(&mut runtime(&[&["exec", "one"], &itself[..]].concat()))?;
    let attack = "until pid=$(grep -l '[v]ictim' /proc/[0-9]*/cmdline); do :; done; dir=${pid%/cmdline}; \
        (echo pwned > $dir/exe); exec 3< $dir/exe; kill -9 ${dir#/proc/}; \
        while test -d $dir; do :; done; (echo pwned > /proc/self/fd/3)";
    let outcome = finish(&mut runtime(&["exec", "one", "sh", "-c", attack]));
    assert_eq!(outcome.stderr.matches("Read-only file system").count(), 2, "{}", outcome.stderr);
    assert_eq!(victim.wait(), 128 + 9);
    finish(&mut runtime(&["delete", "--force", "one"])).exits(0);

    // The first process of a container, likewise.
    bundle.change(|config| config["process"]["args"] = json!(itself))?;
    assert!(start("two")?.success());
    let outcome = finish(&mut runtime(&["exec", "two", "sh", "-c", "echo pwned > /proc/1/exe"]));
    assert!(outcome.stderr.contains("Read-only file system"), "{}", outcome.stderr);
    finish(&mut runtime(&["delete", "--force", "two"])).exits(0);
    assert!(fs::read(&binary)? == fs::read(host::rbox_binary())?, "the binary was written to");
    Ok(())
}

/// As the test before, of a container of `run`, by the user who owns the binary. One that somebody else owns cannot be
/// written anyway, and is not cloned.
///
/// To see it fail: with `own_exe::is_out_of_reach` giving true, the file is only busy, for as long as it runs.
#[test]
fn cve_2019_5736_nor_is_it_written_from_a_container_of_run() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let binary = rbox.home().join("binary");
    read(Command::new("cp").arg(host::rbox_binary()).arg(&binary))?;
    // rbox waits in there until somebody writes its configuration.
    let bundle = rbox.home().join("bundle");
    fs::create_dir(&bundle)?;
    read(Command::new("mkfifo").arg(bundle.join("config.json")))?;
    let volume = format!("{}:/b", bundle.display());
    let run = ["run", "--rm", "--name", "victim", "-v", &volume, &image];
    let itself = ["/proc/self/exe", "--root", "/tmp/states", "oci", "run", "--bundle", "/b", "x"];
    let mut victim = Command::new(&binary);
    victim.args(run).args(itself).env("HOME", rbox.home()).stdin(Stdio::null());
    let victim = Running::start(&mut victim)?;
    let attack = "until grep -q states /proc/1/cmdline; do :; done; echo pwned > /proc/1/exe";
    // Until the container has begun, it cannot be joined.
    let outcome = until(|| rbox.run(["exec", "victim", "sh", "-c", attack]), |outcome| outcome.status != 125);
    assert!(outcome.stderr.contains("Read-only file system"), "{}", outcome.stderr);
    drop(victim);
    assert!(fs::read(&binary)? == fs::read(host::rbox_binary())?, "the binary was written to");
    Ok(())
}

/// What the caller has open is neither handed on nor to be entered by way of /proc/self/fd, be it through a link of the
/// image's.
///
/// To see it fail: `process::close_on_exec_from` in `init::run` taken out, the first assertion shows descriptor 9; with
/// rustix's `chdir(path)` in `sys::process::change_directory`, `exec --cwd` prints "outside".
#[test]
fn cve_2024_21626_no_directory_of_the_callers_is_reached() -> Result<()> {
    let bundle = Bundle::new("ls /proc/self/fd | tr '\\n' ' '")?;
    let victim = bundle.path().join("victim");
    fs::create_dir(&victim)?;
    fs::write(victim.join("secret"), "outside")?;
    let open = format!("exec 9<{} 10</; exec \"$@\"", victim.display());
    let runtime = |arguments: &[&str]| {
        let command = bundle.command(arguments);
        let mut shell = Command::new("bash");
        shell.args(["-c", &open, "bash"]).arg(command.get_program()).args(command.get_args());
        shell.current_dir(bundle.path()).env("XDG_RUNTIME_DIR", bundle.path());
        finish(shell.stdin(Stdio::null()))
    };
    // The fourth is ls's own.
    assert_eq!(runtime(&["run", "one"]).success(), "0 1 2 3 ");

    bundle.change(|config| config["process"]["args"] = json!(["cat", "secret"]))?;
    for number in 3..16 {
        let link = format!("/link{number}");
        symlink(format!("/proc/self/fd/{number}"), bundle.inside(&link))?;
        for cwd in [format!("/proc/self/fd/{number}"), link] {
            bundle.change(|config| config["process"]["cwd"] = json!(cwd))?;
            let outcome = runtime(&["run", "one"]);
            assert!(outcome.status != 0 && outcome.stdout.is_empty(), "{cwd}: {outcome:?}");
        }
    }
    bundle.change(|config| {
        config["process"]["cwd"] = json!("/");
        config["process"]["args"] = json!(["sleep", "600"]);
    })?;
    bundle.start("two")?;
    for number in 3..16 {
        for cwd in [format!("/proc/self/fd/{number}"), format!("/link{number}")] {
            let outcome = runtime(&["exec", "--cwd", &cwd, "two", "cat", "secret"]);
            assert!(outcome.status != 0 && outcome.stdout.is_empty(), "{cwd}: {outcome:?}");
        }
    }
    Ok(())
}

/// Files are masked with /dev/null. An image, or who shares its root, must not choose what that is.
///
/// To see it fail: have `container_null` (runtime, mask.rs) give `null` without looking at it. "planted" is then what
/// /proc/version shows: without a race in the first half, and in some runs of the second.
#[test]
fn cve_2025_31133_masks_are_the_null_device() -> Result<()> {
    let bundle = Bundle::armed("cat /proc/version")?;
    let planted = bundle.inside("/planted");
    fs::write(&planted, "planted")?;
    bundle.change(|config| {
        // The image's own /dev.
        without_mount(config, "/dev");
        without_mount(config, "/dev/pts");
        config["linux"]["maskedPaths"] = json!(["/proc/version"]);
    })?;
    fs::create_dir(bundle.inside("/dev"))?;
    symlink("/planted", bundle.inside("/dev/null"))?;
    let outcome = bundle.runtime(["run", "one"]);
    assert!(outcome.status != 0 && outcome.stdout.is_empty(), "{outcome:?}");
    assert!(outcome.stderr.contains("/dev/null of the container is not the null device"), "{outcome:?}");
    // That it is missing is no way around it either.
    fs::remove_file(bundle.inside("/dev/null"))?;
    let outcome = bundle.runtime(["run", "one"]);
    assert!(outcome.status != 0 && outcome.stdout.is_empty(), "{outcome:?}");

    bundle.change(|config| {
        let null = json!({ "destination": "/dev/null", "type": "bind", "source": "/dev/null", "options": ["bind"] });
        config["mounts"].as_array_mut().expect("a list").push(null);
    })?;
    symlink("/planted", bundle.inside("/dev/other"))?;
    fs::write(bundle.inside("/dev/null"), "")?;
    let _racer = swapping(&bundle, "/dev/null", "/dev/other")?;
    race(|| raced(&bundle), |outcome| assert_eq!(outcome.stdout, "", "{outcome:?}"));
    Ok(())
}

/// The masks of the kernel's /proc go with it, to whatever name its mount point is given meanwhile.
///
/// To see it fail: have `Mounted::of` (runtime, mounted.rs) give `(self.root, path)`. /proc/version, masked, then shows
/// "Linux version …" in some runs.
#[test]
fn cve_2023_27561_a_proc_that_is_swapped_is_masked() -> Result<()> {
    let bundle = Bundle::armed("cat /proc/version /other/version 2>/dev/null; true")?;
    bundle.change(|config| config["linux"]["maskedPaths"] = json!(["/proc/version"]))?;
    fs::create_dir(bundle.inside("/proc"))?;
    fs::create_dir(bundle.inside("/other"))?;
    let _racer = swapping(&bundle, "/proc", "/other")?;
    race(|| raced(&bundle), |outcome| assert_eq!(outcome.stdout, "", "{outcome:?}"));
    Ok(())
}

/// A /proc that is a link would have the kernel's one elsewhere, and a /proc of the image's own making.
///
/// To see it fail: have `ordinary_directory` (runtime, rootfs.rs) look with `in_root::open_path(root, path)`. The bundle
/// then runs, with the kernel's /proc in /target.
#[test]
fn cve_2019_19921_a_proc_that_is_a_link_is_refused() -> Result<()> {
    let bundle = Bundle::new("cat /target/version")?;
    bundle.change(|config| config["linux"]["maskedPaths"] = json!(["/proc/version"]))?;
    symlink("/target", bundle.inside("/proc"))?;
    fs::create_dir(bundle.inside("/target"))?;
    let outcome = bundle.runtime(["run", "one"]);
    assert!(outcome.status != 0 && outcome.stdout.is_empty(), "{outcome:?}");
    assert!(outcome.stderr.contains("ordinary directory"), "{outcome:?}");
    Ok(())
}

/// /dev/console is the terminal, and not what somebody put in the place of its node.
///
/// To see it fail: have `show_console` (runtime, rootfs.rs) clone what `in_root::open_path(root, "/dev/pts/0")` finds,
/// instead of the open terminal. /dev/console is then "planted" in some runs.
#[test]
fn cve_2025_52565_the_console_is_the_terminal() -> Result<()> {
    let bundle = Bundle::armed("test -c /dev/console || cat /dev/console > /found")?;
    bundle.change(|config| {
        // On the shared root, where its mount point can be swapped.
        without_mount(config, "/dev");
        config["process"]["terminal"] = json!(true);
    })?;
    for directory in ["/dev/pts", "/dev/other"] {
        fs::create_dir_all(bundle.inside(directory))?;
    }
    fs::write(bundle.inside("/planted"), "planted")?;
    symlink("/planted", bundle.inside("/dev/other/0"))?;
    let _racer = swapping(&bundle, "/dev/pts", "/dev/other")?;
    let run = || {
        let mut terminal = Terminal::start(&bundle.command(["run", "raced"]), 24, 80).expect("a terminal");
        let status = terminal.wait();
        Outcome { arguments: "run raced".into(), status, stdout: String::new(), stderr: String::new() }
    };
    race(run, |_| {
        let found = fs::read_to_string(bundle.inside("/found")).unwrap_or_default();
        assert_eq!(found, "", "/dev/console is a file of the image's");
    });
    Ok(())
}

/// What is meant for the kernel is not written to a file that lies in the place of one of procfs.
///
/// To see it fail: have `Procfs::checked` (sys) give every root: "500" is then in the first file. And have
/// `Procfs::open` use /proc where it could have an instance of its own, and `Procfs::file` no `NO_XDEV`: then "500" is in
/// the second.
#[test]
fn cve_2025_52881_settings_are_written_to_procfs_only() -> Result<()> {
    // Without a pid namespace there is no procfs of its own, and /proc is the image's directory.
    let bundle = Bundle::new("true")?;
    let file = bundle.inside("/proc/self/oom_score_adj");
    fs::create_dir_all(bundle.inside("/proc/self"))?;
    fs::write(&file, "0")?;
    bundle.change(|config| {
        without_mount(config, "/proc");
        config["linux"]["namespaces"].as_array_mut().expect("a list").retain(|namespace| namespace["type"] != "pid");
        config["process"]["oomScoreAdj"] = json!(500);
    })?;
    let outcome = bundle.runtime(["run", "one"]);
    assert_eq!(fs::read_to_string(&file)?, "0", "written to the image");
    assert!(outcome.status != 0 && outcome.stderr.contains("/proc is not the root of procfs"), "{outcome:?}");

    // A link of the image's leads a volume over a file of procfs, as in CVE-2019-16884.
    let bundle = Bundle::new("cat /proc/self/oom_score_adj; grep ^0 /proc/1/oom_score_adj")?;
    let volume = bundle.path().join("volume");
    fs::write(&volume, "0")?;
    symlink("/proc/self/oom_score_adj", bundle.inside("/data"))?;
    bundle.change(|config| {
        let mount = json!({ "destination": "/data", "type": "bind", "source": volume, "options": ["bind"] });
        config["mounts"].as_array_mut().expect("a list").push(mount);
        config["process"]["oomScoreAdj"] = json!(500);
    })?;
    let outcome = bundle.runtime(["run", "one"]);
    assert_eq!(fs::read_to_string(&volume)?, "0", "written to the volume: {outcome:?}");
    Ok(())
}

/// A mount point, and what is made on the way to it, stays inside, whatever links lead there and are swapped meanwhile.
///
/// To see it fail: have `in_root::openat2` (sys) resolve with `ResolveFlags::empty()` what is left of a path without its
/// leading slash. "new" is then in the directory outside.
#[test]
fn cve_2021_30465_mount_points_stay_inside() -> Result<()> {
    let bundle = Bundle::armed("true")?;
    let victim = bundle.path().join("victim");
    fs::create_dir(&victim)?;
    let nothing_in_it = || -> Result<bool> { Ok(fs::read_dir(&victim)?.next().is_none()) };
    symlink(&victim, bundle.inside("/absolute"))?;
    symlink("../../victim", bundle.inside("/upwards"))?;
    for path in ["/absolute/new", "/upwards/new", "/absolute/file"] {
        bundle.change(|config| {
            let kind = if path.ends_with("file") { "bind" } else { "tmpfs" };
            let source = bundle.path().join("config.json");
            let mounts = config["mounts"].as_array_mut().expect("a list");
            mounts.truncate(3);
            mounts.push(json!({ "destination": path, "type": kind, "source": source }));
        })?;
        bundle.runtime(["run", "one"]);
        assert!(nothing_in_it()?, "{path}");
    }
    fs::create_dir(bundle.inside("/plain"))?;
    bundle.change(|config| config["mounts"][3] = json!({ "destination": "/plain/new", "type": "tmpfs" }))?;
    let _racer = swapping(&bundle, "/plain", "/absolute")?;
    race(|| raced(&bundle), |outcome| assert!(nothing_in_it().is_ok_and(|nothing| nothing), "{outcome:?}"));
    Ok(())
}

/// Who comes into a container cannot be looked into from there, until it is the workload: what it has open, and what it
/// was, are not the container's.
///
/// To see it fail: take `process::set_undumpable` out of `init::furnish`: what the first process of a container has
/// open is then shown. Out of `Joins::join` (namespaces.rs): "open" is then printed.
#[test]
fn cve_2016_9962_who_comes_in_is_hidden() -> Result<()> {
    let bundle = Bundle::armed("true")?;
    bundle.create("created", &[])?.exits(0);
    let look = "readlink /proc/1/exe /proc/1/cwd /proc/1/root; ls /proc/1/root/; ls -l /proc/1/fd | grep -e '->'";
    let outcome = bundle.runtime(["exec", "created", "sh", "-c", look]);
    assert_eq!(outcome.stdout, "");
    bundle.runtime(["delete", "--force", "created"]).exits(0);

    bundle.change(|config| config["process"]["args"] = json!(["/kit", "peep"]))?;
    let mut peeping = bundle.begin(["run", "peeping"])?;
    peeping.expect("peeping");
    let mut hidden = 0;
    for _ in 0..TRIES {
        bundle.runtime(["exec", "peeping", "sh", "-c", "until test -e /seen.$$; do :; done"]).exits(0);
        let seen = peeping.expect("\n");
        assert_ne!(seen, "open");
        hidden += u32::from(seen == "hidden");
        if hidden == RUNS {
            return Ok(());
        }
    }
    panic!("{hidden} of {TRIES} were caught before they were the workload")
}

/// Nothing of the root filesystem is read by a process that has no ids of its own yet.
///
/// To see it fail: move `Order::Mapped.expect` in `init::furnish` (runtime) behind `root.mount()`. The image's passwd has
/// then been read before there is a map.
#[test]
fn the_ids_are_there_before_the_image_is_read() -> Result<()> {
    let bundle = Bundle::new("true")?;
    let passwd = bundle.inside("/etc/passwd");
    bundle.change(|config| {
        for (field, own) in [("uidMappings", host::uid()), ("gidMappings", host::gid())] {
            config["linux"][field] = json!([
                { "containerID": 0, "hostID": own, "size": 1 },
                { "containerID": 1, "hostID": first_subordinate_id(), "size": 1000 },
            ]);
        }
    })?;
    // Its own newuidmap, which waits until init has had all the time it wants, looks, and then goes on.
    let programs = bundle.path().join("bin");
    fs::create_dir(&programs)?;
    let script = format!(
        "#!/bin/sh\nasleep=0\nwhile test $asleep -lt 50; do\n  \
           case $(cut -d' ' -f3 /proc/$1/stat) in S) asleep=$((asleep + 1)) ;; *) asleep=0 ;; esac\n  sleep 0.01\ndone\n\
         stat -c %X {} > {}\nexec /usr/bin/newuidmap \"$@\"\n",
        passwd.display(),
        bundle.path().join("read").display()
    );
    fs::write(programs.join("newuidmap"), script)?;
    fs::set_permissions(programs.join("newuidmap"), fs::Permissions::from_mode(0o755))?;
    read(Command::new("touch").args(["-a", "-d", "@1000"]).arg(&passwd))?;
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap_or_default());
    finish(bundle.command(["run", "one"]).env("PATH", path).stdin(Stdio::null())).exits(0);
    assert_eq!(fs::read_to_string(bundle.path().join("read"))?, "1000\n");
    assert!(fs::metadata(&passwd)?.atime() > 1000, "it was read in the end");
    Ok(())
}

fn first_subordinate_id() -> u32 {
    let name = host::user_name();
    let ranges = fs::read_to_string("/etc/subuid").unwrap_or_default();
    let own = ranges.lines().find_map(|line| line.strip_prefix(&name)?.strip_prefix(':')?.split(':').next());
    own.and_then(|first| first.parse().ok()).expect("run by cargo xtask test as an ordinary user")
}
