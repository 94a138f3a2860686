//! This program's own code, as it is mapped.
#![allow(unsafe_code)]

use std::io;

use crate::errno;

unsafe extern "C" {
    /// Where a program begins, and where its code ends (ld(1), lld's and GNU's default scripts; end(3)).
    static __executable_start: u8;
    static etext: u8;
}

/// Forgets which pages of the program's code are in this process's page table: what it runs from now on is mapped again when
/// it is run, and what it never runs again, such as all that it began with, does not count as its memory any more
/// (madvise(2), MADV_DONTNEED: of a file that nobody has written to, nothing is lost).
pub fn forget() -> io::Result<()> {
    let (start, end) = ((&raw const __executable_start).addr(), (&raw const etext).addr());
    // SAFETY: sysconf only answers.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
    let first = start.next_multiple_of(page);
    let length = (end & !(page - 1)).saturating_sub(first);
    // SAFETY: from the first of the two symbols to the second the program's file is mapped, for reading and executing only;
    // what is read there is the same again afterwards.
    errno::check(unsafe { libc::madvise(std::ptr::with_exposed_provenance_mut(first), length, libc::MADV_DONTNEED) })
}
