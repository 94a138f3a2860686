//! `rbox audit`: what is told of a running container is what the container itself sees, and an image's is what a run of it
//! gets.

use anyhow::Result;
use rbox_tests::rbox::Rbox;
use serde_json::{Value, json};

/// The small image in a store, and its name.
struct Fixture {
    rbox: Rbox,
    image: String,
}

impl Fixture {
    fn new() -> Result<Self> {
        let (rbox, image) = Rbox::with_small_image()?;
        Ok(Self { rbox, image })
    }

    fn audit(&self, name: &str) -> Result<Value> {
        Ok(serde_json::from_str(&self.rbox.run(["audit", "--format", "json", name]).success())?)
    }

    /// Audits a container while it runs; gives also its own /proc/self/status.
    fn running(&self, flags: &[&str]) -> Result<(Value, String)> {
        let script = "cat /proc/self/status; echo ready; exec sleep 1000";
        let words = [&["run", "--rm", "--name", "it"], flags, &[&self.image, "sh", "-c", script]].concat();
        let mut running = self.rbox.start(words);
        let status = running.expect("ready");
        let found = self.audit("it")?;
        self.rbox.run(["rm", "--force", "it"]).success();
        running.wait();
        Ok((found, status))
    }
}

/// The aspect, what it comes to, and what is here.
fn differences(found: &Value) -> Vec<(&str, &str, &str)> {
    let list = found["Differences"].as_array().into_iter().flatten();
    list.map(|one| ["Aspect", "Effect", "Here"].map(|key| one[key].as_str().unwrap_or_default()).into()).collect()
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

#[test]
fn a_running_container_as_it_is() -> Result<()> {
    let fixture = Fixture::new()?;
    let (found, status) = fixture.running(&[])?;
    assert_eq!((&found["Kind"], &found["Name"]), (&json!("container"), &json!("it")));
    assert!(found["Pid"].as_u64().is_some_and(|pid| pid > 1));
    assert!(status.contains("CapEff:\t00000000a80425fb"), "{status}");
    for set in ["Effective", "Permitted", "Bounding"] {
        assert_eq!(names(&found["Capabilities"][set]).len(), 14, "{set}: {found}");
    }
    assert_eq!(found["Capabilities"]["Ambient"], json!([]));
    assert_eq!(found["Seccomp"], json!({"Mode": "filter", "Filters": 1, "Profile": "default"}));
    assert_eq!(found["NoNewPrivileges"], json!(false));
    assert!(names(&found["MaskedPaths"]).contains(&"/proc/keys"), "{found}");
    assert!(names(&found["MaskedPaths"]).contains(&"/sys/firmware"), "{found}");
    assert_eq!(names(&found["ReadonlyPaths"])[..3], ["/proc/bus", "/proc/fs", "/proc/irq"]);
    for own in ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"] {
        assert_eq!(found["Namespaces"][own]["Own"], json!(true), "{own}");
    }
    assert_eq!((&found["Ids"]["Uid"], &found["Ids"]["Gid"]), (&json!(0), &json!(0)));
    // It differs from Docker in nothing but that its root is nobody on the host.
    let differences = differences(&found);
    assert!(differences.iter().all(|(_, effect, _)| *effect == "stricter"), "{differences:?}");
    let aspects: Vec<&str> = differences.iter().map(|(aspect, ..)| *aspect).collect();
    assert_eq!(aspects, ["Namespaces", "Ids"], "{differences:?}");
    Ok(())
}

#[test]
fn a_container_that_differs() -> Result<()> {
    let fixture = Fixture::new()?;
    let volume = format!("{}:/v", fixture.rbox.home().display());
    let flags = [
        ["--cap-add", "SYS_ADMIN"],
        ["--cap-drop", "CHOWN"],
        ["--security-opt", "seccomp=unconfined"],
        ["--security-opt", "no-new-privileges"],
        ["--security-opt", "unmask=/proc/keys:/proc/sys:/sys/fs/cgroup"],
        ["--security-opt", "mask=/etc/passwd"],
        ["--volume", &volume],
        ["--tmpfs", "/t"],
        ["--user", "1000:5"],
    ];
    let (found, _) = fixture.running(&flags.concat())?;
    assert_eq!(found["Capabilities"]["Effective"], json!(["CAP_SYS_ADMIN"]));
    assert_eq!(found["Capabilities"]["Ambient"], json!(["CAP_SYS_ADMIN"]));
    assert_eq!(found["Seccomp"]["Mode"], json!("disabled"));
    assert_eq!((&found["Ids"]["Uid"], &found["Ids"]["Gid"]), (&json!(1000), &json!(5)));
    let differences = differences(&found);
    for expected in [
        ("Capabilities.Effective", "looser", "with SYS_ADMIN"),
        ("Capabilities.Bounding", "looser", "with SYS_ADMIN"),
        ("Capabilities.Bounding", "stricter", "without CHOWN"),
        ("Seccomp", "looser", "every system call"),
        ("NoNewPrivileges", "stricter", "true"),
        ("MaskedPaths", "looser", "/proc/keys not masked"),
        ("MaskedPaths", "stricter", "/etc/passwd masked"),
        ("ReadonlyPaths", "looser", "/proc/sys not read-only"),
        ("Mounts", "looser", "/sys/fs/cgroup writable"),
        ("Mounts", "other", "/t (tmpfs, writable)"),
        ("Namespaces", "stricter", "user: its own"),
    ] {
        assert!(differences.contains(&expected), "no {expected:?} in {differences:#?}");
    }
    assert!(differences.iter().any(|(aspect, effect, here)| {
        (*aspect, *effect) == ("Mounts", "looser") && here.starts_with("/v (") && here.ends_with(", writable)")
    }));
    Ok(())
}

/// What the workload does to itself shows: it is the process that is looked at, not its record.
#[test]
fn what_the_workload_has_made_of_itself() -> Result<()> {
    let fixture = Fixture::new()?;
    let script = "umount /proc/keys && mount -t tmpfs none /tmp && echo ready && exec sleep 1000";
    let flags = ["--cap-add", "SYS_ADMIN", "--name", "it", &fixture.image, "sh", "-c", script];
    let mut running = fixture.rbox.start([&["run", "--rm"], &flags[..]].concat());
    running.expect("ready");
    let found = fixture.audit("it")?;
    fixture.rbox.run(["rm", "--force", "it"]).success();
    running.wait();
    let differences = differences(&found);
    assert!(differences.contains(&("MaskedPaths", "looser", "/proc/keys not masked")), "{differences:?}");
    assert!(differences.contains(&("Mounts", "other", "/tmp (tmpfs, writable)")), "{differences:?}");
    Ok(())
}

#[test]
fn an_image_is_what_a_run_of_it_gets() -> Result<()> {
    let fixture = Fixture::new()?;
    let of_image = fixture.audit(&fixture.image)?;
    let (of_run, _) = fixture.running(&[])?;
    assert_eq!((&of_image["Kind"], &of_image["Pid"]), (&json!("image"), &Value::Null));
    for part in ["Capabilities", "Seccomp", "NoNewPrivileges", "MaskedPaths", "ReadonlyPaths", "Differences"] {
        assert_eq!(of_image[part], of_run[part], "{part}");
    }
    let own = |found: &Value, kind: &str| found["Namespaces"][kind]["Own"].clone();
    for kind in ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"] {
        assert_eq!(own(&of_image, kind), own(&of_run, kind), "{kind}");
    }
    assert_eq!(of_image["Ids"]["UidMap"], of_run["Ids"]["UidMap"]);
    Ok(())
}

#[test]
fn for_people() -> Result<()> {
    let fixture = Fixture::new()?;
    let said = fixture.rbox.run(["audit", &fixture.image]).success();
    for words in ["run without flags", "CHOWN DAC_OVERRIDE", "1 filter; profile: default", "/proc/keys", "DIFFERENCE"] {
        assert!(said.contains(words), "no {words:?} in:\n{said}");
    }
    Ok(())
}

#[test]
fn what_is_not_there_or_does_not_run() -> Result<()> {
    let fixture = Fixture::new()?;
    fixture.rbox.run(["audit", "nobody"]).refused(&["nobody"]);
    fixture.rbox.run(["run", "--name", "done", &fixture.image, "true"]).success();
    fixture.rbox.run(["audit", "done"]).refused(&["done", "not running"]);
    Ok(())
}

#[test]
fn inspect_shows_what_was_said() -> Result<()> {
    let fixture = Fixture::new()?;
    let flags = ["--cap-add", "net_admin", "--cap-drop", "ALL", "--privileged", "--security-opt", "label:type:disable"];
    fixture.rbox.run([&["run", "--name", "no"], &flags[..], &[&fixture.image, "true"]].concat()).refused(&["SELinux"]);
    let flags = ["--cap-add", "net_admin", "--cap-drop", "ALL", "--privileged", "--security-opt", "unmask=/proc/k*"];
    fixture.rbox.run([&["run", "--name", "it"], &flags[..], &[&fixture.image, "true"]].concat()).success();
    let found: Value = serde_json::from_str(&fixture.rbox.run(["inspect", "it"]).success())?;
    let host = &found[0]["HostConfig"];
    assert_eq!((&host["CapAdd"], &host["CapDrop"]), (&json!(["CAP_NET_ADMIN"]), &json!(["ALL"])));
    assert_eq!((&host["Privileged"], &host["SecurityOpt"]), (&json!(true), &json!(["unmask=/proc/k*"])));
    Ok(())
}
