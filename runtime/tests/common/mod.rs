//! What the tests of filters share: an interpreter, profiles in short.
#![allow(dead_code, reason = "each test program uses a part")]

use oci_spec::runtime::{
    Arch as ArchName, LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg, LinuxSeccompArgBuilder,
    LinuxSeccompOperator as Operator, LinuxSyscall,
};
use rbox_fuzz::Random;
use rbox_runtime::seccomp::Instruction;

/// `struct seccomp_data`, which a filter looks at.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Data {
    pub(crate) number: u32,
    pub(crate) arch: u32,
    pub(crate) arguments: [u64; 6],
}

impl Data {
    fn word(&self, offset: u32) -> u32 {
        let argument = || {
            let index = (offset - 16) / 8;
            (self.arguments[index as usize] >> (offset % 8 * 8)) as u32
        };
        match offset {
            0 => self.number,
            4 => self.arch,
            8 | 12 => 0x1234_5678,
            16..=60 if offset.is_multiple_of(4) => argument(),
            _ => panic!("a load from offset {offset}"),
        }
    }
}

/// Runs a program as the kernel does; gives its verdict and the number of instructions that it took.
pub(crate) fn run(program: &[Instruction], data: &Data) -> (u32, usize) {
    let (mut accumulator, mut at) = (0_u32, 0);
    for steps in 1.. {
        let Instruction { code, jt, jf, k } = program[at];
        at += 1;
        let test = match code {
            0x20 => {
                accumulator = data.word(k);
                continue;
            }
            0x54 => {
                accumulator &= k;
                continue;
            }
            0x05 => {
                at += k as usize;
                continue;
            }
            0x06 => return (k, steps),
            0x15 => accumulator == k,
            0x25 => accumulator > k,
            0x35 => accumulator >= k,
            0x45 => accumulator & k != 0,
            _ => panic!("no such instruction in a filter: {code:#x}"),
        };
        at += usize::from(if test { jt } else { jf });
    }
    unreachable!()
}

/// What the kernel asks of a program (seccomp_check_filter, bpf_check_classic).
pub(crate) fn check(program: &[Instruction]) {
    assert!((1..=4096).contains(&program.len()), "{} instructions", program.len());
    assert_eq!(program[program.len() - 1].code, 0x06, "the last one is no return");
    for (at, instruction) in program.iter().enumerate() {
        let left = program.len() - at - 1;
        let far = match instruction.code {
            0x05 => instruction.k as usize,
            0x15 | 0x25 | 0x35 | 0x45 => usize::from(instruction.jt.max(instruction.jf)),
            0x20 => {
                assert!(instruction.k % 4 == 0 && instruction.k < 64, "{instruction:?}");
                continue;
            }
            0x06 | 0x54 => continue,
            _ => panic!("no such instruction in a filter: {instruction:?}"),
        };
        assert!(far < left, "a jump out of the program at {at}: {instruction:?}");
    }
}

/// Index, operator, value, second value.
pub(crate) type Arg = (usize, Operator, u64, u64);

pub(crate) fn entry(names: &[&str], action: Action, errno: Option<u32>, args: &[Arg]) -> LinuxSyscall {
    let args = args.iter().map(|(index, operator, value, second)| {
        let mut arg = LinuxSeccompArgBuilder::default().index(*index).value(*value).op(*operator);
        if *operator == Operator::ScmpCmpMaskedEq {
            arg = arg.value_two(*second);
        }
        arg.build().expect("all fields")
    });
    let args: Vec<LinuxSeccompArg> = args.collect();
    let mut entry = LinuxSyscall::default();
    entry
        .set_names(names.iter().map(|name| (*name).into()).collect())
        .set_action(action)
        .set_errno_ret(errno)
        .set_args((!args.is_empty()).then_some(args));
    entry
}

pub(crate) fn profile(default: Action, arches: &[ArchName], entries: Vec<LinuxSyscall>) -> LinuxSeccomp {
    let mut profile = LinuxSeccomp::default();
    profile.set_default_action(default).set_architectures(Some(arches.to_vec())).set_syscalls(Some(entries));
    profile
}

pub(crate) const OPERATORS: [Operator; 7] = [
    Operator::ScmpCmpNe,
    Operator::ScmpCmpLt,
    Operator::ScmpCmpLe,
    Operator::ScmpCmpEq,
    Operator::ScmpCmpGe,
    Operator::ScmpCmpGt,
    Operator::ScmpCmpMaskedEq,
];

/// Values around those of all conditions of a profile, in both words.
pub(crate) fn boundaries(profile: &LinuxSeccomp) -> Vec<u64> {
    let mut values = vec![0, 1, u64::from(u32::MAX), 1 << 32, u64::MAX, 0xdead_beef_dead_beef];
    let args = profile.syscalls().iter().flatten().flat_map(|call| call.args().iter().flatten());
    for value in args.flat_map(|arg| [arg.value(), arg.value_two().unwrap_or(0)]) {
        values.extend([value, value.wrapping_sub(1), value.wrapping_add(1), !value]);
        values.extend([value ^ 1 << 32, value.wrapping_add(1 << 32), value | 0xffff_ffff << 32, value & 0xffff_ffff]);
    }
    values.sort_unstable();
    values.dedup();
    values
}

/// What a profile says of one system call, rule by rule. `named`: how an entry can name it, and what call of a
/// multiplexer it is then. `wide`: arguments have 64 bits. Rules of one name have one action.
pub(crate) fn says(profile: &LinuxSeccomp, named: &[(&str, Option<u64>)], wide: bool, arguments: &[u64; 6]) -> u32 {
    let default = profile.default_action().as_u32(profile.default_errno_ret());
    let limit = if wide { u64::MAX } else { u64::from(u32::MAX) };
    let mut verdict = None;
    for call in profile.syscalls().iter().flatten() {
        let action = call.action().as_u32(call.errno_ret());
        if action == default {
            continue;
        }
        let args = call.args().clone().unwrap_or_default();
        let repeated = (0..6).any(|index| args.iter().filter(|arg| arg.index() == index).count() > 1);
        let alternatives = if repeated { args.iter().map(|arg| vec![*arg]).collect() } else { vec![args] };
        for (name, multiplexed) in named {
            if !call.names().iter().any(|known| known == name) {
                continue;
            }
            for args in &alternatives {
                let mut args: Vec<LinuxSeccompArg> = args.clone();
                let mut holds = true;
                if let Some(of) = multiplexed {
                    args.retain(|arg| arg.index() != 0);
                    holds = arguments[0] & limit == *of;
                }
                args.retain(|arg| arg.op() != Operator::ScmpCmpMaskedEq || arg.value() & limit != 0);
                if args.is_empty() && multiplexed.is_none() {
                    return action;
                }
                holds &= args.iter().all(|arg| {
                    let (value, of) = (arguments[arg.index()] & limit, arg.value() & limit);
                    match arg.op() {
                        Operator::ScmpCmpNe => value != of,
                        Operator::ScmpCmpLt => value < of,
                        Operator::ScmpCmpLe => value <= of,
                        Operator::ScmpCmpEq => value == of,
                        Operator::ScmpCmpGe => value >= of,
                        Operator::ScmpCmpGt => value > of,
                        Operator::ScmpCmpMaskedEq => value & of == arg.value_two().unwrap_or(0) & of,
                    }
                });
                if holds {
                    verdict.get_or_insert(action);
                }
            }
        }
    }
    verdict.unwrap_or(default)
}

/// Rules for one call have one action: where they overlap and differ, the order of rules counts.
pub(crate) fn random_profile(random: &mut Random, names: &[&str], arches: &[ArchName], values: &[u64]) -> LinuxSeccomp {
    let actions = [Action::ScmpActErrno, Action::ScmpActAllow, Action::ScmpActTrap, Action::ScmpActKillProcess];
    let default = *random.of(&actions);
    let mut entries = Vec::new();
    for name in names {
        let action = *random.of(&actions);
        for _ in 0..random.below(5) {
            let arg =
                |random: &mut Random, index| (index, *random.of(&OPERATORS), *random.of(values), *random.of(values));
            let first = random.below(4);
            let args = match random.below(10) {
                0 => vec![],
                1..=5 => vec![arg(random, first)],
                6 | 7 => vec![arg(random, first), arg(random, first + 1)],
                8 => vec![arg(random, first), arg(random, first)],
                _ => vec![arg(random, 5), arg(random, first)],
            };
            entries.push(entry(&[name], action, None, &args));
        }
    }
    let arches: Vec<ArchName> = arches.iter().copied().filter(|_| random.below(2) == 0).collect();
    profile(default, &arches, entries)
}
