//! What stands before each frame on a tap with IFF_VNET_HDR: which checksum is yet to be made, and into what segments the
//! packet is to be cut (struct virtio_net_hdr in linux/virtio_net.h; virtio 1.2, 5.1.6). In the byte order of the machine.

/// How long it is.
pub(crate) const LENGTH: usize = 10;

/// VIRTIO_NET_HDR_F_NEEDS_CSUM: the sum of the pseudo-header is there, the rest is to be added.
const NEEDS_CHECKSUM: u8 = 1;
/// VIRTIO_NET_HDR_GSO_TCPV4 and _TCPV6.
const SEGMENTS_TCPV4: u8 = 1;
const SEGMENTS_TCPV6: u8 = 4;

/// The header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct VnetHeader {
    flags: u8,
    segments: u8,
    headers: u16,
    segment: u16,
    checksum_start: u16,
    checksum_offset: u16,
}

impl VnetHeader {
    /// Of a frame that is as it should be on the wire.
    pub(crate) const NONE: Self =
        Self { flags: 0, segments: 0, headers: 0, segment: 0, checksum_start: 0, checksum_offset: 0 };

    /// Of one whose checksum the kernel is to make, if anybody looks at it: over all from `start` on, put `offset` behind
    /// that, where the sum of the pseudo-header is.
    pub(crate) fn with_checksum(start: usize, offset: usize) -> Self {
        let (start, offset) = (start as u16, offset as u16);
        Self { flags: NEEDS_CHECKSUM, checksum_start: start, checksum_offset: offset, ..Self::NONE }
    }

    /// The same of a TCP packet with `headers` bytes before its data, of which no more than `segment` go at once.
    pub(crate) fn in_segments(self, is_v6: bool, headers: usize, segment: usize) -> Self {
        let segments = if is_v6 { SEGMENTS_TCPV6 } else { SEGMENTS_TCPV4 };
        Self { segments, headers: headers as u16, segment: segment as u16, ..self }
    }

    /// Whether the checksum is none that could be wrong: the frame never was on a wire.
    pub(crate) fn vouches_for_checksum(self) -> bool {
        self.flags & NEEDS_CHECKSUM != 0
    }

    /// As it is written.
    pub(crate) fn encode(self) -> [u8; LENGTH] {
        let mut bytes = [self.flags, self.segments, 0, 0, 0, 0, 0, 0, 0, 0];
        for (place, field) in
            bytes[2..].chunks_exact_mut(2).zip([self.headers, self.segment, self.checksum_start, self.checksum_offset])
        {
            place.copy_from_slice(&field.to_ne_bytes());
        }
        bytes
    }

    /// As it was read.
    pub(crate) fn decode(bytes: [u8; LENGTH]) -> Self {
        let field = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        Self {
            flags: bytes[0],
            segments: bytes[1],
            headers: field(2),
            segment: field(4),
            checksum_start: field(6),
            checksum_offset: field(8),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let header = VnetHeader::with_checksum(34, 16).in_segments(true, 54, 1440);
        assert_eq!(VnetHeader::decode(header.encode()), header);
        assert!(header.vouches_for_checksum() && !VnetHeader::NONE.vouches_for_checksum());
        assert_eq!(VnetHeader::NONE.encode(), [0; LENGTH]);
    }
}
