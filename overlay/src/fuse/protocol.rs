//! The kernel's protocol, as far as an overlay is asked by it: fuse(4), and linux/fuse.h of version 7.38.
//!
//! ```text
//! Channel::receive ─ bytes ─▶ Request::read ─▶ server ─▶ Reply::answer ─ Body ─▶ Channel
//! ```
//!
//! All numbers are in the order of the machine, and each message has its length in front.

mod body;
mod channel;
mod request;
mod through;
mod wakefulness;

pub(super) use body::{Body, FOR_EVER, List};
pub(super) use channel::{Channel, Reply};
pub(super) use request::{Changed, Operation, Request, forgotten};
pub(super) use through::Through;

/// The version that this is, and the oldest that has all of it that is needed (Linux 4.20).
pub(super) const VERSION: (u32, u32) = (7, 38);
pub(super) const OLDEST: (u32, u32) = (7, 28);

/// The most that one message reads or writes.
pub(super) const LARGEST: u32 = 1 << 20;

/// What is wanted of the kernel (FUSE_*), each as far as it has it.
pub(super) mod wants {
    pub(in super::super) const ALL: u32 = ASYNC_READ
        | BIG_WRITES
        | DONT_MASK
        | DO_READDIRPLUS
        | READDIRPLUS_AUTO
        | ASYNC_DIO
        | NO_OPEN_SUPPORT
        | PARALLEL_DIROPS
        | POSIX_ACL
        | MAX_PAGES
        | CACHE_SYMLINKS
        | NO_OPENDIR_SUPPORT
        | EXPLICIT_INVAL_DATA
        | HANDLE_KILLPRIV_V2;

    const ASYNC_READ: u32 = 1;
    const BIG_WRITES: u32 = 1 << 5;
    const DONT_MASK: u32 = 1 << 6;
    const DO_READDIRPLUS: u32 = 1 << 13;
    const READDIRPLUS_AUTO: u32 = 1 << 14;
    const ASYNC_DIO: u32 = 1 << 15;
    const NO_OPEN_SUPPORT: u32 = 1 << 17;
    const PARALLEL_DIROPS: u32 = 1 << 18;
    const POSIX_ACL: u32 = 1 << 20;
    const MAX_PAGES: u32 = 1 << 22;
    const CACHE_SYMLINKS: u32 = 1 << 23;
    const NO_OPENDIR_SUPPORT: u32 = 1 << 24;
    const EXPLICIT_INVAL_DATA: u32 = 1 << 25;
    const HANDLE_KILLPRIV_V2: u32 = 1 << 28;
}
