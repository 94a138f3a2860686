//! What makes one tree of an image's layers and what a container writes: the kernel's overlay, rbox's own, or a copy.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::{fs, thread};

use anyhow::{Context, Result, ensure};
use rbox_tests::alpine;
use rbox_tests::detached::Detached;
use rbox_tests::host::scratch_base;
use rbox_tests::image::{Compression, Format};
use rbox_tests::layer::Layer;
use rbox_tests::layout::Layout;
use rbox_tests::patience::until;
use rbox_tests::processes::{children, signal};
use rbox_tests::rbox::{Rbox, finish};
use rbox_tests::registry::Registry;
use rbox_tests::running::Running;

/// Each, and the type of the filesystem that a container sees; of a copy it is the store's.
const DRIVERS: [(&str, Option<&str>); 3] =
    [("overlay", Some("overlay")), ("fuse", Some("fuse.rbox-overlay")), ("copy", None)];

/// Writes down the type of the filesystem.
const KIND: &str = "awk '$2 == \"/\" { print $3 }' /proc/mounts";

/// Asks for something new all the time, until that fails.
const BUSY: &str = "echo begun; while true >/new; do :; done 2>/dev/null; exit 7";
/// Its end then, or by SIGBUS: what is not in memory of its program cannot be read any more.
const FAILED: [i32; 2] = [7, 135];

fn under(rbox: &Rbox, driver: &str, arguments: &[&str]) -> String {
    rbox.run([&["--storage-driver", driver], arguments].concat()).success()
}

#[test]
fn each_is_a_root_filesystem() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    for (driver, kind) in DRIVERS {
        let run = |script: &str| under(&rbox, driver, &["run", "--rm", &image, "sh", "-c", script]);
        let seen = run(KIND);
        assert_eq!(kind.unwrap_or(seen.trim()), seen.trim(), "{driver}");
        let changes = "
            rm /etc/group; mkdir -p /a/b; echo x >/a/b/c; ln /a/b/c /a/d; ln -s b /a/e; mkfifo /a/f; chown 5:6 /a/b/c
            chmod 4755 /a/d; mv /etc/passwd /a/passwd; ls /a; stat -c '%u %g %a %h %F' /a/b/c /a/e /a/f
            ls /etc/group /etc/passwd 2>/dev/null || echo none";
        let expected = "b\nd\ne\nf\npasswd\n5 6 4755 2 regular file\n0 0 777 1 symbolic link\n0 0 644 1 fifo\nnone\n";
        assert_eq!(run(changes), expected, "{driver}");
        // Of another container's writing nothing is seen.
        assert_eq!(run("ls -d /etc/group /etc/passwd /a 2>/dev/null; true"), "/etc/group\n/etc/passwd\n", "{driver}");
    }
    Ok(())
}

#[test]
fn what_is_removed_is_written_to_as_long_as_it_is_open() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let script = "echo here >/f; exec 3>>/f 4</f; rm /f; echo there >&3; cat <&4
        exec 5>>/etc/group; rm /etc/group; echo as well >&5 && echo written";
    for (driver, _) in DRIVERS {
        let seen = under(&rbox, driver, &["run", "--rm", &image, "sh", "-c", script]);
        assert_eq!(seen, "here\nthere\nwritten\n", "{driver}");
    }
    Ok(())
}

/// The kernel's overlay keeps a number as long as it is mounted only.
#[test]
fn a_file_that_was_written_to_keeps_its_number() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let script = "stat -c %i /etc/group; echo >>/etc/group; stat -c %i /etc/group";
    under(&rbox, "fuse", &["create", "--name", "box", &image, "sh", "-c", script]);
    let [first, again] = [(); 2].map(|()| under(&rbox, "fuse", &["start", "-a", "box"]));
    assert_eq!(first, again);
    assert_eq!(first.lines().next(), first.lines().nth(1));
    Ok(())
}

#[test]
fn what_one_has_written_another_one_shows() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let script = format!(
        "echo $(cat /n) one more >/n; rm -f /etc/group; mkdir -p /d; {KIND}; cat /n; ls /etc/group 2>/dev/null || echo removed"
    );
    under(&rbox, "overlay", &["create", "--name", "one", &image, "sh", "-c", &script]);
    let mut lines = 0;
    for driver in ["overlay", "fuse", "overlay", "fuse", "copy", "overlay"] {
        let said = under(&rbox, driver, &["start", "-a", "one"]);
        lines += 1;
        let (kind, rest) = said.split_once('\n').context("it says something")?;
        assert_eq!(rest, format!("{}\nremoved\n", ["one more"; 9][..lines].join(" ")), "{driver}");
        match driver {
            "fuse" => assert_eq!(kind, "fuse.rbox-overlay"),
            // What has been copied stays so.
            "overlay" if lines < 6 => assert_eq!(kind, "overlay"),
            _ => assert!(!kind.contains("overlay"), "{kind}"),
        }
    }
    rbox.run(["rm", "one"]).success();
    Ok(())
}

#[test]
fn the_best_one_that_works_is_found_and_remembered() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let rbox = rbox.by_best_driver();
    let info = |rbox: &Rbox| rbox.run(["info", "-f", "{{.Driver}} {{.Store.GraphDriverName}}"]).success();
    assert_eq!(info(&rbox), "overlay overlay\n");
    assert_eq!(under(&rbox, "fuse", &["info", "-f", "{{.Driver}}"]), "fuse\n");
    let by_variable = Rbox::new().env("RBOX_STORAGE_DRIVER", "copy");
    assert_eq!(info(&by_variable), "copy copy\n");
    assert_eq!(under(&by_variable, "fuse", &["info", "-f", "{{.Driver}}"]), "fuse\n");
    rbox.run(["--storage-driver", "zfs", "info"]).refused_as(125, &["zfs", "overlay, fuse and copy"]);
    Rbox::new().env("RBOX_STORAGE_DRIVER", "zfs").run(["info"]).refused_as(125, &["RBOX_STORAGE_DRIVER", "zfs"]);
    // Where something is another one than it was then, it is found out again.
    let path = rbox.store().join("host.json");
    let text = fs::read_to_string(&path)?;
    ensure!(text.contains("\"overlay\""), "{text}");
    fs::write(&path, text.replace("\"driver\":\"overlay\"", "\"driver\":\"copy\""))?;
    assert_eq!(info(&rbox), "copy copy\n", "it is read");
    fs::write(
        &path,
        text.replace("\"driver\":\"overlay\"", "\"driver\":\"copy\"").replace("\"kernel\":\"", "\"kernel\":\"0"),
    )?;
    assert_eq!(info(&rbox), "overlay overlay\n");
    for broken in ["", "{", "{}"] {
        fs::write(&path, broken)?;
        assert_eq!(rbox.sh(&image, &[], KIND), "overlay");
    }
    Ok(())
}

/// Inside another container the store is on an overlay; and there are filesystems without extended attributes.
#[test]
fn where_the_kernel_has_no_overlay_there_is_another_one() -> Result<()> {
    let registry = Registry::offering(&alpine::small()?, "latest", "t/small:1")?;
    let (rbox, image) = (Rbox::new().by_best_driver(), registry.reference("t/small:1"));
    for (mount, driver, kind) in [
        (
            "mkdir l u w; mount -t overlay overlay -o lowerdir=l,upperdir=u,workdir=w,userxattr m",
            "fuse",
            "fuse.rbox-overlay",
        ),
        ("mount -t ramfs ramfs m", "copy", "ramfs"),
    ] {
        let script = format!(
            "set -e; cd $HOME; mkdir place.{driver}; cd place.{driver}; mkdir m; {mount}
             rbox() {{ \"$0\" --root m/store \"$@\"; }}
             rbox info -f '{{{{.Driver}}}}'; rbox pull -q {image} >/dev/null
             rbox run --rm {image} sh -c \"$SCRIPT\" 2>&1; rbox doctor | grep root"
        );
        let unshare = ["unshare", "-Urm", "--map-auto", "sh", "-c", &script];
        let mut command = rbox.command_under(&unshare, [] as [&str; 0]);
        let inside = format!("{KIND} >&2; rm /etc/group; mkdir /etc/group; ls -A /etc/group; rm -r /etc/group");
        let said = finish(command.env("SCRIPT", inside)).success();
        let mut lines = said.lines();
        assert_eq!(lines.next(), Some(driver), "{said}");
        ensure!(lines.any(|line| line == kind), "{said}");
        ensure!(said.contains("degraded  root filesystems: by"), "{said}");
        if driver == "copy" {
            ensure!(said.contains("gets a copy of its image") && said.contains("hint:"), "{said}");
        }
    }
    Ok(())
}

#[test]
fn who_serves_it_is_outside_and_dies_alone() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let errors = rbox.home().join("errors");
    let words = ["--storage-driver", "fuse", "run", "--rm", "--name", "one", &image, "sh", "-c", BUSY];
    let mut running = Running::start(rbox.command(words).stderr(fs::File::create(&errors)?))?;
    running.expect("begun\n");
    let server = until(|| children(running.id(), "rbox-overlay"), |found| found.len() == 1)[0];
    // In the container nobody sees it.
    assert_eq!(rbox.run(["exec", "one", "sh", "-c", "cat /proc/[0-9]*/comm | grep -c overlay"]).stdout, "0\n");
    signal(server, "KILL")?;
    ensure!(FAILED.contains(&running.wait()), "it has not heard of an error");
    let errors = fs::read_to_string(&errors)?;
    ensure!(errors.contains("no root filesystem any more") && errors.contains("signal 9"), "{errors}");
    assert_eq!(rbox.run(["ps", "-aq"]).success(), "");
    until(|| fs::exists(format!("/proc/{server}")).unwrap_or(true), |there| !there);
    Ok(())
}

#[test]
fn a_monitor_says_that_the_root_filesystem_is_lost() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let rbox = rbox.env("RBOX_STORAGE_DRIVER", "fuse");
    let one = Detached::start(&rbox, &image, "one", &[], BUSY);
    let server = until(|| children(one.monitor(), "rbox-overlay"), |found| found.len() == 1)[0];
    signal(server, "KILL")?;
    let status = rbox.run(["wait", "one"]).success();
    ensure!(FAILED.contains(&status.trim().parse()?), "{status}");
    let events = rbox.run(["events", "--stream=false", "--format", "{{.Action}}"]).success();
    ensure!(events.lines().any(|action| action == "rootfs_lost"), "{events}");
    // The next life has another one.
    rbox.run(["start", "one"]).success();
    until(|| children(one.monitor(), "rbox-overlay"), |found| found.len() == 1);
    Ok(())
}

/// Who waits for a server that stands still is set free when that is killed, however it was asked to end.
#[test]
fn a_server_that_hangs_can_be_killed() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let rbox = rbox.env("RBOX_STORAGE_DRIVER", "fuse");
    let one = Detached::start(&rbox, &image, "one", &[], BUSY);
    let server = until(|| children(one.monitor(), "rbox-overlay"), |found| found.len() == 1)[0];
    signal(server, "STOP")?;
    thread::sleep(std::time::Duration::from_millis(100));
    signal(server, "KILL")?;
    let status = rbox.run(["wait", "one"]).success();
    ensure!(FAILED.contains(&status.trim().parse()?), "{status}");
    Ok(())
}

#[test]
fn as_many_layers_as_there_are() -> Result<()> {
    const LAYERS: usize = 127;
    let dir = tempfile::tempdir_in(scratch_base())?;
    let layout = Layout::create(dir.path())?;
    let mut image = alpine::on_small(&layout, Format::Oci)?;
    for number in 1..LAYERS {
        let mut layer = Layer::new().dir("d", 0o755).file(&format!("d/{number}"), 0o644, number.to_string());
        if number > 1 {
            layer = layer.whiteout(&format!("d/{}", number - 1));
        }
        image = image.layer(&layer, Compression::Plain)?;
    }
    let descriptor = image.finish()?;
    let registry = Registry::start()?;
    registry.place(&layout, &descriptor, "t/many:1")?;
    let (rbox, reference) = (Rbox::new(), registry.reference("t/many:1"));
    rbox.pull(&reference);
    for (driver, _) in DRIVERS {
        let said = under(
            &rbox,
            driver,
            &["run", "--rm", &reference, "sh", "-c", "ls /d; cat /d/*; echo y >>/d/126; cat /d/126"],
        );
        assert_eq!(said, "126\n126126y\n", "{driver}");
    }
    Ok(())
}

/// What is written last is there when it is started again, however it ends.
#[test]
fn nothing_written_is_lost_with_the_end() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let rbox = rbox.env("RBOX_STORAGE_DRIVER", "fuse");
    let script = "cat /n 2>/dev/null | md5sum; dd if=/dev/zero of=/n bs=1M count=64 2>/dev/null; kill -9 $$";
    rbox.run(["create", "--name", "one", &image, "sh", "-c", &format!("sh -c '{script}'; exit 3")]).success();
    let first = rbox.run(["start", "-a", "one"]).exits(3);
    let second = rbox.run(["start", "-a", "one"]).exits(3);
    assert_ne!(first.stdout, second.stdout);
    let of_zeros =
        finish(Command::new("sh").args(["-c", "dd if=/dev/zero bs=1M count=64 2>/dev/null | md5sum"])).success();
    assert_eq!(second.stdout, of_zeros);
    Ok(())
}

/// Or a power cut would leave an empty file in front of a whole one of the image.
#[test]
fn what_is_copied_up_is_on_the_disk_before_it_is_in_its_place() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    under(&rbox, "fuse", &["run", "--name", "one", &image, "chmod", "700", "/bin/busybox"]);
    let id = rbox.run(["inspect", "-f", "{{.Id}}", "one"]).success();
    let copy = rbox.store().join("containers").join(id.trim()).join("upper/bin/busybox");
    ensure!(fs::metadata(&copy)?.permissions().mode() & 0o7777 == 0o700, "it is not the one that was changed");
    let told = finish(Command::new("filefrag").arg("-v").arg(&copy)).success();
    ensure!(told.contains(" 0: ") && !told.contains("delalloc"), "there is no block for it on the disk yet:\n{told}");
    Ok(())
}
