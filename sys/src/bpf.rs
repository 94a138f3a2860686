//! Programs that the kernel runs: bpf(2), as far as a cgroup's device filter needs it (BPF_PROG_TYPE_CGROUP_DEVICE,
//! Linux 4.15).
#![allow(unsafe_code)]

use std::ffi::c_long;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

// linux/bpf.h
const BPF_PROG_LOAD: u32 = 5;
const BPF_PROG_ATTACH: u32 = 8;
const BPF_PROG_GET_FD_BY_ID: u32 = 13;
const BPF_PROG_QUERY: u32 = 16;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 1 << 1;
const BPF_F_REPLACE: u32 = 1 << 2;

/// One instruction: `struct bpf_insn`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

impl Instruction {
    /// The operation `code` on register `destination`, with register `source`, a jump's or field's `offset` and the
    /// constant `immediate`, where the operation has those.
    pub const fn new(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Self {
        // Two bit fields of four, which C lays out from the other end on big-endian machines.
        let registers =
            if cfg!(target_endian = "little") { destination | source << 4 } else { destination << 4 | source };
        Self { code, registers, offset, immediate }
    }

    /// What [`new`](Self::new) was given: code, destination, source, offset, immediate.
    pub const fn parts(self) -> (u8, u8, u8, i16, i32) {
        let (low, high) = (self.registers & 15, self.registers >> 4);
        let (destination, source) = if cfg!(target_endian = "little") { (low, high) } else { (high, low) };
        (self.code, destination, source, self.offset, self.immediate)
    }

    /// The same with another jump offset.
    pub const fn with_offset(mut self, offset: i16) -> Self {
        self.offset = offset;
        self
    }
}

/// A program in the kernel; it stays as long as this or a cgroup holds it.
#[derive(Debug)]
pub struct Program(OwnedFd);

/// `union bpf_attr` for BPF_PROG_LOAD, its first fields: what follows is zero to the kernel.
#[repr(C)]
#[derive(Default)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    ifindex: u32,
    attach_type: u32,
}

/// For BPF_PROG_ATTACH.
#[repr(C)]
#[derive(Default)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
    replaced: u32,
}

/// For BPF_PROG_QUERY, with the padding that C puts at its end.
#[repr(C)]
#[derive(Default)]
struct Query {
    target: u32,
    kind: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    padding: u32,
}

impl Program {
    /// Hands a device filter to the kernel, which proves that it ends and touches nothing else. EPERM: this takes
    /// CAP_BPF or CAP_SYS_ADMIN of the first user namespace. EINVAL: the kernel has no CONFIG_CGROUP_BPF.
    pub fn load_device_filter(instructions: &[Instruction]) -> io::Result<Self> {
        let mut name = [0; 16];
        name[..12].copy_from_slice(b"rbox_devices");
        let load = Load {
            kind: BPF_PROG_TYPE_CGROUP_DEVICE,
            count: instructions.len() as u32,
            instructions: instructions.as_ptr() as u64,
            // It calls no helper, so any licence will do; the string must be there.
            license: c"Dual MIT/GPL".as_ptr() as u64,
            name,
            attach_type: BPF_CGROUP_DEVICE,
            ..Load::default()
        };
        // SAFETY: `load` describes `instructions` and a terminated string, which both outlive the call; the kernel
        // only reads them.
        let fd = unsafe { bpf(BPF_PROG_LOAD, &load) }?;
        // SAFETY: the call made this descriptor, and nobody else owns it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd as i32) }))
    }

    /// Attaches it to a cgroup for the cgroup's lifetime, in the place of the one program that may be attached there.
    /// All programs of the cgroup and of those above it must agree to an access (BPF_F_ALLOW_MULTI).
    pub fn attach_to(&self, cgroup: BorrowedFd<'_>) -> io::Result<()> {
        let before = attached(cgroup)?;
        let mut attach = Attach {
            target: cgroup.as_raw_fd() as u32,
            program: self.0.as_raw_fd() as u32,
            kind: BPF_CGROUP_DEVICE,
            flags: BPF_F_ALLOW_MULTI,
            replaced: 0,
        };
        // With more than one there is no saying which is ours, and one more can only take away.
        if let [before] = &before[..] {
            attach.flags |= BPF_F_REPLACE;
            attach.replaced = before.as_fd().as_raw_fd() as u32;
        }
        // SAFETY: `attach` holds numbers only, of descriptors that are open during the call.
        unsafe { bpf(BPF_PROG_ATTACH, &attach) }?;
        Ok(())
    }
}

/// The device filters attached to this cgroup itself.
fn attached(cgroup: BorrowedFd<'_>) -> io::Result<Vec<OwnedFd>> {
    // The kernel allows 64 (BPF_CGROUP_MAX_PROGS).
    let mut ids = [0_u32; 64];
    let mut query = Query {
        target: cgroup.as_raw_fd() as u32,
        kind: BPF_CGROUP_DEVICE,
        ids: ids.as_mut_ptr() as u64,
        count: ids.len() as u32,
        ..Query::default()
    };
    // SAFETY: `query` points to room for as many ids as it says; the kernel writes those, and their number into
    // `query` itself, of which this is the only reference.
    unsafe { bpf_mut(BPF_PROG_QUERY, &raw mut query) }?;
    let ids = &ids[..(query.count as usize).min(ids.len())];
    ids.iter()
        .map(|id| {
            // `union bpf_attr` begins with the id here, and continues with two more numbers.
            let by_id = [*id, 0, 0];
            // SAFETY: numbers only.
            let fd = unsafe { bpf(BPF_PROG_GET_FD_BY_ID, &by_id) }?;
            // SAFETY: the call made this descriptor, and nobody else owns it.
            Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
        })
        .collect()
}

/// # Safety
/// What `attributes` points to must be as `command` wants it, and only be read by it.
unsafe fn bpf<T>(command: u32, attributes: &T) -> io::Result<c_long> {
    // SAFETY: the caller's promise; the kernel reads no more than the size given.
    unsafe { bpf_mut(command, std::ptr::from_ref(attributes).cast_mut()) }
}

/// # Safety
/// What `attributes` points to must be as `command` wants it, and nothing else may refer to what the command writes.
unsafe fn bpf_mut<T>(command: u32, attributes: *mut T) -> io::Result<c_long> {
    // SAFETY: the caller's promise; the kernel reads and writes no more than the size given.
    match unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>()) } {
        -1 => Err(io::Error::last_os_error()),
        result => Ok(result),
    }
}
