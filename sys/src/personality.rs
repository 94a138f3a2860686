//! How a process sees the machine: personality(2).
#![allow(unsafe_code)]

use std::io;

/// What uname(2) calls the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Personality {
    /// As it is.
    Linux,
    /// As the 32-bit one of the same family.
    Linux32,
}

/// Sets that of this process and of what it executes.
pub fn set(personality: Personality) -> io::Result<()> {
    // PER_LINUX and PER_LINUX32 (include/uapi/linux/personality.h).
    let persona: libc::c_ulong = match personality {
        Personality::Linux => 0,
        Personality::Linux32 => 8,
    };
    // SAFETY: a plain integer.
    match unsafe { libc::personality(persona) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
