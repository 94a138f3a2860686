//! The kernel, one facility a file, behind safe signatures.
//!
//! This is the only crate that says `unsafe`, `libc::` or `rustix::`. Each file that needs `unsafe` allows it for
//! itself and gives each block its reason. What an old kernel lacks is answered for behind the same signature.

pub mod at;
pub mod beneath;
pub mod bpf;
pub mod caps;
pub mod cgroup;
pub mod clock;
pub mod clone;
pub mod copy;
pub mod datagram;
pub mod dir;
pub mod epoll;
mod errno;
pub mod errqueue;
pub mod exec;
pub mod fd;
pub mod flock;
pub mod heap;
pub mod ids;
pub mod in_root;
mod inet;
pub mod inotify;
pub mod ioprio;
pub mod keyring;
pub mod landlock;
pub mod listener;
pub mod listing;
pub mod map;
pub mod memfd;
pub mod mempolicy;
pub mod mount;
pub mod node;
pub mod notify;
pub mod packet;
pub mod personality;
pub mod ping;
pub mod pipe;
pub mod poll;
pub mod process;
pub mod procfs;
pub mod random;
pub mod rlimit;
pub mod rtnetlink;
pub mod sched;
pub mod seccomp;
pub mod signal;
pub mod socket;
pub mod spawn;
pub mod start;
pub mod stored;
pub mod syncfs;
pub mod tap;
pub mod tcp;
pub mod text;
pub mod tty;
pub mod usage;
pub mod whole;
pub mod xattr;

pub use rustix::io::Errno;
