//! What a system call's result says: errno(3).

use std::io;

/// For calls that give 0, or have set errno.
pub(crate) fn check<T: PartialEq + Default>(result: T) -> io::Result<()> {
    if result == T::default() { Ok(()) } else { Err(io::Error::last_os_error()) }
}
