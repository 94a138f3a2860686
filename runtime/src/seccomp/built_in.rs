//! The filter that nearly every container gets, compiled ahead: compiling takes as long as mounting a root filesystem.
//!
//! It is [`default_profile`](super::default_profile) for the capabilities that a container has when nobody says more. A test
//! compiles that anew, so that the file cannot be another profile's.

use std::collections::HashSet;

use oci_spec::runtime::Capability;
use rbox_sys::seccomp::Instruction;

use super::Program;
use crate::capability::DEFAULT_CAPABILITIES;

/// Instructions as `struct sock_filter` has them, little-endian. `RBOX_UPDATE=1 cargo test -p rbox-runtime built_in`
/// writes the file anew.
#[cfg(target_arch = "x86_64")]
const TEXT: &[u8] = include_bytes!("built_in.x86_64.bpf");
#[cfg(not(target_arch = "x86_64"))]
const TEXT: &[u8] = &[];

/// Whether the default profile of a container with these capabilities is built in.
pub fn is_built_in(capabilities: &HashSet<Capability>) -> bool {
    let default = || DEFAULT_CAPABILITIES.iter().all(|one| capabilities.contains(one));
    !TEXT.is_empty() && capabilities.len() == DEFAULT_CAPABILITIES.len() && default()
}

/// The filter.
pub(crate) fn built_in() -> Program {
    let (instructions, _) = TEXT.as_chunks();
    let instructions = instructions.iter().map(|&[code0, code1, jt, jf, k0, k1, k2, k3]: &[u8; 8]| Instruction {
        code: u16::from_le_bytes([code0, code1]),
        jt,
        jf,
        k: u32::from_le_bytes([k0, k1, k2, k3]),
    });
    Program { instructions: instructions.collect(), flags: 0 }
}

#[cfg(test)]
mod tests {
    use super::super::{KernelVersion, compile, default_profile};
    use super::*;

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn it_is_what_compiling_the_default_profile_gives() {
        let capabilities = DEFAULT_CAPABILITIES.into_iter().collect();
        // The oldest kernel that rbox runs on, and one that nobody has.
        for kernel in [KernelVersion { major: 5, minor: 11 }, KernelVersion { major: 99, minor: 0 }] {
            let compiled = compile(&default_profile(&capabilities, kernel)).expect("it compiles");
            if std::env::var_os("RBOX_UPDATE").is_some() {
                let text = compiled.instructions.iter().flat_map(|it| {
                    let ([c0, c1], [k0, k1, k2, k3]) = (it.code.to_le_bytes(), it.k.to_le_bytes());
                    [c0, c1, it.jt, it.jf, k0, k1, k2, k3]
                });
                let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/seccomp/built_in.x86_64.bpf");
                std::fs::write(path, text.collect::<Vec<u8>>()).expect("written");
            } else {
                assert_eq!(built_in(), compiled);
            }
        }
    }

    #[test]
    fn it_is_for_the_default_capabilities_alone() {
        let with = |more: &[Capability]| DEFAULT_CAPABILITIES.iter().chain(more).copied().collect();
        assert_eq!(is_built_in(&with(&[])), cfg!(target_arch = "x86_64"));
        assert!(!is_built_in(&with(&[Capability::SysAdmin])));
        assert!(!is_built_in(&DEFAULT_CAPABILITIES.into_iter().skip(1).chain([Capability::SysAdmin]).collect()));
        assert!(!is_built_in(&HashSet::new()));
    }
}
