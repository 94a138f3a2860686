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
}

/// Waits until one of these is ready, or `limit` has passed; says of each whether it is.
pub fn wait<const N: usize>(fds: [(BorrowedFd<'_>, Interest); N], limit: Option<Duration>) -> io::Result<[bool; N]> {
    let limit =
        limit.map(|limit| Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: i64::from(limit.subsec_nanos()) });
    let mut polled = fds.each_ref().map(|(fd, interest)| {
        PollFd::from_borrowed_fd(
            *fd,
            match interest {
                Interest::None => PollFlags::empty(),
                Interest::Read => PollFlags::IN,
                Interest::Write => PollFlags::OUT,
            },
        )
    });
    loop {
        match rustix::event::poll(&mut polled, limit.as_ref()) {
            // Starting the wait anew makes it longer at worst by what it had waited.
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
            Ok(_) => break,
        }
    }
    let mut at = 0;
    Ok(fds.map(|(_, interest)| {
        let ready = interest != Interest::None && !polled[at].revents().is_empty();
        at += 1;
        ready
    }))
}
