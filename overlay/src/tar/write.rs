//! Writing a tar archive: POSIX ustar, with PAX records where a field is too short and for extended attributes.

use std::io::{self, Read, Write};

use super::header::BLOCK;

/// What an entry is, and what its header says besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What<'a> {
    /// As many bytes follow.
    File {
        size: u64,
    },
    Directory,
    Symlink(&'a [u8]),
    HardLink(&'a [u8]),
    Fifo,
    CharDevice(u32, u32),
    BlockDevice(u32, u32),
}

/// The header of one entry.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head<'a> {
    /// Relative, without a slash at its end.
    pub(crate) path: &'a [u8],
    pub(crate) what: What<'a>,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Whole seconds since 1970: what Docker's archives have.
    pub(crate) mtime: i64,
    /// Names and values.
    pub(crate) xattrs: &'a [(Vec<u8>, Vec<u8>)],
}

/// An archive that grows. Without [`finish`](Self::finish) it has no end.
pub(crate) struct Writer<W>(W);

impl<W: Write> Writer<W> {
    pub(crate) fn new(out: W) -> Self {
        Self(out)
    }

    /// Writes an entry. A file's bytes are read from `data`: as many as its header says, be there more meanwhile or fewer,
    /// as with a file that grows or is cut while it is read.
    pub(crate) fn entry(&mut self, head: &Head<'_>, data: &mut dyn Read) -> Result<(), WriteError> {
        let mut path = head.path.to_vec();
        if head.what == What::Directory {
            path.push(b'/');
        }
        let (flag, link, size, device) = match head.what {
            What::File { size } => (b'0', &b""[..], size, (0, 0)),
            What::HardLink(link) => (b'1', link, 0, (0, 0)),
            What::Symlink(link) => (b'2', link, 0, (0, 0)),
            What::CharDevice(major, minor) => (b'3', &b""[..], 0, (major, minor)),
            What::BlockDevice(major, minor) => (b'4', &b""[..], 0, (major, minor)),
            What::Directory => (b'5', &b""[..], 0, (0, 0)),
            What::Fifo => (b'6', &b""[..], 0, (0, 0)),
        };
        let mut records = Vec::new();
        let mut block = [0; BLOCK];
        text(&mut block[..100], &path, "path", &mut records);
        number(&mut block[100..108], head.mode.into(), "", &mut records);
        number(&mut block[108..116], head.uid.into(), "uid", &mut records);
        number(&mut block[116..124], head.gid.into(), "gid", &mut records);
        number(&mut block[124..136], size.into(), "size", &mut records);
        number(&mut block[136..148], head.mtime.into(), "mtime", &mut records);
        block[156] = flag;
        text(&mut block[157..257], link, "linkpath", &mut records);
        block[257..265].copy_from_slice(b"ustar\x0000");
        if matches!(head.what, What::CharDevice(..) | What::BlockDevice(..)) {
            number(&mut block[329..337], device.0.into(), "", &mut records);
            number(&mut block[337..345], device.1.into(), "", &mut records);
        }
        for (name, value) in head.xattrs {
            record(&mut records, &[b"SCHILY.xattr.", &name[..]].concat(), value);
        }
        if !records.is_empty() {
            self.extension(&records).map_err(WriteError::Archive)?;
        }
        sum(&mut block);
        self.0.write_all(&block).map_err(WriteError::Archive)?;
        self.data(size, data)
    }

    /// Ends the archive; gives what it was written to.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.0.write_all(&[0; 2 * BLOCK])?;
        self.0.flush()?;
        Ok(self.0)
    }

    fn extension(&mut self, records: &[u8]) -> io::Result<()> {
        let mut block = [0; BLOCK];
        let none = &mut Vec::new();
        text(&mut block[..100], b"././@PaxHeader", "", none);
        number(&mut block[100..108], 0o644, "", none);
        for range in [108..116, 116..124, 136..148] {
            number(&mut block[range], 0, "", none);
        }
        number(&mut block[124..136], records.len() as i128, "", none);
        block[156] = b'x';
        block[257..265].copy_from_slice(b"ustar\x0000");
        sum(&mut block);
        self.0.write_all(&block)?;
        self.0.write_all(records)?;
        self.pad(records.len() as u64)
    }

    fn data(&mut self, size: u64, data: &mut dyn Read) -> Result<(), WriteError> {
        let mut buffer = vec![0; usize::try_from(size).unwrap_or(usize::MAX).min(256 << 10)];
        let mut left = size;
        let mut ended = false;
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            let mut length = 0;
            if !ended {
                length = match data.read(&mut buffer[..most]) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    length => length.map_err(WriteError::Data)?,
                };
                ended = length == 0;
            }
            if ended {
                buffer[..most].fill(0);
                length = most;
            }
            self.0.write_all(&buffer[..length]).map_err(WriteError::Archive)?;
            left -= length as u64;
        }
        self.pad(size).map_err(WriteError::Archive)
    }

    fn pad(&mut self, length: u64) -> io::Result<()> {
        let rest = length.wrapping_neg() % BLOCK as u64;
        self.0.write_all(&[0; BLOCK][..rest as usize])
    }
}

/// Which end failed.
#[derive(Debug)]
pub(crate) enum WriteError {
    /// What an entry's bytes are read from.
    Data(io::Error),
    /// What the archive is written to.
    Archive(io::Error),
}

/// Puts bytes in a field; where they are too many, in a record too.
fn text(field: &mut [u8], value: &[u8], key: &str, records: &mut Vec<u8>) {
    let length = value.len().min(field.len());
    field[..length].copy_from_slice(&value[..length]);
    if value.len() > field.len() {
        record(records, key.as_bytes(), value);
    }
}

/// Octal digits and a NUL; a number that has too many of them, or is negative, in a record.
fn number(field: &mut [u8], value: i128, key: &str, records: &mut Vec<u8>) {
    let digits = field.len() - 1;
    let mut octal = format!("{value:0digits$o}");
    if value < 0 || octal.len() > digits {
        record(records, key.as_bytes(), value.to_string().as_bytes());
        octal = "0".repeat(digits);
    }
    field[..digits].copy_from_slice(octal.as_bytes());
}

/// `<length> <key>=<value>\n`, where the length counts its own digits too.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(format!("{length} ").as_bytes());
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

/// The sum of all bytes, its own field taken as blanks.
fn sum(block: &mut [u8; BLOCK]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tar::{Archive, Kind};

    fn head<'a>(path: &'a [u8], what: What<'a>) -> Head<'a> {
        Head { path, what, mode: 0o4755, uid: 1, gid: 2, mtime: 1_700_000_000, xattrs: &[] }
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let long = [b'n'; 300];
        let xattrs = [(b"user.x".to_vec(), b"1\n2\0".to_vec())];
        let mut writer = Writer::new(Vec::new());
        let mut write = |head: &Head<'_>, mut data: &[u8]| writer.entry(head, &mut data).expect("written to memory");
        write(&head(b"d", What::Directory), b"");
        write(&Head { xattrs: &xattrs, ..head(b"d/f", What::File { size: 5 }) }, b"hello, and more");
        write(&head(b"short", What::File { size: 600 }), b"cut");
        let (uid, mtime) = (3_000_000_000, -5);
        write(&Head { uid, mtime, ..head(&long, What::Symlink(&long)) }, b"");
        write(&head(b"h", What::HardLink(b"d/f")), b"");
        write(&head(b"c", What::CharDevice(1, 3)), b"");
        let bytes = writer.finish().expect("written to memory");

        let mut archive = Archive::new(&bytes[..]);
        let mut next = || archive.next().expect("an archive").expect("an entry");
        let (d, f) = (next(), next());
        assert_eq!((&d.path[..], &d.kind, d.mode, d.uid, d.gid), (&b"d/"[..], &Kind::Directory, 0o4755, 1, 2));
        assert_eq!((&f.path[..], &f.kind, &f.xattrs[..]), (&b"d/f"[..], &Kind::File { size: 5 }, &xattrs[..]));
        assert_eq!(archive.data(9).expect("its data"), b"hello");
        let short = archive.next().expect("an archive").expect("an entry");
        assert_eq!(short.kind, Kind::File { size: 600 });
        assert_eq!(archive.data(4).expect("its data"), b"cut\0");
        let mut next = || archive.next().expect("an archive").expect("an entry");
        let l = next();
        assert_eq!((&l.path[..], l.uid, l.mtime.seconds), (&long[..], 3_000_000_000, -5));
        assert_eq!(l.kind, Kind::Symlink(long.to_vec()));
        assert_eq!(next().kind, Kind::HardLink(b"d/f".to_vec()));
        assert_eq!(next().kind, Kind::CharDevice(1, 3));
        assert!(archive.next().expect("an archive").is_none());
    }

    #[test]
    fn a_records_length_counts_itself() {
        for length in [1, 88, 89, 90, 91, 988, 989, 990, 991] {
            let mut bytes = Vec::new();
            record(&mut bytes, b"path", &vec![b'x'; length]);
            let said: usize = std::str::from_utf8(&bytes)
                .expect("text")
                .split(' ')
                .next()
                .expect("a length")
                .parse()
                .expect("a number");
            assert_eq!(said, bytes.len());
        }
    }
}
