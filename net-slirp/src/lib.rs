//! User-mode networking: the frames of a tap on one side, ordinary sockets of the host on the other, and no privilege.
//!
//! ```text
//! guest's kernel ══ tap ══▶ packet ──▶ tcp ─────▶ a connected socket for each connection
//!   its own TCP,            (frame,    udp ─────▶ a bound socket for each of the guest's ports
//!   checksums left           checks)   echo ────▶ ping sockets
//!   to us, 64 KiB                      dns ─────▶ the host's resolvers
//!   at a time               neighbours ── answers by itself: everybody is here
//!            ◀══ tap ══ link ◀──────────────────── what the sockets have
//! ```
//!
//! One thread, one loop ([`engine`]), no queues: a frame is dealt with when it is read, and what a socket has is written
//! to the tap when it is there. The tap has IFF_VNET_HDR and all offloads, so a packet is as large as 64 KiB whatever the
//! MTU, nobody computes checksums, and each byte is copied once by a read and once by a write on its way.
//!
//! What the host forbids the guest cannot do: each connection, datagram and echo is one of the calling process's own, in
//! its network namespace, and the answer to it, or the error, is passed on as it came. What the host has for itself, its
//! loopback above all, is out of reach ([`Config::reachable`]).
//!
//! **Whom it trusts: nobody.** The guest makes up frames, and whoever is outside makes up answers. All parsing is on bytes
//! in memory; every table, and all that is held for either side, has a limit that its module names; a part that is full
//! forgets what is oldest, or drops. Where the process is to be confined, its caller confines it before [`run`]: from then
//! on it needs sockets, reads of the resolv.conf that it was told of, and nothing else.

mod budget;
mod checksum;
pub mod config;
mod context;
mod datagram;
mod dns;
mod echo;
pub mod egress;
mod engine;
mod flow_log;
mod fragments;
mod frames;
#[cfg(test)]
mod fuzz;
mod icmp;
mod idle;
mod link;
mod neighbours;
mod packet;
mod patience;
mod rate;
mod reports;
mod resolv_conf;
mod tcp;
#[cfg(test)]
mod testing;
mod timers;
mod token;
mod udp;
mod vnet;

pub use config::Config;
pub use dns::HOST_NAMES;
pub use echo::ping_is_allowed;
pub use engine::run;
pub use rate::Rate;
