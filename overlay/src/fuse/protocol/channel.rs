//! Where the kernel asks and is answered.
//!
//! Who asks sleeps until the answer is there, and the server until the next question is. To wake a processor that sleeps takes
//! longer than most answers do, in a virtual machine several times as long: an interrupt, and a way through the hypervisor.
//! A program that asks for one thing after the other asks again within microseconds. So after a question that came soon
//! the server looks for the next one before it sleeps. What that costs is a processor's time, and never much more than
//! what lay between two questions; where somebody else wants the processor, there is none to be had.

use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rbox_sys::poll::{self, Interest};
use rbox_sys::{Errno, fd, sched};

use super::{Body, LARGEST};
use crate::is;

/// Who asks again within this does it soon. It has to have room for the wake-ups of both: it is what first tells a busy client.
const SOON: Duration = Duration::from_micros(150);
/// For so long it is worth to stay awake.
const AWAKE: Duration = Duration::from_micros(100);
/// Who lets others have the processor for longer than this has let somebody have it.
const OTHERS: Duration = Duration::from_micros(20);
/// `struct fuse_out_header`.
pub(super) const HEAD: usize = 16;

/// The device, for the one that reads from it.
#[derive(Debug)]
pub(in super::super) struct Channel {
    device: Arc<File>,
    /// Room for a message that writes the most.
    room: Vec<u8>,
    /// With one processor nobody asks while the server is awake.
    several: bool,
    soon: bool,
}

/// Who is to be answered.
#[derive(Debug)]
#[must_use = "somebody waits for it"]
pub(in super::super) struct Reply {
    pub(super) device: Arc<File>,
    pub(super) unique: u64,
}

impl Channel {
    pub(in super::super) fn new(device: OwnedFd) -> io::Result<Self> {
        fd::set_nonblocking(&device)?;
        let several = sched::affinity().is_ok_and(|processors| processors.len() > 1);
        let room = vec![0; LARGEST as usize + 4096];
        Ok(Self { device: Arc::new(device.into()), room, several, soon: false })
    }

    /// The next message; none when the filesystem is unmounted.
    pub(in super::super) fn receive(&mut self) -> io::Result<Option<&[u8]>> {
        let began = Instant::now();
        let mut stays_awake = self.several && self.soon;
        let length = loop {
            match (&*self.device).read(&mut self.room) {
                Ok(length) => break length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && stays_awake => {
                    stays_awake = stay_awake(began);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    poll::wait([(self.device.as_fd(), Interest::Read)], None)?;
                }
                // Somebody does not want to know any more.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is(&error, Errno::NODEV) => return Ok(None),
                Err(error) => return Err(error),
            }
        };
        self.soon = began.elapsed() < SOON;
        Ok(Some(&self.room[..length]))
    }

    /// Who answers a message.
    pub(in super::super) fn device(&self) -> Arc<File> {
        self.device.clone()
    }
}

/// Has whoever wants the processor have it; says whether it is worth to stay awake.
fn stay_awake(began: Instant) -> bool {
    let before = Instant::now();
    if before - began > AWAKE {
        return false;
    }
    thread::yield_now();
    before.elapsed() < OTHERS
}

impl Reply {
    /// To the message of this number.
    pub(in super::super) fn new(device: Arc<File>, unique: u64) -> Self {
        Self { device, unique }
    }

    /// What came out, as it is to be said, or why nothing did.
    pub(in super::super) fn answer<T>(self, result: io::Result<T>, say: impl FnOnce(&mut Body, T)) {
        match result {
            Ok(value) => {
                let mut body = Body::default();
                say(&mut body, value);
                self.say(&body);
            }
            Err(error) => self.fail(&error),
        }
    }

    /// That it is done, or why it is not.
    pub(in super::super) fn done(self, result: io::Result<()>) {
        self.answer(result, |_, ()| {});
    }

    pub(in super::super) fn say(self, body: &Body) {
        self.data(&body.0);
    }

    pub(in super::super) fn data(self, data: &[u8]) {
        self.send(0, data);
    }

    pub(in super::super) fn fail(self, error: &io::Error) {
        self.send(-error.raw_os_error().unwrap_or(Errno::IO.raw_os_error()), &[]);
    }

    /// That the kernel need not ask for such a thing again.
    pub(in super::super) fn unknown(self) {
        self.send(-Errno::NOSYS.raw_os_error(), &[]);
    }

    fn send(self, error: i32, data: &[u8]) {
        let head = self.head(error, data.len());
        // Who was interrupted meanwhile, or has unmounted it, does not want to know.
        let _ = (&*self.device).write_vectored(&[IoSlice::new(&head), IoSlice::new(data)]);
    }

    /// `struct fuse_out_header`.
    pub(super) fn head(&self, error: i32, length: usize) -> [u8; HEAD] {
        let mut head = [0; HEAD];
        head[..4].copy_from_slice(&((HEAD + length) as u32).to_ne_bytes());
        head[4..8].copy_from_slice(&error.to_ne_bytes());
        head[8..].copy_from_slice(&self.unique.to_ne_bytes());
        head
    }

    pub(super) fn device(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }
}
