//! The worker's side: it opens a container's tree, and does one job there.
//!
//! Nothing of the container is executed, and no path of its is resolved but beneath its root. The worker has this host's
//! mounts, not the container's: what it reaches through /proc is the host's.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use rbox_overlay::{Packing, Placed, Placing, Target, pack, place};
use rbox_rootless::worker::{self, become_root};
use rbox_sys::poll::{self, Interest};
use rbox_sys::socket::Channel;
use rbox_sys::{caps, dir, process};
use rbox_types::Exit;

use super::destination::{Destination, Directories, InRoot, destination, source};
use super::job::{Job, Reply, Request, Tree, receive, send};
use crate::tree::{Failed, Mount, StoredTree, root_of, settle};
use crate::{user, with_causes};

/// The main function of a worker in a user namespace of its own.
pub(crate) fn main(_: std::iter::Skip<std::env::Args>) -> u8 {
    worker::unshare().map_or(Exit::RBOX_FAILED, |channel| serve(&channel, true))
}

/// That of one in a container's.
pub(crate) fn main_joined(_: std::iter::Skip<std::env::Args>) -> u8 {
    worker::join().map_or(Exit::RBOX_FAILED, |channel| serve(&channel, false))
}

fn serve(channel: &Channel, becomes_root: bool) -> u8 {
    process::set_umask(0);
    // What is typed at the terminal ends the caller, and by that this process, in its own way.
    let _ = process::new_session();
    let Ok(Some((Request::Begin { tree, job }, fds))) = receive(channel) else { return Exit::RBOX_FAILED };
    let mut fds = fds.into_iter();
    let Some(bytes) = fds.next() else { return Exit::RBOX_FAILED };
    let done = open(tree, fds.next(), &job, becomes_root).and_then(|opened| act(opened, job, bytes, channel));
    let reply = match done {
        Ok(placed) => Reply::Done(placed),
        Err((message, hint)) => Reply::Failed { message, hint },
    };
    u8::from(send(channel, &reply, &[]).is_err())
}

/// The trees of a job.
struct Trees {
    root: OwnedFd,
    /// What the container has written, where that is to be compared; and whether it is all that there is.
    written: Option<(OwnedFd, bool)>,
}

fn open(tree: Tree, pidfd: Option<OwnedFd>, job: &Job, becomes_root: bool) -> Result<Trees, Failed> {
    let said = |what: &str, error: io::Error| (format!("cannot {what}: {error}"), None);
    let (mount, written) = match (tree, pidfd) {
        (Tree::Stored(stored, view), _) => {
            let written = matches!(job, Job::Changes).then(|| open_written(&stored)).transpose()?;
            (stored.open(view)?, written)
        }
        (Tree::Of { pid }, Some(pidfd)) => {
            let root = root_of(pid).map_err(|error| said("open the container's root", error))?;
            let ended = poll::wait([(pidfd.as_fd(), Interest::Read)], Some(Duration::ZERO));
            match ended {
                // So the number was its own when the root was opened.
                Ok([false]) => {}
                _ => return Err(("the container has just ended".into(), None)),
            }
            let mount: Mount = Box::new(move || Ok(root));
            (mount, None)
        }
        (Tree::Of { .. }, None) => return Err(("no process was named".into(), None)),
    };
    if becomes_root {
        become_root().map_err(|error| said("become root of the user namespace", error))?;
    }
    caps::set_no_new_privileges().map_err(|error| said("give up new privileges", error))?;
    Ok(Trees { root: mount()?, written })
}

fn open_written(stored: &StoredTree) -> Result<(OwnedFd, bool), Failed> {
    let (path, all) = stored.written();
    let opened = dir::open(path).map_err(|error| (format!("cannot open {}: {error}", path.display()), None))?;
    Ok((opened, all))
}

fn act(trees: Trees, job: Job, bytes: OwnedFd, channel: &Channel) -> Result<Placed, Failed> {
    let Trees { root, written } = trees;
    match job {
        Job::Changes => {
            watch(channel)?;
            let (upper, all) = written.ok_or(("there is nothing to compare".to_owned(), None))?;
            let found = rbox_overlay::changes(upper.as_fd(), all, root.as_fd(), super::changes::MOUNT_POINTS);
            let found = found.map_err(|error| (format!("cannot compare the files: {error}"), None))?;
            let written = serde_json::to_vec(&found).map_err(io::Error::from);
            let written = written.and_then(|text| File::from(bytes).write_all(&text));
            written.map_err(|error| (format!("cannot tell the changes: {error}"), None))?;
            Ok(Placed::default())
        }
        Job::Users => {
            watch(channel)?;
            let databases = user::databases(root.as_fd()).and_then(|both| Ok(serde_json::to_vec(&both)?));
            let written = databases.and_then(|text| File::from(bytes).write_all(&text));
            written.map_err(|error| (format!("cannot tell who is who: {error}"), None))?;
            Ok(Placed::default())
        }
        Job::Export => {
            watch(channel)?;
            packed(&root, b".", b"", true, bytes)
        }
        Job::Read { path, shown, follow, xattrs } => {
            let root = InRoot(root);
            let path = path_of(path);
            let (located, found) =
                source(&root, &path, follow).map_err(|why| (format!("cannot copy {shown}: {why}"), None))?;
            tell(channel, &Reply::Source(found))?;
            let Ok(Some((Request::Go { called }, _))) = receive(channel) else {
                return Err(("nothing is copied".into(), None));
            };
            watch(channel)?;
            let directory = root.directory(&located.parent);
            let directory = directory.map_err(|error| (format!("cannot copy {shown}: {error}"), None))?;
            packed(&directory, &located.name, &called, xattrs, bytes)
        }
        Job::Write { path, shown, source, owners, single_id } => {
            let root = InRoot(root);
            let path = path_of(path);
            let streamed = source.is_none();
            let refused = |why| (format!("cannot copy to {shown}: {why}"), None);
            let goes = match source {
                Some(source) => destination(&root, &path, &source).map_err(refused)?,
                None => {
                    root.directory(&path).map_err(|_| (format!("destination {shown:?} must be a directory"), None))?;
                    Destination { directory: path, called: Vec::new() }
                }
            };
            tell(channel, &Reply::Goes { called: goes.called })?;
            // The caller's own pipe ends with it, and then what is half written is removed; a stream of somebody's may not.
            if streamed {
                watch(channel)?;
            }
            let target = Inside { root, directory: goes.directory };
            let placing = Placing { owners, lenient: single_id, special: true };
            let placed = place(BufReader::with_capacity(256 << 10, File::from(bytes)), &target, placing);
            let placed = placed.map_err(|error| (format!("cannot copy to {shown}: {}", with_causes(&error)), None))?;
            settle(&target.root.0).map_err(|error| (format!("cannot copy to {shown}: {error}"), None))?;
            Ok(placed)
        }
    }
}

fn packed(dir: &OwnedFd, name: &[u8], called: &[u8], xattrs: bool, bytes: OwnedFd) -> Result<Placed, Failed> {
    let out = BufWriter::with_capacity(256 << 10, File::from(bytes));
    pack(dir.as_fd(), name, called, Packing { xattrs }, out).map_err(|error| (with_causes(&error), None))?;
    Ok(Placed::default())
}

/// Where an archive goes in a container: each path is resolved anew, beneath its root.
struct Inside {
    root: InRoot,
    directory: PathBuf,
}

impl Target for Inside {
    fn directory(&self, path: &[u8]) -> io::Result<OwnedFd> {
        self.root.directory(&self.directory.join(path_of(path.to_vec())))
    }
}

fn path_of(bytes: Vec<u8>) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

fn tell(channel: &Channel, reply: &Reply) -> Result<(), Failed> {
    send(channel, reply, &[]).map_err(|error| (error.to_string(), None))
}

/// From here on, the caller's end is this process's.
fn watch(channel: &Channel) -> Result<(), Failed> {
    let channel = channel.try_clone().map_err(|error| (error.to_string(), None))?;
    thread::spawn(move || {
        let _ = channel.receive(&mut [0; 16]);
        process::exit_at_once(Exit::RBOX_FAILED)
    });
    Ok(())
}
