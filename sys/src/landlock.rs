//! Giving up access to files for good: landlock(7).
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};

use crate::errno;

/// `struct landlock_ruleset_attr`.
#[repr(C)]
struct Ruleset {
    access_fs: u64,
    access_net: u64,
    scoped: u64,
}

/// `struct landlock_path_beneath_attr`.
#[repr(C, packed)]
struct PathBeneath {
    access: u64,
    parent: i32,
}

const CREATE_RULESET_VERSION: u32 = 1;
const RULE_PATH_BENEATH: u32 = 1;
/// LANDLOCK_ACCESS_FS_READ_FILE and _READ_DIR.
const READ: u64 = 1 << 2 | 1 << 3;
/// LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET and _SIGNAL.
const SCOPES: u64 = 1 | 1 << 1;

/// Takes from this thread, and from what it starts, all access to files by their names but to read what is in these
/// directories, which need not be there. What is open stays so. With Linux 6.12 nobody outside can be signalled any more
/// either, or reached by an abstract socket of Unix. Needs no_new_privs.
///
/// Gives false where the kernel has no Landlock (Linux 5.13), or was started without.
pub fn read_only_beneath(directories: &[&Path]) -> io::Result<bool> {
    // SAFETY: without attributes this only asks for the version.
    let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, 0_usize, 0_usize, CREATE_RULESET_VERSION) };
    if version < 1 {
        return match io::Error::last_os_error() {
            error if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EOPNOTSUPP)) => Ok(false),
            error => Err(error),
        };
    }
    let ruleset =
        Ruleset { access_fs: known_accesses(version), access_net: 0, scoped: if version >= 6 { SCOPES } else { 0 } };
    // SAFETY: the kernel reads a ruleset of that size; a kernel that knows less of it takes zeros at the end.
    let number =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, &raw const ruleset, size_of::<Ruleset>(), 0_u32) };
    if number < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call made this descriptor, and nobody else has it.
    let rules = unsafe { OwnedFd::from_raw_fd(number as i32) };
    for directory in directories {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let Ok(opened) = rustix::fs::openat(CWD, *directory, flags, Mode::empty()) else { continue };
        let rule = PathBeneath { access: READ, parent: opened.as_raw_fd() };
        // SAFETY: the kernel reads a rule of this kind.
        errno::check(unsafe {
            libc::syscall(libc::SYS_landlock_add_rule, rules.as_raw_fd(), RULE_PATH_BENEATH, &raw const rule, 0_u32)
        })?;
    }
    // SAFETY: plain integers.
    errno::check(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, rules.as_raw_fd(), 0_u32) })?;
    Ok(true)
}

/// All that a kernel with this version of the interface can keep from files.
fn known_accesses(version: libc::c_long) -> u64 {
    let first = (1 << 13) - 1;
    // Renaming between directories, truncating, and ioctl(2) on devices.
    let later = [(2, 1 << 13), (3, 1 << 14), (5, 1 << 15)];
    later.into_iter().filter(|(since, _)| version >= *since).fold(first, |all, (_, access)| all | access)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::caps;

    #[test]
    fn what_is_not_allowed_is_out_of_reach() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let [inside, outside] = ["in", "out"].map(|name| directory.path().join(name));
        for directory in [&inside, &outside] {
            fs::create_dir(directory).expect("made");
            fs::write(directory.join("file"), "text").expect("written");
        }
        // In a thread of its own, which it ends with.
        let restricted = std::thread::spawn(move || {
            caps::set_no_new_privileges().expect("no_new_privs");
            let nowhere = Path::new("/nowhere");
            if !read_only_beneath(&[&inside, nowhere]).expect("restricted") {
                return;
            }
            assert_eq!(fs::read_to_string(inside.join("file")).expect("readable"), "text");
            for refused in [
                fs::read(outside.join("file")).map(drop),
                fs::write(inside.join("file"), "x"),
                fs::write(inside.join("new"), "x"),
                fs::remove_file(outside.join("file")),
            ] {
                assert_eq!(refused.expect_err("refused").kind(), io::ErrorKind::PermissionDenied);
            }
        });
        restricted.join().expect("no panic");
    }
}
