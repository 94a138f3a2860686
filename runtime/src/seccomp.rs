//! System call filters: `linux.seccomp` of the runtime spec → a program in classic BPF.
//!
//! # Theory of operation
//!
//! ```text
//! Docker's JSON ─ profile ─┐
//! default_profile ─────────┴─▶ LinuxSeccomp ─ rules ─▶ checked ─ emit ─▶ Program ─ (init) ─▶ seccomp(2)
//! ```
//!
//! The program of an ordinary container is built in. Others the launcher compiles while init mounts, and sends them after
//! the plan; init installs it as the last thing before execve(2). There is no cache that could be stale or spoiled.
//!
//! The verdicts are those that runc gets out of libseccomp, which the tests hold them to:
//!
//! - The native architecture is always covered. Calls of one that is not get KILL_THREAD, libseccomp's default.
//! - x32 is AUDIT_ARCH_X86_64 with bit 30 in the number. Where a profile has x86-64 alone, its calls are those of a
//!   foreign architecture, but for number -1, by which a tracer skips a call.
//! - On x86 the rules for socket(2) and its like also hold for socketcall(2), and those for semop(2) and its like for
//!   ipc(2), by the first argument. Conditions on the first argument are lost there, as with libseccomp.
//! - Of several rules for one call, one without conditions wins, the first if there are more. Among those with
//!   conditions the order is libseccomp's (`rules.rs`), not the profile's. Rules that contradict each other, with the
//!   same conditions and another action, are refused, as libseccomp refuses them.
//! - Several conditions on one argument of one entry are alternatives (runc, crun).
//! - Where architectures have 32-bit arguments, the upper halves of values are passed over.
//! - A rule whose action is the default says nothing, and overrides nothing.
//! - Names that no architecture has are passed over: most are of newer kernels.
//! - Unless unlisted calls are let through (ALLOW, LOG, TRACE), numbers above the highest one that the profile names,
//!   for that architecture, get ENOSYS (runc's `patchbpf`): a C library then does what it did before that call was
//!   invented, where EPERM would make it give up. crun does not do this; Podman's profile answers ENOSYS throughout.
//!   Arm's own calls at 0xf0000 are not taken for the highest one, which runc does; and a number that has a rule is never
//!   taken for a newer one, which runc does to calls that x86 multiplexes.
//!
//! Of several rules with conditions for one call, libseccomp 2.5 at times compares one word of an argument where the
//! other one is loaded, and lets through what no rule allows. Here each rule does what it says.
//!
//! Of architectures whose tables are not there (MIPS, Power, S/390 and older ones), none can be named in a profile.

mod actions;
mod arch;
mod assembler;
mod built_in;
mod calls;
mod default_profile;
mod emit;
mod profile;
pub(crate) mod refusals;
mod rules;

use std::io;
use std::os::fd::OwnedFd;

use oci_spec::runtime::{Arch as ArchName, LinuxSeccomp, LinuxSeccompAction};
pub use rbox_sys::seccomp::Instruction;
use rbox_sys::seccomp::{self as kernel, Flags};
use serde::{Deserialize, Serialize};

pub use arch::Arch;
pub(crate) use built_in::built_in;
pub use built_in::is_built_in;
pub use default_profile::default_profile;
pub use profile::{KernelVersion, errno_name, parse};
pub use refusals::{Call, Refusal, Refusals, name_of};
use rules::Filter;

/// What is wrong with a profile.
#[derive(Debug, thiserror::Error)]
pub enum SeccompError {
    /// The JSON text is none, or says what no profile can say.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// A part of Docker's format that contradicts another, or has no such value.
    #[error("{0}")]
    Profile(String),
    /// No table of system calls.
    #[error("architecture {0}: its system calls are not known here")]
    Architecture(ArchName),
    /// `index`.
    #[error("{call}: args.index is {index}, but a system call has arguments 0 to 5")]
    Argument {
        /// The first of the entry's names.
        call: String,
        /// What it is.
        index: usize,
    },
    /// `errnoRet` too large.
    #[error("{of}: {errno} is no error number; they go from 0 to {limit}")]
    Errno {
        /// The first of the entry's names, or "defaultAction".
        of: String,
        /// What it is.
        errno: u32,
        /// The largest that this action can give.
        limit: u32,
    },
    /// `errnoRet` with an action that has none.
    #[error("{of}: {action} has no error number; SCMP_ACT_ERRNO and SCMP_ACT_TRACE have one")]
    NoErrno {
        /// As above.
        of: String,
        /// The action.
        action: LinuxSeccompAction,
    },
    /// An entry of `syscalls` without names.
    #[error("an entry of syscalls has no names")]
    NoNames,
    /// Two rules with the same conditions.
    #[error("{0}: two rules have the same conditions and different actions")]
    Contradiction(String),
    /// SCMP_ACT_NOTIFY as `defaultAction`.
    #[error("defaultAction: SCMP_ACT_NOTIFY would have every call wait, even those that start the container")]
    NotifyByDefault,
    /// A flag for a listener that is not asked for.
    #[error("flags: SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV is for SCMP_ACT_NOTIFY, which no rule has")]
    NothingToWaitFor,
    /// The kernel's BPF_MAXINSNS.
    #[error("the filter has {0} instructions, and the kernel takes {MAX_INSTRUCTIONS}")]
    TooLong(usize),
}

/// The kernel's BPF_MAXINSNS.
const MAX_INSTRUCTIONS: usize = 4096;

/// A filter, ready to be installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    #[serde(with = "instructions")]
    instructions: Vec<Instruction>,
    /// `SECCOMP_FILTER_FLAG_*`.
    flags: u32,
}

/// Compiles a profile for the kernel that this build runs on.
pub fn compile(profile: &LinuxSeccomp) -> Result<Program, SeccompError> {
    compile_for(profile, Arch::NATIVE)
}

/// Compiles a profile for a kernel of another architecture.
pub fn compile_for(profile: &LinuxSeccomp, native: Arch) -> Result<Program, SeccompError> {
    let filter = Filter::new(profile, native)?;
    let instructions = emit::program(&filter);
    match instructions.len() {
        0..=MAX_INSTRUCTIONS => Ok(Program { instructions, flags: filter.flags.bits() }),
        length => Err(SeccompError::TooLong(length)),
    }
}

impl Program {
    /// The program itself.
    pub fn instructions(&self) -> &[Instruction] {
        &self.instructions
    }

    /// Whether some calls are for a listener to decide, which [`install`](Self::install) then gives.
    pub fn notifies(&self) -> bool {
        Flags::from_bits(self.flags).has(Flags::NEW_LISTENER)
    }

    /// Puts this process under the filter, for good. Needs CAP_SYS_ADMIN in the user namespace, or no_new_privs. The
    /// listener for SCMP_ACT_NOTIFY, whose calls wait until somebody answers there, is for `deliver`, in a thread that is
    /// not under the filter.
    pub fn install(&self, deliver: impl FnOnce(OwnedFd) -> io::Result<()> + Send + 'static) -> io::Result<()> {
        let flags = Flags::from_bits(self.flags);
        if self.notifies() {
            return kernel::install_and_deliver(&self.instructions, flags.without(Flags::TSYNC), deliver);
        }
        kernel::install(&self.instructions, flags).map(drop)
    }

    /// The first verdict of the program that this kernel does not know, and would kill for (`SECCOMP_RET_*`).
    pub fn unknown_action(&self) -> Option<u32> {
        // Since seccomp(2) itself, Linux 3.5.
        const OLD: [u32; 5] = [actions::KILL_THREAD, actions::TRAP, actions::ERRNO, actions::TRACE, actions::ALLOW];
        let returns = self.instructions.iter().filter(|instruction| instruction.code == assembler::RETURN);
        let mut actions: Vec<u32> = returns.map(|instruction| instruction.k & actions::ACTION).collect();
        actions.retain(|action| !OLD.contains(action));
        actions.sort_unstable();
        actions.dedup();
        actions.into_iter().find(|action| !kernel::knows_action(*action))
    }
}

/// Instructions on their way to init: numbers of 64 bits would be longer.
mod instructions {
    use rbox_sys::seccomp::Instruction;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(program: &[Instruction], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(program.iter().map(|it| (it.code, it.jt, it.jf, it.k)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Instruction>, D::Error> {
        let program = Vec::<(u16, u8, u8, u32)>::deserialize(deserializer)?;
        Ok(program.into_iter().map(|(code, jt, jf, k)| Instruction { code, jt, jf, k }).collect())
    }
}
