//! What the kernel asks.

use rbox_sys::at::Time;
use rbox_sys::stored::{NewTime, Rename};

/// One question.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Request<'a> {
    /// By which the answer is known.
    pub(in super::super) unique: u64,
    /// What it is about.
    pub(in super::super) node: u64,
    /// Who asks, as the user namespace of the mount has it.
    pub(in super::super) uid: u32,
    pub(in super::super) gid: u32,
    pub(in super::super) operation: Operation<'a>,
}

/// What is asked for; names are of things in the directory that the node is.
#[derive(Debug, Clone, Copy)]
pub(in super::super) enum Operation<'a> {
    Init {
        version: (u32, u32),
        flags: u32,
    },
    LookUp {
        name: &'a [u8],
    },
    /// Nobody answers this.
    Forget {
        times: u64,
    },
    /// Nor this: see [`forgotten`].
    ForgetMany {
        nodes: &'a [u8],
    },
    Attributes,
    Change(Changed),
    ReadLink,
    MakeNode {
        name: &'a [u8],
        mode: u32,
        umask: u32,
        rdev: u32,
    },
    MakeDirectory {
        name: &'a [u8],
        mode: u32,
        umask: u32,
    },
    MakeSymlink {
        name: &'a [u8],
        target: &'a [u8],
    },
    Unlink {
        name: &'a [u8],
    },
    RemoveDirectory {
        name: &'a [u8],
    },
    /// `how`: none for one that nobody has.
    Rename {
        name: &'a [u8],
        parent: u64,
        new_name: &'a [u8],
        how: Option<Rename>,
    },
    Link {
        node: u64,
        name: &'a [u8],
    },
    Read {
        offset: u64,
        size: u32,
    },
    Write {
        offset: u64,
        data: &'a [u8],
        kills_set_id: bool,
    },
    Space,
    Sync {
        data_only: bool,
    },
    SyncDirectory,
    SetXattr {
        name: &'a [u8],
        value: &'a [u8],
        flags: u32,
    },
    /// `room`: 0 asks how much there is.
    GetXattr {
        name: &'a [u8],
        room: u32,
    },
    ListXattrs {
        room: u32,
    },
    RemoveXattr {
        name: &'a [u8],
    },
    /// Names after a place; `plus`: with what they are.
    List {
        after: u64,
        room: u32,
        plus: bool,
    },
    Allocate {
        mode: u32,
        offset: u64,
        length: u64,
    },
    CopyRange {
        from: u64,
        to: u64,
        to_offset: u64,
        length: u64,
    },
    /// What is open is closed, of which nothing is known here.
    Release,
    Destroy,
    /// The kernel does without.
    Other,
    /// It is shorter than it should be, which the kernel's own are not.
    Malformed,
}

/// FUSE_SETATTR: what is none stays.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Changed {
    pub(in super::super) mode: Option<u32>,
    pub(in super::super) uid: Option<u32>,
    pub(in super::super) gid: Option<u32>,
    pub(in super::super) size: Option<u64>,
    pub(in super::super) accessed: NewTime,
    pub(in super::super) modified: NewTime,
    /// Set-id bits go (FATTR_KILL_SUIDGID).
    pub(in super::super) kills_set_id: bool,
}

impl<'a> Request<'a> {
    /// Reads a whole message; none where it has not even a head.
    pub(in super::super) fn read(message: &'a [u8]) -> Option<Self> {
        let mut fields = Fields(message);
        let (_length, operation, unique, node) = (fields.u32()?, fields.u32()?, fields.u64()?, fields.u64()?);
        let (uid, gid, _pid, _extensions) = (fields.u32()?, fields.u32()?, fields.u32()?, fields.u32()?);
        let operation = read(operation, fields).unwrap_or(Operation::Malformed);
        Some(Self { unique, node, uid, gid, operation })
    }
}

/// What [`Operation::ForgetMany`] is about: nodes, and how often each was told of.
pub(in super::super) fn forgotten(nodes: &[u8]) -> impl Iterator<Item = (u64, u64)> {
    let mut fields = Fields(nodes);
    std::iter::from_fn(move || Some((fields.u64()?, fields.u64()?)))
}

fn read<'a>(operation: u32, mut fields: Fields<'a>) -> Option<Operation<'a>> {
    let fields = &mut fields;
    Some(match operation {
        1 => Operation::LookUp { name: fields.name()? },
        2 => Operation::Forget { times: fields.u64()? },
        3 => Operation::Attributes,
        4 => Operation::Change(changed(fields)?),
        5 => Operation::ReadLink,
        6 => Operation::MakeSymlink { name: fields.name()?, target: fields.name()? },
        8 => {
            let (mode, rdev, umask, _) = (fields.u32()?, fields.u32()?, fields.u32()?, fields.u32()?);
            Operation::MakeNode { mode, rdev, umask, name: fields.name()? }
        }
        9 => Operation::MakeDirectory { mode: fields.u32()?, umask: fields.u32()?, name: fields.name()? },
        10 => Operation::Unlink { name: fields.name()? },
        11 => Operation::RemoveDirectory { name: fields.name()? },
        12 => {
            let (parent, how) = (fields.u64()?, Some(Rename::Replace));
            Operation::Rename { parent, how, name: fields.name()?, new_name: fields.name()? }
        }
        13 => Operation::Link { node: fields.u64()?, name: fields.name()? },
        15 => {
            let (_handle, offset, size) = (fields.u64()?, fields.u64()?, fields.u32()?);
            Operation::Read { offset, size }
        }
        16 => {
            let (_handle, offset, size, flags) = (fields.u64()?, fields.u64()?, fields.u32()?, fields.u32()?);
            let (_owner, _flags, _) = (fields.u64()?, fields.u32()?, fields.u32()?);
            // FUSE_WRITE_KILL_SUIDGID.
            Operation::Write { offset, kills_set_id: flags & 4 != 0, data: fields.bytes(size as usize)? }
        }
        17 => Operation::Space,
        18 | 29 => Operation::Release,
        // FUSE_FSYNC_FDATASYNC.
        20 => Operation::Sync { data_only: (fields.u64()?, fields.u32()?).1 & 1 != 0 },
        21 => {
            let (size, flags, name) = (fields.u32()?, fields.u32()?, fields.name()?);
            Operation::SetXattr { name, flags, value: fields.bytes(size as usize)? }
        }
        22 => Operation::GetXattr { room: (fields.u32()?, fields.u32()?).0, name: fields.name()? },
        23 => Operation::ListXattrs { room: fields.u32()? },
        24 => Operation::RemoveXattr { name: fields.name()? },
        26 => {
            let (version, _readahead) = ((fields.u32()?, fields.u32()?), fields.u32()?);
            Operation::Init { version, flags: fields.u32()? }
        }
        28 | 44 => {
            let (_handle, after, room) = (fields.u64()?, fields.u64()?, fields.u32()?);
            Operation::List { after, room, plus: operation == 44 }
        }
        30 => Operation::SyncDirectory,
        38 => Operation::Destroy,
        42 => Operation::ForgetMany { nodes: (fields.u64()?, fields.0).1 },
        43 => {
            let (_handle, offset, length) = (fields.u64()?, fields.u64()?, fields.u64()?);
            Operation::Allocate { offset, length, mode: fields.u32()? }
        }
        45 => {
            let (parent, flags, _) = (fields.u64()?, fields.u32()?, fields.u32()?);
            // renameat2(2).
            let how = match flags {
                0 => Some(Rename::Replace),
                1 => Some(Rename::NoReplace),
                2 => Some(Rename::Exchange),
                _ => None,
            };
            Operation::Rename { parent, how, name: fields.name()?, new_name: fields.name()? }
        }
        47 => {
            let (_handle, from, to, _handle_to) = (fields.u64()?, fields.u64()?, fields.u64()?, fields.u64()?);
            Operation::CopyRange { from, to, to_offset: fields.u64()?, length: fields.u64()? }
        }
        _ => Operation::Other,
    })
}

/// `struct fuse_setattr_in`, and which of it holds (FATTR_*).
fn changed(fields: &mut Fields<'_>) -> Option<Changed> {
    let (holds, _, _handle, size, _owner) = (fields.u32()?, fields.u32()?, fields.u64()?, fields.u64()?, fields.u64()?);
    // Seconds before 1970 are negative ones.
    let [accessed, modified, _changed] = [fields.u64()?, fields.u64()?, fields.u64()?].map(|seconds| seconds as i64);
    let [accessed_ns, modified_ns, _changed_ns] = [fields.u32()?, fields.u32()?, fields.u32()?];
    let (mode, _, uid, gid) = (fields.u32()?, fields.u32()?, fields.u32()?, fields.u32()?);
    let has = |bit: u32| holds & (1 << bit) != 0;
    let time = |is_given, is_now, seconds, nanoseconds| match (is_given, is_now) {
        (false, _) => NewTime::Same,
        (true, true) => NewTime::Now,
        (true, false) => NewTime::At(Time { seconds, nanoseconds }),
    };
    Some(Changed {
        mode: has(0).then_some(mode),
        uid: has(1).then_some(uid),
        gid: has(2).then_some(gid),
        size: has(3).then_some(size),
        accessed: time(has(4), has(7), accessed, accessed_ns),
        modified: time(has(5), has(8), modified, modified_ns),
        kills_set_id: has(11),
    })
}

/// What is left of a message.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn u32(&mut self) -> Option<u32> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_ne_bytes(*bytes))
    }

    fn u64(&mut self) -> Option<u64> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_ne_bytes(*bytes))
    }

    fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    /// Up to a zero.
    fn name(&mut self) -> Option<&'a [u8]> {
        let length = self.0.iter().position(|byte| *byte == 0)?;
        let name = self.bytes(length)?;
        self.0 = self.0.get(1..)?;
        Some(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message about node 7, by its operation and what follows the head.
    fn message(operation: u32, rest: &[&[u8]]) -> Vec<u8> {
        let rest = rest.concat();
        let length = 40 + rest.len() as u32;
        let mut message = [length, operation].map(u32::to_ne_bytes).concat();
        message.extend([99_u64, 7].map(u64::to_ne_bytes).concat());
        message.extend([1000_u32, 100, 4321, 0].map(u32::to_ne_bytes).concat());
        message.extend(rest);
        message
    }

    #[test]
    fn a_name_is_looked_up() {
        let message = message(1, &[b"etc\0"]);
        let request = Request::read(&message).expect("it has a head");
        assert_eq!((request.unique, request.node, request.uid, request.gid), (99, 7, 1000, 100));
        assert!(matches!(request.operation, Operation::LookUp { name: b"etc" }));
    }

    #[test]
    fn times_before_1970_are_such() {
        let seconds = (-2_i64).to_ne_bytes();
        let head = [(1_u32 << 5).to_ne_bytes(), [0; 4]].concat();
        let message = message(4, &[&head, &[0; 32], &seconds, &[0; 12], &500_u32.to_ne_bytes(), &[0; 24]]);
        let Some(Request { operation: Operation::Change(changed), .. }) = Request::read(&message) else {
            panic!("not a change");
        };
        assert!(matches!(changed.accessed, NewTime::Same));
        assert!(matches!(changed.modified, NewTime::At(Time { seconds: -2, nanoseconds: 500 })));
        assert_eq!((changed.mode, changed.size), (None, None));
    }

    #[test]
    fn what_is_cut_off_is_malformed() {
        for operation in 0..64 {
            let whole = message(operation, &[&[1; 96], b"name\0new\0"]);
            for length in 0..whole.len() {
                match Request::read(&whole[..length]) {
                    None => assert!(length < 40, "{operation} {length}"),
                    // Whatever it is, it is about what was asked.
                    Some(request) => assert_eq!(request.node, 7),
                }
            }
        }
        let short = message(16, &[&[0; 16], &4096_u32.to_ne_bytes(), &[0; 20], b"less"]);
        let request = Request::read(&short).expect("it has a head");
        assert!(matches!(request.operation, Operation::Malformed), "{request:?}");
    }
}
