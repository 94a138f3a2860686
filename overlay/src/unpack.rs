//! A layer's bytes become files.
//!
//! ```text
//! input ─▶ decompress (thread) ─┬─▶ sha256 (thread) ──▶ diff id
//!                               └─▶ tar entries, files (the caller's thread)
//! ```
//!
//! The decompressor fills buffers from a small pool; hash and extraction read the same buffer, and file data goes from
//! it to write(2) without a copy. A buffer goes back when both are done, so the slowest part sets the pace and memory
//! stays at 2 MiB a layer. What the tar holds after its end is hashed too: the diff id is that of all bytes.
//!
//! Nothing guards against an archive that unpacks to more than the disk holds, but the disk.

mod chunk;
mod decompress;
mod extract;
mod tree;

use std::collections::BTreeMap;
use std::io::{self, BufRead, Read};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;

use rbox_types::{DiffId, Digest, LeftOut};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::path::EntryPath;
use crate::{Error, tar};

use chunk::{Chunk, ChunkReader};
pub use decompress::Compression;
use extract::Extractor;

/// How to unpack.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// The namespace has one id only: every owner becomes the one that files are made with.
    pub single_id: bool,
    /// The archive is no layer: what is in the directory stays where nothing of that name replaces it, no name means a
    /// whiteout, and of devices there is no trace.
    pub over: bool,
}

/// What unpacking a layer found, besides its files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The sha256 of the decompressed bytes.
    pub diff_id: DiffId,
    /// The number of decompressed bytes.
    pub tar_size: u64,
    /// The sum of the regular files' sizes in bytes, as the archive lists them.
    pub size: u64,
    /// One more than the highest user or group id that an entry belongs to, of those below 65534, which is what the kernel
    /// shows for an id that is not mapped (/proc/sys/kernel/overflowuid).
    pub ids: u32,
    /// Device nodes that were not made, in the order of their paths.
    pub left_out: Vec<LeftOut>,
    /// Extended attributes that were not set, and on how many entries: those that only the host's root may set, that
    /// would mean something to overlayfs, or that the file system does not take.
    pub dropped_xattrs: BTreeMap<String, u64>,
    /// The layer hides everything below it.
    pub opaque_root: bool,
}

/// A layer whose files are there, and what [`settle`](crate::settle) needs to know to finish it.
#[derive(Debug)]
pub struct Unpacked {
    /// What there is to tell.
    pub report: Report,
    /// Directories that no entry lists. `true`: a whiteout in this layer removes what is below.
    pub(crate) implied: BTreeMap<EntryPath, bool>,
    /// Names that this layer removes.
    pub(crate) whiteouts: Vec<EntryPath>,
    /// Hard links to what is not in this layer, with their targets.
    pub(crate) pending_links: BTreeMap<EntryPath, EntryPath>,
    pub(crate) single_id: bool,
}

/// How much may follow the end of an archive: writers fill up to the size of a tape record, at most some MiB.
const MAX_TRAILING: u64 = 64 << 20;

/// Unpacks a layer into the empty directory `root`, or another archive [over](Options::over) what is there.
///
/// The caller is root of the user namespace whose ids the files are to have, or passes `single_id`. After an error the
/// directory holds a part of the layer and is to be removed.
pub fn unpack(
    input: impl Read + Send,
    compression: Compression,
    root: BorrowedFd<'_>,
    options: Options,
) -> Result<Unpacked, Error> {
    let (home, pool) = mpsc::channel();
    let (to_files, files) = mpsc::channel::<Arc<Chunk>>();
    let (to_hash, hash) = mpsc::channel::<Arc<Chunk>>();
    thread::scope(|scope| {
        let decompress = scope.spawn(move || -> io::Result<()> {
            for _ in 0..chunk::COUNT {
                // The other end is in this thread.
                let _ = home.send(vec![0; chunk::SIZE]);
            }
            let mut reader = decompress::reader(input, compression)?;
            loop {
                let Ok(mut buffer) = pool.recv() else { return Ok(()) };
                buffer.resize(chunk::SIZE, 0);
                let length = fill(&mut reader, &mut buffer)?;
                if length == 0 {
                    return Ok(());
                }
                buffer.truncate(length);
                let chunk = Chunk::new(buffer, &home);
                // A receiver that is gone has failed and says so itself.
                if to_hash.send(Arc::clone(&chunk)).is_err() || to_files.send(chunk).is_err() {
                    return Ok(());
                }
            }
        });
        let hash = scope.spawn(move || {
            let (mut hasher, mut size) = (Sha256::new(), 0);
            for chunk in hash {
                hasher.update(&chunk[..]);
                size += chunk.len() as u64;
            }
            (DiffId(Digest::from_sha256(hasher.finalize().into())), size)
        });
        let extracted = extract_all(ChunkReader::new(files), root, options);
        let decompressed = decompress.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let (diff_id, tar_size) = hash.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        match (decompressed, extracted) {
            // What extraction says then is only the consequence: its input ended.
            (Err(error), Err(Error::Archive(_)) | Ok(_)) => Err(Error::Decompress(error)),
            (_, Err(error)) => Err(error),
            (Ok(()), Ok(mut unpacked)) => {
                unpacked.report.diff_id = diff_id;
                unpacked.report.tar_size = tar_size;
                Ok(unpacked)
            }
        }
    })
}

fn extract_all(input: ChunkReader, root: BorrowedFd<'_>, options: Options) -> Result<Unpacked, Error> {
    let mut archive = tar::Archive::new(input);
    let mut extractor = Extractor::new(root, options)?;
    while let Some(entry) = archive.next()? {
        extractor.entry(entry, &mut archive)?;
    }
    let unpacked = extractor.finish()?;
    let mut rest = archive.into_input();
    let mut trailing = 0;
    loop {
        let length = rest.fill_buf().map_err(Error::Decompress)?.len();
        if length == 0 {
            return Ok(unpacked);
        }
        rest.consume(length);
        trailing += length as u64;
        if trailing > MAX_TRAILING {
            return Err(Error::Trailing { limit: MAX_TRAILING });
        }
    }
}

/// Reads until the buffer is full or the input ends.
fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(length) => filled += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
