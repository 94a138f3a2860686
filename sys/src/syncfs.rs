//! One barrier for a whole file system (syncfs(2)).

use std::{io, os::fd::AsFd};

/// Waits until everything written so far to the file system of `file` is on its disk.
///
/// A write that failed earlier is reported since Linux 5.8.
pub fn syncfs(file: impl AsFd) -> io::Result<()> {
    Ok(rustix::fs::syncfs(file)?)
}
