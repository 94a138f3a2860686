//! What goes to the guest, kept until the guest has it (RFC 9293, 3.8; RFC 6298, RFC 6582, RFC 2018).
//!
//! There is no congestion between us and the guest, and no round trip worth measuring: what is written to the tap is in the
//! guest's hands before the write returns, or is dropped because its queue is full. So everything that the guest's window
//! has room for is sent at once, and the time-out is short and constant, doubled with each try.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::buffers::Buffers;
use super::segment::{RANGES, Range, Segment};
use super::seq::Seq;

/// Longer than a guest waits with an acknowledgement (40 to 200 ms).
const TIME_OUT: Duration = Duration::from_millis(300);
/// Of a beginning (RFC 6298, 2.1).
const SYN_TIME_OUT: Duration = Duration::from_secs(1);
const LONGEST_TIME_OUT: Duration = Duration::from_secs(60);
/// A guest that has not answered this often is gone: after four minutes for a beginning (RFC 5382, REQ-5), and a
/// quarter of an hour for data (RFC 1122, 4.2.3.5).
const SYN_TRIES: u32 = 9;
const TRIES: u32 = 20;
/// So many acknowledgements of the same byte mean that what follows it is lost.
const DUPLICATES: u32 = 3;

/// A piece of the stream under way: a beginning, data, or an end.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) seq: Seq,
    pub(crate) syn: bool,
    pub(crate) fin: bool,
    buffer: Vec<u8>,
    /// The data's place in the buffer.
    from: usize,
    until: usize,
    /// The guest has it, but not all that precedes it.
    reported: bool,
}

impl Chunk {
    pub(crate) fn data(&self) -> &[u8] {
        &self.buffer[self.from..self.until]
    }

    fn length(&self) -> usize {
        self.until - self.from + usize::from(self.syn) + usize::from(self.fin)
    }

    fn end(&self) -> Seq {
        self.seq + self.length()
    }
}

/// One connection's way to the guest.
#[derive(Debug)]
pub(crate) struct Sender {
    /// The first byte that the guest has not acknowledged, and the first that was never sent.
    pub(crate) unacknowledged: Seq,
    pub(crate) next: Seq,
    under_way: VecDeque<Chunk>,
    /// How much more than `unacknowledged` the guest takes, and the largest that this has ever been.
    window: usize,
    largest_window: usize,
    /// By how many bits the guest shifts it.
    scale: u8,
    /// Of which segment the window is: its number and its acknowledgement.
    window_from: (Seq, Seq),
    /// The most data that the guest takes in a segment.
    pub(crate) mss: usize,
    duplicates: u32,
    /// A loss is being mended until all that was sent before is acknowledged.
    mending_until: Option<Seq>,
    tries: u32,
    time_out: Duration,
    pub(crate) expires: Option<Instant>,
    /// An end has been sent.
    pub(crate) ended: bool,
}

/// What has come of an expired time.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Expired {
    /// Send what comes first once more.
    Again,
    /// Ask whether there is room now.
    Probe,
    /// The guest does not answer.
    Gone,
}

impl Sender {
    pub(crate) fn new(first: Seq, mss: usize) -> Self {
        Self {
            unacknowledged: first,
            next: first,
            under_way: VecDeque::new(),
            window: 0,
            largest_window: 0,
            scale: 0,
            window_from: (Seq(0), Seq(0)),
            mss,
            duplicates: 0,
            mending_until: None,
            tries: 0,
            time_out: SYN_TIME_OUT,
            expires: None,
            ended: false,
        }
    }

    /// Takes the sizes that the guest begins with.
    pub(crate) fn begin_with(&mut self, segment: &Segment<'_>) {
        // RFC 9293, 3.7.1: who names no size takes 536 bytes; and nobody takes fewer than 88 (as Linux's tcp_min_snd_mss).
        self.mss = self.mss.min(segment.mss.unwrap_or(536).max(88).into());
        self.scale = segment.window_scale.unwrap_or(0);
        // The window of a beginning is not scaled.
        self.window = segment.window.into();
        self.largest_window = self.window;
        self.window_from = (segment.seq, segment.ack.unwrap_or_default());
    }

    /// How much may be sent now; none where so little that the guest would rather wait (RFC 9293, 3.8.6.2.1).
    pub(crate) fn room(&self) -> usize {
        let under_way = self.next.since(self.unacknowledged).max(0) as usize;
        let room = self.window.saturating_sub(under_way);
        if room >= self.mss || room >= self.largest_window / 2 || under_way == 0 { room } else { 0 }
    }

    /// The number of a segment without data. A guest drops what begins behind its window, with the acknowledgement in it;
    /// and its window may have shrunk since, by rounding alone (RFC 7323, 2.4).
    pub(crate) fn number(&self) -> Seq {
        let end = self.unacknowledged + self.window;
        if end.is_before(self.next) { end } else { self.next }
    }

    /// Whether the guest has everything, the end included.
    pub(crate) fn is_done(&self) -> bool {
        self.ended && self.under_way.is_empty()
    }

    /// Whether the guest has all data, and what is under way at most is the end.
    pub(crate) fn has_given_all(&self) -> bool {
        self.ended && self.under_way.iter().all(|chunk| chunk.data().is_empty())
    }

    /// Whether it waits for the guest to take more.
    pub(crate) fn is_shut(&self) -> bool {
        self.window == 0
    }

    /// One more piece, which is on its way now.
    pub(crate) fn push(&mut self, now: Instant, syn: bool, fin: bool, buffer: Vec<u8>, length: usize) -> &Chunk {
        let chunk = Chunk { seq: self.next, syn, fin, buffer, from: 0, until: length, reported: false };
        self.next = chunk.end();
        self.ended |= fin;
        if self.under_way.is_empty() {
            self.expires = Some(now + self.time_out);
            self.tries = 0;
        }
        self.under_way.push_back(chunk);
        let last = self.under_way.len() - 1;
        &self.under_way[last]
    }

    /// Hears what the guest has, and has room for. Says whether something is to be sent once more.
    pub(crate) fn hear(&mut self, now: Instant, segment: &Segment<'_>, buffers: &mut Buffers) -> bool {
        let Some(ack) = segment.ack else { return false };
        let window = usize::from(segment.window) << self.scale;
        let (same_window, was_shut) = (window == self.window, self.window == 0);
        // Not of an older segment (RFC 9293, 3.10.7.4).
        let (seq_from, ack_from) = self.window_from;
        if segment.seq.is_after(seq_from) || (segment.seq == seq_from && !ack.is_before(ack_from)) {
            (self.window, self.window_from) = (window, (segment.seq, ack));
            self.largest_window = self.largest_window.max(window);
        }
        self.note(segment.ranges);
        if ack.is_after(self.unacknowledged) {
            self.acknowledge(now, ack, buffers);
            return self.mending_until.is_some();
        }
        let says_nothing_new = ack == self.unacknowledged && segment.length() == 0 && same_window;
        if was_shut && self.window > 0 && !self.under_way.is_empty() {
            // What it had no room for it has thrown away.
            self.time_out = TIME_OUT;
            self.expires = Some(now + self.time_out);
            return true;
        }
        if says_nothing_new && !self.under_way.is_empty() {
            self.duplicates += 1;
            if self.duplicates == DUPLICATES && self.mending_until.is_none() {
                self.mending_until = Some(self.next);
                return true;
            }
        }
        false
    }

    /// The guest has everything before `ack`, which is more than it had: with the beginning, the times of data begin. A loss
    /// is mended when the guest has all that was sent before.
    pub(crate) fn acknowledge(&mut self, now: Instant, ack: Seq, buffers: &mut Buffers) {
        self.unacknowledged = ack;
        self.duplicates = 0;
        self.mending_until = self.mending_until.filter(|until| ack.is_before(*until));
        while let Some(first) = self.under_way.front_mut() {
            if first.end().is_after(ack) {
                let mut had = ack.since(first.seq).max(0) as usize;
                first.seq += had;
                if had > 0 && std::mem::take(&mut first.syn) {
                    had -= 1;
                }
                first.from += had;
                break;
            }
            if let Some(done) = self.under_way.pop_front() {
                buffers.release(done.buffer);
            }
        }
        self.tries = 0;
        self.time_out = TIME_OUT;
        self.expires = (!self.under_way.is_empty()).then(|| now + self.time_out);
    }

    /// Remembers which pieces need not be sent again.
    fn note(&mut self, ranges: [Option<Range>; RANGES]) {
        for (left, right) in ranges.into_iter().flatten() {
            for chunk in &mut self.under_way {
                chunk.reported |= !chunk.seq.is_before(left) && !chunk.end().is_after(right);
            }
        }
    }

    /// What comes first of that which the guest has not.
    pub(crate) fn first_missing(&self) -> Option<&Chunk> {
        self.under_way.iter().find(|chunk| !chunk.reported)
    }

    /// There is something to send and no room for it: the guest is asked from time to time, in case that its word got lost.
    pub(crate) fn wait_for_room(&mut self, now: Instant) {
        if self.under_way.is_empty() && self.expires.is_none() {
            self.expires = Some(now + self.time_out);
        }
    }

    /// The time is over.
    pub(crate) fn expire(&mut self, now: Instant) -> Expired {
        self.time_out = (self.time_out * 2).min(LONGEST_TIME_OUT);
        self.expires = Some(now + self.time_out);
        let Some(first) = self.under_way.front() else {
            // For as long as it answers (RFC 9293, 3.8.6.1); that it does is seen by the flow.
            return Expired::Probe;
        };
        self.tries += 1;
        if self.tries >= if first.syn { SYN_TRIES } else { TRIES } {
            return Expired::Gone;
        }
        // What it had reported it may have thrown away since (RFC 2018, 8).
        self.under_way.iter_mut().for_each(|chunk| chunk.reported = false);
        self.mending_until = Some(self.next);
        self.duplicates = 0;
        Expired::Again
    }

    /// It does not wait for room any more.
    pub(crate) fn has_room(&mut self) {
        if self.under_way.is_empty() {
            self.expires = None;
            self.time_out = TIME_OUT;
        }
    }

    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.under_way.len()
    }

    /// Gives back what is under way.
    pub(crate) fn release(&mut self, buffers: &mut Buffers) {
        self.under_way.drain(..).for_each(|chunk| buffers.release(chunk.buffer));
        self.expires = None;
    }
}
