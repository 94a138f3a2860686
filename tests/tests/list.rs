//! `rbox ps`, `images` and `inspect`: filters, orders, and `--format` as people type it for Docker and Podman.

use anyhow::{Context, Result};
use rbox_tests::image::{Compression, ImageBuilder};
use rbox_tests::layer::Layer;
use rbox_tests::layout::Layout;
use rbox_tests::rbox::{Rbox, by_copies};
use rbox_tests::registry::Registry;
use serde_json::{Value, json};

/// Containers that have ended: `one` with status 0, `two`, which has these labels, with 3 and then `three` with 3, which
/// has a volume.
fn three(labels: &[&str]) -> Result<(Rbox, String)> {
    let (rbox, image) = Rbox::with_small_image()?;
    rbox.run(["run", "--name", "one", &image, "true"]).success();
    rbox.run([&["run", "--name", "two"], labels, &[&image, "sh", "-c", "exit 3"]].concat()).exits(3);
    let volume = format!("{}:/data", rbox.home().display());
    rbox.run(["run", "--name", "three", "-v", &volume, &image, "sh", "-c", "exit 3"]).exits(3);
    Ok((rbox, image))
}

/// The names that `ps` shows with these flags, in its order.
#[track_caller]
fn names(rbox: &Rbox, flags: &[&str]) -> String {
    let words = [&["ps", "--format", "{{.Names}}"], flags].concat();
    rbox.run(words).success().split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn ps_filters_and_orders() -> Result<()> {
    let (rbox, image) = three(&["--label=tier=web", "--label=a=1"])?;
    for (flags, expected) in [
        (&[][..], ""),
        (&["-a"], "three two one"),
        (&["-a", "--sort", "names"], "one three two"),
        (&["-n", "2"], "three two"),
        (&["--last", "1"], "three"),
        (&["-l"], "three"),
        (&["-a", "-f", "name=t"], "three two"),
        (&["-a", "-f", "name=^two$"], "two"),
        (&["-a", "-f", "name=one", "-f", "name=two"], "two one"),
        (&["-f", "status=exited"], "three two one"),
        (&["-f", "status=running"], ""),
        (&["-a", "-f", "exited=3"], "three two"),
        (&["-a", "-f", "exited=3", "-f", "name=two"], "two"),
        (&["-a", "-f", "before=two"], "one"),
        (&["-a", "-f", "since=two"], "three"),
        (&["-a", "-f", "volume=/data"], "three"),
        (&["-a", "-f", "network=slirp"], "three two one"),
        (&["-a", "-f", "network=none"], ""),
        (&["-a", "-f", "network=bridge"], ""),
        (&["-a", "-f", "label=tier"], "two"),
        (&["-a", "-f", "label=tier=web", "-f", "label=a=1"], "two"),
        (&["-a", "-f", "label=tier=db"], ""),
        (&["-a", "-f", "label!=tier"], "three one"),
        (&["-a", "-f", "until=1h"], ""),
        (&["-a", "-f", &format!("ancestor={image}")], "three two one"),
        (&["-a", "-f", "ancestor=nothing-of-this-name"], ""),
    ] {
        assert_eq!(names(&rbox, flags), expected, "{flags:?}");
    }
    let id = rbox.run(["ps", "-aq", "--no-trunc", "-f", "name=two"]).success();
    assert_eq!(id.trim().len(), 64);
    assert_eq!(names(&rbox, &["-a", "-f", &format!("id={}", &id[..12])]), "two");
    // By the image's id, also when its name is gone.
    let image_id = rbox.run(["inspect", "-f", "{{.Id}}", &image]).success();
    assert_eq!(names(&rbox, &["-a", "-f", &format!("ancestor={}", &image_id.trim()[7..19])]), "three two one");

    assert_eq!(names(&rbox, &["-a", "-f", "health=none"]), "three two one");
    assert_eq!(names(&rbox, &["-a", "-f", "health=healthy"]), "");
    rbox.run(["ps", "-f", "pod=web"]).refused(&["pod", "there are", "ancestor"]);
    rbox.run(["ps", "-f", "health=good"]).refused(&["good", "starting"]);
    rbox.run(["ps", "-f", "status=asleep"]).refused(&["asleep", "running"]);
    rbox.run(["ps", "-f", "name"]).refused(&["KEY=VALUE"]);
    rbox.run(["ps", "-f", "before=nobody"]).refused(&["nobody"]);
    rbox.run(["ps", "-l", "-n", "3"]).refused(&["cannot be used with"]);
    Ok(())
}

#[test]
fn ps_as_a_table_and_by_templates() -> Result<()> {
    let (rbox, image) = three(&["--label=com.example.tier=web"])?;
    let says = |format: &str| rbox.run(["ps", "-a", "-f", "name=two", "--format", format]).success();
    let heading = rbox.run(["ps"]).success();
    let words: Vec<&str> = heading.split_whitespace().collect();
    assert_eq!(words, ["CONTAINER", "ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]);
    assert_eq!(rbox.run(["ps", "--noheading"]).success(), "");
    let id = rbox.run(["ps", "-aqf", "name=two"]).success();
    assert_eq!(says(r"table {{.ID}}\t{{.Names}}"), format!("CONTAINER ID   NAMES\n{}   two\n", id.trim()));
    assert_eq!(
        says("{{.Image}} {{.State}} {{.ExitCode}} {{.Command}}"),
        format!("{image} exited 3 \"sh -c exit 3\"\n")
    );
    assert!(says("{{.Status}}").starts_with("Exited (3) "));
    assert_eq!(says(r#"{{.Label "com.example.tier"}} {{.Labels}}"#), "web map[com.example.tier:web]\n");
    assert_eq!(says(r#"table {{.Names}}\t{{.Label "com.example.tier"}}"#), "NAMES   tier\ntwo     web\n");
    assert_eq!(says("{{range $k, $v := .Labels}}{{$k}}={{$v}}{{end}}"), "com.example.tier=web\n");
    let document: Value = serde_json::from_str(&says("{{json .}}"))?;
    assert_eq!(document["Names"], "two");
    assert_eq!(rbox.run(["ps", "-a", "--format", "{{range .Mounts}}{{.}}{{else}}-{{end}}"]).success(), "/data\n-\n-\n");

    let wrong = |format: &str, words: &[&str]| _ = rbox.run(["ps", "-a", "--format", format]).refused(words);
    wrong("{{.Nmaes}}", &["no field .Nmaes", ".Names", ".Status"]);
    wrong("{{nope .ID}}", &["no function \"nope\"", "json"]);
    wrong("{{.ID", &["no end"]);
    wrong("yaml", &["yaml", "table", "json"]);
    Ok(())
}

#[test]
fn what_a_workload_chose_does_nothing_to_a_terminal() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    rbox.run(["run", "--name", "one", "-e", "X=\x1b]0;title\x07", &image, "true"]).success();
    let template = r#"{{range .Config.Env}}{{println .}}{{end}}end of it"#;
    // Other programs get it as it is.
    assert!(rbox.run(["inspect", "-f", template, "one"]).success().contains("X=\x1b]0;title\x07"));
    let command = rbox.command(["inspect", "-f", template, "one"]);
    let mut terminal = rbox_tests::terminal::Terminal::start(&command, 30, 200)?;
    let shown = terminal.expect("end of it");
    assert!(shown.contains(r"X=\u{1b}]0;title\u{7}") && !shown.contains('\x1b'), "{shown:?}");
    assert_eq!(terminal.wait(), 0);
    Ok(())
}

#[test]
fn images_filters_and_orders() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let layout = Layout::create(scratch.path())?;
    for (tag, created, tier) in [("old", "2020-01-01T00:00:00Z", "db"), ("new", "2021-01-01T00:00:00Z", "web")] {
        let layer = Layer::new().file("etc/which", 0o644, tag.repeat(if tag == "old" { 1 } else { 1000 }));
        let image = ImageBuilder::new(&layout).set("Labels", json!({ "tier": tier })).created(created);
        image.layer(&layer, Compression::Gzip)?.finish_as(tag)?;
    }
    let registry = Registry::start()?;
    for (tag, name) in [("old", "t/app:old"), ("new", "t/app:new"), ("old", "u/other:1")] {
        registry.place(&layout, &layout.find(tag)?, name)?;
    }
    let rbox = Rbox::new();
    let reference = |name: &str| registry.reference(name);
    for name in ["t/app:old", "t/app:new", "u/other:1"] {
        rbox.pull(&reference(name));
    }
    let listed = |flags: &[&str]| {
        let words = [&["images", "--format", "{{.Repository}}:{{.Tag}}"], flags].concat();
        let host = format!("{}/", reference("t/app:old").split_once('/').expect("a registry").0);
        rbox.run(words).success().replace(&host, "").split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let (new, old) = (reference("t/app:new"), reference("t/app:old"));
    for (flags, expected) in [
        (&["--sort", "repository"][..], "t/app:new t/app:old u/other:1"),
        (&["-f", "label=tier=web"], "t/app:new"),
        (&["-f", "label!=tier=web", "--sort", "repository"], "t/app:old u/other:1"),
        (&["-f", &format!("before={new}"), "--sort", "repository"], "t/app:old u/other:1"),
        (&["-f", &format!("since={old}")], "t/app:new"),
        (&["-f", "until=2020-06-01T00:00:00Z", "--sort", "tag"], "u/other:1 t/app:old"),
        (&["-f", "reference=*/t/app:n*"], "t/app:new"),
        (&["-f", "reference=*/*/app", "--sort", "tag"], "t/app:new t/app:old"),
        (&["-f", "dangling=true"], ""),
        (&["-f", "dangling=false", "--sort", "size"], "t/app:old u/other:1 t/app:new"),
        (&[&old], "t/app:old"),
        (&["nothing-of-this-name"], ""),
    ] {
        assert_eq!(listed(flags), expected, "{flags:?}");
    }
    // The newest first.
    assert!(listed(&[]).starts_with("t/app:new"));
    let table = rbox.run(["images", "--digests", &old]).success();
    let heading: Vec<&str> = table.lines().next().context("a heading")?.split_whitespace().collect();
    assert_eq!(heading, ["REPOSITORY", "TAG", "DIGEST", "IMAGE", "ID", "CREATED", "SIZE"]);
    assert_eq!(rbox.run(["images", "-n", &old]).success().lines().count(), 1);
    let id = rbox.run(["images", "-q", "--no-trunc", &old]).success();
    assert!(id.starts_with("sha256:") && id.trim().len() == 71, "{id}");
    let created = rbox.run(["images", "--format", "{{.CreatedAt}}", &old]).success();
    assert_eq!(created.trim(), "2020-01-01 00:00:00 +0000 UTC");
    rbox.run(["images", "-f", "containers=true"]).refused(&["containers", "there are"]);
    Ok(())
}

#[test]
fn inspect_by_templates_and_kinds() -> Result<()> {
    let (rbox, image) = three(&[])?;
    let says = |flags: &[&str]| rbox.run([&["inspect"], flags].concat()).success();
    assert_eq!(says(&["-f", "{{.Name}} {{.State.ExitCode}}", "one", "two"]), "one 0\ntwo 3\n");
    assert_eq!(says(&["--format", "{{json .State.Status}}", "one"]), "\"exited\"\n");
    let mounts = "{{range .Mounts}}{{.Destination}} {{if .RW}}rw{{end}}{{else}}none{{end}}";
    assert_eq!(says(&["-f", mounts, "one", "three"]), "none\n/data rw\n");
    assert_eq!(says(&["-f", "{{index .Args 0}} {{len .Args}}", "two"]), "-c 2\n");
    let image_id = rbox.run(["images", "-q", "--no-trunc"]).success();
    assert_eq!(says(&["-f", "{{.Id}}", "--type", "image", &image]), image_id);
    let list: Value = serde_json::from_str(&says(&["one", "two"]))?;
    assert_eq!(list.as_array().map(Vec::len), Some(2));

    // One that is missing does not keep the others from being shown.
    let outcome = rbox.run(["inspect", "-f", "{{.Name}}", "one", "nobody", "two"]).refused(&["nobody"]);
    assert_eq!(outcome.stdout, "one\ntwo\n");
    assert_eq!(rbox.run(["inspect", "nobody"]).refused(&["nobody"]).stdout, "[]\n");
    rbox.run(["inspect", "--type", "image", "one"]).refused(&["one"]);
    rbox.run(["inspect", "--type", "container", &image]).refused(&["no such container"]);
    rbox.run(["inspect", "-f", "{{.State.Pidd}}", "one"]).refused(&[".State has no field .Pidd", ".Pid"]);
    rbox.run(["inspect", "-f", "table {{.Id}}", "one"]).refused(&["no tables"]);
    Ok(())
}

#[test]
fn sizes_count_the_files_of_every_id() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    // A directory that only its owner, another id than the user's, can look into.
    let script = "mkdir -m 700 /d; head -c 12345 /dev/zero > /d/f; chown -R 5:5 /d";
    rbox.run(["run", "--name", "one", &image, "sh", "-c", script]).success();
    if by_copies() {
        // All of the copy is the container's own.
        let sizes = rbox.run(["inspect", "-s", "-f", "{{.SizeRw}} {{.SizeRootFs}}", "one"]).success();
        let (written, seen) = sizes.trim().split_once(' ').context("two numbers")?;
        assert!(written == seen && written.parse::<u64>()? > 112_345, "{sizes}");
        return Ok(());
    }
    assert_eq!(rbox.run(["inspect", "-s", "-f", "{{.SizeRw}}", "one"]).success(), "12345\n");
    let sizes = rbox.run(["inspect", "-s", "-f", "{{.SizeRw}} {{gt .SizeRootFs 100000}}", "one"]).success();
    assert_eq!(sizes, "12345 true\n");
    rbox.run(["inspect", "-f", "{{.SizeRw}}", "one"]).refused(&["no field .SizeRw"]);
    Ok(())
}

#[test]
fn info_and_version_by_templates() -> Result<()> {
    let (rbox, _) = three(&[])?;
    let says = |words: &[&str]| rbox.run(words).success().trim_end().to_owned();
    assert_eq!(says(&["info", "-f", "{{.Images}} {{.Containers}} {{.ContainersRunning}}"]), "1 3 0");
    assert_eq!(says(&["info", "--format", "{{.Root}}"]), rbox.store().display().to_string());
    let version = says(&["version", "--format", "{{.Client.Version}}"]);
    assert!(rbox.run(["--version"]).success().contains(&version), "{version}");
    rbox.run(["version", "-f", "{{.Server.Version}}"]).refused(&["no field .Server", ".Client"]);
    Ok(())
}

#[test]
fn the_long_names_are_the_same_verbs() -> Result<()> {
    let (rbox, image) = three(&[])?;
    let same = |short: &[&str], long: &[&str]| assert_eq!(rbox.run(short).success(), rbox.run(long).success());
    same(&["ps", "-aq"], &["container", "ls", "-aq"]);
    same(&["ps", "-aq"], &["container", "ps", "--all", "--quiet"]);
    same(&["images", "-q"], &["image", "ls", "-q"]);
    same(&["inspect", "one"], &["container", "inspect", "one"]);
    same(&["inspect", &image], &["image", "inspect", &image]);
    rbox.run(["container", "inspect", &image]).refused(&["no such container"]);
    rbox.run(["image", "inspect", "one"]).refused(&["one"]);
    assert_eq!(rbox.run(["container", "run", "--rm", &image, "echo", "in"]).success(), "in\n");
    rbox.run(["container", "rm", "one", "two", "three"]).success();
    rbox.run(["image", "rm", &image]).success();
    assert_eq!(rbox.run(["images", "-q"]).success(), "");
    Ok(())
}
