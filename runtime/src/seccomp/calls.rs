//! System calls by name, and which of them x86 also has behind one number.

use super::arch::Arch;

include!(concat!(env!("OUT_DIR"), "/calls.rs"));

/// The numbers of one call; the table is written by build.rs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Numbers(&'static [i32; Arch::COUNT]);

impl Numbers {
    /// The call's number there, without the bit that marks x32.
    pub(super) fn on(self, arch: Arch) -> Option<u32> {
        u32::try_from(self.0[arch.index()]).ok()
    }
}

/// The call of this name, on whichever architecture.
pub(super) fn find(name: &str) -> Option<Numbers> {
    CALLS.binary_search_by(|(known, _)| (*known).cmp(name)).ok().map(|index| Numbers(&CALLS[index].1))
}

/// socketcall(2) on x86.
pub(super) const SOCKETCALL: u32 = 102;
/// ipc(2) on x86.
pub(super) const IPC: u32 = 117;

/// The call that multiplexes this one on x86, and its first argument there (<linux/net.h>, <linux/ipc.h>).
pub(super) fn multiplexed(name: &str) -> Option<(u32, u64)> {
    let socket = |call| Some((SOCKETCALL, call));
    let ipc = |call| Some((IPC, call));
    match name {
        "socket" => socket(1),
        "bind" => socket(2),
        "connect" => socket(3),
        "listen" => socket(4),
        "accept" => socket(5),
        "getsockname" => socket(6),
        "getpeername" => socket(7),
        "socketpair" => socket(8),
        "send" => socket(9),
        "recv" => socket(10),
        "sendto" => socket(11),
        "recvfrom" => socket(12),
        "shutdown" => socket(13),
        "setsockopt" => socket(14),
        "getsockopt" => socket(15),
        "sendmsg" => socket(16),
        "recvmsg" => socket(17),
        "accept4" => socket(18),
        "recvmmsg" => socket(19),
        "sendmmsg" => socket(20),
        "semop" => ipc(1),
        "semget" => ipc(2),
        "semctl" => ipc(3),
        "semtimedop" => ipc(4),
        "msgsnd" => ipc(11),
        "msgrcv" => ipc(12),
        "msgget" => ipc(13),
        "msgctl" => ipc(14),
        "shmat" => ipc(21),
        "shmdt" => ipc(22),
        "shmget" => ipc(23),
        "shmctl" => ipc(24),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted() {
        assert!(CALLS.is_sorted_by(|(a, _), (b, _)| a < b));
        assert!(CALLS.len() > 450);
    }

    #[test]
    fn numbers_of_each_architecture() {
        let numbers = |name| Arch::ALL.map(|arch| find(name).expect("known").on(arch));
        let (x86_64, x86, x32, aarch64, arm) = (Some(59), Some(11), Some(520), Some(221), Some(11));
        assert_eq!(numbers("execve"), [x86_64, x86, x32, aarch64, arm, Some(221), Some(221)]);
        assert_eq!(numbers("newfstatat"), [Some(262), None, Some(262), Some(79), None, Some(79), Some(79)]);
        assert_eq!(numbers("socketcall"), [None, Some(102), None, None, None, None, None]);
        assert_eq!(numbers("futex_time64"), [None, Some(422), None, None, Some(422), None, None]);
        assert_eq!(numbers("set_tls"), [None, None, None, None, Some(0xf0005), None, None]);
        assert_eq!(numbers("file_setattr"), [Some(469); 7]);
        assert!(find("no_such_call").is_none());
    }
}
