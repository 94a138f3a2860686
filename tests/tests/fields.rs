//! `rbox oci`: what a config.json says of the process, the mounts and the kernel's settings is so inside.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use anyhow::Result;
use rbox_tests::bundle::Bundle;
use rbox_tests::host;
use rbox_tests::patience::until;
use serde_json::{Value, json};

/// What the script prints in a bundle with this change.
fn printed(script: &str, change: impl FnOnce(&mut Value)) -> Result<String> {
    let bundle = Bundle::new(script)?;
    bundle.change(change)?;
    Ok(bundle.runtime(["run", &id(&bundle)]).success())
}

/// One that no other test has: root's containers have a cgroup each, named like that.
fn id(bundle: &Bundle) -> String {
    bundle.path().file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Why a bundle with this change does not run.
fn refused(change: impl FnOnce(&mut Value)) -> Result<String> {
    let bundle = Bundle::new("true")?;
    bundle.change(change)?;
    let outcome = bundle.runtime(["run", &id(&bundle)]);
    assert_ne!(outcome.status, 0, "{}", outcome.stdout);
    Ok(outcome.stderr)
}

fn add_mount(config: &mut Value, mount: Value) {
    config["mounts"].as_array_mut().expect("there are mounts").push(mount);
}

#[test]
fn limits() -> Result<()> {
    let output = printed("ulimit -Sn; ulimit -Hn; ulimit -Sc", |config| {
        config["process"]["rlimits"] = json!([
            { "type": "RLIMIT_NOFILE", "soft": 123, "hard": 456 },
            { "type": "RLIMIT_CORE", "soft": 0, "hard": 0 },
        ]);
    })?;
    assert_eq!(output, "123\n456\n0\n");
    // Fewer than this runtime itself has open.
    let output = printed("ulimit -n", |config| {
        config["process"]["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 4, "hard": 4 }]);
    })?;
    assert_eq!(output, "4\n");
    let twice = json!([{ "type": "RLIMIT_CPU", "soft": 1, "hard": 1 }, { "type": "RLIMIT_CPU", "soft": 2, "hard": 2 }]);
    let error = refused(|config| config["process"]["rlimits"] = twice)?;
    assert!(error.contains("RLIMIT_CPU"), "{error}");
    Ok(())
}

#[test]
fn scores_priorities_and_personality() -> Result<()> {
    let script = "cat /proc/self/oom_score_adj; cut -d' ' -f19,41 /proc/self/stat; uname -m";
    let output = printed(script, |config| {
        config["process"]["oomScoreAdj"] = json!(765);
        config["process"]["scheduler"] = json!({ "policy": "SCHED_BATCH", "nice": 7 });
        config["process"]["ioPriority"] = json!({ "class": "IOPRIO_CLASS_IDLE", "priority": 0 });
        config["linux"]["personality"] = json!({ "domain": "LINUX32" });
    })?;
    let machine = if cfg!(target_arch = "x86_64") { "i686" } else { "armv8l" };
    assert_eq!(output, format!("765\n7 3\n{machine}\n"));
    let error = refused(|config| config["process"]["oomScoreAdj"] = json!(1001))?;
    assert!(error.contains("process.oomScoreAdj"), "{error}");
    Ok(())
}

#[test]
fn settings_of_the_containers_namespaces() -> Result<()> {
    let script = "cd /proc/sys; cat net/ipv4/ip_forward net/core/somaxconn kernel/domainname";
    let output = printed(script, |config| {
        config["linux"]["sysctl"] =
            json!({ "net.ipv4.ip_forward": "1", "net/core/somaxconn": "77", "kernel.domainname": "d" });
    })?;
    assert_eq!(output, "1\n77\nd\n");
    for name in ["kernel.core_pattern", "vm.swappiness", "net/../kernel/core_pattern", "kernel.hostname"] {
        let error = refused(|config| config["linux"]["sysctl"] = json!({ name: "1" }))?;
        assert!(error.contains("linux.sysctl") && error.contains(name), "{error}");
    }
    let error = refused(|config| {
        config["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "1" });
        let namespaces = config["linux"]["namespaces"].as_array_mut().expect("there are namespaces");
        namespaces.retain(|namespace| namespace["type"] != "network");
    })?;
    assert!(error.contains("no network namespace"), "{error}");
    // In the host's pid namespace /proc can only be the host's, which is not for the container to write.
    let output =
        printed("cat /proc/sys/net/core/somaxconn; echo 1 > /proc/sys/net/core/somaxconn || true", |config| {
            config["linux"]["sysctl"] = json!({ "net.core.somaxconn": "78" });
            config["linux"]["readonlyPaths"] = json!(["/proc/sys"]);
            config["linux"]["namespaces"]
                .as_array_mut()
                .expect("a list")
                .retain(|namespace| namespace["type"] != "pid");
            config["mounts"][0] =
                json!({ "destination": "/proc", "type": "bind", "source": "/proc", "options": ["rbind", "rw"] });
        })?;
    assert_eq!(output, "78\n");
    Ok(())
}

#[test]
fn devices() -> Result<()> {
    // In a user namespace: the host's node, with whatever name it has there.
    let output = printed("stat -c '%t %T' /dev/other /dev/null; echo x > /dev/other; test -p /run/fifo", |config| {
        config["linux"]["devices"] = json!([
            { "path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 438 },
            { "path": "/run/fifo", "type": "p", "fileMode": 384 },
            { "path": "/dev/other", "type": "c", "major": 1, "minor": 3 },
        ]);
    })?;
    assert_eq!(output, "1 3\n1 3\n");
    let error = refused(|config| {
        config["linux"]["devices"] = json!([{ "path": "/dev/x", "type": "c", "major": 240, "minor": 77 }]);
    })?;
    assert!(error.contains("/dev/x") && error.contains("240:77"), "{error}");
    Ok(())
}

#[test]
fn propagation_and_remounts() -> Result<()> {
    let script =
        "grep ' /mnt ' /proc/self/mountinfo | cut -d' ' -f6-7; grep ' / ' /proc/self/mountinfo | cut -d' ' -f7";
    let output = printed(script, |config| {
        add_mount(config, json!({ "destination": "/mnt", "type": "tmpfs", "options": ["shared", "nosuid", "sync"] }));
        add_mount(config, json!({ "destination": "/mnt", "options": ["remount", "ro", "noexec"] }));
        config["linux"]["rootfsPropagation"] = json!("shared");
    })?;
    let words: Vec<&str> = output.split_whitespace().collect();
    assert_eq!(words[0], "ro,noexec,relatime", "{output}");
    assert!(words[1].starts_with("shared:") && words[2].starts_with("shared:"), "{output}");
    let error = refused(|config| config["linux"]["rootfsPropagation"] = json!("public"))?;
    assert!(error.contains("linux.rootfsPropagation"), "{error}");
    Ok(())
}

#[test]
fn a_read_only_dev_has_its_nodes() -> Result<()> {
    let output = printed("echo x > /dev/null && touch /dev/new 2>/dev/null || echo read-only", |config| {
        config["mounts"][1]["options"] = json!(["nosuid", "mode=755", "ro"]);
    })?;
    assert_eq!(output, "read-only\n");
    Ok(())
}

#[test]
fn tmpfs_begins_with_what_the_image_has() -> Result<()> {
    let bundle = Bundle::new(
        "cd /data; cat d/file; readlink out; stat -c %a . d/file; touch d/new; ls /linked; stat -c %a /tmp2",
    )?;
    fs::create_dir_all(bundle.inside("/data/d"))?;
    fs::write(bundle.inside("/data/d/file"), "content\n")?;
    fs::set_permissions(bundle.inside("/data/d/file"), fs::Permissions::from_mode(0o604))?;
    fs::set_permissions(bundle.inside("/data"), fs::Permissions::from_mode(0o751))?;
    fs::create_dir(bundle.inside("/tmp2"))?;
    fs::set_permissions(bundle.inside("/tmp2"), fs::Permissions::from_mode(0o710))?;
    symlink("/etc/passwd", bundle.inside("/data/out"))?;
    // The place itself may be reached by a link, which ends inside: this is not the host's /etc.
    symlink("/../../../data/d", bundle.inside("/linked"))?;
    bundle.change(|config| {
        add_mount(config, json!({ "destination": "/data", "type": "tmpfs", "options": ["tmpcopyup"] }));
        add_mount(config, json!({ "destination": "/linked", "type": "tmpfs", "options": ["tmpcopyup"] }));
        // Of before 1.0: relative.
        add_mount(config, json!({ "destination": "tmp2", "type": "tmpfs" }));
    })?;
    let output = bundle.runtime(["run", &id(&bundle)]).success();
    assert_eq!(output, "content\n/etc/passwd\n751\n604\nfile\nnew\n710\n");
    assert!(!bundle.inside("/data/d/new").exists(), "the image has it too");
    Ok(())
}

#[test]
fn a_cgroup_mount_without_a_namespace_of_its_own() -> Result<()> {
    let has = ["/sys/fs/cgroup/cgroup.procs", "/sys/fs/cgroup/unified/cgroup.procs"]
        .iter()
        .any(|path| fs::exists(path).unwrap_or(false));
    if !has {
        eprintln!("skipped: this host has no cgroup2");
        return Ok(());
    }
    let output = printed("test -f /cg/cgroup.procs && mkdir /cg/new 2>/dev/null || echo read-only", |config| {
        add_mount(config, json!({ "destination": "/cg", "type": "cgroup", "options": ["ro", "nosuid"] }));
    })?;
    assert_eq!(output, "read-only\n");
    Ok(())
}

#[test]
fn labels_need_their_module() -> Result<()> {
    if !fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with('Y')) {
        let error = refused(|config| config["process"]["apparmorProfile"] = json!("web"))?;
        assert!(error.contains("process.apparmorProfile: AppArmor is not enabled"), "{error}");
    }
    if !fs::exists("/sys/fs/selinux/enforce")? {
        let error = refused(|config| config["process"]["selinuxLabel"] = json!("a:b:c:s0"))?;
        assert!(error.contains("process.selinuxLabel: SELinux is not enabled"), "{error}");
    }
    Ok(())
}

#[test]
fn the_callers_keys_stay_outside() -> Result<()> {
    // It shows the keys that a process has, and the kernel may be without.
    if fs::read_to_string("/proc/keys").is_ok() {
        let bundle = Bundle::new("grep -o '_ses[^:]*' /proc/keys")?;
        let id = id(&bundle);
        let seen = bundle.runtime(["run", &id]).success();
        assert!(seen.lines().any(|name| name == format!("_ses.{id}")), "{seen}");
    }
    Ok(())
}

#[test]
fn clocks_of_a_time_namespace() -> Result<()> {
    let bundle = Bundle::new("cat /proc/self/timens_offsets; cut -d. -f1 /proc/uptime; sleep 600")?;
    bundle.change(|config| {
        let namespaces = config["linux"]["namespaces"].as_array_mut().expect("there are some");
        namespaces.push(json!({ "type": "time" }));
        config["linux"]["timeOffsets"] = json!({
            "monotonic": { "secs": 7881, "nanosecs": 2_718_281 }, "boottime": { "secs": 1_000_000_000 },
        });
    })?;
    let id = id(&bundle);
    bundle.create(&id, &[])?.exits(0);
    bundle.runtime(["start", &id]).success();
    let words = |output: &str| output.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let offsets = ["monotonic", "7881", "2718281", "boottime", "1000000000", "0"];
    let output = until(|| bundle.output(), |output| words(output).len() == 7);
    assert_eq!(words(&output)[..6], offsets);
    assert!(words(&output)[6].parse::<u64>()? >= 1_000_000_000, "{output}");
    let inside = bundle.runtime(["exec", &id, "cat", "/proc/self/timens_offsets"]).success();
    assert_eq!(words(&inside), offsets);
    for (namespace, clock) in [(None, "monotonic"), (Some("time"), "realtime")] {
        let error = refused(|config| {
            config["linux"]["timeOffsets"] = json!({ clock: { "secs": 1 } });
            let namespaces = config["linux"]["namespaces"].as_array_mut().expect("there are some");
            namespaces.extend(namespace.map(|kind| json!({ "type": kind })));
        })?;
        assert!(error.contains("linux.timeOffsets"), "{error}");
    }
    Ok(())
}

/// Where the kernel has memory nodes at all (CONFIG_NUMA).
#[test]
fn which_memory_nodes() -> Result<()> {
    if fs::exists("/proc/self/numa_maps")? {
        for (policy, seen) in [
            (json!({ "mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"] }), "bind=static:0"),
            (json!({ "mode": "MPOL_INTERLEAVE", "nodes": "0-0" }), "interleave:0"),
            (json!({ "mode": "MPOL_DEFAULT" }), "default"),
        ] {
            let script = "head -n 1 /proc/self/numa_maps | cut -d' ' -f2";
            let output = printed(script, |config| config["linux"]["memoryPolicy"] = policy)?;
            assert_eq!(output.trim(), seen);
        }
    }
    for nodes in ["0-9876543210", "none", "1-0"] {
        let policy = json!({ "mode": "MPOL_BIND", "nodes": nodes });
        let error = refused(|config| config["linux"]["memoryPolicy"] = policy)?;
        assert!(error.contains("linux.memoryPolicy"), "{error}");
    }
    let error = refused(|config| config["linux"]["memoryPolicy"] = json!({ "mode": "MPOL_DEFAULT", "nodes": "0" }))?;
    assert!(error.contains("memory policy MPOL_DEFAULT"), "{error}");
    Ok(())
}

/// Those of the container's own process are its cgroup's.
#[test]
fn processors_of_one_more_process() -> Result<()> {
    let script = "grep -o 'Cpus_allowed_list.*' /proc/self/status | cut -f2";
    let all = printed(script, |_| {})?;
    let bundle = Bundle::new(&format!("{script}; sleep 600"))?;
    let id = id(&bundle);
    let with = |affinity: Value| -> Result<String> {
        bundle.change(|config| config["process"]["execCPUAffinity"] = affinity)?;
        bundle.create(&id, &[])?.exits(0);
        bundle.runtime(["start", &id]).success();
        until(|| bundle.output(), |output| *output == all);
        let outcome = bundle.runtime(["--debug", "exec", &id, "sh", "-c", script]).exits(0);
        bundle.runtime(["delete", "--force", &id]).success();
        Ok(outcome.stdout + outcome.stderr.lines().next().unwrap_or_default())
    };
    assert_eq!(with(json!({ "initial": "0", "final": "0" }))?, "0\nrbox: CPU affinity: 0x1");
    assert!(with(json!({ "final": "0" }))?.starts_with("0\nrbox: CPU affinity: 0x"));
    assert!(with(json!({ "initial": "0" }))?.ends_with("affinity: 0x1"), "then it is the kernel's to choose");
    let error = refused(|config| config["process"]["execCPUAffinity"] = json!({ "final": "one" }))?;
    assert!(error.contains("execCPUAffinity"), "{error}");
    Ok(())
}

#[test]
fn flags_of_the_scheduler_as_the_spec_writes_them() -> Result<()> {
    let scheduler = |flag| json!({ "policy": "SCHED_OTHER", "nice": 3, "flags": [flag] });
    let run =
        |flag| printed("cut -d' ' -f19 /proc/self/stat", |config| config["process"]["scheduler"] = scheduler(flag));
    assert_eq!(run("SCHED_FLAG_RESET_ON_FORK")?, "3\n");
    let error = refused(|config| config["process"]["scheduler"] = scheduler("SCHED_FLAG_NONE"))?;
    assert!(error.contains("config.json"), "{error}");
    Ok(())
}

#[test]
fn what_is_not_done_is_refused_by_name() -> Result<()> {
    for (field, value) in [
        ("intelRdt", json!({ "closID": "one" })),
        ("netDevices", json!({ "eth0": { "name": "eth1" } })),
        ("namespaces", json!([{ "type": "mount", "path": "/proc/self/ns/mnt" }])),
        ("namespaces", json!([{ "type": "user" }, { "type": "pid" }])),
    ] {
        let error = refused(|config| config["linux"][field] = value)?;
        assert!(error.contains(&format!("linux.{field}")), "{error}");
    }
    for field in ["hostname", "domainname"] {
        let error = refused(|config| {
            config["linux"]["namespaces"].as_array_mut().expect("a list").retain(|it| it["type"] != "uts");
            config.as_object_mut().expect("an object").remove("hostname");
            config[field] = json!("the-hosts");
        })?;
        assert!(error.contains(field), "{error}");
    }
    Ok(())
}

/// Root's business: an ordinary user gets no id-mapped mount (mount_setattr(2)).
#[test]
fn a_mount_with_ids_of_its_own() -> Result<()> {
    let ids = json!([{ "containerID": 0, "hostID": 4000, "size": 100 }]);
    let bundle = Bundle::new("stat -c '%u %g' /data /data/file")?;
    let source = bundle.path().join("source");
    fs::create_dir(&source)?;
    fs::write(source.join("file"), "")?;
    if host::uid() == 0 {
        // Where mount points are made.
        std::os::unix::fs::chown(bundle.inside("/"), Some(3995), Some(3995))?;
    }
    bundle.change(|config| {
        config["linux"]["uidMappings"] = json!([{ "containerID": 0, "hostID": 3995, "size": 50 }]);
        config["linux"]["gidMappings"] = config["linux"]["uidMappings"].clone();
        let mount = json!({ "destination": "/data", "type": "bind", "source": source, "options": ["bind", "ridmap"],
                            "uidMappings": ids, "gidMappings": ids });
        add_mount(config, mount);
    })?;
    let outcome = bundle.runtime(["run", &id(&bundle)]);
    if host::uid() == 0 {
        // What is root's on disk is 4000's on the host, which is the container's 5.
        assert_eq!(outcome.success(), "5 5\n5 5\n");
    } else {
        assert_ne!(outcome.status, 0);
    }
    Ok(())
}
