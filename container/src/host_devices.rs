//! The host's devices that a privileged container gets: as with rootless Podman, nodes that are there are bound, since a
//! user namespace makes none of its own.

use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::{fs, io};

use rbox_sys::node;

/// Directories of /dev that a container has its own of, or nothing to do with.
const DIRECTORIES: [&str; 6] = ["pts", "shm", "mqueue", "hugepages", ".lxc", ".lxd-mounts"];

/// Nodes that a container has anyway, of its own where they stand for a terminal.
const NODES: [&str; 9] = ["console", "full", "null", "ptmx", "random", "tty", "urandom", "zero", "core"];

/// Those nodes below `dev`, the host's /dev, that the caller may open, sorted. The virtual consoles are not among them: a
/// container is not to draw on its host's screen.
pub(crate) fn host_devices(dev: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = nodes_below(dev)?;
    found.retain(|path| {
        let name = path.file_name().unwrap_or_default();
        let own = path.parent() == Some(dev) && NODES.iter().any(|known| *known == name);
        !own && !is_virtual_console(&name.to_string_lossy()) && node::may_open(path)
    });
    Ok(found)
}

/// All device nodes below a directory, sorted; without those of directories that a container has its own of, where the
/// directory is /dev itself.
pub(crate) fn nodes_below(dev: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut directories = vec![dev.to_owned()];
    while let Some(directory) = directories.pop() {
        let entries = match fs::read_dir(&directory) {
            // One that the caller may not look into, or that is gone.
            Err(_) if directory != dev => continue,
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let (kind, path, name) = (entry.file_type()?, entry.path(), entry.file_name());
            if kind.is_dir() {
                let own = directory == Path::new("/dev") && DIRECTORIES.iter().any(|known| *known == name);
                if !own {
                    directories.push(path);
                }
            } else if kind.is_char_device() || kind.is_block_device() {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// tty0, tty1, …; and vcs, vcsa1, …, through which their screens are read.
fn is_virtual_console(name: &str) -> bool {
    let numbered = |name: &str, prefix| {
        name.strip_prefix(prefix).is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
    };
    name != "tty" && ["tty", "vcs", "vcsa", "vcsu"].into_iter().any(|prefix| numbered(name, prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_container_gets() {
        let found = host_devices(Path::new("/dev")).expect("/dev can be read");
        for path in &found {
            assert!(node::may_open(path), "{}", path.display());
            assert!(!path.starts_with("/dev/pts") && !path.starts_with("/dev/shm"), "{}", path.display());
        }
        for not in ["/dev/null", "/dev/tty", "/dev/tty0", "/dev/ptmx", "/dev/fd"] {
            assert!(!found.contains(&not.into()), "{not}");
        }
    }

    #[test]
    fn virtual_consoles() {
        for (name, is_one) in [("tty0", true), ("tty63", true), ("vcsa2", true), ("ttyS0", false), ("ttyUSB0", false)] {
            assert_eq!(is_virtual_console(name), is_one, "{name}");
        }
    }
}
