//! What a filter refuses, told call by call: for a person who wants to know why a workload fails.
//!
//! ```text
//! Program ─ asking ─▶ the same program with NOTIFY for ERRNO and KILL ─▶ init
//!    └──────────────▶ Refusals: each call that waits gets the verdict of the program as it was
//! ```
//!
//! A call's arguments are those that the kernel has copied for the filter, so the answer is the filter's own. What it
//! kills for is answered with SIGKILL, since nobody can send a SIGSYS that is not caught. TRAP and TRACE stay as they are:
//! the workload, or who traces it, hears of those itself.

use std::io;
use std::os::fd::OwnedFd;

pub use rbox_sys::listener::Call;
use rbox_sys::listener::Listener;
use rbox_sys::seccomp::{Flags, Instruction};

use super::actions::{ACTION, ALLOW, ERRNO, KILL_PROCESS, KILL_THREAD, LOG, NOTIFY};
use super::arch::{AUDIT_X86_64, Arch, X32_BIT};
use super::assembler::{AND, JUMP, LOAD_WORD, RETURN, Test};
use super::{KernelVersion, Program, calls};
use crate::Error;

const EQUAL: u16 = Test::Equal as u16;
const AT_LEAST: u16 = Test::AtLeast as u16;

/// What a refused call got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Refusal {
    /// This error number.
    Errno(u16),
    /// The end of its process.
    Killed,
}

/// The calls that a program refuses, as they are made.
#[derive(Debug)]
pub struct Refusals {
    listener: Listener,
    program: Program,
}

impl Refusals {
    /// `listener` is that of the filter that [`ask`] has made of `program`.
    pub(crate) fn new(listener: OwnedFd, program: Program) -> Self {
        Self { listener: listener.into(), program }
    }

    /// Waits for the next one, and answers it; none when nobody is left under the filter.
    pub fn next(&self) -> io::Result<Option<(Call, Refusal)>> {
        let Some(waiting) = self.listener.next()? else { return Ok(None) };
        let verdict = self.program.verdict(&waiting.call);
        let refusal = match verdict & ACTION {
            ERRNO => Refusal::Errno(verdict as u16),
            _ => Refusal::Killed,
        };
        match refusal {
            Refusal::Errno(errno) => self.listener.refuse(waiting.id, errno)?,
            Refusal::Killed => self.listener.kill(&waiting)?,
        }
        Ok(Some((waiting.call, refusal)))
    }
}

/// Has a filter ask where it would refuse a call. Gives it as it was, where there is one.
pub(crate) fn ask(filter: &mut Option<Program>) -> Result<Option<Program>, Error> {
    let Some(program) = filter.take() else { return Ok(None) };
    if program.notifies() {
        let why = "it leaves calls to an agent (SCMP_ACT_NOTIFY), and the kernel lets a process have one listener";
        return Err(Error::Refused { field: "linux.seccomp", why: why.into() });
    }
    *filter = Some(program.asking(KernelVersion::of_host()));
    Ok(Some(program))
}

impl Program {
    /// The same filter, with a listener to be asked where this one refuses by itself.
    fn asking(&self, kernel: KernelVersion) -> Self {
        let ask = |instruction: &Instruction| match (instruction.code, instruction.k & ACTION) {
            // A call that is said to have succeeded is refused to nobody.
            (RETURN, ERRNO) if instruction.k == ERRNO => *instruction,
            (RETURN, ERRNO | KILL_PROCESS | KILL_THREAD) => Instruction { k: NOTIFY, ..*instruction },
            _ => *instruction,
        };
        let mut flags = Flags::from_bits(self.flags).and(Flags::NEW_LISTENER);
        if kernel >= (KernelVersion { major: 5, minor: 19 }) {
            // Else a signal has the call made again, and so counted again.
            flags = flags.and(Flags::WAIT_KILLABLE_RECV);
        }
        Self { instructions: self.instructions.iter().map(ask).collect(), flags: flags.bits() }
    }

    /// Whether a call comes through.
    pub fn allows(&self, call: &Call) -> bool {
        matches!(self.verdict(call) & ACTION, ALLOW | LOG)
    }

    /// What the kernel gets from the program for this call.
    fn verdict(&self, call: &Call) -> u32 {
        let (mut accumulator, mut at) = (0_u32, 0);
        // What leads out of the program, the kernel would not have installed.
        while let Some(Instruction { code, jt, jf, k }) = self.instructions.get(at).copied() {
            at += 1;
            let holds = match code {
                RETURN => return k,
                EQUAL => accumulator == k,
                AT_LEAST => accumulator >= k,
                _ => {
                    match code {
                        LOAD_WORD => accumulator = word(call, k),
                        AND => accumulator &= k,
                        JUMP => at += k as usize,
                        _ => return KILL_PROCESS,
                    }
                    continue;
                }
            };
            at += usize::from(if holds { jt } else { jf });
        }
        KILL_PROCESS
    }
}

/// 32 bits of `struct seccomp_data`, where programs of ours look.
fn word(call: &Call, offset: u32) -> u32 {
    match offset {
        0 => call.number,
        4 => call.arch,
        _ => {
            let index = (offset as usize).wrapping_sub(16) / 8;
            call.arguments.get(index).map_or(0, |argument| (argument >> (offset % 8 * 8)) as u32)
        }
    }
}

/// The call's name, and the architecture's where that is not the native one.
pub fn name_of(call: &Call) -> String {
    let is_its =
        |arch: &Arch| arch.audit() == call.arch && (call.arch != AUDIT_X86_64 || arch.base() == call.number & X32_BIT);
    let Some(arch) = Arch::ALL.into_iter().find(is_its) else {
        return format!("call {} of architecture {:#x}", call.number, call.arch);
    };
    let number = call.number - arch.base();
    let name = calls::named(arch, number).map_or_else(|| format!("call {number}"), ToOwned::to_owned);
    if arch == Arch::NATIVE { name } else { format!("{name} ({})", arch.docker_name()) }
}

/// A call of this name as the architecture numbers it, if it has it; for tests.
#[cfg(test)]
pub(crate) fn call_named(arch: Arch, name: &str) -> Option<Call> {
    let number = calls::find(name)?.on(arch)? + arch.base();
    Some(Call { number, arch: arch.audit(), ..Call::default() })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::seccomp::{compile_for, default_profile, parse};

    const KERNEL: KernelVersion = KernelVersion { major: 6, minor: 1 };

    fn call(arch: Arch, name: &str, arguments: [u64; 2]) -> Call {
        Call {
            arguments: [arguments[0], arguments[1], 0, 0, 0, 0],
            ..call_named(arch, name).expect("it has this call")
        }
    }

    #[test]
    fn the_answer_is_the_programs_own() {
        let program = compile_for(&default_profile(&HashSet::new(), KERNEL), Arch::X86_64).expect("compiled");
        let asking = program.asking(KERNEL);
        assert!(asking.notifies() && !program.notifies());
        for (name, arguments, expected) in [
            ("read", [0, 0], ALLOW),
            ("mount", [0, 0], ERRNO | 1),
            ("clone3", [0, 0], ERRNO | 38),
            ("socket", [2, 1], ALLOW),
            ("socket", [40, 1], ERRNO | 1),
            ("clone", [0x11, 0], ALLOW),
            ("clone", [0x1000_0000, 0], ERRNO | 1),
        ] {
            let call = call(Arch::X86_64, name, arguments);
            assert_eq!(program.verdict(&call), expected, "{name} {arguments:?}");
            assert_eq!(program.allows(&call), expected == ALLOW);
            assert_eq!(asking.verdict(&call), if expected == ALLOW { ALLOW } else { NOTIFY }, "{name} {arguments:?}");
        }
    }

    #[test]
    fn what_is_asked_for() {
        let json = r#"{"defaultAction": "SCMP_ACT_LOG", "syscalls": [
            {"names": ["mount"], "action": "SCMP_ACT_KILL_PROCESS"}, {"names": ["umount2"], "action": "SCMP_ACT_KILL"},
            {"names": ["acct"], "action": "SCMP_ACT_TRAP"}, {"names": ["reboot"], "action": "SCMP_ACT_TRACE"}]}"#;
        let profile = parse(json, &HashSet::new(), KERNEL).expect("valid");
        let asking = compile_for(&profile, Arch::Aarch64).expect("compiled").asking(KERNEL);
        let verdict = |name| asking.verdict(&call(Arch::Aarch64, name, [0, 0]));
        assert_eq!([verdict("mount"), verdict("umount2")], [NOTIFY; 2]);
        assert_eq!([verdict("acct"), verdict("reboot")], [0x0003_0000, 0x7ff0_0001]);
        assert_eq!(verdict("read"), LOG);
        let old = compile_for(&profile, Arch::X86_64).expect("compiled").asking(KernelVersion { major: 5, minor: 18 });
        assert!(!Flags::from_bits(old.flags).has(Flags::WAIT_KILLABLE_RECV));
    }

    #[test]
    fn names() {
        let other = if Arch::NATIVE == Arch::Riscv64 { Arch::Loongarch64 } else { Arch::Riscv64 };
        assert_eq!(name_of(&call(Arch::NATIVE, "mount", [0, 0])), "mount");
        assert_eq!(name_of(&call(other, "mount", [0, 0])), format!("mount ({})", other.docker_name()));
        assert_eq!(name_of(&Call { number: 9999, arch: Arch::NATIVE.audit(), arguments: [0; 6] }), "call 9999");
        assert_eq!(name_of(&Call { number: 1, arch: 7, arguments: [0; 6] }), "call 1 of architecture 0x7");
        if Arch::NATIVE == Arch::X86_64 {
            assert_eq!(name_of(&call(Arch::X32, "execve", [0, 0])), "execve (x32)");
            assert_eq!(name_of(&call(Arch::X86, "mount", [0, 0])), "mount (x86)");
        }
    }
}
