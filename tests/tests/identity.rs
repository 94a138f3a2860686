//! Ids: an ordinary user with subordinate ranges.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use rbox_tests::rbox::{Outcome, Rbox, finish};
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

const GETSUBIDS: &str = "/usr/bin/getsubids";

/// A host whose /etc/nsswitch.conf says that sss has the ranges; what is in place of getsubids(1) is this script, or there is
/// no such program.
struct Elsewhere {
    rbox: Rbox,
    nsswitch: PathBuf,
    getsubids: Option<PathBuf>,
}

impl Elsewhere {
    fn new(script: Option<&str>) -> Result<Self> {
        let rbox = Rbox::new();
        let nsswitch = rbox.home().join("nsswitch.conf");
        fs::write(&nsswitch, "passwd: files\nsubid:  sss\n")?;
        let getsubids = script.map(|script| -> Result<PathBuf> {
            let path = rbox.home().join("getsubids");
            fs::write(&path, format!("#!/bin/sh\n{script}\n"))?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
            Ok(path)
        });
        Ok(Self { getsubids: getsubids.transpose()?, rbox, nsswitch })
    }

    /// As the same user, where those two are in their places.
    fn run(&self, arguments: &[&str]) -> Result<Outcome> {
        ensure!(fs::exists(GETSUBIDS)?, "getsubids is not installed: apt install uidmap");
        let what = self.getsubids.as_ref().map_or("/dev/null".into(), |path| path.display().to_string());
        // A device is no program, and is passed over as if nothing were there.
        let script = format!(
            "mount --bind {} /etc/nsswitch.conf && mount --bind {what} {GETSUBIDS} && exec \"$0\" \"$@\"",
            self.nsswitch.display(),
        );
        let unshare = ["unshare", "--user", "--map-current-user", "--keep-caps", "--mount", "sh", "-c", &script];
        Ok(finish(&mut self.rbox.command_under(&unshare, arguments)))
    }
}

#[test]
fn ranges_are_from_whom_nsswitch_names() -> Result<()> {
    let script =
        "if [ \"$1\" = -g ]; then echo \"0: $2 700000 30\"; echo \"1: $2 800000 2\"; else echo \"0: $1 600000 20\"; fi";
    let there = Elsewhere::new(Some(script))?;
    let info = |format: &str| there.run(&["info", "-f", format]).map(Outcome::success);
    assert_eq!(info("{{.Identity}} {{.SubidSource}}")?, "subid getsubids (subid: sss in /etc/nsswitch.conf)\n");
    let maps: serde_json::Value = serde_json::from_str(&info("[{{json .UidMap}},{{json .GidMap}}]")?)?;
    let line = |inside: u32, outside: u32, length: u32| serde_json::json!({"inside": inside, "outside": outside, "length": length});
    assert_eq!(maps[0], serde_json::json!([line(0, host::uid(), 1), line(1, 600_000, 20)]));
    assert_eq!(maps[1], serde_json::json!([line(0, host::gid(), 1), line(1, 700_000, 30), line(31, 800_000, 2)]));
    let text = there.run(&["info"])?.success();
    assert!(text.contains("subid, from getsubids (subid: sss in /etc/nsswitch.conf)"), "{text}");
    let doctor = there.run(&["doctor"])?.stdout;
    assert!(doctor.contains("ids: 21 users, from getsubids (subid: sss"), "{doctor}");
    // Who wants one id asks nobody.
    let single = there.run(&["--identity=single", "info", "-f", "{{.Identity}}"])?.success();
    assert_eq!(single, "single\n");
    Ok(())
}

#[test]
fn who_cannot_be_asked_is_named() -> Result<()> {
    let missing = Elsewhere::new(None)?;
    missing.run(&["ps"])?.refused_as(125, &["getsubids is not installed", "sss", "apt install uidmap", "subid: files"]);
    assert_eq!(missing.run(&["--identity=single", "ps", "-q"])?.success(), "");
    let doctor = missing.run(&["doctor"])?;
    assert!(doctor.status == 1 && doctor.stdout.contains("MISSING   ids: getsubids is not installed"), "{doctor:?}");
    // For who has none it ends as the real one does.
    let none = Elsewhere::new(Some("echo Error fetching ranges >&2; exit 1"))?;
    assert_eq!(none.run(&["info", "-f", "{{.Identity}}"])?.success(), "single\n");
    none.run(&["--identity=subid", "ps"])?.refused_as(125, &["no ranges in sss", "ipa subid-generate"]);
    let doctor = none.run(&["doctor"])?.stdout;
    assert!(doctor.contains("degraded  ids:") && doctor.contains("subid: sss"), "{doctor}");
    let broken = Elsewhere::new(Some("kill -SEGV $$"))?;
    broken.run(&["ps"])?.refused_as(125, &["getsubids failed", "signal"]);
    Ok(())
}
