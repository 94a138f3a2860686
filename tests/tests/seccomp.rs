//! System call filters, as a workload meets them.

use std::fs;

use anyhow::Result;
use rbox_tests::alpine;
use rbox_tests::rbox::Rbox;
use serde_json::json;

fn small() -> Result<(Rbox, String)> {
    Rbox::with_image(&alpine::small()?, "latest", "t/small:1")
}

#[test]
fn dockers_default_profile_is_on_unless_told_otherwise() -> Result<()> {
    let (rbox, name) = small()?;
    // A user namespace needs no capability: it is the filter that forbids it, as in Docker.
    let script = "grep '^Seccomp:' /proc/self/status; unshare -U true 2>/dev/null && echo made || echo refused";
    assert_eq!(rbox.sh(&name, &[], script), "Seccomp:\t2\nrefused");
    assert_eq!(rbox.sh(&name, &["--security-opt", "seccomp=unconfined"], script), "Seccomp:\t0\nmade");
    assert_eq!(rbox.sh(&name, &["--security-opt", "seccomp:unconfined"], script), "Seccomp:\t0\nmade");
    Ok(())
}

#[test]
fn a_profile_of_the_users_own() -> Result<()> {
    let (rbox, name) = small()?;
    let file = rbox.home().join("profile.json");
    let profile = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "archMap": [{ "architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"] }],
        "syscalls": [{ "names": ["chmod", "fchmod", "fchmodat", "fchmodat2"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28 }],
    });
    fs::write(&file, profile.to_string())?;
    let option = format!("seccomp={}", file.display());
    let script = "chmod 600 /etc/passwd 2>&1 | grep -o 'No space left'; unshare -U true && echo made";
    assert_eq!(rbox.sh(&name, &["--security-opt", &option], script), "No space left\nmade");

    fs::write(&file, "{ \"defaultAction\": ")?;
    rbox.run(["run", "--rm", "--security-opt", &option, &name, "true"]).refused(&["profile.json"]);
    rbox.run(["run", "--rm", "--security-opt", "seccomp=/no/such/file", &name, "true"]).refused(&["/no/such/file"]);
    rbox.run(["run", "--rm", "--security-opt", "no-such-option", &name, "true"]).refused(&["no-such-option"]);
    assert_eq!(rbox.run(["ps", "-a", "--format", "json"]).success().trim(), "[]", "nothing is left of those");
    Ok(())
}

#[test]
fn no_new_privileges() -> Result<()> {
    let (rbox, name) = small()?;
    let script = "grep NoNewPrivs /proc/self/status";
    assert_eq!(rbox.sh(&name, &[], script), "NoNewPrivs:\t0");
    for option in ["no-new-privileges", "no-new-privileges=true", "no-new-privileges:true"] {
        assert_eq!(rbox.sh(&name, &["--security-opt", option], script), "NoNewPrivs:\t1", "{option}");
    }
    assert_eq!(rbox.sh(&name, &["--security-opt", "no-new-privileges=false"], script), "NoNewPrivs:\t0");
    Ok(())
}
