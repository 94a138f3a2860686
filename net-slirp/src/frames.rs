//! Frames from the guest, read as many at a time as there are.

use std::fs::File;
use std::io::{self, Read};

use crate::vnet;

/// The longest frame there is: a header of each kind before 64 KiB.
pub(crate) const LONGEST: usize = vnet::LENGTH + 18 + 65535;
/// The most that are read at a time: what a guest with a window of its own sends before it hears of us again.
const MOST: usize = 16;
/// A frame of fewer bytes is the last of those that are read at a time: either it has no stream's data, or no more of that
/// was there to be sent, so it should not wait for another one.
pub(crate) const SHORT: usize = 1 << 14;

/// Those that were read last.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    bytes: Vec<u8>,
    lengths: Vec<usize>,
}

impl Frames {
    /// Reads frames, at most so many. Says whether there may be more of them; fails when the guest is gone.
    pub(crate) fn read(&mut self, mut tap: &File, most: usize) -> io::Result<bool> {
        if self.bytes.is_empty() {
            // Memory that nobody has written to yet is none.
            self.bytes = vec![0; MOST * LONGEST];
        }
        self.lengths.clear();
        for frame in self.bytes.chunks_exact_mut(LONGEST).take(most) {
            match tap.read(frame) {
                Ok(length) => self.lengths.push(length),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => break,
                // EBADFD: the device is gone, and with it the namespace.
                Err(error) => return Err(error),
            }
            if self.lengths.last().is_some_and(|length| *length < SHORT) {
                break;
            }
        }
        Ok(true)
    }

    /// How many they are.
    pub(crate) fn len(&self) -> usize {
        self.lengths.len()
    }

    /// Each of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.chunks_exact(LONGEST).zip(&self.lengths).map(|(bytes, length)| &bytes[..*length])
    }
}
