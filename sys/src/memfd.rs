//! Anonymous files: memfd_create(2).

use std::fs::File;
use std::io::{self, Seek, Write};

use rustix::fs::MemfdFlags;

/// An anonymous file that holds `content`, to be read from its start, closed by execve(2).
pub fn of(name: &str, content: &[u8]) -> io::Result<File> {
    let mut file = File::from(rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC)?);
    file.write_all(content)?;
    file.rewind()?;
    Ok(file)
}
