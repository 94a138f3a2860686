//! Anonymous files: memfd_create(2).

use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, SealFlags};

/// An anonymous file that holds `content`, to be read from its start, closed by execve(2).
pub fn of(name: &str, content: &[u8]) -> io::Result<File> {
    filled(name, content, MemfdFlags::CLOEXEC)
}

/// The same, and nobody can change it any more.
pub fn sealed(name: &str, content: &[u8]) -> io::Result<OwnedFd> {
    let file = filled(name, content, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    rustix::fs::fcntl_add_seals(&file, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)?;
    Ok(file.into())
}

fn filled(name: &str, content: &[u8], flags: MemfdFlags) -> io::Result<File> {
    let mut file = File::from(rustix::fs::memfd_create(name, flags)?);
    file.write_all(content)?;
    file.rewind()?;
    Ok(file)
}
