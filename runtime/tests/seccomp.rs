//! Filters judged by an interpreter: against the rules of the profile read one by one, and by their length.

mod common;

use std::collections::HashSet;
use std::time::Instant;

use common::{Data, boundaries, check, entry, profile, random_profile, run, says};
use oci_spec::runtime::{
    Arch as ArchName, LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompOperator as Operator,
};
use rbox_fuzz::Random;
use rbox_runtime::DEFAULT_CAPABILITIES;
use rbox_runtime::seccomp::{Arch, KernelVersion, SeccompError, compile, compile_for, default_profile};

const KERNEL: KernelVersion = KernelVersion { major: 6, minor: 1 };
const KILL_THREAD: u32 = 0;
const ALLOW: u32 = 0x7fff_0000;
const ENOSYS: u32 = 0x0005_0026;
const EPERM: u32 = 0x0005_0001;
const X32_BIT: u32 = 1 << 30;

/// A name, and its number on x86-64, x86, x32 (without its bit) and 64-bit Arm (the kernel's tables).
type Call = (&'static str, [u32; 4]);

/// The last one is the highest everywhere, so that the others are never newer than what is named.
const CALLS: [Call; 6] = [
    ("read", [0, 3, 0, 63]),
    ("ioctl", [16, 54, 514, 29]),
    ("clone", [56, 120, 56, 220]),
    ("futex", [202, 240, 202, 98]),
    ("mmap", [9, 90, 9, 222]),
    ("cachestat", [451, 451, 451, 451]),
];

const ARCHES: [(Arch, ArchName); 4] = [
    (Arch::X86_64, ArchName::ScmpArchX86_64),
    (Arch::X86, ArchName::ScmpArchX86),
    (Arch::X32, ArchName::ScmpArchX32),
    (Arch::Aarch64, ArchName::ScmpArchAarch64),
];

/// For conditions: in both words of an argument, and next to each other.
const VALUES: [u64; 11] = [0, 1, 2, 5, 6, 0xff, 0xffff_ffff, 1 << 32, 0x1_0000_0005, 0x2_0000_0001, u64::MAX];

#[test]
fn random_profiles_do_what_their_rules_say() {
    let mut random = Random::new(20_261_124);
    let names = CALLS.map(|(name, _)| name);
    let mut compared = 0;
    for round in 0..400 {
        let profile = random_profile(&mut random, &names, &ARCHES.map(|(_, name)| name), &VALUES);
        let program = compile_for(&profile, Arch::X86_64).expect("compiled");
        check(program.instructions());
        let values = boundaries(&profile);
        for (index, (arch, name)) in ARCHES.iter().enumerate() {
            if index > 0 && !profile.architectures().iter().flatten().any(|asked| asked == name) {
                continue;
            }
            let bit = if *arch == Arch::X32 { X32_BIT } else { 0 };
            for (name, numbers) in CALLS {
                for _ in 0..50 {
                    let arguments = [0; 6].map(|_| *random.of(&values));
                    let data = Data { number: numbers[index] | bit, arch: arch.audit(), arguments };
                    let wide = matches!(arch, Arch::X86_64 | Arch::Aarch64);
                    let expected = says(&profile, &[(name, None)], wide, &arguments);
                    let (verdict, _) = run(program.instructions(), &data);
                    // A number above all that the profile names, here where it does not name the last one.
                    let newer = verdict == ENOSYS && expected == profile.default_action().as_u32(None);
                    assert!(
                        verdict == expected || newer,
                        "profile {round}, {name}: {verdict:#x}, not {expected:#x}: {data:x?}"
                    );
                    compared += 1;
                }
            }
        }
    }
    println!("{compared} compared");
}

#[test]
fn long_chains_and_far_jumps() {
    // More rules on one call than a conditional jump reaches over, before and after others.
    let many = (0..400_u64).map(|value| {
        let args =
            [(0, Operator::ScmpCmpEq, value << 32 | value, 0), (1, Operator::ScmpCmpMaskedEq, 0xff, value & 0x7f)];
        entry(&["ioctl"], Action::ScmpActErrno, Some(value as u32 + 1), &args)
    });
    let others = [entry(&["read", "cachestat"], Action::ScmpActLog, None, &[])];
    let profile = profile(Action::ScmpActAllow, &[], others.into_iter().chain(many).collect());
    let program = compile_for(&profile, Arch::X86_64).expect("compiled");
    check(program.instructions());
    for value in 0..400_u64 {
        let arguments = [value << 32 | value, value & 0x7f, 0, 0, 0, 0];
        let data = Data { number: 16, arch: Arch::X86_64.audit(), arguments };
        assert_eq!(run(program.instructions(), &data).0, 0x0005_0001 + value as u32);
        let data = Data { arguments: [value << 32 | value, !value, 0, 0, 0, 0], ..data };
        assert_eq!(run(program.instructions(), &data).0, ALLOW);
    }
}

#[test]
fn programs_have_a_limit() {
    let many = (0..3000_u64).map(|value| {
        let args = [(0, Operator::ScmpCmpEq, value, 0), (1, Operator::ScmpCmpEq, value, 0)];
        entry(&["ioctl"], Action::ScmpActErrno, None, &args)
    });
    let error = compile(&profile(Action::ScmpActAllow, &[], many.collect())).expect_err("too long");
    assert!(matches!(error, SeccompError::TooLong(length) if length > 4096), "{error}");
}

#[test]
fn what_is_wrong_is_named() {
    let of = |entries| profile(Action::ScmpActAllow, &[], entries);
    let args =
        |index, errno| of(vec![entry(&["read"], Action::ScmpActErrno, errno, &[(index, Operator::ScmpCmpEq, 1, 0)])]);
    let mut flagged = of(vec![]);
    flagged.set_flags(Some(vec![oci_spec::runtime::LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv]));
    let errno = |action| of(vec![entry(&["read"], action, Some(1), &[])]);
    for (profile, words) in [
        (args(6, None), ["read", "6"]),
        (args(0, Some(4096)), ["read", "4096"]),
        (errno(Action::ScmpActTrap), ["read", "SCMP_ACT_TRAP"]),
        (of(vec![entry(&[], Action::ScmpActTrap, None, &[])]), ["names", "syscalls"]),
        (profile(Action::ScmpActAllow, &[ArchName::ScmpArchMips], vec![]), ["SCMP_ARCH_MIPS", "not known"]),
        (profile(Action::ScmpActNotify, &[], vec![]), ["defaultAction", "SCMP_ACT_NOTIFY"]),
        (flagged, ["flags", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]),
    ] {
        let error = compile(&profile).expect_err(words[0]).to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    }
}

#[test]
fn calls_that_are_newer_than_the_profile() {
    let data = |number, arch: Arch| Data { number, arch: arch.audit(), ..Data::default() };
    let default = default_profile(&HashSet::new(), KERNEL);
    let program = compile_for(&default, Arch::X86_64).expect("compiled");
    let verdict = |number, arch| run(program.instructions(), &data(number, arch)).0;
    // removexattrat is the newest that it names; io_uring_setup is older, and refused; clone3 by its own rule.
    for (number, expected) in [(466, ALLOW), (467, ENOSYS), (1000, ENOSYS), (425, EPERM), (435, ENOSYS)] {
        for arch in [Arch::X86_64, Arch::X86] {
            assert_eq!(verdict(number, arch), expected, "{number} on {arch:?}");
        }
    }
    // The highest of x32 are old ones of its own.
    assert_eq!((verdict(467 | X32_BIT, Arch::X32), verdict(548 | X32_BIT, Arch::X32)), (EPERM, ENOSYS));
    assert_eq!(verdict(0, Arch::Aarch64), KILL_THREAD);
    // Where what is not listed is let through, newer calls are too.
    let blacklist = profile(Action::ScmpActAllow, &[], vec![entry(&["read"], Action::ScmpActErrno, None, &[])]);
    let program = compile_for(&blacklist, Arch::X86_64).expect("compiled");
    assert_eq!(run(program.instructions(), &data(467, Arch::X86_64)).0, ALLOW);
    // x32 was not asked for; number -1 is no call of its.
    assert_eq!(run(program.instructions(), &data(X32_BIT, Arch::X86_64)).0, KILL_THREAD);
    assert_eq!(run(program.instructions(), &data(u32::MAX, Arch::X86_64)).0, ALLOW);
}

#[test]
fn the_other_native_architectures() {
    for (arch, read) in [(Arch::Aarch64, 63), (Arch::Riscv64, 63), (Arch::Loongarch64, 63), (Arch::Arm, 3)] {
        let profile =
            profile(Action::ScmpActErrno, &[], vec![entry(&["read", "execve"], Action::ScmpActAllow, None, &[])]);
        let program = compile_for(&profile, arch).expect("compiled");
        check(program.instructions());
        let verdict = |number| run(program.instructions(), &Data { number, arch: arch.audit(), ..Data::default() }).0;
        assert_eq!((verdict(read), verdict(read + 1)), (ALLOW, EPERM), "{arch:?}");
        assert_eq!(run(program.instructions(), &Data { arch: Arch::X86_64.audit(), ..Data::default() }).0, KILL_THREAD);
    }
}

/// Lengths are held; times are printed: `cargo test -p rbox-runtime --test seccomp -- figures --nocapture`.
#[test]
fn figures_of_the_default_profile() {
    let capabilities: HashSet<_> = DEFAULT_CAPABILITIES.into_iter().collect();
    let default: LinuxSeccomp = default_profile(&capabilities, KERNEL);
    let program = compile(&default).expect("compiled");
    let length = program.instructions().len();
    let steps = |number| {
        let data = Data { number, arch: Arch::NATIVE.audit(), ..Data::default() };
        run(program.instructions(), &data).1
    };
    let calls: Vec<u32> = (0..470).collect();
    let mean = calls.iter().map(|number| steps(*number)).sum::<usize>() as f64 / calls.len() as f64;
    let most = calls.iter().map(|number| steps(*number)).max();
    let bytes = postcard::to_stdvec(&program).expect("serialised").len();
    println!("{length} instructions, {bytes} bytes in the plan; a path has {mean:.1} on average, at most {most:?}");
    let mut shortest = [u128::MAX; 2];
    for _ in 0..200 {
        let begun = Instant::now();
        let profile = default_profile(&capabilities, KERNEL);
        shortest[0] = shortest[0].min(begun.elapsed().as_nanos());
        let begun = Instant::now();
        let again = compile(&profile).expect("compiled");
        shortest[1] = shortest[1].min(begun.elapsed().as_nanos());
        assert_eq!(again, program);
    }
    println!("profile in {:.1} µs, program in {:.1} µs", shortest[0] as f64 / 1e3, shortest[1] as f64 / 1e3);
    assert!(length < 400, "{length}");
    assert!(mean < 14.0, "{mean}");
    assert_eq!(
        postcard::from_bytes::<rbox_runtime::seccomp::Program>(&postcard::to_stdvec(&program).expect("bytes")),
        Ok(program)
    );
}
