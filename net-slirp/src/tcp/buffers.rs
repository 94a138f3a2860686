//! Memory for what is under way to guests: nothing while all is quiet, and bounded whatever a guest does.

/// The most bytes that one read takes from a socket.
pub(crate) const CHUNK: usize = 65536;
/// Reads of fewer bytes are kept in as much memory as they need.
const SMALL: usize = CHUNK / 4;
/// All connections together: what was sent and is not acknowledged, and what the host has not taken yet.
const MOST: usize = 64 << 20;
/// What each that is in use costs besides its bytes; more than it does.
const EACH: usize = 128;
/// Whole chunks that are kept for the next ones.
const SPARE: usize = 64;

/// What there is, and how much of it is in use.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    spare: Vec<Vec<u8>>,
    in_use: usize,
}

impl Buffers {
    /// Room for a read, unless too much is in use already.
    pub(crate) fn take(&mut self) -> Option<Vec<u8>> {
        self.has_room().then(|| self.spare.pop().unwrap_or_else(|| vec![0; CHUNK]))
    }

    /// Whether there is room for a read.
    pub(crate) fn has_room(&self) -> bool {
        self.in_use < MOST
    }

    /// Not needed after all.
    pub(crate) fn put_back(&mut self, buffer: Vec<u8>) {
        if buffer.len() == CHUNK && self.spare.len() < SPARE {
            self.spare.push(buffer);
        }
    }

    /// Keeps the first `length` bytes.
    pub(crate) fn keep(&mut self, buffer: Vec<u8>, length: usize) -> Vec<u8> {
        if length >= SMALL {
            self.in_use += cost(&buffer);
            return buffer;
        }
        let small = buffer[..length].to_vec();
        self.put_back(buffer);
        self.in_use += cost(&small);
        small
    }

    /// Gives up what [`keep`](Self::keep) gave.
    pub(crate) fn release(&mut self, buffer: Vec<u8>) {
        self.in_use -= cost(&buffer);
        self.put_back(buffer);
    }

    /// Whether this many bytes more may be held; then they count.
    pub(crate) fn reserve(&mut self, bytes: usize) -> bool {
        let fits = self.in_use + bytes <= MOST;
        self.in_use += if fits { bytes } else { 0 };
        fits
    }

    /// Bytes that count no more.
    pub(crate) fn free(&mut self, bytes: usize) {
        self.in_use -= bytes;
    }

    /// Lets go of what nobody uses: for when all has been quiet for a while.
    pub(crate) fn shrink(&mut self) {
        self.spare = Vec::new();
    }

    /// How many bytes are in use.
    #[cfg(test)]
    pub(crate) fn in_use(&self) -> usize {
        self.in_use
    }
}

/// Of one that is empty, as beginnings and ends have it, nothing counts.
fn cost(buffer: &[u8]) -> usize {
    if buffer.is_empty() { 0 } else { buffer.len() + EACH }
}
