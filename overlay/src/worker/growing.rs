//! Reading a file that another process is still writing, up to where that process says.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// How much of the file there is.
#[derive(Default)]
pub(super) struct Growing {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default, Clone, Copy)]
struct State {
    available: u64,
    /// Nothing will be added.
    complete: bool,
    aborted: bool,
}

impl Growing {
    /// So many bytes are there, all told.
    pub(super) fn announce(&self, total: u64) {
        self.change(|state| state.available = state.available.max(total));
    }

    /// All bytes are there.
    pub(super) fn complete(&self) {
        self.change(|state| state.complete = true);
    }

    /// There will be no more, and what there is is to be left alone.
    pub(super) fn abort(&self) {
        self.change(|state| state.aborted = true);
    }

    pub(super) fn reader(&self, file: File) -> Reader<'_> {
        Reader { growing: self, file, at: 0 }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads from the file's begin, and waits where the file has not grown yet.
pub(super) struct Reader<'a> {
    growing: &'a Growing,
    file: File,
    at: u64,
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.growing.lock();
        while !state.aborted && !state.complete && state.available <= self.at {
            state = self.growing.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let State { available, aborted, .. } = *state;
        drop(state);
        if aborted {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the download was given up"));
        }
        let left = available.saturating_sub(self.at);
        let limit = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        if limit == 0 {
            return Ok(0);
        }
        let length = self.file.read_at(&mut buffer[..limit], self.at)?;
        if length == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file is shorter than was announced"));
        }
        self.at += length as u64;
        Ok(length)
    }
}
