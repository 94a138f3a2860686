//! Whole-file locks that belong to an open file description (flock(2)).
//!
//! Every lock ends when the last copy of the descriptor is closed, so also when its owner is killed. On NFS the
//! kernel turns them into byte-range locks: there an exclusive lock needs a descriptor open for writing.

use std::{io, os::fd::AsFd};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

/// Who else may hold the lock at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Any number of holders that are all shared.
    Shared,
    /// Nobody else.
    Exclusive,
}

/// Waits until the lock is ours.
pub fn lock(file: impl AsFd, mode: Mode) -> io::Result<()> {
    let operation = match mode {
        Mode::Shared => FlockOperation::LockShared,
        Mode::Exclusive => FlockOperation::LockExclusive,
    };
    loop {
        match flock(&file, operation) {
            Err(Errno::INTR) => {}
            result => return Ok(result?),
        }
    }
}

/// Ends the lock, whoever else has a copy of the descriptor.
pub fn unlock(file: impl AsFd) -> io::Result<()> {
    Ok(flock(&file, FlockOperation::Unlock)?)
}

/// Takes the lock if that is possible at once; `false` if somebody holds it in a way that excludes us.
pub fn try_lock(file: impl AsFd, mode: Mode) -> io::Result<bool> {
    let operation = match mode {
        Mode::Shared => FlockOperation::NonBlockingLockShared,
        Mode::Exclusive => FlockOperation::NonBlockingLockExclusive,
    };
    loop {
        match flock(&file, operation) {
            Err(Errno::INTR) => {}
            Err(Errno::WOULDBLOCK) => return Ok(false),
            result => return result.map(|()| true).map_err(Into::into),
        }
    }
}
