//! What a child has used: wait4(2), getrusage(2).
#![allow(unsafe_code)]

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};

/// Waits for the child's end. Gives also the most memory, in KiB, that it or any one of the descendants that it
/// waited for had resident at a time.
pub fn wait_with_peak(mut child: Child) -> io::Result<(ExitStatus, u64)> {
    drop(child.stdin.take());
    let pid = libc::pid_t::try_from(child.id()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut status = 0;
    // SAFETY: a rusage of zeros is valid.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: both pointers are to whole objects. `child`, which is ours alone, has not been waited for, so the
        // number is still that child's; it is consumed here and nobody waits for it again.
        match unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut usage) } {
            -1 if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
            -1 => return Err(io::Error::last_os_error()),
            _ => return Ok((ExitStatus::from_raw(status), u64::try_from(usage.ru_maxrss).unwrap_or(0))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn the_peak_is_of_the_largest_process() -> io::Result<()> {
        // sort(1) holds a line, here of 40 MB, in one piece.
        let script = "head -c 40000000 /dev/zero | tr '\\0' x | sort >/dev/null; exit 3";
        let (status, peak) = wait_with_peak(Command::new("sh").args(["-c", script]).spawn()?)?;
        assert_eq!(status.code(), Some(3));
        assert!(peak > 40_000, "{peak} KiB");
        Ok(())
    }
}
