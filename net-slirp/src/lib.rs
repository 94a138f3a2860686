//! User-mode networking: frames of a tap on one side, ordinary sockets of the host on the other.

mod checksum;
pub mod config;
mod context;
mod datagram;
mod dns;
mod echo;
mod fragments;
mod icmp;
mod idle;
mod link;
mod neighbours;
mod packet;
mod resolv_conf;
#[cfg(test)]
mod testing;
mod token;
mod udp;
mod vnet;

pub use config::Config;
pub use echo::ping_is_allowed;
