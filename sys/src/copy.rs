//! A file's content into another file, sharing blocks where the file system can.

use std::fs::File;
use std::io::{self, Read, Write};

use rustix::io::Errno;

/// Copies all of `from` into the empty file `to`: by reference (ioctl_ficlone(2)), inside the kernel
/// (copy_file_range(2)), or through this process, whichever is the first that works here.
pub fn whole_file(from: &mut File, to: &mut File) -> io::Result<()> {
    if rustix::fs::ioctl_ficlone(&*to, &*from).is_ok() {
        return Ok(());
    }
    loop {
        match rustix::fs::copy_file_range(&*from, None, &*to, None, 1 << 30) {
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => {}
            // Across file systems or on one without it, and EPERM from seccomp filters that do not know the call.
            Err(Errno::XDEV | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::PERM) => break,
            Err(error) => return Err(error.into()),
        }
    }
    // Both offsets are where the kernel left off; mostly at the end already. Some file systems (/proc, FUSE before
    // Linux 5.19) answer 0 without having copied anything.
    let mut buffer = vec![0; 256 << 10];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => to.write_all(&buffer[..length])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Seek;

    #[test]
    fn copies_what_the_kernel_cannot() {
        let mut to = tempfile::tempfile().expect("a temporary file");
        let mut from = File::open("/proc/self/status").expect("procfs");
        whole_file(&mut from, &mut to).expect("copied");
        let mut text = String::new();
        to.rewind().expect("seek");
        to.read_to_string(&mut text).expect("read");
        assert!(text.starts_with("Name:"), "{text}");

        let mut back = tempfile::tempfile().expect("a temporary file");
        to.rewind().expect("seek");
        whole_file(&mut to, &mut back).expect("copied");
        assert_eq!(back.metadata().expect("stat").len(), text.len() as u64);
    }
}
