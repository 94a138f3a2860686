//! `cargo xtask setup`: installs the programs that are missing, and nothing else.
//!
//! What would start a service, or serves a virtual machine, is not installed: it is unpacked below `target/`
//! ([`rbox_tests::packages`]).
//!
//! What is needed is named by program, not by package: a program that came from elsewhere, or in a newer version than
//! the archive's, will do, and is left as it is.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use rbox_tests::command::{self, output, run};
use rbox_tests::{containerd, debian_vm, overlay, registry, servers, vm};

use crate::admin::Admin;

/// A program, or the path of a file, and the Debian and Ubuntu package that has it.
type Need = (&'static str, &'static str);

/// What rbox itself calls.
pub(crate) const TO_RUN: &[Need] = &[("newuidmap", "uidmap")];

/// What makes the Alpine fixture and offers it on loopback.
pub(crate) const FOR_ALPINE: &[Need] = &[
    ("qemu-img", "qemu-utils"),
    ("debugfs", "e2fsprogs"),
    ("python3", "python3"),
    // The module `pip`, which has no program of a reliable name.
    ("python3 -m pip", "python3-pip"),
    ("setpriv", "util-linux"),
    ("tar", "tar"),
];

/// What the tests need besides.
const FOR_TESTS: &[Need] = &[
    ("bwrap", "bubblewrap"),
    ("cc", "gcc"),
    ("curl", "curl"),
    ("dig", "bind9-dnsutils"),
    ("git", "git"),
    ("ip", "iproute2"),
    ("iperf3", "iperf3"),
    ("mmdebstrap", "mmdebstrap"),
    ("openssl", "openssl"),
    ("ping", "iputils-ping"),
    ("readelf", "binutils"),
    ("skopeo", "skopeo"),
    ("ssh", "openssh-client"),
    ("umoci", "umoci"),
    ("zstd", "zstd"),
    // For tests alone, which compare filters with libseccomp's.
    ("/usr/include/seccomp.h", "libseccomp-dev"),
];

/// What tries networks, and what they are compared with.
pub(crate) const FOR_NETWORKS: &[Need] = &[
    ("ip", "iproute2"),
    ("iperf3", "iperf3"),
    ("pasta", "passt"),
    ("ping", "iputils-ping"),
    ("slirp4netns", "slirp4netns"),
];

/// What the benchmarks compare with.
const FOR_BENCHMARKS: &[Need] = &[("crun", "crun"), ("igzip", "isal")];

/// What the long tests need besides: the engines that rbox is the runtime of, and whose service manager it asks.
const FOR_LONG_TESTS: &[Need] = &[
    // Keeps the namespaces of a user's Podman.
    ("catatonit", "catatonit"),
    ("dbus-daemon", "dbus-daemon"),
    ("podman", "podman"),
    ("/lib/systemd/systemd", "systemd"),
];

/// Installs all that is missing for tests and benchmarks.
pub(crate) fn all() -> Result<()> {
    install(&[TO_RUN, FOR_ALPINE, FOR_TESTS, FOR_BENCHMARKS].concat())?;
    unpack(registry::program)?;
    unpack(servers::set_up)?;
    open_devices()
}

/// Installs what is missing for the long tests too.
pub(crate) fn all_and_long() -> Result<()> {
    all()?;
    install(&[FOR_LONG_TESTS, FOR_NETWORKS].concat())?;
    unpack(containerd::programs)?;
    unpack(overlay::peer)?;
    unpack(vm::set_up)?;
    machines()
}

/// Makes what virtual machines with systemd are run from.
pub(crate) fn machines() -> Result<()> {
    unpack(debian_vm::set_up)
}

/// Has a package unpacked that may be there already; apt may not have looked at the archive for too long to find it there.
fn unpack<T>(unpack: impl Fn() -> Result<T>) -> Result<()> {
    let Err(error) = unpack() else { return Ok(()) };
    let Some(mut update) = Admin::find().command("apt-get") else { return Err(error) };
    run(update.args(["-qq", "update"]))?;
    unpack().map(drop)
}

/// Installs what is missing of `needs`. Where all is there, nothing is asked of the network.
pub(crate) fn install(needs: &[Need]) -> Result<()> {
    let missing: Vec<&str> =
        needs.iter().filter(|(program, _)| !is_there(program)).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if !command::exists("apt-get") {
        bail!("missing, and there is no apt-get to install it with; these Debian packages have it: {list}");
    }
    let admin = Admin::find();
    let apt = |arguments: &[&str]| -> Result<Command> {
        let env = admin.command("env");
        let mut env = env.with_context(|| format!("missing; as root, run: apt-get install {list}"))?;
        env.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq", "-o=Dpkg::Use-Pty=0"]).args(arguments);
        Ok(env)
    };
    eprintln!("Installing {list}");
    // What is there already may be of another origin, and clash with what the archive has: it stays.
    const INSTALL: [&str; 4] = ["install", "-y", "--no-install-recommends", "--no-remove"];
    let install = [&INSTALL, &missing[..]].concat();
    // The lists of packages may be there and fresh enough; to update them takes longer than most installs.
    if !output(&mut apt(&install)?)?.status.success() {
        run(&mut apt(&["update"])?)?;
        if let Err(error) = run(&mut apt(&install)?) {
            // One package that clashes with what is installed must not keep the others out.
            for package in &missing {
                let _ = run(&mut apt(&[&INSTALL, &[*package][..]].concat())?);
            }
            if needs.iter().any(|(program, _)| !is_there(program)) {
                return Err(error);
            }
        }
    }
    match needs.iter().find(|(program, _)| !is_there(program)) {
        Some((program, package)) => bail!("the package {package} is installed, and yet there is no {program}"),
        None => Ok(()),
    }
}

fn is_there(program: &str) -> bool {
    if program.starts_with('/') {
        return Path::new(program).exists();
    }
    match program.split_once(' ') {
        Some((program, arguments)) => {
            let probe = output(Command::new(program).args(arguments.split(' ')).arg("--version"));
            probe.is_ok_and(|output| output.status.success())
        }
        None => command::exists(program),
    }
}

/// Opens /dev/fuse and /dev/net/tun to everyone, as udev does on every distribution; a machine without udev has not.
fn open_devices() -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    for device in ["/dev/fuse", "/dev/net/tun"] {
        let Ok(found) = std::fs::metadata(device) else { continue };
        if found.permissions().mode() & 0o666 == 0o666 {
            continue;
        }
        match Admin::find().command("chmod") {
            Some(mut chmod) => {
                eprintln!("Opening {device} to all users");
                run(chmod.arg("0666").arg(Path::new(device)))?;
            }
            None => eprintln!("note: {device} is not open to all users; as root, run: chmod 0666 {device}"),
        }
    }
    Ok(())
}
