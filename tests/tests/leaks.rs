//! As escapes.rs: what of the caller's, of the kernel's and of another user's a container could reach, or be reached by.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::Result;
use rbox_tests::bundle::Bundle;
use rbox_tests::command::read;
use rbox_tests::image::{Compression, ImageBuilder};
use rbox_tests::layer::Layer;
use rbox_tests::layout::Layout;
use rbox_tests::patience::until;
use rbox_tests::rbox::{Rbox, finish};
use rbox_tests::running::Running;
use rbox_tests::terminal::Terminal;
use rbox_tests::{alpine, host};
use serde_json::{Value, json};

/// A workload with the caller's terminal on its stdin cannot type into it, nor take it over. TIOCLINUX (CVE-2023-28100)
/// asks for the same as TIOCSTI does: that the terminal is the caller's controlling one. No filter is in the way here.
///
/// To see it fail: take `process::new_session` out of `init::furnish` and `init::enter`. "/dev/tty opened" and "touch
/// typed" are then seen.
#[test]
fn cve_2017_5226_nothing_is_typed_into_the_callers_terminal() -> Result<()> {
    let bundle = Bundle::armed("/kit terminal")?;
    let check = |terminal: &mut Terminal| {
        terminal.expect("isatty 1\r\n");
        let seen = terminal.expect("done").replace('\r', "");
        assert_eq!(
            seen.lines().collect::<Vec<_>>(),
            [
                "/dev/tty No such device or address",
                "TIOCSTI Operation not permitted",
                "TIOCSCTTY Operation not permitted",
                "foreground Inappropriate ioctl for device",
            ]
        );
    };
    let mut terminal = Terminal::start(&bundle.command(["run", "one"]), 24, 80)?;
    check(&mut terminal);
    assert_eq!(terminal.wait(), 0);
    bundle.change(|config| config["process"]["args"] = json!(["sleep", "600"]))?;
    bundle.start("two")?;
    let mut terminal = Terminal::start(&bundle.command(["exec", "two", "/kit", "terminal"]), 24, 80)?;
    check(&mut terminal);
    assert_eq!(terminal.wait(), 0);
    Ok(())
}

/// The caller's keys stay outside.
///
/// To see it fail: take `keyring::begin` out of `exec::prepare` (runtime). Both then print "key: secret".
#[test]
fn the_callers_keys_are_not_found() -> Result<()> {
    if fs::read_to_string("/proc/keys").is_err() {
        eprintln!("skipped: this kernel has no keyrings");
        return Ok(());
    }
    let bundle = Bundle::armed("sleep 600")?;
    let with_key = |arguments: &[&str]| {
        let command = bundle.command(arguments);
        let mut under = Command::new(bundle.inside("/kit"));
        under.args(["key", "rbox-test"]).arg(command.get_program()).args(command.get_args());
        under.current_dir(bundle.path()).env("XDG_RUNTIME_DIR", bundle.path());
        finish(under.stdin(Stdio::null()))
    };
    // It is there to be found.
    let mut outside = Command::new(bundle.inside("/kit"));
    outside.args(["key", "rbox-test"]).arg(bundle.inside("/kit")).args(["find-key", "rbox-test"]);
    assert_eq!(read(&mut outside)?, "key: secret\n");

    bundle.start("one")?;
    let seen = with_key(&["exec", "one", "/kit", "find-key", "rbox-test"]).success();
    assert!(seen.starts_with("no key: "), "exec: {seen}");
    bundle.change(|config| config["process"]["args"] = json!(["/kit", "find-key", "rbox-test"]))?;
    let seen = with_key(&["run", "two"]).success();
    assert!(seen.starts_with("no key: "), "run: {seen}");
    Ok(())
}

/// Nor are they where no more keyrings can be had. What is used up are the keys of a subordinate id, which is container
/// root here: not this user's, which others need.
///
/// To see it fail: make `keyring::refusal` (runtime) a filter that refuses nothing. "key: secret" is then printed.
#[test]
fn containers_start_when_all_keys_are_used_up() -> Result<()> {
    if fs::read_to_string("/proc/keys").is_err() {
        eprintln!("skipped: this kernel has no keyrings");
        return Ok(());
    }
    const ROOT: u32 = 4242;
    let bundle = Bundle::armed("sleep 600")?;
    let kit = bundle.inside("/kit");
    // All in one user namespace, so that who comes into a container has power over it.
    let mut namespace = Command::new("unshare");
    let mut namespace =
        Running::start(namespace.args(["--map-root-user", "--map-auto", "sh", "-c", "echo $$.; exec sleep 1000"]))?;
    let process = namespace.expect(".");
    let inside = |more: &[&str]| {
        let mut command = Command::new("nsenter");
        command.args(["--user", "--target", &process, "--"]).args(more);
        command.current_dir(bundle.path()).env("XDG_RUNTIME_DIR", bundle.path()).stdin(Stdio::null());
        command
    };
    let under = |arguments: &[&str]| {
        let command = bundle.command(arguments);
        let mut under = inside(&[]);
        under.arg(&kit).args(["key", "rbox-test"]).arg(command.get_program()).args(command.get_args());
        under
    };
    let with_key = |arguments: &[&str]| finish(&mut under(arguments)).success();
    // Container root is another user of the machine here, who may go in and make nothing.
    for mount_point in ["/proc", "/dev"] {
        fs::create_dir_all(bundle.inside(mount_point))?;
    }
    read(Command::new("chmod").args(["-R", "a+rX"]).arg(bundle.path()))?;
    let open = tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o755)).tempdir()?;
    fs::copy(&kit, open.path().join("kit"))?;
    let (user, path) = (format!("--reuid={ROOT}"), open.path().join("kit").display().to_string());
    let mut all = Running::start(&mut inside(&["setpriv", &user, "--clear-groups", &path, "use-up-keys"]))?;
    all.expect("Disk quota exceeded");

    let refused = ["keyctl", "add_key", "request_key"].map(|call| format!("{call}: Disk quota exceeded\n")).concat();
    let of_ids = |ids: u32, args: &[&str]| {
        bundle.change(|config| {
            config["process"]["args"] = json!(args);
            for map in ["uidMappings", "gidMappings"] {
                config["linux"][map] = json!([{ "containerID": 0, "hostID": ROOT, "size": ids }]);
            }
        })
    };
    // With other ids there are other keys.
    of_ids(100, &["/kit", "keyring"])?;
    assert_eq!(with_key(&["run", "many"]), "_ses.many\n");
    of_ids(100, &["/kit", "find-key", "rbox-test"])?;
    assert!(with_key(&["run", "many"]).starts_with("no key: Required key not available"));
    // Without, there is nothing.
    of_ids(1, &["/kit", "find-key", "rbox-test"])?;
    assert_eq!(with_key(&["run", "one"]), "no key: Disk quota exceeded\n");
    of_ids(1, &["/kit", "keyring"])?;
    assert_eq!(with_key(&["run", "one"]), refused);
    // Who comes in finds the keyring that is there, or is refused as well.
    for (ids, id, expected) in [(100, "many", "_ses.many\n"), (1, "one", &*refused)] {
        of_ids(ids, &["sleep", "600"])?;
        assert!(under(&["run", "--detach", id]).stdout(Stdio::null()).stderr(Stdio::null()).status()?.success());
        assert_eq!(with_key(&["exec", id, "/kit", "keyring"]), expected);
    }
    all.kill();
    // The kernel gives keys back in its own time.
    until(|| with_key(&["exec", "one", "/kit", "keyring"]), |seen| seen == "_ses.one\n");
    with_key(&["delete", "--force", "one"]);
    with_key(&["delete", "--force", "many"]);
    Ok(())
}

/// The primary group is a supplementary one too: a setgid program would otherwise shed it, and with it what is denied to
/// it.
///
/// To see it fail: take `additional_gids.push(gid)` out of `user::look_up` (container). It then prints "7" alone.
#[test]
fn cve_2022_36109_the_primary_group_is_not_shed() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let layout = Layout::create(dir.path())?;
    let files = Layer::new().dir("etc", 0o755).file("etc/passwd", 0o644, "web:x:101:102::/:/bin/sh\n").file(
        "etc/group",
        0o644,
        "web:x:102:\nextra:x:7:web\n",
    );
    let small = alpine::small()?;
    let manifest: Value = serde_json::from_slice(&small.read(&small.find("latest")?.digest)?)?;
    let config: Value = serde_json::from_slice(&small.read(manifest["config"]["digest"].as_str().unwrap_or(""))?)?;
    let blob = small.read(manifest["layers"][0]["digest"].as_str().unwrap_or(""))?;
    let blob = layout.put(manifest["layers"][0]["mediaType"].as_str().unwrap_or(""), &blob)?;
    let diff_id = config["rootfs"]["diff_ids"][0].as_str().unwrap_or("");
    ImageBuilder::new(&layout).layer_blob(blob, diff_id).layer(&files, Compression::Gzip)?.finish_as("latest")?;
    let (rbox, name) = Rbox::with_image(&layout, "latest", "t/groups:1")?;
    let groups = rbox.sh(&name, &["-u", "web"], "grep ^Groups: /proc/self/status");
    assert_eq!(groups.split_whitespace().skip(1).collect::<Vec<_>>(), ["7", "102"]);
    Ok(())
}

/// /sys and the cgroups are read-only, and stay it for a workload that makes itself root of a user namespace of its own,
/// where the kernel's cgroup version 1 had its hole.
///
/// To see it fail: take `sys` and `cgroups` out of the options in `plan::mounts` (container). What is then printed is no
/// longer "Read-only file system".
#[test]
fn cve_2022_0492_sys_and_cgroups_are_read_only() -> Result<()> {
    let (rbox, name) = Rbox::with_small_image()?;
    let attack = "{ mkdir /sys/fs/cgroup/new; (echo 0 > /sys/fs/cgroup/cgroup.procs); \
        (echo up > /sys/class/net/lo/operstate); } 2>&1 | grep -v 'Read-only file system'; \
        mount -o remount,rw /sys 2>/dev/null && echo remounted; true";
    let unconfined = ["--security-opt", "seccomp=unconfined"];
    assert_eq!(rbox.sh(&name, &[], attack), "");
    assert_eq!(rbox.sh(&name, &unconfined, attack), "");
    let nested = format!("unshare -Urm sh -c {}", shell_quoted(attack));
    assert_eq!(rbox.sh(&name, &unconfined, &nested), "", "in a user namespace of its own");
    Ok(())
}

/// What the image gives the set-user-id bit is no way for another user of the machine to become this one.
///
/// To see it fail: have the store (`Store::create`) make its directory with mode 0755. "reached" is then printed.
#[test]
fn cve_2021_41103_setuid_files_are_out_of_others_reach() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let layout = Layout::create(dir.path())?;
    let layer = Layer::new().dir("bin", 0o755).file("bin/setuid", 0o4755, "#!/bin/sh\necho reached\n");
    ImageBuilder::new(&layout).layer(&layer, Compression::Gzip)?.finish_as("latest")?;
    let (rbox, _) = Rbox::with_image(&layout, "latest", "t/setuid:1")?;
    // Everything on the way there is open but the store itself.
    for directory in [".", ".local", ".local/share"] {
        fs::set_permissions(rbox.home().join(directory), fs::Permissions::from_mode(0o755))?;
    }
    let found = PathBuf::from(&rbox.layers()[0]).join("fs/bin/setuid");
    assert_eq!(fs::metadata(&found)?.mode() & 0o7777, 0o4755);
    // Another user of the machine: one of this user's subordinate ids, and no capability.
    let other = ["unshare", "--map-root-user", "--map-auto", "setpriv", "--reuid=5", "--regid=5", "--clear-groups"];
    let mut attack = Command::new(other[0]);
    let outcome = finish(attack.args(&other[1..]).arg("sh").arg(&found).stdin(Stdio::null()));
    assert_eq!(outcome.stdout, "");
    assert!(outcome.stderr.contains("Permission denied"), "{outcome:?}");
    Ok(())
}

/// The states of a user without `XDG_RUNTIME_DIR` are in /tmp, where another user may have been first.
///
/// To see it fail: have `own_directory` (runtime, oci.rs) give its path without looking. The hook is then run, as this
/// user.
#[test]
fn states_that_another_user_has_made_are_not_taken() -> Result<()> {
    let bundle = Bundle::new("true")?;
    let tmp = bundle.path().join("tmp");
    fs::DirBuilder::new().mode(0o777).create(&tmp)?;
    fs::set_permissions(&tmp, fs::Permissions::from_mode(0o1777))?;
    let runtime = |arguments: &[&str]| {
        let mut command = Command::new(host::rbox_binary());
        command.arg("oci").args(arguments).current_dir(bundle.path()).stdin(Stdio::null());
        finish(command.env_remove("XDG_RUNTIME_DIR").env("TMPDIR", &tmp))
    };
    runtime(&["run", "--keep", "one"]).exits(0);
    runtime(&["delete", "one"]).exits(0);
    let own = tmp.join(format!("rbox-{}", host::uid()));
    assert_eq!(fs::metadata(&own)?.mode() & 0o7777, 0o700);

    fs::set_permissions(&own, fs::Permissions::from_mode(0o777))?;
    let outcome = runtime(&["list"]);
    assert!(outcome.status == 1 && outcome.stderr.contains("only this user can write to"), "{outcome:?}");
    fs::remove_dir_all(&own)?;
    let elsewhere = bundle.path().join("elsewhere");
    fs::create_dir(&elsewhere)?;
    symlink(&elsewhere, &own)?;
    let outcome = runtime(&["list"]);
    assert!(outcome.status == 1 && outcome.stderr.contains("XDG_RUNTIME_DIR"), "{outcome:?}");
    Ok(())
}

fn shell_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
