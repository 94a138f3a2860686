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
        let length = match rustix::fs::fgetxattr_query(fd, name) {
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
        let length = match rustix::fs::flistxattr_query(fd) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn set_get_list() {
        let file = tempfile::tempfile().expect("a temporary file");
        let fd = file.as_fd();
        assert_eq!(get(fd, b"user.none").expect("getxattr"), None);
        set(fd, b"user.a", b"1\n2\0").expect("setxattr");
        set(fd, b"user.empty", b"").expect("setxattr");
        assert_eq!(get(fd, b"user.a").expect("getxattr").as_deref(), Some(&b"1\n2\0"[..]));
        assert_eq!(get(fd, b"user.empty").expect("getxattr").as_deref(), Some(&b""[..]));
        let mut names = list(fd).expect("listxattr");
        names.retain(|name| name.to_bytes().starts_with(b"user."));
        names.sort();
        assert_eq!(names, [c"user.a".to_owned(), c"user.empty".to_owned()]);
    }
}
