//! `--userns`: whose ids a container has.

use std::fs;
use std::os::unix::fs::MetadataExt;

use anyhow::{Result, ensure};
use rbox_tests::detached::Detached;
use rbox_tests::rbox::Rbox;
use rbox_tests::{alpine, host};

const FOREVER: &str = "id -u; sleep 1000";

fn run(rbox: &Rbox, flags: &[&str], image: &str, script: &str) -> String {
    rbox.run([&["run", "--rm"], flags, &[image, "sh", "-c", script]].concat()).success()
}

#[test]
fn who_keeps_his_id_is_himself() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
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
    let (rbox, image) = Rbox::with_small_image()?;
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
    let (rbox, image) = Rbox::with_small_image()?;
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
    let (rbox, image) = Rbox::with_small_image()?;
    let refused = |flags: &[&str], words: &[&str]| {
        rbox.run([&["run", "--rm"], flags, &[&image, "true"]].concat()).refused_as(125, words);
    };
    refused(&["--userns=host"], &["host", "user namespace"]);
    refused(&["--userns=keep-id:size=3"], &["size"]);
    refused(&["--userns=keep-id:uid=4000000"], &["4000000", "keep-id:uid=1000"]);
    refused(&["--userns=keep-id", "--storage-driver=overlay"], &["--storage-driver=overlay", "fuse"]);
    refused(&["--userns=keep-id", "--identity=single"], &["/etc/subuid"]);
    let left = rbox.run(["ps", "-aq"]).success();
    ensure!(left.is_empty(), "{left}");
    Ok(())
}
