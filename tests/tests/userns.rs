//! `--userns`: whose ids a container has.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use rbox_tests::detached::Detached;
use rbox_tests::image::{Compression, Format};
use rbox_tests::layer::Layer;
use rbox_tests::layout::Layout;
use rbox_tests::patience::until;
use rbox_tests::processes::signal;
use rbox_tests::rbox::Rbox;
use rbox_tests::running::Running;
use rbox_tests::{alpine, host};
use serde_json::{Value, json};

const FOREVER: &str = "id -u; sleep 1000";

/// The small image, by who shows files with other ids than they are stored with.
fn small() -> Result<(Rbox, String)> {
    let (rbox, image) = Rbox::with_small_image()?;
    Ok((rbox.by_best_driver(), image))
}

fn run(rbox: &Rbox, flags: &[&str], image: &str, script: &str) -> String {
    rbox.run([&["run", "--rm"], flags, &[image, "sh", "-c", script]].concat()).success()
}

#[test]
fn who_keeps_his_id_is_himself() -> Result<()> {
    let (rbox, image) = small()?;
    let shared = rbox.home().join("shared");
    fs::create_dir(&shared)?;
    fs::write(shared.join("mine"), "")?;
    let (uid, gid) = (host::uid(), host::gid());
    let layers = rbox.layers();
    let volume = format!("{}:/shared", shared.display());
    let script =
        "id -u; id -g; stat -c '%u %g' /bin/busybox /shared/mine; touch /tmp/new /shared/new; stat -c '%u %g' /tmp/new
        tail -1 /etc/passwd; touch /new 2>/dev/null || echo no root";
    let seen = run(&rbox, &["--userns=keep-id", "-v", &volume, "-w", "/shared"], &image, script);
    let name = host::user_name();
    let expected =
        format!("{uid}\n{gid}\n0 0\n{uid} {gid}\n{uid} {gid}\n{name}:x:{uid}:{gid}:{name}:/shared:/bin/sh\nno root\n");
    assert_eq!(seen, expected);
    let new = fs::metadata(shared.join("new"))?;
    assert_eq!((new.uid(), new.gid()), (uid, gid));
    assert_eq!(rbox.layers(), layers, "nothing was unpacked once more");
    // Whoever it is for, the image's own user is not him; somebody who is asked for is.
    let of = |flags: &[&str]| {
        run(&rbox, &[&["--userns=keep-id:uid=33,gid=44"], flags].concat(), &image, "echo $(id -u) $(id -g)")
    };
    assert_eq!(of(&[]), "33 44\n");
    assert_eq!(of(&["--user", "0"]), "0 0\n");
    assert_eq!(of(&["--user", "7:8"]), "7 8\n");
    assert_eq!(run(&rbox, &["--userns=keep-id:uid=0,gid=0"], &image, "id -u; stat -c %u /bin"), "0\n0\n");
    Ok(())
}

#[test]
fn it_is_so_in_each_of_its_lives_and_for_who_comes_in() -> Result<()> {
    let (rbox, image) = small()?;
    let uid = format!("{}\n", host::uid());
    let one = Detached::start(&rbox, &image, "one", &["--userns=keep-id"], FOREVER);
    assert_eq!(rbox.run(["exec", "one", "id", "-u"]).success(), uid);
    assert_eq!(
        rbox.run(["exec", "--user", "0", "one", "sh", "-c", "echo x >/root/x; stat -c %u /root/x; id -u"]).success(),
        "0\n0\n"
    );
    let kept = format!("keep-id:uid={},gid={}", host::uid(), host::gid());
    assert_eq!(one.inspect(&["HostConfig", "UsernsMode"]), kept.as_str());
    rbox.run(["restart", "-t", "0", "one"]).success();
    assert_eq!(
        rbox.run(["exec", "one", "sh", "-c", "id -u; stat -c '%u %n' /root /bin; grep -c x: /etc/passwd"])
            .success()
            .lines()
            .next(),
        Some(uid.trim())
    );
    let lines = rbox.run(["exec", "one", "grep", "-c", &format!(":{}:", host::uid()), "/etc/passwd"]).success();
    assert_eq!(lines, "1\n", "no second line in the second life");
    // Who joins its namespaces has its ids.
    let joined = run(
        &rbox,
        &["--pid=container:one"],
        &image,
        "cat /proc/self/uid_map; stat -c %u /bin; touch /x; stat -c %u /x",
    );
    let theirs = rbox.run(["exec", "one", "cat", "/proc/self/uid_map"]).success();
    assert_eq!(joined, format!("{theirs}0\n0\n"));
    rbox.run(["run", "--rm", "--userns=keep-id:uid=5", "--pid=container:one", &image, "true"])
        .refused(&["--userns", "one"]);
    Ok(())
}

#[test]
fn an_image_with_users_of_its_own_works() -> Result<()> {
    let (rbox, image) = Rbox::with_image(&alpine::layout()?, alpine::TAG, "library/alpine:3.23")?;
    let rbox = rbox.by_best_driver();
    let script = "adduser -D joe && su joe -c 'id -un; touch ~/x; stat -c %U ~/x'; stat -c '%U %G %a' /etc/shadow
        chown nobody /home/joe/x; stat -c %U /home/joe/x; su $(awk -F: -v id=$1 '$3 == id { print $1 }' /etc/passwd) -c 'id -u'";
    let words = [
        "run",
        "--rm",
        "--userns=keep-id",
        "--user",
        "root",
        &image,
        "sh",
        "-c",
        script,
        "sh",
        &host::uid().to_string(),
    ];
    let seen = rbox.run(words).success();
    assert_eq!(seen, format!("joe\njoe\nroot shadow 640\nnobody\n{}\n", host::uid()));
    let read_only = run(&rbox, &["--userns=keep-id", "--read-only"], &image, "id -un");
    assert_eq!(read_only.trim(), host::user_name());
    Ok(())
}

#[test]
fn maps_of_ones_own() -> Result<()> {
    let (rbox, image) = small()?;
    let shared = rbox.home().join("shared");
    fs::create_dir(&shared)?;
    let volume = format!("{}:/shared", shared.display());
    let maps = ["--uidmap=0:1:10", "--uidmap=10:0", "--gidmap=0:0:100", "-v", &volume];
    let seen =
        run(&rbox, &maps, &image, "id -u; stat -c '%u %g' /bin /shared; touch /x; chown 9:19 /x; stat -c '%u %g' /x");
    assert_eq!(seen, "0\n0 0\n10 0\n9 19\n");
    let as_ten = run(&rbox, &[&maps[..], &["--user", "10:0"]].concat(), &image, "touch /shared/y; id -u");
    assert_eq!((as_ten.as_str(), fs::metadata(shared.join("y"))?.uid()), ("10\n", host::uid()));
    let refused = |flags: &[&str], words: &[&str]| {
        rbox.run([&["run", "--rm"], flags, &[&image, "true"]].concat()).refused_as(125, words);
    };
    refused(&["--uidmap=0:1:x"], &["CONTAINER_ID:ID"]);
    refused(&["--uidmap=1:1:5"], &["id 0"]);
    refused(&["--uidmap=0:4000000:5"], &["4000000"]);
    refused(&["--uidmap=0:1:5", "--userns=keep-id"], &["two ways"]);
    Ok(())
}

#[test]
fn what_cannot_be_is_refused() -> Result<()> {
    let (rbox, image) = small()?;
    let refused = |flags: &[&str], words: &[&str]| {
        rbox.run([&["run", "--rm"], flags, &[&image, "true"]].concat()).refused_as(125, words);
    };
    refused(&["--userns=host"], &["host", "user namespace"]);
    refused(&["--userns=keep-id:size=3"], &["size"]);
    refused(&["--userns=keep-id:uid=4000000"], &["4000000", "keep-id:uid=1000"]);
    refused(&["--userns=keep-id", "--storage-driver=overlay"], &["--storage-driver=overlay", "fuse"]);
    refused(&["--userns=keep-id", "--identity=single"], &["/etc/subuid"]);
    refused(&["--userns=auto", "--identity=single"], &["of its own", "/etc/subuid"]);
    refused(&["--userns=auto", "--uidmap=0:1:5"], &["two ways"]);
    refused(&["--userns=auto", "--storage-driver=copy"], &["--storage-driver=copy", "fuse"]);
    refused(&["--uidmap=0:1:5", "--storage-driver=copy"], &["--uidmap", "--storage-driver=copy", "fuse"]);
    refused(&["--userns=auto:size=0"], &["size=0"]);
    refused(&["--subuidname=somebody"], &["--subuidname", "newuidmap", "--uidmap"]);
    refused(&["--subgidname=somebody"], &["--subgidname", "newgidmap", "--userns=auto"]);
    refused(&["--userns=auto:uid=5"], &["uid", "uidmapping="]);
    let left = rbox.run(["ps", "-aq"]).success();
    ensure!(left.is_empty(), "{left}");
    Ok(())
}

/// A process's ids as the host sees them: the first one and how many.
fn map(pid: u32, file: &str) -> Result<(u32, u32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}"))?;
    let numbers: Vec<u32> = text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    let [0, first, count] = numbers[..] else { panic!("not one line from 0 on: {text}") };
    Ok((first, count))
}

/// As [`map`], of what is made and need not run, counted from the first of the ids that all containers may have.
fn chosen(rbox: &Rbox, name: &str) -> Result<(u32, u32)> {
    let format = "{{json .HostConfig.IDMappings}}";
    let maps: Value = serde_json::from_str(&rbox.run(["inspect", "-f", format, name]).success())?;
    ensure!(maps["UidMap"] == maps["GidMap"], "{maps}");
    let [line] = &maps["UidMap"].as_array().context("a list")?[..] else { panic!("not one line: {maps}") };
    let numbers: Vec<u32> = line.as_str().context("text")?.split(':').map(str::parse).collect::<Result<_, _>>()?;
    let [0, first, count] = numbers[..] else { panic!("not from 0 on: {line}") };
    ensure!(first > 0, "the user himself is none of them: {line}");
    Ok((first, count))
}

fn assert_apart(mut maps: Vec<(u32, u32)>) {
    maps.sort_unstable();
    assert!(maps.windows(2).all(|two| two[0].0 + two[0].1 <= two[1].0), "the same id twice: {maps:?}");
}

#[test]
fn each_has_ids_that_no_other_has() -> Result<()> {
    let (rbox, image) = small()?;
    let shared = rbox.home().join("shared");
    fs::create_dir(&shared)?;
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o1777))?;
    let layers = rbox.layers();
    let volume = format!("{}:/shared", shared.display());
    let start = |name| {
        let script = format!("umask 77; echo secret >/shared/{name}; chown 5:6 /root; echo begun; {FOREVER}");
        let container = Detached::start(&rbox, &image, name, &["--userns=auto", "-v", &volume], &script);
        until(|| container.logs(), |logs| logs.contains("begun"));
        container
    };
    let (one, two) = (start("one"), start("two"));
    let mut maps = Vec::new();
    for (container, name) in [(&one, "one"), (&two, "two")] {
        let (uids, gids) = (map(container.pid(), "uid_map")?, map(container.pid(), "gid_map")?);
        assert_eq!((uids.1, gids.1), (1024, 1024));
        let written = fs::metadata(shared.join(name))?;
        assert_eq!((written.uid(), written.gid()), (uids.0, gids.0));
        assert_ne!(uids.0, host::uid());
        maps.push(uids);
        let seen = rbox.run(["exec", name, "stat", "-c", "%u %g", "/bin", "/root", "/shared"]).success();
        assert_eq!(seen, "0 0\n5 6\n65534 65534\n");
    }
    assert_apart(maps);
    assert_eq!(rbox.layers(), layers, "nothing was unpacked once more");
    let outcome = rbox.run(["exec", "two", "cat", "/shared/one"]);
    assert!(outcome.status != 0 && outcome.stderr.contains("Permission denied"), "{outcome:?}");
    // Where it sees the other one's processes, it has no power over them.
    let kill = format!("kill -0 {}", one.pid());
    let refused = rbox.run(["run", "--rm", "--userns=auto", "--pid=host", &image, "sh", "-c", &kill]);
    assert!(refused.status != 0 && refused.stderr.contains("not permitted"), "{refused:?}");
    assert_eq!(rbox.run(["exec", "one", "sh", "-c", "kill -0 1 && echo own"]).success(), "own\n");
    Ok(())
}

#[test]
fn they_are_kept_for_life_and_free_with_its_end() -> Result<()> {
    let (rbox, image) = small()?;
    let one =
        Detached::start(&rbox, &image, "one", &["--userns=auto", "-v", "data:/data"], "id -u >/data/id; sleep 1000");
    let first = map(one.pid(), "uid_map")?;
    // One that is not started has some, too.
    rbox.run(["create", "--name", "two", "--userns=auto", &image, "true"]).success();
    rbox.run(["restart", "-t", "0", "one"]).success();
    assert_eq!(map(one.pid(), "uid_map")?, first);
    // A volume belongs to the container that had it first.
    let data = fs::metadata(rbox.store().join("volumes/data/_data/id"))?;
    assert_eq!(data.uid(), first.0);
    // Not even with its monitor gone are they another one's.
    let kept = chosen(&rbox, "one")?;
    signal(one.monitor(), "KILL")?;
    until(|| one.status(), |status| status != "running");
    rbox.run(["create", "--name", "three", "--userns=auto", &image, "true"]).success();
    let others = [chosen(&rbox, "two")?, chosen(&rbox, "three")?];
    assert_apart([&others[..], &[kept]].concat());
    rbox.run(["rm", "one"]).success();
    rbox.run(["create", "--name", "four", "--userns=auto", &image, "true"]).success();
    assert_eq!(chosen(&rbox, "four")?, kept);
    // With ranges that are other ones by now, the map would lead to somebody else's.
    rbox.run(["--identity=single", "start", "four"]).refused_as(125, &["four", "other ids", "/etc/subuid"]);
    // What takes its place may have its ids.
    rbox.run(["create", "--replace", "--name", "four", "--userns=auto", &image, "true"]).success();
    assert_eq!(chosen(&rbox, "four")?, kept);
    Ok(())
}

#[test]
fn nobody_is_given_the_same_at_the_same_time_and_nothing_is_lost_with_who_is_killed() -> Result<()> {
    let (rbox, image) = small()?;
    let words = |name: &str| ["create", "--name", name, "--userns=auto:size=500", &image, "true"].map(str::to_owned);
    let names: Vec<String> = (0..12).map(|number| format!("c{number}")).collect();
    let mut all: Vec<Running> = names.iter().map(|name| rbox.start(words(name))).collect();
    for creating in &mut all {
        assert_eq!(creating.wait(), 0);
    }
    assert_apart(names.iter().map(|name| chosen(&rbox, name)).collect::<Result<_>>()?);
    // Killed wherever they are just then.
    for round in 0..10 {
        let mut all: Vec<Running> = (0..4).map(|number| rbox.start(words(&format!("k{round}-{number}")))).collect();
        let _ = all[0].wait();
        for creating in &mut all[1..] {
            creating.signal("KILL")?;
            creating.wait();
        }
    }
    let whole = (0..10).map(|round| format!("k{round}-0")).chain(names);
    assert_apart(whole.map(|name| chosen(&rbox, &name)).collect::<Result<_>>()?);
    rbox.run(["rm", "--all"]).success();
    rbox.run(["create", "--name", "all", "--userns=auto:size=65536", &image, "true"]).success();
    assert_eq!(chosen(&rbox, "all")?, (1, 65_536));
    Ok(())
}

#[test]
fn when_there_are_too_few_it_is_said_who_has_them() -> Result<()> {
    let (rbox, image) = small()?;
    let create = |name: &str, size: u32| {
        rbox.run(["create", "--name", name, &format!("--userns=auto:size={size}"), &image, "true"])
    };
    create("large", 60_000).success();
    create("little", 36).success();
    create("late", 6_000).refused_as(
        125,
        &["6000 user ids", "of 65536 are 5500 free", "large has 60000, little has 36", "rbox rm large", "/etc/subuid"],
    );
    let outcome = rbox.run(["run", "--rm", "--userns=auto:size=6000", &image, "true"]);
    outcome.refused_as(125, &["6000 user ids", "large has 60000"]);
    // Those of a map of one's own are not given, either.
    rbox.run(["create", "--name", "mapped", "--uidmap=0:60037:5000", &image, "true"]).success();
    create("late", 600).refused_as(125, &["of 65536 are 500 free", "mapped has 5000"]);
    rbox.run(["rm", "large"]).success();
    create("late", 6_000).success();
    assert_eq!(rbox.run(["ps", "-aq"]).success().lines().count(), 3);
    Ok(())
}

#[test]
fn as_many_as_the_image_needs() -> Result<()> {
    let passwd = "root:x:0:0:root:/root:/bin/sh\nhigh:x:3000:100::/:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n";
    let with_users = || Layer::new().file("etc/passwd", 0o644, passwd).file("etc/group", 0o644, "nogroup:x:65533:\n");
    let run = |layer: &Layer, user: Option<&str>, flags: &[&str]| -> Result<String> {
        let dir = tempfile::tempdir()?;
        let layout = Layout::create(dir.path())?;
        let mut image = alpine::on_small(&layout, Format::Oci)?;
        if let Some(user) = user {
            image = image.set("User", json!(user));
        }
        image.layer(layer, Compression::Gzip)?.finish_as("derived")?;
        let (rbox, image) = Rbox::with_image(&layout, "derived", "t/derived:1")?;
        let script = "set -- $(cat /proc/self/uid_map); echo $3; stat -c %u /file 2>/dev/null; id -u";
        Ok(self::run(&rbox.by_best_driver(), &[&["--userns=auto"], flags].concat(), &image, script))
    };
    assert_eq!(run(&with_users(), None, &[])?, "3001\n0\n");
    assert_eq!(run(&with_users(), Some("4000"), &[])?, "4001\n4000\n");
    assert_eq!(run(&with_users(), Some("4000"), &["--user", "5:5000"])?, "5001\n5\n");
    assert_eq!(run(&with_users().file("file", 0o644, "").owner(6000, 7000), None, &[])?, "7001\n6000\n0\n");
    assert_eq!(run(&with_users().file("file", 0o644, "").owner(65_534, 65_534), None, &[])?, "3001\n65534\n0\n");
    Ok(())
}

#[test]
fn some_ids_can_be_said() -> Result<()> {
    let (rbox, image) = small()?;
    let shared = rbox.home().join("shared");
    fs::create_dir(&shared)?;
    let volume = format!("{}:/shared", shared.display());
    let flags = ["--userns=auto:size=10,uidmapping=5:0:1,gidmapping=5:0:1", "--user=5:5", "-v", &volume];
    let seen = run(
        &rbox,
        &flags,
        &image,
        "id -u; touch /shared/mine; awk '{ sum += $3 } END { print sum }' /proc/self/uid_map",
    );
    assert_eq!(seen, "5\n10\n");
    let mine = fs::metadata(shared.join("mine"))?;
    assert_eq!((mine.uid(), mine.gid()), (host::uid(), host::gid()));
    Ok(())
}

#[test]
fn volumes_are_of_who_has_them_first() -> Result<()> {
    let (rbox, image) = small()?;
    rbox.run(["volume", "create", "made"]).success();
    let script = "stat -c %u /made /new /etc /etc/passwd; touch /made/x /new/x && echo written";
    let flags = ["--userns=auto", "-v", "made:/made", "-v", "new:/new", "-v", "etc:/etc"];
    assert_eq!(run(&rbox, &flags, &image, script), "0\n0\n0\n0\nwritten\n");
    let owner = |path: &Path| fs::metadata(path).map(|there| there.uid());
    let volumes = rbox.store().join("volumes");
    assert_ne!(owner(&volumes.join("new/_data/x"))?, host::uid());
    // Another one has other ids, and is given none of that but where it is asked for.
    rbox.run(["create", "--name", "holder", "--userns=auto", &image, "true"]).success();
    assert_eq!(run(&rbox, &["--userns=auto", "-v", "new:/new"], &image, "stat -c %u /new/x"), "65534\n");
    Ok(())
}
