//! What comes from the guest: in order, into the host's socket; and what that does not take at once, held for it.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use super::assembler::Assembler;
use super::buffers::Buffers;
use super::flow::Socket;
use super::seq::Seq;

/// How much the guest may send before it hears of us again, if the host takes it. Whatever the host's socket does not take
/// of that is held here: a guest that had to send it again would wait for a time-out (the peers' uploads do).
const WINDOW: usize = 1 << 20;
/// By how many bits our window is shifted.
pub(crate) const SCALE: u8 = 7;

/// One connection's way from the guest.
#[derive(Debug, Default)]
pub(crate) struct Receiver {
    /// The next byte that is expected.
    pub(crate) expected: Seq,
    /// The guest has been told that it may send up to here.
    pub(crate) told_until: Seq,
    pub(crate) early: Assembler,
    held: VecDeque<u8>,
    /// All of it is held for now.
    pub(crate) held_back: bool,
    /// The guest has sent its end.
    pub(crate) ended: bool,
    /// The host's socket has been told so.
    told_end: bool,
    /// Whether the window is shifted.
    pub(crate) scaled: bool,
}

impl Receiver {
    /// How much more is taken.
    pub(crate) fn window(&self) -> usize {
        let most = if self.scaled { WINDOW } else { u16::MAX.into() };
        most.saturating_sub(self.held.len())
    }

    /// As it stands in a header; the guest then knows it.
    pub(crate) fn tell_window(&mut self) -> u16 {
        let shift = if self.scaled { SCALE } else { 0 };
        let window = (self.window() >> shift).min(u16::MAX.into());
        self.told_until = self.told_until.later(self.expected + (window << shift));
        window as u16
    }

    /// Whether the guest should hear that there is much more room than it knows of.
    pub(crate) fn has_much_more_room(&self) -> bool {
        let known = self.told_until.since(self.expected).max(0) as usize;
        let window = self.window();
        window >= known + WINDOW / 4 || (known < WINDOW / 16 && window > known.max(4096) * 2)
    }

    /// Whether what comes next goes to the host's socket, and nothing else does.
    pub(crate) fn passes_on(&self) -> bool {
        self.held.is_empty() && !self.held_back && !self.ended && self.early.is_empty()
    }

    /// Takes what comes next; gives how much of it. Fails as the host's socket does.
    pub(crate) fn take(
        &mut self,
        mut pieces: &mut [IoSlice<'_>],
        socket: &mut impl Socket,
        buffers: &mut Buffers,
    ) -> io::Result<usize> {
        let length = pieces.iter().map(|piece| piece.len()).sum();
        let mut taken = 0;
        if self.held.is_empty() && !self.held_back {
            taken = send(socket, pieces)?;
        }
        if taken < length && buffers.reserve(length - taken) {
            IoSlice::advance_slices(&mut pieces, taken);
            pieces.iter().for_each(|piece| self.held.extend(&**piece));
            taken = length;
        }
        self.expected += taken;
        Ok(taken)
    }

    /// Keeps what comes later, as far as there is room.
    pub(crate) fn keep_early(&mut self, distance: u32, bytes: &[u8], buffers: &mut Buffers) {
        let (before, most) = (self.early.cost(), Assembler::most(bytes));
        if buffers.reserve(most) {
            self.early.keep(distance, bytes);
            buffers.free(before + most - self.early.cost());
        }
    }

    /// So many bytes more have been taken. Gives what follows them, if that was kept.
    pub(crate) fn advance(&mut self, bytes: usize, buffers: &mut Buffers) -> Option<Vec<u8>> {
        let before = self.early.cost();
        let next = self.early.advance(bytes);
        buffers.free(before - self.early.cost());
        next
    }

    /// The host's socket has room again.
    pub(crate) fn flush(&mut self, socket: &mut impl Socket, buffers: &mut Buffers) -> io::Result<()> {
        if self.held_back {
            return Ok(());
        }
        while !self.held.is_empty() {
            let length = self.held.as_slices().0.len();
            let taken = send(socket, &[IoSlice::new(self.held.as_slices().0)])?;
            self.held.drain(..taken);
            buffers.free(taken);
            if taken < length {
                return Ok(());
            }
        }
        self.held = VecDeque::new();
        if self.ended && !std::mem::replace(&mut self.told_end, true) {
            socket.end()?;
        }
        Ok(())
    }

    /// What is held back, where it is.
    pub(crate) fn held_back(&mut self) -> Option<&[u8]> {
        if self.held_back { Some(self.held.make_contiguous()) } else { None }
    }

    /// Whether the host's socket has everything, the end included.
    pub(crate) fn is_done(&self) -> bool {
        self.told_end
    }

    /// Gives back what is held.
    pub(crate) fn release(&mut self, buffers: &mut Buffers) {
        buffers.free(self.held.len() + self.early.cost());
        self.held.clear();
        self.early = Assembler::default();
    }
}

fn send(socket: &mut impl Socket, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
    if pieces.iter().all(|piece| piece.is_empty()) {
        return Ok(0);
    }
    match socket.send(pieces) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        other => other,
    }
}
