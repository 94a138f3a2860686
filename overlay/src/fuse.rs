//! An overlay filesystem of our own, served to the kernel's FUSE: what a root filesystem is where the kernel's overlay cannot be
//! had, or where ids are to be shown other than they are stored.
//!
//! # Theory of operation
//!
//! What is stored is in the kernel overlay's own format (`userxattr`), so that a container may be served by either: removed names
//! are character devices 0:0 or marked by `user.overlay.whiteout`, directories that hide what is below them have
//! `user.overlay.opaque`, and a file that was copied up has `user.overlay.origin`, by which it keeps its inode number.
//!
//! **Nodes.** The kernel knows what it has looked up by a number, a *node*, until it forgets it. A node has the names that it is
//! known by and the layers that it is made of: the topmost one that has it, or for a directory each of them down to an opaque
//! one. There are no paths. Whatever is done is done to a name in an open directory of one layer; directories are opened
//! from their parents, and the last few hundred stay open. So nothing is followed, nothing is too deep, and a directory that
//! is renamed takes what is below it along.
//!
//! **Who else writes? Nobody.** The layers below never change, and the upper one is ours. So the kernel is told to keep names,
//! absent ones too, attributes, directories and data for ever: what is warm is read without a message. Files are not
//! opened here (FUSE_NO_OPEN_SUPPORT): the kernel reads and writes by node, and a lower file is copied up when it is first
//! written to. Writes go through at once, so that nothing that a program has written is lost with the server.
//!
//! **What is removed while somebody has it** stays open here until the kernel forgets it: its inode, and so its number, is
//! nobody else's until then.
//!
//! **Changes are whole.** What is not made by one call is made in the work directory and renamed into its place, as the kernel's
//! overlay does. A server that is killed leaves nothing half made but in the work directory, which the next one empties.

mod cache;
mod change;
mod copy_up;
mod flatten;
mod layers;
mod listing;
mod mounting;
mod nodes;
mod numbers;
mod protocol;
mod server;
mod shared;
mod view;
mod xattrs;

pub use flatten::flatten;
pub use layers::{Layers, OpenError};
pub use mounting::{Device, MountError};
pub use server::serve;
