//! Names, one after the other.

/// Where a name is.
pub(super) type At = u32;

/// So much is allocated at a time.
const PIECE: usize = 1 << 16;

/// Names of 255 bytes at most, each after a byte that says how long it is; 4 GB of them.
#[derive(Debug, Default)]
pub(super) struct Names {
    pieces: Vec<Vec<u8>>,
    unused: usize,
}

impl Names {
    pub(super) fn add(&mut self, name: &[u8]) -> At {
        // No directory has a longer one (NAME_MAX).
        let name = &name[..name.len().min(255)];
        if self.pieces.last().is_none_or(|piece| piece.len() + 1 + name.len() > PIECE) {
            // The first one is as large as it need be.
            let room = if self.pieces.is_empty() { 0 } else { PIECE };
            self.pieces.push(Vec::with_capacity(room));
        }
        let number = self.pieces.len() - 1;
        let piece = &mut self.pieces[number];
        let at = number * PIECE + piece.len();
        piece.push(name.len() as u8);
        piece.extend_from_slice(name);
        at as At
    }

    pub(super) fn get(&self, at: At) -> &[u8] {
        let rest = &self.pieces[at as usize / PIECE][at as usize % PIECE..];
        &rest[1..=usize::from(rest[0])]
    }

    /// Nobody needs it any more.
    pub(super) fn discard(&mut self, at: At) {
        self.unused += 1 + self.get(at).len();
    }

    /// Whether more than half of it is nobody's.
    pub(super) fn is_mostly_unused(&self) -> bool {
        self.unused > PIECE && self.unused > self.pieces.len() * PIECE / 2
    }
}
