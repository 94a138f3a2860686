//! When the kernel runs what: sched(7).
#![allow(unsafe_code)]

use std::io;

/// Has the calling thread run only when a core has nothing else to do (SCHED_IDLE).
pub fn run_when_idle() -> io::Result<()> {
    // SAFETY: a sched_param of zeros is valid, and the only one that this policy takes.
    let parameters: libc::sched_param = unsafe { std::mem::zeroed() };
    // SAFETY: 0 is the calling thread; `parameters` lives until the call returns.
    match unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameters) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
