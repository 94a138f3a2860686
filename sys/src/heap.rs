//! The allocator's own memory.
#![allow(unsafe_code)]

/// Gives back to the kernel what was freed and is kept for the next time: malloc_trim(3), which glibc alone has. For
/// processes that wait for long after they have had much to do.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes a number, and whatever is allocated stays where it is.
    unsafe {
        libc::malloc_trim(0);
    }
}
