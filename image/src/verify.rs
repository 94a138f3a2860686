//! The only place where bytes become a [`VerifiedBlob`].

use std::{fs::File, os::unix::fs::FileExt};

use rbox_types::Digest;
use sha2::{Digest as _, Sha256};

use crate::Error;

/// The proof that some file holds exactly the bytes its digest names.
///
/// Made only by [`verify_file`] and by [`Client::fetch`](crate::Client::fetch): whoever asks for one (the store,
/// before it commits a blob) cannot be given unverified bytes by mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifiedBlob {
    digest: Digest,
    size: u64,
}

impl VerifiedBlob {
    /// The sha256 that was computed and compared.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Bytes hashed.
    pub fn size(&self) -> u64 {
        self.size
    }
}

/// Enough that the system calls disappear beside the hashing, small enough to stay in a core's cache.
pub(crate) const BUFFER: usize = 256 << 10;

/// Hashes what a file holds, from its beginning to its end, and compares: for blobs that an unclean boot may have
/// damaged. The file's cursor is left alone.
pub fn verify_file(file: &File, digest: &Digest) -> Result<VerifiedBlob, Error> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; BUFFER];
    let mut size = 0;
    loop {
        match file.read_at(&mut buffer, size) {
            Ok(0) => break,
            Ok(count) => {
                hasher.update(&buffer[..count]);
                size += count as u64;
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(source) => return Err(Error::Read { digest: *digest, source }),
        }
    }
    compare(|| format!("blob {digest}"), *digest, Digest::from_sha256(hasher.finalize().into()))?;
    Ok(VerifiedBlob { digest: *digest, size })
}

/// Whether `bytes` are what `expected` names.
pub(crate) fn verify_bytes(what: impl FnOnce() -> String, bytes: &[u8], expected: Digest) -> Result<(), Error> {
    compare(what, expected, Digest::of(bytes))
}

fn compare(what: impl FnOnce() -> String, expected: Digest, actual: Digest) -> Result<(), Error> {
    if actual == expected { Ok(()) } else { Err(Error::DigestMismatch { what: what(), expected, actual }) }
}

/// Hashes a blob as it arrives, over as many connections as it takes.
pub(crate) struct Verifier {
    hasher: Sha256,
    digest: Digest,
    size: u64,
    seen: u64,
}

impl Verifier {
    pub(crate) fn new(digest: Digest, size: u64) -> Self {
        Self { hasher: Sha256::new(), digest, size, seen: 0 }
    }

    /// Bytes taken in so far: where the next connection goes on.
    pub(crate) fn seen(&self) -> u64 {
        self.seen
    }

    /// Bytes still to come.
    pub(crate) fn missing(&self) -> u64 {
        self.size - self.seen
    }

    /// Takes in the next bytes; refuses, before any of them is used, those beyond the announced size.
    pub(crate) fn update(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let seen = self.seen + bytes.len() as u64;
        if seen > self.size {
            return Err(self.wrong_size(seen));
        }
        self.hasher.update(bytes);
        self.seen = seen;
        Ok(())
    }

    pub(crate) fn wrong_size(&self, actual: u64) -> Error {
        Error::SizeMismatch { what: format!("blob {}", self.digest), expected: self.size, actual }
    }

    pub(crate) fn finish(self) -> Result<VerifiedBlob, Error> {
        if self.seen != self.size {
            return Err(self.wrong_size(self.seen));
        }
        let Self { hasher, digest, size, .. } = self;
        compare(|| format!("blob {digest}"), digest, Digest::from_sha256(hasher.finalize().into()))?;
        Ok(VerifiedBlob { digest, size })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_file_is_read_whatever_its_cursor() {
        let mut file = tempfile::tempfile().expect("temporary file");
        file.write_all(b"hello").expect("written");
        let digest = Digest::of(b"hello");
        let blob = verify_file(&file, &digest).expect("verified");
        assert_eq!((blob.digest(), blob.size()), (digest, 5));
        file.write_all(b"!").expect("written");
        assert!(matches!(verify_file(&file, &digest), Err(Error::DigestMismatch { .. })));
    }

    #[test]
    fn size_and_digest_both_count() {
        let digest = Digest::of(b"abc");
        let feed = |size, parts: &[&[u8]]| {
            let mut verifier = Verifier::new(digest, size);
            for part in parts {
                verifier.update(part)?;
            }
            verifier.finish()
        };
        assert!(feed(3, &[b"a", b"", b"bc"]).is_ok());
        assert!(matches!(feed(3, &[b"ab"]), Err(Error::SizeMismatch { expected: 3, actual: 2, .. })));
        assert!(matches!(feed(3, &[b"abc", b"d"]), Err(Error::SizeMismatch { expected: 3, actual: 4, .. })));
        assert!(matches!(feed(3, &[b"abd"]), Err(Error::DigestMismatch { .. })));
    }
}
