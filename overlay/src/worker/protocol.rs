//! What client and worker say to each other: JSON, one message a packet, answers in as many packets as they need.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rbox_sys::poll::{self, Interest};
use rbox_sys::socket::{Channel, MAX_FDS};
use rbox_types::DiffId;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::unpack::{Compression, Report};

/// What a worker is to unpack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// How the blob is compressed.
    pub compression: Compression,
    /// What the image's configuration says that the layer is.
    pub diff_id: DiffId,
    /// The worker's namespace has one id.
    pub single_id: bool,
}

/// The caller's end: unpacks one layer in a worker. Each step blocks until it is done.
#[derive(Debug)]
pub struct Client<'a> {
    channel: &'a Channel,
    announced: u64,
}

/// Growth of the blob that is worth a message, in bytes.
const WORTH_SAYING: u64 = 256 << 10;

impl<'a> Client<'a> {
    /// Gives a worker its job: the file `blob`, open for reading, goes into the empty directory `root`. Of the blob
    /// nothing needs to be there yet.
    pub fn begin(channel: &'a Channel, job: &Job, blob: BorrowedFd<'_>, root: BorrowedFd<'_>) -> Result<Self, Error> {
        let client = Self { channel, announced: 0 };
        client.send(&Request::Begin(job.clone()), &[blob, root])?;
        Ok(client)
    }

    /// Says that the blob's first `total` bytes are there. Cheap, so it may be called at each write. If the worker has
    /// failed already, its error is given here.
    pub fn available(&mut self, total: u64) -> Result<(), Error> {
        if total < self.announced + WORTH_SAYING {
            return Ok(());
        }
        self.announced = total;
        let [answered] = poll::wait([(self.channel.as_fd(), Interest::Read)], Some(Duration::ZERO)).map_err(talking)?;
        if answered {
            return Err(self.unexpected());
        }
        self.send(&Request::Available { total }, &[])
    }

    /// Says that the blob is complete with `total` bytes, and waits for the layer's files. The worker has verified
    /// the diff id.
    pub fn report(&mut self, total: u64) -> Result<Report, Error> {
        self.send(&Request::Available { total }, &[])?;
        self.send(&Request::Complete, &[])?;
        match self.answer()? {
            Reply::Unpacked(report) => Ok(report),
            _ => Err(talking(io::ErrorKind::InvalidData.into())),
        }
    }

    /// Finishes the layer on top of its parents, topmost first, each settled.
    pub fn settle(self, parents: &[BorrowedFd<'_>]) -> Result<(), Error> {
        match send_layers(self.channel, parents) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Err(self.unexpected()),
            sent => sent.map_err(talking)?,
        }
        done(self.channel)
    }

    fn send(&self, request: &Request, fds: &[BorrowedFd<'_>]) -> Result<(), Error> {
        match send(self.channel, request, fds) {
            // It has ended; if it could say why, that is what to report.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(self.unexpected()),
            other => other.map_err(talking),
        }
    }

    fn answer(&self) -> Result<Reply, Error> {
        answer(self.channel)
    }

    /// The error in an answer that came before it was asked for.
    fn unexpected(&self) -> Error {
        match self.answer() {
            Err(error) => error,
            Ok(_) => talking(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// Has a worker remove `name` from `dir`, with all that is in it.
pub fn remove(channel: &Channel, dir: BorrowedFd<'_>, name: &[u8]) -> Result<(), Error> {
    send(channel, &Request::Remove { name: name.to_vec() }, &[dir]).map_err(talking)?;
    done(channel)
}

/// Has a worker measure all that is in `dir`; gives bytes, as [`tree_size`](crate::tree_size) counts them.
pub fn measure(channel: &Channel, dir: BorrowedFd<'_>) -> Result<u64, Error> {
    send(channel, &Request::Measure, &[dir]).map_err(talking)?;
    match answer(channel)? {
        Reply::Measured { bytes } => Ok(bytes),
        _ => Err(talking(io::ErrorKind::InvalidData.into())),
    }
}

/// Has a worker copy what `layers`, topmost first, [show together](crate::fuse::flatten) into the empty directory `to`.
/// `copied` hears how many bytes there are so far.
pub fn flatten(
    channel: &Channel,
    layers: &[BorrowedFd<'_>],
    to: BorrowedFd<'_>,
    copied: &mut dyn FnMut(u64),
) -> Result<(), Error> {
    send(channel, &Request::Flatten, &[to]).map_err(talking)?;
    send_layers(channel, layers).map_err(talking)?;
    loop {
        match answer(channel)? {
            Reply::Measured { bytes } => copied(bytes),
            Reply::Done => return Ok(()),
            _ => return Err(talking(io::ErrorKind::InvalidData.into())),
        }
    }
}

fn send_layers(channel: &Channel, layers: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut groups = layers.chunks(MAX_FDS).peekable();
    if groups.peek().is_none() {
        send(channel, &Request::Parents { more: false }, &[])?;
    }
    while let Some(group) = groups.next() {
        send(channel, &Request::Parents { more: groups.peek().is_some() }, group)?;
    }
    Ok(())
}

/// Has a worker write what is in `dir` to `out`, as a tar archive.
pub fn pack_from(channel: &Channel, dir: BorrowedFd<'_>, out: BorrowedFd<'_>) -> Result<(), Error> {
    send(channel, &Request::Pack, &[dir, out]).map_err(talking)?;
    done(channel)
}

/// Has a worker unpack a tar archive, which may be compressed, over what is in `dir`.
pub fn unpack_over(
    channel: &Channel,
    dir: BorrowedFd<'_>,
    archive: BorrowedFd<'_>,
    single_id: bool,
) -> Result<(), Error> {
    send(channel, &Request::UnpackOver { single_id }, &[dir, archive]).map_err(talking)?;
    done(channel)
}

/// The answer to what has none but that it is done.
fn done(channel: &Channel) -> Result<(), Error> {
    match answer(channel)? {
        Reply::Done => Ok(()),
        _ => Err(talking(io::ErrorKind::InvalidData.into())),
    }
}

fn talking(source: io::Error) -> Error {
    Error::Worker { operation: "talk to", source }
}

/// The client's words.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Request {
    /// With two descriptors: the blob, the layer's root.
    Begin(Job),
    Available {
        total: u64,
    },
    Complete,
    /// With descriptors of the next few layers below. `more`: not all yet.
    Parents {
        more: bool,
    },
    /// With the descriptor of a directory.
    Remove {
        name: Vec<u8>,
    },
    /// With the descriptor of a directory.
    Measure,
    /// With the descriptor of the directory to copy into; the layers follow as [`Parents`](Self::Parents).
    Flatten,
    /// With the descriptors of a directory and of the archive.
    Pack,
    /// Likewise.
    UnpackOver {
        single_id: bool,
    },
}

/// The worker's words.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Reply {
    Unpacked(Report),
    Done,
    Measured { bytes: u64 },
    Failed { message: String, hint: Option<String> },
}

impl Reply {
    /// The error with its causes in one line: they do not cross processes otherwise.
    pub(super) fn from_error(error: &Error) -> Self {
        Self::failed(error, error.hint())
    }

    /// Any other error.
    pub(super) fn failed(error: &dyn std::error::Error, hint: Option<String>) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            message.push_str(": ");
            message.push_str(&error.to_string());
            cause = error.source();
        }
        Self::Failed { message, hint }
    }

    /// A failure in other words.
    pub(super) fn instead_of(self, old: &str, new: &str) -> Self {
        match self {
            Self::Failed { message, hint } => {
                Self::Failed { message: message.replace(old, new), hint: hint.map(|hint| hint.replace(old, new)) }
            }
            other => other,
        }
    }
}

/// The most that a request may have, in bytes: a name of 255 bytes as JSON numbers is the longest.
const REQUEST: usize = 4096;

/// The payload of one packet of an answer. A socket's buffer holds several.
const PACKET: usize = 32 << 10;

/// The longest answer that is taken: a report of some 100 000 device nodes.
const MAX_ANSWER: usize = 32 << 20;

/// The first byte of a packet: whether another follows.
const MORE: u8 = b'+';
const LAST: u8 = b'.';

/// The next request with its descriptors; `None` when the client has closed.
pub(super) fn receive(channel: &Channel) -> io::Result<Option<(Request, Vec<OwnedFd>)>> {
    let mut buffer = [0; REQUEST];
    let (length, fds) = channel.receive(&mut buffer)?;
    if length == 0 {
        return Ok(None);
    }
    Ok(Some((serde_json::from_slice(&buffer[..length])?, fds)))
}

pub(super) fn reply(channel: &Channel, reply: &Reply) -> io::Result<()> {
    let bytes = serde_json::to_vec(reply)?;
    let mut pieces = bytes.chunks(PACKET).peekable();
    while let Some(piece) = pieces.next() {
        let mark = if pieces.peek().is_some() { MORE } else { LAST };
        channel.send(&[&[mark], piece].concat(), &[])?;
    }
    Ok(())
}

fn send(channel: &Channel, request: &Request, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    channel.send(&serde_json::to_vec(request)?, fds)
}

fn answer(channel: &Channel) -> Result<Reply, Error> {
    let mut bytes = Vec::new();
    let mut packet = vec![0; PACKET + 1];
    loop {
        let (length, _) = channel.receive(&mut packet).map_err(talking)?;
        let Some((mark, piece)) = packet[..length].split_first() else {
            let ended = io::Error::new(io::ErrorKind::UnexpectedEof, "it ended without an answer");
            return Err(talking(ended));
        };
        bytes.extend_from_slice(piece);
        match *mark {
            MORE if bytes.len() <= MAX_ANSWER => {}
            LAST => break,
            _ => return Err(talking(io::ErrorKind::InvalidData.into())),
        }
    }
    match serde_json::from_slice(&bytes).map_err(|error| talking(error.into()))? {
        Reply::Failed { message, hint } => Err(Error::InWorker { message, hint }),
        reply => Ok(reply),
    }
}
