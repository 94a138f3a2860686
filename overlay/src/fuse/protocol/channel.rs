//! Where the kernel asks and is answered.

use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rbox_sys::poll::{self, Interest};
use rbox_sys::{Errno, fd};

use super::wakefulness::Wakefulness;
use super::{Body, LARGEST};
use crate::is;

/// `struct fuse_out_header`.
pub(super) const HEAD: usize = 16;

/// The device, for the one that reads from it.
#[derive(Debug)]
pub(in super::super) struct Channel {
    device: Arc<File>,
    /// Room for a message that writes the most.
    room: Vec<u8>,
    wakefulness: Wakefulness,
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
        let room = vec![0; LARGEST as usize + 4096];
        Ok(Self { device: Arc::new(device.into()), room, wakefulness: Wakefulness::new() })
    }

    /// The next message; none when the filesystem is unmounted.
    pub(in super::super) fn receive(&mut self) -> io::Result<Option<&[u8]>> {
        let mut wait = self.wakefulness.begin();
        let length = loop {
            match (&*self.device).read(&mut self.room) {
                Ok(length) => break length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !self.wakefulness.stays(&mut wait) {
                        poll::wait([(self.device.as_fd(), Interest::Read)], None)?;
                    }
                }
                // Somebody does not want to know any more.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is(&error, Errno::NODEV) => return Ok(None),
                Err(error) => return Err(error),
            }
        };
        self.wakefulness.end(&wait);
        Ok(Some(&self.room[..length]))
    }

    /// Who answers a message.
    pub(in super::super) fn device(&self) -> Arc<File> {
        self.device.clone()
    }
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
                self.data(&body.0);
            }
            Err(error) => self.fail(&error),
        }
    }

    /// That it is done, or why it is not.
    pub(in super::super) fn done(self, result: io::Result<()>) {
        self.answer(result, |_, ()| {});
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
