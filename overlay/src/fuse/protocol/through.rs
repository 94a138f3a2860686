//! Data that go from a file to the kernel without being copied here: splice(2).

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;

use rbox_sys::pipe::{self, Pipe};

use super::channel::{HEAD, Reply};

/// Less than this is copied sooner than it is spliced.
const LEAST: usize = 32 << 10;
/// So much has room in the pipe, besides the head.
const PIPE: usize = 256 << 10;
const PAGE: usize = 4096;

/// The way through.
#[derive(Debug, Default)]
pub(in super::super) struct Through {
    pipe: Option<Pipe>,
    /// It does not go.
    closed: bool,
}

impl Through {
    /// Whether it goes at all, and as much as this is worth it.
    pub(in super::super) fn takes(&self, size: usize) -> bool {
        !self.closed && (LEAST..=PIPE - 2 * PAGE).contains(&size)
    }

    /// Answers with what a file has there, of a size that [it takes](Self::takes) and in memory; gives the reply back where that does not go.
    pub(in super::super) fn answer(
        &mut self,
        reply: Reply,
        file: &File,
        offset: u64,
        size: usize,
    ) -> Result<(), Reply> {
        match self.fill(&reply, file, offset, size) {
            Ok(0) => Err(reply),
            Ok(length) => {
                let whole = HEAD + length;
                let sent = self.pipe.as_ref().map(|pipe| pipe::splice(pipe.output(), None, reply.device(), whole));
                match sent {
                    Some(Ok(sent)) if sent == whole => Ok(()),
                    // Whoever was interrupted does not want it any more, and is not told a second time.
                    _ => {
                        self.pipe = None;
                        Err(reply)
                    }
                }
            }
            Err(_) => {
                // Something of it is left in the pipe, or there is none to be had.
                self.pipe = None;
                self.closed = true;
                Err(reply)
            }
        }
    }

    /// Puts head and data into the pipe; gives how many the data are.
    fn fill(&mut self, reply: &Reply, file: &File, offset: u64, size: usize) -> io::Result<usize> {
        let length = file.metadata()?.len().saturating_sub(offset).min(size as u64) as usize;
        if length < LEAST {
            return Ok(0);
        }
        let pipe = match &mut self.pipe {
            Some(pipe) => pipe,
            none => none.insert(Pipe::new(PIPE)?),
        };
        pipe.write_all(&reply.head(0, length))?;
        let mut filled = 0;
        while filled < length {
            match pipe::splice(file.as_fd(), Some(offset + filled as u64), pipe.input(), length - filled)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                more => filled += more,
            }
        }
        Ok(length)
    }
}
