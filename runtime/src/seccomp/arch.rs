//! The architectures that a filter can tell apart.

use oci_spec::runtime::Arch as Name;

use super::SeccompError;

/// An architecture with a table of system calls, or rather a way to call: a kernel for x86-64 has three.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Arch {
    /// x86-64.
    X86_64,
    /// x86 of 32 bits.
    X86,
    /// x86-64 with pointers of 32 bits; the kernel tells it from x86-64 by bit 30 of the call's number.
    X32,
    /// 64-bit Arm.
    Aarch64,
    /// 32-bit Arm, EABI.
    Arm,
    /// 64-bit RISC-V.
    Riscv64,
    /// 64-bit LoongArch.
    Loongarch64,
}

/// Bit 30 of a call's number.
pub(super) const X32_BIT: u32 = 1 << 30;

/// AUDIT_ARCH_X86_64 of <linux/audit.h>.
pub(super) const AUDIT_X86_64: u32 = 0xc000_003e;

impl Arch {
    pub(super) const COUNT: usize = 7;

    /// All of them.
    pub const ALL: [Self; Self::COUNT] =
        [Self::X86_64, Self::X86, Self::X32, Self::Aarch64, Self::Arm, Self::Riscv64, Self::Loongarch64];

    /// That of this build, and so of the kernel that it runs on.
    pub const NATIVE: Self = if cfg!(target_arch = "x86_64") {
        Self::X86_64
    } else if cfg!(target_arch = "x86") {
        Self::X86
    } else if cfg!(target_arch = "aarch64") {
        Self::Aarch64
    } else if cfg!(target_arch = "arm") {
        Self::Arm
    } else if cfg!(target_arch = "riscv64") {
        Self::Riscv64
    } else {
        assert!(cfg!(target_arch = "loongarch64"), "no table of system calls for this architecture");
        Self::Loongarch64
    };

    pub(super) fn index(self) -> usize {
        self as usize
    }

    /// As `seccomp_data.arch` tells it: AUDIT_ARCH_* of <linux/audit.h>.
    pub fn audit(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => AUDIT_X86_64,
            Self::X86 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
            Self::Riscv64 => 0xc000_00f3,
            Self::Loongarch64 => 0xc000_0102,
        }
    }

    /// What is added to the numbers of the table.
    pub(super) fn base(self) -> u32 {
        if self == Self::X32 { X32_BIT } else { 0 }
    }

    /// Whether arguments have 64 bits. Of the others the kernel shows zeros in the upper half, or what the caller had
    /// there (x32), which the call itself does not look at.
    pub(super) fn is_64(self) -> bool {
        matches!(self, Self::X86_64 | Self::Aarch64 | Self::Riscv64 | Self::Loongarch64)
    }

    /// The name in profiles of Docker and Podman: that of Go, mostly.
    pub(super) fn docker_name(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::X86 => "x86",
            Self::X32 => "x32",
            Self::Aarch64 => "arm64",
            Self::Arm => "arm",
            Self::Riscv64 => "riscv64",
            Self::Loongarch64 => "loongarch64",
        }
    }

    /// The name in the runtime spec.
    pub(crate) fn spec_name(self) -> Name {
        match self {
            Self::X86_64 => Name::ScmpArchX86_64,
            Self::X86 => Name::ScmpArchX86,
            Self::X32 => Name::ScmpArchX32,
            Self::Aarch64 => Name::ScmpArchAarch64,
            Self::Arm => Name::ScmpArchArm,
            Self::Riscv64 => Name::ScmpArchRiscv64,
            Self::Loongarch64 => Name::ScmpArchLoongarch64,
        }
    }

    /// The architecture that the spec names, on a kernel for `native`.
    pub(super) fn named(name: Name, native: Self) -> Result<Self, SeccompError> {
        if name == Name::ScmpArchNative {
            return Ok(native);
        }
        Self::ALL.into_iter().find(|arch| arch.spec_name() == name).ok_or(SeccompError::Architecture(name))
    }
}
