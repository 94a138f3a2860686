//! The three files in /etc that a container gets from rbox: hosts(5), hostname(5), resolv.conf(5).

use std::path::PathBuf;

/// The files: where they are in the container, and what is in them.
pub(crate) fn etc_files(hostname: &str, name: &str) -> Vec<(PathBuf, String)> {
    vec![
        ("/etc/hosts".into(), hosts(hostname, name)),
        ("/etc/hostname".into(), format!("{hostname}\n")),
        ("/etc/resolv.conf".into(), RESOLV_CONF.to_owned()),
    ]
}

fn hosts(hostname: &str, name: &str) -> String {
    let own = if hostname == name { hostname.to_owned() } else { format!("{hostname} {name}") };
    format!("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.0.1\t{own}\n")
}

/// A container without a network has no resolver. glibc then asks the container itself and is refused at once; musl does
/// not hear of the refusal, and waits for an answer twice five seconds unless it is told not to.
const RESOLV_CONF: &str = "# no nameserver: this container has no network\noptions timeout:1 attempts:1\n";
