//! Waiting for several descriptors: poll(2).

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::time::Timespec;

/// What to wait for on a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// Nothing; its place in the answer stays, always false.
    None,
    /// Something to read, or the other end closed.
    Read,
    /// Room to write, or the other end closed.
    Write,
    /// A change of what was read last, of a file that tells of such (`cgroup.events`).
    Change,
}

/// Waits until one of these is ready, or `limit` has passed; says of each whether it is.
pub fn wait<const N: usize>(fds: [(BorrowedFd<'_>, Interest); N], limit: Option<Duration>) -> io::Result<[bool; N]> {
    let mut ready = wait_all(&fds, limit)?.into_iter();
    Ok(fds.map(|_| ready.next().unwrap_or(false)))
}

/// As [`wait`], where how many they are is known only now.
pub fn wait_all(fds: &[(BorrowedFd<'_>, Interest)], limit: Option<Duration>) -> io::Result<Vec<bool>> {
    let limit =
        limit.map(|limit| Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: i64::from(limit.subsec_nanos()) });
    // One of which nothing is wanted is left out: poll(2) would still return for its other end's being closed.
    let mut polled: Vec<PollFd<'_>> = fds.iter().filter_map(|(fd, interest)| poll_fd(*fd, *interest)).collect();
    loop {
        match rustix::event::poll(&mut polled, limit.as_ref()) {
            // Starting the wait anew makes it longer at worst by what it had waited.
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
            Ok(_) => break,
        }
    }
    let mut answers = polled.iter().map(|fd| !fd.revents().is_empty());
    Ok(fds.iter().map(|(_, interest)| *interest != Interest::None && answers.next().unwrap_or(false)).collect())
}

fn poll_fd(fd: BorrowedFd<'_>, interest: Interest) -> Option<PollFd<'_>> {
    match interest {
        Interest::None => None,
        Interest::Read => Some(PollFd::from_borrowed_fd(fd, PollFlags::IN)),
        Interest::Write => Some(PollFd::from_borrowed_fd(fd, PollFlags::OUT)),
        Interest::Change => Some(PollFd::from_borrowed_fd(fd, PollFlags::PRI)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn what_nothing_is_wanted_of_does_not_end_the_wait() -> io::Result<()> {
        let (reading, writing) = io::pipe()?;
        let (closed, other) = io::pipe()?;
        drop(other);
        let none = (closed.as_fd(), Interest::None);
        let short = Some(Duration::from_millis(10));
        assert_eq!(wait([none, (reading.as_fd(), Interest::Read)], short)?, [false, false]);
        assert_eq!(wait([none, (writing.as_fd(), Interest::Write)], None)?, [false, true]);
        // Where nothing at all is waited for, only the time ends it.
        let began = std::time::Instant::now();
        wait([none], short)?;
        assert!(began.elapsed() >= Duration::from_millis(10), "it returned for the closed pipe");
        Ok(())
    }
}
