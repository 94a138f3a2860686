//! What a person can say about security: each flag, as the workload sees it.

use std::path::Path;

use anyhow::Result;
use rbox_tests::rbox::Rbox;

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

    #[track_caller]
    fn sh(&self, flags: &[&str], script: &str) -> String {
        self.rbox.sh(&self.image, flags, script)
    }

    /// The field of the workload's /proc/self/status.
    #[track_caller]
    fn status(&self, flags: &[&str], field: &str) -> String {
        let said = self.sh(flags, &format!("grep '^{field}:' /proc/self/status"));
        said.split_whitespace().nth(1).unwrap_or_default().to_owned()
    }

    /// A set of capabilities of the workload's.
    #[track_caller]
    fn set(&self, flags: &[&str], field: &str) -> u64 {
        u64::from_str_radix(&self.status(flags, field), 16).expect("a hexadecimal number")
    }

    /// Whether the workload can do this.
    #[track_caller]
    fn can(&self, flags: &[&str], script: &str) -> bool {
        self.sh(flags, &format!("if ({script}) >/dev/null 2>&1; then echo yes; else echo no; fi")) == "yes"
    }

    /// Where something is mounted, and with which options.
    #[track_caller]
    fn mounts(&self, flags: &[&str]) -> Vec<(String, String)> {
        let said = self.sh(flags, "cut -d' ' -f5,6 /proc/self/mountinfo");
        said.lines().filter_map(|line| line.split_once(' ')).map(|(at, how)| (at.into(), how.into())).collect()
    }

    /// Whether the last thing mounted there is read-only; none where nothing is.
    #[track_caller]
    fn is_read_only(&self, flags: &[&str], path: &str) -> Option<bool> {
        let mounts = self.mounts(flags);
        let (_, options) = mounts.iter().rev().find(|(at, _)| at == path)?;
        Some(options.split(',').any(|option| option == "ro"))
    }

    fn refused(&self, flags: &[&str], words: &[&str]) {
        let arguments = [&["run", "--rm"], flags, &[&self.image, "true"]].concat();
        self.rbox.run(arguments).refused(words);
    }
}

/// What Docker gives.
const DEFAULT: u64 = 0xa804_25fb;
const CHOWN: u64 = 1;
const NET_ADMIN: u64 = 1 << 12;
const SYS_CHROOT: u64 = 1 << 18;
const SYS_ADMIN: u64 = 1 << 21;
const SYS_TIME: u64 = 1 << 25;

/// Each capability that the kernel has.
fn all() -> u64 {
    let last = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap").expect("procfs");
    u64::MAX >> (63 - last.trim().parse::<u32>().expect("a number").min(40))
}

#[test]
fn capabilities_are_added_and_dropped() -> Result<()> {
    let fixture = Fixture::new()?;
    for (flags, expected) in [
        (&[][..], DEFAULT),
        (&["--cap-add", "NET_ADMIN", "--cap-add=cap_sys_time"], DEFAULT | NET_ADMIN | SYS_TIME),
        (&["--cap-add", "net_admin,CAP_SYS_TIME"], DEFAULT | NET_ADMIN | SYS_TIME),
        (&["--cap-drop", "Sys_Chroot", "--cap-drop", "SYS_ADMIN"], DEFAULT & !SYS_CHROOT),
        (&["--cap-drop", "ALL"], 0),
        (&["--cap-drop=all", "--cap-add", "CHOWN"], CHOWN),
        (&["--cap-add=ALL", "--cap-drop=SYS_ADMIN"], all() & !SYS_ADMIN),
    ] {
        for set in ["CapBnd", "CapEff", "CapPrm"] {
            assert_eq!(fixture.set(flags, set), expected, "{set} with {flags:?}");
        }
        assert_eq!(fixture.set(flags, "CapAmb"), 0, "{flags:?}");
    }
    Ok(())
}

/// As with Podman: what is asked for by name is in force whoever the workload runs as.
#[test]
fn capabilities_of_who_is_not_root() -> Result<()> {
    let fixture = Fixture::new()?;
    for (flags, bounding, effective) in [
        (&["-u", "1000"][..], DEFAULT, 0),
        (&["-u", "1000", "--cap-add", "NET_ADMIN"], DEFAULT | NET_ADMIN, NET_ADMIN),
        (&["-u", "1000:5", "--cap-drop", "ALL", "--cap-add", "CHOWN"], CHOWN, CHOWN),
        (&["-u", "1000", "--privileged"], all(), 0),
        (&["-u", "0:0", "--cap-add", "NET_ADMIN"], DEFAULT | NET_ADMIN, DEFAULT | NET_ADMIN),
    ] {
        assert_eq!(fixture.set(flags, "CapBnd"), bounding, "{flags:?}");
        assert_eq!(fixture.set(flags, "CapEff"), effective, "{flags:?}");
    }
    Ok(())
}

#[test]
fn the_default_filter_follows_the_capabilities() -> Result<()> {
    let fixture = Fixture::new()?;
    let (mount, chroot) = ("mkdir /x && mount -t tmpfs none /x", "chroot / true");
    assert!(!fixture.can(&[], mount) && fixture.can(&[], chroot));
    assert!(fixture.can(&["--cap-add", "SYS_ADMIN"], mount), "the filter and the kernel let it");
    assert_eq!(fixture.status(&["--cap-add", "SYS_ADMIN"], "Seccomp"), "2");
    // The filter alone is not enough, and neither is the capability alone.
    assert!(!fixture.can(&["--security-opt", "seccomp=unconfined"], mount));
    assert!(!fixture.can(&["--cap-drop", "SYS_CHROOT"], chroot));
    // A capability is one over the container: the host's clock is not its.
    let said = fixture.sh(&["--cap-add", "ALL"], "date -s 2001-01-01 2>&1");
    assert!(said.contains("not permitted"), "{said}");
    Ok(())
}

#[test]
fn what_no_capability_is() -> Result<()> {
    let fixture = Fixture::new()?;
    fixture.refused(&["--cap-add", "NET_ADMINISTRATOR"], &["--cap-add", "NET_ADMINISTRATOR"]);
    fixture.refused(&["--cap-drop", "CAP_NOTHING"], &["--cap-drop", "CAP_NOTHING"]);
    fixture.refused(&["--cap-add", "KILL", "--cap-drop", "cap_kill"], &["KILL", "both added and dropped"]);
    fixture.refused(&["--cap-add", "ALL", "--cap-drop", "ALL"], &["ALL", "both added and dropped"]);
    Ok(())
}

#[test]
fn paths_are_masked() -> Result<()> {
    let fixture = Fixture::new()?;
    let mask = ["--security-opt", "mask=/etc/passwd:/etc", "--security-opt", "mask=/no/such/path"];
    assert!(fixture.can(&[], "test -s /etc/passwd"));
    assert_eq!(fixture.sh(&mask, "ls -A /etc; touch /etc/x 2>/dev/null || echo read-only"), "read-only");
    let mask = ["--security-opt", "mask:/etc/passwd"];
    assert_eq!(fixture.sh(&mask, "wc -c < /etc/passwd; test -c /etc/passwd && ls -A / | grep -c etc"), "0\n1");
    Ok(())
}

#[test]
fn paths_are_unmasked() -> Result<()> {
    let fixture = Fixture::new()?;
    let is_covered = |flags: &[&str], path: &str| fixture.is_read_only(flags, path).is_some();
    assert!(is_covered(&[], "/proc/interrupts") && is_covered(&[], "/proc/sys") && is_covered(&[], "/proc/keys"));
    let one = ["--security-opt", "unmask=/proc/interrupts:/proc/s*"];
    assert!(!is_covered(&one, "/proc/interrupts") && !is_covered(&one, "/proc/sys"));
    assert!(is_covered(&one, "/proc/keys") && is_covered(&one, "/proc/bus"));
    assert!(fixture.can(&one, "grep -q . /proc/interrupts") && !fixture.can(&[], "grep -q . /proc/interrupts"));
    assert_eq!(fixture.is_read_only(&one, "/sys/fs/cgroup"), Some(true));
    for all in ["unmask=ALL", "systempaths=unconfined"] {
        let flags = ["--security-opt", all];
        for path in ["/proc/interrupts", "/proc/keys", "/proc/sys", "/proc/bus", "/sys/firmware"] {
            assert!(!is_covered(&flags, path), "{all}: {path}");
        }
        assert_eq!(fixture.is_read_only(&flags, "/sys/fs/cgroup"), Some(false), "{all}");
        assert_eq!(fixture.is_read_only(&flags, "/sys"), Some(true), "{all}");
    }
    let both = ["--security-opt", "unmask=ALL", "--security-opt", "mask=/proc/version"];
    assert_eq!(fixture.sh(&both, "cat /proc/version"), "");
    Ok(())
}

#[test]
fn privileged_is_all_that_the_user_has() -> Result<()> {
    let fixture = Fixture::new()?;
    let flags = ["--privileged"];
    assert_eq!(fixture.set(&flags, "CapEff"), all());
    assert_eq!(fixture.status(&flags, "Seccomp"), "0");
    assert_eq!(fixture.is_read_only(&flags, "/sys"), Some(false));
    assert_eq!(fixture.is_read_only(&flags, "/sys/fs/cgroup"), Some(false));
    let mounts = fixture.mounts(&flags);
    let covered = mounts.iter().filter(|(at, _)| at.starts_with("/proc/") || at.starts_with("/sys/firmware"));
    assert_eq!(covered.collect::<Vec<_>>(), Vec::<&(String, String)>::new());
    assert!(fixture.can(&flags, "mkdir /x && mount -t tmpfs none /x && umount /x"));
    // What narrows it still does.
    assert_eq!(fixture.set(&["--privileged", "--cap-drop", "SYS_ADMIN"], "CapEff"), all() & !SYS_ADMIN);
    assert_eq!(fixture.status(&["--privileged", "--security-opt", "seccomp=builtin"], "Seccomp"), "2");
    assert_eq!(fixture.sh(&["--privileged", "--security-opt", "mask=/proc/version"], "cat /proc/version"), "");
    Ok(())
}

#[test]
fn privileged_has_the_devices_that_the_user_may_open() -> Result<()> {
    let fixture = Fixture::new()?;
    let nodes = |flags: &[&str]| fixture.sh(flags, "find /dev -type c -o -type b | sort");
    // By owner and mode; to open it could be to set something going.
    let host = |path: &str| {
        let mut test = std::process::Command::new("test");
        test.args(["-r", path, "-o", "-w", path]).status().is_ok_and(|status| status.success())
    };
    let privileged = nodes(&["--privileged"]);
    let has = |nodes: &str, path: &str| nodes.lines().any(|line| line == path);
    for device in ["/dev/fuse", "/dev/net/tun", "/dev/kmsg", "/dev/kvm", "/dev/btrfs-control", "/dev/loop0"] {
        assert_eq!(has(&privileged, device), host(device), "{device}");
        assert!(!has(&nodes(&[]), device), "{device}");
    }
    assert!(host("/dev/fuse"), "this test needs a device to see");
    assert!(fixture.can(&["--privileged"], ": 3<>/dev/fuse"), "it can be opened");
    // No terminal of the host's, and the usual ones are there once.
    assert!(!privileged.contains("/dev/tty0") && has(&privileged, "/dev/tty") && has(&privileged, "/dev/null"));
    Ok(())
}

#[test]
fn labels_need_their_module() -> Result<()> {
    let fixture = Fixture::new()?;
    for fine in ["apparmor=unconfined", "apparmor:unconfined", "label=disable", "label:disable"] {
        assert_eq!(fixture.sh(&["--security-opt", fine], "echo fine"), "fine", "{fine}");
    }
    let is_on = |path| std::fs::read_to_string(path).is_ok_and(|text: String| text.starts_with('Y'));
    if !is_on("/sys/module/apparmor/parameters/enabled") {
        fixture.refused(&["--security-opt", "apparmor=web"], &["AppArmor is not enabled on this host"]);
    }
    if !Path::new("/sys/fs/selinux").exists() {
        for option in ["type:spc_t", "level:s0:c1,c2", "user:me_u", "role:me_r"] {
            let option = format!("label={option}");
            fixture.refused(&["--security-opt", &option], &["SELinux is not enabled on this host"]);
        }
    }
    Ok(())
}

#[test]
fn other_options_are_refused_by_name() -> Result<()> {
    let fixture = Fixture::new()?;
    for (option, named) in [
        ("proc-opts=hidepid=2", "proc-opts"),
        ("writable-cgroups=true", "writable-cgroups"),
        ("label=colour:red", "colour"),
        ("mask=relative", "relative"),
        ("unmask=/proc/[", "/proc/["),
        ("systempaths=confined", "systempaths"),
        ("apparmor", "apparmor"),
    ] {
        fixture.refused(&["--security-opt", option], &["--security-opt", named]);
    }
    Ok(())
}
