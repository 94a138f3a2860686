//! Extended attributes of open files and directories: xattr(7).

use std::ffi::CString;
use std::io;
use std::os::fd::BorrowedFd;

use rustix::fs::XattrFlags;
use rustix::io::Errno;

/// The longest value that the kernel takes (XATTR_SIZE_MAX).
pub const MAX_VALUE: usize = 65536;

/// Sets one, made or replaced.
pub fn set(fd: BorrowedFd<'_>, name: &[u8], value: &[u8]) -> io::Result<()> {
    Ok(rustix::fs::fsetxattr(fd, name, value, XattrFlags::empty())?)
}

/// The value of one, or `None` where it is not set or the file system has none.
pub fn get(fd: BorrowedFd<'_>, name: &[u8]) -> io::Result<Option<Vec<u8>>> {
    loop {
        let length = match rustix::fs::fgetxattr(fd, name, &mut [0_u8; 0][..]) {
            Err(Errno::NODATA | Errno::OPNOTSUPP) => return Ok(None),
            other => other?,
        };
        let mut value = vec![0; length];
        match rustix::fs::fgetxattr(fd, name, &mut value[..]) {
            // It grew in between.
            Err(Errno::RANGE) => {}
            Err(Errno::NODATA) => return Ok(None),
            other => {
                value.truncate(other?);
                return Ok(Some(value));
            }
        }
    }
}

/// The names of all that are set; none where the file system has no extended attributes.
pub fn list(fd: BorrowedFd<'_>) -> io::Result<Vec<CString>> {
    loop {
        let length = match rustix::fs::flistxattr(fd, &mut [0_u8; 0][..]) {
            Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
            other => other?,
        };
        let mut names = vec![0; length];
        match rustix::fs::flistxattr(fd, &mut names[..]) {
            Err(Errno::RANGE) => {}
            other => {
                names.truncate(other?);
                return Ok(names
                    .split(|byte| *byte == 0)
                    .filter(|name| !name.is_empty())
                    .filter_map(|name| CString::new(name).ok())
                    .collect());
            }
        }
    }
}
