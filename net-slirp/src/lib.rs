//! User-mode networking: frames of a tap on one side, ordinary sockets of the host on the other.

mod checksum;
pub mod config;
mod context;
mod datagram;
mod fragments;
mod icmp;
mod idle;
mod link;
mod neighbours;
mod packet;
#[cfg(test)]
mod testing;
mod token;
mod udp;
mod vnet;

pub use config::Config;
