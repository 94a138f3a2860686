//! Keyrings: session-keyring(7), keyctl(2).
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io;

use crate::errno;

/// Whom a keyring lets look for it by its name, besides those who have it in their session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Search {
    /// Processes of its owner.
    Owner,
    /// All processes that see its name.
    Everybody,
}

/// Begins a session keyring of this thread's own, or goes on with the one called `name` in this user namespace, and
/// lets more processes find it.
///
/// ENOSYS: the kernel has no keyrings.
pub fn join_session(name: Option<&CStr>, search: Search) -> io::Result<()> {
    let name = name.map_or(std::ptr::null(), CStr::as_ptr);
    // SAFETY: `name` is null or a C string.
    if unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, name) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let description = describe_session()?;
    let permissions = description.split(';').nth(3).and_then(|field| u32::from_str_radix(field, 16).ok());
    let permissions = permissions.ok_or(io::ErrorKind::InvalidData)?;
    // KEY_USR_SEARCH and KEY_OTH_SEARCH (include/linux/key.h).
    let more = match search {
        Search::Owner => 0x0008_0000,
        Search::Everybody => 0x0000_0008,
    };
    if permissions & more == more {
        // One that was there, perhaps another user's, who alone may change them.
        return Ok(());
    }
    let session = libc::KEY_SPEC_SESSION_KEYRING;
    // SAFETY: plain integers.
    errno::check(unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_SETPERM, session, permissions | more) })
}

/// The name of this thread's session keyring.
pub fn session_name() -> io::Result<String> {
    Ok(describe_session()?.rsplit(';').next().unwrap_or_default().to_owned())
}

/// "type;uid;gid;permissions in hexadecimal;name" (keyctl_describe(3)).
fn describe_session() -> io::Result<String> {
    let mut description = [0_u8; 512];
    // SAFETY: the kernel writes no more than the length that it is told.
    let length = unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            libc::KEYCTL_DESCRIBE,
            libc::KEY_SPEC_SESSION_KEYRING,
            description.as_mut_ptr(),
            description.len(),
        )
    };
    if length < 0 {
        return Err(io::Error::last_os_error());
    }
    let description = String::from_utf8_lossy(&description);
    Ok(description.trim_end_matches('\0').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_of_its_own() {
        // Of this test's thread alone.
        match join_session(Some(c"rbox-test"), Search::Owner) {
            Err(error) if matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied) => {}
            result => {
                result.expect("keyctl");
                assert_eq!(session_name().expect("keyctl"), "rbox-test");
            }
        }
    }
}
