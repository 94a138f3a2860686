//! The three files in /etc that a container gets from rbox: hosts(5), hostname(5), resolv.conf(5).

use std::fs;
use std::path::PathBuf;

/// The files: where they are in the container, and what is in them.
pub(crate) fn etc_files(hostname: &str, name: &str) -> Vec<(PathBuf, String)> {
    vec![
        ("/etc/hosts".into(), hosts(hostname, name)),
        ("/etc/hostname".into(), format!("{hostname}\n")),
        ("/etc/resolv.conf".into(), resolv_conf()),
    ]
}

fn hosts(hostname: &str, name: &str) -> String {
    let own = if hostname == name { hostname.to_owned() } else { format!("{hostname} {name}") };
    format!("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.0.1\t{own}\n")
}

/// The host's resolvers, as they stand now.
fn resolv_conf() -> String {
    fs::read_to_string("/etc/resolv.conf").unwrap_or_default()
}
