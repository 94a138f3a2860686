//! Pipes that data go through without being copied: pipe(2), splice(2).

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::pipe::{PipeFlags, SpliceFlags};

/// One, with both ends.
#[derive(Debug)]
pub struct Pipe {
    output: OwnedFd,
    input: OwnedFd,
}

impl Pipe {
    /// One with room for so many bytes, or rather for the pages of them. Nobody is waited for: what has no room is an error.
    pub fn new(room: usize) -> io::Result<Self> {
        let (output, input) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        rustix::pipe::fcntl_setpipe_size(&input, room)?;
        Ok(Self { output, input })
    }

    /// Where what is in it comes out.
    pub fn output(&self) -> BorrowedFd<'_> {
        self.output.as_fd()
    }

    /// Where it goes in.
    pub fn input(&self) -> BorrowedFd<'_> {
        self.input.as_fd()
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(&self.input, bytes)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Moves up to so many bytes; one of the two is a pipe. A file is read from `offset` on.
pub fn splice(from: BorrowedFd<'_>, mut offset: Option<u64>, to: BorrowedFd<'_>, length: usize) -> io::Result<usize> {
    Ok(rustix::pipe::splice(from, offset.as_mut(), to, None, length, SpliceFlags::empty())?)
}
