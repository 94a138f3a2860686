//! A stream of bytes into lines, and long lines into pieces.

use memchr::memchr;

/// The most bytes of a line that are written in one piece, as Docker has it.
pub const LONGEST_PIECE: usize = 16 * 1024;

/// Splits one stream. What it gives depends on the bytes alone, not on how they were cut when they were read.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    /// The beginning of a line whose end has not come: no more than one piece, in room that is taken once.
    held: Vec<u8>,
}

impl Splitter {
    /// Gives all pieces that are known now, each with whether its line ends there.
    pub(super) fn feed(&mut self, mut bytes: &[u8], give: &mut impl FnMut(&[u8], bool)) {
        while let Some(at) = memchr(b'\n', bytes) {
            self.take(&bytes[..at], true, give);
            bytes = &bytes[at + 1..];
        }
        self.take(bytes, false, give);
    }

    /// Gives what is held back.
    pub(super) fn finish(&mut self, give: &mut impl FnMut(&[u8], bool)) {
        if !self.held.is_empty() {
            give(&self.held, false);
            self.held.clear();
        }
    }

    fn take(&mut self, mut text: &[u8], ends: bool, give: &mut impl FnMut(&[u8], bool)) {
        if self.held.is_empty() {
            while text.len() > LONGEST_PIECE {
                let (piece, rest) = text.split_at(end_of_piece(&text[..LONGEST_PIECE]));
                give(piece, false);
                text = rest;
            }
            if ends {
                give(text, true);
            } else {
                self.hold(text);
            }
            return;
        }
        loop {
            let room = LONGEST_PIECE - self.held.len();
            if text.len() <= room {
                self.hold(text);
                if ends {
                    give(&self.held, true);
                    self.held.clear();
                }
                return;
            }
            self.hold(&text[..room]);
            text = &text[room..];
            let end = end_of_piece(&self.held);
            give(&self.held[..end], false);
            self.held.drain(..end);
        }
    }

    fn hold(&mut self, text: &[u8]) {
        if self.held.capacity() == 0 && !text.is_empty() {
            self.held.reserve_exact(LONGEST_PIECE);
        }
        self.held.extend_from_slice(text);
    }
}

/// Where to cut this, with more to follow: not inside a character of UTF-8, which would be none on either side.
fn end_of_piece(piece: &[u8]) -> usize {
    for back in 1..=3.min(piece.len()) {
        let length = match piece[piece.len() - back] {
            0x80..=0xbf => continue,
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            _ => 1,
        };
        return if length > back { piece.len() - back } else { piece.len() };
    }
    piece.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rbox_fuzz::Random;

    fn pieces(chunks: &[&[u8]]) -> Vec<(Vec<u8>, bool)> {
        let mut splitter = Splitter::default();
        let mut pieces = Vec::new();
        let mut give = |piece: &[u8], ends: bool| pieces.push((piece.to_vec(), ends));
        for chunk in chunks {
            splitter.feed(chunk, &mut give);
        }
        splitter.finish(&mut give);
        assert!(splitter.held.capacity() <= LONGEST_PIECE, "{}", splitter.held.capacity());
        pieces
    }

    #[test]
    fn lines_and_what_is_left() {
        let piece = |text: &str, ends| (text.as_bytes().to_vec(), ends);
        assert_eq!(pieces(&[b""]), []);
        assert_eq!(pieces(&[b"a\n\nb"]), [piece("a", true), piece("", true), piece("b", false)]);
        assert_eq!(pieces(&[b"a", b"b\r\nc\n"]), [piece("ab\r", true), piece("c", true)]);
        let long = "x".repeat(LONGEST_PIECE);
        assert_eq!(pieces(&[long.as_bytes(), b"\n"]), [piece(&long, true)]);
        assert_eq!(pieces(&[long.as_bytes(), b"y"]), [piece(&long, false), piece("y", false)]);
        // A character of three bytes over the edge.
        let text = format!("{}€", "x".repeat(LONGEST_PIECE - 2));
        let (before, sign) = text.split_at(LONGEST_PIECE - 2);
        assert_eq!(pieces(&[text.as_bytes()]), [piece(before, false), piece(sign, false)]);
    }

    #[test]
    fn whatever_comes_however_it_is_cut() {
        let mut random = Random::new(5);
        for _ in 0..200 {
            let length = random.below(5 * LONGEST_PIECE);
            let line = [3, 200, 4 * LONGEST_PIECE][random.below(3)];
            let bytes: Vec<u8> = (0..length)
                .map(|_| match random.below(line) {
                    0 => b'\n',
                    _ => [b'x', 0xe2, 0x82, 0xac, 0xff, 0][random.below(6)],
                })
                .collect();
            let whole = pieces(&[&bytes]);
            let mut chunks = Vec::new();
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let (chunk, after) = rest.split_at((1 + random.below(2 * LONGEST_PIECE)).min(rest.len()));
                chunks.push(chunk);
                rest = after;
            }
            assert!(pieces(&chunks) == whole);
            let mut together = Vec::new();
            for (piece, ends) in &whole {
                assert!(piece.len() <= LONGEST_PIECE && !piece.contains(&b'\n'));
                assert!(*ends || !piece.is_empty());
                together.extend_from_slice(piece);
                together.extend_from_slice(if *ends { b"\n" } else { b"" });
            }
            assert!(together == bytes, "no byte is lost");
        }
    }
}
