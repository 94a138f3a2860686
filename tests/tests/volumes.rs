//! Volumes: named and anonymous, their first use, and the verbs of `rbox volume`.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use rbox_tests::alpine;
use rbox_tests::image::{Compression, Format};
use rbox_tests::layer::Layer;
use rbox_tests::layout::Layout;
use rbox_tests::parity::{Pair, same, status};
use rbox_tests::rbox::{Rbox, finish};
use serde_json::{Value, json};

/// rbox with the small image, on which these lie.
fn with_layer(layer: &Layer, volumes: &[&str]) -> Result<(Rbox, String)> {
    let dir = tempfile::tempdir()?;
    let layout = Layout::create(dir.path())?;
    let volumes: BTreeMap<_, _> = volumes.iter().map(|path| (*path, json!({}))).collect();
    let image = alpine::on_small(&layout, Format::Oci)?.set("Volumes", json!(volumes));
    image.layer(layer, Compression::Gzip)?.finish_as("derived")?;
    Rbox::with_image(&layout, "derived", "t/derived:1")
}

/// With something in /data, of owners and modes that are nobody's default.
fn with_content(volumes: &[&str]) -> Result<(Rbox, String)> {
    let layer = Layer::new()
        .dir("data", 0o1770)
        .owner(7, 8)
        .file("data/file", 0o4751, "of the image\n")
        .owner(1234, 4321)
        .with(|entry| entry.xattrs = vec![("user.note".into(), "kept".into())])
        .dir("data/sub", 0o700)
        .owner(1000, 1000)
        .hardlink("data/sub/same", "data/file")
        .symlink("data/out", "/etc/passwd")
        .dir("empty", 0o711)
        .owner(5, 6);
    with_layer(&layer, volumes)
}

/// The names of all volumes.
fn volumes(rbox: &Rbox) -> Vec<String> {
    rbox.run(["volume", "ls", "-q"]).success().lines().map(str::to_owned).collect()
}

fn inspected(rbox: &Rbox, words: &[&str]) -> Result<Value> {
    let text = rbox.run(words).success();
    let all: Vec<Value> = serde_json::from_str(&text)?;
    all.into_iter().next().context("one is inspected")
}

fn data(rbox: &Rbox, name: &str) -> PathBuf {
    rbox.store().join("volumes").join(name).join("_data")
}

#[test]
fn made_shown_and_removed() -> Result<()> {
    let rbox = Rbox::new();
    let create = |words: &[&str]| rbox.run([&["volume", "create"], words].concat());
    assert_eq!(create(&["--label", "a=b", "--label=c", "one"]).success(), "one\n");
    create(&["one"]).refused(&["one", "already exists", "--ignore"]);
    assert_eq!(create(&["--ignore", "one"]).success(), "one\n");
    let random = create(&[]).success();
    assert!(random.len() == 65 && random.trim_end().chars().all(|c| c.is_ascii_hexdigit()), "{random}");
    for wrong in ["-a", ".", "..", "a/b", "a b", ""] {
        let outcome = create(&["--", wrong]);
        assert_ne!(outcome.status, 0, "{wrong:?} was accepted");
    }
    create(&["--driver=nfs", "two"]).refused(&["--driver", "nfs", "local"]);
    create(&["--opt", "type=tmpfs", "two"]).refused(&["--opt", "type"]);

    let shown = inspected(&rbox, &["volume", "inspect", "one"])?;
    assert_eq!((&shown["Name"], &shown["Driver"], &shown["Scope"]), (&json!("one"), &json!("local"), &json!("local")));
    assert_eq!((&shown["Labels"], &shown["Options"]), (&json!({"a": "b", "c": ""}), &json!({})));
    assert_eq!(shown["Mountpoint"], json!(data(&rbox, "one")));
    assert!(shown["CreatedAt"].as_str().is_some_and(|time| time.starts_with("20")), "{shown}");
    assert!(shown.get("Anonymous").is_none());
    let format = |format: &str| rbox.run(["volume", "inspect", "--format", format, "one"]).success();
    assert_eq!(format("{{.Name}} {{index .Labels \"a\"}}"), "one b\n");
    rbox.run(["volume", "inspect", "two"]).refused(&["no such volume", "two"]);

    let listed = |filter: &str| rbox.run(["volume", "ls", "-q", "--filter", filter]).success();
    for filter in ["name=on", "label=a", "label=a=b", "label=c="] {
        assert_eq!(listed(filter), "one\n", "{filter}");
    }
    assert_eq!(listed("driver=local").lines().count(), 2);
    assert_eq!(listed("dangling=true").lines().count(), 2);
    for filter in ["name=none", "label=a=c", "dangling=false", "driver=nfs"] {
        assert_eq!(listed(filter), "", "{filter}");
    }
    rbox.run(["volume", "ls", "--filter", "size=1"]).refused(&["size", "dangling"]);
    let table = rbox.run(["volume", "ls"]).success();
    assert!(table.starts_with("DRIVER   VOLUME NAME\n") && table.contains("local    one\n"), "{table}");
    assert_eq!(rbox.run(["volume", "ls", "--filter=name=one", "--format={{.Name}}"]).success(), "one\n");

    rbox.run(["volume", "exists", "one"]).success();
    rbox.run(["volume", "exists", "two"]).exits(1);
    // Each by itself.
    let outcome = rbox.run(["volume", "rm", "two", "one"]).refused_as(1, &["no such volume", "two"]);
    assert_eq!(outcome.stdout, "one\n");
    assert_eq!(rbox.run(["volume", "rm", "--force", "two"]).success(), "");
    assert_eq!(volumes(&rbox), [random.trim_end()]);
    Ok(())
}

#[test]
fn content_stays() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    rbox.sh(&image, &["-v=data:/data", "-v", "other:/x:ro"], "echo first > /data/file; id -u > /data/who");
    assert_eq!(volumes(&rbox), ["data", "other"]);
    assert_eq!(fs::read_to_string(data(&rbox, "data").join("file"))?, "first\n");
    assert_eq!(rbox.sh(&image, &["--volume=data:/elsewhere"], "cat /elsewhere/file"), "first");
    // Whatever else goes.
    rbox.run(["gc"]).success();
    rbox.run(["rmi", "--force", &image]).success();
    rbox.run(["image", "prune", "--all", "--force"]).success();
    assert_eq!(fs::read_to_string(data(&rbox, "data").join("file"))?, "first\n");
    Ok(())
}

#[test]
fn options_and_the_long_form() -> Result<()> {
    let (rbox, image) = with_content(&[])?;
    let refused = "touch /data/x 2>/dev/null || echo refused";
    assert_eq!(rbox.sh(&image, &["-v=one:/data:ro"], &format!("cat /data/file; {refused}")), "of the image\nrefused");
    assert_eq!(rbox.sh(&image, &["--mount=type=volume,src=one,dst=/data,readonly"], refused), "refused");
    assert_eq!(rbox.sh(&image, &["--mount=source=one,target=/data"], "touch /data/x; ls /data/x"), "/data/x");
    let look =
        "grep ' /data ' /proc/self/mountinfo | cut -d' ' -f6 | tr , '\\n' | grep -E '^(ro|nosuid|nodev|noexec)$'";
    assert_eq!(rbox.sh(&image, &["-v", "one:/data:noexec,nosuid,nodev"], look), "nosuid\nnodev\nnoexec");
    // With nothing taken over but whose the place is.
    for (number, flag) in ["-v=N:/data:nocopy", "--mount=type=volume,src=N,dst=/data,volume-nocopy"].iter().enumerate()
    {
        let flag = flag.replace('N', &format!("empty{number}"));
        assert_eq!(rbox.sh(&image, &[&flag], "ls /data; stat -c '%u %g %a' /data"), "7 8 1770", "{flag}");
    }
    assert_eq!(rbox.sh(&image, &["-v", "more:/data:copy"], "cat /data/file"), "of the image");
    for (flag, words) in [
        ("--mount=type=volume,src=a,dst=/b,volume-driver=nfs", &["--mount", "volume-driver"][..]),
        ("--mount=type=volume,src=a,dst=/b,volume-opt=type=nfs", &["--mount", "volume-opt"]),
        ("--mount=type=volume,src=/a,dst=/b", &["--mount", "type=bind"]),
        ("-v=a:/", &["root"]),
        ("-v=a b:/c", &["\"a b\"", "volume name"]),
        ("-v=a:/b:O", &["\"O\""]),
        ("-v=/etc:/b:nocopy", &["nocopy"]),
    ] {
        rbox.run(["run", "--rm", flag, &image, "true"]).refused(words);
    }
    rbox.run(["run", "--rm", "-v=a:/b", "--tmpfs=/b/", &image, "true"]).refused(&["/b"]);
    assert!(!volumes(&rbox).contains(&"a".into()));
    // A volume is a directory.
    rbox.run(["run", "--rm", "-v=file:/etc/passwd", &image, "true"]).refused(&["/etc/passwd", "directory"]);
    Ok(())
}

#[test]
fn a_new_volume_takes_over_what_the_image_has() -> Result<()> {
    let (rbox, image) = with_content(&[])?;
    let look = "cd /data; cat file; stat -c '%n %u %g %a %h' . file sub sub/same; readlink out";
    let of_image = rbox.sh(&image, &[], look);
    assert_eq!(
        of_image,
        "of the image\n. 7 8 1770 3\nfile 1234 4321 4751 2\nsub 1000 1000 700 2\nsub/same 1234 4321 4751 2\n/etc/passwd"
    );
    assert_eq!(rbox.sh(&image, &["-v=new:/data"], look), of_image);
    // On the host's disk, the owners are subordinate ids. (Root's containers see a bind mount with root's own ids.)
    let on_disk = format!("-v={}:/mnt", data(&rbox, "new").display());
    if rbox_tests::host::uid() != 0 {
        assert_eq!(rbox.sh(&image, &[&on_disk], "stat -c '%u %g' /mnt/file"), "1234 4321");
    }
    // Read-only as the container may be.
    assert_eq!(rbox.sh(&image, &["--read-only", "-v=other:/data:ro"], look), of_image);
    // Once.
    rbox.sh(&image, &["-v=new:/data"], "rm -r /data/*; echo own > /data/own");
    assert_eq!(rbox.sh(&image, &["-v=new:/data"], "ls /data"), "own");
    rbox.sh(&image, &["-v=new:/data"], "rm /data/own");
    assert_eq!(rbox.sh(&image, &["-v=new:/data"], "ls /data"), "");
    // What is there already stays as it is.
    rbox.run(["volume", "create", "full"]).success();
    fs::write(data(&rbox, "full").join("mine"), "mine\n")?;
    assert_eq!(rbox.sh(&image, &["-v=full:/data"], "ls /data"), "mine");
    // A directory that has nothing in it gives its owner and mode, and one that is not there is its user's.
    let whose = "stat -c '%u %g %a' /empty";
    assert_eq!(rbox.sh(&image, &["-v=empty:/empty"], whose), "5 6 711");
    let made = rbox.sh(&image, &["-v=made:/no/such", "--user=33:44"], "touch /no/such/x; stat -c '%u %g' /no/such");
    assert_eq!(made, "33 44");
    let archive = rbox.home().join("tar");
    rbox.run(["volume", "export", "-o", "tar", "other"]).success();
    let xattrs = archived(&fs::read(archive)?, |entry| {
        let extensions = entry.pax_extensions().ok()??.flatten();
        extensions.filter_map(|e| Some(format!("{}={}", e.key().ok()?, e.value().ok()?))).find(|e| e.contains("user."))
    })?;
    assert_eq!(xattrs.get("./file").map(String::as_str), Some("SCHILY.xattr.user.note=kept"));
    Ok(())
}

/// What `of` finds of each entry of an archive, by their names.
fn archived(
    bytes: &[u8],
    of: impl Fn(&mut tar::Entry<'_, &[u8]>) -> Option<String>,
) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for entry in tar::Archive::new(bytes).entries()? {
        let mut entry = entry?;
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        if let Some(seen) = of(&mut entry) {
            found.insert(path, seen);
        }
    }
    Ok(found)
}

#[test]
fn volumes_of_the_image() -> Result<()> {
    let (rbox, image) = with_content(&["/data", "/made/here"])?;
    let written = rbox.sh(
        &image,
        &[],
        "cat /data/file; stat -c %a /made/here; grep -cE ' (/data|/made/here) ' /proc/self/mountinfo",
    );
    assert_eq!(written, "of the image\n755\n2");
    assert_eq!(volumes(&rbox), Vec::<String>::new());
    // Those that somebody mounts something in the place of are none.
    let flags = ["-v=named:/data/", "--tmpfs=/made/here"];
    assert_eq!(rbox.sh(&image, &flags, "cat /data/file"), "of the image");
    assert_eq!(volumes(&rbox), ["named"]);
    rbox.run(["run", "--name=kept", &image, "sh", "-c", "echo x > /data/new"]).success();
    let all = volumes(&rbox);
    assert_eq!(all.len(), 3);
    let anonymous: Vec<_> = all.iter().filter(|name| name.len() == 64).collect();
    let shown = inspected(&rbox, &["volume", "inspect", anonymous[0]])?;
    assert_eq!(shown["Anonymous"], json!(true));
    rbox.run(["volume", "rm", anonymous[0]]).refused_as(2, &["in use", "kept"]);
    // As with Docker and Podman they stay, unless they are to go.
    rbox.run(["rm", "kept"]).success();
    assert_eq!(volumes(&rbox).len(), 3);
    rbox.run(["create", "--name=gone", "-v=/more", &image]).success();
    assert_eq!(volumes(&rbox).len(), 6);
    rbox.run(["rm", "-v", "gone"]).success();
    assert_eq!(volumes(&rbox).len(), 3);
    // A detached one takes them along by itself.
    let id = rbox.run(["run", "-d", "--rm", "-v=/more", "-v=named:/n", &image, "sleep", "600"]).success();
    assert_eq!(volumes(&rbox).len(), 6);
    rbox.run(["stop", "-t", "0", id.trim_end()]).success();
    rbox_tests::patience::until(|| volumes(&rbox).len(), |left| *left == 3);
    // What never began leaves none.
    rbox.run(["run", "--rm", "-v=/more", &image, "/no/such"]).exits(127);
    assert_eq!(volumes(&rbox).len(), 3);
    let outcome = rbox.run(["volume", "prune", "--force"]).success();
    assert!(outcome.starts_with("Deleted Volumes:\n") && outcome.contains("reclaimed space"), "{outcome}");
    assert_eq!(volumes(&rbox), ["named"]);
    Ok(())
}

#[test]
fn volumes_of_an_image_that_cannot_be() -> Result<()> {
    let (rbox, image) = with_layer(&Layer::new().dir("x", 0o755), &["/"])?;
    rbox.run(["run", "--rm", &image, "true"]).refused(&["volume", "cover"]);
    Ok(())
}

#[test]
fn pruned_by_what_is_said() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    for (name, label) in [("one", "keep=no"), ("two", "keep=yes"), ("used", "keep=no")] {
        rbox.run(["volume", "create", "--label", label, name]).success();
    }
    rbox.run(["create", "--name=box", "-v=used:/x", "-v=/y", &image]).success();
    let prune = |words: &[&str]| rbox.run([&["volume", "prune"], words].concat());
    // Docker's way: what has a name stays.
    prune(&["-f"]).success();
    assert_eq!(volumes(&rbox).len(), 4);
    // Nobody has said yes.
    prune(&["--all"]).success();
    assert_eq!(volumes(&rbox).len(), 4);
    prune(&["-a", "-f", "--filter=label!=keep=yes"]).success();
    let left: Vec<_> = volumes(&rbox).into_iter().filter(|name| name.len() < 64).collect();
    assert_eq!(left, ["two", "used"]);
    prune(&["-f", "--filter=dangling=true"]).refused(&["dangling", "label"]);
    rbox.run(["rm", "box"]).success();
    prune(&["-f", "--all"]).success();
    assert_eq!(volumes(&rbox), Vec::<String>::new());
    Ok(())
}

#[test]
fn used_by_two_containers() -> Result<()> {
    let (rbox, image) = with_content(&[])?;
    let script = "i=0; while ! test -e /data/$1 && test $i -lt 500; do sleep 0.02; i=$((i+1)); done; cat /data/$1";
    let run = |name: &str, own: &str, other: &str| {
        let inside = format!("echo from {own} > /data/{own}; set -- {other}; {script}");
        rbox.run(["run", "--name", name, "-v=shared:/data", &image, "sh", "-c", &inside]).success()
    };
    let (one, two) = thread::scope(|scope| {
        let one = scope.spawn(|| run("a", "one", "two"));
        let two = run("b", "two", "one");
        (one.join().expect("no panic"), two)
    });
    assert_eq!((one.as_str(), two.as_str()), ("from two\n", "from one\n"));
    rbox.run(["volume", "rm", "shared"]).refused_as(2, &["shared", "in use", "a, b", "hint"]);
    rbox.run(["volume", "rm", "-f", "shared"]).refused_as(2, &["in use"]);
    assert_eq!(rbox.run(["volume", "ls", "-q", "--filter=dangling=false"]).success(), "shared\n");
    rbox.run(["rm", "a"]).success();
    rbox.run(["volume", "rm", "shared"]).refused_as(2, &["in use", "container b"]);
    rbox.run(["rm", "b"]).success();
    // With files of the subordinate ids in it.
    rbox.run(["volume", "rm", "shared"]).success();
    assert!(!data(&rbox, "shared").exists());
    assert_eq!(
        fs::read_dir(rbox.store().join("tmp"))?.filter(|e| e.as_ref().is_ok_and(|e| e.file_name() != "spare")).count(),
        0
    );
    Ok(())
}

#[test]
fn seen_in_lists() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    rbox.run(["create", "--name=one", "-v=data:/a/b:ro", "-v=/anonymous", &image]).success();
    rbox.run(["create", "--name=two", "-v=/etc:/x", &image]).success();
    for (filter, names) in [("data", "one\n"), ("/a/b", "one\n"), ("/x", "two\n"), ("dat", ""), ("/etc", "two\n")] {
        let filter = format!("volume={filter}");
        assert_eq!(rbox.run(["ps", "-a", "--format={{.Names}}", "--filter", &filter]).success(), names, "{filter}");
    }
    let shown = inspected(&rbox, &["inspect", "one"])?;
    let mounts = shown["Mounts"].as_array().context("a list")?;
    let expected = json!({
        "Type": "volume", "Name": "data", "Source": data(&rbox, "data"), "Destination": "/a/b", "Driver": "local",
        "Mode": "", "RW": false, "Propagation": "rprivate",
    });
    assert_eq!((&mounts[0], mounts.len()), (&expected, 2));
    assert_eq!((&mounts[1]["RW"], mounts[1]["Name"].as_str().map(str::len)), (&json!(true), Some(64)));
    assert_eq!(shown["HostConfig"]["Binds"], json!(["data:/a/b:ro"]));
    assert_eq!(inspected(&rbox, &["inspect", "two"])?["Mounts"][0]["Type"], json!("bind"));
    let mounted = rbox.run(["ps", "-a", "--filter=name=one", "--format={{.Mounts}}"]).success();
    assert!(mounted.contains("/a/b") && mounted.contains("/anonymous"), "{mounted}");
    Ok(())
}

#[test]
fn owned_by_the_user() -> Result<()> {
    let (rbox, image) = with_content(&[])?;
    rbox.sh(&image, &["-v=data:/data"], "mkdir -p /data/a/b; echo x > /data/a/b/c; ln -s /etc/passwd /data/a/link");
    let look = "stat -c '%u %g' /data /data/a/b/c /data/a/link /data/sub /etc/passwd | sort | uniq -c | tr -s ' '";
    let flags = ["--user=123:45", "-v=data:/data:U"];
    assert_eq!(rbox.sh(&image, &flags, &format!("{look}; echo y > /data/a/b/c")), " 1 0 0\n 4 123 45");
    assert_eq!(rbox.sh(&image, &["-v", "data:/data"], "stat -c %u /data/a/b/c"), "123");
    // A user of the image's own passwd, by a bind mount, and read-only at that.
    let dir = rbox.home().join("dir");
    fs::create_dir(&dir)?;
    fs::write(dir.join("file"), "")?;
    let bind = format!("--mount=type=bind,src={},dst=/data,U,ro", dir.display());
    assert_eq!(rbox.sh(&image, &["--user=nobody", &bind], "stat -c '%U' /data/file"), "nobody");
    let bind = format!("-v={}:/data:U", dir.display());
    rbox.sh(&image, &["--user=root", &bind], "true");
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&fs::metadata(dir.join("file"))?), rbox_tests::host::uid());
    // What is not the user's to give away. Not as root, who might: a bug would cost the host its owners.
    if rbox_tests::host::uid() != 0 {
        rbox.run(["run", "--rm", "-v=/etc:/data:U", &image, "true"]).refused(&["/etc", "hint"]);
        let home = format!("-v={}:/data:U", rbox.home().display());
        rbox.run(["run", "--rm", &home, &image, "true"]).refused(&["needs it as it is"]);
        rbox.run(["run", "--rm", "-v=/var/lib/dpkg:/data:U", &image, "true"]).refused(&["/data", "hint"]);
    }
    Ok(())
}

/// A hostile image wants its volume to be filled with what is not its own, or to cover all of the container.
#[test]
fn links_in_the_place_of_a_volume() -> Result<()> {
    let layer = Layer::new()
        .symlink("root-link", "/")
        .symlink("up", "../../..")
        .symlink("host", "../../../../../../etc")
        .symlink("loop", "loop")
        .dir("below", 0o755)
        .symlink("below/out", "/proc/self/root/etc");
    let (rbox, image) = with_layer(&layer, &[])?;
    for path in ["/root-link", "/up", "/below/..", "/up/up"] {
        rbox.run(["run", "--rm", &format!("-v=new:{path}"), &image, "true"]).refused(&[path, "root"]);
        assert_eq!(fs::read_dir(data(&rbox, "new"))?.count(), 0, "{path}");
    }
    // The container's own /etc, and nothing of the host's.
    rbox.sh(&image, &["-v=etc:/host"], "grep -q new /etc/marker 2>/dev/null || echo new > /etc/marker");
    let copied = fs::read_to_string(data(&rbox, "etc").join("passwd"))?;
    assert_eq!(copied.trim_end(), rbox.sh(&image, &[], "cat /etc/passwd"));
    assert!(data(&rbox, "etc").join("marker").exists());
    rbox.run(["run", "--rm", "-v=loop:/loop", &image, "true"]).refused(&["/loop"]);
    let outcome = rbox.run(["run", "--rm", "-v=proc:/below/out", &image, "true"]);
    assert_ne!(outcome.status, 0);
    assert_eq!(fs::read_dir(data(&rbox, "proc"))?.count(), 0);
    // Nor does a link that a workload leaves in the volume lead an import out, or an export.
    let aim = rbox.home().join("aim");
    fs::create_dir(&aim)?;
    rbox.sh(&image, &["-v=trap:/data"], &format!("ln -s {} /data/dir", aim.display()));
    let tar = Layer::new().dir("dir", 0o777).file("dir/file", 0o644, "in").to_tar();
    rbox.run_with_input(["volume", "import", "trap", "-"], &tar).success();
    assert_eq!(fs::read_dir(&aim)?.count(), 0);
    assert_eq!(rbox.sh(&image, &["-v=trap:/data"], "cat /data/dir/file"), "in");
    for name in ["../file", "/file"] {
        let tar = Layer::new().file(name, 0o644, "out").to_tar();
        rbox.run_with_input(["volume", "import", "trap", "-"], &tar).refused(&["import", "trap", "name"]);
    }
    Ok(())
}

#[test]
fn out_and_in_again() -> Result<()> {
    let (rbox, image) = with_content(&[])?;
    let look = "cd /data; cat file; stat -c '%n %u %g %a %h %Y' . file sub sub/same; readlink out";
    let of_image = rbox.sh(&image, &["-v=one:/data"], look);
    rbox.run(["volume", "export", "one", "--output", "one.tar"]).success();
    let tar = fs::read(rbox.home().join("one.tar"))?;
    let piped = finish(
        rbox.command(["volume", "export", "one"])
            .stdin(Stdio::null())
            .stdout(fs::File::create(rbox.home().join("piped"))?),
    );
    assert_eq!(piped.status, 0, "{}", piped.stderr);
    let names = archived(&tar, |entry| Some(format!("{:?}", entry.header().entry_type())))?;
    let expected = ["./", "./file", "./out", "./sub/", "./sub/same"];
    assert_eq!(names.keys().map(String::as_str).collect::<Vec<_>>(), expected);

    rbox.run(["volume", "create", "two"]).success();
    rbox.run(["volume", "import", "two", "one.tar"]).success();
    assert_eq!(rbox.sh(&image, &["-v=two:/data"], look), of_image);
    // Over what is there, compressed, and from standard input.
    rbox.sh(&image, &["-v=two:/data"], "echo changed > /data/file; echo more > /data/sub/more");
    let gzip = finish(std::process::Command::new("gzip").args(["-k", "one.tar"]).current_dir(rbox.home()));
    assert_eq!(gzip.status, 0);
    rbox.run_with_input(["volume", "import", "two", "-"], &fs::read(rbox.home().join("one.tar.gz"))?).success();
    assert_eq!(rbox.sh(&image, &["-v=two:/data"], "cat /data/file /data/sub/more"), "of the image\nmore");
    // What was put in before the first use is what there is.
    assert_eq!(rbox.sh(&image, &["-v=two:/empty"], "cat /empty/file"), "of the image");

    rbox.run(["volume", "export", "none"]).refused(&["no such volume"]);
    rbox.run(["volume", "import", "none", "one.tar"]).refused(&["no such volume"]);
    rbox.run(["volume", "import", "two", "none.tar"]).refused(&["none.tar"]);
    rbox.run_with_input(["volume", "import", "two", "-"], &[b'x'; 1024]).refused(&["two", "the archive", "tar"]);
    rbox.run_with_input(["volume", "import", "two", "-"], &tar[..700]).refused(&["two"]);
    // A file that is there is replaced by a whole archive, or stays.
    fs::write(rbox.home().join("kept"), "kept")?;
    rbox.run(["volume", "export", "none", "-o", "kept"]).refused(&[]);
    assert_eq!(fs::read_to_string(rbox.home().join("kept"))?, "kept");
    Ok(())
}

#[test]
fn an_archive_is_nothing_for_a_terminal() -> Result<()> {
    let rbox = Rbox::new();
    rbox.run(["volume", "create", "one"]).success();
    let line = format!("{} volume export one", rbox_tests::host::rbox_binary().display());
    let mut command = rbox.command(["unused"]);
    let environment: Vec<_> =
        command.get_envs().map(|(key, value)| (key.to_owned(), value.map(ToOwned::to_owned))).collect();
    command = std::process::Command::new("script");
    command.args(["-qec", &line, "/dev/null"]).env_clear().stdin(Stdio::null());
    for (key, value) in environment {
        command.env(key, value.unwrap_or_default());
    }
    let outcome = finish(&mut command);
    assert_eq!(outcome.status, 125, "{}", outcome.stdout);
    assert!(outcome.stdout.contains("terminal") && outcome.stdout.contains("--output"), "{}", outcome.stdout);
    Ok(())
}

#[test]
fn of_many_who_make_it_one_does() -> Result<()> {
    let rbox = Rbox::new();
    rbox.run(["volume", "ls"]).success();
    for round in 0..5 {
        let name = format!("v{round}");
        let made: usize = thread::scope(|scope| {
            let tries: Vec<_> = (0..6)
                .map(|_| scope.spawn(|| usize::from(rbox.run(["volume", "create", &name]).status == 0)))
                .collect();
            tries.into_iter().map(|made| made.join().expect("no panic")).sum()
        });
        assert_eq!(made, 1);
    }
    Ok(())
}

/// Enough that it takes a moment to copy.
fn with_much(files: usize) -> Result<(Rbox, String)> {
    let mut layer = Layer::new().dir("data", 0o755);
    for number in 0..files {
        layer = layer.file(&format!("data/{number}"), 0o644, vec![b'x'; 8192]);
    }
    with_layer(&layer, &[])
}

#[test]
fn containers_that_begin_at_once_fill_it_once() -> Result<()> {
    let (rbox, image) = with_much(300)?;
    for round in 0..3 {
        let flag = format!("-v=v{round}:/data");
        let seen: Vec<String> = thread::scope(|scope| {
            let runs: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| rbox.sh(&image, &[&flag], "ls /data | wc -l; cat /data/* | wc -c")))
                .collect();
            runs.into_iter().map(|run| run.join().expect("no panic")).collect()
        });
        assert_eq!(seen, vec![format!("300\n{}", 300 * 8192); 4]);
    }
    Ok(())
}

/// Whoever is killed while a volume is filled leaves none that is filled in part.
#[test]
fn killed_in_the_middle() -> Result<()> {
    let (rbox, image) = with_much(400)?;
    let mut caught = 0;
    for delay in 0..20_u64 {
        let name = format!("v{delay}");
        let running = rbox.start(["run", "--rm", "--network=none", &format!("-v={name}:/data"), &image, "true"]);
        let directory = data(&rbox, &name);
        // Some in the making of the volume, and most while it is filled.
        if delay % 3 > 0 {
            let begun = || fs::read_dir(&directory).map_or(0, Iterator::count) > 0 || running_is_over(&directory);
            for _ in 0..2000 {
                if begun() {
                    break;
                }
                thread::sleep(Duration::from_millis(1));
            }
        }
        thread::sleep(Duration::from_millis(delay % 7));
        running.kill();
        let there = fs::read_dir(&directory).map_or(0, Iterator::count);
        caught += usize::from(there > 0 && there < 400);
        let seen = rbox.sh(&image, &[&format!("-v={name}:/data")], "ls /data | wc -l; cat /data/* | wc -c");
        assert_eq!(seen, format!("400\n{}", 400 * 8192), "{name}, killed when there were {there}");
    }
    assert!(caught > 0, "none was caught while it was filled");
    // What was killed still has them.
    rbox.run(["rm", "--all", "--force"]).success();
    rbox.run(["gc"]).success();
    rbox.run(["volume", "rm", "--all"]).success();
    assert_eq!(volumes(&rbox), Vec::<String>::new());
    Ok(())
}

fn running_is_over(data: &std::path::Path) -> bool {
    let mut state = [0];
    let read = fs::File::open(data.join("../first-use")).and_then(|mut file| file.read(&mut state));
    read.is_ok() && state == *b"u"
}

#[test]
fn killed_while_one_is_made() -> Result<()> {
    let rbox = Rbox::new();
    rbox.run(["volume", "ls"]).success();
    for delay in 0..40_u64 {
        let name = format!("v{delay}");
        let mut child = rbox.command(["volume", "create", &name]).stdout(Stdio::null()).spawn()?;
        thread::sleep(Duration::from_micros(delay * 150));
        child.kill()?;
        child.wait()?;
        // It is there, whole, or it is not.
        match rbox.run(["volume", "exists", &name]).status {
            0 => drop(inspected(&rbox, &["volume", "inspect", &name])?),
            1 => drop(rbox.run(["volume", "create", &name]).success()),
            other => panic!("{other}"),
        }
        assert!(data(&rbox, &name).is_dir());
    }
    rbox.run(["gc"]).success();
    assert_eq!(fs::read_dir(rbox.store().join("tmp"))?.count(), 0);
    assert_eq!(volumes(&rbox).len(), 40);
    Ok(())
}

#[test]
fn with_one_id() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let registry = rbox_tests::registry::Registry::offering(&alpine::small()?, "latest", "t/small:1")?;
    let one = ["--identity=single"];
    rbox.run([&one[..], &["pull", "-q", &registry.reference("t/small:1")]].concat()).success();
    drop(image);
    let run = |flags: &[&str], script: &str| {
        let reference = registry.reference("t/small:1");
        let words = [&one[..], &["run", "--rm"], flags, &[&reference, "sh", "-c", script]].concat();
        rbox.run(words).success()
    };
    run(&["-v=new:/etc"], "echo x > /etc/x");
    assert_eq!(run(&["-v=new:/data"], "cat /data/x; ls /data/passwd"), "x\n/data/passwd\n");
    rbox.run(["--identity=single", "volume", "export", "new", "-o", "tar"]).success();
    rbox.run(["--identity=single", "volume", "create", "two"]).success();
    rbox.run(["--identity=single", "volume", "import", "two", "tar"]).success();
    assert_eq!(run(&["-v=two:/data"], "cat /data/x"), "x\n");
    Ok(())
}

const HAS_NAME: &str = "Docker's way: what has a name stays, unless --all is said";
const ITS_WORDS: &str = "Docker's words, with what is free now";

#[test]
#[ignore = "long: needs podman"]
fn as_with_podman() -> Result<()> {
    let pair = Pair::new()?;
    pair.run(&[
        same("volume ls").differs("Docker's way: the columns have their names even where there is no line"),
        same("volume create one"),
        same("volume create one"),
        same("volume create --ignore one").differs("the flag is of a later Podman"),
        same("volume create --label a=b two"),
        same("volume create 'a b'"),
        same("volume create --driver nfs three"),
        same("volume ls"),
        same("volume ls -q"),
        same("volume ls --filter name=tw -q"),
        same("volume ls --filter label=a=b -q"),
        same("volume ls --filter dangling=true -q"),
        same("volume ls --filter driver=local -q"),
        same("volume ls --format '{{.Name}} {{.Driver}}'"),
        same("volume inspect --format '{{.Name}} {{.Driver}} {{.Scope}} {{.Labels}}' two"),
        same("volume inspect three"),
        same("volume exists one"),
        same("volume exists three"),
        same("run --rm -v one:/data IMAGE sh -c 'echo x > /data/x; stat -c \"%u %g %a\" /data'"),
        same("run --rm -v one:/data:ro IMAGE sh -c 'cat /data/x; touch /data/y'"),
        same("run --rm -v new:/etc IMAGE stat -c '%u %g %a' /etc /etc/passwd"),
        same("run --rm -v new:/data IMAGE ls /data/passwd"),
        same("run --rm -v mine:/no/such --user 5:6 IMAGE stat -c '%u %g' /no/such"),
        same("run --rm -v tmp:/tmp IMAGE stat -c '%u %g %a' /tmp"),
        same("run --rm -v one:/data:U --user 5:6 IMAGE stat -c '%u %g' /data /data/x"),
        same("run --rm --mount type=volume,src=one,dst=/data,ro IMAGE sh -c 'cat /data/x; touch /data/y'"),
        same("run --rm -v one:/data -v two:/data IMAGE true"),
        same("run --rm -v one:/ IMAGE true").differs("Docker's way: it is refused"),
        same("create --name box -v one:/data -v /anonymous IMAGE true"),
        same("volume rm one"),
        status("ps -a --filter volume=one --format '{{.Names}}'"),
        same("ps -a --filter volume=two -q"),
        same("inspect --format '{{range .Mounts}}{{if eq .Destination \"/data\"}}{{.Type}} {{.Name}} {{.RW}} {{.Driver}} {{.Propagation}}{{end}}{{end}}' box"),
        same("volume ls --filter dangling=false -q"),
        same("rm -v box"),
        same("volume ls -q"),
        same("volume export one --output one.tar"),
        same("volume import two one.tar"),
        same("run --rm -v two:/data IMAGE stat -c '%u %g' /data/x"),
        same("volume import none one.tar"),
        same("volume rm one"),
        same("volume rm none"),
        same("volume rm -f none"),
        same("volume prune --force").differs(HAS_NAME),
        same("volume create last"),
        same("volume prune --all --force").differs(ITS_WORDS),
        same("volume ls -q").differs("the flag is of a later Podman"),
    ]);
    Ok(())
}
