//! Filters on system calls: seccomp(2) with a program in classic BPF.
#![allow(unsafe_code)]

use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;
use std::{io, thread};

/// One instruction of classic BPF: `struct sock_filter` of <linux/filter.h>.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Instruction {
    /// What to do.
    pub code: u16,
    /// How many instructions a jump skips when its condition holds.
    pub jt: u8,
    /// How many when it does not.
    pub jf: u8,
    /// The operand.
    pub k: u32,
}

/// How a filter is installed, a bit each: `SECCOMP_FILTER_FLAG_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags(u32);

impl Flags {
    /// None of them.
    pub const NONE: Self = Self(0);
    /// All threads of the process get the filter.
    pub const TSYNC: Self = Self(libc::SECCOMP_FILTER_FLAG_TSYNC as u32);
    /// Every verdict but "allow" is written to the audit log (Linux 4.14).
    pub const LOG: Self = Self(libc::SECCOMP_FILTER_FLAG_LOG as u32);
    /// Speculative store bypass is not turned off (Linux 4.17).
    pub const SPEC_ALLOW: Self = Self(libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW as u32);
    /// The installation gives a descriptor that hears of calls with the verdict "notify" (Linux 5.0).
    pub const NEW_LISTENER: Self = Self(libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as u32);
    /// Whoever waits for the listener's answer is woken by fatal signals only (Linux 5.19).
    pub const WAIT_KILLABLE_RECV: Self = Self(libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV as u32);

    /// The set with these bits.
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// Those of `self` that are not in `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The bits.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Those of either set.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` are in `self`.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Puts this thread, and what it starts, under a filter, for good. Gives the listener where `flags` ask for one; it is
/// closed by execve(2). Needs CAP_SYS_ADMIN in the user namespace (EACCES) or no_new_privs. EINVAL: the kernel does not
/// know a flag, or the program is not one (it has from 1 to 4096 instructions).
pub fn install(program: &[Instruction], flags: Flags) -> io::Result<Option<OwnedFd>> {
    let len = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let listens = flags.has(Flags::NEW_LISTENER);
    // A thread that cannot be synchronised is otherwise told by its id, which looks like the listener's number.
    let esrch = listens && flags.has(Flags::TSYNC);
    let bits = flags.bits() | if esrch { libc::SECCOMP_FILTER_FLAG_TSYNC_ESRCH as u32 } else { 0 };
    let program = libc::sock_fprog { len, filter: program.as_ptr().cast_mut().cast() };
    // SAFETY: `Instruction` has the layout of sock_filter, there are `len` of them, and the kernel only reads them.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, bits, &raw const program) };
    match result {
        0 if !listens => Ok(None),
        // SAFETY: the call made this descriptor, and nobody else has it.
        number if number >= 0 && listens => Ok(Some(unsafe { OwnedFd::from_raw_fd(number as i32) })),
        -1 => Err(io::Error::last_os_error()),
        thread => Err(io::Error::other(format!("thread {thread} has another filter"))),
    }
}

/// As [`install`], with a listener that `deliver` takes away: not as this thread, any of whose calls may wait for the
/// listener from here on, but as one that the filter does not hold for. Until it has been taken, this thread makes no call
/// at all, and burns its time; that is some tens of microseconds. Where `deliver` fails the listener is closed, and calls
/// that are for it to decide get ENOSYS.
///
/// `flags` without TSYNC: execve(2) ends the other threads anyway.
pub fn install_and_deliver(
    program: &[Instruction],
    flags: Flags,
    deliver: impl FnOnce(OwnedFd) -> io::Result<()> + Send + 'static,
) -> io::Result<()> {
    const PENDING: i32 = -1;
    const NONE: i32 = -2;
    /// How often the other thread looks.
    const MOMENT: Duration = Duration::from_micros(10);
    if flags.has(Flags::TSYNC) || !flags.has(Flags::NEW_LISTENER) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // Never given back, which might take a call.
    let [number, outcome]: &'static [AtomicI32; 2] = Box::leak(Box::new([PENDING, PENDING].map(AtomicI32::new)));
    let deliverer = thread::Builder::new().stack_size(64 * 1024).spawn(move || {
        let listener = loop {
            match number.load(Ordering::Acquire) {
                PENDING => thread::sleep(MOMENT),
                NONE => return,
                // SAFETY: the installation made this descriptor, and left it to this thread.
                listener => break unsafe { OwnedFd::from_raw_fd(listener) },
            }
        };
        let errno = deliver(listener).map_or_else(|error| error.raw_os_error().unwrap_or(libc::EIO), |()| 0);
        outcome.store(errno, Ordering::Release);
    })?;
    drop(deliverer);
    let listener = install(program, flags).inspect_err(|_| number.store(NONE, Ordering::Release))?;
    number.store(listener.map_or(NONE, IntoRawFd::into_raw_fd), Ordering::Release);
    loop {
        match outcome.load(Ordering::Acquire) {
            PENDING => std::hint::spin_loop(),
            0 => return Ok(()),
            errno => return Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

/// Whether the kernel knows this verdict (`SECCOMP_RET_*` without its data). Linux before 4.14 cannot be asked and
/// knows those of Linux 3.5.
pub fn knows_action(action: u32) -> bool {
    // SAFETY: the kernel reads one u32, which lives until the call returns.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, &raw const action) };
    match result {
        0 => true,
        _ if io::Error::last_os_error().raw_os_error() == Some(libc::EOPNOTSUPP) => false,
        // KILL_THREAD, TRAP, ERRNO, TRACE, ALLOW.
        _ => matches!(action, 0 | 0x0003_0000 | 0x0005_0000 | 0x7ff0_0000 | 0x7fff_0000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    use crate::caps;
    use crate::poll::{self, Interest};

    /// Loads the call's number, and answers one of them with an error.
    fn refusing(call: u32, errno: u32) -> [Instruction; 4] {
        let instruction = |code, jt, jf, k| Instruction { code, jt, jf, k };
        [
            instruction(0x20, 0, 0, 0),
            instruction(0x15, 0, 1, call),
            instruction(0x06, 0, 0, 0x0005_0000 | errno),
            instruction(0x06, 0, 0, 0x7fff_0000),
        ]
    }

    /// In a thread of its own, which the filter ends with.
    fn alone<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> T {
        std::thread::spawn(act).join().expect("no panic")
    }

    #[test]
    fn a_filter_is_in_force() {
        let found = alone(|| {
            caps::set_no_new_privileges()?;
            assert!(install(&refusing(libc::SYS_getppid as u32, 7), Flags::SPEC_ALLOW)?.is_none());
            // SAFETY: no arguments.
            let result = unsafe { libc::syscall(libc::SYS_getppid) };
            Ok::<_, io::Error>((result, io::Error::last_os_error().raw_os_error()))
        });
        assert_eq!(found.expect("installed"), (-1, Some(7)));
    }

    #[test]
    fn a_listener_is_had() {
        let listener = alone(|| {
            caps::set_no_new_privileges()?;
            install(&refusing(libc::SYS_getppid as u32, 7), Flags::NEW_LISTENER.and(Flags::TSYNC).and(Flags::LOG))
        });
        // Other threads of the tests may have filters of their own by now; then there is no common one.
        match listener {
            Ok(listener) => assert!(listener.is_some()),
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::ESRCH)),
        }
    }

    #[test]
    fn a_listener_is_delivered_though_every_call_waits_for_it() {
        const NOTIFY: u32 = 0x7fc0_0000;
        let (sender, receiver) = std::sync::mpsc::channel();
        let everything = [Instruction { code: 0x06, jt: 0, jf: 0, k: NOTIFY }];
        // Not `alone`: what is under the filter waits for good, once it makes a call.
        let waits = thread::spawn(move || {
            caps::set_no_new_privileges()?;
            install_and_deliver(&everything, Flags::NEW_LISTENER, move |listener| {
                sender.send(listener).map_err(io::Error::other)
            })
        });
        let listener = receiver.recv_timeout(Duration::from_secs(60)).expect("delivered");
        // The next call of that thread, whichever it is: the listener hears of it.
        let heard = poll::wait([(listener.as_fd(), Interest::Read)], Some(Duration::from_secs(60)));
        assert_eq!(heard.expect("poll"), [true]);
        // That thread waits until this process ends.
        std::mem::forget((listener, waits));
    }

    #[test]
    fn what_is_no_program_is_refused() {
        let error = alone(|| {
            caps::set_no_new_privileges()?;
            install(&[], Flags::NONE)
        });
        assert_eq!(error.expect_err("no instructions").raw_os_error(), Some(libc::EINVAL));
        let error = alone(|| {
            caps::set_no_new_privileges()?;
            install(&refusing(0, 1), Flags::from_bits(1 << 31))
        });
        assert_eq!(error.expect_err("no such flag").raw_os_error(), Some(libc::EINVAL));
    }

    #[test]
    fn actions() {
        for known in [0, 0x8000_0000, 0x0003_0000, 0x0005_0000, 0x7fc0_0000, 0x7ff0_0000, 0x7ffc_0000, 0x7fff_0000] {
            assert!(knows_action(known), "{known:#x}");
        }
        assert!(!knows_action(0x1234_0000));
    }
}
