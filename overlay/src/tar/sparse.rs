//! Files with holes: GNU tar's four formats (GNU tar manual, "Storing Sparse Files"), reduced to one map.
//!
//! The old format keeps the map in the header (type `S`) and blocks after it; PAX 0.0 and 0.1 in extended records;
//! PAX 1.0 as decimal lines at the head of the data.

use super::Problem;
use super::header::{BLOCK, Header, number};
use super::pax::decimal;

/// Where the data in the archive belongs: pieces in ascending order, zeros between them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Map {
    /// Offset in the file and length of each piece, in bytes.
    pub(crate) pieces: Vec<(u64, u64)>,
    /// The length of the file.
    pub(crate) size: u64,
}

/// The most pieces that a file may have here: 16 MiB of memory. A file of 4 KiB pieces and holes reaches 8 GiB.
const MAX_PIECES: usize = 1 << 20;

impl Map {
    fn push(&mut self, offset: u64, length: u64) -> Result<(), Problem> {
        if self.pieces.len() == MAX_PIECES {
            return Err(Problem::Sparse);
        }
        self.pieces.push((offset, length));
        Ok(())
    }

    /// Checks that the pieces ascend, lie within the file and together are what the archive stores.
    pub(super) fn check(self, stored: u64) -> Result<Self, Problem> {
        let (mut end, mut total) = (0_u64, 0_u64);
        for (offset, length) in &self.pieces {
            let next = offset.checked_add(*length).ok_or(Problem::Sparse)?;
            if *offset < end || next > self.size {
                return Err(Problem::Sparse);
            }
            end = next;
            total += length;
        }
        if total == stored && self.size <= i64::MAX as u64 { Ok(self) } else { Err(Problem::Sparse) }
    }
}

/// The old format: begins the map with the four pieces of the header. `true`: extension blocks follow.
pub(super) fn old_header(header: &Header<'_>, map: &mut Map) -> Result<bool, Problem> {
    let bytes = header.bytes();
    map.size = unsigned(&bytes[483..495])?;
    old_pieces(&bytes[386..482], map)?;
    Ok(bytes[482] != 0)
}

/// The old format: an extension block. `true`: one more follows.
pub(super) fn old_extension(bytes: &[u8; BLOCK], map: &mut Map) -> Result<bool, Problem> {
    old_pieces(&bytes[..504], map)?;
    Ok(bytes[504] != 0)
}

fn old_pieces(bytes: &[u8], map: &mut Map) -> Result<(), Problem> {
    for piece in bytes.chunks_exact(24) {
        if piece[0] == 0 {
            break;
        }
        map.push(unsigned(&piece[..12])?, unsigned(&piece[12..])?)?;
    }
    Ok(())
}

fn unsigned(field: &[u8]) -> Result<u64, Problem> {
    number(field).ok().and_then(|value| u64::try_from(value).ok()).ok_or(Problem::Sparse)
}

/// The `GNU.sparse.` records of an extended header.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct PaxSparse {
    /// The file's real name; the entry's own has a made-up directory in it.
    pub(super) name: Option<Vec<u8>>,
    major: Option<u64>,
    minor: Option<u64>,
    size: Option<u64>,
    map: Option<Map>,
    offset: Option<u64>,
}

/// What an extended header says about holes.
pub(super) enum Said {
    /// Nothing.
    Nothing,
    /// The whole map.
    Map(Map),
    /// The map stands before the data (version 1.0); the file has this length.
    InData(u64),
}

impl PaxSparse {
    /// Takes in one record, without the prefix of its key.
    pub(super) fn record(&mut self, key: &[u8], value: &[u8]) -> Result<(), Problem> {
        let number = || decimal(value, "GNU.sparse");
        match key {
            b"name" => self.name = (!value.is_empty()).then(|| value.to_vec()),
            b"major" => self.major = number()?,
            b"minor" => self.minor = number()?,
            // 0.0 and 0.1 call it size, 1.0 realsize.
            b"size" | b"realsize" => self.size = number()?,
            // 0.0: a pair of records for each piece.
            b"offset" => self.offset = number()?,
            b"numbytes" => {
                let offset = self.offset.take().ok_or(Problem::Sparse)?;
                self.map.get_or_insert_default().push(offset, number()?.ok_or(Problem::Sparse)?)?;
            }
            // 0.1: all of them in one.
            b"map" => {
                let mut map = Map::default();
                let mut numbers = value.split(|byte| *byte == b',');
                while let Some(offset) = numbers.next().filter(|text| !text.is_empty()) {
                    let length = numbers.next().ok_or(Problem::Sparse)?;
                    let [offset, length] = [offset, length].map(|text| decimal(text, "GNU.sparse"));
                    map.push(offset?.ok_or(Problem::Sparse)?, length?.ok_or(Problem::Sparse)?)?;
                }
                self.map = Some(map);
            }
            // How many pieces there are is seen anyway.
            b"numblocks" => {}
            _ => return Err(Problem::Sparse),
        }
        Ok(())
    }

    pub(super) fn said(self) -> Result<Said, Problem> {
        match (self.major, self.minor, self.size, self.map) {
            (Some(1), Some(0), Some(size), None) => Ok(Said::InData(size)),
            (None | Some(0), _, Some(size), Some(map)) => Ok(Said::Map(Map { size, ..map })),
            (None, None, None, None) => Ok(Said::Nothing),
            // A file that is one hole has no piece at all in 0.0.
            (None | Some(0), _, Some(size), None) => Ok(Said::Map(Map { size, pieces: Vec::new() })),
            _ => Err(Problem::Sparse),
        }
    }
}

/// Reads the map of version 1.0 block by block.
#[derive(Default)]
pub(super) struct InData {
    numbers: Vec<u64>,
    /// How many numbers there will be, once the first, the count of pieces, is known.
    expected: Option<usize>,
    current: Option<u64>,
}

impl InData {
    /// Takes in one block. `true`: the map goes on in the next.
    pub(super) fn block(&mut self, block: &[u8; BLOCK]) -> Result<bool, Problem> {
        for byte in block {
            match byte {
                b'0'..=b'9' => {
                    let digit = u64::from(byte - b'0');
                    let value = self.current.unwrap_or(0).checked_mul(10).and_then(|value| value.checked_add(digit));
                    self.current = Some(value.ok_or(Problem::Sparse)?);
                }
                b'\n' => {
                    let number = self.current.take().ok_or(Problem::Sparse)?;
                    match self.expected {
                        None => {
                            let count = usize::try_from(number).ok().filter(|count| *count <= MAX_PIECES);
                            self.expected = Some(2 * count.ok_or(Problem::Sparse)?);
                        }
                        Some(_) => self.numbers.push(number),
                    }
                    if self.expected == Some(self.numbers.len()) {
                        // The rest of this block is padding.
                        return Ok(false);
                    }
                }
                _ => return Err(Problem::Sparse),
            }
        }
        Ok(true)
    }

    pub(super) fn map(self, size: u64) -> Map {
        Map { size, pieces: self.numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect() }
    }
}
