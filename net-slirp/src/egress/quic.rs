//! QUIC: TLS over UDP, whose server name is behind a cipher (RFC 9001, 5.2). It is told apart, and no more.

/// A client's first datagram has as many bytes at least, or no server answers it (RFC 9000, 14.1).
const SHORTEST: usize = 1200;
/// Of a connection's id (RFC 9000, 17.2).
const LONGEST_ID: u8 = 20;

/// Whether a datagram may begin a connection: a long header of any version but 0, and long enough.
pub(super) fn begins(datagram: &[u8]) -> bool {
    let [first, version @ .., length] = match datagram.first_chunk::<6>() {
        Some(header) if datagram.len() >= SHORTEST => *header,
        _ => return false,
    };
    first & 0xc0 == 0xc0 && version != [0; 4] && length <= LONGEST_ID
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_server_would_answer() {
        let mut datagram = [0; SHORTEST];
        datagram[..6].copy_from_slice(&[0xc3, 0, 0, 0, 1, 8]);
        assert!(begins(&datagram));
        assert!(!begins(&datagram[..SHORTEST - 1]));
        for (place, byte) in [(0, 0x43), (0, 0x80), (4, 0), (5, 21)] {
            let mut other = datagram;
            other[place] = byte;
            assert!(!begins(&other), "{place}");
        }
        assert!(!begins(&[]));
    }
}
