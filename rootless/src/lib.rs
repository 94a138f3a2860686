//! Being root without root.
//!
//! An ordinary user may make a user namespace (user_namespaces(7)) and is root inside it, but by himself maps only his
//! own id. The further ids that an image's files belong to come from the ranges that /etc/subuid and /etc/subgid give
//! him, or whom /etc/nsswitch.conf names in their place, written by the setuid helpers newuidmap(1) and newgidmap(1).
//! [`Identity`] decides which ids there are; [`MapWriter`] gives them to a process that has made its namespace; below
//! a [`Parent`] none of that is needed; [`worker`] runs a part of rbox inside one.
//!
//! Container root is never the host's root: root's own containers get a range of ids that nobody else has, since
//! uid 0 needs no capability to write what the kernel keeps for uid 0 in /proc and /sys.

mod apart;
mod attempt;
mod enter;
mod error;
mod identity;
mod map_writer;
mod parent;
pub mod probe;
mod subid;
pub mod worker;

pub use apart::TooFew;
pub use attempt::{attempt, attempt_with};
pub use enter::enter;
pub use error::Error;
pub use identity::{Choice, Identity, Kind, user_of};
pub use map_writer::MapWriter;
pub use parent::{Offer, Parent};
pub use subid::SubidSource;
