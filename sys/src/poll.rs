//! Waiting for several descriptors: poll(2).

use std::io;
use std::os::fd::BorrowedFd;

use rustix::event::{PollFd, PollFlags};

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

/// Waits until one of these is ready; says of each whether it is.
pub fn wait<const N: usize>(fds: [(BorrowedFd<'_>, Interest); N]) -> io::Result<[bool; N]> {
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
        match rustix::event::poll(&mut polled, None) {
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
