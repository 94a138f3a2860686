//! One 512-byte header block: POSIX ustar ("ustar Interchange Format", IEEE Std 1003.1), GNU tar's variant, v7.

use super::Problem;

/// The size that everything in a tar archive is a multiple of.
pub(crate) const BLOCK: usize = 512;

/// A header whose checksum is right.
pub(crate) struct Header<'a>(&'a [u8; BLOCK]);

impl<'a> Header<'a> {
    /// Checks the checksum: the sum of all bytes with its own field taken as blanks. Some old tars summed signed bytes.
    pub(crate) fn parse(block: &'a [u8; BLOCK]) -> Result<Self, Problem> {
        let (mut unsigned, mut signed) = (0_u64, 0_i64);
        for (at, byte) in block.iter().enumerate() {
            let byte = if (148..156).contains(&at) { b' ' } else { *byte };
            unsigned += u64::from(byte);
            signed += i64::from(byte as i8);
        }
        let stored = number(&block[148..156]).map_err(|_| Problem::Checksum)?;
        if stored == i128::from(unsigned) || stored == i128::from(signed) {
            Ok(Self(block))
        } else {
            Err(Problem::Checksum)
        }
    }

    /// The type flag.
    pub(crate) fn flag(&self) -> u8 {
        self.0[156]
    }

    /// The name, with the prefix that ustar splits off.
    pub(crate) fn name(&self) -> Vec<u8> {
        let name = text(&self.0[..100]);
        // GNU's magic is "ustar  \0" and uses the prefix's place for other things; star cuts its prefix short.
        let prefix: &[u8] = match (&self.0[257..263], &self.0[508..512]) {
            (b"ustar\0", b"tar\0") => text(&self.0[345..476]),
            (b"ustar\0", _) => text(&self.0[345..500]),
            _ => b"",
        };
        if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
    }

    /// What a link points to.
    pub(crate) fn link(&self) -> &'a [u8] {
        text(&self.0[157..257])
    }

    pub(crate) fn mode(&self) -> Result<u32, Problem> {
        // Some writers put the file type in as well.
        Ok((self.unsigned(100..108, "mode")? & 0o7777) as u32)
    }

    pub(crate) fn uid(&self) -> Result<u64, Problem> {
        self.unsigned(108..116, "uid")
    }

    pub(crate) fn gid(&self) -> Result<u64, Problem> {
        self.unsigned(116..124, "gid")
    }

    pub(crate) fn size(&self) -> Result<u64, Problem> {
        self.unsigned(124..136, "size")
    }

    /// Seconds since 1970.
    pub(crate) fn mtime(&self) -> Result<i64, Problem> {
        number(&self.0[136..148]).ok().and_then(|value| i64::try_from(value).ok()).ok_or(Problem::Number("mtime"))
    }

    pub(crate) fn device(&self) -> Result<(u32, u32), Problem> {
        let part = |at, what| u32::try_from(self.unsigned(at, what)?).map_err(|_| Problem::Number(what));
        Ok((part(329..337, "device major")?, part(337..345, "device minor")?))
    }

    /// The whole block, for the fields of the GNU sparse format.
    pub(crate) fn bytes(&self) -> &'a [u8; BLOCK] {
        self.0
    }

    fn unsigned(&self, at: std::ops::Range<usize>, what: &'static str) -> Result<u64, Problem> {
        number(&self.0[at]).ok().and_then(|value| u64::try_from(value).ok()).ok_or(Problem::Number(what))
    }
}

/// Up to the first NUL.
fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// A numeric field: octal digits with blanks or NULs around them, or, when the first byte's high bit is set, GNU's
/// base 256: big-endian two's complement of all remaining bits. The widest field has 95 bits.
pub(super) fn number(field: &[u8]) -> Result<i128, ()> {
    match field.split_first() {
        Some((first, rest)) if first & 0x80 != 0 => {
            // Bit 6 is the sign.
            let start = i128::from(first & 0x7f) - if first & 0x40 != 0 { 0x80 } else { 0 };
            Ok(rest.iter().fold(start, |value, byte| value << 8 | i128::from(*byte)))
        }
        _ => {
            let digits = field.trim_ascii_start();
            // What stands after the NUL is garbage in some old archives, and harmless.
            let end = digits.iter().position(|byte| matches!(byte, 0 | b' ')).unwrap_or(digits.len());
            digits[..end].iter().try_fold(0_i128, |value, digit| match digit {
                b'0'..=b'7' => Ok(value << 3 | i128::from(digit - b'0')),
                _ => Err(()),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for (field, expected) in [
            (&b"0000644\0"[..], Ok(0o644)),
            (b"   644 \0", Ok(0o644)),
            (b"\0\0\0\0\0\0\0\0", Ok(0)),
            (b"00000000144\0", Ok(100)),
            (b"77777777", Ok(0o77_777_777)),
            (b"\x80\0\0\0\0\0\x01\0", Ok(256)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xfe", Ok(-2)),
            (b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", Ok(i128::from(i64::MAX))),
            (b"0000648\0", Err(())),
            (b"-1\0\0\0\0\0\0", Err(())),
        ] {
            assert_eq!(number(field), expected, "{field:?}");
        }
    }
}
