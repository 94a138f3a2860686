//! Waiting for very many descriptors: epoll(7).

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::time::Timespec;

/// The descriptors, each with a number of its owner's choice.
pub struct Epoll {
    fd: OwnedFd,
    events: Vec<Event>,
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watch {
    /// Told for as long as there is something to read.
    Readable,
    /// Told once each time that something new can be read, that there is room to write again, or that the other end is
    /// closed (EPOLLET).
    Changes,
}

/// What is the case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ready {
    /// The number that was given with the descriptor.
    pub token: u64,
    /// There is something to read, or an end or an error that a read tells of.
    pub readable: bool,
    /// There is room to write, or an error that a write tells of.
    pub writable: bool,
    /// The other end is closed, or there is an error: what is read once all is read tells of it.
    pub ended: bool,
}

impl Epoll {
    /// For at most this many at a time; closed by execve(2).
    pub fn new(at_a_time: usize) -> io::Result<Self> {
        Ok(Self { fd: epoll::create(CreateFlags::CLOEXEC)?, events: Vec::with_capacity(at_a_time) })
    }

    /// Watches one more, until it is closed.
    pub fn add(&self, fd: impl AsFd, token: u64, watch: Watch) -> io::Result<()> {
        let flags = match watch {
            Watch::Readable => EventFlags::IN,
            Watch::Changes => EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET,
        };
        Ok(epoll::add(&self.fd, fd, EventData::new_u64(token), flags)?)
    }

    /// Forgets one that stays open.
    pub fn remove(&self, fd: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.fd, fd)?)
    }

    /// Waits until something is the case, or `limit` has passed.
    pub fn wait(&mut self, limit: Option<Duration>) -> io::Result<impl Iterator<Item = Ready> + '_> {
        let limit =
            limit.map(|limit| Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: i64::from(limit.subsec_nanos()) });
        self.events.clear();
        match epoll::wait(&self.fd, rustix::buffer::spare_capacity(&mut self.events), limit.as_ref()) {
            // Who waits looks at the clock anyway.
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(self.events.iter().map(|event| {
            let flags = event.flags;
            let broken = flags.intersects(EventFlags::ERR | EventFlags::HUP);
            let ended = broken || flags.contains(EventFlags::RDHUP);
            Ready {
                token: event.data.u64(),
                readable: ended || flags.contains(EventFlags::IN),
                writable: broken || flags.contains(EventFlags::OUT),
                ended,
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn what_is_ready_and_what_has_changed() -> io::Result<()> {
        let mut epoll = Epoll::new(8)?;
        let (reading, mut writing) = io::pipe()?;
        epoll.add(&reading, 7, Watch::Readable)?;
        epoll.add(&writing, 9, Watch::Changes)?;
        let now = Some(Duration::ZERO);
        let room = Ready { token: 9, readable: false, writable: true, ended: false };
        assert_eq!(epoll.wait(now)?.collect::<Vec<_>>(), [room]);
        assert_eq!(epoll.wait(now)?.count(), 0, "that there is room was told");
        writing.write_all(b"x")?;
        let there = Ready { token: 7, readable: true, writable: false, ended: false };
        assert!(epoll.wait(now)?.any(|ready| ready == there));
        assert!(epoll.wait(now)?.any(|ready| ready == there), "it is there until it is read");
        epoll.remove(&reading)?;
        assert_eq!(epoll.wait(now)?.filter(|ready| ready.token == 7).count(), 0);
        Ok(())
    }
}
