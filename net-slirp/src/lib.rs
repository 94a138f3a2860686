//! User-mode networking: frames of a tap on one side, ordinary sockets of the host on the other.

mod checksum;
pub mod config;
mod context;
mod link;
mod packet;
mod token;
mod vnet;

pub use config::Config;

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};

use rbox_sys::poll::{self, Interest};

/// Serves the guest at the other end of `tap` for as long as there is one.
pub fn run(tap: OwnedFd, config: Config) -> io::Result<()> {
    let (mut tap, _config) = (File::from(tap), config);
    let mut frame = vec![0; 1 << 17];
    loop {
        poll::wait([(tap.as_fd(), Interest::Read)], None)?;
        match tap.read(&mut frame) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            _ => {}
        }
    }
}
