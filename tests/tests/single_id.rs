//! A user without subordinate ids: one id is mapped, and what needs only one works.

use anyhow::{Result, ensure};
use rbox_tests::detached::Detached;
use rbox_tests::patience::until;
use rbox_tests::rbox::Rbox;
use rbox_tests::{alpine, debian, host};

#[test]
fn alpine_runs() -> Result<()> {
    assert!(host::uid() != 0 && !host::has_subordinate_ids(), "run by cargo xtask test as a user without ranges");
    let (rbox, name) = Rbox::with_image(&alpine::layout()?, alpine::TAG, "library/alpine:3.23")?;
    let seen = rbox.run(["run", "--rm", &name, "cat", "/proc/self/uid_map", "/proc/self/gid_map"]).success();
    let words: Vec<&str> = seen.split_whitespace().collect();
    assert_eq!((words[0], words[2], words.len()), ("0", "1", 6), "{seen}");
    assert_eq!(words[1], host::uid().to_string());

    let script =
        "id -u; apk info -e musl; touch /x /root/y /etc/z && rm /x; cat /etc/os-release | head -1; ls / | wc -l";
    let seen = rbox.run(["run", "--rm", &name, "sh", "-c", script]).success();
    assert!(seen.starts_with("0\nmusl\nNAME=\"Alpine Linux\""), "{seen}");
    Ok(())
}

#[test]
fn another_id_than_the_one_is_refused() -> Result<()> {
    let (rbox, name) = Rbox::with_small_image()?;
    let outcome = rbox.run(["run", "--rm", "-u", "1000", &name, "true"]).refused(&["1000"]);
    assert!(outcome.stderr.contains("hint:") && outcome.stderr.contains("subuid"), "{}", outcome.stderr);
    Ok(())
}

#[test]
fn the_store_is_the_users_own_to_the_last_file() -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    let (rbox, name) = Rbox::with_image(&alpine::layout()?, alpine::TAG, "library/alpine:3.23")?;
    rbox.run(["run", "--name", "kept", &name, "touch", "/x"]).success();
    let files = rbox.files("");
    assert!(files.len() > 500, "{}", files.len());
    for file in files {
        assert_eq!(std::fs::symlink_metadata(rbox.store().join(&file))?.uid(), host::uid(), "{file}");
    }
    rbox.run(["rm", "kept"]).success();
    rbox.run(["rmi", &name]).success();
    rbox.run(["gc"]).success();
    assert_eq!(rbox.layers(), Vec::<String>::new());
    Ok(())
}

#[test]
fn doctor_says_what_is_degraded_and_the_remedy() {
    let outcome = Rbox::new().run(["doctor"]);
    assert!(outcome.stdout.contains("usermod --add-subuids"), "{}", outcome.stdout);
}

#[test]
fn there_is_no_other_group_to_be_in() -> Result<()> {
    let (rbox, name) = Rbox::with_small_image()?;
    rbox.run(["run", "--rm", "--group-add", "5", &name, "true"]).refused(&["--group-add", "one group"]);
    // One's own are there anyway.
    rbox.run(["run", "--rm", "--group-add", "keep-groups", &name, "true"]).success();
    Ok(())
}

#[test]
fn namespaces_of_another_container_are_joined() -> Result<()> {
    let (rbox, name) = Rbox::with_small_image()?;
    let mut first = rbox.start(["run", "--rm", "--name", "one", &name, "sh", "-c", "echo ready; exec sleep 1000"]);
    first.expect("ready");
    rbox_tests::patience::until(|| rbox.run(["exec", "one", "true"]), |outcome| outcome.status == 0);
    let joining = ["--pid=container:one", "--ipc=container:one"];
    assert_eq!(rbox.sh(&name, &joining, "ps | grep -c '[s]leep 1000'; touch /dev/shm/x && echo written"), "1\nwritten");
    Ok(())
}

#[test]
fn it_runs_by_itself() -> Result<()> {
    let (rbox, name) = Rbox::with_small_image()?;
    let container =
        Detached::start(&rbox, &name, "box", &[], "echo out; trap 'exit 3' TERM; while :; do sleep 0.05; done");
    until(|| container.logs(), |logs| logs == "out\n");
    rbox.run(["stop", "box"]).success();
    assert_eq!(container.inspect(&["State", "ExitCode"]), 3);
    rbox.run(["start", "box"]).success();
    until(|| container.logs(), |logs| logs == "out\nout\n");
    Ok(())
}

#[test]
fn health_checks_with_one_id() -> Result<()> {
    let (rbox, image) = Rbox::with_small_image()?;
    let flags = ["--health-interval=50ms", "--health-cmd=id -u", "--init"];
    let container = Detached::start(&rbox, &image, "box", &flags, "exec sleep 1000");
    until(|| container.inspect(&["State", "Health", "Status"]), |word| word == "healthy");
    assert_eq!(container.inspect(&["State", "Health", "Log"])[0]["Output"], "0\n");
    Ok(())
}

/// What would give files or processes other ids is said to be done: who installs software does not give up over that.
#[test]
fn alpines_package_manager_and_its_like_end_well() -> Result<()> {
    let (rbox, name) = Rbox::with_image(&alpine::layout()?, alpine::TAG, "library/alpine:3.23")?;
    let script = r#"set -e
        mkdir -p /made/usr/share /mirror/x /o; echo hello >/made/usr/share/greeting; chown 7:8 /made/usr/share/greeting
        arch=$(apk --print-arch); mkdir /mirror/$arch; cd /mirror/$arch
        apk mkpkg --info name:greeting --info version:1-r0 --info arch:$arch --files /made --output greeting-1-r0.apk
        apk mkndx --allow-untrusted --output Packages.adb greeting-1-r0.apk >/dev/null
        echo v3 /mirror >/etc/apk/repositories; apk add --allow-untrusted greeting >/dev/null; cat /usr/share/greeting
        adduser -D joe; su joe -c 'echo joe; touch ~/x'; addgroup -S web; chown -R joe:web /home/joe; chgrp 5 /home
        tar cf /t.tar -C /etc passwd shadow; tar xpf /t.tar -C /o; ls /o; mkfifo /f; [ -p /f ] && echo fifo
        mknod /null c 1 3; echo ended"#;
    assert_eq!(rbox.sh(&name, &[], script), "hello\njoe\npasswd\nshadow\nfifo\nended");
    // Who comes in later is as well off.
    let one = Detached::start(&rbox, &name, "one", &[], "sleep 1000");
    rbox.run(["exec", "one", "chown", "5:6", "/etc/passwd"]).success();
    drop(one);
    // Who wants no filter has what the kernel says; any other one answers as well.
    let chown = ["chown", "5", "/etc/passwd"];
    let under = |flags: &[&str]| rbox.run([&["run", "--rm"], flags, &[name.as_str()], &chown].concat());
    assert_eq!(under(&["--security-opt", "seccomp=unconfined"]).status, 1);
    under(&["--privileged"]).success();
    let profile = rbox.home().join("profile.json");
    std::fs::write(&profile, r#"{"defaultAction": "SCMP_ACT_ALLOW"}"#)?;
    under(&["--security-opt", &format!("seccomp={}", profile.display())]).success();
    // Nothing of that is a refusal.
    let explained = rbox.run(["run", "--rm", "--explain-denied", &name, "chown", "5", "/etc/passwd"]);
    ensure!(!explained.stderr.contains("chown"), "{}", explained.stderr);
    Ok(())
}

#[test]
fn debians_package_managers_and_their_like_end_well() -> Result<()> {
    let (rbox, name) = Rbox::with_image(&debian::layout()?, debian::TAG, "library/debian:12")?;
    let script = r#"set -e; exec 2>&1
        mkdir -p /made/DEBIAN /made/usr/share/greeting /repo
        printf 'Package: greeting\nVersion: 1\nArchitecture: all\nMaintainer: nobody <n@example.org>\nDescription: hello\n' \
            >/made/DEBIAN/control
        printf '#!/bin/sh\nset -e\nchown games:mail /usr/share/greeting/text\nadduser --system --group --no-create-home greeter\n' \
            >/made/DEBIAN/postinst
        chmod 755 /made/DEBIAN/postinst; echo hello >/made/usr/share/greeting/text
        dpkg-deb -b /made /repo/greeting.deb >/dev/null
        dpkg -i /repo/greeting.deb >/log || { cat /log; exit 1; }
        cat /usr/share/greeting/text; dpkg -P greeting >/dev/null
        cd /repo; { dpkg-deb -f greeting.deb; echo "Filename: ./greeting.deb"; echo "Size: $(stat -c %s greeting.deb)"
            echo "SHA256: $(sha256sum greeting.deb | cut -d' ' -f1)"; } >Packages
        rm -rf /etc/apt/sources.list.d; echo 'deb [trusted=yes] file:/repo ./' >/etc/apt/sources.list
        apt-get -o APT::Update::Error-Mode=any update >/log || { cat /log; exit 1; }
        apt-get install -y greeting >/log 2>&1 || { cat /log; exit 1; }
        cat /usr/share/greeting/text
        useradd -m joe; groupadd web; usermod -aG web joe; su joe -c 'echo joe; touch ~/x'; chown -R joe:web /home/joe
        mkdir /o; tar cf /t.tar --owner=5 --group=6 -C /etc passwd; tar xpf /t.tar -C /o; ls /o; echo ended"#;
    assert_eq!(rbox.sh(&name, &[], script), "hello\nhello\njoe\npasswd\nended");
    Ok(())
}
