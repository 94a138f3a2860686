//! Who comes first at the disk: ioprio_set(2).
#![allow(unsafe_code)]

use std::io;

use crate::errno;

/// A class and a level in it, as the kernel writes both in one number (include/uapi/linux/ioprio.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Priority(u16);

/// What all levels of a class have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// First of all. Needs CAP_SYS_ADMIN or CAP_SYS_NICE.
    RealTime = 1,
    /// In turn, by level.
    BestEffort = 2,
    /// When nobody else wants the disk; has no levels.
    Idle = 3,
}

const CLASS_SHIFT: u16 = 13;
const WHO_PROCESS: libc::c_int = 1;

impl Priority {
    /// `level` is 0, the highest, to 7.
    pub const fn new(class: Class, level: u8) -> Self {
        Self((class as u16) << CLASS_SHIFT | level as u16)
    }

    /// As one number.
    pub const fn number(self) -> u16 {
        self.0
    }

    /// The one with this number.
    pub const fn from_number(number: u16) -> Self {
        Self(number)
    }
}

/// Sets that of the calling thread.
pub fn set(priority: Priority) -> io::Result<()> {
    // SAFETY: plain integers; 0 is the calling thread.
    errno::check(unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, libc::c_int::from(priority.0)) })
}

/// That of the calling thread.
pub fn get() -> io::Result<Priority> {
    // SAFETY: plain integers; 0 is the calling thread.
    match unsafe { libc::syscall(libc::SYS_ioprio_get, WHO_PROCESS, 0) } {
        -1 => Err(io::Error::last_os_error()),
        number => Ok(Priority(number as u16)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_this_thread() {
        set(Priority::new(Class::BestEffort, 6)).expect("ioprio_set");
        assert_eq!(get().expect("ioprio_get"), Priority::new(Class::BestEffort, 6));
    }
}
