//! Segments as they stand in packets (RFC 9293, 3.1; RFC 7323, RFC 2018 for the options).

use smoltcp::wire::{TcpOption, TcpPacket};

use super::seq::Seq;

/// The most ranges that one segment can report.
pub(crate) const RANGES: usize = 3;

/// A range of the stream that has arrived before what precedes it.
pub(crate) type Range = (Seq, Seq);

/// A segment, from or to the guest.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Segment<'a> {
    pub(crate) source: u16,
    pub(crate) destination: u16,
    pub(crate) seq: Seq,
    /// The next byte that its sender expects; none before it has heard anything.
    pub(crate) ack: Option<Seq>,
    /// As it stands in the header: not scaled.
    pub(crate) window: u16,
    pub(crate) flags: Flags,
    pub(crate) mss: Option<u16>,
    pub(crate) window_scale: Option<u8>,
    pub(crate) may_report: bool,
    pub(crate) ranges: [Option<Range>; RANGES],
    pub(crate) payload: &'a [u8],
}

/// What it says besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Flags {
    pub(crate) syn: bool,
    pub(crate) fin: bool,
    pub(crate) rst: bool,
    pub(crate) psh: bool,
}

impl<'a> Segment<'a> {
    /// What is in a packet; none where that is no TCP.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let packet = TcpPacket::new_checked(bytes).ok()?;
        if packet.header_len() < 20 || packet.src_port() == 0 || packet.dst_port() == 0 {
            return None;
        }
        let seq = |number: smoltcp::wire::TcpSeqNumber| Seq(number.0 as u32);
        let mut segment = Self {
            source: packet.src_port(),
            destination: packet.dst_port(),
            seq: seq(packet.seq_number()),
            ack: packet.ack().then(|| seq(packet.ack_number())),
            window: packet.window_len(),
            flags: Flags { syn: packet.syn(), fin: packet.fin(), rst: packet.rst(), psh: packet.psh() },
            payload: packet.payload(),
            ..Self::default()
        };
        let mut options = packet.options();
        while !options.is_empty() {
            // What is not understood ends the list; the rest of the segment stands.
            let Ok((rest, option)) = TcpOption::parse(options) else { break };
            match option {
                TcpOption::EndOfList => break,
                TcpOption::MaxSegmentSize(size) => segment.mss = Some(size),
                // More than 14 means 14 (RFC 7323, 2.3).
                TcpOption::WindowScale(shift) => segment.window_scale = Some(shift.min(14)),
                TcpOption::SackPermitted => segment.may_report = true,
                TcpOption::SackRange(ranges) => {
                    segment.ranges = ranges.map(|range| range.map(|(left, right)| (Seq(left), Seq(right))));
                }
                _ => {}
            }
            options = rest;
        }
        Some(segment)
    }

    /// How much of the stream it takes up: a beginning and an end count as one byte each.
    pub(crate) fn length(&self) -> usize {
        self.payload.len() + usize::from(self.flags.syn) + usize::from(self.flags.fin)
    }

    /// Its header, without a checksum; gives the header's length.
    pub(crate) fn emit(&self, header: &mut [u8; 60]) -> usize {
        let mut length = 20;
        let mut option = |bytes: &[u8]| {
            header[length..length + bytes.len()].copy_from_slice(bytes);
            length += bytes.len();
        };
        if let Some(mss) = self.mss {
            let [high, low] = mss.to_be_bytes();
            option(&[2, 4, high, low]);
        }
        if let Some(shift) = self.window_scale {
            option(&[1, 3, 3, shift]);
        }
        if self.may_report {
            option(&[1, 1, 4, 2]);
        }
        let ranges = self.ranges.iter().flatten();
        let count = ranges.clone().count();
        if count > 0 {
            option(&[1, 1, 5, (2 + 8 * count) as u8]);
            for (left, right) in ranges {
                option(&left.0.to_be_bytes());
                option(&right.0.to_be_bytes());
            }
        }
        header[0..2].copy_from_slice(&self.source.to_be_bytes());
        header[2..4].copy_from_slice(&self.destination.to_be_bytes());
        header[4..8].copy_from_slice(&self.seq.0.to_be_bytes());
        header[8..12].copy_from_slice(&self.ack.unwrap_or_default().0.to_be_bytes());
        header[12] = (length as u8 / 4) << 4;
        let Flags { syn, fin, rst, psh } = self.flags;
        header[13] = [(fin, 1), (syn, 2), (rst, 4), (psh, 8), (self.ack.is_some(), 16)]
            .map(|(set, bit)| if set { bit } else { 0 })
            .iter()
            .sum();
        header[14..16].copy_from_slice(&self.window.to_be_bytes());
        header[16..20].fill(0);
        length
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let written = Segment {
            source: 1,
            destination: 65535,
            seq: Seq(u32::MAX),
            ack: Some(Seq(7)),
            window: 4096,
            flags: Flags { syn: true, psh: true, ..Flags::default() },
            mss: Some(1460),
            window_scale: Some(8),
            may_report: true,
            ranges: [Some((Seq(10), Seq(20))), Some((Seq(30), Seq(40))), None],
            payload: b"data",
        };
        let mut header = [0; 60];
        let length = written.emit(&mut header);
        let bytes = [&header[..length], b"data"].concat();
        let read = Segment::parse(&bytes).expect("valid");
        assert_eq!(format!("{read:?}"), format!("{written:?}"));
        assert_eq!(read.length(), 5);
        for cut in 0..length {
            assert!(Segment::parse(&bytes[..cut]).is_none(), "{cut} bytes were taken for a segment");
        }
    }
}
