//! Reading a tar archive as a stream of entries.
//!
//! A reader of our own, since what it reads was written by strangers, and since a layer's bytes should be copied once
//! only, from the decompressor's buffer to the file:
//! - data is handed out as slices of the input's own buffer;
//! - what must be held in memory (names, extended headers, sparse maps) is bounded;
//! - PAX values may hold newlines, as `security.capability` does;
//! - all of GNU's sparse formats are known.
//!
//! Where formats leave a choice, it is the one of Go's archive/tar, which Docker, containerd and Podman read layers
//! with: an entry that is not a regular file has no data, whatever its size says; global extended headers say nothing.

mod header;
mod pax;
mod sparse;
pub(crate) mod write;

use std::io::{self, BufRead};

use rbox_sys::at::Time;

use header::{BLOCK, Header};
use pax::Extended;
use sparse::{Map, Said};

/// The longest extended header or long name, in bytes; Go's limit too.
const MAX_EXTENSION: u64 = 1 << 20;

/// An archive being read.
pub(crate) struct Archive<R> {
    input: R,
    /// Bytes read so far.
    offset: u64,
    /// Bytes of the current entry's data that were not read yet.
    remaining: u64,
    /// Bytes that fill up the current entry's last block.
    padding: u64,
}

/// One entry.
#[derive(Debug)]
pub(crate) struct Entry {
    /// As it stands in the archive.
    pub(crate) path: Vec<u8>,
    pub(crate) kind: Kind,
    /// Permission bits with set-id and sticky.
    pub(crate) mode: u32,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    pub(crate) mtime: Time,
    /// Names and values in the archive's order.
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What an entry is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Its data is all of [`Archive::data`].
    File {
        size: u64,
    },
    /// [`Archive::data`] holds the pieces, one after the other.
    Sparse(Map),
    Directory,
    Symlink(Vec<u8>),
    HardLink(Vec<u8>),
    Fifo,
    CharDevice(u32, u32),
    BlockDevice(u32, u32),
    /// A type flag that says nothing here.
    Unknown(u8),
}

/// Why the bytes are no archive.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Problem {
    #[error("it ends in the middle of an entry")]
    Truncated,
    #[error("a header's checksum is wrong")]
    Checksum,
    #[error("a single block of zeros stands between entries")]
    LoneZeroBlock,
    #[error("a header's {0} is not a number or out of range")]
    Number(&'static str),
    #[error("a PAX extended header is malformed")]
    Pax,
    #[error("an extended header or long name is larger than 1 MiB")]
    TooLong,
    #[error("the map of a sparse file is malformed")]
    Sparse,
    #[error("an extended header has no entry after it")]
    Dangling,
}

/// Why an archive cannot be read on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The input's own error.
    #[error(transparent)]
    Io(io::Error),
    /// The bytes are wrong.
    #[error("{problem} (byte {offset} of the archive)")]
    Malformed { problem: Problem, offset: u64 },
}

/// The fields that were said before the entry's own header.
#[derive(Default)]
struct Before {
    extended: Option<Extended>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl<R: BufRead> Archive<R> {
    pub(crate) fn new(input: R) -> Self {
        Self { input, offset: 0, remaining: 0, padding: 0 }
    }

    /// The next entry; data of the one before that was not read is skipped. `None` at the archive's end; what the
    /// input has after that is left in it.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, Error> {
        let mut before = Before::default();
        let mut first = true;
        loop {
            self.skip_rest()?;
            let at = self.offset;
            let Some(block) = self.block()? else {
                // No block of zeros at all is what some writers end with, and everybody reads.
                return if first { Ok(None) } else { Err(self.malformed(Problem::Dangling)) };
            };
            if block.iter().all(|byte| *byte == 0) {
                return match self.block()? {
                    _ if !first => Err(self.malformed(Problem::Dangling)),
                    Some(second) if second.iter().any(|byte| *byte != 0) => {
                        Err(Error::Malformed { problem: Problem::LoneZeroBlock, offset: at })
                    }
                    _ => Ok(None),
                };
            }
            let header = Header::parse(&block).map_err(|problem| Error::Malformed { problem, offset: at })?;
            let size = header.size().and_then(in_range).map_err(|problem| Error::Malformed { problem, offset: at })?;
            first = false;
            match header.flag() {
                b'x' => {
                    let bytes = self.extension(size)?;
                    before.extended = Some(pax::parse(&bytes).map_err(|problem| self.malformed(problem))?);
                }
                b'L' => before.long_name = Some(until_nul(self.extension(size)?)),
                b'K' => before.long_link = Some(until_nul(self.extension(size)?)),
                b'g' => {
                    self.begin(size);
                    // It stands for itself and may be the last thing.
                    first = before.extended.is_none() && before.long_name.is_none() && before.long_link.is_none();
                }
                _ => {
                    let entry = self.entry(&header, before)?;
                    return Ok(Some(entry));
                }
            }
        }
    }

    /// The next piece of the current entry's data, at most `limit` bytes; empty at its end. Then [`consume`] says how
    /// much was used.
    ///
    /// [`consume`]: Self::consume
    pub(crate) fn data(&mut self, limit: u64) -> Result<&[u8], Error> {
        let limit = limit.min(self.remaining);
        if limit == 0 {
            return Ok(&[]);
        }
        let offset = self.offset;
        let available = fill(&mut self.input)?;
        if available.is_empty() {
            return Err(Error::Malformed { problem: Problem::Truncated, offset });
        }
        let length = usize::try_from(limit).unwrap_or(usize::MAX).min(available.len());
        Ok(&available[..length])
    }

    /// Marks bytes of the current entry's data as read.
    pub(crate) fn consume(&mut self, length: usize) {
        self.input.consume(length);
        self.offset += length as u64;
        self.remaining -= length as u64;
    }

    /// The input, at whatever is after what was read.
    pub(crate) fn into_input(self) -> R {
        self.input
    }

    fn entry(&mut self, header: &Header<'_>, before: Before) -> Result<Entry, Error> {
        let at = self.offset - BLOCK as u64;
        let wrong = |problem| Error::Malformed { problem, offset: at };
        let Extended { path, link, size, uid, gid, mtime, xattrs, mut sparse } = before.extended.unwrap_or_default();
        let said_name = sparse.name.take();
        let path = said_name.or(path).or(before.long_name).unwrap_or_else(|| header.name());
        let link = || link.or(before.long_link).unwrap_or_else(|| header.link().to_vec());
        let mtime = match mtime {
            Some(time) => time,
            None => Time { seconds: header.mtime().map_err(wrong)?, nanoseconds: 0 },
        };
        let size = size.map_or_else(|| header.size(), Ok).and_then(in_range).map_err(wrong)?;
        let device = || header.device().map_err(wrong);
        let kind = match header.flag() {
            // v7 had no type for directories.
            0 if path.ends_with(b"/") => Kind::Directory,
            0 | b'0' | b'7' => match sparse.said().map_err(wrong)? {
                Said::Nothing => {
                    self.begin(size);
                    Kind::File { size }
                }
                Said::Map(map) => {
                    self.begin(size);
                    Kind::Sparse(map.check(size).map_err(wrong)?)
                }
                Said::InData(real) => {
                    self.begin(size);
                    let mut reader = sparse::InData::default();
                    loop {
                        if self.remaining < BLOCK as u64 {
                            return Err(wrong(Problem::Sparse));
                        }
                        let block = self.block()?.ok_or_else(|| wrong(Problem::Truncated))?;
                        self.remaining -= BLOCK as u64;
                        if !reader.block(&block).map_err(wrong)? {
                            break;
                        }
                    }
                    Kind::Sparse(reader.map(real).check(self.remaining).map_err(wrong)?)
                }
            },
            b'S' => {
                let mut map = Map::default();
                let mut more = sparse::old_header(header, &mut map).map_err(wrong)?;
                while more {
                    let block = self.block()?.ok_or_else(|| wrong(Problem::Truncated))?;
                    more = sparse::old_extension(&block, &mut map).map_err(wrong)?;
                }
                self.begin(size);
                // GNU tar ends its list with an empty piece at the file's end, which is as good as any other.
                Kind::Sparse(map.check(size).map_err(wrong)?)
            }
            b'1' => Kind::HardLink(link()),
            b'2' => Kind::Symlink(link()),
            b'3' => device().map(|(major, minor)| Kind::CharDevice(major, minor))?,
            b'4' => device().map(|(major, minor)| Kind::BlockDevice(major, minor))?,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            other => {
                self.begin(size);
                Kind::Unknown(other)
            }
        };
        Ok(Entry {
            path,
            kind,
            mode: header.mode().map_err(wrong)?,
            uid: uid.map_or_else(|| header.uid(), Ok).map_err(wrong)?,
            gid: gid.map_or_else(|| header.gid(), Ok).map_err(wrong)?,
            mtime,
            xattrs,
        })
    }

    /// From here on the input has `size` bytes of data.
    fn begin(&mut self, size: u64) {
        self.remaining = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
    }

    /// Reads the data of an entry that speaks about the next one.
    fn extension(&mut self, size: u64) -> Result<Vec<u8>, Error> {
        if size > MAX_EXTENSION {
            return Err(self.malformed(Problem::TooLong));
        }
        self.begin(size);
        let mut bytes = Vec::with_capacity(size as usize);
        loop {
            let data = self.data(u64::MAX)?;
            if data.is_empty() {
                return Ok(bytes);
            }
            bytes.extend_from_slice(data);
            let length = data.len();
            self.consume(length);
        }
    }

    /// Passes over what is left of the current entry.
    fn skip_rest(&mut self) -> Result<(), Error> {
        self.remaining += std::mem::take(&mut self.padding);
        loop {
            let length = self.data(u64::MAX)?.len();
            if length == 0 {
                return Ok(());
            }
            self.consume(length);
        }
    }

    /// The next block; `None` where the input ends before it.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, Error> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            let available = fill(&mut self.input)?;
            if available.is_empty() {
                return if filled == 0 { Ok(None) } else { Err(self.malformed(Problem::Truncated)) };
            }
            let length = available.len().min(BLOCK - filled);
            block[filled..filled + length].copy_from_slice(&available[..length]);
            self.input.consume(length);
            self.offset += length as u64;
            filled += length;
        }
        Ok(Some(block))
    }

    fn malformed(&self, problem: Problem) -> Error {
        Error::Malformed { problem, offset: self.offset }
    }
}

fn fill(input: &mut impl BufRead) -> Result<&[u8], Error> {
    // Retrying EINTR in a loop does not pass the borrow checker; no input here gives it.
    input.fill_buf().map_err(Error::Io)
}

/// Sizes that the kernel's signed offsets have room for, with a block to spare.
fn in_range(size: u64) -> Result<u64, Problem> {
    if size <= i64::MAX as u64 - BLOCK as u64 { Ok(size) } else { Err(Problem::Number("size")) }
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
        bytes.truncate(end);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    // Read as it is, and with its checksums put right, which would end nearly all of it at the first block.
    rbox_fuzz::target!(tar_archive, rbox_fuzz::Shape::Bytes, [[0; 2 * BLOCK]], |input: &[u8]| {
        read_all(input);
        let mut summed = input.to_vec();
        for block in summed.as_chunks_mut::<BLOCK>().0 {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
        read_all(&summed);
    });

    fn read_all(input: &[u8]) {
        let mut archive = Archive::new(input);
        while let Ok(Some(_)) = archive.next() {
            while let Ok(data) = archive.data(100) {
                let length = data.len();
                if length == 0 {
                    break;
                }
                archive.consume(length);
            }
        }
    }
}
