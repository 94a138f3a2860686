//! AppArmor at work: a virtual machine whose kernel has it on, a profile that forbids to write below one directory, and
//! root and an ordinary user, who want their containers confined by it. What crun does with the same bundles is beside.

use std::path::Path;
use std::sync::LazyLock;

use anyhow::Result;
use rbox_tests::bundle;
use rbox_tests::packages;
use rbox_tests::vm::{Console, IMAGE, Machine};
use serde_json::{Value, json};

/// "loose" complains only. The third is the one that `rbox doctor` asks for where user namespaces are restricted: it
/// makes rbox known and confines nothing.
const PROFILES: &str = "\
profile shut flags=(attach_disconnected,mediate_deleted) {
  file, capability, network, mount, umount, pivot_root, ptrace, signal, unix,
  deny /shut/** wl,
}
profile loose flags=(attach_disconnected,mediate_deleted,complain) { }
";
const RBOX_PROFILE: &str = "profile rbox /bin/rbox flags=(unconfined) { }\n";

/// Under which profiles the workload and the container's first process are, and whether it may write.
const PROBE: &str = "\
cat /proc/self/attr/current /proc/1/attr/current
mkdir -p /shut 2>/dev/null
if echo text 2>/dev/null > /shut/file; then echo written; else echo refused; fi";

const FREE: &str = "unconfined\nunconfined\nwritten";
const CONFINED: &str = "shut (enforce)\nshut (enforce)\nrefused";

static CONSOLE: LazyLock<Console> = LazyLock::new(|| boot().expect("a virtual machine with AppArmor"));

fn boot() -> Result<Console> {
    let mut machine = Machine::new()?.option("security=apparmor");
    machine = machine.program(&packages::program("apparmor", "apparmor_parser")?)?;
    machine = machine.program(Path::new("/usr/bin/crun"))?;
    machine = machine.file("/etc/apparmor/parser.conf", 0o644, "");
    machine = machine.file("/etc/profiles", 0o644, PROFILES).file("/etc/rbox-profile", 0o644, RBOX_PROFILE);
    machine = machine.file("/etc/probe", 0o755, PROBE);
    for (who, uid) in [("root", 0), ("user", 1000)] {
        for (name, profile, script) in [
            ("plain", Value::Null, PROBE),
            ("shut", json!("shut"), PROBE),
            ("unknown", json!("nobodys"), PROBE),
            ("sleeps", json!("shut"), "sleep 600"),
        ] {
            let mut config = bundle::config(script, uid, uid);
            config["process"]["apparmorProfile"] = profile;
            config["root"]["path"] = json!(format!("/srv/{who}/rootfs"));
            machine = machine.file(&format!("/srv/{who}/{name}/config.json"), 0o644, config.to_string());
        }
    }
    machine.run(&SCRIPT.replace("IMAGE", IMAGE))
}

const SCRIPT: &str = r#"
apparmor_parser --replace --skip-cache /etc/profiles
probe=$(cat /etc/probe)
for who in root user; do
    as=; [ $who = user ] && as=as_user
    try $who-pull $as rbox pull IMAGE
    run() {
        name=$1
        shift
        try $who-$name $as rbox run --rm "$@" IMAGE sh -c "$probe"
    }
    run plain
    run shut --security-opt apparmor=shut
    run loose --security-opt apparmor=loose
    run asked-unconfined --security-opt apparmor=unconfined
    run unknown --security-opt apparmor=nobodys
    try $who-left $as rbox ps --all --quiet
    run privileged --privileged --security-opt apparmor=shut
    run no-new-privileges --security-opt no-new-privileges --security-opt apparmor=shut
    run init --init --security-opt apparmor=shut
    run user --user 65534 --security-opt apparmor=shut
    $as rbox run --name one --security-opt apparmor=shut IMAGE sleep 600 < /dev/null > /dev/null 2>&1 &
    until_works $as rbox exec one true
    try $who-exec $as rbox exec one sh -c "$probe"
    try $who-exec-privileged $as rbox exec --privileged one sh -c "$probe"
    try $who-audit $as rbox audit one
    try $who-inspect $as rbox inspect one
    try $who-removed $as rbox rm --force one
    try_bundles plain shut unknown
done
apparmor_parser --replace --skip-cache /etc/rbox-profile
try known-plain as_user rbox run --rm IMAGE sh -c "$probe"
try known-shut as_user rbox run --rm --security-opt apparmor=shut IMAGE sh -c "$probe"
try known-no-new-privileges as_user rbox run --rm \
    --security-opt no-new-privileges --security-opt apparmor=shut IMAGE sh -c "$probe"
as_user rbox run --name two IMAGE sleep 600 < /dev/null > /dev/null 2>&1 &
until_works as_user rbox exec two true
try known-audit as_user rbox audit two
"#;

const BOTH: [&str; 2] = ["root", "user"];

/// What was tried by both users.
fn each(names: &[&str], mut look: impl FnMut(&str)) {
    for who in BOTH {
        names.iter().for_each(|name| look(&format!("{who}-{name}")));
    }
}

#[test]
#[ignore = "long: a virtual machine"]
fn a_profile_confines_from_the_first_process_on() {
    each(&["shut", "oci-shut", "crun-shut"], |name| assert_eq!(CONSOLE.says(name), CONFINED, "{name}"));
    each(&["loose"], |name| {
        let said = CONSOLE.says(name);
        assert!(said.contains("\nloose (complain)\n") && said.ends_with("written"), "{name}: {said}");
    });
}

#[test]
#[ignore = "long: a virtual machine"]
fn without_one_nothing_confines() {
    let names = ["plain", "asked-unconfined", "oci-plain", "crun-plain"];
    each(&names, |name| assert_eq!(CONSOLE.says(name), FREE, "{name}"));
}

#[test]
#[ignore = "long: a virtual machine"]
fn no_other_flag_takes_it_off() {
    let names = ["privileged", "no-new-privileges", "init", "user"];
    each(&names, |name| assert_eq!(CONSOLE.says(name), CONFINED, "{name}"));
}

#[test]
#[ignore = "long: a virtual machine"]
fn a_profile_that_is_not_loaded_is_an_error() {
    each(&["unknown", "oci-unknown", "crun-unknown"], |name| {
        let tried = CONSOLE.tried(name);
        let failed = if name.contains("-oci-") || name.contains("-crun-") { 1 } else { 125 };
        assert_eq!(tried.status, failed, "{name}: {}", tried.output);
        assert!(!tried.output.contains("written") && !tried.output.contains("unconfined"), "{name}: {}", tried.output);
    });
    each(&["unknown", "oci-unknown"], |name| {
        let said = &CONSOLE.tried(name).output;
        assert!(
            said.contains("AppArmor profile \"nobodys\"") && said.contains("hint: is the profile loaded?"),
            "{said}"
        );
    });
    each(&["left"], |name| assert_eq!(CONSOLE.says(name), "", "{name}"));
}

#[test]
#[ignore = "long: a virtual machine"]
fn more_processes_are_confined_as_the_first_one() {
    let names = ["exec", "exec-privileged", "oci-exec", "crun-exec"];
    each(&names, |name| assert_eq!(CONSOLE.says(name), CONFINED, "{name}"));
}

#[test]
#[ignore = "long: a virtual machine"]
fn audit_and_inspect_tell_of_it() {
    each(&["audit"], |name| {
        let said = CONSOLE.says(name);
        assert!(said.lines().any(|line| line.starts_with("Label ") && line.ends_with(" shut (enforce)")), "{said}");
    });
    each(&["inspect"], |name| assert!(CONSOLE.says(name).contains("\"apparmor=shut\""), "{name}"));
}

/// Not even where new privileges are refused, which keeps what is confined from being confined otherwise.
#[test]
#[ignore = "long: a virtual machine"]
fn a_profile_of_rboxs_own_is_in_nobodys_way() {
    assert_eq!(CONSOLE.says("known-plain"), "rbox (unconfined)\nrbox (unconfined)\nwritten");
    for name in ["known-shut", "known-no-new-privileges"] {
        assert_eq!(CONSOLE.says(name), CONFINED, "{name}");
    }
    let said = CONSOLE.says("known-audit");
    let labels: Vec<&str> = said.lines().filter(|line| line.starts_with("Label ")).collect();
    assert!(labels.len() == 1 && labels[0].ends_with(" none"), "it confines nothing: {said}");
}
