//! What a monitor and those who are attached to it say to each other: a letter, and what belongs to it.

use std::io;

/// The most bytes of a stream in one frame.
pub(crate) const LONGEST: usize = 16 << 10;

/// One message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Frame<'a> {
    /// To the workload's standard input, or its terminal.
    Input(&'a [u8]),
    /// There is no more input.
    EndOfInput,
    /// Rows and columns of the terminal now.
    Size(u16, u16),
    /// From the workload's standard output, or its terminal.
    Output(&'a [u8]),
    /// From its standard error.
    Error(&'a [u8]),
    /// It has ended, with this status as a shell shows it.
    Exit(u8),
}

impl<'a> Frame<'a> {
    /// As it is sent.
    pub(crate) fn encode(self) -> Vec<u8> {
        let (letter, bytes) = match self {
            Self::Input(bytes) => (b'i', bytes),
            Self::EndOfInput => (b'.', &[][..]),
            Self::Size(rows, columns) => {
                let [a, b] = rows.to_be_bytes();
                let [c, d] = columns.to_be_bytes();
                return vec![b's', a, b, c, d];
            }
            Self::Output(bytes) => (b'o', bytes),
            Self::Error(bytes) => (b'e', bytes),
            Self::Exit(status) => return vec![b'x', status],
        };
        let mut message = Vec::with_capacity(1 + bytes.len());
        message.push(letter);
        message.extend_from_slice(bytes);
        message
    }

    /// What was received.
    pub(crate) fn decode(message: &'a [u8]) -> io::Result<Self> {
        match *message {
            [b'i', ref bytes @ ..] => Ok(Self::Input(bytes)),
            [b'.'] => Ok(Self::EndOfInput),
            [b's', a, b, c, d] => Ok(Self::Size(u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))),
            [b'o', ref bytes @ ..] => Ok(Self::Output(bytes)),
            [b'e', ref bytes @ ..] => Ok(Self::Error(bytes)),
            [b'x', status] => Ok(Self::Exit(status)),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_received() {
        let frames = [
            Frame::Input(b"ls\n"),
            Frame::EndOfInput,
            Frame::Size(24, 1000),
            Frame::Output(b""),
            Frame::Error(&[0, 255]),
            Frame::Exit(137),
        ];
        for frame in frames {
            assert_eq!(Frame::decode(&frame.encode()).expect("valid"), frame);
        }
        for bad in [&b""[..], b"?", b"s12", b"x", b"..", b"x12"] {
            assert!(Frame::decode(bad).is_err(), "{bad:?} was taken");
        }
    }
}
