//! The buffers that decompressed bytes travel in: few, allocated once, shared by the hash and the extraction.

use std::io::{self, BufRead, Read};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};

/// The size of one buffer. 64 KiB take some 5 % longer, for the hand-over between threads; 1 MiB gains nothing.
pub(super) const SIZE: usize = 256 << 10;

/// How many buffers one layer has: the most it may be ahead of its slowest part. 2 MiB.
pub(super) const COUNT: usize = 8;

/// A filled buffer, which goes home when the last holder drops it.
pub(super) struct Chunk {
    bytes: Vec<u8>,
    home: Sender<Vec<u8>>,
}

impl Chunk {
    pub(super) fn new(bytes: Vec<u8>, home: &Sender<Vec<u8>>) -> Arc<Self> {
        Arc::new(Self { bytes, home: home.clone() })
    }
}

impl Deref for Chunk {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        // Nobody is at home once the last buffer was filled.
        let _ = self.home.send(std::mem::take(&mut self.bytes));
    }
}

/// Chunks as one stream of bytes.
pub(super) struct ChunkReader {
    source: Receiver<Arc<Chunk>>,
    current: Option<Arc<Chunk>>,
    at: usize,
}

impl ChunkReader {
    pub(super) fn new(source: Receiver<Arc<Chunk>>) -> Self {
        Self { source, current: None, at: 0 }
    }
}

impl BufRead for ChunkReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.current.as_ref().is_none_or(|chunk| self.at == chunk.len()) {
            // The buffer goes home before this waits for the next.
            self.current = None;
            self.at = 0;
            match self.source.recv() {
                Ok(chunk) => self.current = Some(chunk),
                Err(_) => return Ok(&[]),
            }
        }
        Ok(self.current.as_ref().map_or(&[], |chunk| &chunk[self.at..]))
    }

    fn consume(&mut self, length: usize) {
        self.at += length;
    }
}

impl Read for ChunkReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let length = available.len().min(buffer.len());
        buffer[..length].copy_from_slice(&available[..length]);
        self.consume(length);
        Ok(length)
    }
}
