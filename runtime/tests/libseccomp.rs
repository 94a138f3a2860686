//! Verdicts compared with those of libseccomp's own filters, number by number: runc and crun get theirs from there.
//!
//! Needs a C compiler and libseccomp's headers, which `cargo xtask setup` installs; without them the tests fail. They
//! know libseccomp from 2.5 on. Calls that the installed version does not know are left out on both sides.
#![cfg(target_arch = "x86_64")]

mod common;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use common::{Data, OPERATORS, boundaries, check, entry, profile, random_profile, run};
use oci_spec::runtime::{
    Arch as ArchName, Capability, LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompOperator as Operator,
    LinuxSyscall,
};
use rbox_fuzz::Random;
use rbox_runtime::DEFAULT_CAPABILITIES;
use rbox_runtime::seccomp::{Arch, Instruction, KernelVersion, SeccompError, compile, default_profile};

const KERNEL: KernelVersion = KernelVersion { major: 6, minor: 1 };
const ENOSYS: u32 = 0x0005_0026;
const X32_BIT: u32 = 1 << 30;

/// In libseccomp.c's order.
const ARCHES: [(Arch, &str, ArchName); 6] = [
    (Arch::X86_64, "x86_64", ArchName::ScmpArchX86_64),
    (Arch::X86, "x86", ArchName::ScmpArchX86),
    (Arch::X32, "x32", ArchName::ScmpArchX32),
    (Arch::Aarch64, "aarch64", ArchName::ScmpArchAarch64),
    (Arch::Arm, "arm", ArchName::ScmpArchArm),
    (Arch::Riscv64, "riscv64", ArchName::ScmpArchRiscv64),
];
const DOCKERS: [ArchName; 3] = [ArchName::ScmpArchX86_64, ArchName::ScmpArchX86, ArchName::ScmpArchX32];

/// The C program, compiled once.
fn oracle(verb: &str, input: &str) -> Output {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    let program = PROGRAM.get_or_init(|| {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/libseccomp.c");
        // By rename: tests of other processes may run it already.
        let program = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("libseccomp");
        let built = program.with_extension(std::process::id().to_string());
        let compiler = Command::new("cc").args([source, "-o"]).arg(&built).arg("-lseccomp").output();
        let compiler = compiler.expect("a C compiler; `cargo xtask setup` installs it");
        let said = String::from_utf8_lossy(&compiler.stderr);
        assert!(
            compiler.status.success(),
            "libseccomp's headers are missing? `cargo xtask setup` installs them\n{said}"
        );
        std::fs::rename(&built, &program).expect("renamed");
        program
    });
    let mut command = Command::new(program);
    command.arg(verb).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("started");
    // It reads all before it writes much.
    let mut stdin = child.stdin.take().expect("piped");
    let input = input.to_owned();
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().expect("waited for");
    let _ = writer.join();
    output
}

/// Each name that libseccomp knows, and its number on each architecture; negative where it has none.
fn numbers(names: &BTreeSet<String>) -> BTreeMap<String, [i32; 6]> {
    const UNKNOWN: i32 = -1;
    // x32 has it since Linux 6.7, which older libraries do not know.
    const DIFFERENT: &str = "map_shadow_stack";
    let list: Vec<&str> = names.iter().map(String::as_str).collect();
    let output = oracle("names", &list.join("\n"));
    let text = String::from_utf8(output.stdout).expect("text");
    let parse = |line: &str| {
        let mut words = line.split(' ');
        let name = words.next().expect("a name").to_owned();
        let numbers: Vec<i32> = words.map(|word| word.parse().expect("a number")).collect();
        (name, numbers.try_into().expect("six"))
    };
    text.lines()
        .map(parse)
        .filter(|(name, numbers): &(String, [i32; 6])| numbers[0] != UNKNOWN && name != DIFFERENT)
        .collect()
}

fn bits(action: Action, errno: Option<u32>) -> u32 {
    action.as_u32(errno)
}

/// The profile as runc and crun hand it to libseccomp; nothing if it contradicts itself.
fn theirs(profile: &LinuxSeccomp) -> Option<Vec<Instruction>> {
    let default = bits(profile.default_action(), profile.default_errno_ret());
    let mut text = format!("default {default}\n");
    for name in profile.architectures().iter().flatten() {
        let (_, name, _) = ARCHES.iter().find(|(.., known)| known == name).expect("known");
        text += &format!("arch {name}\n");
    }
    for call in profile.syscalls().iter().flatten() {
        let action = bits(call.action(), call.errno_ret());
        if action == default {
            continue;
        }
        let args = call.args().clone().unwrap_or_default();
        let words = |arg: &oci_spec::runtime::LinuxSeccompArg| {
            format!(" {} {} {} {}", arg.index(), arg.op() as u32, arg.value(), arg.value_two().unwrap_or(0))
        };
        let indexes: HashSet<usize> = args.iter().map(|arg| arg.index()).collect();
        for name in call.names() {
            if indexes.len() < args.len() {
                for arg in &args {
                    text += &format!("rule {action} {name} 1{}\n", words(arg));
                }
            } else {
                let words: String = args.iter().map(words).collect();
                text += &format!("rule {action} {name} {}{words}\n", args.len());
            }
        }
    }
    let output = oracle("filter", &text);
    match output.status.code() {
        Some(0) => {}
        Some(3) => return None,
        _ => panic!("{}\n{text}", String::from_utf8_lossy(&output.stderr)),
    }
    let instruction = |bytes: &[u8]| Instruction {
        code: u16::from_ne_bytes([bytes[0], bytes[1]]),
        jt: bytes[2],
        jf: bytes[3],
        k: u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
    };
    Some(output.stdout.chunks_exact(8).map(instruction).collect())
}

/// What runc puts before libseccomp's filter: ENOSYS above the highest number that the profile names.
struct Stub {
    /// By architecture.
    last: [Option<u32>; 6],
    /// What has a rule although its number is not among those of which the highest counts: calls that x86 multiplexes,
    /// and Arm's own. Runc takes the first for newer calls where no higher number is named; rbox does not.
    ruled: BTreeSet<(usize, u32)>,
}

impl Stub {
    fn new(profile: &LinuxSeccomp, numbers: &BTreeMap<String, [i32; 6]>) -> Self {
        let passes =
            [Action::ScmpActAllow, Action::ScmpActLog, Action::ScmpActTrace].contains(&profile.default_action());
        let asked = profile.architectures().clone().unwrap_or_default();
        let names: Vec<&String> = profile.syscalls().iter().flatten().flat_map(LinuxSyscall::names).collect();
        let last = [0, 1, 2, 3, 4, 5].map(|index| {
            let covered = index == 0 || asked.contains(&ARCHES[index].2);
            let of_names = names.iter().filter_map(|name| Some(numbers.get(*name)?[index]));
            // Without Arm's own calls; runc has them.
            let last = of_names.filter(|number| *number > 0 && *number & !(X32_BIT as i32) < 0xf_0000).max()?;
            (covered && !passes).then_some(last as u32)
        });
        let ruled = profile.syscalls().iter().flatten().filter(|call| call.action() != profile.default_action());
        let ruled = ruled.flat_map(|call| call.names()).filter_map(|name| numbers.get(name));
        let ruled = ruled.flat_map(|numbers| match (numbers[1], u32::try_from(numbers[4])) {
            (pseudo @ -120..=-101, _) => [Some((1, 102)), direct(pseudo)],
            (pseudo @ -224..=-201, _) => [Some((1, 117)), direct(pseudo)],
            (_, Ok(number)) if number >= 0xf_0000 => [Some((4, number)), None],
            _ => [None, None],
        });
        Self { last, ruled: ruled.flatten().collect() }
    }

    fn answers(&self, data: &Data) -> bool {
        let index = match ARCHES.iter().position(|(arch, ..)| arch.audit() == data.arch) {
            Some(0) if data.number & X32_BIT != 0 => 2,
            Some(index) => index,
            None => return false,
        };
        let newer = self.last[index].is_some_and(|last| data.number > last);
        newer && !self.ruled.contains(&(index, data.number))
    }
}

/// The number on x86 of a call that libseccomp knows there as a multiplexed one.
fn direct(pseudo: i32) -> Option<(usize, u32)> {
    const NUMBERS: [(i32, u32); 27] = [
        (-101, 359),
        (-102, 361),
        (-103, 362),
        (-104, 363),
        (-106, 367),
        (-107, 368),
        (-108, 360),
        (-111, 369),
        (-112, 371),
        (-113, 373),
        (-114, 366),
        (-115, 365),
        (-116, 370),
        (-117, 372),
        (-118, 364),
        (-119, 337),
        (-120, 345),
        (-202, 393),
        (-203, 394),
        (-211, 400),
        (-212, 401),
        (-213, 399),
        (-214, 402),
        (-221, 397),
        (-222, 398),
        (-223, 395),
        (-224, 396),
    ];
    NUMBERS.iter().find(|(known, _)| *known == pseudo).map(|(_, number)| (1, *number))
}

/// Every number, every architecture, and arguments around every condition.
fn compare(what: &str, profile: &LinuxSeccomp) {
    compare_unless(what, profile, false);
}

/// The same. With `slips`, libseccomp may differ where the rules, read one by one, agree with rbox; gives whether it
/// does.
fn compare_unless(what: &str, profile: &LinuxSeccomp, slips: bool) -> bool {
    let names = profile.syscalls().iter().flatten().flat_map(|call| call.names().iter().cloned()).collect();
    let numbers = numbers(&names);
    // Newer than the library: on neither side.
    let mut profile = profile.clone();
    let mut entries = profile.syscalls().clone().unwrap_or_default();
    for call in &mut entries {
        call.set_names(call.names().iter().filter(|name| numbers.contains_key(*name)).cloned().collect());
    }
    entries.retain(|call| !call.names().is_empty());
    profile.set_syscalls(Some(entries));

    let (ours, theirs) = match (compile(&profile), theirs(&profile)) {
        (Ok(ours), Some(theirs)) => (ours, theirs),
        (Err(SeccompError::Contradiction(_)), None) => return false,
        (ours, theirs) => panic!("{what}: ours {ours:?}, theirs {}", if theirs.is_some() { "one" } else { "refused" }),
    };
    check(ours.instructions());
    let stub = Stub::new(&profile, &numbers);
    let values = boundaries(&profile);
    let mut rest = vec![u32::MAX, u32::MAX - 1, 1 << 31, (1 << 31) + 5, 0xc000_0000, 0xc000_0005, 0x7fff_ffff, 0xf0008];
    rest.extend((0xf0000..0xf0008).chain(1024..1030));
    // Which calls look at which arguments.
    let mut looked_at: BTreeMap<(u32, u32), BTreeSet<usize>> = BTreeMap::new();
    for call in profile.syscalls().iter().flatten().filter(|call| call.args().is_some()) {
        let indexes: Vec<usize> = call.args().iter().flatten().map(|arg| arg.index()).collect();
        for (index, (arch, ..)) in ARCHES.iter().enumerate() {
            for name in call.names() {
                let number = numbers[name][index];
                if number >= 0 {
                    looked_at.entry((arch.audit(), number as u32)).or_default().extend(&indexes);
                }
                // socketcall and ipc
                if index == 1 && number < 0 {
                    for number in [102, 117] {
                        looked_at.entry((arch.audit(), number)).or_default().extend(&indexes);
                    }
                }
            }
        }
    }
    for number in [102, 117] {
        looked_at.entry((Arch::X86.audit(), number)).or_default().insert(0);
    }
    let audits: BTreeSet<u32> = ARCHES.iter().map(|(arch, ..)| arch.audit()).chain([0, 0xc000_0102]).collect();
    let (mut compared, mut slipped) = (0, false);
    for audit in audits {
        for number in (0..1024).flat_map(|number| [number, number | X32_BIT]).chain(rest.iter().copied()) {
            let mut vectors = vec![[0; 6], [u64::MAX; 6], [0x1_0000_0001; 6]];
            for index in looked_at.get(&(audit, number)).into_iter().flatten() {
                let multiplexer = audit == Arch::X86.audit() && *index == 0;
                let values: Vec<u64> =
                    if multiplexer { (0..25).chain(values.iter().copied()).collect() } else { values.clone() };
                let with = |vector: &[u64; 6], value| {
                    let mut vector = *vector;
                    vector[*index] = value;
                    vector
                };
                // All values with all of the other arguments, while that is few; a sample of them otherwise.
                let step = (vectors.len() * values.len() / 5_000).max(1);
                vectors =
                    vectors.iter().step_by(step).flat_map(|vector| values.iter().map(|v| with(vector, *v))).collect();
            }
            for arguments in vectors {
                let data = Data { number, arch: audit, arguments };
                let expected = if stub.answers(&data) { ENOSYS } else { run(&theirs, &data).0 };
                let (verdict, _) = run(ours.instructions(), &data);
                if slips && verdict != expected {
                    slipped = true;
                    assert_eq!(verdict, read_one_by_one(&profile, &numbers, &data), "{what}: {data:x?}");
                    continue;
                }
                assert_eq!(verdict, expected, "{what}: {verdict:#x}, not {expected:#x}: {data:x?}");
                compared += 1;
            }
        }
    }
    let (ours, theirs) = (ours.instructions().len(), theirs.len());
    println!("{what}: {compared} compared; {ours} instructions, libseccomp {theirs}");
    slipped
}

fn read_one_by_one(profile: &LinuxSeccomp, numbers: &BTreeMap<String, [i32; 6]>, data: &Data) -> u32 {
    let index = match ARCHES.iter().position(|(arch, ..)| arch.audit() == data.arch) {
        Some(0) if data.number & X32_BIT != 0 => 2,
        index => index.expect("one that is covered"),
    };
    let named = numbers.iter().filter_map(|(name, numbers)| {
        let number = numbers[index];
        if index == 1 && number < -100 {
            let multiplexer = if number > -200 { (102, -100) } else { (117, -200) };
            let of = (multiplexer.0 == data.number).then(|| (multiplexer.1 - number) as u64);
            return match (of, direct(number)) {
                (Some(of), _) => Some((name.as_str(), Some(of))),
                (None, Some((_, direct))) if direct == data.number => Some((name.as_str(), None)),
                _ => None,
            };
        }
        (number as u32 == data.number).then_some((name.as_str(), None))
    });
    let wide = [0, 3, 5].contains(&index);
    common::says(profile, &named.collect::<Vec<_>>(), wide, &data.arguments)
}

#[test]
fn dockers_default_profile() {
    let sets = [
        ("no capability", HashSet::new()),
        ("Docker's capabilities", DEFAULT_CAPABILITIES.into_iter().collect()),
        ("all capabilities", (0..64).filter_map(capability).collect()),
    ];
    for (what, capabilities) in sets {
        compare(what, &default_profile(&capabilities, KERNEL));
    }
    compare("an old kernel", &default_profile(&HashSet::new(), KernelVersion { major: 4, minor: 4 }));
}

/// All that the default profile asks for, and more.
fn capability(number: usize) -> Option<Capability> {
    const MORE: [Capability; 13] = [
        Capability::DacReadSearch,
        Capability::SysAdmin,
        Capability::SysBoot,
        Capability::SysModule,
        Capability::SysPacct,
        Capability::SysPtrace,
        Capability::SysRawio,
        Capability::SysTime,
        Capability::SysTtyConfig,
        Capability::SysNice,
        Capability::Syslog,
        Capability::Bpf,
        Capability::Perfmon,
    ];
    DEFAULT_CAPABILITIES.iter().chain(&MORE).nth(number).copied()
}

#[test]
fn every_call_on_every_architecture() {
    let output = oracle("all", "");
    let names: BTreeSet<String> = String::from_utf8(output.stdout).expect("text").lines().map(Into::into).collect();
    assert!(names.len() > 400, "{}", names.len());
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let entries = || (1..).zip(&names).map(|(errno, name)| entry(&[name], Action::ScmpActErrno, Some(errno), &[]));
    // All at once would be more than the kernel takes.
    let others = ARCHES.map(|(.., name)| name);
    for arches in [&[][..], &DOCKERS, &others[3..5], &others[5..]] {
        compare("every call, or killed", &profile(Action::ScmpActKillProcess, arches, entries().collect()));
        compare("every call, or allowed", &profile(Action::ScmpActAllow, arches, entries().collect()));
    }
}

#[test]
fn every_action() {
    use Action::*;
    let all = [
        (ScmpActKill, None),
        (ScmpActKillThread, None),
        (ScmpActKillProcess, None),
        (ScmpActTrap, None),
        (ScmpActErrno, None),
        (ScmpActErrno, Some(13)),
        (ScmpActTrace, Some(77)),
        (ScmpActAllow, None),
        (ScmpActLog, None),
        (ScmpActNotify, None),
    ];
    let names = ["read", "write", "close", "dup", "pipe", "getpid", "getuid", "sync", "fsync", "uname"];
    for (default, errno) in all.into_iter().filter(|(action, _)| *action != ScmpActNotify) {
        let entries = names.iter().zip(all).map(|(name, (action, errno))| entry(&[name], action, errno, &[]));
        let mut profile = profile(default, &DOCKERS, entries.collect());
        profile.set_default_errno_ret(errno);
        compare(&format!("default {default}"), &profile);
    }
}

#[test]
fn every_operator() {
    for operator in OPERATORS {
        for value in [0, 1, 5, 0xffff_ffff, 1 << 32, 0x1_0000_0005, 0x8000_0000_0000_0000, u64::MAX - 1, u64::MAX] {
            for second in [0, 5, u64::MAX] {
                let of_one = entry(&["read"], Action::ScmpActErrno, None, &[(1, operator, value, second)]);
                let of_two = [(0, operator, value, second), (3, Operator::ScmpCmpGt, 7, 0)];
                let of_two = entry(&["socket"], Action::ScmpActErrno, None, &of_two);
                compare(
                    &format!("{operator} {value:#x} {second:#x}"),
                    &profile(Action::ScmpActAllow, &DOCKERS, vec![of_one, of_two]),
                );
                if operator != Operator::ScmpCmpMaskedEq {
                    break;
                }
            }
        }
    }
}

#[test]
fn several_rules_for_one_call() {
    use Action::*;
    use Operator::*;
    let with = |action, errno, args: &[common::Arg]| entry(&["read"], action, errno, args);
    let (a, b) = ((ScmpActErrno, Some(1)), (ScmpActErrno, Some(2)));
    let unconditional = |(action, errno)| with(action, errno, &[]);
    let if_one = |(action, errno), operator, value| with(action, errno, &[(0, operator, value, 0)]);
    let masked = |(action, errno), mask, value| with(action, errno, &[(0, ScmpCmpMaskedEq, mask, value)]);
    let cases = [
        ("the first without conditions", vec![unconditional(a), unconditional(b)]),
        ("conditions, then none", vec![if_one(a, ScmpCmpEq, 5), unconditional(b)]),
        ("none, then conditions", vec![unconditional(b), if_one(a, ScmpCmpEq, 5)]),
        ("the default again", vec![if_one(a, ScmpCmpEq, 5), unconditional((ScmpActAllow, None))]),
        ("a contradiction", vec![if_one(a, ScmpCmpEq, 5), if_one(b, ScmpCmpEq, 5)]),
        ("twice the same", vec![if_one(a, ScmpCmpEq, 5), if_one(a, ScmpCmpEq, 5)]),
        ("complements", vec![if_one(a, ScmpCmpEq, 5), if_one(b, ScmpCmpNe, 5)]),
        ("upper bounds", vec![if_one(a, ScmpCmpLt, 50), if_one(b, ScmpCmpLe, 10)]),
        ("upper bounds the other way round", vec![if_one(b, ScmpCmpLe, 10), if_one(a, ScmpCmpLt, 50)]),
        ("lower bounds", vec![if_one(a, ScmpCmpGt, 10), if_one(b, ScmpCmpGe, 50)]),
        ("overlapping bounds", vec![if_one(a, ScmpCmpGt, 10), if_one(b, ScmpCmpLt, 50)]),
        ("a value in a range", vec![if_one(a, ScmpCmpGt, 10), if_one(b, ScmpCmpEq, 0x1_0000_0000)]),
        ("bounds in both words", vec![if_one(a, ScmpCmpGt, 0x5_0000_0000), if_one(b, ScmpCmpGt, 0x1_ffff_ffff)]),
        ("a gap", vec![if_one(a, ScmpCmpLt, 38), if_one(a, ScmpCmpEq, 39), if_one(a, ScmpCmpGt, 40)]),
        ("masks", vec![masked(a, 0xff, 1), masked(b, 0xff00, 0x200), if_one(a, ScmpCmpEq, 0x7777)]),
        ("a mask of nothing", vec![masked(a, 0, 1), if_one(b, ScmpCmpEq, 1)]),
        ("a mask above 32 bits", vec![masked(a, 0xff << 32, 3 << 32)]),
        ("alternatives", vec![with(a.0, a.1, &[(0, ScmpCmpEq, 1, 0), (0, ScmpCmpEq, 2, 0), (1, ScmpCmpEq, 9, 0)])]),
        ("both", vec![with(a.0, a.1, &[(0, ScmpCmpGe, 3, 0), (2, ScmpCmpLe, 0x1_0000_0002, 0), (5, ScmpCmpNe, 8, 0)])]),
        (
            "one that goes on",
            vec![with(a.0, a.1, &[(0, ScmpCmpEq, 3, 0), (1, ScmpCmpEq, 4, 0)]), if_one(a, ScmpCmpGe, 2)],
        ),
        (
            "different arguments",
            vec![if_one(a, ScmpCmpEq, 3), with(b.0, b.1, &[(1, ScmpCmpEq, 4, 0)]), if_one(b, ScmpCmpEq, 9)],
        ),
        (
            "one that begins as another",
            vec![if_one(a, ScmpCmpEq, 3), with(b.0, b.1, &[(0, ScmpCmpEq, 3, 0), (1, ScmpCmpEq, 4, 0)])],
        ),
    ];
    for (what, entries) in cases {
        compare(what, &profile(ScmpActAllow, &DOCKERS, entries));
    }
    // No name of theirs, one of x86 alone, and those that x86 multiplexes.
    let entries = vec![
        entry(&["no_such_call", "socketcall_", "stime", "waitpid"], ScmpActAllow, None, &[]),
        entry(&["semop", "shmget", "accept", "recv"], ScmpActAllow, None, &[]),
        entry(&["bind", "msgctl"], ScmpActAllow, None, &[(0, ScmpCmpEq, 9, 0), (1, ScmpCmpLt, 3, 0)]),
        entry(&["socket"], ScmpActAllow, None, &[(0, ScmpCmpEq, 2, 0)]),
    ];
    compare("multiplexed calls", &profile(ScmpActTrap, &DOCKERS, entries));
}

/// Where libseccomp 2.5 does not do what the rules say (comparing one word of an argument where the other is loaded),
/// rbox does what they say.
#[test]
fn random_profiles() {
    let names = ["read", "ioctl", "socket", "semget", "clone", "mmap", "getpid", "futex", "waitpid", "set_tls", "send"];
    let values = [0, 1, 2, 5, 6, 0xff, 0x1000, 0xffff_ffff];
    let mut random = Random::new(0x5ec_c095);
    let mut slips = 0;
    for round in 0..40 {
        let profile = random_profile(&mut random, &names, &ARCHES.map(|(.., name)| name), &values);
        slips += usize::from(compare_unless(&format!("profile {round}"), &profile, true));
    }
    println!("{slips} of 40 with slips of libseccomp");
    assert!(slips < 20, "{slips}");
}
