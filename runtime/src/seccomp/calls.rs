//! System calls by name. A profile names hundreds; so they are found by a hash, all numbers of a name at once.

use super::arch::Arch;

include!("hash.rs");
include!(concat!(env!("OUT_DIR"), "/calls.rs"));

/// A system call, by whichever numbers; the table is written by build.rs.
#[derive(Debug)]
pub(super) struct Call {
    name: &'static str,
    /// By architecture; -1 where it has none.
    numbers: [i32; Arch::COUNT],
    /// On x86, the call that multiplexes this one, and its first argument there; zeros for none.
    multiplexed: (u8, u8),
}

impl Call {
    /// The call's number there, without the bit that marks x32.
    pub(super) fn on(&self, arch: Arch) -> Option<u32> {
        u32::try_from(self.numbers[arch.index()]).ok()
    }

    /// The call that multiplexes this one there, socketcall(2) or ipc(2), and its first argument.
    pub(super) fn multiplexed_on(&self, arch: Arch) -> Option<(u32, u64)> {
        let (number, of) = self.multiplexed;
        (arch == Arch::X86 && number != 0).then(|| (number.into(), of.into()))
    }
}

/// The name of the call with this number there, without the bit that marks x32.
pub(super) fn named(arch: Arch, number: u32) -> Option<&'static str> {
    CALLS.iter().find(|call| call.on(arch) == Some(number)).map(|call| call.name)
}

/// The call of this name, on whichever architecture.
pub(super) fn find(name: &str) -> Option<&'static Call> {
    let mut slot = hash(name);
    loop {
        // A slot that nothing is in has the number after the last.
        let call = CALLS.get(usize::from(SLOTS[slot % SLOTS.len()]))?;
        if call.name == name {
            return Some(call);
        }
        slot += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found() {
        assert!(CALLS.len() > 450);
        for call in &CALLS {
            assert_eq!(find(call.name).map(|found| found.name), Some(call.name));
        }
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
        assert_eq!((named(Arch::X32, 520), named(Arch::Arm, 59)), (Some("execve"), None));
        let multiplexed = |name| find(name).and_then(|call| call.multiplexed_on(Arch::X86));
        assert_eq!(multiplexed("sendmmsg"), Some((102, 20)));
        assert_eq!(multiplexed("recv"), Some((102, 10)));
        assert_eq!(multiplexed("shmctl"), Some((117, 24)));
        assert_eq!(multiplexed("read"), None);
        assert_eq!(find("socket").and_then(|call| call.multiplexed_on(Arch::X86_64)), None);
    }
}
