//! Where things are on this machine, and who is running.

use std::env;
use std::net::{IpAddr, UdpSocket};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The root of the source tree. `RBOX_SOURCE` names it where it is not the place this was compiled in.
pub fn source_root() -> PathBuf {
    let built_in = || Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is below the root").to_owned();
    env::var_os("RBOX_SOURCE").map_or_else(built_in, PathBuf::from)
}

/// Cargo's target directory.
pub fn target_dir() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| source_root().join("target"), |dir| source_root().join(dir))
}

/// The binary under test: `RBOX_BIN`, or what `cargo xtask build` leaves.
pub fn rbox_binary() -> PathBuf {
    let path = env::var_os("RBOX_BIN").map_or_else(|| target_dir().join("rbox"), PathBuf::from);
    assert!(path.is_file(), "there is no binary at {}; build it with: cargo xtask build", path.display());
    path
}

/// Where tests make their temporary directories: `RBOX_TEST_TMP`, or the system's.
pub fn scratch_base() -> PathBuf {
    env::var_os("RBOX_TEST_TMP").map_or_else(env::temp_dir, PathBuf::from)
}

/// The address that this host sends from.
pub fn address() -> Result<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect("198.51.100.1:9").context("this host has no way out by IPv4")?;
    Ok(socket.local_addr()?.ip())
}

/// This process's effective user id.
pub fn uid() -> u32 {
    std::fs::metadata("/proc/self").expect("/proc is mounted").uid()
}

/// This process's effective group id.
pub fn gid() -> u32 {
    std::fs::metadata("/proc/self").expect("/proc is mounted").gid()
}

/// The cgroup below which this process's user may make others: `RBOX_TEST_CGROUP`, or root's.
pub fn cgroup() -> PathBuf {
    env::var_os("RBOX_TEST_CGROUP").map_or_else(|| "/sys/fs/cgroup".into(), PathBuf::from)
}

/// The login name of this process's user.
pub fn user_name() -> String {
    let passwd = std::fs::read_to_string("/etc/passwd").expect("/etc/passwd is readable");
    let uid = uid().to_string();
    let line = passwd.lines().find(|line| line.split(':').nth(2) == Some(&uid));
    line.and_then(|line| line.split(':').next()).unwrap_or(&uid).to_owned()
}

/// Whether /etc/subuid and /etc/subgid both give this user a range.
pub fn has_subordinate_ids() -> bool {
    let (name, uid) = (user_name(), uid().to_string());
    ["/etc/subuid", "/etc/subgid"].iter().all(|file| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        text.lines().any(|line| line.split(':').next().is_some_and(|who| who == name || who == uid))
    })
}
