//! SELinux at work, enforcing: a virtual machine with a small policy, in which what runs as `container_t` may touch the
//! files of containers alone. What crun does with the same bundles is beside.

use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

use anyhow::Result;
use rbox_tests::vm::{Console, IMAGE, Machine};
use rbox_tests::{bundle, command, packages};
use serde_json::{Value, json};

const POLICY: &str = include_str!("../src/selinux.cil");

/// In which contexts are the workload and the container's first process, and which ones have its mounts; whether it may
/// write to its own files and to the user's, list its message queues, see its session keyring (which is named for the
/// container) and read what rbox put into /etc.
const PROBE: &str = r#"
tr -d '\0' < /proc/self/attr/current; echo
if [ -e /proc/1/attr/current ]; then echo "init: $(tr -d '\0' 2>&1 < /proc/1/attr/current)"; fi
mounts='^[^ ]* [^ ]* [^ ]* [^ ]* \([^ ]*\) .* - \([^ ]*\) .*,context='
sed -n -e "s/$mounts\"\([^\"]*\)\".*/\1 \2 \3/p" -e "s/$mounts\([^\",]*\).*/\1 \2 \3/p" /proc/self/mountinfo
if echo text 2>/dev/null > /file; then echo "own: written"; else echo "own: refused"; fi
if echo text 2>/dev/null > /notes/file; then echo "notes: written"; else echo "notes: refused"; fi
if ls /dev/mqueue > /dev/null 2>&1; then echo "queues: listed"; else echo "queues: refused"; fi
if grep -qE '(_ses\.[0-9a-f]*|one|two): ' /proc/keys; then echo "keyring: seen"; else echo "keyring: unseen"; fi
if [ -e /etc/hosts ]; then if cat /etc/hosts > /dev/null 2>&1; then echo "hosts: read"; else echo "hosts: refused"; fi; fi
"#;

static CONSOLE: LazyLock<Console> = LazyLock::new(|| boot().expect("a virtual machine with SELinux"));

/// The policy as the kernel takes it.
fn policy() -> Result<Vec<u8>> {
    let dir = tempfile::tempdir()?;
    let (source, policy) = (dir.path().join("policy.cil"), dir.path().join("policy"));
    std::fs::write(&source, POLICY)?;
    let mut secilc = Command::new(packages::program("secilc", "secilc")?);
    secilc.env("LD_LIBRARY_PATH", packages::unpacked("libsepol2")?.join("usr/lib/x86_64-linux-gnu"));
    command::run(secilc.arg("-f").arg("/dev/null").arg("-o").arg(&policy).arg(&source))?;
    Ok(std::fs::read(policy)?)
}

fn boot() -> Result<Console> {
    let mut machine = Machine::new()?.option("security=selinux").option("enforcing=1");
    machine = machine.program(Path::new("/usr/bin/crun"))?;
    machine = machine.file("/etc/policy", 0o644, policy()?).file("/etc/probe", 0o755, PROBE);
    let container = "system_u:system_r:container_t:s0:c1,c2";
    for (who, uid) in [("root", 0), ("user", 1000)] {
        for (name, process, mount) in [
            ("plain", Value::Null, Value::Null),
            ("labelled", json!(container), json!("system_u:object_r:container_file_t:s0:c1,c2")),
            ("unknown", json!("system_u:system_r:nobodys_t:s0"), Value::Null),
            ("unknown-mount", json!(container), json!("system_u:object_r:nobodys_t:s0")),
            ("sleeps", json!(container), json!("system_u:object_r:container_file_t:s0:c1,c2")),
        ] {
            let script = if name == "sleeps" { "sleep 600" } else { PROBE };
            let mut config = bundle::config(script, uid, uid);
            config["process"]["selinuxLabel"] = process;
            config["linux"]["mountLabel"] = mount;
            config["root"]["path"] = json!(format!("/srv/{who}/rootfs"));
            let mounts = config["mounts"].as_array_mut().expect("a bundle has mounts");
            mounts
                .push(json!({ "destination": "/notes", "source": format!("/home/{who}-notes"), "options": ["bind"] }));
            mounts.push(json!({ "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue" }));
            machine = machine.file(&format!("/srv/{who}/{name}/config.json"), 0o644, config.to_string());
        }
    }
    machine.run(&SCRIPT.replace("IMAGE", IMAGE))
}

const SCRIPT: &str = r#"
mount -t selinuxfs selinuxfs /sys/fs/selinux
dd bs=1M if=/etc/policy of=/sys/fs/selinux/load 2>&1
try enforcing cat /sys/fs/selinux/enforce
probe=$(cat /etc/probe)
for who in root user; do
    as=; [ $who = user ] && as=as_user
    notes=/home/$who-notes
    mkdir -p -m 777 $notes
    try $who-pull $as rbox pull IMAGE
    run() {
        name=$1
        shift
        try $who-$name $as rbox run --rm --volume $notes:/notes "$@" IMAGE sh -c "$probe"
    }
    run plain
    run type --security-opt label=type:container_t
    run keys --security-opt label=type:container_t --security-opt unmask=/proc/keys
    run other-type --security-opt label=type:other_container_t
    run level --security-opt label=level:s0:c1,c2
    run disable --security-opt label=disable
    run type-disable --security-opt label=type:container_t --security-opt label=disable
    run unknown-type --security-opt label=type:nobodys_t
    run unknown-level --security-opt label=level:s9
    run unknown-filetype --security-opt label=filetype:nobodys_t
    try $who-left $as rbox ps --all --quiet
    run no-new-privileges --security-opt no-new-privileges --security-opt label=type:container_t
    run init --init --security-opt label=type:container_t
    run init-that-may --init --security-opt label=type:init_container_t
    run privileged --privileged --security-opt label=type:container_t
    $as rbox run --name one --security-opt label=level:s0:c1,c2 --volume $notes:/notes IMAGE sleep 600 \
        < /dev/null > /dev/null 2>&1 &
    until_works $as rbox exec one true
    try $who-exec $as rbox exec one sh -c "$probe"
    try $who-audit $as rbox audit one
    try $who-inspect $as rbox inspect one
    try $who-removed $as rbox rm --force one
    $as rbox run --name two IMAGE sleep 600 < /dev/null > /dev/null 2>&1 &
    until_works $as rbox exec two true
    try $who-audit-plain $as rbox audit two
    $as rbox rm --force two > /dev/null
    try_bundles plain labelled unknown unknown-mount
done
# For messages.
dmesg | grep avc
"#;

const BOTH: [&str; 2] = ["root", "user"];

/// Of all that is no container.
const OUTSIDE: &str = "system_u:system_r:kernel_t:s0-s0:c0.c3";

/// What was tried by both users.
fn each(names: &[&str], mut look: impl FnMut(&str)) {
    for who in BOTH {
        names.iter().for_each(|name| look(&format!("{who}-{name}")));
    }
}

/// Asserts that the probe ran to its end and has said each of these lines.
fn has(name: &str, lines: &[&str]) {
    let said = CONSOLE.says(name);
    for line in lines {
        assert!(said.lines().any(|said| said == *line), "{name}: no {line:?} in:\n{said}\n{}", CONSOLE.text());
    }
}

/// Asserts that a container began in this context, of this type and level, with its filesystems in the one that fits,
/// and could do what the policy lets it and no more.
fn confined(name: &str, kind: &str, level: &str, mounts: &[&str]) {
    let context = format!("system_u:system_r:{kind}:{level}");
    has(name, &[&context, "own: written", "notes: refused"]);
    // Where root runs rbox, the root of the queues belongs to nobody in the container, and cannot be labelled.
    let labelled = ["user-", "root-oci-", "root-crun-"].iter().any(|prefix| name.starts_with(prefix));
    has(name, &[if labelled { "queues: listed" } else { "queues: refused" }]);
    let mounts = mounts.iter().map(|mount| format!("{mount} system_u:object_r:container_file_t:{level}"));
    mounts.for_each(|mount| has(name, &[&mount]));
}

/// What `rbox run` mounts.
const MOUNTS: [&str; 6] =
    ["/ overlay", "/dev tmpfs", "/dev/pts devpts", "/dev/shm tmpfs", "/etc/hosts tmpfs", "/sys/firmware tmpfs"];

/// What a bundle's config.json has mounted.
const MOUNTS_OF_BUNDLES: [&str; 2] = ["/dev tmpfs", "/dev/pts devpts"];

#[test]
#[ignore = "long: a virtual machine"]
fn the_policy_is_in_force() {
    assert_eq!(CONSOLE.says("enforcing"), "1");
}

#[test]
#[ignore = "long: a virtual machine"]
fn a_label_is_the_workloads_and_its_filesystems() {
    for (name, kind, level) in [
        ("type", "container_t", "s0"),
        ("other-type", "other_container_t", "s0"),
        ("level", "container_t", "s0:c1,c2"),
        ("no-new-privileges", "container_t", "s0"),
        ("privileged", "container_t", "s0"),
    ] {
        each(&[name], |name| {
            let mounts = if name.ends_with("privileged") { &MOUNTS[..5] } else { &MOUNTS };
            confined(name, kind, level, mounts);
            has(name, &["hosts: read", &format!("init: system_u:system_r:{kind}:{level}")]);
        });
    }
}

/// Here the policy has no rule by which init could change its own context.
#[test]
#[ignore = "long: a virtual machine"]
fn init_is_of_the_container_as_far_as_the_policy_lets_it() {
    each(&["init"], |name| confined(name, "container_t", "s0", &MOUNTS));
    each(&["init-that-may"], |name| {
        confined(name, "init_container_t", "s0", &MOUNTS);
        has(name, &["init: system_u:system_r:init_container_t:s0"]);
    });
}

#[test]
#[ignore = "long: a virtual machine"]
fn without_one_all_is_as_outside() {
    each(&["plain", "disable", "type-disable", "oci-plain", "crun-plain"], |name| {
        has(name, &[OUTSIDE, "own: written", "notes: written"]);
        assert!(!CONSOLE.says(name).contains("object_r"), "{name}: {}", CONSOLE.says(name));
    });
}

#[test]
#[ignore = "long: a virtual machine"]
fn bundles_say_the_labels_themselves() {
    each(&["oci-labelled", "crun-labelled"], |name| {
        confined(name, "container_t", "s0:c1,c2", &MOUNTS_OF_BUNDLES);
        has(name, &["init: system_u:system_r:container_t:s0:c1,c2"]);
    });
}

#[test]
#[ignore = "long: a virtual machine"]
fn a_containers_keyring_is_the_containers() {
    each(&["keys", "oci-labelled", "crun-labelled"], |name| has(name, &["keyring: seen"]));
}

#[test]
#[ignore = "long: a virtual machine"]
fn more_processes_are_labelled_as_the_first_one() {
    each(&["exec"], |name| confined(name, "container_t", "s0:c1,c2", &MOUNTS));
    each(&["oci-exec", "crun-exec"], |name| confined(name, "container_t", "s0:c1,c2", &MOUNTS_OF_BUNDLES));
}

#[test]
#[ignore = "long: a virtual machine"]
fn a_label_that_the_policy_has_not_is_an_error() {
    const PROCESS: &str = "system_u:system_r:nobodys_t:s0";
    const FILE: &str = "system_u:object_r:nobodys_t:s0";
    for (name, status, context) in [
        ("unknown-type", 125, PROCESS),
        ("unknown-filetype", 125, FILE),
        ("unknown-level", 125, "system_u:object_r:container_file_t:s9"),
        ("oci-unknown", 1, PROCESS),
        ("oci-unknown-mount", 1, FILE),
    ] {
        each(&[name], |name| {
            let tried = CONSOLE.tried(name);
            assert_eq!(tried.status, status, "{name}: {}", tried.output);
            let wanted = [format!("the SELinux context \"{context}\""), "hint: has the SELinux policy".into()];
            assert!(wanted.iter().all(|words| tried.output.contains(words)), "{name}: {}", tried.output);
            assert!(!tried.output.contains("own: "), "{name}: it ran: {}", tried.output);
        });
    }
    each(&["crun-unknown", "crun-unknown-mount"], |name| assert_eq!(CONSOLE.tried(name).status, 1));
    each(&["left"], |name| assert_eq!(CONSOLE.says(name), "", "{name}"));
}

#[test]
#[ignore = "long: a virtual machine"]
fn audit_and_inspect_tell_of_it() {
    each(&["audit"], |name| {
        let said = CONSOLE.says(name);
        let context = " system_u:system_r:container_t:s0:c1,c2";
        assert!(said.lines().any(|line| line.starts_with("Label ") && line.ends_with(context)), "{said}");
    });
    each(&["inspect"], |name| assert!(CONSOLE.says(name).contains("\"label=level:s0:c1,c2\""), "{name}"));
    // A context that everybody has is not one of a container's.
    each(&["audit-plain"], |name| {
        let labels: Vec<&str> = CONSOLE.says(name).lines().filter(|line| line.starts_with("Label ")).collect();
        assert!(labels.len() == 1 && labels[0].ends_with(" none"), "{labels:?}");
    });
}
