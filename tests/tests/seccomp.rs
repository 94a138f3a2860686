//! System call filters: what the workload may call by default, without a filter, and with a profile of the user's own.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;
use rbox_tests::command::read;
use rbox_tests::rbox::Rbox;

const EPERM: i32 = 1;
const ENOSYS: i32 = 38;
/// The kernel's own answers to the arguments below, where no filter is asked first.
const EINVAL: i32 = 22;

/// Makes the calls that it is told, and says how each ended.
const PROBE: &str = r#"
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		const char *call = argv[i];
		long result = -2;

		errno = 0;
		if (!strcmp(call, "clone3"))
			result = syscall(435, NULL, 0);
		else if (!strcmp(call, "unshare"))
			result = unshare(CLONE_NEWUSER);
		else if (!strcmp(call, "clone"))
			result = syscall(SYS_clone, CLONE_NEWUSER | CLONE_SIGHAND, NULL, NULL, NULL, NULL);
		else if (!strcmp(call, "mount"))
			result = mount("none", "/tmp", "tmpfs", 0, NULL);
		else if (!strcmp(call, "keyctl"))
			result = syscall(SYS_keyctl, 0, -3, 0);
		else if (!strcmp(call, "vsock"))
			result = socket(40, SOCK_STREAM, 0);
		else if (!strcmp(call, "personality"))
			result = personality(ADDR_NO_RANDOMIZE);
		else if (!strcmp(call, "newest"))
			result = syscall(1000);
		else if (!strcmp(call, "chmod"))
			result = chmod("/tmp", 01777);
		else if (!strcmp(call, "fchmodat"))
			result = fchmodat(AT_FDCWD, "/tmp", 01777, 0);
		printf("%s %d\n", call, result < 0 ? errno : 0);
	}
	return 0;
}
"#;

/// The small image in a store, its name, and where the probe and profiles are.
struct Fixture {
    rbox: Rbox,
    image: String,
    dir: PathBuf,
}

impl Fixture {
    fn new() -> Result<Self> {
        let (rbox, image) = Rbox::with_small_image()?;
        let dir = rbox.home().join("seccomp");
        fs::create_dir(&dir)?;
        fs::write(dir.join("probe.c"), PROBE)?;
        let mut cc = std::process::Command::new("cc");
        read(cc.current_dir(&dir).args(["-static", "-w", "-o", "probe", "probe.c"]))?;
        Ok(Self { rbox, image, dir })
    }

    /// The error number of each call, 0 for none.
    #[track_caller]
    fn errors<const N: usize>(&self, flags: &[&str], calls: [&str; N]) -> [i32; N] {
        let volume = format!("{}:/probe:ro", self.dir.join("probe").display());
        let arguments = [&["run", "--rm", "-v", &volume], flags, &[&self.image, "/probe"], &calls].concat();
        let said = self.rbox.run(arguments).success();
        calls.map(|call| {
            let line = said.lines().find_map(|line| line.strip_prefix(call)?.strip_prefix(' '));
            line.and_then(|errno| errno.parse().ok()).unwrap_or_else(|| panic!("{call}: {said}"))
        })
    }

    fn profile(&self, name: &str, json: &str) -> Result<String> {
        let path = self.dir.join(name);
        fs::write(&path, json)?;
        Ok(path.display().to_string())
    }

    /// Fields of the workload's /proc/self/status.
    #[track_caller]
    fn status(&self, flags: &[&str], fields: &str) -> String {
        let script = format!("grep -E '^({fields}):' /proc/self/status | tr -d '\\t'");
        self.rbox.sh(&self.image, flags, &script)
    }
}

#[test]
fn dockers_profile_is_the_default() -> Result<()> {
    let fixture = Fixture::new()?;
    let fields = "NoNewPrivs|Seccomp|Seccomp_filters";
    assert_eq!(fixture.status(&[], fields), "NoNewPrivs:0\nSeccomp:2\nSeccomp_filters:1");
    let refused = ["unshare", "clone", "mount", "keyctl", "vsock", "personality"];
    assert_eq!(fixture.errors(&[], refused), [EPERM; 6]);
    assert_eq!(fixture.errors(&[], ["clone3", "newest", "chmod", "fchmodat"]), [ENOSYS, ENOSYS, 0, 0]);
    // Whoever the workload runs as, and whether or not it is to gain privileges.
    for flags in [&["-u", "1000:1000"][..], &["-u", "7", "--security-opt", "no-new-privileges"]] {
        assert_eq!(fixture.status(flags, "Seccomp"), "Seccomp:2");
        assert_eq!(fixture.errors(flags, ["unshare", "clone3"]), [EPERM, ENOSYS], "{flags:?}");
    }
    Ok(())
}

#[test]
fn unconfined() -> Result<()> {
    let fixture = Fixture::new()?;
    for option in ["seccomp=unconfined", "seccomp:unconfined"] {
        let flags = ["--security-opt", option];
        assert_eq!(fixture.status(&flags, "Seccomp|Seccomp_filters"), "Seccomp:0\nSeccomp_filters:0");
        assert_eq!(fixture.errors(&flags, ["clone3", "unshare", "personality"]), [EINVAL, 0, 0]);
    }
    Ok(())
}

#[test]
fn a_profile_of_the_users_own() -> Result<()> {
    let fixture = Fixture::new()?;
    let path = fixture.profile(
        "no-chmod.json",
        r#"{
            "defaultAction": "SCMP_ACT_ALLOW",
            "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
            "syscalls": [
                {"names": ["chmod", "fchmodat", "no_such_call"], "action": "SCMP_ACT_ERRNO"},
                {"names": ["personality"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38,
                 "args": [{"index": 0, "value": 262144, "valueTwo": 262144, "op": "SCMP_CMP_MASKED_EQ"}]},
                {"names": ["unshare"], "action": "SCMP_ACT_ERRNO", "excludes": {"minKernel": "4.8"}},
                {"names": ["keyctl"], "action": "SCMP_ACT_ERRNO", "includes": {"caps": ["CAP_SYS_ADMIN"]}}
            ]
        }"#,
    )?;
    let option = format!("seccomp={path}");
    let flags = ["--security-opt", &option];
    let calls = ["chmod", "fchmodat", "personality", "unshare"];
    assert_eq!(fixture.errors(&flags, calls), [EPERM, EPERM, ENOSYS, 0]);
    assert_eq!(fixture.status(&flags, "Seccomp"), "Seccomp:2");
    Ok(())
}

/// Init has nothing to do once the filter is there but to execute the workload; so a profile need not know what init is.
#[test]
fn a_profile_that_allows_little() -> Result<()> {
    let fixture = Fixture::new()?;
    let allowed = r#"["execve", "brk", "arch_prctl", "set_tid_address", "set_robust_list", "rseq", "prlimit64",
        "readlinkat", "readlink", "getrandom", "mprotect", "mmap", "munmap", "newfstatat", "fstat", "write", "exit_group",
        "uname", "ioctl"]"#;
    let syscalls = format!(r#"[{{"names": {allowed}, "action": "SCMP_ACT_ALLOW"}}]"#);
    for action in ["SCMP_ACT_KILL_PROCESS", "SCMP_ACT_ERRNO"] {
        let json = format!(r#"{{"defaultAction": "{action}", "syscalls": {syscalls}}}"#);
        let option = format!("seccomp={}", fixture.profile("little.json", &json)?);
        for more in [&[][..], &["-u", "1000"], &["--security-opt", "no-new-privileges"]] {
            let flags = [&["--security-opt", &option], more].concat();
            assert_eq!(fixture.errors(&flags, ["nothing"]), [0], "{action} {more:?}");
        }
    }
    Ok(())
}

#[test]
fn no_new_privileges() -> Result<()> {
    let fixture = Fixture::new()?;
    for (option, expected) in [
        ("no-new-privileges", "NoNewPrivs:1"),
        ("no-new-privileges:true", "NoNewPrivs:1"),
        ("no-new-privileges=false", "NoNewPrivs:0"),
    ] {
        assert_eq!(fixture.status(&["--security-opt", option], "NoNewPrivs"), expected, "{option}");
    }
    Ok(())
}

/// CAP_SYS_ADMIN, which installing a filter takes, is gone when the workload begins.
#[test]
fn the_filter_costs_no_capability_and_leaves_none() -> Result<()> {
    let fixture = Fixture::new()?;
    for user in ["0", "1000"] {
        let sets = "CapInh|CapPrm|CapEff|CapBnd|CapAmb";
        let confined = fixture.status(&["-u", user], sets);
        assert_eq!(confined, fixture.status(&["-u", user, "--security-opt", "seccomp=unconfined"], sets));
        assert!(confined.contains("CapBnd:00000000a80425fb"), "{confined}");
    }
    Ok(())
}

#[test]
fn what_is_wrong_is_named() -> Result<()> {
    let fixture = Fixture::new()?;
    let refused = |option: &str, words: &[&str]| {
        let arguments = ["run", "--rm", "--security-opt", option, &fixture.image, "true"];
        fixture.rbox.run(arguments).refused(words);
    };
    let broken = fixture.profile("broken.json", "{\"defaultAction\": ")?;
    refused(&format!("seccomp={broken}"), &["broken.json", "line 1"]);
    let unknown = fixture.profile("unknown.json", r#"{"defaultAction": "SCMP_ACT_PERHAPS"}"#)?;
    refused(&format!("seccomp={unknown}"), &["unknown.json", "SCMP_ACT_PERHAPS"]);
    let errno = fixture.profile("errno.json", r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 70000}"#)?;
    refused(&format!("seccomp={errno}"), &["errno.json", "70000"]);
    refused("seccomp=/no/such/file.json", &["/no/such/file.json", "no such file"]);
    refused("no-new-privileges=perhaps", &["--security-opt", "perhaps"]);
    let left = fixture.rbox.run(["ps", "-a", "--format", "json"]).success();
    assert_eq!(left.trim(), "[]", "nothing is left of those");
    Ok(())
}

/// What a debug run says of a call: how often, what it got, and what would allow it.
fn denied<'a>(stderr: &'a str, call: &str) -> Option<(&'a str, &'a str, &'a str)> {
    let line = stderr.lines().find_map(|line| line.strip_prefix(call)?.strip_prefix("  "))?.trim_start();
    let (times, rest) = line.split_once("   ")?;
    let (answer, allowed_by) = rest.trim_start().split_once("   ")?;
    Some((times.trim(), answer, allowed_by.trim_start()))
}

#[test]
fn what_is_denied_is_explained() -> Result<()> {
    let fixture = Fixture::new()?;
    let explain = |flags: &[&str], script: &str| {
        let words = [&["run", "--rm", "--explain-denied"], flags, &[&fixture.image, "sh", "-c", script]].concat();
        fixture.rbox.run(words)
    };
    let script = "for i in 1 2 3; do mount -t tmpfs none /tmp; done 2>/dev/null; (umount /tmp; chroot / true) 2>&1 |
        grep -c 'not permitted'; exit 7";
    let outcome = explain(&[], script).exits(7);
    assert_eq!(outcome.stdout, "1\n");
    let own = "--security-opt seccomp=unconfined, or a profile of your own";
    let by = |capability: &str| format!("--cap-add {capability}, or {own}");
    let admin = by("SYS_ADMIN");
    assert_eq!(denied(&outcome.stderr, "mount"), Some(("3", "EPERM", &*admin)), "{}", outcome.stderr);
    assert!(denied(&outcome.stderr, "umount2").is_some() && denied(&outcome.stderr, "chroot").is_none());
    let outcome = explain(&["--cap-drop", "ALL", "-u", "1000"], "chroot / true; chown 5 /tmp; true").exits(0);
    assert_eq!(denied(&outcome.stderr, "chroot"), Some(("1", "EPERM", &*by("SYS_CHROOT"))), "{}", outcome.stderr);
    // That is the kernel's own doing.
    assert!(denied(&outcome.stderr, "chown").is_none(), "{}", outcome.stderr);
    for flags in [&["--cap-add", "SYS_ADMIN"][..], &["--security-opt", "no-new-privileges", "--cap-add=ALL"]] {
        let outcome = explain(flags, "mount -t tmpfs none /tmp").exits(0);
        assert!(outcome.stderr.contains("refused no system call"), "{}", outcome.stderr);
    }
    for flags in [&["--security-opt", "seccomp=unconfined"][..], &["--privileged"]] {
        explain(flags, "true").refused(&["no seccomp profile"]);
    }
    assert!(!fixture.rbox.run(["run", "--rm", &fixture.image, "umount", "/tmp"]).stderr.contains("system call"));
    Ok(())
}

#[test]
fn to_be_explained_changes_no_answer() -> Result<()> {
    let fixture = Fixture::new()?;
    let calls =
        ["unshare", "clone", "mount", "keyctl", "vsock", "personality", "clone3", "newest", "chmod", "fchmodat"];
    for flags in [&[][..], &["-u", "1000"], &["--cap-add", "SYS_ADMIN"], &["--cap-drop", "ALL"]] {
        let explained = [&["--explain-denied"], flags].concat();
        assert_eq!(fixture.errors(&explained, calls), fixture.errors(flags, calls), "{flags:?}");
    }
    Ok(())
}

#[test]
fn profiles_of_the_users_own_are_explained() -> Result<()> {
    let fixture = Fixture::new()?;
    let explain = |name: &str, json: &str, script: &str| -> Result<_> {
        let option = format!("seccomp={}", fixture.profile(name, json)?);
        let words = ["run", "--rm", "--explain-denied", "--security-opt", &option, &fixture.image];
        Ok(fixture.rbox.run([&words[..], &["sh", "-c", script]].concat()))
    };
    let outcome = explain(
        "kill.json",
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["chmod", "fchmodat"], "action": "SCMP_ACT_KILL_PROCESS"},
            {"names": ["umount2"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95},
            {"names": ["sethostname"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1, "excludes": {"caps": ["CAP_NET_RAW"]}},
            {"names": ["chroot"], "action": "SCMP_ACT_ERRNO", "excludes": {"caps": ["CAP_NET_ADMIN"]}}]}"#,
        "umount /tmp; chroot / true; chmod 777 /tmp; echo $?",
    )?;
    assert_eq!(outcome.stdout, "137\n", "{}", outcome.stderr);
    let own = "--security-opt seccomp=unconfined, or a profile of your own";
    let chmod = denied(&outcome.stderr, "chmod").or_else(|| denied(&outcome.stderr, "fchmodat"));
    assert_eq!(chmod, Some(("1", "killed", own)), "{}", outcome.stderr);
    assert_eq!(denied(&outcome.stderr, "umount2").map(|(_, answer, _)| answer), Some("EOPNOTSUPP"));
    let chroot = format!("--cap-add NET_ADMIN, or {own}");
    assert_eq!(denied(&outcome.stderr, "chroot"), Some(("1", "EPERM", &*chroot)), "{}", outcome.stderr);
    // Not even execve(2) comes through, and it ends as it does where nobody asks why.
    let outcome = explain("nothing.json", r#"{"defaultAction": "SCMP_ACT_ERRNO"}"#, "true")?;
    let option = format!("seccomp={}", fixture.dir.join("nothing.json").display());
    let plain = fixture.rbox.run(["run", "--rm", "--security-opt", &option, &fixture.image, "true"]);
    assert_eq!(outcome.status, plain.status, "{}\n{}", outcome.stderr, plain.stderr);
    assert_eq!(denied(&outcome.stderr, "execve").map(|(_, answer, _)| answer), Some("EPERM"), "{}", outcome.stderr);
    Ok(())
}
