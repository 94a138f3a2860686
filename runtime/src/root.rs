//! What the root filesystem's maker and this crate promise each other, so that neither knows the other's insides.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;

use crate::error::Failure;
use crate::plan::User;

/// Opens what a root filesystem is made of, described by words that only the two ends understand. Init calls it in the
/// container's mount namespace, but still with the caller's ids, since container root may not pass through all
/// directories that the caller may.
pub type OpenRoot = fn(words: &[u8]) -> Result<Box<dyn MountRoot>, Failure>;

/// A root filesystem whose parts are open.
pub trait MountRoot {
    /// Makes the detached mount of it, as root of the user namespace. For a process that comes into a container it is
    /// mounted already, as its root. What a process outside is to serve goes there by `hand_over`, before anything is looked
    /// for in it.
    fn mount(self: Box<Self>, hand_over: &HandOver<'_>) -> Result<Prepared, Failure>;
}

/// Gives a descriptor to the launcher, for who is to [serve](ServeRoot) it.
pub type HandOver<'a> = dyn Fn(BorrowedFd<'_>) -> Result<(), Failure> + 'a;

/// Has a root filesystem served that asks a process outside of the container for all there is in it. Called once at most;
/// what it fails with ends the start.
pub type ServeRoot<'a> = &'a mut dyn FnMut(AskingRoot) -> Result<(), Failure>;

/// What that process is to have.
#[derive(Debug)]
pub struct AskingRoot {
    /// Where it is asked.
    pub device: OwnedFd,
    /// The container's.
    pub user_namespace: OwnedFd,
}

/// The root filesystem, and what could only be known by looking into it.
pub struct Prepared {
    /// A detached mount; in a container that is there, its root.
    pub rootfs: OwnedFd,
    /// Instead of the spec's user: an image names its user, and only its own passwd(5) says who that is.
    pub user: Option<User>,
    /// Variables to add.
    pub env: Vec<String>,
    /// Small files to be shown in the place of the root's own, by their path and content. They live in memory as long
    /// as the container; the spec's own mounts come over them.
    pub files: Vec<(PathBuf, String)>,
}
