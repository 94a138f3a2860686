//! The guest's stream, put in order: what has arrived too early is kept, within limits.

use std::collections::BTreeMap;

use super::segment::{RANGES, Range};
use super::seq::Seq;

/// What one connection keeps at most. Between a guest and us hardly anything is lost, so this is hardly ever needed; what
/// does not fit is sent again.
const MOST: usize = 256 << 10;
/// What a piece costs besides its bytes; more than it does.
const PIECE: usize = 96;

/// Pieces that have arrived before what precedes them.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    /// By distance from the next byte that is expected. They neither touch nor overlap.
    pieces: BTreeMap<u32, Vec<u8>>,
    held: usize,
}

impl Assembler {
    pub(crate) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// What they take.
    pub(crate) fn cost(&self) -> usize {
        self.held + self.pieces.len() * PIECE
    }

    /// How much more that may be with these.
    pub(crate) fn most(bytes: &[u8]) -> usize {
        bytes.len() + PIECE
    }

    /// Keeps `bytes`, which belong `distance` bytes behind the next expected one.
    pub(crate) fn keep(&mut self, distance: u32, bytes: &[u8]) {
        let end = distance.saturating_add(bytes.len() as u32);
        if bytes.is_empty() || self.cost() + Self::most(bytes) > MOST {
            return;
        }
        // Of what overlaps, what came first stays; what touches becomes one.
        let (mut start, mut merged) = (distance, bytes.to_vec());
        let before = self.pieces.range(..=distance).next_back().map(|(at, piece)| (*at, piece.len() as u32));
        let first = before.filter(|(at, length)| at + length >= distance).map_or(distance, |(at, _)| at);
        let touched: Vec<u32> = self.pieces.range(first..=end).map(|(at, _)| *at).collect();
        for at in touched {
            let Some(piece) = self.pieces.remove(&at) else { continue };
            self.held -= piece.len();
            if at < start {
                let skipped = (at + piece.len() as u32 - start).min(merged.len() as u32) as usize;
                let tail = merged.split_off(skipped);
                merged = piece;
                merged.extend(tail);
                start = at;
            } else {
                let from = (at - start) as usize;
                let until = (from + piece.len()).max(merged.len());
                merged.resize(until.max(from), 0);
                merged[from..from + piece.len()].copy_from_slice(&piece);
            }
        }
        self.held += merged.len();
        self.pieces.insert(start, merged);
    }

    /// The stream has come `bytes` further. Gives what now follows at once, if it was there already.
    pub(crate) fn advance(&mut self, bytes: usize) -> Option<Vec<u8>> {
        if self.pieces.is_empty() {
            return None;
        }
        let (mut next, bytes) = (None, bytes as u32);
        for (at, mut piece) in std::mem::take(&mut self.pieces) {
            let end = at + piece.len() as u32;
            if end <= bytes {
                self.held -= piece.len();
            } else if at <= bytes {
                self.held -= piece.len();
                next = Some(piece.split_off((bytes - at) as usize));
            } else {
                self.pieces.insert(at - bytes, piece);
            }
        }
        next
    }

    /// What is there, for the guest to know what it need not send again.
    pub(crate) fn ranges(&self, expected: Seq) -> [Option<Range>; RANGES] {
        let mut pieces = self.pieces.iter();
        std::array::from_fn(|_| {
            let (at, piece) = pieces.next()?;
            let start = expected + *at as usize;
            Some((start, start + piece.len()))
        })
    }
}

#[cfg(test)]
mod tests {
    use rbox_fuzz::Random;

    use super::*;

    #[test]
    fn pieces_in_any_order() {
        // A stream in which each byte is its own place, cut at each of these, and given in an order that a generator of
        // numbers makes.
        let stream: Vec<u8> = (0..200).collect();
        let mut random = Random::new(1);
        for _ in 0..500 {
            let (mut assembler, mut got) = (Assembler::default(), Vec::<u8>::new());
            while got.len() < stream.len() {
                let from = random.below(200);
                let until = (from + 1 + random.below(60)).min(200);
                if until <= got.len() {
                    continue;
                }
                let from = from.max(got.len());
                if from > got.len() {
                    assembler.keep((from - got.len()) as u32, &stream[from..until]);
                    continue;
                }
                got.extend(&stream[from..until]);
                let mut came = until - from;
                while let Some(next) = assembler.advance(came) {
                    came = next.len();
                    got.extend(next);
                }
                for (left, right) in assembler.ranges(Seq(0)).into_iter().flatten() {
                    assert!(right.is_after(left) && left.is_after(Seq(0)));
                }
            }
            assert_eq!(got, stream);
            assert_eq!((assembler.held, assembler.is_empty()), (0, true));
        }
    }

    #[test]
    fn it_has_limits() {
        let mut assembler = Assembler::default();
        for number in 0..1000 {
            assembler.keep(1 + number * 2000, &[0; 1000]);
        }
        assert!(assembler.cost() <= MOST && assembler.pieces.values().map(Vec::len).sum::<usize>() == assembler.held);
    }
}
