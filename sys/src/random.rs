//! Random bytes from the kernel (getrandom(2)).

use std::io;

use rustix::{
    io::Errno,
    rand::{GetRandomFlags, getrandom},
};

/// `N` bytes fit for keys and for names that nobody else chooses.
pub fn bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < N {
        match getrandom(&mut bytes[filled..], GetRandomFlags::empty()) {
            Ok(count) => filled += count,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(bytes)
}
