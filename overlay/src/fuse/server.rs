//! The kernel's questions, and our answers: what `fuser` has read and is to write.

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    Config, CopyFileRangeFlags, FileAttr, FileHandle, FileType, Filesystem, Generation, INodeNo, InitFlags,
    KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyDirectoryPlus,
    ReplyEmpty, ReplyEntry, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request, Session, SessionACL,
    TimeOrNow, WriteFlags,
};
use rbox_sys::Errno;
use rbox_sys::at::Time;
use rbox_sys::stored::{self, NewTime, Rename, Stat, kind};

use super::change::{Changes, New, Owner};
use super::layers::Layers;
use super::lingering::Lingering;
use super::mounting::Device;
use super::shared::Shared;
use super::view::{Entry, View, read, read_at_once};

/// For as long as nobody says otherwise, and nobody will.
const FOR_EVER: Duration = Duration::from_secs(u32::MAX as u64);
/// The most that one request reads or writes.
const LARGEST: u32 = 1 << 20;
/// So many names one answer has at most; what has no room in it is asked for again.
const NAMES: usize = 512;

/// Serves an overlay of these layers until it is unmounted. `volatile`: nothing of it need reach the disk.
pub fn serve(device: Device, layers: Layers, volatile: bool) -> io::Result<()> {
    // The mode of what is made says all there is to be said.
    rbox_sys::process::set_umask(0);
    let shared = Arc::new(Shared::new(View::new(layers, volatile)?));
    let server = Server { shared, lingering: Mutex::new(Lingering::new(device.as_fd().try_clone_to_owned()?)) };
    let mut config = Config::default();
    // Of two, each would be woken for every second message: docs/decisions/fuse-overlay.md.
    config.n_threads = Some(1);
    Session::from_fd(server, device.into_fd(), SessionACL::All, config)?.run()
}

struct Server {
    shared: Arc<Shared>,
    lingering: Mutex<Lingering>,
}

/// While a question is answered.
struct Turn<'a>(MutexGuard<'a, Lingering>);

impl Server {
    /// A question was read. There is one thread that does this, and it waits for the next one when this is dropped.
    fn turn(&self) -> Turn<'_> {
        let mut lingering = self.lingering.lock().unwrap_or_else(PoisonError::into_inner);
        lingering.asked();
        Turn(lingering)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.answered();
    }
}

type Result<T> = io::Result<T>;

/// How each kind of reply says that there is nothing but an error.
macro_rules! answer {
    ($reply:ident, $result:expr, $with:expr) => {
        match $result {
            Ok(value) => $with($reply, value),
            Err(error) => $reply.error(errno(&error)),
        }
    };
}

impl Filesystem for Server {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> Result<()> {
        // Each as far as the kernel has it.
        for wanted in [
            InitFlags::FUSE_POSIX_ACL,
            InitFlags::FUSE_DONT_MASK,
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_READDIRPLUS_AUTO,
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_CACHE_SYMLINKS,
            InitFlags::FUSE_HANDLE_KILLPRIV_V2,
            InitFlags::FUSE_ASYNC_DIO,
            InitFlags::FUSE_NO_OPEN_SUPPORT,
            InitFlags::FUSE_NO_OPENDIR_SUPPORT,
            InitFlags::FUSE_EXPLICIT_INVAL_DATA,
        ] {
            let _ = config.add_capabilities(wanted);
        }
        let _ = config.set_max_write(LARGEST);
        let _ = config.set_max_readahead(LARGEST);
        let _ = config.set_max_background(64);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let _turn = self.turn();
        match self.shared.view().look_up(parent.0, name.as_bytes()) {
            // That there is none is remembered, too.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                reply.entry(&FOR_EVER, &NOTHING, Generation(0));
            }
            found => answer!(reply, found, entry),
        }
    }

    fn forget(&self, _: &Request, node: INodeNo, times: u64) {
        let _turn = self.turn();
        self.shared.view().forget(node.0, times);
    }

    fn getattr(&self, _: &Request, node: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let _turn = self.turn();
        let mut view = self.shared.view();
        let result = view.attributes(node.0).map(|stat| (stat, view.holds(node.0, &stat)));
        answer!(reply, result, attributes);
    }

    fn setattr(
        &self,
        request: &Request,
        node: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        accessed: Option<TimeOrNow>,
        modified: Option<TimeOrNow>,
        _changed: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let _turn = self.turn();
        let changes = Changes { mode, uid, gid, size, accessed: new_time(accessed), modified: new_time(modified) };
        let uid_of_caller = request.uid();
        let change = move |view: &mut View| {
            let mut changes = changes;
            // FUSE_HANDLE_KILLPRIV_V2: who changes the owner, or cuts off what is not root's to cut off, takes set-id
            // bits away.
            let cuts = size.is_some() && uid_of_caller != 0;
            if mode.is_none() && (uid.is_some() || gid.is_some() || cuts) {
                let stat = view.attributes(node.0)?;
                changes.mode = without_set_id(&stat);
            }
            view.change(node.0, &changes).map(|stat| (stat, FOR_EVER))
        };
        self.shared.change(change, move |result| answer!(reply, result, attributes));
    }

    fn readlink(&self, _: &Request, node: INodeNo, reply: ReplyData) {
        let _turn = self.turn();
        let result = self.shared.view().read_link(node.0);
        answer!(reply, result, |reply: ReplyData, target: Vec<u8>| reply.data(&target));
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        let _turn = self.turn();
        let new = New::Node(rdev.into());
        let owner = owner(request, mode, umask);
        let name = name.as_bytes().to_vec();
        self.shared
            .change(move |view| view.make(parent.0, &name, new, owner), move |result| answer!(reply, result, entry));
    }

    fn mkdir(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        let _turn = self.turn();
        let owner = owner(request, mode | kind::DIRECTORY, umask);
        let name = name.as_bytes().to_vec();
        self.shared.change(
            move |view| view.make(parent.0, &name, New::Directory, owner),
            move |result| answer!(reply, result, entry),
        );
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let _turn = self.turn();
        let name = name.as_bytes().to_vec();
        self.shared.change(move |view| view.unlink(parent.0, &name), move |result| answer!(reply, result, done));
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let _turn = self.turn();
        let name = name.as_bytes().to_vec();
        self.shared
            .change(move |view| view.remove_directory(parent.0, &name), move |result| answer!(reply, result, done));
    }

    fn symlink(&self, request: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let _turn = self.turn();
        let (name, target) = (name.as_bytes().to_vec(), target.as_os_str().as_bytes().to_vec());
        let owner = owner(request, kind::SYMLINK | 0o777, 0);
        let make = move |view: &mut View| view.make(parent.0, &name, New::Symlink(&target), owner);
        self.shared.change(make, move |result| answer!(reply, result, entry));
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let _turn = self.turn();
        let how = match flags {
            flags if flags.is_empty() => Rename::Replace,
            RenameFlags::RENAME_NOREPLACE => Rename::NoReplace,
            RenameFlags::RENAME_EXCHANGE => Rename::Exchange,
            _ => return reply.error(fuser::Errno::EINVAL),
        };
        let (name, new_name) = (name.as_bytes().to_vec(), new_name.as_bytes().to_vec());
        let rename = move |view: &mut View| view.rename(parent.0, &name, new_parent.0, &new_name, how);
        self.shared.change(rename, move |result| answer!(reply, result, done));
    }

    fn link(&self, _: &Request, node: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let _turn = self.turn();
        let name = name.as_bytes().to_vec();
        self.shared.change(move |view| view.link(node.0, parent.0, &name), move |result| answer!(reply, result, entry));
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        // Never again, of no file (FUSE_NO_OPEN_SUPPORT).
        reply.error(fuser::Errno::ENOSYS);
    }

    fn opendir(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.error(fuser::Errno::ENOSYS);
    }

    fn read(
        &self,
        _: &Request,
        node: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let _turn = self.turn();
        let file = match self.shared.view().file(node.0, false) {
            Ok(file) => file,
            Err(error) => return reply.error(errno(&error)),
        };
        let size = size as usize;
        {
            let mut room = self.shared.room();
            let more = size.saturating_sub(room.len());
            room.extend(std::iter::repeat_n(0, more));
            match read_at_once(&file, &mut room[..size], offset) {
                // The disk has it.
                Ok(None) => {}
                Ok(Some(length)) => return reply.data(&room[..length]),
                Err(error) => return reply.error(errno(&error)),
            }
        }
        self.shared.beside(move |_| {
            let mut room = vec![0; size];
            let result = read(&file, &mut room, offset);
            answer!(reply, result, |reply: ReplyData, length| reply.data(&room[..length]));
        });
    }

    fn write(
        &self,
        _: &Request,
        node: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        flags: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let _turn = self.turn();
        let kills = flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID);
        let write = move |view: &mut View, data: &[u8]| {
            if kills {
                view.kill_set_id(node.0)?;
            }
            view.file(node.0, true)?.write_all_at(data, offset)
        };
        let length = data.len() as u32;
        let written = move |reply: ReplyWrite, ()| reply.written(length);
        match self.shared.try_change(|view| write(view, data)) {
            Some(result) => answer!(reply, result, written),
            None => {
                let data = data.to_vec();
                self.shared.beside(move |shared| {
                    let result = shared.change_in_a_moment(|view| write(view, &data));
                    answer!(reply, result, written);
                });
            }
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        let _turn = self.turn();
        reply.error(fuser::Errno::ENOSYS);
    }

    fn fsync(&self, _: &Request, node: INodeNo, _: FileHandle, data_only: bool, reply: ReplyEmpty) {
        let _turn = self.turn();
        match self.shared.view().synced(node.0) {
            Ok(None) => reply.ok(),
            Ok(Some(file)) => self.shared.beside(move |_| {
                let result = if data_only { file.sync_data() } else { file.sync_all() };
                answer!(reply, result, done);
            }),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn readdir(&self, _: &Request, node: INodeNo, _: FileHandle, after: u64, mut reply: ReplyDirectory) {
        let _turn = self.turn();
        match self.shared.view().list(node.0, after, NAMES) {
            Ok(names) => {
                for (place, named) in names {
                    let (node, name) = (INodeNo(named.shown), OsStr::from_bytes(&named.name));
                    if reply.add(node, place, file_type(named.kind), name) {
                        break;
                    }
                }
                reply.ok();
            }
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn readdirplus(&self, _: &Request, node: INodeNo, _: FileHandle, after: u64, mut reply: ReplyDirectoryPlus) {
        let _turn = self.turn();
        let mut view = self.shared.view();
        let names = match view.list(node.0, after, NAMES) {
            Ok(names) => names,
            Err(error) => return reply.error(errno(&error)),
        };
        for (place, named) in names {
            let name = OsStr::from_bytes(&named.name);
            // These two are nobody's to be told of, and nobody asks what they are.
            let dots = matches!(&*named.name, b"." | b"..");
            let entry = if dots { None } else { view.look_up_from(named.layer, node.0, &named.name).ok() };
            let full = match entry {
                Some(entry) => {
                    let (attributes, ttl) = told(&entry);
                    let full = reply.add(INodeNo(entry.id), place, name, &ttl, &attributes, Generation(0));
                    if full {
                        view.forget(entry.id, 1);
                    }
                    full
                }
                None => {
                    // A number of 0 says that nothing more is said.
                    let node = INodeNo(if dots { named.shown } else { 0 });
                    let attributes = FileAttr { ino: node, kind: file_type(named.kind), ..NOTHING };
                    reply.add(node, place, name, &Duration::ZERO, &attributes, Generation(0))
                }
            };
            if full {
                break;
            }
        }
        reply.ok();
    }

    fn fsyncdir(&self, _: &Request, node: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let _turn = self.turn();
        match self.shared.view().synced_directory(node.0) {
            Ok(None) => reply.ok(),
            Ok(Some(directory)) => self.shared.beside(move |_| answer!(reply, directory.sync_all(), done)),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let _turn = self.turn();
        let result = self.shared.view().space();
        answer!(reply, result, |reply: ReplyStatfs, space: stored::Space| {
            let (block, fragment) = (space.f_bsize as u32, space.f_frsize as u32);
            let (blocks, free, available) = (space.f_blocks, space.f_bfree, space.f_bavail);
            reply.statfs(
                blocks,
                free,
                available,
                space.f_files,
                space.f_ffree,
                block,
                space.f_namemax as u32,
                fragment,
            );
        });
    }

    fn setxattr(&self, _: &Request, node: INodeNo, name: &OsStr, value: &[u8], flags: i32, _: u32, reply: ReplyEmpty) {
        let _turn = self.turn();
        let (name, value) = (name.as_bytes().to_vec(), value.to_vec());
        self.shared.change(
            move |view| view.set_xattr(node.0, &name, &value, flags as u32),
            move |result| answer!(reply, result, done),
        );
    }

    fn getxattr(&self, _: &Request, node: INodeNo, name: &OsStr, room: u32, reply: ReplyXattr) {
        let _turn = self.turn();
        let result = self.shared.view().get_xattr(node.0, name.as_bytes());
        answer!(reply, result.and_then(|value| fits(value, room)), |reply, value| in_room(reply, value, room));
    }

    fn listxattr(&self, _: &Request, node: INodeNo, room: u32, reply: ReplyXattr) {
        let _turn = self.turn();
        let result = self.shared.view().list_xattrs(node.0);
        answer!(reply, result.and_then(|value| fits(value, room)), |reply, value| in_room(reply, value, room));
    }

    fn removexattr(&self, _: &Request, node: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let _turn = self.turn();
        let name = name.as_bytes().to_vec();
        self.shared.change(move |view| view.remove_xattr(node.0, &name), move |result| answer!(reply, result, done));
    }

    fn fallocate(
        &self,
        _: &Request,
        node: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let _turn = self.turn();
        self.shared.change(
            move |view| stored::allocate(&*view.file(node.0, true)?, mode as u32, offset, length),
            move |result| answer!(reply, result, done),
        );
    }

    fn lseek(&self, _: &Request, _: INodeNo, _: FileHandle, _: i64, _: i32, reply: ReplyLseek) {
        let _turn = self.turn();
        // The kernel has data that it has not written here yet, and does not do so before it asks: what would be a hole here
        // may be none. Then it says itself that all is data.
        reply.error(fuser::Errno::ENOSYS);
    }

    fn copy_file_range(
        &self,
        _: &Request,
        from: INodeNo,
        _: FileHandle,
        from_offset: u64,
        to: INodeNo,
        _: FileHandle,
        to_offset: u64,
        length: u64,
        _: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let _turn = self.turn();
        let files = {
            let mut view = self.shared.view();
            view.file(to.0, true).and_then(|to| Ok((view.file(from.0, false)?, to)))
        };
        let length = length.min(1 << 30) as usize;
        self.shared.beside(move |_| {
            let result = files.and_then(|(from, to)| stored::copy_range(&from, from_offset, &to, to_offset, length));
            answer!(reply, result, |reply: ReplyWrite, copied: usize| reply.written(copied as u32));
        });
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        reply.ok();
    }
}

/// A name that is nobody's; the kernel remembers that.
const NOTHING: FileAttr = FileAttr {
    ino: INodeNo(0),
    size: 0,
    blocks: 0,
    atime: UNIX_EPOCH,
    mtime: UNIX_EPOCH,
    ctime: UNIX_EPOCH,
    crtime: UNIX_EPOCH,
    kind: FileType::RegularFile,
    perm: 0,
    nlink: 0,
    uid: 0,
    gid: 0,
    rdev: 0,
    blksize: 0,
    flags: 0,
};

fn entry(reply: ReplyEntry, entry: Entry) {
    let (attributes, ttl) = told(&entry);
    reply.entry_with_ttls(&ttl, &FOR_EVER, &attributes, Generation(0));
}

/// The attributes of an entry, and how long they hold. fuser has one number for the node and for what is shown: where these
/// are two, the kernel is to ask for the other one at once.
fn told(entry: &Entry) -> (FileAttr, Duration) {
    let ttl = if entry.id == entry.stat.inode && entry.stays { FOR_EVER } else { Duration::ZERO };
    (FileAttr { ino: INodeNo(entry.id), ..file_attributes(&entry.stat) }, ttl)
}

fn attributes(reply: ReplyAttr, (stat, ttl): (Stat, Duration)) {
    reply.attr(&ttl, &file_attributes(&stat));
}

fn done(reply: ReplyEmpty, (): ()) {
    reply.ok();
}

fn fits(value: Vec<u8>, room: u32) -> Result<Vec<u8>> {
    if room != 0 && value.len() > room as usize { Err(Errno::RANGE.into()) } else { Ok(value) }
}

fn in_room(reply: ReplyXattr, value: Vec<u8>, room: u32) {
    if room == 0 { reply.size(value.len() as u32) } else { reply.data(&value) }
}

fn owner(request: &Request, mode: u32, umask: u32) -> Owner {
    Owner { uid: request.uid(), gid: request.gid(), mode, umask }
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

fn file_attributes(stat: &Stat) -> FileAttr {
    FileAttr {
        ino: INodeNo(stat.inode),
        size: stat.size,
        blocks: stat.blocks,
        atime: system_time(stat.accessed),
        mtime: system_time(stat.modified),
        ctime: system_time(stat.changed),
        crtime: UNIX_EPOCH,
        kind: file_type(stat.kind()),
        perm: (stat.mode & 0o7777) as u16,
        nlink: stat.links as u32,
        uid: stat.uid,
        gid: stat.gid,
        rdev: stat.rdev as u32,
        blksize: stat.block_size as u32,
        flags: 0,
    }
}

fn file_type(kind: u32) -> FileType {
    match kind {
        kind::DIRECTORY => FileType::Directory,
        kind::SYMLINK => FileType::Symlink,
        kind::FIFO => FileType::NamedPipe,
        kind::SOCKET => FileType::Socket,
        kind::CHARACTER => FileType::CharDevice,
        kind::BLOCK => FileType::BlockDevice,
        _ => FileType::RegularFile,
    }
}

fn system_time(time: Time) -> SystemTime {
    let nanoseconds = Duration::from_nanos(time.nanoseconds.into());
    let seconds = Duration::from_secs(time.seconds.unsigned_abs());
    let whole = if time.seconds < 0 { UNIX_EPOCH.checked_sub(seconds) } else { UNIX_EPOCH.checked_add(seconds) };
    whole.and_then(|whole| whole.checked_add(nanoseconds)).unwrap_or(UNIX_EPOCH)
}

fn new_time(time: Option<TimeOrNow>) -> NewTime {
    match time {
        None => NewTime::Same,
        Some(TimeOrNow::Now) => NewTime::Now,
        Some(TimeOrNow::SpecificTime(time)) => NewTime::At(match time.duration_since(UNIX_EPOCH) {
            Ok(since) => Time { seconds: since.as_secs() as i64, nanoseconds: since.subsec_nanos() },
            Err(error) => {
                // fuser takes the nanoseconds of what it has read for ones that go backwards, too.
                let before = error.duration();
                Time { seconds: -(before.as_secs() as i64), nanoseconds: before.subsec_nanos() }
            }
        }),
    }
}

fn errno(error: &io::Error) -> fuser::Errno {
    fuser::Errno::from_i32(error.raw_os_error().unwrap_or(Errno::IO.raw_os_error()))
}
