//! User-mode networking: frames of a tap on one side, ordinary sockets of the host on the other.

mod checksum;
pub mod config;
mod context;
pub mod egress;
mod engine;
#[cfg(test)]
mod fuzz;
mod link;
mod packet;
mod tcp;
mod timers;
mod token;
mod vnet;

pub use config::Config;
pub use engine::run;
