//! The part of rbox that unpacks one layer, or removes a tree, inside a user namespace.
//!
//! Whoever starts it gives it its ids first; see the rootless crate. From then on it hears and answers over one
//! channel: [`Client`] is the other end. One thread only listens, so that a caller that dies, or gives up, ends the
//! process at once, whatever the others are at.
//!
//! ```text
//! Client                         worker
//!   begin    ── job, 2 fds ─────▶  unpacks while the blob grows
//!   available── bytes there ────▶
//!   complete ── all there ──────▶
//!   report  ◀─ Report or error ──  diff id verified
//!   settle   ── parents' fds ───▶
//!           ◀─ done or error ────
//! ```

mod growing;
mod protocol;

use std::fs::File;
use std::io::{self, BufWriter, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use rbox_sys::socket::Channel;
use rbox_sys::{caps, process};

use crate::fuse::{self, Layers};
use crate::{Compression, Error, Options, Packing, pack, remove_tree, settle, tree_size, unpack};

use growing::Growing;
pub use protocol::{Client, Job, flatten, measure, pack_from, remove, unpack_over};
use protocol::{Reply, Request};

/// The worker's main function: serves one [`Client`], then gives the process's exit code. The process has one thread
/// yet, and is root of its user namespace.
pub fn main(channel: Channel) -> u8 {
    if harden().is_err() {
        return 1;
    }
    // The caller is gone or has given up: nothing more is to be written.
    match serve(&channel, || std::process::exit(1)) {
        Ok(()) => 0,
        Err(_) => 1,
    }
}

/// The main function of a worker that serves one [`remove`], [`measure`] or [`flatten`].
pub fn main_once(channel: Channel) -> u8 {
    if harden().is_err() {
        return 1;
    }
    u8::from(serve_once(&channel).is_err())
}

fn serve_once(channel: &Channel) -> io::Result<()> {
    let (request, fds) = protocol::receive(channel)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    let mut fds = fds.into_iter();
    let (Some(dir), other, None) = (fds.next(), fds.next(), fds.next()) else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    let done = match (request, other) {
        (Request::Remove { name }, None) => remove_tree(dir.as_fd(), &name).map(|()| Reply::Done),
        (Request::Measure, None) => tree_size(dir.as_fd()).map(|bytes| Reply::Measured { bytes }),
        (Request::Pack, Some(out)) => Ok(pack_all(dir.as_fd(), File::from(out))),
        (Request::UnpackOver { single_id }, Some(archive)) => {
            let unpacked = confine(&dir)
                .and_then(|()| with_compression(File::from(archive)))
                .map(|(input, compression)| unpack(input, compression, dir.as_fd(), Options { single_id, over: true }));
            unpacked.map(|unpacked| match unpacked {
                Ok(_) => Reply::Done,
                // To whoever imports it, it is none.
                Err(error) => Reply::from_error(&error).instead_of("the layer", "the archive"),
            })
        }
        (Request::Flatten, None) => serve_flatten(channel, dir.as_fd()),
        _ => return Err(io::ErrorKind::InvalidData.into()),
    };
    let reply = done.unwrap_or_else(|error| Reply::Failed { message: error.to_string(), hint: None });
    protocol::reply(channel, &reply)
}

fn serve_flatten(channel: &Channel, to: BorrowedFd<'_>) -> io::Result<Reply> {
    let mut layers = Vec::new();
    loop {
        let (request, fds) = protocol::receive(channel)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let Request::Parents { more } = request else { return Err(io::ErrorKind::InvalidData.into()) };
        layers.extend(fds);
        if !more {
            break;
        }
    }
    let (mut bytes, mut said) = (0, 0);
    let mut told = Ok(());
    fuse::flatten(Layers::of(layers), to, &mut |more| {
        bytes += more;
        if bytes - said >= WORTH_SAYING && told.is_ok() {
            said = bytes;
            told = protocol::reply(channel, &Reply::Measured { bytes });
        }
    })?;
    told.map(|()| Reply::Done)
}

/// Progress that is worth a message, in bytes.
const WORTH_SAYING: u64 = 8 << 20;

/// Where data goes from one descriptor to another.
const BUFFER: usize = 256 << 10;

/// With an entry of the directory itself, whose owner and mode are to come back.
fn pack_all(dir: BorrowedFd<'_>, out: File) -> Reply {
    let out = BufWriter::with_capacity(BUFFER, out);
    match pack(dir, b".", b".", Packing { xattrs: true }, out) {
        Ok(()) => Reply::Done,
        Err(error) => Reply::failed(&error, None),
    }
}

/// Makes `dir` this process's root: a container may have it mounted, and put links in the way of what is unpacked here.
/// Packing follows none, and needs /proc.
fn confine(dir: &OwnedFd) -> io::Result<()> {
    process::change_directory_to(dir.as_fd())?;
    process::change_root_to_current_directory()
}

/// How an archive is compressed, by its first bytes, which are read again.
fn with_compression(mut archive: File) -> io::Result<(impl Read + Send, Compression)> {
    let mut begin = Vec::new();
    Read::by_ref(&mut archive).take(4).read_to_end(&mut begin)?;
    let compression = match begin[..] {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd] => Compression::Zstd,
        _ => Compression::None,
    };
    Ok((io::Cursor::new(begin).chain(archive), compression))
}

/// What costs nothing: no program that this process might be brought to execute gains anything.
fn harden() -> io::Result<()> {
    process::set_umask(0);
    caps::set_no_new_privileges()
}

/// Serves one client until it closes the channel. `abort` is called as soon as it does so too early.
fn serve(channel: &Channel, abort: impl Fn()) -> io::Result<()> {
    let Some((request, fds)) = protocol::receive(channel)? else { return Ok(()) };
    let (Request::Begin(job), Ok([blob, root])) = (request, <[OwnedFd; 2]>::try_from(fds)) else {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the first message is not a job with two descriptors"));
    };
    let growing = Growing::default();
    let (to_settle, parents) = mpsc::channel::<Vec<OwnedFd>>();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let work = scope.spawn(|| {
            let result = work(&job, growing.reader(blob.into()), root.as_fd(), parents, channel);
            done.store(true, Ordering::Release);
            match result {
                Ok(()) => protocol::reply(channel, &Reply::Done),
                Err(error) => protocol::reply(channel, &Reply::from_error(&error)),
            }
        });
        let mut layers = Vec::new();
        let heard = loop {
            match protocol::receive(channel) {
                Ok(Some((Request::Available { total }, _))) => growing.announce(total),
                Ok(Some((Request::Complete, _))) => growing.complete(),
                Ok(Some((Request::Parents { more }, fds))) => {
                    layers.extend(fds);
                    if !more {
                        // After a failure nobody waits for them.
                        let _ = to_settle.send(std::mem::take(&mut layers));
                    }
                }
                Ok(Some(_)) => break Err(io::ErrorKind::InvalidData.into()),
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        if !done.load(Ordering::Acquire) {
            abort();
        }
        growing.abort();
        drop(to_settle);
        let worked = work.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        // That the client did not wait for the answer is its own affair.
        heard.and(worked.or(Ok(())))
    })
}

fn work(
    job: &Job,
    blob: growing::Reader<'_>,
    root: BorrowedFd<'_>,
    parents: Receiver<Vec<OwnedFd>>,
    channel: &Channel,
) -> Result<(), Error> {
    let unpacked = unpack(blob, job.compression, root, Options { single_id: job.single_id, ..Options::default() })?;
    let found = unpacked.report.diff_id;
    if found != job.diff_id {
        return Err(Error::DiffId { expected: job.diff_id, found });
    }
    let talk = |source| Error::Worker { operation: "hear from the caller of", source };
    protocol::reply(channel, &Reply::Unpacked(unpacked.report.clone())).map_err(talk)?;
    let parents = parents.recv().map_err(|_| talk(io::ErrorKind::UnexpectedEof.into()))?;
    let parents: Vec<BorrowedFd<'_>> = parents.iter().map(AsFd::as_fd).collect();
    settle(root, &parents, &unpacked)
}

#[cfg(test)]
mod tests;
