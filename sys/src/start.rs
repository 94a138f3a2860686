//! The start of the program: in the place of the standard library's, which asks for more than this program needs.
//!
//! That one reads and parses /proc/self/maps to find the main thread's stack, so that an overflow can be told from
//! other faults. What else it does is done here too: descriptors 0 to 2 are open, SIGPIPE is ignored, a panic ends
//! with 101, and what stands in the buffer of standard output is written.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::panic::{UnwindSafe, catch_unwind};

/// What a Rust program that panicked exits with.
const PANICKED: u8 = 101;

/// Makes a function that gives the exit status the program's `main`. The crate is `#![no_main]`.
#[macro_export]
macro_rules! main {
    ($run:path) => {
        // SAFETY: a program has one symbol of this name, and in a crate without a main of Rust's own it is this one.
        #[allow(unsafe_code, reason = "the linker knows the start of a program by this name")]
        #[unsafe(no_mangle)]
        extern "C" fn main() -> ::std::ffi::c_int {
            $crate::start::run($run)
        }
    };
}

/// Runs the program, and ends it.
pub fn run(main: impl FnOnce() -> u8 + UnwindSafe) -> c_int {
    open_standard_streams();
    // SAFETY: to ignore a signal, no function of this program is called.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    // SAFETY: nothing else runs yet. The few threads of this program are not worth 64 MiB of address space each, which
    // take longer to set up than to share the one heap.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
    let status = catch_unwind(main).unwrap_or(PANICKED);
    std::process::exit(status.into())
}

/// A file that the program opens must not become its standard output because that one was closed.
fn open_standard_streams() {
    for number in 0..=2 {
        // SAFETY: F_GETFD only asks; /dev/null takes the lowest free number, which is this one.
        unsafe {
            if libc::fcntl(number, libc::F_GETFD) == -1 && libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) != number {
                libc::abort();
            }
        }
    }
}
