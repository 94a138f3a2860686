//! The kernel's questions, and our answers.

use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use rbox_sys::Errno;
use rbox_sys::stored::{self, NewTime, Stat, kind};

use super::change::{Changes, New, Owner};
use super::layers::Layers;
use super::mounting::Device;
use super::protocol::{
    Body, Changed, Channel, FOR_EVER, List, OLDEST, Operation, Reply, Request, Through, VERSION, forgotten, wants,
};
use super::shared::Shared;
use super::view::{Entry, View, is_in_memory, read, read_at_once};

type Result<T> = io::Result<T>;

/// So many names one answer has at most; what has no room in it is asked for again.
const NAMES: usize = 512;
/// The most that is copied within files at once.
const COPIED: u64 = 1 << 30;

/// Serves an overlay of these layers until it is unmounted. `volatile`: nothing of it need reach the disk.
pub fn serve(device: Device, layers: Layers, volatile: bool) -> Result<()> {
    // The mode of what is made says all there is to be said.
    rbox_sys::process::set_umask(0);
    let shared = Arc::new(Shared::new(View::new(layers, volatile)?));
    let mut channel = Channel::new(device.into_fd())?;
    let mut server = Server { shared, through: Through::default(), room: Vec::new() };
    // Of two threads, each would be woken for every second message: docs/decisions/fuse-overlay.md.
    let device = channel.device();
    while let Some(message) = channel.receive()? {
        // The kernel sends no other.
        let request = Request::read(message).ok_or(io::ErrorKind::InvalidData)?;
        server.answer(&request, Reply::new(device.clone(), request.unique))?;
    }
    Ok(())
}

/// The one that answers; what may take long is done beside it.
struct Server {
    shared: Arc<Shared>,
    through: Through,
    /// What was read; the kernel takes a copy.
    room: Vec<u8>,
}

impl Server {
    /// Answers a question, now or beside; what this fails with ends the filesystem.
    fn answer(&mut self, request: &Request<'_>, reply: Reply) -> Result<()> {
        let node = request.node;
        match request.operation {
            Operation::Init { version, flags } => return init(version, flags, reply),
            Operation::LookUp { name } => match self.shared.view().look_up(node, name) {
                // That there is none is remembered, too.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    reply.answer(Ok(()), |body, ()| body.no_entry())
                }
                found => reply.answer(found, entry),
            },
            Operation::Forget { times } => self.shared.view().forget(node, times),
            Operation::ForgetMany { nodes } => {
                let mut view = self.shared.view();
                forgotten(nodes).for_each(|(node, times)| view.forget(node, times));
            }
            Operation::Attributes => {
                let mut view = self.shared.view();
                let result = view.attributes(node).map(|stat| (stat, view.holds(node, &stat)));
                reply.answer(result, attributes);
            }
            Operation::Change(changed) => self.change(reply, attributes, move |view| change(view, node, &changed)),
            Operation::ReadLink => {
                let result = self.shared.view().read_link(node);
                reply.answer(result, Body::data);
            }
            Operation::MakeNode { name, mode, umask, rdev } => {
                let (name, owner) = (name.to_vec(), owner(request, mode, umask));
                self.change(reply, entry, move |view| view.make(node, &name, New::Node(rdev.into()), owner));
            }
            Operation::MakeDirectory { name, mode, umask } => {
                let (name, owner) = (name.to_vec(), owner(request, mode | kind::DIRECTORY, umask));
                self.change(reply, entry, move |view| view.make(node, &name, New::Directory, owner));
            }
            Operation::MakeSymlink { name, target } => {
                let (name, target, owner) = (name.to_vec(), target.to_vec(), owner(request, kind::SYMLINK | 0o777, 0));
                self.change(reply, entry, move |view| view.make(node, &name, New::Symlink(&target), owner));
            }
            Operation::Unlink { name } => {
                let name = name.to_vec();
                self.change(reply, nothing, move |view| view.unlink(node, &name));
            }
            Operation::RemoveDirectory { name } => {
                let name = name.to_vec();
                self.change(reply, nothing, move |view| view.remove_directory(node, &name));
            }
            Operation::Rename { how: None, .. } => reply.fail(&Errno::INVAL.into()),
            Operation::Rename { name, parent, new_name, how: Some(how) } => {
                let (name, new_name) = (name.to_vec(), new_name.to_vec());
                self.change(reply, nothing, move |view| view.rename(node, &name, parent, &new_name, how));
            }
            Operation::Link { node: linked, name } => {
                let name = name.to_vec();
                self.change(reply, entry, move |view| view.link(linked, node, &name));
            }
            Operation::Read { offset, size } => self.read(node, offset, size as usize, reply),
            Operation::Write { offset, data, kills_set_id } => self.write(node, offset, data, kills_set_id, reply),
            Operation::Space => {
                let result = self.shared.view().space();
                reply.answer(result, |body, space| body.space(&space));
            }
            Operation::Sync { data_only } => {
                let file = self.shared.view().synced(node);
                match file {
                    Ok(Some(file)) => self.shared.beside(move |_| {
                        reply.done(if data_only { file.sync_data() } else { file.sync_all() });
                    }),
                    other => reply.done(other.map(drop)),
                }
            }
            Operation::SyncDirectory => {
                let directory = self.shared.view().synced_directory(node);
                match directory {
                    Ok(Some(directory)) => self.shared.beside(move |_| reply.done(directory.sync_all())),
                    other => reply.done(other.map(drop)),
                }
            }
            Operation::SetXattr { name, value, flags } => {
                let (name, value) = (name.to_vec(), value.to_vec());
                self.change(reply, nothing, move |view| view.set_xattr(node, &name, &value, flags));
            }
            Operation::GetXattr { name, room } => {
                let result = self.shared.view().get_xattr(node, name);
                reply.answer(result.and_then(|value| fits(value, room)), |body, value| in_room(body, value, room));
            }
            Operation::ListXattrs { room } => {
                let result = self.shared.view().list_xattrs(node);
                reply.answer(result.and_then(|value| fits(value, room)), |body, value| in_room(body, value, room));
            }
            Operation::RemoveXattr { name } => {
                let name = name.to_vec();
                self.change(reply, nothing, move |view| view.remove_xattr(node, &name));
            }
            Operation::List { after, room, plus } => {
                let mut view = self.shared.view();
                let result =
                    if plus { list_plus(&mut view, node, after, room) } else { list(&mut view, node, after, room) };
                reply.answer(result.map(List::whole), Body::data);
            }
            Operation::Allocate { mode, offset, length } => self
                .change(reply, nothing, move |view| stored::allocate(&*view.file(node, true)?, mode, offset, length)),
            Operation::CopyRange { from, to, to_offset, length } => {
                let files = {
                    let mut view = self.shared.view();
                    view.file(to, true).and_then(|to| Ok((view.file(node, false)?, to)))
                };
                self.shared.beside(move |_| {
                    let copied = files.and_then(|(file, to)| {
                        stored::copy_range(&file, from, &to, to_offset, length.min(COPIED) as usize)
                    });
                    reply.answer(copied, |body, copied| body.size(copied as u32));
                });
            }
            Operation::Release | Operation::Destroy => reply.done(Ok(())),
            // Among them are opening and closing: never again, of no file (FUSE_NO_OPEN_SUPPORT). And where the next data or hole
            // is: the kernel has data of mapped files that it has not written here yet, and does not do so before it asks.
            // What would be a hole here may be none. Then it says itself that all is data.
            Operation::Other => reply.unknown(),
            Operation::Malformed => reply.fail(&Errno::INVAL.into()),
        }
        Ok(())
    }

    /// Makes a change, now or, when there is room for it, beside.
    fn change<T: 'static>(
        &self,
        reply: Reply,
        say: fn(&mut Body, T),
        act: impl Fn(&mut View) -> Result<T> + Send + 'static,
    ) {
        self.shared.change(act, move |result| reply.answer(result, say));
    }

    fn read(&mut self, node: u64, offset: u64, size: usize, reply: Reply) {
        let file = match self.shared.view().file(node, false) {
            Ok(file) => file,
            Err(error) => return reply.fail(&error),
        };
        let mut reply = reply;
        if self.through.takes(size) && is_in_memory(&file, offset, size) {
            match self.through.answer(reply, &file, offset, size) {
                Ok(()) => return,
                Err(left) => reply = left,
            }
        }
        if self.room.len() < size {
            self.room.resize(size, 0);
        }
        match read_at_once(&file, &mut self.room[..size], offset) {
            // The disk has it.
            Ok(None) => {}
            Ok(Some(length)) => return reply.data(&self.room[..length]),
            Err(error) => return reply.fail(&error),
        }
        self.shared.beside(move |_| {
            let mut room = vec![0; size];
            match read(&file, &mut room, offset) {
                Ok(length) => reply.data(&room[..length]),
                Err(error) => reply.fail(&error),
            }
        });
    }

    fn write(&self, node: u64, offset: u64, data: &[u8], kills_set_id: bool, reply: Reply) {
        let write = move |view: &mut View, data: &[u8]| {
            if kills_set_id {
                view.kill_set_id(node)?;
            }
            view.file(node, true)?.write_all_at(data, offset)
        };
        let length = data.len() as u32;
        let say = move |body: &mut Body, ()| body.size(length);
        match self.shared.try_change(|view| write(view, data)) {
            Some(result) => reply.answer(result, say),
            None => {
                let data = data.to_vec();
                self.shared.beside(move |shared| {
                    reply.answer(shared.change_in_a_moment(|view| write(view, &data)), say);
                });
            }
        }
    }
}

/// Agrees on what the protocol is to have.
fn init(version: (u32, u32), flags: u32, reply: Reply) -> Result<()> {
    if version.0 > VERSION.0 {
        // It asks once more, by the version that is answered here.
        reply.answer(Ok(()), |body, ()| body.init(0));
        return Ok(());
    }
    if version < OLDEST {
        reply.fail(&Errno::PROTO.into());
        return Err(io::Error::new(io::ErrorKind::Unsupported, "the kernel's FUSE is older than Linux 4.20"));
    }
    reply.answer(Ok(()), |body, ()| body.init(flags & wants::ALL));
    Ok(())
}

fn change(view: &mut View, node: u64, changed: &Changed) -> Result<(Stat, Duration)> {
    let &Changed { mode, uid, gid, size, accessed, modified, kills_set_id } = changed;
    let mut changes = Changes { mode, uid, gid, size, accessed, modified };
    // FUSE_HANDLE_KILLPRIV_V2: who changes the owner takes set-id bits away.
    if mode.is_none() && (uid.is_some() || gid.is_some() || kills_set_id) {
        let stat = view.attributes(node)?;
        changes.mode = without_set_id(&stat);
    }
    view.change(node, &changes).map(|stat| (stat, FOR_EVER))
}

fn list(view: &mut View, node: u64, after: u64, room: u32) -> Result<List> {
    let mut list = List::new(room);
    for (place, named) in view.list(node, after, NAMES)? {
        if !list.add(&named.name, named.kind, named.shown, place) {
            break;
        }
    }
    Ok(list)
}

fn list_plus(view: &mut View, node: u64, after: u64, room: u32) -> Result<List> {
    let mut list = List::new(room);
    for (place, named) in view.list(node, after, NAMES)? {
        if !list.has_room(&named.name) {
            break;
        }
        // These two are nobody's to be told of, and nobody asks what they are.
        let dots = matches!(&*named.name, b"." | b"..");
        let entry = if dots { None } else { view.look_up_from(named.layer, node, &named.name).ok() };
        let entry = entry.as_ref().map(|entry| (entry.id, &entry.stat, holds(entry))).ok_or(named.shown);
        list.add_plus(&named.name, named.kind, place, entry);
    }
    Ok(list)
}

fn entry(body: &mut Body, entry: Entry) {
    body.entry(entry.id, &entry.stat, holds(&entry));
}

/// For how long the attributes of an entry hold.
fn holds(entry: &Entry) -> Duration {
    if entry.stays { FOR_EVER } else { Duration::ZERO }
}

fn attributes(body: &mut Body, (stat, hold): (Stat, Duration)) {
    body.attributes(&stat, hold);
}

fn nothing(_: &mut Body, (): ()) {}

fn fits(value: Vec<u8>, room: u32) -> Result<Vec<u8>> {
    if room != 0 && value.len() > room as usize { Err(Errno::RANGE.into()) } else { Ok(value) }
}

fn in_room(body: &mut Body, value: Vec<u8>, room: u32) {
    if room == 0 { body.size(value.len() as u32) } else { body.data(value) }
}

fn owner(request: &Request<'_>, mode: u32, umask: u32) -> Owner {
    Owner { uid: request.uid, gid: request.gid, mode, umask }
}

/// The mode without what lets a program be somebody else (inode(7)); none where it has nothing of it.
fn without_set_id(stat: &Stat) -> Option<u32> {
    if stat.kind() != kind::FILE {
        return None;
    }
    let group = if stat.mode & 0o010 != 0 { 0o2000 } else { 0 };
    let mode = stat.mode & !(0o4000 | group);
    (mode != stat.mode).then_some(mode)
}

impl View {
    /// For how long attributes hold.
    fn holds(&self, id: u64, stat: &Stat) -> Duration {
        if self.stays(id, stat) { FOR_EVER } else { Duration::ZERO }
    }

    /// Takes set-id bits away, as a write does.
    fn kill_set_id(&mut self, id: u64) -> Result<()> {
        let stat = self.attributes(id)?;
        let Some(mode) = without_set_id(&stat) else { return Ok(()) };
        let same = NewTime::Same;
        let changes = Changes { mode: Some(mode), uid: None, gid: None, size: None, accessed: same, modified: same };
        self.change(id, &changes).map(drop)
    }
}
