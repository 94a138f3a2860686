//! Calls that a filter leaves to another process to decide: seccomp_unotify(2), Linux 5.0.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::process::{Pid, Signal};

/// What [`seccomp::install`](crate::seccomp::install) gives where a filter has the verdict "notify".
#[derive(Debug)]
pub struct Listener(OwnedFd);

/// A call that waits, as it was when it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// By which it is answered.
    pub id: u64,
    /// The thread that makes it, as this process numbers it; 0 for one that this process cannot see.
    pub thread: u32,
    /// The call.
    pub call: Call,
}

/// A system call: `struct seccomp_data`, without where in the program it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Call {
    /// Its number, on x32 with that architecture's bit.
    pub number: u32,
    /// AUDIT_ARCH_* of <linux/audit.h>.
    pub arch: u32,
    /// Its arguments.
    pub arguments: [u64; 6],
}

impl Listener {
    /// Waits for the next call; none when nobody is left under the filter.
    pub fn next(&self) -> io::Result<Option<Waiting>> {
        loop {
            // The kernel does not wake who waits in the ioctl when the last process ends (before Linux 6.11).
            let mut polled = [PollFd::new(&self.0, PollFlags::IN)];
            match rustix::event::poll(&mut polled, None) {
                Err(Errno::INTR) => continue,
                result => result?,
            };
            if !polled[0].revents().contains(PollFlags::IN) {
                return Ok(None);
            }
            // SAFETY: the type is plain numbers, for which zeros are values; the kernel asks for zeros.
            let mut waiting: libc::seccomp_notif = unsafe { std::mem::zeroed() };
            // SAFETY: the kernel writes one seccomp_notif, whose size is part of the request's number.
            let result = unsafe { libc::ioctl(self.0.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut waiting) };
            if result == 0 {
                let libc::seccomp_data { nr, arch, args, .. } = waiting.data;
                let call = Call { number: nr.cast_unsigned(), arch, arguments: args };
                return Ok(Some(Waiting { id: waiting.id, thread: waiting.pid, call }));
            }
            match io::Error::last_os_error().raw_os_error() {
                // Who called has been killed meanwhile, or interrupted.
                Some(libc::ENOENT | libc::EINTR) => {}
                _ => return Err(io::Error::last_os_error()),
            }
        }
    }

    /// Has a waiting call fail with this error number. One that waits no more needs no answer.
    pub fn refuse(&self, id: u64, errno: u16) -> io::Result<()> {
        let answer = libc::seccomp_notif_resp { id, val: 0, error: -i32::from(errno), flags: 0 };
        // SAFETY: the kernel reads one seccomp_notif_resp, whose size is part of the request's number.
        let result = unsafe { libc::ioctl(self.0.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw const answer) };
        match result {
            0 => Ok(()),
            _ if io::Error::last_os_error().raw_os_error() == Some(libc::ENOENT) => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Kills the process that waits. One that waits no more is spared: its number may be another's.
    pub fn kill(&self, waiting: &Waiting) -> io::Result<()> {
        let id = waiting.id;
        // SAFETY: the kernel reads one u64.
        let waits = unsafe { libc::ioctl(self.0.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &raw const id) == 0 };
        match Pid::from_raw(waiting.thread.cast_signed()) {
            Some(thread) if waits => Ok(rustix::process::kill_process(thread, Signal::KILL)?),
            _ => Ok(()),
        }
    }
}

impl From<OwnedFd> for Listener {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seccomp::{Flags, Instruction, install};

    #[test]
    fn a_call_waits_for_its_answer() {
        let (send, receive) = std::sync::mpsc::channel();
        let caller = std::thread::spawn(move || {
            let instruction = |code, jt, jf, k| Instruction { code, jt, jf, k };
            let filter = [
                instruction(0x20, 0, 0, 0),
                instruction(0x15, 0, 1, libc::SYS_getppid as u32),
                instruction(0x06, 0, 0, libc::SECCOMP_RET_USER_NOTIF),
                instruction(0x06, 0, 0, libc::SECCOMP_RET_ALLOW),
            ];
            crate::caps::set_no_new_privileges().expect("no_new_privs");
            let listener = install(&filter, Flags::NEW_LISTENER).expect("installed").expect("a listener");
            send.send(Listener::from(listener)).expect("received");
            // SAFETY: the call takes two arguments less than it is given, and looks at none.
            let result = unsafe { libc::syscall(libc::SYS_getppid, 11_usize, 12_usize) };
            (result, io::Error::last_os_error().raw_os_error())
        });
        let listener = receive.recv().expect("sent");
        let waiting = listener.next().expect("heard").expect("a call");
        assert_eq!(waiting.call.number, libc::SYS_getppid as u32);
        assert_eq!(waiting.call.arguments[..2], [11, 12]);
        listener.refuse(waiting.id, 77).expect("answered");
        assert_eq!(caller.join().expect("no panic"), (-1, Some(77)));
        listener.refuse(waiting.id, 77).expect("nobody waits");
        listener.kill(&waiting).expect("nobody is killed");
        assert_eq!(listener.next().expect("heard"), None, "nobody is left under the filter");
    }
}
