//! Layers: unpacked from archives, finished upon each other, mounted, removed.
//!
//! A layer is unpacked in two steps, both inside the user namespace whose ids its files are to have.
//! [`unpack`](unpack()) needs nothing but the layer's own bytes, so all layers of an image unpack at the same time,
//! while they arrive. What depends on the layers below waits for [`settle`](settle()). The result is a directory in
//! overlayfs's own format (`userxattr`): whiteouts are character devices 0:0, opaque directories carry the attribute
//! `user.overlay.opaque`.
//!
//! Archives are written by strangers. Every name is resolved beneath the layer's root and through no symbolic link by
//! the kernel (openat2(2)); what cannot be meant well is an error that names the entry; memory and descriptors are
//! bounded whatever an archive says.

mod changes;
mod error;
pub mod fuse;
pub mod kernel;
mod measure;
mod pack;
mod path;
mod place;
pub mod probe;
mod remove;
mod settle;
mod tar;
mod unpack;
pub mod worker;

pub use changes::{Change, ChangeKind, changes};
pub use error::{Error, Problem};
pub use measure::tree_size;
pub use pack::{PackError, Packing, pack};
pub use path::PathProblem;
pub use place::{PlaceError, Placed, Placing, Target, place};
pub use remove::remove_tree;
pub use settle::settle;
pub use unpack::{Compression, Options, Report, Unpacked, unpack};

/// Before the names of all extended attributes of overlayfs's own (option `userxattr`).
const OWN: &[u8] = b"user.overlay.";
/// The extended attribute, "y" on a directory that hides what is below it, with overlayfs's option `userxattr`.
const OPAQUE: &[u8] = b"user.overlay.opaque";
/// The extended attribute on an empty file that says that it is a whiteout.
const WHITEOUT: &[u8] = b"user.overlay.whiteout";

/// Whether a layer's file may have this extended attribute. `trusted.*` and most of `security.*` belong to the host's
/// root; under `user.overlay.` an image could make overlayfs show other files.
fn may_have(name: &[u8]) -> bool {
    name == b"security.capability" || name.starts_with(b"user.") && !name.starts_with(OWN)
}

/// Whether that is what failed.
fn is(error: &std::io::Error, errno: rbox_sys::Errno) -> bool {
    error.raw_os_error() == Some(errno.raw_os_error())
}
