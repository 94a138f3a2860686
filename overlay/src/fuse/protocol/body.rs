//! What is said to the kernel: the structures of linux/fuse.h, field by field.

use std::time::Duration;

use rbox_sys::stored::{Space, Stat};

use super::{LARGEST, VERSION};

/// For as long as nobody says otherwise, and nobody will.
pub(in super::super) const FOR_EVER: Duration = Duration::from_secs(u32::MAX as u64);
/// So many messages wait at most that nobody waits for, and from so many on the kernel holds others back.
const BACKGROUND: u16 = 64;
const CONGESTED: u16 = 48;
/// `struct fuse_entry_out`.
const ENTRY: usize = 128;
/// `struct fuse_dirent`, without the name.
const DIRENT: usize = 24;

/// An answer, behind its head.
#[derive(Debug, Default)]
pub(in super::super) struct Body(pub(super) Vec<u8>);

impl Body {
    fn u32s<const N: usize>(&mut self, values: [u32; N]) {
        values.iter().for_each(|value| self.0.extend(value.to_ne_bytes()));
    }

    fn u64s<const N: usize>(&mut self, values: [u64; N]) {
        values.iter().for_each(|value| self.0.extend(value.to_ne_bytes()));
    }

    /// `struct fuse_init_out`.
    pub(in super::super) fn init(&mut self, flags: u32) {
        self.u32s([VERSION.0, VERSION.1, LARGEST, flags]);
        self.0.extend([BACKGROUND, CONGESTED].map(u16::to_ne_bytes).concat());
        // Times are in nanoseconds.
        self.u32s([LARGEST, 1]);
        let pages = LARGEST / 4096;
        self.0.extend((pages as u16).to_ne_bytes());
        self.0.resize(64, 0);
    }

    /// `struct fuse_entry_out`: a node, and for how long its attributes hold. Its name does for ever.
    pub(in super::super) fn entry(&mut self, node: u64, stat: &Stat, holds: Duration) {
        self.u64s([node, 0, FOR_EVER.as_secs(), holds.as_secs()]);
        self.u32s([0, holds.subsec_nanos()]);
        self.stat(stat);
    }

    /// The same: there is no such name, and will be none.
    pub(in super::super) fn no_entry(&mut self) {
        self.u64s([0, 0, FOR_EVER.as_secs()]);
        self.0.resize(ENTRY, 0);
    }

    /// `struct fuse_attr_out`.
    pub(in super::super) fn attributes(&mut self, stat: &Stat, hold: Duration) {
        self.u64s([hold.as_secs()]);
        self.u32s([hold.subsec_nanos(), 0]);
        self.stat(stat);
    }

    /// `struct fuse_attr`.
    fn stat(&mut self, stat: &Stat) {
        let [accessed, modified, changed] = [stat.accessed, stat.modified, stat.changed];
        self.u64s([stat.inode, stat.size, stat.blocks]);
        self.u64s([accessed, modified, changed].map(|time| time.seconds as u64));
        self.u32s([accessed, modified, changed].map(|time| time.nanoseconds));
        let (links, rdev) = (stat.links as u32, stat.rdev as u32);
        self.u32s([stat.mode, links, stat.uid, stat.gid, rdev, stat.block_size as u32, 0]);
    }

    /// `struct fuse_statfs_out`.
    pub(in super::super) fn space(&mut self, space: &Space) {
        self.u64s([space.f_blocks, space.f_bfree, space.f_bavail, space.f_files, space.f_ffree]);
        self.u32s([space.f_bsize, space.f_namemax, space.f_frsize].map(|value| value as u32));
        self.0.resize(80, 0);
    }

    /// `struct fuse_write_out`, or `struct fuse_getxattr_out`: how much was written, or there is.
    pub(in super::super) fn size(&mut self, size: u32) {
        self.u32s([size, 0]);
    }

    /// Data as they are.
    pub(in super::super) fn data(&mut self, data: Vec<u8>) {
        self.0 = data;
    }
}

/// Names in a directory, as many as there is room for.
#[derive(Debug)]
pub(in super::super) struct List {
    body: Body,
    room: usize,
}

impl List {
    pub(in super::super) fn new(room: u32) -> Self {
        let room = room as usize;
        Self { body: Body(Vec::with_capacity(room)), room }
    }

    /// Adds `struct fuse_dirent`: a name, its type as st_mode has it, the number that is shown, and after which place others
    /// follow. Says whether there was room for it.
    #[must_use]
    pub(in super::super) fn add(&mut self, name: &[u8], kind: u32, shown: u64, place: u64) -> bool {
        if self.body.0.len() + DIRENT + name.len().next_multiple_of(8) > self.room {
            return false;
        }
        self.body.u64s([shown, place]);
        self.body.u32s([name.len() as u32, kind >> 12]);
        self.body.0.extend(name);
        self.body.0.resize(self.body.0.len().next_multiple_of(8), 0);
        true
    }

    /// Whether there is room for a name with what it is.
    pub(in super::super) fn has_room(&self, name: &[u8]) -> bool {
        self.body.0.len() + ENTRY + DIRENT + name.len().next_multiple_of(8) <= self.room
    }

    /// Adds `struct fuse_direntplus`, for which [there is room](Self::has_room): a node and what it is, or nothing of it.
    pub(in super::super) fn add_plus(
        &mut self,
        name: &[u8],
        kind: u32,
        place: u64,
        entry: Result<(u64, &Stat, Duration), u64>,
    ) {
        let shown = match entry {
            Ok((node, stat, holds)) => {
                self.body.entry(node, stat, holds);
                stat.inode
            }
            Err(shown) => {
                // A node of 0 says that nothing more is said.
                self.body.0.resize(self.body.0.len() + ENTRY, 0);
                shown
            }
        };
        let _ = self.add(name, kind, shown, place);
    }

    pub(in super::super) fn whole(self) -> Vec<u8> {
        self.body.0
    }
}

#[cfg(test)]
mod tests {
    use rbox_sys::stored;

    use super::*;

    #[test]
    fn structures_have_their_lengths() {
        let root = std::fs::File::open("/").expect("the root directory");
        let space = stored::space(&root).expect("statfs");
        let stat = stored::stat_of(&root).expect("stat");
        let lengths = [
            length(|body| body.init(0)),
            length(Body::no_entry),
            length(|body| body.entry(1, &stat, FOR_EVER)),
            length(|body| body.attributes(&stat, FOR_EVER)),
            length(|body| body.space(&space)),
            length(|body| body.size(3)),
        ];
        assert_eq!(lengths, [64, ENTRY, ENTRY, 104, 80, 8]);
    }

    fn length(write: impl FnOnce(&mut Body)) -> usize {
        let mut body = Body::default();
        write(&mut body);
        body.0.len()
    }
}
