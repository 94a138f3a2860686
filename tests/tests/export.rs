//! `rbox export`: all files of a container as a tar archive.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};

use anyhow::Result;
use rbox_tests::alpine;
use rbox_tests::detached::Detached;
use rbox_tests::image::{Compression, Format};
use rbox_tests::layer::Layer;
use rbox_tests::layout::Layout;
use rbox_tests::patience::until;
use rbox_tests::rbox::Rbox;
use rbox_tests::terminal::Terminal;

/// What an archive says of each name.
#[derive(Debug, PartialEq)]
struct Seen {
    kind: tar::EntryType,
    mode: u32,
    owner: (u64, u64),
    mtime: u64,
    link: String,
    xattrs: Vec<String>,
    text: String,
}

fn read(archive: &[u8]) -> Result<BTreeMap<String, Seen>> {
    let mut seen = BTreeMap::new();
    for entry in tar::Archive::new(archive).entries()? {
        let mut entry = entry?;
        let mut xattrs = Vec::new();
        for record in entry.pax_extensions()?.into_iter().flatten() {
            let record = record?;
            if let Some(name) = record.key()?.strip_prefix("SCHILY.xattr.") {
                xattrs.push(format!("{name}={}", record.value()?));
            }
        }
        let link = entry.link_name_bytes().map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let header = entry.header();
        let (kind, mode, mtime) = (header.entry_type(), header.mode()?, header.mtime()?);
        let owner = (header.uid()?, header.gid()?);
        let mut text = Vec::new();
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        entry.read_to_end(&mut text)?;
        let text = String::from_utf8_lossy(&text).into_owned();
        seen.insert(name, Seen { kind, mode, owner, mtime, link: link.unwrap_or_default(), xattrs, text });
    }
    Ok(seen)
}

fn export(rbox: &Rbox, name: &str) -> Result<Vec<u8>> {
    let output = rbox.command(["export", name]).stdin(Stdio::null()).output()?;
    assert!(output.status.success(), "{output:?}");
    Ok(output.stdout)
}

const SCRIPT: &str = "mkdir -m 1777 /d; echo text > /d/file; chown 7:70000 /d/file 2>/dev/null || chown 7:8 /d/file; \
    chmod 4711 /d/file; ln /d/file /d/again; ln -s ../etc /d/link; mkfifo /d/fifo; touch -d '2001-02-03 04:05:06' /d/fifo; \
    echo x > \"/d/$(seq -s- 1 60)\"; echo seen > /vol/in-volume; echo seen > /tt/in-tmpfs; rm -r /etc/gone; ";

/// To see it fail: have the packer (overlay) forget the names of files that have several, or read the container's own mounts.
#[test]
fn a_container_that_runs_and_one_that_does_not() -> Result<()> {
    let dir = tempfile::tempdir_in(rbox_tests::host::scratch_base())?;
    let layout = Layout::create(&dir.path().join("oci"))?;
    let layer = Layer::new().dir("etc/gone", 0o755).file("etc/gone/x", 0o644, "").file("attributed", 0o600, "a");
    let layer = layer.with(|entry| entry.xattrs = vec![("user.colour".into(), b"red".to_vec())]).owner(3, 4);
    alpine::on_small(&layout, Format::Oci)?.layer(&layer, Compression::Gzip)?.finish_as("t")?;
    let (rbox, image) = Rbox::with_image(&layout, "t", "t/exported:1")?;
    let volume = rbox.home().join("volume");
    fs::create_dir(&volume)?;
    let flags = [&format!("--volume={}:/vol", volume.display()), "--tmpfs=/tt"];
    let container = Detached::start(&rbox, &image, "box", &flags, &format!("{SCRIPT} echo done; exec sleep 1000"));
    until(|| container.logs(), |logs| logs.contains("done"));

    let archive = export(&rbox, "box")?;
    let seen = read(&archive)?;
    let of = |name: &str| seen.get(name).unwrap_or_else(|| panic!("{name} is not there: {:?}", seen.keys()));
    assert_eq!((of("d/").mode, of("d/").kind), (0o1777, tar::EntryType::Directory));
    let (first, second) = (of("d/again"), of("d/file"));
    assert_eq!((first.text.as_str(), first.mode, first.owner.0), ("text\n", 0o4711, 7));
    assert_eq!((second.kind, second.link.as_str()), (tar::EntryType::Link, "d/again"));
    assert_eq!((of("d/link").kind, of("d/link").link.as_str()), (tar::EntryType::Symlink, "../etc"));
    assert_eq!((of("d/fifo").kind, of("d/fifo").mtime), (tar::EntryType::Fifo, 981_173_106));
    let long: Vec<String> = (1..=60).map(|number: u32| number.to_string()).collect();
    assert_eq!(of(&format!("d/{}", long.join("-"))).text, "x\n");
    assert_eq!((&of("attributed").xattrs[..], of("attributed").owner), (&["user.colour=red".to_owned()][..], (3, 4)));
    assert!(!seen.contains_key("etc/gone/"));
    // Mount points, and nothing of what is mounted there.
    for name in ["proc/", "sys/", "dev/", "vol/", "tt/"] {
        let within: Vec<_> = seen.keys().filter(|key| key.starts_with(name) && *key != name).collect();
        assert!(within.is_empty(), "{within:?}");
    }
    assert_eq!(of("etc/hosts").text, "");
    let names: Vec<&String> = seen.keys().collect();
    assert!(names.len() > 20 && !names.iter().any(|name| name.starts_with('/') || name.starts_with("./")));

    rbox.run(["stop", "-t0", "box"]).success();
    assert_eq!(export(&rbox, "box")?, archive, "the same files are the same bytes");
    // GNU tar agrees.
    let file = rbox.home().join("box.tar");
    assert_eq!(rbox.run(["export", "--output", "box.tar", "box"]).success(), "");
    assert_eq!(fs::read(&file)?, archive);
    rbox_tests::command::read(Command::new("tar").arg("tf").arg(&file))?;
    drop(container);
    Ok(())
}

#[test]
fn where_it_goes() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    rbox.run(["create", "--name=box", &image, "true"]).success();
    let mut terminal = Terminal::start(&rbox.command(["export", "box"]), 30, 100)?;
    terminal.expect("refusing to export to terminal");
    assert_eq!(terminal.wait(), 125);
    rbox.run(["export", "nobody"]).refused(&["no such container"]);
    rbox.run(["export", "-o", "no/such/dir/x.tar", "box"]).refused(&["no/such/dir/x.tar", "no such file"]);
    rbox.run(["export", "-o", ".", "box"]).refused(&["is a directory"]);
    // Through a link, over what was there, and to a device.
    fs::write(rbox.home().join("old.tar"), "old")?;
    std::os::unix::fs::symlink("old.tar", rbox.home().join("link.tar"))?;
    rbox.run(["export", "-o", "link.tar", "box"]).success();
    assert!(rbox.home().join("link.tar").is_symlink() && fs::metadata(rbox.home().join("old.tar"))?.len() > 10_000);
    rbox.run(["export", "-o", "/dev/null", "box"]).success();
    Ok(())
}

/// To see it fail: write to the file by its name.
#[test]
fn a_file_that_is_not_whole_is_not_there() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let script = "dd if=/dev/zero of=/big bs=1M count=200 2>/dev/null";
    rbox.run(["run", "--name=box", &image, "sh", "-c", script]).success();
    fs::write(rbox.home().join("kept.tar"), "kept")?;
    let names = || -> Vec<String> {
        let names = fs::read_dir(rbox.home()).into_iter().flatten().flatten();
        let mut names: Vec<_> = names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    };
    let before = names();
    for signal in ["KILL", "TERM", "INT"] {
        let running = rbox.start(["export", "-o", "kept.tar", "box"]);
        // Into the middle of it.
        std::thread::sleep(std::time::Duration::from_millis(60));
        running.signal(signal)?;
        drop(running);
        assert_eq!(names(), before, "{signal}");
        assert!(matches!(fs::metadata(rbox.home().join("kept.tar"))?.len(), 4 | 100_000_000..), "{signal}");
        fs::write(rbox.home().join("kept.tar"), "kept")?;
    }
    // On a disk that is full: one of its own.
    let script = "mkdir small && mount -t tmpfs -o size=1m tmpfs small && echo kept > small/x.tar && \"$@\"; \
        echo $?; ls -A small; cat small/x.tar";
    let binary = rbox_tests::host::rbox_binary().display().to_string();
    let outcome = rbox.run(["unshare", "sh", "-c", script, "sh", &binary, "export", "-o", "small/x.tar", "box"]);
    assert_eq!(outcome.stdout, "125\nx.tar\nkept\n", "{}", outcome.stderr);
    assert!(outcome.stderr.contains("No space left"), "{}", outcome.stderr);
    Ok(())
}
