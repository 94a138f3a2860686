//! Flags of `rbox run` about files: mounts, devices, the time zone, what is written in /etc, and outside.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::Result;
use rbox_tests::alpine;
use rbox_tests::image::{Compression, Format};
use rbox_tests::layer::Layer;
use rbox_tests::layout::Layout;
use rbox_tests::patience::until;
use rbox_tests::rbox::{Rbox, finish};

/// A directory of the host with a file in it.
fn shared(rbox: &Rbox) -> Result<PathBuf> {
    let dir = rbox.home().join("shared");
    fs::create_dir(&dir)?;
    fs::write(dir.join("script"), "#!/bin/sh\necho executed\n")?;
    fs::set_permissions(dir.join("script"), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    Ok(dir)
}

#[test]
fn options_of_volumes() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let dir = shared(&rbox)?;
    let volume = |options: &str| format!("--volume={}:/mnt:{options}", dir.display());
    assert_eq!(rbox.sh(&image, &[&volume("exec")], "/mnt/script"), "executed");
    // noexec holds for whoever is asked to run it.
    assert_eq!(rbox.sh(&image, &[&volume("noexec")], "/mnt/script 2>/dev/null || echo refused"), "refused");
    let look = "grep ' /mnt ' /proc/self/mountinfo | cut -d' ' -f6 | tr , '\\n' | grep -E '^(ro|nosuid|nodev|noexec)$'";
    assert_eq!(rbox.sh(&image, &[&volume("ro,nosuid,nodev,noexec")], look), "ro\nnosuid\nnodev\nnoexec");
    let tags = "grep ' /mnt ' /proc/self/mountinfo | sed 's/ - .*//' | cut -s -d' ' -f7-";
    for (word, tag) in [("private", ""), ("rprivate", ""), ("shared", "shared"), ("unbindable", "unbindable")] {
        let seen = rbox.sh(&image, &[&volume(word)], tags);
        // Which of the host's mounts it takes from is the host's matter.
        let kinds = seen.split(' ').filter_map(|tag| tag.split(':').next());
        assert_eq!(kinds.filter(|kind| *kind != "master").collect::<String>(), tag, "{word}");
    }
    rbox.sh(&image, &[&volume("z")], "true");
    for (wrong, named) in [("O", "\"O\""), ("ro,rw", "contradict"), ("bogus", "bogus"), ("slave,shared", "contradict")]
    {
        rbox.run(["run", "--rm", &volume(wrong), &image, "true"]).refused(&["--volume", named]);
    }
    Ok(())
}

#[test]
fn mounts_in_the_long_form() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let dir = shared(&rbox)?;
    let bind = |rest: &str| format!("--mount=type=bind,source={},{rest}", dir.display());
    assert_eq!(rbox.sh(&image, &[&bind("destination=/a/b")], "/a/b/script; echo new > /a/b/new"), "executed");
    assert_eq!(fs::read_to_string(dir.join("new"))?, "new\n");
    let refused = "echo x 2>/dev/null > /mnt/x || echo refused";
    for read_only in ["target=/mnt,readonly", "dst=/mnt,ro=true", "ro,dst=/mnt,bind-propagation=rslave"] {
        assert_eq!(rbox.sh(&image, &[&bind(read_only)], refused), "refused", "{read_only}");
    }
    assert_eq!(rbox.sh(&image, &[&bind("dst=/mnt,readonly=false")], refused), "");
    let tmpfs = "--mount=type=tmpfs,destination=/mnt,tmpfs-size=1m,tmpfs-mode=700";
    let look = "df -k /mnt | awk 'END { print $2 }'; stat -c %a /mnt; touch /mnt/x && echo written";
    assert_eq!(rbox.sh(&image, &[tmpfs], look), "1024\n700\nwritten");
    assert_eq!(rbox.sh(&image, &["--mount", "type=tmpfs,dst=/mnt,ro"], refused), "refused");
    for (wrong, named) in [
        ("type=image,src=a,dst=/b", "type=image"),
        ("src=/a,dst=/b", "type=bind"),
        ("type=bind,dst=/b", "source"),
        ("type=bind,src=/,dst=/b,bogus=1", "bogus"),
        ("type=bind,src=/,dst=/b,tmpfs-size=1m", "tmpfs-size"),
        ("type=tmpfs,src=/,dst=/b", "src"),
    ] {
        rbox.run(["run", "--rm", "--mount", wrong, &image, "true"]).refused(&["--mount", named]);
    }
    let missing = ["run", "--rm", "--mount", "type=bind,src=/no/such,dst=/b", &image, "true"];
    rbox.run(missing).refused(&["/no/such"]);
    Ok(())
}

#[test]
fn devices() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    // One that every host has, and no container: the node of /dev/full under another name, and a directory of nodes.
    let look = "ls -l /dev/mine /dev/full | awk '{ print $1, $5, $6 }'; echo x 2>/dev/null > /dev/mine || echo full";
    let seen = rbox.sh(&image, &["--device=/dev/full:/dev/mine"], look);
    let lines: Vec<&str> = seen.lines().collect();
    assert_eq!((lines[0], lines[2]), (lines[1], "full"));
    assert!(lines[0].starts_with("crw"), "{seen}");
    assert_eq!(rbox.sh(&image, &["--device=/dev/zero:/x/y/zero:rwm"], "head -c 3 /x/y/zero | wc -c"), "3");
    // As the host has them: a link is resolved, and all of a directory come.
    let link = rbox.home().join("link");
    std::os::unix::fs::symlink("/dev/zero", &link)?;
    assert_eq!(rbox.sh(&image, &[&format!("--device={}:/dev/l", link.display())], "head -c 3 /dev/l | wc -c"), "3");
    for (wrong, words) in [
        ("/dev/no-such", &["/dev/no-such"][..]),
        ("/etc/passwd", &["/etc/passwd", "not a device"]),
        ("/etc/ssl", &["/etc/ssl", "no device"]),
        ("dev/zero", &["--device", "absolute"]),
        ("/dev/zero:/dev/x:rx", &["--device", "rx"]),
        ("/dev/zero:r", &["/dev/zero", "write", "hint"]),
        ("vendor.com/class=all", &["--device", "CDI"]),
    ] {
        rbox.run(["run", "--rm", "--device", wrong, &image, "true"]).refused(words);
    }
    Ok(())
}

#[test]
fn the_time_zone() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let zone = fs::read("/usr/share/zoneinfo/Asia/Kolkata")?;
    let written = rbox.home().join("seen");
    File::create(&written)?;
    let volume = format!("--volume={}:/seen", written.display());
    rbox.sh(&image, &[&volume, "--tz=Asia/Kolkata"], "cat /etc/localtime > /seen");
    assert_eq!(fs::read(&written)?, zone);
    rbox.sh(&image, &[&volume, "--tz=local"], "cat /etc/localtime > /seen");
    assert_eq!(fs::read(&written)?, fs::read("/etc/localtime")?);
    assert_eq!(rbox.sh(&image, &["--tz=UTC"], "echo x 2>/dev/null > /etc/localtime || echo read-only"), "read-only");
    for wrong in ["No/Where", "../../etc/passwd", "/etc/passwd", "Asia", ""] {
        rbox.run(["run", "--rm", &format!("--tz={wrong}"), &image, "true"]).refused(&["time zone"]);
    }
    Ok(())
}

#[test]
fn hosts_and_name_servers() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let flags =
        ["--network=none", "--add-host=db:10.1.2.3", "--add-host", "a;b:2001:db8::7", "--hostname=box", "--name=named"];
    let hosts = rbox.sh(&image, &flags, "cat /etc/hosts");
    let lines: Vec<&str> = hosts.lines().collect();
    assert_eq!(lines[..3], ["10.1.2.3\tdb", "2001:db8::7\ta b", "127.0.0.1\tlocalhost"]);
    assert_eq!(lines.last(), Some(&"127.0.0.1\tbox named"));
    let gateway = ["run", "--rm", "--network=none", "--add-host=h:host-gateway", &image, "true"];
    rbox.run(gateway).refused(&["--add-host", "no network"]);
    for wrong in ["db", "db:1.2.3", "d b:1.2.3.4"] {
        rbox.run(["run", "--rm", "--add-host", wrong, &image, "true"]).refused(&["--add-host"]);
    }
    let resolver = |flags: &[&str]| rbox.sh(&image, flags, "cat /etc/resolv.conf");
    let flags = ["--dns=1.2.3.4", "--dns", "::1", "--dns-search=a.org", "--dns-search=b.org", "--dns-option=ndots:2"];
    assert_eq!(
        resolver(&[&flags[..], &["--dns-opt=rotate"]].concat()),
        "search a.org b.org\nnameserver 1.2.3.4\nnameserver ::1\noptions ndots:2 rotate"
    );
    let flags = ["--network=none", "--dns=1.2.3.4", "--dns-search=."];
    assert_eq!(resolver(&flags), "nameserver 1.2.3.4");
    for wrong in [&["--dns=example.org"][..], &["--dns=none", "--dns=1.1.1.1"], &["--dns-search=a b"]] {
        rbox.run([&["run", "--rm"], wrong, &[&image, "true"]].concat()).refused(&[]);
    }
    Ok(())
}

#[test]
fn the_images_own_resolv_conf() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let layout = Layout::create(dir.path())?;
    let layer = Layer::new().file("etc/resolv.conf", 0o644, "nameserver 9.9.9.9\n");
    alpine::on_small(&layout, Format::Oci)?.layer(&layer, Compression::Gzip)?.finish_as("derived")?;
    let (rbox, image) = Rbox::with_image(&layout, "derived", "t/derived:1")?;
    let look = "cat /etc/resolv.conf; echo own >> /etc/resolv.conf";
    assert_eq!(rbox.sh(&image, &["--dns=none"], look), "nameserver 9.9.9.9");
    assert!(!rbox.sh(&image, &[], look).contains("9.9.9.9"));
    Ok(())
}

#[test]
fn files_about_the_container() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let (cid, pid) = (rbox.home().join("cid"), rbox.home().join("pid"));
    let flags = [format!("--cidfile={}", cid.display()), format!("--pidfile={}", pid.display())];
    let words = ["run", "--rm", "--name=box", &flags[0], &flags[1], &image, "sh", "-c", "echo ready; exec sleep 1000"];
    let mut running = rbox.start(words);
    running.expect("ready");
    let listed = rbox.run(["ps", "--quiet", "--no-trunc"]).success();
    assert_eq!(fs::read_to_string(&cid)?, listed.trim());
    let workload = fs::read_to_string(&pid)?;
    // Its shell becomes that a moment after it has printed.
    let name = || fs::read_to_string(format!("/proc/{workload}/comm")).unwrap_or_default();
    until(name, |name| name == "sleep\n");
    // Neither container nor file is lost.
    rbox.run(["run", "--rm", "--name=other", &flags[0], &image, "true"]).refused(&["cid", "already", "hint"]);
    assert_eq!(fs::read_to_string(&cid)?, listed.trim());
    assert_eq!(rbox.run(["ps", "--all", "--quiet", "--no-trunc"]).success(), listed);
    rbox.run(["rm", "--force", "box"]).success();
    running.wait();
    Ok(())
}

#[test]
fn descriptors_of_the_caller() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let [three, four] = ["three", "four"].map(|name| rbox.home().join(name));
    fs::write(&three, "from three\n")?;
    let script = format!("exec 3<{} 4>{}; exec \"$0\" \"$@\"", three.display(), four.display());
    let run = |flags: &[&str], inside: &str| {
        let words = [&["run", "--rm"], flags, &[&image, "sh", "-c", inside]].concat();
        finish(rbox.command_under(&["sh", "-c", &script], words).stdin(Stdio::null()))
    };
    let both = run(&["--preserve-fds=2"], "cat <&3; echo to four >&4; ls /proc/self/fd | tr '\\n' ' '");
    // ls has the directory open as well.
    assert_eq!(both.success(), "from three\n0 1 2 3 4 5 ");
    assert_eq!(fs::read_to_string(&four)?, "to four\n");
    assert_eq!(run(&["--preserve-fds=1"], "ls /proc/self/fd | tr '\\n' ' '").success(), "0 1 2 3 4 ");
    assert_eq!(run(&[], "ls /proc/self/fd | tr '\\n' ' '").success(), "0 1 2 3 ");
    run(&["--preserve-fds=3"], "true").refused(&["--preserve-fds", "5"]);
    Ok(())
}

/// What nobody has opened, rbox itself may have opened under that number.
#[test]
fn descriptors_of_rbox_are_nobodys() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let null = File::open("/dev/null")?;
    assert!(null.as_raw_fd() >= 3);
    let mut command: Command = rbox.command(["run", "--rm", "--preserve-fds=1", &image, "true"]);
    finish(command.stdin(Stdio::null())).refused(&["--preserve-fds", "3"]);
    Ok(())
}
