//! The three files in /etc that a container gets from rbox: hosts(5), hostname(5), resolv.conf(5).

use std::path::{Path, PathBuf};
use std::{fs, io};

/// The files, in the container's own directory, to be bound over the image's.
pub(crate) struct EtcFiles {
    /// Destination in the container, and the file on the host.
    pub(crate) binds: [(&'static str, PathBuf); 3],
}

impl EtcFiles {
    /// Where they will be in the container's directory.
    pub(crate) fn within(directory: &Path) -> Self {
        Self {
            binds: [
                ("/etc/hosts", directory.join("hosts")),
                ("/etc/hostname", directory.join("hostname")),
                ("/etc/resolv.conf", directory.join("resolv.conf")),
            ],
        }
    }

    /// Writes them.
    pub(crate) fn write(&self, hostname: &str, name: &str) -> io::Result<()> {
        let contents = [hosts(hostname, name), format!("{hostname}\n"), resolv_conf()];
        for ((_, path), content) in self.binds.iter().zip(contents) {
            fs::write(path, content)?;
        }
        Ok(())
    }
}

fn hosts(hostname: &str, name: &str) -> String {
    let own = if hostname == name { hostname.to_owned() } else { format!("{hostname} {name}") };
    format!("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.0.1\t{own}\n")
}

/// The host's resolvers, as they stand now.
fn resolv_conf() -> String {
    fs::read_to_string("/etc/resolv.conf").unwrap_or_default()
}
