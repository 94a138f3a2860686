//! One blob from a registry into a file, hashed on its way.
//!
//! network → sha256 → file, once, in one thread and one buffer; several blobs at once are several calls from several
//! threads. When a connection breaks, the next one goes on where it stopped (Range, RFC 9110 §14.2) with the same
//! running hash; from a server that knows no ranges the part already had is read again and thrown away.

use std::{fs::File, io::Read, os::unix::fs::FileExt};

use rbox_types::{Digest, Reference};
use ureq::http::{HeaderMap, Method, StatusCode, header};

use crate::{
    Client, Error,
    client::Wanted,
    retry::Attempts,
    transport::{classify_read, content_length},
    verify::{BUFFER, VerifiedBlob, Verifier},
};

/// Progress of this much makes the tries count anew.
const PROGRESS: u64 = 1 << 20;

impl Client {
    /// Fetches the blob `digest` of `size` bytes into `dest`, from its first byte on; the file's cursor is not used.
    ///
    /// `progress` is told the bytes that are in the file so far, after they were written: a reader may follow (with
    /// pread), but knows only from the result that they are the right ones. More bytes than `size` are refused
    /// before they are written. The file is not synced.
    pub fn fetch(
        &self,
        reference: &Reference,
        digest: &Digest,
        size: u64,
        dest: &File,
        progress: &dyn Fn(u64),
    ) -> Result<VerifiedBlob, Error> {
        let mut verifier = Verifier::new(*digest, size);
        let mut buffer = vec![0; BUFFER];
        let mut attempts = Attempts::new(self.retry());
        let mut last_failure_at = 0;
        while verifier.missing() > 0 {
            let Err(error) = self.fetch_on(reference, digest, dest, progress, &mut verifier, &mut buffer) else {
                break;
            };
            if verifier.seen() >= last_failure_at + PROGRESS {
                attempts.progressed();
            }
            last_failure_at = verifier.seen();
            attempts.wait(error)?;
        }
        verifier.finish()
    }

    /// As far as one connection goes.
    fn fetch_on(
        &self,
        reference: &Reference,
        digest: &Digest,
        dest: &File,
        progress: &dyn Fn(u64),
        verifier: &mut Verifier,
        buffer: &mut [u8],
    ) -> Result<(), Error> {
        let start = verifier.seen();
        let range = format!("bytes={start}-");
        let headers = [(header::RANGE, range.as_str())];
        let headers = if start > 0 { &headers[..] } else { &[] };
        let answer = match self.request(Method::GET, reference, Wanted::Blob(*digest), headers) {
            // The server's blob ends where we stopped, or before.
            Err(Error::Status { status: 416, .. }) if start > 0 => return Err(verifier.wrong_size(start)),
            answer => answer?,
        };
        let host = answer.host;
        let mut to_skip = match answer.response.status() {
            StatusCode::PARTIAL_CONTENT => {
                let from = range_start(answer.response.headers());
                if from != Some(start) {
                    let why = format!("asked for {range} of a blob, it sent a range from {from:?}");
                    return Err(Error::Protocol { host, why });
                }
                0
            }
            _ => start,
        };
        if let Some(length) = content_length(answer.response.headers()) {
            let announced = start - to_skip + length;
            if announced != start + verifier.missing() {
                return Err(verifier.wrong_size(announced));
            }
        }
        let mut body = answer.response.into_body().into_reader();
        while verifier.missing() > 0 {
            let count = match body.read(buffer) {
                Ok(0) => {
                    let why = format!("it ended {} bytes before the end of blob {digest}", verifier.missing());
                    return Err(Error::Broken { host, why });
                }
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(classify_read(&host, error)),
            };
            let skipped = to_skip.min(count as u64);
            to_skip -= skipped;
            let bytes = &buffer[skipped as usize..count];
            if bytes.is_empty() {
                continue;
            }
            let at = verifier.seen();
            verifier.update(bytes)?;
            dest.write_all_at(bytes, at).map_err(|source| Error::Write { digest: *digest, source })?;
            progress(verifier.seen());
        }
        // The end is read too: it shows bytes beyond it, and gives the connection back for the next request.
        match body.read(buffer) {
            Ok(0) | Err(_) => Ok(()),
            Ok(count) => Err(verifier.wrong_size(verifier.seen() + count as u64)),
        }
    }
}

/// The first position of `Content-Range: bytes first-last/length`.
fn range_start(headers: &HeaderMap) -> Option<u64> {
    let value = headers.get(header::CONTENT_RANGE)?.to_str().ok()?;
    value.trim().strip_prefix("bytes")?.trim_start().split('-').next()?.parse().ok()
}
