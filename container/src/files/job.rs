//! What is done to a container's files, by a worker in a user namespace where their owners are mapped; and what both sides
//! say to each other.
//!
//! ```text
//! caller                                   worker
//!   Begin { tree, job }, descriptors ────▶ opens the tree
//!         ◀──────────── Source | Goes ───  of a copy: what there is, or where it goes
//!   Go ──────────────────────────────────▶ of a copy out: what it is to be called
//!         ◀─── bytes by a pipe, or to it ─▶
//!         ◀──────────── Done | Failed ───
//! ```
//!
//! The caller's death ends the worker.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rbox_overlay::Placed;
use rbox_rootless::Identity;
use rbox_rootless::worker::Worker;
use rbox_sys::socket::Channel;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::destination::Source;
use crate::tree::{StoredTree, View};
use crate::{Error, worker};

/// Whose files.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Tree {
    /// Put together of what is stored.
    Stored(StoredTree, View),
    /// Those that the process of this number sees, whose pidfd comes along.
    Of { pid: u32 },
}

/// What is to be done.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Job {
    /// Write a list of changes to the descriptor.
    Changes,
    /// Write who is who to it.
    Users,
    /// Write an archive of all to it.
    Export,
    /// Write an archive of what is at this path.
    Read { path: Vec<u8>, shown: String, follow: bool, xattrs: bool },
    /// Place the archive that is read from the descriptor at this path; none for the source: it is a stream.
    Write { path: Vec<u8>, shown: String, source: Option<Source>, owners: bool, single_id: bool },
}

/// The caller's words.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// With the descriptor that bytes go to or come from, and a pidfd for [`Tree::Of`].
    Begin { tree: Tree, job: Job },
    /// What is read is to be called so; empty for what a directory has in it.
    Go { called: Vec<u8> },
}

/// The worker's words.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    /// There is this to read.
    Source(Source),
    /// What is written is to be called so in the archive; empty for what a directory has in it.
    Goes {
        called: Vec<u8>,
    },
    Done(Placed),
    Failed {
        message: String,
        hint: Option<String>,
    },
}

/// Longer than the names of as many layers as an overlay takes.
const MESSAGE: usize = 192 << 10;

pub(super) fn send(channel: &Channel, message: &impl Serialize, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    channel.send(&serde_json::to_vec(message)?, fds)
}

/// None where the other side is gone.
pub(super) fn receive<T: DeserializeOwned>(channel: &Channel) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut buffer = vec![0; MESSAGE];
    match channel.receive(&mut buffer)? {
        (0, _) => Ok(None),
        (length, fds) => Ok(Some((serde_json::from_slice(&buffer[..length])?, fds))),
    }
}

/// The caller's side of a job.
pub(super) struct Client(Worker);

impl Client {
    /// Has a worker begin, on files that are stored, with the ids of `identity`.
    pub(super) fn on_stored(
        identity: &Identity,
        tree: StoredTree,
        view: View,
        job: Job,
        bytes: BorrowedFd<'_>,
    ) -> Result<Self, Error> {
        let client = Self(Worker::start(identity, worker::FILES)?);
        client.send(&Request::Begin { tree: Tree::Stored(tree, view), job }, &[bytes])?;
        Ok(client)
    }

    /// Likewise, on what a process sees.
    pub(super) fn on_process(pid: u32, pidfd: BorrowedFd<'_>, job: Job, bytes: BorrowedFd<'_>) -> Result<Self, Error> {
        let client = Self(Worker::start_in(pidfd, worker::FILES_JOIN)?);
        client.send(&Request::Begin { tree: Tree::Of { pid }, job }, &[bytes, pidfd])?;
        Ok(client)
    }

    pub(super) fn send(&self, request: &Request, fds: &[BorrowedFd<'_>]) -> Result<(), Error> {
        match send(self.0.channel(), request, fds) {
            // What it could say before it ended says more.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            sent => sent.map_err(talking),
        }
    }

    /// The next word; what failed is an error.
    pub(super) fn answer(&self) -> Result<Reply, Error> {
        match receive(self.0.channel()).map_err(talking)? {
            Some((Reply::Failed { message, hint }, _)) => Err(Error::Files { message, hint }),
            Some((reply, _)) => Ok(reply),
            None => Err(talking(io::ErrorKind::UnexpectedEof.into())),
        }
    }

    /// The end of the job.
    pub(super) fn done(&self) -> Result<Placed, Error> {
        match self.answer()? {
            Reply::Done(placed) => Ok(placed),
            _ => Err(talking(io::ErrorKind::InvalidData.into())),
        }
    }
}

pub(super) fn talking(source: io::Error) -> Error {
    Error::Io { operation: "talk to", on: "the process that sees to the container's files".into(), source }
}

/// What a job writes that `begin` begins; `what` it is, for messages.
pub(super) fn told<T: DeserializeOwned>(
    what: &'static str,
    begin: impl FnOnce(BorrowedFd<'_>) -> Result<Client, Error>,
) -> Result<T, Error> {
    let (mut read, write) = pipe()?;
    let client = begin(write.as_fd())?;
    drop(write);
    let mut text = Vec::new();
    read.read_to_end(&mut text).map_err(Error::io("read", what))?;
    client.done()?;
    serde_json::from_slice(&text).map_err(|error| Error::io("read", what)(error.into()))
}

/// A pipe for a job's bytes.
pub(super) fn pipe() -> Result<(File, File), Error> {
    let (read, write) = io::pipe().map_err(Error::io("make", "a pipe"))?;
    Ok((File::from(OwnedFd::from(read)), File::from(OwnedFd::from(write))))
}
