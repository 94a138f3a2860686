//! Fuzz target: profiles for seccomp, from JSON to a program that the kernel would take.

mod common;

use std::collections::HashSet;

use rbox_fuzz::Shape;
use rbox_runtime::DEFAULT_CAPABILITIES;
use rbox_runtime::seccomp::{Arch, KernelVersion, compile_for, parse};

const KERNEL: KernelVersion = KernelVersion { major: 6, minor: 1 };
const NONE: [&str; 0] = [];

rbox_fuzz::target!(seccomp_json, Shape::Json, NONE, |input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Ok(profile) = parse(text, &HashSet::from(DEFAULT_CAPABILITIES), KERNEL) else { return };
    for arch in [Arch::X86_64, Arch::Aarch64] {
        if let Ok(program) = compile_for(&profile, arch) {
            common::check(program.instructions());
            for number in [0, 16, 435, 1 << 30, u32::MAX] {
                let data = common::Data { number, arch: arch.audit(), arguments: [u64::from(number); 6] };
                common::run(program.instructions(), &data);
            }
        }
    }
});
