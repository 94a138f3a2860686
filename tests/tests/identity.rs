//! Ids: an ordinary user with subordinate ranges.

use anyhow::Result;
use rbox_tests::rbox::Rbox;
use rbox_tests::{alpine, host};

#[test]
fn the_caller_is_root_inside_and_the_ranges_follow() -> Result<()> {
    assert!(host::uid() != 0 && host::has_subordinate_ids(), "run by cargo xtask test as an ordinary user");
    let (rbox, name) = Rbox::with_small_image()?;
    for (file, own) in [("uid_map", host::uid().to_string()), ("gid_map", String::new())] {
        let map = rbox.run(["run", "--rm", &name, "cat", &format!("/proc/self/{file}")]).success();
        let words: Vec<&str> = map.split_whitespace().collect();
        assert_eq!((words[0], words[2], words[3]), ("0", "1", "1"), "{map}");
        assert!(own.is_empty() || words[1] == own, "{map}");
        assert!(words[5].parse::<u32>()? >= 65_535, "{map}");
    }
    Ok(())
}

#[test]
fn owners_can_be_changed_and_users_become() -> Result<()> {
    let (rbox, name) = Rbox::with_image(&alpine::layout()?, alpine::TAG, "library/alpine:3.23")?;
    let script = "touch /f && chown 1000:2000 /f && stat -c '%u %g' /f && su nobody -s /bin/sh -c id && stat -c '%U %G %a' /etc/shadow";
    let seen = rbox.run(["run", "--rm", &name, "sh", "-c", script]).success();
    let lines: Vec<&str> = seen.lines().collect();
    assert_eq!((lines[0], lines[2]), ("1000 2000", "root shadow 640"), "{seen}");
    assert!(lines[1].starts_with("uid=65534(nobody)"), "{seen}");
    Ok(())
}

#[test]
fn doctor_finds_nothing_wrong() {
    let outcome = Rbox::new().run(["doctor"]).exits(0);
    for word in ["user namespace", "overlay", "ids"] {
        assert!(outcome.stdout.contains(word), "no {word:?} in:\n{}", outcome.stdout);
    }
}
