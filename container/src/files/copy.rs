//! `rbox cp`: files from a container to the host, and the other way.
//!
//! They travel as a tar archive. The container's side of it is a worker's; the host's side is this process, with its
//! caller's own rights. What comes out of a container may be anything: it stays beneath the place where it goes, and goes
//! through no link that came with it.

use std::io::{self, BufReader, BufWriter};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rbox_overlay::{PackError, Packing, Placed, Placing, Target, pack, place};
use rbox_store::{ContainerEntry, WrittenContainer};
use rbox_sys::beneath;

use super::destination::{Directories, OnHost, Source, destination, source};
use super::job::{Client, Job, Reply, Request, pipe, talking};
use crate::life::begun::Begun;
use crate::tree::View;
use crate::{Engine, Error, with_causes};

/// The host's side of a copy.
#[derive(Debug, Clone, Copy)]
pub enum Local<'a> {
    /// A file or a directory.
    Path(&'a Path),
    /// A tar archive.
    Stream(BorrowedFd<'a>),
}

/// How files are copied.
#[derive(Debug, Clone, Copy, Default)]
pub struct CopyOptions {
    /// Owners, extended attributes and set-id bits come along.
    pub archive: bool,
    /// Where the source is a link, what it leads to is copied.
    pub follow: bool,
}

/// A worker on a container's files. It ends before others may have what it writes to.
struct OnFiles {
    client: Client,
    _written: Option<WrittenContainer>,
}

impl Engine {
    /// Copies what is at a path of a container.
    pub fn copy_out(
        &self,
        name_or_id: &str,
        path: &Path,
        to: Local<'_>,
        options: CopyOptions,
    ) -> Result<Placed, Error> {
        let entry = self.find_settled(name_or_id)?;
        let job = Job::Read {
            path: path.as_os_str().as_bytes().to_vec(),
            shown: shown(&entry, path),
            follow: options.follow,
            xattrs: options.archive,
        };
        let go = |client: &Client, called: Vec<u8>| client.send(&Request::Go { called }, &[]);
        match to {
            Local::Stream(out) => {
                let begun = self.begin_copy(&entry, job, out, View::Whole)?;
                let found = answered_source(&begun.client)?;
                go(&begun.client, if found.contents { Vec::new() } else { found.name })?;
                begun.client.done()
            }
            Local::Path(to) => {
                let (read, write) = pipe()?;
                let begun = self.begin_copy(&entry, job, write.as_fd(), View::Whole)?;
                drop(write);
                let found = answered_source(&begun.client)?;
                let refused = |why| refused(format!("cannot copy to {}: {why}", to.display()));
                let goes = destination(&OnHost, to, &found).map_err(refused)?;
                let target = OnHost.directory(&goes.directory);
                let target = Outside(target.map_err(Error::io("open", goes.directory.display()))?);
                go(&begun.client, goes.called)?;
                let placing = Placing { owners: options.archive, lenient: true, special: options.archive };
                let placed = place(BufReader::with_capacity(256 << 10, read), &target, placing);
                // Where this failed, the other side fails for want of a reader, and is not asked.
                let placed = placed.map_err(|error| refused(with_causes(&error)))?;
                begun.client.done()?;
                Ok(placed)
            }
        }
    }

    /// Copies something to a path of a container.
    pub fn copy_in(
        &self,
        from: Local<'_>,
        name_or_id: &str,
        path: &Path,
        options: CopyOptions,
    ) -> Result<Placed, Error> {
        let entry = self.find_settled(name_or_id)?;
        let job = |source| Job::Write {
            path: path.as_os_str().as_bytes().to_vec(),
            shown: shown(&entry, path),
            source,
            owners: options.archive,
            single_id: self.identity.is_single(),
        };
        match from {
            Local::Stream(input) => {
                let begun = self.begin_copy(&entry, job(None), input, View::Writable)?;
                answered_goes(&begun.client)?;
                begun.client.done()
            }
            Local::Path(from) => {
                let (located, found) = source(&OnHost, from, options.follow)
                    .map_err(|why| refused(format!("cannot copy {}: {why}", from.display())))?;
                let directory = OnHost.directory(&located.parent);
                let directory = directory.map_err(Error::io("open", located.parent.display()))?;
                let (read, write) = pipe()?;
                let begun = self.begin_copy(&entry, job(Some(found)), read.as_fd(), View::Writable)?;
                drop(read);
                let called = answered_goes(&begun.client)?;
                let packing = Packing { xattrs: options.archive };
                let out = BufWriter::with_capacity(256 << 10, write);
                match (pack(directory.as_fd(), &located.name, &called, packing, out), begun.client.done()) {
                    (Err(error @ PackError::Tree { .. }), _) => {
                        Err(refused(format!("cannot copy {}: {}", from.display(), with_causes(&error))))
                    }
                    // The other side does not read because it has failed.
                    (_, Err(error)) => Err(error),
                    (Err(error), Ok(_)) => Err(refused(with_causes(&error))),
                    (Ok(()), Ok(placed)) => Ok(placed),
                }
            }
        }
    }

    /// The container with this name or id, once nobody writes to its files from outside.
    pub(crate) fn find_settled(&self, name_or_id: &str) -> Result<ContainerEntry, Error> {
        loop {
            let entry = self.store.find_container(name_or_id)?;
            if !self.store.wait_for_writer(&entry)? {
                return Ok(entry);
            }
        }
    }

    fn begin_copy(
        &self,
        entry: &ContainerEntry,
        job: Job,
        bytes: BorrowedFd<'_>,
        view: View,
    ) -> Result<OnFiles, Error> {
        if entry.running {
            let begun = Begun::find(&self.store, entry.id.as_str())?;
            let client = Client::on_process(begun.first.pid, begun.pidfd.as_fd(), job, bytes)?;
            return Ok(OnFiles { client, _written: None });
        }
        let (tree, written) = match view {
            View::Writable => {
                let written = self.store.claim_container(entry)?.write_to()?;
                (self.writable_tree(entry)?, Some(written))
            }
            _ => (self.stored_tree(entry)?, None),
        };
        let client = Client::on_stored(&self.identity, tree, view, job, bytes)?;
        Ok(OnFiles { client, _written: written })
    }
}

/// Where an archive goes on the host: beneath a directory of the caller's choice, and through no link in it.
struct Outside(OwnedFd);

impl Target for Outside {
    fn directory(&self, path: &[u8]) -> io::Result<OwnedFd> {
        beneath::open_dir_path(self.0.as_fd(), path)
    }
}

fn answered_source(client: &Client) -> Result<Source, Error> {
    match client.answer()? {
        Reply::Source(source) => Ok(source),
        _ => Err(talking(io::ErrorKind::InvalidData.into())),
    }
}

fn answered_goes(client: &Client) -> Result<Vec<u8>, Error> {
    match client.answer()? {
        Reply::Goes { called } => Ok(called),
        _ => Err(talking(io::ErrorKind::InvalidData.into())),
    }
}

fn shown(entry: &ContainerEntry, path: &Path) -> String {
    format!("{}:{}", entry.name, path.display())
}

fn refused(message: String) -> Error {
    Error::Files { message, hint: None }
}
